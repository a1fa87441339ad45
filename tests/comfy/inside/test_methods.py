"""The methods of long video in the host's process: same frames after a stop, prompts in their places, refusals."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import comfy.samplers
import comfy.utils
import pytest
import torch
from long_scene import Stopped, conditioning, frames_of, inputs, make, prompts, settings

pytestmark = pytest.mark.usefixtures("output_folder")

FORCING = {"causal_block_size": 2, "solver": "euler"}


def images_of(*given: Any) -> Any:
    return importlib.import_module("skyreels_v2.wan_core.long.key_frames").GivenImages(*given)


def method(name: str, **own: Any) -> Any:
    return importlib.import_module("skyreels_v2.wan_core.long.methods").Method(name, **own)


def window(bridge: ModuleType, **changes: Any) -> Any:
    """45 video frames by a window of four latent frames: three segments of four."""
    given = {"total_frames": 45, "base_num_frames": 13, "steps": 2, "method": method("moving window")}
    return settings(bridge, **{**given, "forcing": FORCING, **changes})


def rolling(bridge: ModuleType, **own: Any) -> Any:
    """61 video frames: two segments of twelve and four latent frames."""
    chosen = {"chunk_frames": 2, "window_frames": 6, "sink_frames": 2, "timesteps": "1000, 500"} | own
    total = chosen.pop("total_frames", 61)
    return settings(bridge, total_frames=total, cfg=1.0, method=method("rolling", **chosen))


CHOICES = {
    "moving window": window,
    "moving window, unipc, causal": lambda bridge: window(
        bridge, forcing={"causal_block_size": 2, "causal_attention": True}
    ),
    "moving window, lcm": lambda bridge: window(bridge, forcing={"causal_block_size": 2, "solver": "lcm"}),
    "rolling": rolling,
    "rolling, many steps": lambda bridge: rolling(bridge, timesteps=""),
    "rolling, a budget": lambda bridge: rolling(bridge, kv_budget=0.25),
}


@pytest.fixture(params=CHOICES, ids=CHOICES)
def chosen(request: pytest.FixtureRequest, bridge: ModuleType) -> Any:
    return CHOICES[request.param](bridge)


def test_the_file_has_every_frame_and_a_stopped_job_ends_in_the_same_ones(
    bridge: ModuleType, model: Any, vae: Any, monkeypatch: pytest.MonkeyPatch, chosen: Any
) -> None:
    whole = make(bridge, inputs(bridge, model, vae), chosen, "undisturbed")
    expected = frames_of(whole.path)
    assert len(expected) == chosen.total_frames
    count = len(chosen.planned().plan.segments)
    assert count >= 2 and f"{chosen.total_frames} video frames in {count} segments" in str(whole.text)
    for stop in range(1, count):
        with monkeypatch.context() as patch:
            refuse_segment(bridge, patch, stop)
            with pytest.raises(Stopped):
                make(bridge, inputs(bridge, model, vae), chosen, f"stopped {stop}")
        again = make(bridge, inputs(bridge, model, vae), chosen, f"stopped {stop}")
        assert f"Resumes after segment {stop}" in str(again.text)
        assert (frames_of(again.path) == expected).all()


def refuse_segment(bridge: ModuleType, patch: pytest.MonkeyPatch, index: int) -> None:
    for name in ("segment", "window", "rolling"):
        sample = getattr(bridge.JobSampling, name)

        def stopping(self: Any, task: Any, sample: Any = sample) -> Any:
            if task.segment.index == index:
                raise Stopped
            return sample(self, task)

        patch.setattr(bridge.JobSampling, name, stopping)


def test_a_moving_window_makes_what_the_sampler_makes_of_a_latent(
    bridge: ModuleType, model: Any, vae: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sampler of LATENTs, on the same noise and the whole clip at once."""
    latents = latents_of(bridge, model, vae, monkeypatch, window(bridge))
    noise_of = importlib.import_module("skyreels_v2.wan_core.sampling.noise").noise_of_frames
    sampling = importlib.import_module("skyreels_v2.wan_core.comfy.sampling.sampler")
    options = sampling.ForcingOptions(solver="euler", ar_step=1, causal_block_size=2, window_frames=4)
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(conditioning(1), conditioning(2))
    guider.set_cfg(2.0)
    sigmas = window(bridge).sigmas
    with torch.inference_mode():
        noise = noise_of((1, 16, 12, 4, 4), 0)
        whole = guider.sample(noise, torch.zeros_like(noise), sampling.DiffusionForcingSampler(options), sigmas, seed=0)
    torch.testing.assert_close(latents, whole, rtol=1e-5, atol=1e-5)


def latents_of(
    bridge: ModuleType, model: Any, vae: Any, patch: pytest.MonkeyPatch, chosen: Any, images: Any = None, **given: Any
) -> Any:
    """All latents of a job."""
    found: list[torch.Tensor] = []
    decode = bridge.LongVideoRun.decode

    def noting(self: Any, finished: Any) -> torch.Tensor:
        found.append(finished.latents.clone())
        return decode(self, finished)

    with patch.context() as patched:
        patched.setattr(bridge.LongVideoRun, "decode", noting)
        make(bridge, inputs(bridge, model, vae, **given), chosen, f"job {len(str(given))}", images)
    return torch.cat(found, dim=2)


@pytest.mark.parametrize("name", ["moving window", "rolling"])
def test_a_new_prompt_takes_effect_in_its_place_and_not_before(
    bridge: ModuleType, model: Any, vae: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    chosen = CHOICES[name](bridge)
    places = chosen.planned().plan.places
    texts, change = [conditioning(1), conditioning(3)], places[len(places) // 2][0]
    conditions = tuple(int(first >= change) for first, _ in places)
    plain = latents_of(bridge, model, vae, monkeypatch, chosen, prompts=prompts(texts[:1]))
    made = latents_of(bridge, model, vae, monkeypatch, chosen, prompts=prompts(texts, conditions=conditions))
    changed = (plain != made).flatten(3).any(dim=3)[0, 0]
    assert changed[change:].all()
    assert not changed[: change - (4 if name == "moving window" else 0)].any()  # frames in one window see each other


@pytest.mark.parametrize("how", ["recache", "keep", "flush", "cut"])
def test_what_a_new_prompt_finds_is_a_choice(
    bridge: ModuleType, model: Any, vae: Any, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    texts = [conditioning(1), conditioning(3)]

    def made(how: str, blend: int = 0) -> torch.Tensor:
        chosen = rolling(bridge, window_frames=8, at_prompt_change=how)  # the sink, two chunks, and the one in work
        conditions = tuple(int(first >= 8) for first, _ in chosen.planned().plan.places)
        given = prompts(texts, conditions=conditions, blend=blend)
        return latents_of(bridge, model, vae, monkeypatch, chosen, prompts=given)

    video, blended = made(how), made(how, 3)
    assert torch.equal(video[:, :, :8], blended[:, :, :8])
    assert not torch.isclose(video[:, :, 8:12], blended[:, :, 8:12]).all()
    if how != "recache":
        other = made("recache")
        assert torch.equal(video[:, :, :8], other[:, :, :8]) and not torch.equal(video[:, :, 8:], other[:, :, 8:])


def test_given_images_are_met_by_the_moving_window(
    bridge: ModuleType, model: Any, vae: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = torch.rand(3, 32, 32, 3, generator=torch.Generator().manual_seed(5))
    images = images_of(picture[:1], picture[1:2], picture[2:], (20,))
    latents = latents_of(bridge, model, vae, monkeypatch, window(bridge), images=images)
    with torch.inference_mode():
        for at, image in ((0, 0), (5, 2)):
            expected = vae.encode(picture[image : image + 1])
            torch.testing.assert_close(latents[:, :, at : at + 1], expected.float().cpu(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["moving window", "rolling"])
def test_a_start_image_is_the_first_frame(
    bridge: ModuleType, model: Any, vae: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    picture = torch.rand(1, 32, 32, 3, generator=torch.Generator().manual_seed(5))
    chosen = CHOICES[name](bridge)
    latents = latents_of(bridge, model, vae, monkeypatch, chosen, images=images_of(picture))
    with torch.inference_mode():
        torch.testing.assert_close(latents[:, :, :1], vae.encode(picture).float().cpu(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("chosen", "given", "sentence"),
    [
        (lambda bridge: window(bridge, loop=True), {}, 'has no loop: .* choose the method "segments"'),
        (lambda bridge: window(bridge, drift_control=0.5), {}, "has no drift_control"),
        (lambda bridge: window(bridge, carry_over="frames"), {}, "has no carry_over"),
        (rolling, {"end": 1}, 'has no end_image: .* choose the method "moving window"'),
        (rolling, {"keys": 1}, "has no key_images"),
        (lambda bridge: rolling(bridge, at_prompt_change="forget"), {}, "one of recache, keep, flush, cut"),
        (lambda bridge: rolling(bridge, kv_budget=0.0), {}, "kv_budget is 0, .* above 0"),
        (lambda bridge: settings(bridge, method=method("magic")), {}, "one of segments, moving window, rolling"),
        (lambda bridge: rolling(bridge, timesteps="500, 1000"), {}, "they have to fall"),
        (lambda bridge: rolling(bridge, window_frames=1), {}, "has to hold a chunk of 2"),
    ],
)
def test_what_a_method_cannot_do_is_refused_before_work(
    bridge: ModuleType, model: Any, vae: Any, chosen: Any, given: dict[str, int], sentence: str, output_folder: Path
) -> None:
    picture = torch.rand(1, 32, 32, 3)
    images = images_of(None, *(picture if name in given else None for name in ("end", "keys")), (12,))
    errors = importlib.import_module("skyreels_v2.wan_core.errors")
    with pytest.raises(errors.SkyReelsError, match=sentence):
        settings_chosen = chosen(bridge)
        make(bridge, inputs(bridge, model, vae), settings_chosen, images=images)
    assert not list(output_folder.rglob("segment-*"))


def test_what_goes_from_segment_to_segment_does_not_grow_with_the_length(
    bridge: ModuleType, model: Any, vae: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    decode = bridge.LongVideoRun.decode

    def noting(self: Any, finished: Any) -> torch.Tensor:
        sizes.append(sum(tensor.nbytes for tensor in finished.state.values()))
        return decode(self, finished)

    monkeypatch.setattr(bridge.LongVideoRun, "decode", noting)
    for chosen in (window(bridge), rolling(bridge)):
        largest = []
        for times in (1, 3):
            sizes.clear()
            longer = type(chosen)(**{**vars(chosen), "total_frames": chosen.total_frames * times})
            make(bridge, inputs(bridge, model, vae), longer, f"long {times}")
            largest.append(max(sizes[:-1]))
        assert largest[0] == largest[1] > 0
