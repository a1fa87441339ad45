"""Long video in the host's own process, with the tiny models: the file, going on after a stop, scripts, given frames."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import av
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
    forcing = bridge.ForcingOptions(**changes.pop("forcing", {}))
    small = {
        "total_frames": 46, "width": 32, "height": 32, "base_num_frames": 21, "overlap_history": 5, "steps": 2,
        "cfg": 2.0, "forcing": forcing,
    }  # fmt: skip
    return bridge.LongVideoSettings(**{**small, **changes})


def inputs(bridge: ModuleType, model: Any, vae: Any, **changes: Any) -> Any:
    plain = {"model": model, "vae": vae, "positives": [conditioning(1)], "negative": conditioning(2)}
    return bridge.Inputs(**{**plain, **changes})


def make(bridge: ModuleType, given: Any, chosen: Any, name: str = "test") -> Any:
    with torch.inference_mode():
        return bridge.make_long_video(given, chosen, name)


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


def test_given_first_and_last_images_are_the_ends_of_the_video(bridge: ModuleType, model: Any, vae: Any) -> None:
    first, last = torch.rand(1, 32, 32, 3), torch.rand(1, 32, 32, 3)
    run = bridge.LongVideoRun
    given = inputs(bridge, model, vae, start_images=first, end_image=last)
    made = make(bridge, given, settings(bridge))
    known = bridge.encode_given(given, settings(bridge), settings(bridge).plan())
    assert sorted(known) == [0, 12]
    torch.testing.assert_close(made.latents[:, :, -1:], known[12], rtol=1e-4, atol=1e-4)
    assert run


def test_a_script_gives_every_segment_its_prompt(bridge: ModuleType, tiny_clip: Any) -> None:
    chosen = settings(bridge, forcing={"fps": 24})
    positives, conditions = bridge.positives_of(None, (tiny_clip, "a red ball\na blue cube\na green star"), chosen)
    assert len(positives) == 3 and conditions == (0, 1, 2)
    assert positives[0][0][0].shape[-1] == 4096
    with pytest.raises(ValueError, match="2 prompts, one per line, but the video has 3 segments"):
        bridge.positives_of(None, (tiny_clip, "a red ball\na blue cube"), chosen)
    with pytest.raises(ValueError, match="Neither positive nor script is connected"):
        bridge.positives_of(None, None, chosen)


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
