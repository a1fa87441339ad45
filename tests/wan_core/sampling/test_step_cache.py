"""The step cache: decided block by block, equal to a plain twin, exact where nothing is reused, gone afterwards."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from tests.tiny import CountedWan
from wan_core.errors import InputError
from wan_core.model.config import WanConfig
from wan_core.sampling.cached_calls import CausalCalls
from wan_core.sampling.known import KnownFrames
from wan_core.sampling.loop import sample
from wan_core.sampling.run import ForcingOptions, Row, Run, plan_run
from wan_core.sampling.sigmas import flow_sigmas, timesteps_of
from wan_core.sampling.step_cache import MAX_REUSED, StepCache, leeway

CONFIG = WanConfig(dim=48, ffn_dim=80, freq_dim=32, text_dim=24, num_heads=2, num_layers=2)
STEPS, BLOCK, FRAMES = 14, 2, 6


def randn(*shape: int, seed: int = 3) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def level(sigma: float) -> float:
    sigma = min(max(sigma, 0.001), 0.999)
    return math.log((1 - sigma) / sigma)


def planned(ar_step: int, steps: int = STEPS, frames: int = FRAMES, known: torch.Tensor | None = None) -> Run:
    options = ForcingOptions(ar_step=ar_step, causal_block_size=BLOCK)
    return plan_run(options, flow_sigmas(steps, 3), frames, known)


def rows_of(ar_step: int, steps: int = STEPS, frames: int = FRAMES) -> tuple[Row, ...]:
    """All rows of a clip."""
    return planned(ar_step, steps, frames).rows


class Twin:
    """What the step cache says it does, written down for one block of one condition at a time."""

    def __init__(self, threshold: float, blocks: int):
        self.threshold = threshold
        self.past = [[[] for _ in range(blocks)] for _ in range(2)]  # (level, velocity), the newest last
        self.tested = [[None] * blocks for _ in range(2)]  # (mean square error, what it grows with)
        self.reused = [0] * blocks
        self.spent = [0.0] * blocks

    def forecast(self, condition: int, block: int, at: float) -> torch.Tensor:
        past = self.past[condition][block]
        if len(past) == 1:
            return past[0][1]
        (a, va), (b, vb) = past[-2:]
        return va * (at - b) / (a - b) + vb * (at - a) / (b - a)

    def reach(self, condition: int, block: int, at: float) -> float:
        return math.prod(abs(at - there) for there, _ in self.past[condition][block][-2:])

    def expected(self, block: int, sigma: float) -> float:
        worst = 0.0
        for condition in range(2):
            if self.tested[condition][block] is None:
                return math.inf
            error, reach = self.tested[condition][block]
            power = self.past[condition][block][-1][1].pow(2).mean().item()
            relative = math.sqrt(error / power) * self.reach(condition, block, level(sigma)) / reach
            worst = max(worst, relative / leeway([sigma]).item())
        return worst

    def step(
        self, busy: list[bool], last: list[bool], sigmas: list[float], truth: torch.Tensor, causal: bool
    ) -> tuple[range, torch.Tensor]:
        """Return who is computed, and the velocities with the others forecast."""
        expected = [self.expected(n, sigma) if busy[n] else 0.0 for n, sigma in enumerate(sigmas)]
        due = [
            n for n, on in enumerate(busy)
            if on and (last[n] or self.reused[n] >= MAX_REUSED or self.spent[n] + expected[n] >= self.threshold)
        ]  # fmt: skip
        computed = range(max(due) + 1 if causal else len(busy)) if due else range(0)
        made, width = truth.clone(), truth.shape[2] // len(busy)
        for n, sigma in enumerate(sigmas):
            frames = slice(n * width, (n + 1) * width)
            if n in computed or not busy[n]:
                self.reused[n], self.spent[n] = 0, 0.0
            if n in computed:
                self.take(n, level(sigma), truth[:, :, frames])
            elif busy[n]:
                self.reused[n] += 1
                self.spent[n] += expected[n]
                for condition in range(2):
                    made[condition, :, frames] = self.forecast(condition, n, level(sigma))
        return computed, made

    def take(self, block: int, at: float, velocities: torch.Tensor) -> None:
        for condition, velocity in enumerate(velocities):
            past = self.past[condition][block]
            if past and abs(past[-1][0] - at) > 1e-3:
                error = (self.forecast(condition, block, at) - velocity).pow(2).mean().item()
                self.tested[condition][block] = error, self.reach(condition, block, at)
            elif past:
                past.pop()
            past.append((at, velocity))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("ar_step", [0, 3])
@pytest.mark.parametrize("threshold", [0.1, 1.0, 10.0])
def test_it_does_what_a_plain_twin_does_block_by_block(threshold: float, ar_step: int, causal: bool) -> None:
    width = BLOCK if ar_step else FRAMES  # where all frames go together they are one block
    twin = Twin(threshold, FRAMES // width)
    a, b, c = randn(2, 3, 4, FRAMES, 2, 2).unbind(1)
    left_out = 0
    with StepCache(threshold) as cache:
        for number, row in enumerate(rows_of(ar_step)):
            at = torch.tensor(row.sigmas)[:, None, None]
            wave = torch.sin(2 * at * torch.arange(1, FRAMES + 1)[:, None, None] + 0.01 * number)
            truth = a + b * wave + 0.2 * c * at  # [2 conditions, C, F, H, W]; every block bends in its own way
            moves = [step is not None for step in row.steps]
            last = [row.finishes(frame) for frame in range(0, FRAMES, width)]
            busy, sigmas = moves[::width], list(row.sigmas[::width])
            computed, expected = twin.step(busy, last, sigmas, truth, causal)
            asked: list[int] = []
            made = cache(lambda end, v=truth, asked=asked: asked.append(end) or v, ("cond", "uncond"), row, causal)
            assert asked == ([len(computed) * width] if computed else [])
            left_out += sum(on for n, on in enumerate(busy) if n not in computed)
            shown = torch.tensor(moves)
            torch.testing.assert_close(made[:, :, shown], expected[:, :, shown], rtol=1e-3, atol=1e-3)
    assert cache.report.reused == 2 * left_out
    assert threshold < 1 or left_out


def field(slopes: torch.Tensor) -> Callable[[Row], torch.Tensor]:
    """A velocity that is a line over log(alpha / sigma) in every frame: forecasts of it are exact."""
    base = randn(1, 4, len(slopes), 2, 2)

    def velocity(row: Row) -> torch.Tensor:
        levels = torch.tensor([level(sigma) for sigma in row.sigmas])
        return base * (1 + slopes * levels)[:, None, None]

    return velocity


def test_what_is_a_straight_line_is_computed_to_know_it_and_to_end_it() -> None:
    velocity, called = field(torch.full((FRAMES,), 0.1)), []
    with StepCache(0.01) as cache:
        for number, row in enumerate(rows_of(0)):
            made = cache(lambda end, n=number, m=row: called.append(n) or velocity(m), ("cond",), row)
            torch.testing.assert_close(made, velocity(row), rtol=1e-4, atol=1e-4)
    # two to know the line, one to try it out, then only as often as must be, and the last step
    assert called == [0, 1, 2, *range(3 + MAX_REUSED, STEPS - 1, MAX_REUSED + 1), STEPS - 1]
    assert cache.report.skipped == STEPS - len(called)


def test_under_causal_attention_only_the_blocks_before_the_last_due_one_are_computed() -> None:
    velocity, ends = field(torch.zeros(FRAMES)), []
    rough = randn(40, 1, 4, BLOCK, 2, 2, seed=9)

    def bent(row: Row, number: int) -> torch.Tensor:
        made = velocity(row)
        made[:, :, :BLOCK] = rough[number]  # nobody can forecast the first block
        return made

    for causal in (True, False):
        ends.clear()
        with StepCache(0.01) as cache:
            for number, row in enumerate(rows_of(1)):
                cache(lambda end, n=number, m=row: ends.append(end) or bent(m, n), ("cond",), row, causal)
        if causal:
            assert BLOCK in ends and FRAMES in ends and cache.report.reused > 0
        else:
            assert set(ends) == {FRAMES}
            assert cache.report.reused == cache.report.skipped == 0 or len(ends) < len(rows_of(1))


@pytest.fixture(scope="module")
def tiny() -> CountedWan:
    return CountedWan(CONFIG)


def make(
    model: CountedWan, threshold: float | None, ar_step: int = 2, block: int = 0, kv_cache: bool = False,
    known: int = 0, together: bool = True,
) -> tuple[torch.Tensor, int]:  # fmt: skip
    """Sample a clip with guidance; without a threshold with no step cache at all. Returns video and frames computed."""
    noise, contexts = randn(1, 16, FRAMES, 4, 4), (randn(1, 8, 24, seed=4), randn(1, 8, 24, seed=5))
    mask = torch.arange(FRAMES) < known
    given = KnownFrames(randn(*noise.shape, seed=6), mask, randn(*noise.shape, seed=7)) if known else None
    model.frames = 0
    with StepCache(threshold or 0) as cache, CausalCalls(model, CONFIG.num_layers, max(block, 1)) as run:

        def compute(x: torch.Tensor, t: torch.Tensor, row: Row, names: tuple[int, ...], end: int) -> torch.Tensor:
            parts = []
            for name in names:
                if kv_cache:
                    seen = replace(row, runs=((row.start, min(row.busy_end, end)),))
                    parts.append(run(x, t, seen, name, context=contexts[name]))
                else:
                    parts.append(model(x, t, contexts[name], causal_block_size=block))
            return torch.cat(parts)

        def denoise(x: torch.Tensor, levels: torch.Tensor, row: Row) -> torch.Tensor:
            t = timesteps_of(levels).expand(len(x), -1)
            calls = [(0, 1)] if together else [(1,), (0,)]
            parts: dict[int, torch.Tensor] = {}
            for names in calls:
                if threshold is None:
                    made = compute(x, t, row, names, FRAMES)
                else:
                    made = cache(lambda end, names=names: compute(x, t, row, names, end), names, row, block > 0)
                parts |= dict(zip(names, made.chunk(len(names)), strict=True))
            velocity = parts[1] + 3 * (parts[0] - parts[1])
            return x - velocity * levels[:, None, None]

        video = sample(denoise, noise, planned(ar_step, known=mask), given)
        if threshold is not None:
            assert cache.num_bytes > 0
    assert cache.num_bytes == 0
    return video, model.frames


@pytest.mark.parametrize("block", [0, BLOCK])
@pytest.mark.parametrize("ar_step", [0, 2])
def test_threshold_0_is_the_clip_without_a_step_cache(tiny: CountedWan, ar_step: int, block: int) -> None:
    video, frames = make(tiny, None, ar_step, block)
    cached, cached_frames = make(tiny, 0.0, ar_step, block)
    assert torch.equal(cached, video) and cached_frames == frames


@pytest.mark.parametrize("known", [0, 2])
@pytest.mark.parametrize("threshold", [1.0, 10.0])
def test_leaving_blocks_out_of_causal_calls_changes_no_number(tiny: CountedWan, threshold: float, known: int) -> None:
    whole, _ = make(tiny, threshold, block=BLOCK, known=known)  # every call computes all frames
    cut, computed = make(tiny, threshold, block=BLOCK, known=known, kv_cache=True)
    assert ((cut - whole).abs().max() / whole.abs().max()).item() < 1e-4
    assert computed < make(tiny, None, block=BLOCK, known=known, kv_cache=True)[1]


def test_conditions_in_one_call_or_one_by_one_give_the_same(tiny: CountedWan) -> None:
    together, frames = make(tiny, 1.0)
    apart, frames_apart = make(tiny, 1.0, together=False)
    assert frames == frames_apart < make(tiny, None)[1]
    torch.testing.assert_close(apart, together, rtol=1e-5, atol=1e-5)


def test_conditions_are_forecast_from_their_own_past() -> None:
    one, other = field(torch.full((FRAMES,), 0.1)), field(torch.full((FRAMES,), -0.2))
    reused = 0
    with StepCache(0.01) as cache:
        for row in rows_of(0):
            both = torch.cat((one(row), other(row)))
            asked: list[int] = []
            made = cache(lambda end, v=both, asked=asked: asked.append(end) or v, ("cond", "uncond"), row)
            reused += not asked
            torch.testing.assert_close(made, both, rtol=1e-4, atol=1e-4)
    assert reused > 0


def test_a_condition_that_joins_late_is_computed_and_the_others_are_not() -> None:
    velocity, rows = field(torch.zeros(FRAMES)), rows_of(0)
    with StepCache(0.01) as cache:
        for row in rows[:2]:
            cache(lambda end, m=row: velocity(m), ("cond",), row)
        asked: list[str] = []
        for name in ("cond", "uncond"):
            cache(lambda end, n=name: asked.append(n) or velocity(rows[2]), (name,), rows[2])
    assert asked == ["uncond"]


def test_a_window_that_moves_on_begins_anew() -> None:
    velocity = field(torch.zeros(FRAMES))
    with StepCache(1.0) as cache:
        asked: list[int] = []
        for number, row in enumerate(rows_of(0)[:6]):
            there = replace(row, start=number // 5, end=number // 5 + FRAMES)
            cache(lambda end, n=number, m=there: asked.append(n) or velocity(m), ("cond",), there)
    assert asked == [0, 1, 5]


def test_an_error_frees_what_was_kept() -> None:
    cache = StepCache(0.1)
    with pytest.raises(RuntimeError), cache:
        cache(lambda end: randn(1, 4, FRAMES, 2, 2), ("cond",), rows_of(0)[0])
        assert cache.num_bytes > 0
        raise RuntimeError
    assert cache.num_bytes == 0


def test_blocks_are_neighbours_of_one_level_that_are_denoised() -> None:
    row = Row(0, 6, (0.02, 0.5, 0.5, 0.8, 0.8, 0.999), (None, 3, 3, 1, 1, None), 5)
    assert row.blocks() == [slice(1, 3), slice(3, 5)]


@pytest.mark.parametrize("threshold", [-0.1, math.nan, math.inf])
def test_a_threshold_that_means_nothing_is_refused(threshold: float) -> None:
    with pytest.raises(InputError, match="has to be 0 or more"):
        StepCache(threshold)
