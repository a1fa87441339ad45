"""What a run asks ComfyUI's memory management for, before it decides which weights stay on the device."""

from __future__ import annotations

from types import ModuleType, SimpleNamespace
from typing import Any

import comfy.model_management
import comfy.samplers
import pytest
import torch
from sampling_scene import module

SIGMAS = torch.tensor([0.999, 0.8, 0.5, 0.2, 0.0])
FRAMES, BLOCK, TOKENS = 10, 2, 4  # latent frames, those of a block, and the tokens of one
CAUSAL = {"ar_step": 2, "causal_block_size": BLOCK, "causal_attention": True}
HELD_STREAMS = 2 * 2 * 2  # what is kept of a token: keys and values, of two conditions, in two layers
SEEN_STREAMS = 3  # what a layer takes that looks at it: keys and values, and half as much again


def sample(model: Any, frames: int = FRAMES, **options: Any) -> None:
    bridge = module("comfy.sampling.sampler")
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(*([[torch.randn(1, 12, 4096), {}]] for _ in range(2)))
    guider.set_cfg(4.0)
    sampler = bridge.DiffusionForcingSampler(bridge.ForcingOptions(**options))
    shape = (1, 16, frames, 4, 4)
    with torch.inference_mode():
        guider.sample(torch.randn(shape), torch.zeros(shape), sampler, SIGMAS, disable_pbar=True, seed=3)


def core_asks(model: Any, frames: int) -> tuple[float, float]:
    """What core's formula gives for a number of latent frames: with both prompts at once, and with one."""
    return tuple(model.model.memory_required([batch, 16, frames, 4, 4]) for batch in (2, 1))


def test_without_a_cache_it_is_what_core_asks_for(model: Any, asked: list[Any]) -> None:
    sample(model)
    assert asked == [core_asks(model, FRAMES)]


def test_frames_that_are_padded_count(model: Any, asked: list[Any]) -> None:
    sample(model, 5, ar_step=2, causal_block_size=2)
    assert asked == [core_asks(model, 6)]


def test_with_a_cache_it_is_the_work_of_a_call_and_the_cache(
    model: Any, asked: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, held, computed = module("sampling.cached_calls").CausalCalls, [], []
    call = kind.__call__

    def watched(self: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        velocity = call(self, x, *args, **kwargs)
        held.append(self.num_bytes)
        return velocity

    forward = module("model.wan_model").WanModel.forward

    def counted(self: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        computed.append(x.shape[2])
        return forward(self, x, *args, **kwargs)

    monkeypatch.setattr(kind, "__call__", watched)
    monkeypatch.setattr(module("model.wan_model").WanModel, "forward", counted)
    sample(model, **CAUSAL)
    assert max(computed) < FRAMES and max(held) > 0
    looked_at = SEEN_STREAMS * max(held) // HELD_STREAMS
    assert asked == [tuple(call + max(held) + looked_at for call in core_asks(model, max(computed)))]
    assert "memory_required" not in vars(model.model)  # the estimate ends with the loading


def test_a_cache_that_would_push_the_weights_out_is_not_asked_for(
    model: Any, asked: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    small = model.model_size() + core_asks(model, FRAMES)[0]
    monkeypatch.setattr(comfy.model_management, "get_total_memory", lambda *args, **kwargs: int(small / 2))
    sample(model, **CAUSAL)
    assert asked[0][0] < core_asks(model, FRAMES)[0]
    looked_at = SEEN_STREAMS * (FRAMES - BLOCK) * TOKENS * 256 * 4  # wherever it lies
    assert asked[0] in [
        tuple(call + looked_at for call in core_asks(model, frames)) for frames in range(BLOCK, FRAMES, BLOCK)
    ]


def test_room_that_is_asked_for_in_two_places_is_added_up_and_given_back(model: Any) -> None:
    reserved, base_model, shape = module("comfy.sampling.memory_estimate").reserved, model.model, [1, 16, 2, 4, 4]
    alone = base_model.memory_required(shape)
    with reserved(base_model, 100):
        with pytest.raises(KeyboardInterrupt), reserved(base_model, 20):
            assert base_model.memory_required(shape) == alone + 120
            raise KeyboardInterrupt
        assert base_model.memory_required(shape) == alone + 100
        with reserved(base_model, 3):
            assert base_model.memory_required(shape) == alone + 103
        assert base_model.memory_required(shape) == alone + 100
    assert base_model.memory_required(shape) == alone and "memory_required" not in vars(base_model)


@pytest.mark.parametrize("short", [False, True], ids=["room for all", "a byte too little"])
def test_the_cache_lies_on_the_device_where_what_is_made_of_it_has_room_too(
    model: Any, monkeypatch: pytest.MonkeyPatch, short: bool
) -> None:
    """The device is one that is not the CPU; it is asked for its free memory alone."""
    bridge, device, shape = module("comfy.sampling.causal_cache"), torch.device("meta"), (1, 16, FRAMES, 4, 4)
    need = bridge.cache_need(model, {"positive": [None], "negative": [None]}, shape, FRAMES - BLOCK)
    token = (FRAMES - BLOCK) * TOKENS * 256 * 4
    assert (need.kept, need.seen) == (HELD_STREAMS * token, SEEN_STREAMS * token)
    kept_free = comfy.model_management.extra_reserved_memory()  # --reserve-vram
    free = core_asks(model, BLOCK)[0] + need.kept + need.seen + kept_free + (0 if short else 1)
    room = {"meta": free, "cpu": 2 * need.kept + 1}
    monkeypatch.setattr(comfy.model_management, "get_free_memory", lambda device: room[device.type])
    guider = SimpleNamespace(inner_model=model.model, model_patcher=model)
    place = bridge.free_place(guider, need, torch.empty(shape, device=device), BLOCK)
    assert place == torch.device("cpu" if short else "meta")


def test_with_a_sampler_of_cores_nothing_changes(model: Any, asked: list[Any]) -> None:
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(*([[torch.randn(1, 12, 4096), {}]] for _ in range(2)))
    shape = (1, 16, 3, 4, 4)
    with torch.inference_mode():
        guider.sample(
            torch.randn(shape), torch.zeros(shape), comfy.samplers.ksampler("euler"), SIGMAS, disable_pbar=True, seed=3
        )
    assert asked == [core_asks(model, 3)]


def test_bad_settings_are_refused_before_the_weights_are_loaded(model: Any, asked: list[Any]) -> None:
    bridge = module("comfy.sampling.sampler")
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(*([[torch.randn(1, 12, 4096), {}]] for _ in range(2)))
    shape = (1, 16, 3, 4, 4)
    sampler = bridge.DiffusionForcingSampler(bridge.ForcingOptions())
    with pytest.raises(module("errors").InputError, match="end at 0"):
        guider.sample(torch.randn(shape), torch.zeros(shape), sampler, SIGMAS[:-1], disable_pbar=True, seed=3)
    assert asked == []


def test_where_attention_builds_no_scores_ours_keeps_less_free_than_core(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape, management = [2, 16, 21, 60, 104], comfy.model_management
    without = model.model.memory_required(shape)
    monkeypatch.setattr(management, "pytorch_attention_flash_attention", lambda: True)
    of_core = super(type(model.model), model.model).memory_required(shape)
    config = model.model.diffusion_model.config
    value_bytes = management.dtype_size(model.model.manual_cast_dtype or model.model.get_dtype())
    ours = module("model.forward_memory").forward_bytes(config, 2, tuple(shape[2:]), value_bytes)
    assert model.model.memory_required(shape) == min(ours, of_core)
    assert without > of_core  # core's other formula, which stands where scores may be built


@pytest.mark.parametrize("name", ["DF-1.3B-540P", "DF-14B-540P", "I2V-14B-720P"])
def test_a_release_keeps_half_of_what_core_would(pack: ModuleType, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    release = module("model.config").PRESETS[name]
    config = module("comfy.model.base_model").model_config(release.config)
    config.set_inference_dtype(torch.bfloat16, None)
    made = config.get_model({}, device=torch.device("meta"))
    monkeypatch.setattr(comfy.model_management, "pytorch_attention_flash_attention", lambda: True)
    shape = [1, 16, (release.base_num_frames - 1) // 4 + 1, release.height // 8, release.width // 8]
    of_core = super(type(made), made).memory_required(shape)
    assert 0.3 * of_core < made.memory_required(shape) < 0.7 * of_core


@pytest.mark.parametrize("forcing", [{}, CAUSAL], ids=["sync", "causal"])
def test_a_run_is_planned_once_and_two_runs_twice(
    model: Any, monkeypatch: pytest.MonkeyPatch, forcing: dict[str, Any]
) -> None:
    bridge, planned = module("comfy.sampling.sampler"), []
    plan_run = bridge.plan_run
    monkeypatch.setattr(bridge, "plan_run", lambda *args: planned.append(args) or plan_run(*args))
    sample(model, **forcing)
    assert len(planned) == 1, "by the memory estimate, and the sampler takes it over"
    sample(model, **forcing)
    assert len(planned) == 2 and not any(key.startswith("skyreels_planned") for key in model.model_options)
