"""The plan of a long video against diffusers' arithmetic, the schedule itself and what every plan has to keep."""

from __future__ import annotations

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wan_core.errors import ScheduleError
from wan_core.long.plan import Plan, Segment, Wanted
from wan_core.long.plan_text import estimate, table
from wan_core.long.segments import plan_segments
from wan_core.model.geometry import WAN21
from wan_core.sampling.run import ForcingOptions, plan_run
from wan_core.sampling.schedule import staircase
from wan_core.sampling.sigmas import flow_sigmas

SETTINGS = st.fixed_dictionaries(
    {
        "total_frames": st.integers(1, 1500),
        "base_num_frames": st.integers(1, 140),
        "overlap_history": st.integers(1, 60),
        "causal_block_size": st.integers(1, 7),
        "ar_step": st.integers(0, 6),
        "steps": st.integers(1, 12),
        "loop": st.booleans(),
    }
)


def diffusers_lengths(num_frames: int, base_num_frames: int, overlap_history: int) -> list[int]:
    """Window lengths of diffusers' long-video loop, from its formulas for a 4k + 1 number of frames."""
    latents, base, overlap = ((count - 1) // 4 + 1 for count in (num_frames, base_num_frames, overlap_history))
    if num_frames <= base_num_frames:
        return [latents]
    iterations = 1 + (latents - base - 1) // (base - overlap) + 1
    lengths = [base]
    for number in range(1, iterations):
        left = latents - (number * (base - overlap) + overlap)
        lengths.append(min(left + overlap, base))
    return lengths


@given(st.integers(1, 370), st.integers(2, 31), st.integers(1, 30))
@settings(max_examples=300, deadline=None)
def test_segments_are_those_of_diffusers(total, base, overlap):
    if overlap >= base:
        return
    frames = [WAN21.video_frames(count) for count in (total, base, overlap)]
    plan = plan_segments(Wanted(*frames))
    assert [segment.length for segment in plan.segments] == diffusers_lengths(*frames)
    assert all(segment.padding == 0 for segment in plan.segments) and plan.trimmed_frames == 0


def try_plan(arguments: dict) -> Plan | None:
    try:
        return plan_segments(Wanted(**arguments))
    except ScheduleError as error:
        check_advice(arguments, str(error))
        return None


def check_advice(arguments: dict, message: str) -> None:
    """Every value that a refusal names works when it is used."""
    assert message.count(". ") <= 1 and message.endswith(".")  # what is wrong, and what to do
    advice = message.rsplit(":", 1)[1]
    for name in ("overlap_history", "base_num_frames"):
        if found := re.search(rf"{name} to (\d+)", advice):
            changed = {**arguments, name: int(found[1])}
            try:
                plan_segments(Wanted(**changed))
            except ScheduleError as error:  # the window is right now, only the length of the loop is not
                assert "loop of" in str(error)
    if found := re.search(r"use (\d+)", advice):
        plan_segments(Wanted(**{**arguments, "total_frames": int(found[1])}))


@given(SETTINGS)
@settings(max_examples=400, deadline=None)
def test_every_frame_is_finished_once_and_windows_keep_to_blocks_or_the_refusal_names_what_works(arguments):
    plan = try_plan(arguments)
    if plan is None:
        return
    block = arguments["causal_block_size"] if arguments["ar_step"] else 1
    frames = latents = 0
    for segment in plan.segments:
        assert segment.frames[0] == frames and segment.latents[0] == latents and segment.new >= 1
        frames, latents = segment.frames[1], segment.latents[1]
        assert segment.num_frames >= 1 and segment.start >= 0
        assert segment.overlap == (plan.overlap if segment.index else 0)
        assert segment.length % block == 0 and 0 <= segment.padding < block
        assert segment.length <= plan.window or len(plan.segments) == 1
    assert frames == plan.total_frames == arguments["total_frames"] - arguments["loop"]
    assert latents == plan.latent_frames
    assert 0 <= plan.trimmed_frames < 4
    last = plan.segments[-1]
    for segment in plan.segments[:-1]:  # in a loop a window may be cut short to leave the last one more
        assert segment.closing == 0 and (segment.padding == 0 or arguments["loop"])
    assert last.closing == (plan.overlap if arguments["loop"] else 0)
    assert not arguments["loop"] or (len(plan.segments) > 1 and plan.segments[0].new > plan.overlap)


@given(SETTINGS, st.sets(st.integers(0, 60), max_size=20))
@settings(max_examples=150, deadline=None)
def test_rows_are_those_of_the_schedule(arguments, known):
    arguments = {**arguments, "total_frames": arguments["total_frames"] % 300 + 1, "known": known}
    plan = try_plan(arguments)
    for segment in () if plan is None else plan.segments:
        mask = torch.zeros(segment.length, dtype=torch.bool)
        mask[: segment.overlap] = True
        mask[segment.overlap + segment.new : segment.length - segment.padding] = True
        for at in range(segment.overlap, segment.overlap + segment.new):
            mask[at] |= segment.start + at in known
        if mask[: segment.overlap + segment.new].all():
            assert segment.rows == 0
            continue
        options = ForcingOptions(ar_step=plan.ar_step, causal_block_size=plan.causal_block_size)
        assert segment.rows == len(plan_run(options, flow_sigmas(plan.steps), segment.length, mask).rows)


@pytest.mark.parametrize("total", [121, 122, 257, 1457])
def test_windows_of_121_frames_work_with_blocks_of_5(total):
    plan = plan_segments(Wanted(total, 121, 17, causal_block_size=5, ar_step=5))
    assert all(segment.length % 5 == 0 for segment in plan.segments)
    assert plan.segments[-1].frames[1] == total
    # the one-window clip is padded as the sampler node pads it; longer ones stay inside the window of 31
    assert plan.segments[0].length == (35 if total == 121 else 30)


def test_the_lengths_the_authors_name():
    for total, segments in ((97, 1), (257, 3), (377, 5), (737, 9), (1457, 18)):
        plan = plan_segments(Wanted(total, 97, 17, causal_block_size=5, ar_step=5))
        assert len(plan.segments) == segments and plan.rows >= 30 * segments
    assert plan.segments[1] == Segment(1, 20, 5, 20, 0, 0, rows=30 + 3 * 5, frames=(97, 177))


def test_causal_attention_alone_asks_for_whole_blocks_and_sync_does_not():
    assert plan_segments(Wanted(121, 121, 17, 5, causal_attention=True)).segments[0].length == 35
    assert plan_segments(Wanted(121, 121, 17, 5)).segments[0].length == 31


def test_a_segment_that_is_given_whole_needs_no_rows():
    plan = plan_segments(Wanted(65, 37, 17, known=range(10)))
    assert [segment.rows for segment in plan.segments] == [0, 30, 30]


def rows_of(known: list[bool], ar_step: int) -> int:
    """Rows of a clip of five steps that denoise something."""
    stairs = staircase(len(known), 5, ar_step, prefix=known.index(False))
    return sum(end - first for first, end in stairs.busy(known))


def test_a_known_end_saves_the_rows_of_its_block_only():
    assert rows_of([False] * 4, 3) == 5 + 3 * 3
    assert rows_of([False] * 3 + [True], 3) == 5 + 2 * 3
    assert rows_of([False, True, True, False], 9) == 10


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"overlap_history": 97}, "lower overlap_history to 93 or raise base_num_frames to 101"),
        ({"overlap_history": 120, "causal_block_size": 5, "ar_step": 5}, "to 93 or raise base_num_frames to 137"),
        ({"overlap_history": 0}, "overlap_history is 0, but it has to be 1 to 10000"),
        ({"total_frames": 0}, "number of frames is 0"),
        ({"base_num_frames": -3}, "base_num_frames is -3"),
        ({"base_num_frames": 4, "overlap_history": 1}, ": raise base_num_frames to 5"),
        ({"causal_block_size": 0}, "causal_block_size is 0"),
        ({"ar_step": -1}, "ar_step is -1"),
        ({"steps": 0}, "steps is 0"),
        ({"steps": 10**7}, "steps is 10000000, but it has to be 1 to 10000"),
        ({"total_frames": 10**40}, "number of frames is a number of over 15 digits"),
        (
            {"total_frames": 1_000_000, "overlap_history": 93},
            "take 249977 segments of 1 new latent frames, but at most",
        ),
        ({"overlap_history": 49, "loop": True}, "lower overlap_history to 45 or raise base_num_frames to 105"),
        ({"overlap_history": 49, "loop": True}, "49 video frames (13 latent frames at each end of a loop)"),
        ({"total_frames": 255, "loop": True}, "Use 257"),
        ({"total_frames": 5, "loop": True}, "at least 25. Use 25"),
        ({"loop": True, "causal_attention": True}, "turn causal_attention off"),
    ],
)
def test_settings_without_a_plan_are_refused_with_the_nearest_that_work(changes, message):
    arguments = {"total_frames": 257, "base_num_frames": 97, "overlap_history": 17, **changes}
    with pytest.raises(ScheduleError, match=re.escape(message)):
        plan_segments(Wanted(**arguments))


@pytest.mark.parametrize(
    ("total_frames", "counts"),
    [
        (257, [(25, 0), (20, 0), (5, 0), (15, 5)]),  # 65 latent frames; 25 + 20 + 20 would leave no room for the start
        (237, [(25, 0), (20, 0), (15, 5)]),
        (217, [(25, 0), (15, 0), (15, 5)]),
        (97, [(10, 0), (15, 5)]),
        (45, [(6, 0), (6, 5)]),  # the first hands on five and stays behind with one
    ],
)
def test_a_loop_leaves_the_last_segment_as_much_room_as_there_is(total_frames: int, counts: list[tuple[int, int]]):
    plan = plan_segments(Wanted(total_frames, 97, 17, loop=True))
    assert [(segment.new, segment.closing) for segment in plan.segments] == counts


@given(st.integers(0, 1456))
def test_a_video_frame_lies_in_the_segment_that_holds_its_latent_frame(frame):
    plan = plan_segments(Wanted(1457, 97, 17))
    by_frame = [s.index for s in plan.segments if s.frames[0] <= frame < s.frames[1]]
    by_latent = [s.index for s in plan.segments if s.latents[0] <= WAN21.latent_of_frame(frame) < s.latents[1]]
    assert by_frame == by_latent and len(by_frame) == 1


def test_the_table_names_every_segment_and_the_sums():
    plan = plan_segments(Wanted(150, 97, 17, causal_block_size=5, ar_step=5))
    shown = str(table(plan))
    assert len(shown.splitlines()) == 1 + len(plan.segments)
    assert "2: video frames 97-149; 14 new, 5 carried, 1 padding; " in shown
    assert f"{plan.rows * 2} model calls" in shown and plan.trimmed_frames == 3
    assert f"{plan.rows} model calls" in str(table(plan, guided=False))


def test_needs_do_not_grow_with_the_length_but_the_journal_does():
    short, long = (estimate(plan_segments(Wanted(total, 97, 17)), 544, 960) for total in (257, 1457))
    assert (short.tokens, short.sampling, short.pixels) == (long.tokens, long.sampling, long.pixels)
    assert short.tokens == 25 * 34 * 60
    assert long.journal == short.journal * 4 // 2 and long.journal < 15e6  # of 18 the newest two, and two of eight
    # a loop's segments keep its beginning as well, for the last one
    looped = plan_segments(Wanted(257, 97, 17, loop=True))
    assert estimate(looped, 544, 960).journal == 2 * short.journal
