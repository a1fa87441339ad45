"""Long video in the host's process, with the tiny models: the file, going on after a stop, scripts, given frames."""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import av
import comfy.model_management
import comfy.sd
import comfy.utils
import folder_paths
import numpy as np
import pytest
import torch


@pytest.fixture(scope="module")
def bridge(pack: ModuleType) -> ModuleType:
    assert pack
    return importlib.import_module("skyreels_v2.wan_core.comfy.long_video")


@pytest.fixture(autouse=True)
def output_folder(tmp_path: Path) -> Iterator[Path]:
    before = folder_paths.get_output_directory()
    folder_paths.set_output_directory(str(tmp_path))
    yield tmp_path
    folder_paths.set_output_directory(before)


@pytest.fixture(scope="module")
def vae(models: Path) -> Any:
    return comfy.sd.VAE(sd=comfy.utils.load_torch_file(str(models / "vae" / "tiny_wan_vae.safetensors")))


@pytest.fixture(scope="module")
def model(bridge: ModuleType, models: Path) -> Any:
    loader = importlib.import_module("skyreels_v2.wan_core.comfy.loader")
    return loader.load_model(models / "diffusion_models" / "tiny_df.safetensors")


def conditioning(seed: int) -> list[Any]:
    return [[torch.randn(1, 12, 4096, generator=torch.Generator().manual_seed(seed)) * 0.3, {}]]


def settings(bridge: ModuleType, **changes: Any) -> Any:
    forcing = importlib.import_module("skyreels_v2.wan_core.comfy.sampler").ForcingOptions(**changes.pop("forcing", {}))
    small = {
        "total_frames": 46, "width": 32, "height": 32, "base_num_frames": 21, "overlap_history": 5, "steps": 2,
        "cfg": 2.0, "forcing": forcing,
    }  # fmt: skip
    return bridge.LongVideoSettings(**{**small, **changes})


@pytest.fixture(scope="module")
def given(bridge: ModuleType) -> ModuleType:
    return importlib.import_module("skyreels_v2.wan_core.comfy.long_settings")


def inputs(bridge: ModuleType, model: Any, vae: Any, **changes: Any) -> Any:
    plain = {"model": model, "vae": vae, "positives": [conditioning(1)], "negative": conditioning(2)}
    return bridge.Inputs(**{**plain, **changes})


def make(bridge: ModuleType, given: Any, chosen: Any, name: str = "test") -> Any:
    with torch.inference_mode():
        return bridge.make_long_video(given, chosen, bridge.Job(name))


def frames_of(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


class Stopped(Exception):
    """Stands for an interruption."""


def stop_in_segment(bridge: ModuleType, monkeypatch: pytest.MonkeyPatch, index: int) -> None:
    sample = bridge.LongVideoRun.sample

    def stopping(self: Any, task: Any) -> torch.Tensor:
        if task.segment.index == index:
            raise Stopped
        return sample(self, task)

    monkeypatch.setattr(bridge.LongVideoRun, "sample", stopping)


def test_the_file_has_every_frame_asked_for_and_the_rate(bridge: ModuleType, model: Any, vae: Any) -> None:
    made = make(bridge, inputs(bridge, model, vae), settings(bridge, forcing={"fps": 16}))
    with av.open(str(made.path)) as container:
        stream = container.streams.video[0]
        assert float(stream.average_rate) == 16 and (stream.width, stream.height) == (32, 32)
        assert sum(1 for _ in container.decode(stream)) == 46
    assert "46 video frames in 3 segments" in made.text
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
    sample = bridge.LongVideoRun.sample
    monkeypatch.setattr(
        bridge.LongVideoRun, "sample", lambda self, task: sampled.append(task.segment.index) or sample(self, task)
    )
    made = make(bridge, inputs(bridge, model, vae), chosen)
    assert sampled == list(range(stop, 3))
    assert (frames_of(made.path) == expected).all()
    if stop:
        assert f"Going on behind segment {stop}" in made.text
    sampled.clear()
    assert "finished by an earlier run" in make(bridge, inputs(bridge, model, vae), chosen).text and sampled == []


def test_a_torn_segment_alone_is_made_again(bridge: ModuleType, model: Any, vae: Any) -> None:
    chosen = settings(bridge)
    made = make(bridge, inputs(bridge, model, vae), chosen)
    expected = frames_of(made.path)
    part = made.path.parent / "part-0001.mp4"
    part.write_bytes(part.read_bytes()[:-100])
    assert (frames_of(make(bridge, inputs(bridge, model, vae), chosen).path) == expected).all()


def test_other_inputs_are_another_job_that_says_what_changed(bridge: ModuleType, model: Any, vae: Any) -> None:
    first = make(bridge, inputs(bridge, model, vae), settings(bridge))
    other = make(bridge, inputs(bridge, model, vae), settings(bridge, seed=1))
    assert other.path != first.path and "seed" in other.text
    again = make(bridge, inputs(bridge, model, vae, positives=[conditioning(9)]), settings(bridge))
    assert again.path not in (first.path, other.path)


def test_a_lora_or_a_patch_makes_another_job(bridge: ModuleType, model: Any, vae: Any) -> None:
    identity = importlib.import_module("skyreels_v2.wan_core.comfy.identity").model_identity
    patched = model.clone()
    patched.add_patches({"diffusion_model.head.head.weight": ("diff", (torch.ones(64, 256),))}, 0.5)
    stronger = model.clone()
    stronger.add_patches({"diffusion_model.head.head.weight": ("diff", (torch.ones(64, 256),))}, 0.6)
    guided = model.clone()
    guided.set_model_sampler_post_cfg_function(lambda args: args["denoised"])
    seen = [identity(each) for each in (model, patched, stronger, guided)]
    assert all(a != b for n, a in enumerate(seen) for b in seen[:n])
    assert identity(model.clone()) == seen[0]


def test_a_lora_that_is_loaded_is_the_job_it_was_before(bridge: ModuleType, model: Any) -> None:
    identity = importlib.import_module("skyreels_v2.wan_core.comfy.identity").model_identity
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
    images = given.GivenImages(first, last, keys, given.frames_at("0.5s, 33", keys, 24))
    made = make(bridge, inputs(bridge, model, vae, images=images), settings(bridge))
    clips = images.placed(46)
    known = given.encode_clips(vae, clips, settings(bridge), 13)
    assert sorted(known) == [0, 3, 9, 12]
    torch.testing.assert_close(made.latents[:, :, -1:], known[12], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(made.latents[:, :, -4:-3], known[9], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("keys", "times", "words"),
    [
        (1, "2s 3s", "2 key times, but 1 key images"),
        (1, "soon", "key time is 'soon'"),
        (1, "2.5", "key time is '2.5'"),
        (1, "9s", "frame 216, but the video has frames 0 to 45"),
        (2, "21 22", "Two images are given for one place"),
        (1, "45", "Two images are given for one place: the one for the end"),
    ],
)
def test_key_images_without_a_place_are_refused(given: ModuleType, keys: int, times: str, words: str) -> None:
    pictures = torch.rand(keys, 32, 32, 3)
    with pytest.raises(ValueError, match=words):
        given.GivenImages(None, pictures[:1], pictures, given.frames_at(times, pictures, 24)).placed(46)


def test_a_script_gives_every_segment_its_prompt(bridge: ModuleType, given: ModuleType, tiny_clip: Any) -> None:
    chosen = settings(bridge, forcing={"fps": 24})
    positives, conditions = given.positives_of(None, (tiny_clip, "a red ball\na blue cube\na green star"), chosen)
    assert len(positives) == 3 and conditions == (0, 1, 2)
    assert positives[0][0][0].shape[-1] == 4096
    with pytest.raises(ValueError, match="2 prompts, one per line, but the video has 3 segments"):
        given.positives_of(None, (tiny_clip, "a red ball\na blue cube"), chosen)
    with pytest.raises(ValueError, match="Neither positive nor script is connected"):
        given.positives_of(None, None, chosen)


def test_a_video_goes_on_from_its_last_frames(
    bridge: ModuleType, given: ModuleType, model: Any, vae: Any, tmp_path: Path
) -> None:
    source_video = importlib.import_module("skyreels_v2.wan_core.comfy.source_video")
    video_input = importlib.import_module("comfy_api.latest").InputImpl.VideoFromFile
    write_video = importlib.import_module("skyreels_v2.wan_core.video").write_video
    frames = torch.rand(50, 36, 52, 3, generator=torch.Generator().manual_seed(3))
    write_video(tmp_path / "given.mkv", frames, 20, codec="ffv1")
    source = source_video.read_source(video_input(str(tmp_path / "given.mkv")), 7)
    assert (source.count, source.size, source.model_fps, len(source.tail)) == (50, (48, 32), 24, 5)
    assert (source.tail - frames[-5:]).abs().max() <= 1 / 255
    chosen = settings(bridge, total_frames=5 + 22, width=48, codec="ffv1")
    images = given.GivenImages(source.tail)
    made = make(bridge, inputs(bridge, model, vae, images=images, source=source), chosen)
    with av.open(str(made.path)) as container:
        assert float(container.streams.video[0].average_rate) == 20
    whole = frames_of(made.path)
    assert whole.shape == (50 + 22, 32, 48, 3)
    expected = np.stack([frame.numpy() for frame in source.scaled(48, 32)])
    assert (whole[:50] == expected).all()
    again = make(bridge, inputs(bridge, model, vae, images=images, source=source), chosen)
    assert "finished by an earlier run" in again.text


def test_a_trimmed_video_is_what_its_host_says(bridge: ModuleType, tmp_path: Path) -> None:
    source_video = importlib.import_module("skyreels_v2.wan_core.comfy.source_video")
    video_input = importlib.import_module("comfy_api.latest").InputImpl.VideoFromFile
    write_video = importlib.import_module("skyreels_v2.wan_core.video").write_video
    write_video(tmp_path / "given.mp4", torch.rand(48, 32, 32, 3), 24)
    whole = video_input(str(tmp_path / "given.mp4"))
    assert source_video.read_source(whole, 17).count == 48
    if hasattr(whole, "as_trimmed"):
        source = source_video.read_source(whole.as_trimmed(start_time=0.5, duration=1.0), 17)
        assert source.count == pytest.approx(24, abs=1) and len(source.tail) == 17


@pytest.mark.parametrize("codec", ["prores", "ffv1"])
def test_a_long_video_can_have_another_codec(bridge: ModuleType, model: Any, vae: Any, codec: str) -> None:
    made = make(bridge, inputs(bridge, model, vae), settings(bridge, codec=codec, total_frames=30))
    with av.open(str(made.path)) as container:
        assert container.streams.video[0].codec_context.name == codec
        assert sum(1 for _ in container.decode(video=0)) == 30


def test_metadata_goes_into_the_file(bridge: ModuleType, model: Any, vae: Any) -> None:
    job = bridge.Job("with text", {"prompt": '{"3": "x"}'})
    with torch.inference_mode():
        made = bridge.make_long_video(inputs(bridge, model, vae), settings(bridge, total_frames=21), job)
    with av.open(str(made.path)) as container:
        assert container.metadata["prompt"] == '{"3": "x"}'


def test_finished_jobs_make_room_for_new_ones_and_unfinished_ones_stay(
    bridge: ModuleType, model: Any, vae: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = settings(bridge, total_frames=30)
    done = make(bridge, inputs(bridge, model, vae), chosen, "done").path.parent
    make(bridge, inputs(bridge, model, vae), chosen, "fresh")
    with monkeypatch.context() as patch:
        stop_in_segment(bridge, patch, 1)
        with pytest.raises(Stopped):
            make(bridge, inputs(bridge, model, vae), chosen, "begun")
    for path in (done, *done.iterdir()):
        os.utime(path, (0, 0))
    with torch.inference_mode():
        bridge.make_long_video(inputs(bridge, model, vae), chosen, bridge.Job("new", keep_gb=1e-9))
    names = sorted(path.name.rsplit("-", 1)[0] for path in bridge.jobs_root().iterdir())
    assert names == ["begun", "fresh", "new"] and not done.exists()


def test_the_waiting_person_is_told_segment_and_time(bridge: ModuleType, model: Any, vae: Any) -> None:
    said: list[str] = []
    with torch.inference_mode():
        bridge.make_long_video(inputs(bridge, model, vae), settings(bridge), bridge.Job("test", say=said.append))
    assert said[0] == "Segment 1 of 3" and said[-1].startswith("Segment 3 of 3, about 0 s left")
    assert [line for line in said if line.startswith("Segment 2 of 3, about ")]


def test_carrying_frames_instead_of_latents_runs_and_differs(bridge: ModuleType, model: Any, vae: Any) -> None:
    by_latents = frames_of(make(bridge, inputs(bridge, model, vae), settings(bridge)).path)
    by_frames = frames_of(make(bridge, inputs(bridge, model, vae), settings(bridge, carry_over="frames")).path)
    assert by_frames.shape == by_latents.shape
    assert (by_frames[:17] == by_latents[:17]).all() and (by_frames != by_latents).any()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"overlap_history": 21}, "leaves no room for new frames"),
        ({"loop": True, "total_frames": 44}, "use 45"),
    ],
)
def test_settings_that_cannot_work_are_refused_first(
    bridge: ModuleType, model: Any, vae: Any, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        make(bridge, inputs(bridge, model, vae), settings(bridge, **changes))


def test_a_name_with_folders_is_refused(bridge: ModuleType, model: Any, vae: Any, output_folder: Path) -> None:
    with pytest.raises(ValueError, match="name"):
        make(bridge, inputs(bridge, model, vae), settings(bridge), "../elsewhere")
    assert list(output_folder.rglob("*elsewhere*")) == []


@pytest.mark.parametrize(
    ("values", "ok", "words"),
    [
        ({"total_frames": 737, "fps": 24, "size": "540P landscape (960x544)"}, True, "9 segments, 540 model calls"),
        ({"total_frames": 737, "cfg": 1.0, "width": 64, "height": 64}, True, "270 model calls"),
        ({"new_frames": 80, "overlap_history": 17}, True, "1 segments, 60 model calls, 97 frames"),
        ({"overlap_history": 97}, False, "overlap_history is 97"),
        ({"codec": "h264", "crf": 60}, False, "crf is 60"),
        ({"total_frames": "1,5"}, True, ""),
        ({"size": ["12", 0]}, True, ""),
    ],
)
def test_the_front_end_is_told_the_plan_or_why_there_is_none(
    pack: ModuleType, values: dict[str, Any], ok: bool, words: str
) -> None:
    answer = importlib.import_module("skyreels_v2.nodes.live_plan").answer(values)
    assert answer["ok"] is ok and answer["text"].startswith(words) if not words else words in answer["text"]


SAID = [  # one for every sentence that the live plan can say
    {"total_frames": 737, "width": 960, "height": 544},
    {"new_frames": 80, "overlap_history": 17},
    *({name: -1} for name in ("total_frames", "base_num_frames", "overlap_history", "causal_block_size", "ar_step")),
    {"steps": 0},
    {"overlap_history": 97},
    {"overlap_history": 97, "base_num_frames": 1},
    {"overlap_history": 49, "total_frames": 161, "loop": True},
    {"total_frames": 161, "loop": True, "causal_attention": True},
    {"total_frames": 162, "loop": True},
    {"codec": "cinepak"},
    {"crf": 60},
]


@pytest.mark.parametrize("values", SAID, ids=str)
def test_all_that_the_live_plan_says_is_said_in_chinese_where_the_front_end_is(
    pack: ModuleType, values: dict[str, Any]
) -> None:
    answer = importlib.import_module("skyreels_v2.nodes.live_plan").answer
    english, chinese = answer(values), answer(values | {"language": "zh"})
    assert english["ok"] is chinese["ok"] and english == answer(values | {"language": "fr"})
    lines = chinese["text"].splitlines()
    assert len(lines) == len(english["text"].splitlines())
    for line in lines:
        left = re.sub(r"\b(token|PyAV|MB|[a-z]+_[a-z_]+|steps|crf|4k|cinepak|h264|hevc|av1|prores|ffv1)\b", "", line)
        assert re.search(r"[\u4e00-\u9fff]", line) and not re.search(r"[A-Za-z]", left), line
    numbers = [sorted(re.findall(r"\d+(?:\.\d+)?", entry["text"])) for entry in (english, chinese)]
    assert numbers[0] == numbers[1]
