"""CFG in a part of the steps: the negative prompt is not computed outside, and every frame gets its own share."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import comfy.samplers
import comfy_extras.nodes_custom_sampler as core
import pytest
import torch
from measures import relative_error
from sampling_scene import module

SIGMAS = torch.tensor([0.999, 0.8, 0.5, 0.2, 0.0])
STEPS, FRAMES, BLOCK, CFG = 4, 6, 2, 4.0
SHAPE = (1, 16, FRAMES, 4, 4)
ASYNC = {"ar_step": 1, "causal_block_size": BLOCK}
CAUSAL = {**ASYNC, "causal_attention": True}


@pytest.fixture
def computed(pack: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Frames times prompts of every forward pass of the transformer."""
    seen: list[int] = []
    kind = module("model.wan_model").WanModel
    forward = kind.forward

    def counted(self: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        seen.append(x.shape[0] * x.shape[2])
        return forward(self, x, *args, **kwargs)

    monkeypatch.setattr(kind, "forward", counted)
    return seen


def in_range(pack_nodes: dict[str, Any], model: Any, start: float, end: float) -> Any:
    return pack_nodes["SkyReelsV2CFGRange"].execute(model, start, end).args[0]


def conditioning(seed: int) -> list[Any]:
    return [[torch.randn(1, 12, 4096, generator=torch.Generator().manual_seed(seed)) * 0.3, {}]]


def noise() -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(7))


def sample(model: Any, cfg: float = CFG, guider_type: Any = comfy.samplers.CFGGuider, **options: Any) -> torch.Tensor:
    bridge = module("comfy.sampling.sampler")
    guider = guider_type(model)
    guider.set_conds(conditioning(1), conditioning(2))
    guider.set_cfg(cfg)
    sampler = bridge.DiffusionForcingSampler(bridge.ForcingOptions(**options))
    with torch.inference_mode():
        return guider.sample(noise(), torch.zeros(SHAPE), sampler, SIGMAS, disable_pbar=True, seed=3)


def test_cfg_1_does_not_compute_the_negative_prompt(model: Any, computed: list[int]) -> None:
    sample(model, cfg=1.0)
    assert sum(computed) == STEPS * FRAMES


@pytest.mark.parametrize(("start", "end", "guided"), [(0, 0.5, 2), (0.5, 1, 2), (0.25, 0.75, 2), (0, 1, 4)])
def test_a_range_saves_the_calls_outside(
    model: Any, pack_nodes: dict[str, Any], computed: list[int], start: float, end: float, guided: int
) -> None:
    sample(in_range(pack_nodes, model, start, end))
    assert sum(computed) == (STEPS + guided) * FRAMES


def test_the_whole_range_changes_nothing(model: Any, pack_nodes: dict[str, Any]) -> None:
    assert torch.equal(sample(in_range(pack_nodes, model, 0, 1), **ASYNC), sample(model, **ASYNC))


def frame_by_frame(model: Any, start: float, end: float, ar_step: int) -> Any:
    """The oracle: both prompts in every row, and core's guidance function says for each frame which of them count."""
    guided, blocks, row = model.clone(), FRAMES // BLOCK, iter(range(1000))

    def guidance(args: dict[str, Any]) -> torch.Tensor:
        now, inside = next(row), []
        for block in range(blocks):  # block n begins n * ar_step rows late
            share = (now - block * ar_step) / STEPS
            inside += [start <= share < end] * BLOCK
        cond, uncond = args["cond_denoised"], args["uncond_denoised"]
        scale = torch.where(torch.tensor(inside), CFG, 1.0)[:, None, None]
        return args["input"] - (uncond + scale * (cond - uncond))

    guided.set_model_sampler_cfg_function(guidance)
    return guided


@pytest.mark.parametrize(("start", "end"), [(0, 0.5), (0.25, 0.75), (0.5, 1)])
@pytest.mark.parametrize("ar_step", [0, 1, 3])
def test_every_frame_is_guided_in_its_own_steps(
    model: Any, pack_nodes: dict[str, Any], start: float, end: float, ar_step: int
) -> None:
    options = {"ar_step": ar_step, "causal_block_size": BLOCK}
    made = sample(in_range(pack_nodes, model, start, end), **options)
    expected = sample(frame_by_frame(model, start, end, ar_step), **options)
    assert relative_error(made, expected) < 1e-5
    assert relative_error(made, sample(model, **options)) > 1e-3  # the range is seen at all


@pytest.mark.parametrize(("start", "end", "rows"), [(0, 0.5, 4), (0.5, 1, 4), (0.75, 1, 3)])
def test_in_async_mode_rows_without_a_frame_inside_are_saved(
    model: Any, pack_nodes: dict[str, Any], computed: list[int], start: float, end: float, rows: int
) -> None:
    sample(in_range(pack_nodes, model, start, end), **ASYNC)
    assert sum(computed) == (STEPS + 2 + rows) * FRAMES


@pytest.mark.parametrize(("start", "end"), [(0, 0.5), (0.25, 0.5), (0.5, 1)])
@pytest.mark.parametrize("ar_step", [1, STEPS])
def test_the_cache_stays_on_and_the_video_the_same(
    model: Any, pack_nodes: dict[str, Any], computed: list[int], monkeypatch: pytest.MonkeyPatch,
    start: float, end: float, ar_step: int,
) -> None:  # fmt: skip
    ranged, options = in_range(pack_nodes, model, start, end), {**CAUSAL, "ar_step": ar_step}
    cached = sample(ranged, **options)
    with_cache = sum(computed)
    computed.clear()
    monkeypatch.setattr(module("comfy.sampling.causal_cache"), "free_place", lambda *_: None)
    assert relative_error(cached, sample(ranged, **options)) < 1e-4
    assert with_cache < sum(computed)


def test_a_neighbours_function_sees_the_frames_that_the_range_has_chosen(
    model: Any, pack_nodes: dict[str, Any]
) -> None:
    seen: list[bool] = []
    watched = in_range(pack_nodes, model, 0, 0.5)
    watched.set_model_sampler_post_cfg_function(
        lambda args: (
            seen.append(torch.equal(args["denoised"][:, :, 0], args["cond_denoised"][:, :, 0])) or args["denoised"]
        )
    )
    sample(watched, **ASYNC)
    assert seen == [False] * 2 + [True] * 4


def test_it_works_with_cores_own_nodes(model: Any, pack_nodes: dict[str, Any], computed: list[int]) -> None:
    ranged = in_range(pack_nodes, model, 0, 0.5)
    bridge = module("comfy.sampling.sampler")
    for sampler in (
        core.KSamplerSelect.execute("euler").args[0],
        bridge.DiffusionForcingSampler(bridge.ForcingOptions()),
    ):
        computed.clear()
        guider = core.CFGGuider.execute(ranged, conditioning(1), conditioning(2), CFG).args[0]
        with torch.inference_mode():
            core.SamplerCustomAdvanced.execute(
                core.Noise_RandomNoise(3), guider, sampler, SIGMAS, {"samples": torch.zeros(SHAPE)}
            )
        assert sum(computed) == (STEPS + 2) * FRAMES


def test_a_second_node_replaces_the_range_and_leaves_the_first_model_alone(
    model: Any, pack_nodes: dict[str, Any], computed: list[int]
) -> None:
    first = in_range(pack_nodes, model, 0, 0.5)
    second = in_range(pack_nodes, first, 0, 0.25)
    for ranged, guided in ((second, 1), (first, 2), (model, 4)):
        computed.clear()
        sample(ranged)
        assert sum(computed) == (STEPS + guided) * FRAMES


def test_a_long_video_with_another_range_is_another_job(model: Any, pack_nodes: dict[str, Any]) -> None:
    identity = module("comfy.long.identity").model_identity
    one, same, other = (in_range(pack_nodes, model, 0, end) for end in (0.5, 0.5, 0.6))
    assert identity(one) == identity(same)
    assert identity(one) != identity(other) != identity(model)


class OtherGuider(comfy.samplers.CFGGuider):
    def predict_noise(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        return super().predict_noise(*args, **kwargs)


def test_a_guider_with_prompts_of_its_own_is_refused(model: Any, pack_nodes: dict[str, Any]) -> None:
    with pytest.raises(module("errors").InputError, match=r"OtherGuider.*CFGGuider"):
        sample(in_range(pack_nodes, model, 0, 0.5), guider_type=OtherGuider)


@pytest.mark.parametrize(("start", "end"), [(0.5, 0.5), (0.8, 0.2)])
def test_an_empty_range_is_refused(model: Any, pack_nodes: dict[str, Any], start: float, end: float) -> None:
    with pytest.raises(module("errors").InputError, match=f"{start:g} to {end:g}"):
        in_range(pack_nodes, model, start, end)
