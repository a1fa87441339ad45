"""A video by a moving window, segment by segment, against the same run in one piece."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wan_core.errors import ScheduleError
from wan_core.long.kept_states import most_kept
from wan_core.long.moving_window import FIRST, SAMPLES, MovingWindow, WindowTask, plan_moving_window
from wan_core.long.plan import Plan, Wanted
from wan_core.long.plan_text import estimate
from wan_core.long.sources import roll_out
from wan_core.model.geometry import WAN21
from wan_core.sampling.known import KnownFrames
from wan_core.sampling.loop import sample
from wan_core.sampling.noise import KNOWN, noise_of_frames
from wan_core.sampling.run import ForcingOptions, plan_run
from wan_core.sampling.sigmas import flow_sigmas
from wan_core.sampling.solvers import adds_noise

SHAPE, SEED, SHIFT = (1, 2, 2, 3), 5, 3.0


def denoise(x: torch.Tensor, frame_sigmas: torch.Tensor, _row: object, prompts: torch.Tensor) -> torch.Tensor:
    """Depends on all visible frames, their levels and places, and of each frame on its own prompt."""
    places = torch.arange(x.shape[2], dtype=x.dtype)
    mixed = x.mean(dim=2, keepdim=True) + 0.1 * places[:, None, None] + prompts[:, None, None]
    return torch.tanh(x * (1 - frame_sigmas[:, None, None]) + 0.5 * mixed)


def prompts_of(weights) -> torch.Tensor:
    return sum(number * weight for number, weight in weights.items())


def sample_window(task: WindowTask) -> tuple[torch.Tensor, torch.Tensor]:
    prompts, left = prompts_of(task.weights), []

    def one(x, levels, row):
        return denoise(x, levels, row, prompts[row.start : row.end])

    made = sample(
        one, task.noise, task.run, task.known, fresh_noise=task.fresh, begun=task.begun, left=left.append
    )  # fmt: skip
    return made, left[0]


def source(plan: Plan, known=(), solver="euler", **options) -> MovingWindow:
    images = {at: noise_of_frames((1, 2, 1, 2, 3), 99, at) for at in known}
    forcing = ForcingOptions(solver, addnoise_condition=20)
    return MovingWindow(plan, SHAPE, forcing, flow_sigmas(plan.steps, SHIFT), (SEED,), sample_window, images, **options)


def in_one_piece(made: MovingWindow, prompts: torch.Tensor | None = None) -> torch.Tensor:
    """The same video by one run over all frames."""
    plan, frames = made.plan, len(made.mask)
    shape = (*SHAPE[:2], frames, *SHAPE[2:])
    fresh = None
    if adds_noise(made.options.solver):
        fresh = torch.stack([torch.zeros(shape), *(noise_of_frames(shape, SEED, 0, n) for n in range(1, plan.steps))])[
            1:
        ]
    latents = torch.zeros(shape)
    for at, latent in made.known.items():
        latents[:, :, at] = latent[:, :, 0]
    known = KnownFrames(latents, made.mask, noise_of_frames(shape, SEED, 0, KNOWN))
    run = plan_run(made.forcing, made.sigmas, frames, made.mask)
    prompts = torch.zeros(frames) if prompts is None else prompts

    def one(x, levels, row):
        return denoise(x, levels, row, prompts[row.start : row.end])

    whole = sample(one, noise_of_frames(shape, SEED), run, known, fresh_noise=fresh)
    return whole[:, :, : plan.latent_frames]


@st.composite
def videos(draw):
    block, window = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    steps, frames = draw(st.integers(1, 8)), draw(st.integers(1, 90))
    latents = (frames + 2) // 4 + 1
    known = {at for at in draw(st.lists(st.integers(0, latents - 1), max_size=4))}
    known |= set(range(draw(st.integers(0, latents - 1))))
    lag = draw(st.sampled_from((0, -(-steps // window) + 1)))
    plan = plan_moving_window(
        Wanted(
            frames, WAN21.video_frames(window * block), causal_block_size=block, ar_step=lag, steps=steps, known=known
        )
    )
    return plan, known, draw(st.sampled_from(("euler", "unipc", "lcm")))


@settings(max_examples=150, deadline=None)
@given(videos())
def test_segments_give_what_one_run_gives(video):
    plan, known, solver = video
    made = source(plan, known, solver)
    pieces = list(roll_out(made))
    got = torch.cat([piece.latents for piece in pieces], dim=2)
    assert got.shape[2] == plan.latent_frames
    assert torch.equal(got, in_one_piece(made))
    assert all(piece.state[SAMPLES].shape[3] <= plan.window + plan.causal_block_size for piece in pieces)


@settings(max_examples=100, deadline=None)
@given(videos())
def test_the_plan_counts_what_is_made(video):
    plan, known, _solver = video
    made, calls = source(plan, known), []

    def count(task: WindowTask):
        calls.append((task.segment.index, len(task.run.rows)))
        return sample_window(task)

    object.__setattr__(made, "sample", count)
    list(roll_out(made))
    assert dict(calls) == {segment.index: segment.rows for segment in plan.segments if segment.rows}
    assert sum(segment.new for segment in plan.segments) == plan.latent_frames
    assert plan.segments[-1].frames[1] == plan.total_frames
    whole = plan_run(made.forcing, made.sigmas, len(made.mask), made.mask)
    assert plan.rows == len(whole.rows)
    for before, after in zip(plan.segments, plan.segments[1:], strict=False):
        assert before.latents[1] == after.latents[0] and before.frames[1] == after.frames[0]


def test_any_finished_segment_is_enough_to_go_on_to_the_same_video() -> None:
    made = source(
        plan_moving_window(Wanted(157, 33, causal_block_size=2, ar_step=0, steps=5, known={0, 20})), {0, 20}, "unipc"
    )
    whole = list(roll_out(made))
    assert len(whole) == 5
    for piece in whole[:-1]:
        state = {name: tensor.clone() for name, tensor in piece.state.items()}
        for again, before in zip(
            roll_out(made, piece.segment.index, state), whole[piece.segment.index + 1 :], strict=True
        ):
            assert torch.equal(again.window, before.window)


def test_every_frame_is_made_from_the_prompt_of_its_block() -> None:
    plan = plan_moving_window(Wanted(157, 33, causal_block_size=2, ar_step=0, steps=5))
    conditions = tuple(int(first >= 17) + int(first >= 24) for first, _ in plan.places)
    made = source(plan, conditions=conditions)
    got = torch.cat([piece.latents for piece in roll_out(made)], dim=2)
    numbers = torch.zeros(len(made.mask))
    numbers[18:24], numbers[24:] = 1, 2  # the block that begins at 16 began before the change
    assert torch.equal(got, in_one_piece(made, numbers))
    blended = source(plan, conditions=conditions, blend=3)
    shares = numbers.clone()
    shares[18:21], shares[24:27] = torch.tensor([0.25, 0.5, 0.75]), torch.tensor([1.25, 1.5, 1.75])
    got = torch.cat([piece.latents for piece in roll_out(blended)], dim=2)
    torch.testing.assert_close(got, in_one_piece(blended, shares))


def test_seeds_of_places_change_their_frames_and_those_behind() -> None:
    plan = plan_moving_window(Wanted(157, 33, causal_block_size=2, ar_step=0, steps=5))
    seeds = tuple(SEED + (first >= 20) for first, _ in plan.places)
    before, after = (
        torch.cat([piece.latents for piece in roll_out(made)], dim=2)
        for made in (source(plan), MovingWindow(**{**vars(source(plan)), "seeds": seeds}))
    )
    changed = (before != after).flatten(3).any(dim=3)[0, 0]
    assert changed[20:].all() and not changed[:12].any()  # frames in one window see each other


def test_the_lag_is_the_least_that_works_and_a_smaller_one_is_refused() -> None:
    assert plan_moving_window(Wanted(377, 97, causal_block_size=5, ar_step=0, steps=30)).ar_step == 6
    with pytest.raises(ScheduleError, match="raise ar_step to 6"):
        plan_moving_window(Wanted(377, 97, causal_block_size=5, ar_step=5, steps=30))


def test_every_segment_but_the_last_finishes_a_window_and_a_minute_takes_few_calls() -> None:
    plan = plan_moving_window(Wanted(1457, 97, causal_block_size=5, ar_step=0, steps=30))
    assert [segment.new for segment in plan.segments[:-1]] == [25] * 14
    assert plan.rows == 30 + 72 * 6 and plan.seen == 25
    assert plan.segments[0].rows == 30 + 4 * 6 and plan.segments[3].rows == 5 * 6
    assert plan.segments[3].frames == (4 * 75 - 3, 4 * 100 - 3)
    assert FIRST in source(plan).state_names


def test_the_estimate_counts_what_lies_on_the_disk_at_most() -> None:
    plan = plan_moving_window(Wanted(157, 33, causal_block_size=2, ar_step=0, steps=5))
    made = source(plan, (), "unipc")
    frame = 2 * 2 * 3 * 4  # bytes of one latent frame of SHAPE, which has 2 channels in place of 16
    largest = max(piece.state[SAMPLES].nbytes for piece in roll_out(made))
    kept = estimate(plan, 16, 24).journal / most_kept(len(plan.segments)) * 2 / WAN21.channels
    assert largest <= kept == 4 * plan.window * frame < 2 * largest
