"""Plans from any numbers: whole or refused in words, with a table and a picture that no length makes large."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import torch
from hypothesis import strategies as st

from tests.fuzz.budget import fuzz
from wan_core.errors import SkyReelsError
from wan_core.long.key_frames import GivenImages
from wan_core.long.plan import MOST_SEGMENTS, Wanted
from wan_core.long.plan_text import MOST_LINES, estimate, table
from wan_core.long.schedule_picture import LONGEST_SIDE, schedule_picture
from wan_core.long.segments import plan_segments

SIZES = st.one_of(
    st.integers(-3, 300),
    st.integers(1, 2100).map(lambda number: 4 * number + 1),
    st.integers(0, 10**7),
    st.sampled_from((97, 121, 17, 37, 257, 1457, 8193, 1_000_000, 10**7, 2**31, 2**63, 10**30)),
)
PLANS = st.fixed_dictionaries(
    {
        "total_frames": SIZES,
        "base_num_frames": SIZES,
        "overlap_history": SIZES,
        "causal_block_size": st.one_of(st.integers(-1, 40), SIZES),
        "ar_step": st.one_of(st.integers(-1, 40), SIZES),
        "steps": st.one_of(st.integers(-1, 60), SIZES),
        "causal_attention": st.booleans(),
        "loop": st.booleans(),
        "known": st.sets(st.integers(0, 2000), max_size=30),
    }
)


def check(arguments: dict[str, Any]) -> None:
    """A plan is refused, or finishes each frame once, in windows of whole blocks, and can be shown."""
    try:
        plan = plan_segments(Wanted(**arguments))
    except SkyReelsError as error:
        assert str(error) and "\n" not in str(error)
        return
    assert len(plan.segments) <= MOST_SEGMENTS
    ends = [segment.frames for segment in plan.segments]
    assert ends[0][0] == 0 and ends[-1][1] == plan.total_frames
    assert all(before[1] == after[0] for before, after in pairwise(ends))
    assert all(segment.length % plan.causal_block_size == 0 for segment in plan.segments)
    assert len(str(table(plan)).splitlines()) <= MOST_LINES + 3
    assert estimate(plan, 64, 64).tokens > 0
    if plan.rows:
        picture = schedule_picture(plan, 8.0, tuple(sorted(arguments["known"])))
        assert max(picture.shape[:2]) <= LONGEST_SIDE and math.isfinite(float(picture.sum()))


def test_any_numbers_make_a_plan_or_are_refused() -> None:
    fuzz(check, PLANS)


def test_images_are_placed_apart_or_refused() -> None:
    def check_images(drawn: tuple[int, int | None, bool, list[int]]) -> None:
        total, start, end, frames = drawn
        picture = torch.zeros(1, 1, 1, 3)
        given = None if start is None else picture.expand(start, 1, 1, 3)
        try:
            keys = picture.expand(len(frames), 1, 1, 3) if frames else None
            clips = GivenImages(given, picture if end else None, keys, tuple(frames)).placed(total)
        except SkyReelsError as error:
            assert "\n" not in str(error)
            return
        filled = [at + n for at, clip in clips.items() for n in range((len(clip) - 1) // 4 + 1)]
        assert len(set(filled)) == len(filled) and all(0 <= at <= -(-(total - 1) // 4) for at in filled)
        assert len(clips) == len(frames) + (start is not None) + end

    starts = st.one_of(st.none(), st.integers(1, 60))
    fuzz(
        check_images,
        st.tuples(st.integers(1, 200), starts, st.booleans(), st.lists(st.integers(-210, 210), max_size=6)),
    )
