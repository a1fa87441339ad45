"""Which frames a call computes: known from the schedule alone, and none goes further than the distance."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from wan_core.errors import InputError, ScheduleError
from wan_core.sampling.reuse import DISTANCES, EARLY, ROUNDING, Ages, Report, Way, change, distance_of, expected
from wan_core.sampling.run import ForcingOptions, Row, plan_run
from wan_core.sampling.sigmas import flow_sigmas

BLOCK = 2


def rows_of(ar_step: int, steps: int = 14, frames: int = 6, window: int = 0) -> tuple[Row, ...]:
    options = ForcingOptions(ar_step=ar_step, causal_block_size=BLOCK, window_frames=window)
    return plan_run(options, flow_sigmas(steps, 8), frames).rows


def computed(rows: tuple[Row, ...], way: Way) -> list[list[int]]:
    """The frames that every row computes."""
    ages, found = Ages(), []
    for row in rows:
        ages.look(row, way.causal)
        frames = ages.due(way)
        ages.computed(frames)
        found.append(list(frames))
    return found


def test_the_change_of_a_video_rises_from_none_at_pure_noise_to_all_at_the_end() -> None:
    places = change(torch.linspace(1, 0, 201).tolist())
    assert places[0] == 0 and places[-1] == 1 and (places.diff() > 0).all()


@pytest.mark.parametrize("way", [Way(0.0), Way(0.0, causal=True), Way(0.0, apart=True), Way(0.0, True, True)], ids=str)
@pytest.mark.parametrize("ar_step", [0, 2])
def test_at_distance_0_every_frame_at_work_is_computed_in_every_row(ar_step: int, way: Way) -> None:
    for row, frames in zip(rows_of(ar_step), computed(rows_of(ar_step), way), strict=True):
        assert {at for at, step in enumerate(row.steps) if step is not None} <= set(frames)


@given(
    st.integers(2, 40), st.integers(0, 6), st.integers(1, 5), st.sampled_from([0, 4]), st.floats(0.01, 0.6),
    st.booleans(), st.booleans(),
)  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_no_frame_at_work_goes_further_than_the_distance(
    steps: int, ar_step: int, blocks: int, window: int, distance: float, causal: bool, apart: bool
) -> None:
    try:
        rows = rows_of(ar_step, steps, blocks * BLOCK, window)
    except ScheduleError:  # such a clip cannot be planned
        assume(False)
    way = Way(distance, causal, apart)
    since: dict[int, float] = {}  # frame of the clip -> how far it has come since it was computed
    before: dict[int, float] = {}
    for row, frames in zip(rows, computed(rows, way), strict=True):
        places = change(row.sigmas).tolist()
        for at, step in enumerate(row.steps):
            frame = row.start + at
            since[frame] = since.get(frame, math.inf) + abs(places[at] - before.get(frame, math.inf))
            before[frame] = places[at]
            if at in frames:
                since[frame] = 0.0
            elif step is not None:
                assert since[frame] < distance
                assert step not in (0, steps - 1)


@given(st.integers(2, 30), st.integers(1, 6), st.floats(0.01, 0.3))
@settings(max_examples=60, deadline=None)
def test_causal_calls_compute_nothing_that_has_not_begun(steps: int, ar_step: int, distance: float) -> None:
    assume(ar_step < steps)
    rows = rows_of(ar_step, steps)
    for row, apart, prefix in zip(
        rows, computed(rows, Way(distance, True, True)), computed(rows, Way(distance, True)), strict=True
    ):
        level = max(sigma for sigma, step in zip(row.sigmas, row.steps, strict=True) if step is not None)
        assert all(row.steps[at] is not None or row.sigmas[at] < level for at in apart)
        assert prefix == list(range(len(prefix)))


def test_the_second_answer_comes_early_since_one_alone_shows_no_direction() -> None:
    rows = rows_of(0, steps=50)
    made = [n for n, frames in enumerate(computed(rows, Way(0.2))) if frames]
    first, second, third = (change(rows[n].sigmas)[0].item() for n in made[:3])
    assert 0.2 * EARLY <= second - first < 0.2 <= third - second


def test_whole_calls_compute_all_or_nothing() -> None:
    found = computed(rows_of(3, steps=30), Way(0.1))
    assert {len(frames) for frames in found} == {0, 6}


def test_blocks_are_left_out_one_by_one_where_the_model_can() -> None:
    found = computed(rows_of(5, steps=30), Way(0.2, apart=True))
    assert any(0 < len(frames) < 6 and frames[0] > 0 for frames in found)
    assert sum(map(len, found)) < sum(map(len, computed(rows_of(5, steps=30), Way(0.2))))


def test_what_waits_and_what_is_finished_is_looked_at_again_now_and_then() -> None:
    rows = rows_of(10, steps=30)
    found = computed(rows, Way(0.1, apart=True))
    times = {"working": 0, "waiting": 0, "finished": 0}
    could = dict(times)
    for row, frames in zip(rows, found, strict=True):
        for at, step in enumerate(row.steps):
            kind = "working" if step is not None else "finished" if at < row.finished else "waiting"
            could[kind] += 1
            times[kind] += at in frames
    working, waiting, finished = (times[kind] / could[kind] for kind in times)
    assert 0 < finished < working / 2 and 0 < waiting <= working < 0.5


def test_frames_that_a_window_comes_to_are_computed_at_once() -> None:
    rows = rows_of(3, steps=12, frames=16, window=8)
    found = computed(rows, Way(0.5))
    moved = [n for n, (a, b) in enumerate(pairwise(rows), 1) if a.start != b.start]
    assert moved and all(found[n] == list(range(8)) for n in (0, *moved))


def test_a_row_that_is_looked_at_twice_counts_once() -> None:
    ages, rows = Ages(), rows_of(0)
    assert ages.look(rows[0], False)
    ages.computed(range(6))
    assert not ages.look(rows[1], False)
    far = ages.ages.clone()
    assert not ages.look(rows[1], False) and torch.equal(ages.ages, far) and (far > 0).all()


@pytest.mark.parametrize("conditions", [1, 2])
def test_the_report_counts_frames_and_calls(conditions: int) -> None:
    rows, way = rows_of(0, steps=20), Way(0.2)
    found = computed(rows, way)
    report = expected(rows, way, conditions)
    assert report == Report(
        frames=conditions * 20 * 6,
        computed=conditions * sum(map(len, found)),
        calls=conditions * 20,
        skipped=conditions * found.count([]),
    )
    assert 0 < report.skipped < report.calls
    sentence = str(report.sentence())
    assert f"{report.computed} of {report.frames}" in sentence and f"{report.skipped} of {report.calls}" in sentence


def test_a_greater_distance_is_less_work() -> None:
    rows = rows_of(5, steps=50, frames=6)
    work = [expected(rows, Way(distance, apart=True)).computed for distance in (0.0, *sorted(DISTANCES.values()))]
    assert all(less < more for more, less in pairwise(work))


def test_thresholds_of_saved_workflows_stand_for_distances() -> None:
    assert distance_of(0.0) == 0 and distance_of(0.1) == DISTANCES["lossless-like"]
    distances = [distance_of(threshold) for threshold in (0.01, 0.1, 0.3, 2.0)]
    assert all(b > a + ROUNDING for a, b in pairwise(distances))


@pytest.mark.parametrize("threshold", [-0.1, math.nan, math.inf])
def test_a_threshold_that_means_nothing_is_refused(threshold: float) -> None:
    with pytest.raises(InputError, match="has to be 0 or more"):
        distance_of(threshold)


def test_a_clip_of_one_noise_level_has_no_frames_of_its_own() -> None:
    row = replace(rows_of(0)[0], sigmas=(0.5,) * 6)
    ages = Ages()
    ages.look(row, False)
    assert list(ages.due(Way(0.1, apart=True))) == list(range(6))
