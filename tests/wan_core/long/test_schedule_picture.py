"""The picture of a plan: each pixel against a simulation of the schedule, and what it costs for plans of any length."""

from __future__ import annotations

import tracemalloc

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wan_core.errors import ScheduleError
from wan_core.long.plan import Plan, Segment, Wanted
from wan_core.long.plan_text import table
from wan_core.long.schedule_picture import EDGE, KNOWN, LONGEST_SIDE, PADDING, UNSEEN, colour_of, schedule_picture
from wan_core.long.segments import plan_segments
from wan_core.sampling.sigmas import flow_sigmas, noise_levels

PLANS = st.fixed_dictionaries(
    {
        "total_frames": st.integers(1, 200),
        "base_num_frames": st.integers(1, 90),
        "overlap_history": st.integers(1, 40),
        "causal_block_size": st.integers(1, 5),
        "ar_step": st.integers(0, 5),
        "steps": st.integers(1, 8),
        "loop": st.booleans(),
    }
)


def rows_of(plan: Plan, segment: Segment, known: list[bool]) -> list[list[int]]:
    """The step of every frame in every row of a segment, found by letting the blocks take their steps one by one."""
    block = plan.causal_block_size if plan.ar_step else 1
    blocks = [known[at : at + block] for at in range(0, len(known), block)]
    leading = next((number for number, frames in enumerate(blocks) if not all(frames)), len(blocks))
    state = [plan.steps + 1 if number < leading else 0 for number in range(len(blocks))]
    rows = []
    while state[-1] <= plan.steps:
        before = list(state)
        for number in range(leading, len(blocks)):
            waits = number > leading and before[number - 1] < min(plan.ar_step, plan.steps)
            if before[number] or not waits:
                state[number] = min(before[number] + 1, plan.steps + 1)
        busy = [now != old and now <= plan.steps for now, old in zip(state, before, strict=True)]
        if any(moves and not all(frames) for moves, frames in zip(busy, blocks, strict=True)):
            rows.append([step for step, frames in zip(state, blocks, strict=True) for _ in frames])
    return rows


def picture_of(plan: Plan, given_frames: set[int]) -> torch.Tensor:
    """A cell for each row and latent frame, painted one by one."""
    levels = noise_levels(flow_sigmas(plan.steps, 8.0))
    width, shown = max(segment.start + segment.length for segment in plan.segments), []
    for segment in plan.segments:
        known = segment.known(given_frames)
        if segment.index:
            shown.append([torch.tensor(EDGE)] * width)
        for steps in rows_of(plan, segment, known) if segment.rows else ():
            row = [torch.tensor(UNSEEN)] * width
            for at, step in enumerate(steps):
                colour = colour_of(levels[step])
                if at >= segment.length - segment.padding:
                    colour = 0.5 * colour + 0.5 * torch.tensor(PADDING)
                row[segment.start + at] = torch.tensor(KNOWN) if known[at] else colour
            shown.append(row)
    return torch.stack([torch.stack(row) for row in shown])


@given(PLANS, st.sets(st.integers(0, 50), max_size=5))
@settings(max_examples=150, deadline=None)
def test_every_cell_has_the_colour_of_its_frame_in_its_row(arguments, known):
    try:
        plan = plan_segments(Wanted(**arguments, known=known))
    except ScheduleError:
        return
    if not plan.rows:
        return
    wanted, picture = picture_of(plan, known), schedule_picture(plan, 8.0, tuple(sorted(known)))
    cell = picture.shape[0] // wanted.shape[0]
    assert cell >= 1 and picture.shape[1] == wanted.shape[1] * cell
    torch.testing.assert_close(picture[::cell, ::cell], wanted)


@pytest.mark.parametrize(
    "arguments",
    [
        {"total_frames": 86_400, "base_num_frames": 97, "overlap_history": 17},
        {"total_frames": 1_000_000, "base_num_frames": 97, "overlap_history": 17, "steps": 1000, "ar_step": 1000},
        {"total_frames": 190_000, "base_num_frames": 8193, "overlap_history": 8177, "ar_step": 7, "steps": 1000},
    ],
    ids=["an hour", "the longest", "the widest window"],
)
def test_a_picture_has_a_largest_size_and_takes_memory_for_it_alone(arguments):
    plan = plan_segments(Wanted(**arguments))
    tracemalloc.start()
    picture = schedule_picture(plan, 8.0, (0,))
    peak = tracemalloc.get_traced_memory()[1]  # of Python's own objects; the picture itself is torch's
    tracemalloc.stop()
    assert max(picture.shape[:2]) <= LONGEST_SIDE and picture.shape[0] >= 400
    assert peak < 50e6
    assert len(str(table(plan)).splitlines()) < 250


def test_a_long_picture_is_every_nth_cell_of_the_whole_one(monkeypatch):
    monkeypatch.setattr("wan_core.long.schedule_picture.LONGEST_SIDE", 80)
    plan = plan_segments(Wanted(737, 97, 17, steps=9, ar_step=2, causal_block_size=5))
    picture, whole = schedule_picture(plan, 8.0), picture_of(plan, set())
    assert min(whole.shape[:2]) > 80
    rows, columns = ((2 * torch.arange(40) + 1) * side // 80 for side in whole.shape[:2])
    torch.testing.assert_close(picture, whole[rows][:, columns])
