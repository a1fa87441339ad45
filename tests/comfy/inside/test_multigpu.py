"""MultiGPU CFG Split: what is sampled on two devices is what one gives, whatever the run does.

Two "devices" on one processor: core gives the second a copy of the MODEL and a thread of its own, as for a second GPU.
Not collected in hosts that have no such node (see conftest.py).
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import comfy.hooks
import comfy.model_management
import comfy.multigpu
import comfy.samplers
import comfy.sd
import comfy.utils
import pytest
import torch
from long_scene import inputs, make, settings
from measures import relative_error
from sampling_scene import conditioning, module, sampled

SIGMAS = torch.tensor([0.999, 0.9, 0.7, 0.4, 0.1, 0.0])
MANY_SIGMAS = torch.linspace(0.999, 0.0, 13)  # so many that a step cache leaves some out
SHAPE = (1, 16, 6, 4, 4)
ASYNC = {"ar_step": 2, "causal_block_size": 2}
CAUSAL = {**ASYNC, "causal_attention": True}
DEVICES = [torch.device("cpu"), torch.device("cpu", 0)]
BATCHED = 1e-5  # one device computes both prompts in one batch, whose matrix products round otherwise

Patch = Callable[[Any], Any]


@pytest.fixture
def checkpoint(models: Path) -> Path:
    return models / "diffusion_models" / "tiny_df.safetensors"


@pytest.fixture
def split(monkeypatch: pytest.MonkeyPatch) -> Patch:
    """What the node does, where there are two devices."""
    monkeypatch.setattr(comfy.model_management, "get_all_torch_devices", lambda exclude_current=False: DEVICES)

    def of(model: Any) -> Any:
        gc.collect()  # core's list of loaded models stumbles over a MODEL that is gone
        comfy.model_management.cleanup_models()
        made = comfy.multigpu.create_multigpu_deepclones(model, 2, reuse_loaded=True)
        assert len(made.get_additional_models_with_key("multigpu")) == 1
        return made

    return of


@pytest.fixture
def computed(pack: ModuleType, monkeypatch: pytest.MonkeyPatch) -> dict[int, int]:
    """Latent frames, times conditions, that each transformer of ours has computed."""
    frames: dict[int, int] = {}
    kind = module("comfy.model.transformer").HostWanModel
    predict = kind.predict

    def counted(self: Any, x: torch.Tensor, *args: Any, **inputs: Any) -> torch.Tensor:
        frames[id(self)] = frames.get(id(self), 0) + x.shape[0] * x.shape[2]
        return predict(self, x, *args, **inputs)

    monkeypatch.setattr(kind, "predict", counted)
    return frames


def sample(
    model: Any, sampler: Any = None, frames: int = SHAPE[2], sigmas: torch.Tensor = SIGMAS, **given: Any
) -> torch.Tensor:
    return sampled(model, sigmas, (1, 16, frames, *SHAPE[3:]), sampler, **given)


def loaded(checkpoint: Path, ours: bool = True) -> Any:
    return (
        module("comfy.loading.loader").load_model(checkpoint)
        if ours
        else comfy.sd.load_diffusion_model(str(checkpoint))
    )


RUNS: dict[str, dict[str, Any]] = {
    "in step": {},
    "euler": {"solver": "euler"},
    "lcm": {"solver": "lcm"},
    "async": ASYNC,
    "known frames": {**ASYNC, "known": 1},
    "causal": CAUSAL,
    "causal with known frames": {**CAUSAL, "known": 2},
    "moving window": {**ASYNC, "window_frames": 6, "frames": 14},
    "moving causal window": {**CAUSAL, "window_frames": 6, "frames": 14},
}


@pytest.mark.parametrize("name", RUNS)
def test_two_devices_give_what_one_gives(
    pack: ModuleType, checkpoint: Path, split: Patch, computed: dict[int, int], name: str
) -> None:
    one = sample(loaded(checkpoint), **RUNS[name])
    (alone,) = computed.values()
    computed.clear()
    assert relative_error(sample(split(loaded(checkpoint)), **RUNS[name]), one) < BATCHED
    # each computes one of the two prompts, and a cache leaves out as much as on one device
    assert list(computed.values()) == [alone // 2, alone // 2]


@pytest.mark.parametrize("name", ["in step", "async", "known frames", "moving window"])
def test_with_cores_transformer_too(pack: ModuleType, checkpoint: Path, split: Patch, name: str) -> None:
    one = sample(loaded(checkpoint, ours=False), **RUNS[name])
    assert relative_error(sample(split(loaded(checkpoint, ours=False)), **RUNS[name]), one) < BATCHED


def test_cores_euler_with_our_model(pack: ModuleType, checkpoint: Path, split: Patch) -> None:
    euler = comfy.samplers.ksampler("euler")
    one = sample(loaded(checkpoint), euler)
    assert relative_error(sample(split(loaded(checkpoint)), euler), one) < BATCHED


def step_cache(model: Any) -> Any:
    return module("comfy.sampling.step_cache").step_cached(model, 1.0)


def cfg_range(model: Any) -> Any:
    return module("comfy.sampling.cfg_range").with_cfg_range(model, 0.2, 0.7)


def lora(model: Any) -> Any:
    file = Path(model.cached_patcher_init[1][0]).parents[1] / "loras" / "tiny_lora.safetensors"
    return module("comfy.loading.lora").apply_lora(model, file, 1.0)[0]


@pytest.mark.parametrize("patch", [step_cache, cfg_range, lora])
@pytest.mark.parametrize(
    ("options", "behind"),
    [({}, False), (CAUSAL, False), (CAUSAL, True)],
    ids=["in step", "causal, before the node", "causal, after the node"],
)
def test_what_changes_the_model_works_on_both_sides_of_the_node(
    pack: ModuleType, checkpoint: Path, split: Patch, patch: Patch, options: dict[str, Any], behind: bool
) -> None:
    options = {**options, "sigmas": MANY_SIGMAS}
    plain = sample(loaded(checkpoint), **options)
    one = sample(patch(loaded(checkpoint)), **options)
    assert relative_error(one, plain) > 1e-3
    two = patch(split(loaded(checkpoint))) if behind else split(patch(loaded(checkpoint)))
    assert relative_error(sample(two, **options), one) < BATCHED


def test_a_lora_hook_reaches_both_devices(pack: ModuleType, checkpoint: Path, models: Path, split: Patch) -> None:
    file = comfy.utils.load_torch_file(str(models / "loras" / "tiny_lora.safetensors"))

    def hooked(model: Any) -> torch.Tensor:
        hooks = comfy.hooks.create_hook_lora(file, 1.0, 1.0)
        return sample(model, positive=comfy.hooks.set_hooks_for_conditioning(conditioning(1), hooks), **ASYNC)

    one = hooked(loaded(checkpoint))
    assert relative_error(one, sample(loaded(checkpoint), **ASYNC)) > 1e-3
    assert relative_error(hooked(split(loaded(checkpoint))), one) < BATCHED


def test_a_condition_that_changes_the_device_takes_its_cache_with_it(
    pack: ModuleType, checkpoint: Path, split: Patch, computed: dict[int, int]
) -> None:
    """Four conditions, two for each device; when the first ends, the third moves from the second device to it."""

    def prompts() -> list[Any]:
        return [*conditioning(1, end_percent=0.5), *conditioning(3), *conditioning(4)]

    one = sample(loaded(checkpoint), positive=prompts(), **CAUSAL)
    alone = sum(computed.values())
    computed.clear()
    assert relative_error(sample(split(loaded(checkpoint)), positive=prompts(), **CAUSAL), one) < BATCHED
    assert sum(computed.values()) == alone and len(computed) == 2


def roll(model: Any) -> torch.Tensor:
    rolling, window = module("comfy.sampling.rolling"), module("long.rolling").Window(4, 1)
    options = rolling.RollingOptions(torch.tensor([0.999, 0.5, 0.0]), 2, window, "euler")
    empty = {"samples": torch.zeros(SHAPE)}
    with torch.inference_mode():
        guidance = module("comfy.sampling.guided").Guidance(model, conditioning(1), conditioning(2), 4.0)
        return rolling.roll(guidance, empty, 3, options)["samples"]


def test_rolling(pack: ModuleType, checkpoint: Path, split: Patch, computed: dict[int, int]) -> None:
    one = roll(loaded(checkpoint))
    (alone,) = computed.values()
    computed.clear()
    assert relative_error(roll(split(loaded(checkpoint))), one) < BATCHED
    assert list(computed.values()) == [alone // 2, alone // 2]


def test_long_video_is_the_same_and_goes_on_where_one_device_left_it(
    bridge: ModuleType, checkpoint: Path, vae: Any, split: Patch, output_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segments: list[torch.Tensor] = []
    by_task = bridge.JobSampling.segment

    def kept(self: Any, task: Any) -> torch.Tensor:
        segments.append(by_task(self, task))
        return segments[-1].clone()

    monkeypatch.setattr(bridge.JobSampling, "segment", kept)
    make(bridge, inputs(bridge, loaded(checkpoint), vae), settings(bridge), "one")
    make(bridge, inputs(bridge, split(loaded(checkpoint)), vae), settings(bridge), "two")
    half = len(segments) // 2
    assert half > 1
    assert relative_error(torch.cat(segments[half:], dim=2), torch.cat(segments[:half], dim=2)) < 10 * BATCHED
    identity = module("comfy.long.identity").model_identity
    assert identity(split(loaded(checkpoint))) == identity(loaded(checkpoint))


@pytest.mark.parametrize("options", [ASYNC, CAUSAL], ids=["async", "causal"])
@pytest.mark.parametrize("fails", ["first", "second"])
def test_when_memory_ends_on_one_device_the_call_is_made_again_on_both(
    pack: ModuleType, checkpoint: Path, split: Patch, monkeypatch: pytest.MonkeyPatch, options: Any, fails: str
) -> None:
    """What the other device had computed for the failed call must not be taken for the next one's."""
    one, model = sample(loaded(checkpoint), **options), split(loaded(checkpoint))
    kind = module("comfy.model.transformer").HostWanModel
    predict, calls, pieces = kind.predict, [], []
    both_at_work = threading.Barrier(2)

    def short(self: Any, *args: Any, **inputs: Any) -> torch.Tensor:
        mine = (self is model.model.diffusion_model) is (fails == "first")
        pieces.append(inputs["pieces"])
        calls.append(mine)
        if len(calls) <= 6:  # the third call of both
            both_at_work.wait(timeout=60)
            if mine and calls.count(True) == 3:
                raise comfy.model_management.OOM_EXCEPTION("out of memory")
        return predict(self, *args, **inputs)

    monkeypatch.setattr(kind, "predict", short)
    assert relative_error(sample(model, **options), one) < BATCHED
    assert calls.count(True) == calls.count(False) and set(pieces) == {1, 4}
