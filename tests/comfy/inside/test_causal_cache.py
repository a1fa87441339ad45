"""The cache of finished blocks through ComfyUI's guider: the same video, fewer frames computed, and gone afterwards."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import comfy.patcher_extension
import comfy.samplers
import pytest
import torch
from measures import relative_error
from sampling_scene import module

SIGMAS = torch.tensor([0.999, 0.9, 0.7, 0.4, 0.1, 0.0])
FRAMES, BLOCK = 6, 2
ROWS = 5 + 2 * 2  # of five steps and three blocks that lag two steps


@pytest.fixture
def computed(pack: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Frames times videos of every forward pass of the transformer."""
    seen: list[int] = []
    kind = module("model.wan_model").WanModel
    forward = kind.forward

    def counted(self: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        seen.append(x.shape[0] * x.shape[2])
        return forward(self, x, *args, **kwargs)

    monkeypatch.setattr(kind, "forward", counted)
    return seen


def sample(model: Any, options: dict[str, Any] | None = None, callback: Any = None, batch: int = 1) -> torch.Tensor:
    bridge = module("comfy.sampling.sampler")
    causal = {"ar_step": 2, "causal_block_size": BLOCK, "causal_attention": True}
    sampler = bridge.DiffusionForcingSampler(bridge.ForcingOptions(**{**causal, **(options or {})}))
    guider = comfy.samplers.CFGGuider(model)
    positive, negative = (
        [[torch.randn(1, 12, 4096, generator=torch.Generator().manual_seed(seed)) * 0.3, {}]] for seed in (1, 2)
    )
    guider.set_conds(positive, negative)
    guider.set_cfg(4.0)
    shape = (batch, 16, FRAMES, 4, 4)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(7))
    with torch.inference_mode():
        return guider.sample(noise, torch.zeros(shape), sampler, SIGMAS, disable_pbar=True, seed=3, callback=callback)


def without_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module("comfy.sampling.causal_cache"), "free_place", lambda *_: None)


@pytest.mark.parametrize("batch", [1, 2])
def test_the_cache_changes_the_work_and_not_the_video(
    model: Any, computed: list[int], monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    cached = sample(model, batch=batch)
    with_cache = sum(computed)
    computed.clear()
    without_room(monkeypatch)
    plain = sample(model, batch=batch)
    assert relative_error(cached, plain) < 1e-4
    assert sum(computed) == 2 * batch * ROWS * FRAMES  # cond and uncond
    assert with_cache == 2 * batch * (3 * 5 + 2) * BLOCK  # nobody looks back at the last block


def test_one_condition_after_the_other_gives_the_same(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    together = sample(model)
    monkeypatch.setattr(comfy.samplers, "can_concat_cond", lambda one, other: one is other)
    assert relative_error(sample(model), together) < 1e-5


def attention_patch(model: Any) -> None:
    model.set_model_attn1_patch(lambda values: values["x"])


def guidance(model: Any) -> None:
    model.set_model_sampler_post_cfg_function(lambda args: args["denoised"])


def call_on(executor: Any, *args: Any, **kwargs: Any) -> Any:
    return executor(*args, **kwargs)


def wrapper(model: Any) -> None:
    model.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL, "test", call_on)


def outer_wrapper(model: Any) -> None:
    model.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.APPLY_MODEL, "test", call_on)


@pytest.mark.parametrize("add", [attention_patch, guidance, wrapper, outer_wrapper])
def test_who_looks_at_the_whole_clip_gets_the_whole_clip(model: Any, computed: list[int], add: Any) -> None:
    expected = sample(model)
    computed.clear()
    patched = model.clone()
    add(patched)
    assert relative_error(sample(patched), expected) < 1e-4
    assert sum(computed) == 2 * ROWS * FRAMES


def test_in_step_there_is_nothing_to_save_and_no_cache(model: Any, computed: list[int]) -> None:
    sample(model, {"ar_step": 0})
    assert sum(computed) == 2 * 5 * FRAMES


def test_an_interrupted_run_leaves_no_cache(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[Any] = []
    causal_cache = module("comfy.sampling.causal_cache")
    kind = causal_cache.CausalCalls
    monkeypatch.setattr(causal_cache, "CausalCalls", lambda *args: runs.append(kind(*args)) or runs[-1])
    held: list[int] = []

    def stop(step: int, *_: Any) -> None:
        held.append(runs[0].num_bytes)
        if step == ROWS - 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sample(model, callback=stop)
    assert max(held) > 0 and runs[0].num_bytes == 0
    assert "skyreels_causal_run" not in model.model_options.get("transformer_options", {})


def test_the_estimate_is_what_the_cache_takes(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    estimates: list[Any] = []
    causal_cache = module("comfy.sampling.causal_cache")
    estimate, kind, runs = causal_cache.cache_need, causal_cache.CausalCalls, []
    monkeypatch.setattr(causal_cache, "CausalCalls", lambda *args: runs.append(kind(*args)) or runs[-1])
    monkeypatch.setattr(causal_cache, "cache_need", lambda *args: estimates.append(estimate(*args)) or estimates[-1])
    held: list[int] = []
    sample(model, callback=lambda *_: held.append(runs[0].num_bytes))
    assert [need.kept for need in estimates] == [max(held)]
