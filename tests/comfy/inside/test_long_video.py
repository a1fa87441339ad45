"""Long video in the host's process, with the tiny models: the file, going on after a stop, given frames, old jobs."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from types import ModuleType
from typing import Any

import av
import comfy.hooks
import comfy.model_management
import comfy.model_sampling
import comfy.sd
import pytest
import torch
from long_scene import Stopped, conditioning, frames_of, inputs, make, prompts, settings, stop_in_segment

pytestmark = pytest.mark.usefixtures("output_folder")


def test_the_file_has_every_frame_asked_for_and_the_rate(bridge: ModuleType, model: Any, vae: Any) -> None:
    made = make(bridge, inputs(bridge, model, vae), settings(bridge, forcing={"fps": 16}))
    with av.open(str(made.path)) as container:
        stream = container.streams.video[0]
        assert float(stream.average_rate) == 16 and (stream.width, stream.height) == (32, 32)
        assert sum(1 for _ in container.decode(stream)) == 46
    assert "46 video frames in 3 segments" in str(made.text)
    assert made.latents.shape[:2] == (1, 16) and made.latents.shape[3:] == (4, 4)


def test_the_frames_are_those_of_decoding_all_latents_at_once(
    bridge: ModuleType, model: Any, vae: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    latents, decoded = [], []
    decode, write = bridge.LongVideoRun.decode, bridge.write_video

    def noting(self: Any, finished: Any) -> torch.Tensor:
        latents.append(finished.latents.clone())
        return decode(self, finished)

    def writing(path: Path, frames: torch.Tensor, *rest: Any) -> int:
        decoded.append(frames.clone())
        return write(path, frames, *rest)

    monkeypatch.setattr(bridge.LongVideoRun, "decode", noting)
    monkeypatch.setattr(bridge, "write_video", writing)
    make(bridge, inputs(bridge, model, vae), settings(bridge))
    with torch.inference_mode():
        whole = vae.decode(torch.cat(latents, dim=2))[0]
    assert torch.equal(torch.cat(decoded), whole[:46].cpu())


@pytest.mark.parametrize("stop", [0, 1, 2])
@pytest.mark.parametrize("options", [{}, {"ar_step": 1, "causal_block_size": 2}], ids=["sync", "async"])
def test_a_stopped_run_goes_on_and_ends_in_the_same_frames(
    bridge: ModuleType, model: Any, vae: Any, monkeypatch: pytest.MonkeyPatch, stop: int, options: dict[str, int]
) -> None:
    chosen = settings(bridge, forcing=options)
    expected = frames_of(make(bridge, inputs(bridge, model, vae), chosen, "undisturbed").path)
    with monkeypatch.context() as patch:
        stop_in_segment(bridge, patch, stop)
        with pytest.raises(Stopped):
            make(bridge, inputs(bridge, model, vae), chosen)
    sampled = []
    sample = bridge.JobSampling.segment
    monkeypatch.setattr(
        bridge.JobSampling, "segment", lambda self, task: sampled.append(task.segment.index) or sample(self, task)
    )
    made = make(bridge, inputs(bridge, model, vae), chosen)
    assert sampled == list(range(stop, 3))
    assert (frames_of(made.path) == expected).all()
    if stop:
        assert f"Resumes after segment {stop}" in str(made.text)
    sampled.clear()
    assert "finished by an earlier run" in str(make(bridge, inputs(bridge, model, vae), chosen).text) and sampled == []


def test_a_segment_that_does_not_fit_leaves_the_finished_ones(
    bridge: ModuleType, model: Any, vae: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = settings(bridge)
    expected = frames_of(make(bridge, inputs(bridge, model, vae), chosen, "undisturbed").path)
    feed_forward = model.model.diffusion_model.blocks[0].ffn
    segments = []
    sample = bridge.JobSampling.segment
    monkeypatch.setattr(
        bridge.JobSampling, "segment", lambda self, task: segments.append(task.segment.index) or sample(self, task)
    )

    def full(*_: Any) -> None:
        if segments[-1] == 2:
            raise torch.cuda.OutOfMemoryError("no memory")

    hook = feed_forward.register_forward_pre_hook(full)
    with pytest.raises(torch.cuda.OutOfMemoryError, match=r"fp8_e4m3fn.* The first 2 of 3 segments are kept"):
        make(bridge, inputs(bridge, model, vae), chosen)
    hook.remove()
    segments.clear()
    assert (frames_of(make(bridge, inputs(bridge, model, vae), chosen).path) == expected).all()
    assert segments == [2]


def test_the_range_of_cfg_counts_in_a_long_video(
    bridge: ModuleType, pack_nodes: dict[str, Any], model: Any, vae: Any
) -> None:
    computed: list[int] = []
    hook = model.model.diffusion_model.blocks[0].register_forward_pre_hook(
        lambda module, args: computed.append(args[0].shape[0])
    )
    ranged = pack_nodes["SkyReelsV2CFGRange"].execute(model, 0, 0.5).args[0]
    make(bridge, inputs(bridge, ranged, vae), settings(bridge))
    hook.remove()
    assert sum(computed) == 3 * (2 + 1)  # three segments of two steps, of which the first is guided


def test_a_torn_segment_alone_is_made_again(
    bridge: ModuleType, model: Any, vae: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = settings(bridge)
    expected = make(bridge, inputs(bridge, model, vae), chosen, "whole").path.read_bytes()
    with monkeypatch.context() as patch:
        stop_in_segment(bridge, patch, 2)
        with pytest.raises(Stopped):
            make(bridge, inputs(bridge, model, vae), chosen)
    (part,) = bridge.jobs_root().glob("test-*/part-0001.mp4")
    part.write_bytes(part.read_bytes()[:-100])
    assert make(bridge, inputs(bridge, model, vae), chosen).path.read_bytes() == expected


def test_a_finished_job_takes_the_room_of_its_video(bridge: ModuleType, model: Any, vae: Any) -> None:
    made = make(bridge, inputs(bridge, model, vae), settings(bridge, codec="ffv1"))
    sizes = {path.name: path.stat().st_size for path in made.path.parent.iterdir()}
    video, tensors = sizes.pop(made.path.name), sizes.pop("segment-0002.safetensors")
    assert made.path.name == f"{made.path.parent.name}.mkv" and len(frames_of(made.path)) == 46
    assert sum(sizes.values()) < 20_000, f"beside {video} and {tensors} bytes: {sizes}"
    assert "finished by an earlier run" in str(
        make(bridge, inputs(bridge, model, vae), settings(bridge, codec="ffv1")).text
    )


def test_other_inputs_are_another_job_that_says_what_changed(bridge: ModuleType, model: Any, vae: Any) -> None:
    first = make(bridge, inputs(bridge, model, vae), settings(bridge))
    other = make(bridge, inputs(bridge, model, vae), settings(bridge, seed=1))
    assert other.path != first.path and "seed" in str(other.text)
    again = make(bridge, inputs(bridge, model, vae, prompts=prompts([conditioning(9)])), settings(bridge))
    assert again.path not in (first.path, other.path)


def test_a_model_of_cores_loader_makes_the_same_video_and_finds_its_job_again(
    bridge: ModuleType, model: Any, models: Path, vae: Any
) -> None:
    file = str(models / "diffusion_models" / "tiny_df_nofps.safetensors")
    loader = importlib.import_module("skyreels_v2.wan_core.comfy.loading.loader")
    theirs = make(bridge, inputs(bridge, comfy.sd.load_diffusion_model(file), vae), settings(bridge), "core")
    ours = make(bridge, inputs(bridge, loader.load_model(Path(file)), vae), settings(bridge), "ours")
    torch.testing.assert_close(theirs.latents, ours.latents, rtol=1e-3, atol=1e-3)
    again = make(bridge, inputs(bridge, comfy.sd.load_diffusion_model(file), vae), settings(bridge), "core")
    assert "finished by an earlier run" in str(again.text) and again.path == theirs.path


def test_a_lora_or_a_patch_makes_another_job(bridge: ModuleType, model: Any, vae: Any) -> None:
    identity = importlib.import_module("skyreels_v2.wan_core.comfy.long.identity").model_identity
    patched = model.clone()
    patched.add_patches({"diffusion_model.head.head.weight": ("diff", (torch.ones(64, 256),))}, 0.5)
    stronger = model.clone()
    stronger.add_patches({"diffusion_model.head.head.weight": ("diff", (torch.ones(64, 256),))}, 0.6)
    guided = model.clone()
    guided.set_model_sampler_post_cfg_function(lambda args: args["denoised"])
    seen = [identity(each) for each in (model, patched, stronger, guided)]
    assert all(a != b for n, a in enumerate(seen) for b in seen[:n])
    assert identity(model.clone()) == seen[0]


def test_hooks_and_ranges_of_a_conditioning_make_another_job(bridge: ModuleType, model: Any, vae: Any) -> None:
    def hooked(strength: float, later: float = 1.0) -> Any:
        weights = {"diffusion_model.head.head.weight": torch.ones(64, 256)}
        group = comfy.hooks.create_hook_lora(weights, strength, 0.0)
        keyframes = comfy.hooks.HookKeyframeGroup()
        keyframes.add(comfy.hooks.HookKeyframe(1.0, 0.0))
        keyframes.add(comfy.hooks.HookKeyframe(later, 0.5))
        group.set_keyframes_on_hooks(keyframes)
        return [[tokens, {"hooks": group}]]

    [[tokens, _]] = conditioning(1)
    whole, half = [[tokens, {"start_percent": 0.0, "end_percent": end}] for end in (1.0, 0.5)]
    told = [conditioning(1), [whole], [half], hooked(0.5), hooked(0.6), hooked(0.5, later=0.2)]
    seen = [inputs(bridge, model, vae, prompts=prompts([each])).identity() for each in told]
    assert all(a != b for n, a in enumerate(seen) for b in seen[:n])
    assert "conditioning options" not in seen[0], "jobs from before this was looked at are found again"
    again = inputs(bridge, model, vae, prompts=prompts([hooked(0.5)]))
    again.prompts.positives[0][0][1]["hooks"].hooks[0].hook_keyframe.initialize_timesteps(model.model)
    assert again.identity() == seen[3], "what a run leaves in a hook is no other job"


def test_a_part_of_the_model_that_is_replaced_makes_another_job(bridge: ModuleType, model: Any) -> None:
    identity = importlib.import_module("skyreels_v2.wan_core.comfy.long.identity").model_identity
    shifted = []
    for shift in (3.0, 5.0, 5.0):
        sampling = comfy.model_sampling.ModelSamplingDiscreteFlow(model.model.model_config)
        sampling.set_parameters(shift=shift)
        clone = model.clone()
        clone.add_object_patch("model_sampling", sampling)
        shifted.append(identity(clone))
    assert shifted[0] != shifted[1] == shifted[2] != identity(model)


def test_an_image_to_video_model_is_refused_before_any_work(
    bridge: ModuleType, models: Path, vae: Any, output_folder: Path
) -> None:
    loader = importlib.import_module("skyreels_v2.wan_core.comfy.loading.loader")
    model = loader.load_model(models / "diffusion_models" / "tiny_i2v.safetensors")
    told = conditioning(1)
    told[0][1]["concat_latent_image"] = torch.zeros(1, 16, 6, 4, 4)  # as long as the first window
    with pytest.raises(
        Exception, match=r"36 input channels.* SkyReels-V2-DF model and connect the image to start_image"
    ):
        make(bridge, inputs(bridge, model, vae, prompts=prompts([told]), negative=told), settings(bridge))
    assert not any(output_folder.iterdir())


def test_a_lora_that_is_loaded_is_the_job_it_was_before(bridge: ModuleType, model: Any) -> None:
    identity = importlib.import_module("skyreels_v2.wan_core.comfy.long.identity").model_identity
    plain, patched = identity(model), model.clone()
    bias = model.model.diffusion_model.text_embedding[2].bias
    patched.add_patches({"diffusion_model.text_embedding.2.bias": ("diff", (torch.ones_like(bias),))}, 0.5)
    before = identity(patched)
    with torch.inference_mode():
        original = bias.clone()
        comfy.model_management.load_models_gpu([patched], force_full_load=True)
        loaded = identity(patched), identity(model)
        in_place = model.model.diffusion_model.text_embedding[2].bias
        assert not torch.equal(in_place, original), "the LoRA has to lie in the weights here"
        patched.detach()
    assert loaded == (before, plain)


def test_given_images_are_where_they_belong(bridge: ModuleType, given: ModuleType, model: Any, vae: Any) -> None:
    first, last, keys = torch.rand(1, 32, 32, 3), torch.rand(1, 32, 32, 3), torch.rand(2, 32, 32, 3)
    frames = given.read_key_frames("0.5s, 33", keys, 24, given.words("key_times"))
    images = given.GivenImages(first, last, keys, frames)
    made = make(bridge, inputs(bridge, model, vae), settings(bridge), images=images)
    known = bridge.encode_clips(vae, settings(bridge).planned(images))
    assert sorted(known) == [0, 3, 8, 9, 11, 12], "frames 33 and 45 are not the last of their four: held"
    for at in (12, 11, 9, 8):
        torch.testing.assert_close(made.latents[:, :, at - 13 : at - 12 or None], known[at], rtol=1e-4, atol=1e-4)


def test_every_frame_is_a_png_beside_the_video_and_a_stopped_run_makes_the_same_ones(
    bridge: ModuleType, model: Any, vae: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = settings(bridge, codec="png")
    lossless = frames_of(make(bridge, inputs(bridge, model, vae), settings(bridge, codec="ffv1"), "lossless").path)
    whole = make(bridge, inputs(bridge, model, vae), chosen, "undisturbed")
    folder = whole.path.parent / "frames"
    names = [f"frame_{number:06}.png" for number in range(46)]
    assert sorted(path.name for path in folder.iterdir()) == names and str(folder) in str(whole.text)
    assert all((frames_of(folder / name)[0] == lossless[number]).all() for number, name in enumerate(names))
    with av.open(str(whole.path)) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        assert sum(1 for _ in container.decode(video=0)) == 46
    with monkeypatch.context() as patch:
        stop_in_segment(bridge, patch, 2)
        with pytest.raises(Stopped):
            make(bridge, inputs(bridge, model, vae), chosen)
    begun = next(bridge.jobs_root().glob("test-*"))
    assert 17 <= len(list((begun / "frames").iterdir())) < 46
    torn, left = begun / "frames" / names[2], begun / "frames" / f".{names[30]}.1.part"
    torn.write_bytes(torn.read_bytes()[:-9])
    left.write_bytes(b"half a picture")
    again = make(bridge, inputs(bridge, model, vae), chosen)
    assert again.path.parent == begun and (frames_of(again.path) == frames_of(whole.path)).all()
    assert sorted(path.name for path in (begun / "frames").iterdir()) == names
    assert all((begun / "frames" / name).read_bytes() == (folder / name).read_bytes() for name in names)


@pytest.mark.parametrize("codec", ["prores", "ffv1"])
def test_a_long_video_can_have_another_codec(bridge: ModuleType, model: Any, vae: Any, codec: str) -> None:
    made = make(bridge, inputs(bridge, model, vae), settings(bridge, codec=codec, total_frames=30))
    with av.open(str(made.path)) as container:
        assert container.streams.video[0].codec_context.name == codec
        assert sum(1 for _ in container.decode(video=0)) == 30


def test_metadata_goes_into_the_file(bridge: ModuleType, model: Any, vae: Any) -> None:
    job = bridge.Job("with text", {"prompt": '{"3": "x"}'})
    with torch.inference_mode():
        made = bridge.make_long_video(inputs(bridge, model, vae), settings(bridge, total_frames=21).planned(), job)
    with av.open(str(made.path)) as container:
        assert container.metadata["prompt"] == '{"3": "x"}'


def test_finished_jobs_make_room_for_new_ones_once_a_person_agrees_and_unfinished_ones_stay(
    bridge: ModuleType, model: Any, vae: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    chosen = settings(bridge, total_frames=30)

    def limited(name: str, keep_gb: float = 1e-9) -> Any:
        with torch.inference_mode():
            return bridge.make_long_video(
                inputs(bridge, model, vae), chosen.planned(), bridge.Job(name, keep_gb=keep_gb)
            )

    done = limited("done").path.parent
    kept = limited("kept", 0.0).path.parent
    limited("fresh")
    with monkeypatch.context() as patch:
        stop_in_segment(bridge, patch, 1)
        with pytest.raises(Stopped):
            limited("begun")
    with open(done / "big", "wb") as file:
        file.truncate(12 * 10**9)  # a file of holes
    for folder in (done, kept):
        for path in (folder, *folder.iterdir()):
            os.utime(path, (0, 0))
    asked = str(limited("new").text)
    assert done.is_dir() and asked.splitlines()[-1].startswith("The jobs take 12.0 GB, more than keep_gb (1e-09 GB).")
    (bridge.jobs_root() / "keep_gb.txt").write_text("10")
    with caplog.at_level("INFO"):
        told = str(limited("newer").text)
    assert told.splitlines()[-1] == f"Removed for keep_gb: {done.name}." and told.splitlines()[-1] in caplog.text
    names = sorted(path.name.rsplit("-", 1)[0] for path in bridge.jobs_root().iterdir())
    assert names == ["begun", "fresh", "keep_gb.txt", "kept", "new", "newer"]


def test_a_finished_video_that_was_changed_is_joined_again_or_refused(bridge: ModuleType, model: Any, vae: Any) -> None:
    made_video = importlib.import_module("skyreels_v2.wan_core.comfy.long.made_video").MadeVideo
    chosen = settings(bridge, total_frames=30)
    made = make(bridge, inputs(bridge, model, vae), chosen)
    whole, video = made.path.read_bytes(), made_video(made.path, made.noted)
    assert video.get_dimensions() == (32, 32)
    for at in range(0, len(whole), len(whole) // 100):
        made.path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        for use in (video.get_dimensions, video.get_components, video.get_stream_source):
            with pytest.raises(ValueError, match="was changed since it was made"):
                use()
    made.path.write_bytes(whole)
    os.utime(made.path, (0, 0))
    assert video.get_dimensions() == (32, 32), "its time alone is no change"
    made.path.write_bytes(whole[::-1])
    assert make(bridge, inputs(bridge, model, vae), chosen).path.read_bytes() == whole
    made.path.rename(made.path.with_name("other"))
    made.path.symlink_to(made.path.with_name("other"))
    with pytest.raises(ValueError, match=r"\.mp4 is a link, a pipe or a device"):
        make(bridge, inputs(bridge, model, vae), chosen)


def test_the_waiting_person_is_told_segment_and_time(bridge: ModuleType, model: Any, vae: Any) -> None:
    lines: list[Any] = []
    with torch.inference_mode():
        bridge.make_long_video(
            inputs(bridge, model, vae), settings(bridge).planned(), bridge.Job("test", say=lines.append)
        )
    said = [str(line) for line in lines]
    assert said[0] == "Segment 1 of 3" and said[-1].startswith("Segment 3 of 3, about 0 s left")
    assert [line for line in said if line.startswith("Segment 2 of 3, about ")]


def test_carrying_frames_instead_of_latents_runs_and_differs(bridge: ModuleType, model: Any, vae: Any) -> None:
    by_latents = frames_of(make(bridge, inputs(bridge, model, vae), settings(bridge)).path)
    by_frames = frames_of(make(bridge, inputs(bridge, model, vae), settings(bridge, carry_over="frames")).path)
    assert by_frames.shape == by_latents.shape
    assert (by_frames[:17] == by_latents[:17]).all() and (by_frames != by_latents).any()


def test_neither_a_display_that_fails_nor_a_part_that_is_gone_ends_the_sampling(
    bridge: ModuleType, model: Any, vae: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def show(found: dict[str, Any]) -> None:
        raise RuntimeError("nobody is there")

    given, chosen = inputs(bridge, model, vae), settings(bridge)
    with torch.inference_mode():
        made = bridge.make_long_video(given, chosen.planned(), bridge.Job("unseen", show=show))
    assert len(frames_of(made.path)) == 46
    sampled: list[int] = []
    sample = bridge.JobSampling.segment

    def tidied(self: Any, task: Any) -> torch.Tensor:
        sampled.append(task.segment.index)
        if task.segment.index == 1:
            for part in bridge.jobs_root().glob("tidied-*/part-0000*"):
                part.unlink()
        return sample(self, task)

    monkeypatch.setattr(bridge.JobSampling, "segment", tidied)
    with torch.inference_mode(), pytest.raises(Exception, match="part-0000"):  # of joining, which needs it
        bridge.make_long_video(given, chosen.planned(), bridge.Job("tidied"))
    assert sampled == [0, 1, 2]
