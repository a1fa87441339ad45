"""The step cache: forecasts of frames that are not computed, exact where nothing is reused, gone afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.tiny import CountedWan
from wan_core.model.config import WanConfig
from wan_core.sampling.cached_calls import CausalCalls
from wan_core.sampling.denoise import model_denoise
from wan_core.sampling.known import KnownFrames
from wan_core.sampling.loop import sample
from wan_core.sampling.reuse import Way, change, expected
from wan_core.sampling.run import ForcingOptions, Row, Run, plan_run
from wan_core.sampling.sigmas import flow_sigmas
from wan_core.sampling.step_cache import TRUST, StepCache

CONFIG = WanConfig(dim=48, ffn_dim=80, freq_dim=32, text_dim=24, num_heads=2, num_layers=2)
STEPS, BLOCK, FRAMES = 14, 2, 6
FAR = 0.3  # a distance at which most of it is left out


def randn(*shape: int, seed: int = 3) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def planned(ar_step: int, known: Tensor | None = None) -> Run:
    options = ForcingOptions(ar_step=ar_step, causal_block_size=BLOCK)
    return plan_run(options, flow_sigmas(STEPS, 3), FRAMES, known)


def rows_of(ar_step: int) -> tuple[Row, ...]:
    return planned(ar_step).rows


class Twin:
    """What is forecast, written down for one frame of one condition at a time."""

    def __init__(self) -> None:
        self.past: dict[tuple[str, int], list[tuple[float, Tensor]]] = {}

    def take(self, key: str, frame: int, at: float, velocity: Tensor) -> None:
        past = self.past.setdefault((key, frame), [])
        if past and abs(past[-1][0] - at) < 1e-6:
            past.pop()
        past.append((at, velocity))

    def forecast(self, key: str, frame: int, at: float) -> Tensor:
        past = self.past[key, frame]
        if len(past) == 1:
            return past[0][1]
        (a, older), (b, newer) = past[-2:]
        return newer + TRUST * (newer - older) * (at - b) / (b - a)


@pytest.mark.parametrize(("causal", "apart"), [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize("ar_step", [0, 3])
@pytest.mark.parametrize("distance", [0.05, 0.2, FAR])
def test_frames_that_are_not_computed_are_what_a_plain_twin_forecasts(
    distance: float, ar_step: int, causal: bool, apart: bool
) -> None:
    twin, keys, forecasts = Twin(), ("cond", "uncond"), 0
    base = randn(2, 4, FRAMES, 2, 2)
    with StepCache(distance) as cache:
        for number, row in enumerate(rows_of(ar_step)):
            truth = base + 0.1 * randn(*base.shape, seed=100 + number)
            asked: list[Sequence[Sequence[int]]] = []
            made = cache(lambda want, v=truth, asked=asked: asked.append(want) or v, keys, row, causal, apart)
            (wanted,) = asked or [[(), ()]]
            places = change(row.sigmas).tolist()
            for which, key in enumerate(keys):
                for frame in range(FRAMES):
                    if frame in wanted[which]:
                        torch.testing.assert_close(made[which, :, frame], truth[which, :, frame])
                        twin.take(key, frame, places[frame], truth[which, :, frame])
                    elif row.steps[frame] is not None:
                        forecasts += 1
                        forecast = twin.forecast(key, frame, places[frame])
                        torch.testing.assert_close(made[which, :, frame], forecast, rtol=1e-4, atol=1e-4)
    assert forecasts > 0


@pytest.mark.parametrize(("causal", "apart"), [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize("ar_step", [0, 3])
def test_a_run_computes_what_was_expected_of_it(ar_step: int, causal: bool, apart: bool) -> None:
    rows, velocity = rows_of(ar_step), randn(2, 4, FRAMES, 2, 2)
    with StepCache(0.2) as cache:
        for row in rows:
            cache(lambda want: velocity, ("cond", "uncond"), row, causal, apart)
    assert cache.report == expected(rows, Way(0.2, causal, apart), conditions=2)
    assert cache.report.computed < cache.report.frames


@pytest.fixture(scope="module")
def tiny() -> CountedWan:
    return CountedWan(CONFIG)


def make(
    model: CountedWan, distance: float | None, ar_step: int = 2, block: int = 0, how: str = "whole", known: int = 0,
    together: bool = True,
) -> tuple[Tensor, int]:  # fmt: skip
    """Sample a clip with guidance; without a distance with no step cache at all.

    Args:
        model: the transformer.
        distance: of the step cache.
        ar_step: of the schedule.
        block: latent frames of a causal block, 0 = bidirectional.
        how: "whole" calls, calls through a causal "kv cache", or frames computed "apart".
        known: leading known frames.
        together: whether both conditions come in one call.

    Returns:
        The video, and the latent frames that went through the transformer.
    """
    noise, texts = randn(1, 16, FRAMES, 4, 4), (randn(1, 8, 24, seed=4), randn(1, 8, 24, seed=5))
    mask = torch.arange(FRAMES) < known
    given = KnownFrames(randn(*noise.shape, seed=6), mask, randn(*noise.shape, seed=7)) if known else None
    model.frames = 0
    with StepCache(distance or 0) as cache, CausalCalls(model, CONFIG.num_layers, max(block, 1)) as run:

        def one(x: Tensor, t: Tensor, row: Row, name: int, frames: Sequence[int]) -> Tensor:
            if how == "kv cache":
                end = max(frames, default=-1) + 1
                return run(x, t, replace(row, runs=((row.start, min(row.busy_end, end)),)), name, context=texts[name])
            if how == "apart" and distance is not None:
                (some,) = cache.some_frames((name,), (frames,), CONFIG.num_layers, FRAMES)
                return some.computed(model, x, t, texts[name], causal_block_size=block)
            return model(x, t, texts[name], causal_block_size=block)

        def velocity(x: Tensor, t: Tensor, context: Tensor, row: Row) -> Tensor:
            parts: dict[int, Tensor] = {}
            for names in [(0, 1)] if together else [(1,), (0,)]:

                def compute(wanted: Sequence[Sequence[int]], names: tuple[int, ...] = names) -> Tensor:
                    each = zip(names, wanted, strict=True)
                    return torch.cat([one(x[:1], t[:1], row, name, frames) for name, frames in each])

                if distance is None:
                    made = compute([range(FRAMES)] * len(names))
                else:
                    made = cache(compute, names, row, block > 0, how == "apart")
                parts |= dict(zip(names, made.chunk(len(names)), strict=True))
            return torch.cat((parts[0], parts[1]))

        video = sample(model_denoise(velocity, *texts, 4.0), noise, planned(ar_step, mask), given)
        if distance is not None:
            assert cache.num_bytes > 0
    assert cache.num_bytes == 0
    return video, model.frames


@pytest.mark.parametrize("block", [0, BLOCK])
@pytest.mark.parametrize("ar_step", [0, 2])
def test_distance_0_is_the_clip_without_a_step_cache(tiny: CountedWan, ar_step: int, block: int) -> None:
    video, frames = make(tiny, None, ar_step, block)
    cached, cached_frames = make(tiny, 0.0, ar_step, block)
    assert torch.equal(cached, video) and cached_frames <= frames


@pytest.mark.parametrize("known", [0, 2])
@pytest.mark.parametrize("block", [0, BLOCK])
@pytest.mark.parametrize("ar_step", [0, 2])
def test_distance_0_apart_is_the_same_clip(tiny: CountedWan, ar_step: int, block: int, known: int) -> None:
    """Under causal attention what is at rest changes nobody; elsewhere it is seen as it was computed last."""
    video, _ = make(tiny, None, ar_step, block, known=known)
    apart, _ = make(tiny, 0.0, ar_step, block, how="apart", known=known)
    assert ((apart - video).abs().max() / video.abs().max()).item() < (1e-4 if block or not ar_step else 0.2)


@pytest.mark.parametrize("known", [0, 2])
@pytest.mark.parametrize("distance", [0.1, FAR])
def test_leaving_blocks_out_of_causal_calls_changes_no_number(tiny: CountedWan, distance: float, known: int) -> None:
    whole, _ = make(tiny, distance, block=BLOCK, known=known)  # every call computes all frames
    cut, computed = make(tiny, distance, block=BLOCK, known=known, how="kv cache")
    assert ((cut - whole).abs().max() / whole.abs().max()).item() < 1e-4
    assert computed < make(tiny, None, block=BLOCK, known=known, how="kv cache")[1]


@pytest.mark.parametrize("block", [0, BLOCK])
def test_apart_is_less_work_than_whole_calls_and_near_the_clip(tiny: CountedWan, block: int) -> None:
    video, frames = make(tiny, None, ar_step=5, block=block)
    whole, all_at_once = make(tiny, FAR, ar_step=5, block=block)
    apart, some = make(tiny, FAR, ar_step=5, block=block, how="apart")
    assert some < all_at_once < frames

    def far(made: Tensor) -> float:
        return ((made - video).norm() / video.norm()).item()

    assert 0 < far(apart) < 2 * far(whole)


@pytest.mark.parametrize("how", ["whole", "apart"])
def test_conditions_in_one_call_or_one_by_one_give_the_same(tiny: CountedWan, how: str) -> None:
    together, frames = make(tiny, FAR, how=how)
    single, frames_single = make(tiny, FAR, how=how, together=False)
    assert frames == frames_single < make(tiny, None)[1]
    torch.testing.assert_close(single, together, rtol=1e-5, atol=1e-5)


def test_conditions_are_forecast_from_their_own_past() -> None:
    one, other = randn(1, 4, FRAMES, 2, 2, seed=1), randn(1, 4, FRAMES, 2, 2, seed=2)
    both, reused = torch.cat((one, other)), 0
    with StepCache(FAR) as cache:
        for row in rows_of(0):
            asked: list[object] = []
            made = cache(lambda want, asked=asked: asked.append(want) or both, ("cond", "uncond"), row)
            reused += not asked
            torch.testing.assert_close(made, both, rtol=1e-5, atol=1e-5)
    assert reused > 0


def test_a_condition_that_joins_late_is_computed_and_the_others_are_not() -> None:
    velocity, rows = randn(1, 4, FRAMES, 2, 2), rows_of(0)
    with StepCache(FAR) as cache:
        for row in rows[:3]:  # after which its answer is known twice
            cache(lambda want: velocity, ("cond",), row)
        asked: list[str] = []
        for name in ("cond", "uncond"):
            cache(lambda want, n=name: asked.append(n) or velocity, (name,), rows[3])
    assert asked == ["uncond"]


def test_a_window_that_moves_on_computes_all_it_sees_and_keeps_what_it_saw() -> None:
    velocities = [randn(1, 4, FRAMES, 2, 2, seed=seed) for seed in range(6)]
    with StepCache(FAR) as cache:
        asked = []
        for number, row in enumerate(rows_of(0)[:6]):
            there = replace(row, start=number // 2, end=number // 2 + FRAMES)
            made = cache(lambda want, n=number: asked.append(n) or velocities[n], ("cond",), there)
    assert asked == [0, 2, 4]
    levels = change(rows_of(0)[5].sigmas), change(rows_of(0)[4].sigmas), change(rows_of(0)[2].sigmas)
    part = 1 + TRUST * ((levels[0] - levels[1]) / (levels[1] - levels[2]))[: FRAMES - 1, None, None].float()
    line = torch.lerp(velocities[2][:, :, 1:], velocities[4][:, :, :-1], part)
    torch.testing.assert_close(made[:, :, :-1], line, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(made[:, :, -1], velocities[4][:, :, -1])


def test_an_error_frees_what_was_kept() -> None:
    cache = StepCache(FAR)
    with pytest.raises(RuntimeError), cache:
        cache(lambda want: randn(1, 4, FRAMES, 2, 2), ("cond",), rows_of(0)[0])
        assert cache.num_bytes > 0
        raise RuntimeError
    assert cache.num_bytes == 0
