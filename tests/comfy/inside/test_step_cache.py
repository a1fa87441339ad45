"""The step cache through ComfyUI's guider: fewer calls, nothing left behind, and core's own cache beside it."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import comfy.samplers
import pytest
import torch
from measures import relative_error
from sampling_scene import module

FRAMES, BLOCK, STEPS = 6, 2, 12
SYNC: dict[str, Any] = {}
ASYNC = {"ar_step": 2, "causal_block_size": BLOCK}
CAUSAL = {**ASYNC, "causal_attention": True}
MODES = pytest.mark.parametrize("mode", [SYNC, ASYNC, CAUSAL], ids=["sync", "async", "causal"])
LOOSE = 2.0  # leaves out every second step of so few


@pytest.fixture
def cores_model(pack: ModuleType, models: Path) -> Any:
    import comfy.sd

    return comfy.sd.load_diffusion_model(str(models / "diffusion_models" / "tiny_df.safetensors"))


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch, pack: ModuleType) -> list[int]:
    """Frames times videos of every forward pass, of our transformer and of core's."""
    import comfy.ldm.wan.model

    seen: list[int] = []
    for kind, name in ((module("model.wan_model").WanModel, "forward"), (comfy.ldm.wan.model.WanModel, "_forward")):
        forward = getattr(kind, name)

        def counted(self: Any, x: torch.Tensor, *args: Any, forward: Any = forward, **kwargs: Any) -> torch.Tensor:
            seen.append(x.shape[0] * x.shape[2])
            return forward(self, x, *args, **kwargs)

        monkeypatch.setattr(kind, name, counted)
    return seen


@pytest.fixture
def caches(monkeypatch: pytest.MonkeyPatch, pack: ModuleType) -> list[Any]:
    """The cache of every run."""
    made: list[Any] = []
    bridge = module("comfy.sampling.step_cache")
    kind = bridge.StepCache
    monkeypatch.setattr(bridge, "StepCache", lambda *args: made.append(kind(*args)) or made[-1])
    return made


def patched(model: Any, threshold: float, *preset: str) -> Any:
    return module("comfy.sampling.step_cache").step_cached(model, threshold, *preset)


def sample(model: Any, mode: dict[str, Any] | None = None, callback: Any = None, cfg: float = 4.0) -> torch.Tensor:
    """Sample with diffusion forcing, or without a mode with core's Euler."""
    bridge = module("comfy.sampling.sampler")
    if mode is None:
        sampler = comfy.samplers.ksampler("euler")
    else:
        sampler = bridge.DiffusionForcingSampler(bridge.ForcingOptions(**mode))
    guider = comfy.samplers.CFGGuider(model)
    positive, negative = (
        [[torch.randn(1, 12, 4096, generator=torch.Generator().manual_seed(seed)) * 0.3, {}]] for seed in (1, 2)
    )
    guider.set_conds(positive, negative)
    guider.set_cfg(cfg)
    shape = (1, 16, FRAMES, 4, 4)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(7))
    sigmas = module("sampling.sigmas").flow_sigmas(STEPS, 3.0)
    with torch.inference_mode():
        return guider.sample(noise, torch.zeros(shape), sampler, sigmas, disable_pbar=True, seed=3, callback=callback)


@MODES
def test_threshold_0_changes_neither_the_work_nor_the_video(
    model: Any, computed: list[int], mode: dict[str, Any]
) -> None:
    expected = sample(model, mode)
    work = list(computed)
    computed.clear()
    assert torch.equal(sample(patched(model, 0.0), mode), expected)
    assert computed == work


@MODES
def test_a_threshold_saves_work_and_says_so(
    model: Any, computed: list[int], mode: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    expected = sample(model, mode)
    whole = sum(computed)
    computed.clear()
    with caplog.at_level(logging.INFO):
        made = sample(patched(model, LOOSE), mode)
    assert sum(computed) < 0.85 * whole
    assert torch.isfinite(made).all() and relative_error(made, expected) < 0.5
    (line,) = (message for message in caplog.messages if "Step cache" in message)
    done, of = map(int, re.findall(r"computed (\d+) of (\d+) latent frames", line)[0])
    assert done == sum(computed) and 0 < done < of


def test_what_was_saved_is_shown_on_the_sampler(model: Any, shown: list[tuple[str, str]]) -> None:
    from comfy_execution.utils import CurrentNodeContext

    with CurrentNodeContext("a prompt", "7"):
        sample(patched(model, LOOSE), {})
    ((text, node),) = shown
    assert node == "7" and "skipped" in text and "latent frames" in text


def test_under_causal_attention_blocks_are_left_out_one_by_one(model: Any, computed: list[int]) -> None:
    sample(patched(model, LOOSE), CAUSAL)
    without = sum(computed)
    assert all(frames % BLOCK == 0 for frames in computed) and len(set(computed)) > 1
    computed.clear()
    sample(model, CAUSAL)
    assert len(set(computed)) > 1 and without < sum(computed)


@pytest.mark.parametrize("mode", [ASYNC, CAUSAL], ids=["async", "causal"])
def test_blocks_are_computed_apart_where_there_is_room(
    model: Any, computed: list[int], monkeypatch: pytest.MonkeyPatch, mode: dict[str, Any]
) -> None:
    apart = sample(patched(model, LOOSE), mode)
    frames = list(computed)
    assert any(0 < count < FRAMES for count in frames)
    computed.clear()
    monkeypatch.setattr(module("comfy.sampling.causal_cache"), "spare_memory", lambda *_: 0)
    whole = sample(patched(model, LOOSE), mode)
    assert sum(frames) <= sum(computed) and relative_error(apart, whole) < 0.2
    if mode == ASYNC:
        assert set(computed) == {2 * FRAMES}


@MODES
def test_a_run_computes_what_was_expected_of_it(model: Any, caches: list[Any], mode: dict[str, Any]) -> None:
    reuse, run = module("sampling.reuse"), module("sampling.run")
    sample(patched(model, 0.0, "balanced"), mode)
    planned = run.plan_run(run.ForcingOptions(**mode), module("sampling.sigmas").flow_sigmas(STEPS, 3.0), FRAMES)
    way = reuse.Way(reuse.DISTANCES["balanced"], bool(mode.get("causal_attention")), bool(mode.get("ar_step")))
    assert caches[0].report == reuse.expected(planned.rows, way, conditions=2)


def test_a_neighbour_that_looks_at_the_clip_gets_whole_calls(model: Any, computed: list[int]) -> None:
    seen: list[int] = []

    def look(out: torch.Tensor, options: dict[str, Any]) -> torch.Tensor:
        seen.append(out.shape[1])
        return out

    patch = model.clone()
    patch.set_model_attn1_output_patch(look)
    sample(patched(patch, LOOSE), ASYNC)
    assert set(computed) == {2 * FRAMES}


def test_a_preset_takes_the_place_of_the_threshold(model: Any, computed: list[int]) -> None:
    by_preset = sample(patched(model, 0.0, "lossless-like"), ASYNC)
    work = list(computed)
    computed.clear()
    assert torch.equal(sample(patched(model, 0.1), ASYNC), by_preset) and computed == work
    computed.clear()
    sample(patched(model, 0.0, "fast"), ASYNC)
    assert sum(computed) < sum(work)


def test_a_preset_that_there_is_not_is_refused(model: Any) -> None:
    with pytest.raises(ValueError, match='preset is "quick"'):
        patched(model, 0.1, "quick")


def test_one_condition_after_the_other_gives_the_same(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    together = sample(patched(model, LOOSE), ASYNC)
    monkeypatch.setattr(comfy.samplers, "can_concat_cond", lambda one, other: one is other)
    assert relative_error(sample(patched(model, LOOSE), ASYNC), together) < 1e-4


@pytest.mark.parametrize("mode", [None, SYNC, ASYNC], ids=["euler of core", "sync", "async"])
def test_it_works_on_cores_own_wan(cores_model: Any, computed: list[int], mode: dict[str, Any] | None) -> None:
    expected = sample(cores_model, mode)
    whole = sum(computed)
    computed.clear()
    made = sample(patched(cores_model, LOOSE), mode)
    assert sum(computed) < 0.8 * whole and relative_error(made, expected) < 0.5


def test_it_works_with_cores_sampler_on_our_model(model: Any, computed: list[int]) -> None:
    sample(model)
    whole = sum(computed)
    computed.clear()
    sample(patched(model, LOOSE))
    assert sum(computed) < 0.8 * whole


@MODES
def test_nothing_is_left_after_a_run_however_it_ends(model: Any, caches: list[Any], mode: dict[str, Any]) -> None:
    held: list[int] = []

    def stop(step: int, *_: Any) -> None:
        held.append(caches[-1].num_bytes)
        if step == STEPS - 2:
            raise KeyboardInterrupt

    cached = patched(model, 0.1)
    with pytest.raises(KeyboardInterrupt):
        sample(cached, mode, stop)
    assert max(held) > 0 and caches[-1].num_bytes == 0
    assert "skyreels_step_cache" not in cached.model_options["transformer_options"]
    after = sample(cached, mode)
    assert caches[-1].num_bytes == 0 and len(caches) == 2
    assert torch.equal(after, sample(patched(model, 0.1), mode))  # the broken run has left no trace


def test_the_given_model_is_not_changed(model: Any) -> None:
    kinds = ("outer_sample", "diffusion_model")
    before = [list(model.get_all_wrappers(kind)) for kind in kinds]
    cached = patched(model, 0.1)
    assert [list(model.get_all_wrappers(kind)) for kind in kinds] == before
    assert [len(cached.get_all_wrappers(kind)) for kind in kinds] == [len(wrappers) + 1 for wrappers in before]


def test_the_last_of_two_nodes_counts(model: Any, computed: list[int]) -> None:
    sample(patched(patched(model, LOOSE), 0.0))
    assert sum(computed) == 2 * STEPS * FRAMES


@MODES
def test_cores_easycache_still_works_with_our_sampler(
    model: Any, computed: list[int], mode: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    import comfy_extras.nodes_easycache as easycache

    sample(model, mode)
    whole = len(computed)
    computed.clear()
    node = easycache.EasyCacheNode.execute(model, 0.9, 0.1, 0.95, False)
    with caplog.at_level(logging.INFO):
        made = sample(node.result[0], mode)
    assert len(computed) < whole and torch.isfinite(made).all()
    assert any("EasyCache - skipped" in message for message in caplog.messages)


def test_another_threshold_is_another_long_video(model: Any) -> None:
    identity = module("comfy.long.identity").model_identity
    seen = [identity(each) for each in (model, patched(model, 0.1), patched(model, 0.2))]
    assert seen[0] != seen[1] != seen[2] != seen[0]


def test_another_model_and_a_negative_threshold_are_refused(model: Any) -> None:
    class Other:
        model = object()

    with pytest.raises(ValueError, match="needs a SkyReels-V2 or Wan"):
        patched(Other(), 0.1)
    with pytest.raises(ValueError, match="has to be 0 or more"):
        patched(model, -0.1)
