"""The schedule of diffusion forcing against diffusers' generate_timestep_matrix, and what holds for any schedule."""

from __future__ import annotations

import re

import pytest
import torch
from diffusers import SkyReelsV2DiffusionForcingPipeline
from hypothesis import given, settings
from hypothesis import strategies as st

from wan_core.errors import ScheduleError
from wan_core.sampling.known import leading_known
from wan_core.sampling.run import ForcingOptions, plan_run
from wan_core.sampling.schedule import forcing_schedule, padded_frames
from wan_core.sampling.sigmas import flow_sigmas, noise_levels, timesteps_of


@st.composite
def settings_of_a_clip(draw):
    block = draw(st.integers(1, 6))
    blocks = draw(st.integers(1, 9))
    steps = draw(st.integers(1, 15))
    ar_step = draw(st.integers(1, 18))
    prefix = draw(st.integers(0, blocks * block - 1))
    window = draw(st.one_of(st.none(), st.integers(block, blocks * block)))
    return blocks * block, steps, ar_step, block, prefix, window


def oracle(frames, steps, ar_step, block, prefix, window):
    template = timesteps_of(flow_sigmas(steps))[:-1].long()
    matrix, index, mask, intervals = SkyReelsV2DiffusionForcingPipeline.generate_timestep_matrix(
        None, frames, template, window or frames, ar_step, prefix, block
    )
    return matrix, index, mask, [(int(start), int(end)) for start, end in intervals]


@settings(max_examples=600, deadline=None)
@given(settings_of_a_clip())
def test_the_schedule_equals_diffusers_wherever_it_is_defined(clip):
    frames, steps, ar_step, block, prefix, window = clip
    try:
        matrix, *expected = oracle(*clip)
    except ValueError:
        with pytest.raises(ScheduleError, match="ar_step is"):
            forcing_schedule(frames, steps, ar_step, block, prefix, window)
        return
    index, update, intervals = forcing_schedule(frames, steps, ar_step, block, prefix, window)
    assert torch.equal(index, expected[0])
    assert torch.equal(update, expected[1])
    if window is None or prefix // block <= window // block:  # beyond that diffusers never gets to the new frames
        assert list(intervals) == expected[2]
    levels = noise_levels(flow_sigmas(steps))
    assert torch.equal(timesteps_of(levels)[index].long(), matrix)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 30), st.integers(1, 20), st.integers(0, 29))
def test_the_sync_schedule_equals_diffusers(frames, steps, prefix):
    prefix = min(prefix, frames - 1)
    _, *expected = oracle(frames, steps, 0, 1, prefix, None)
    index, update, intervals = forcing_schedule(frames, steps, 0, 5, prefix)  # in sync the block size need not fit
    assert torch.equal(index, expected[0])
    assert torch.equal(update, expected[1])
    assert list(intervals) == expected[2]


@settings(max_examples=200, deadline=None)
@given(settings_of_a_clip())
def test_every_frame_makes_every_step_once_and_in_order(clip):
    frames, steps, ar_step, block, prefix, _ = clip
    index, update, _ = forcing_schedule(frames, steps, ar_step, block, prefix)
    ready = prefix // block * block
    assert (update.sum(0) == torch.where(torch.arange(frames) < ready, 0, steps)).all()
    for frame in range(ready, frames):
        made = index[update[:, frame], frame]
        assert made.tolist() == list(range(1, steps + 1))
    # an earlier frame is never noisier than a later one, and blocks move together
    assert (index.diff(dim=1) <= 0).all()
    together = index.unflatten(1, (-1, block))
    assert (together == together[:, :, :1]).all()


@settings(max_examples=300, deadline=None)
@given(settings_of_a_clip())
def test_a_frame_is_inside_the_window_whenever_it_makes_a_step(clip):
    frames, _, _, block, _, window = clip
    try:
        _, updates, intervals = forcing_schedule(*clip)
    except ScheduleError:
        return
    width = frames if window is None else window // block * block
    for (start, end), update in zip(intervals, updates, strict=True):
        assert start >= 0 and end <= frames and end - start == width
        assert not update[:start].any() and not update[end:].any()
        assert update[start:end].any()


@settings(max_examples=300, deadline=None)
@given(settings_of_a_clip(), st.booleans())
def test_a_window_too_small_is_refused_with_the_least_ar_step_that_works(clip, sync):
    frames, steps, ar_step, block, prefix, window = clip
    try:
        forcing_schedule(frames, steps, 0 if sync else ar_step, block, prefix, window)
    except ScheduleError as error:
        words = str(error)
        assert f"{steps} steps and a window of {window} latent frames" in words
    else:
        return
    least, fewer = re.search(r"raise ar_step to (\d+)(?: or lower the steps to (\d+))?\.", words).groups()
    forcing_schedule(frames, steps, int(least), block, prefix, window)
    if int(least) > 1:
        with pytest.raises(ScheduleError):
            forcing_schedule(frames, steps, int(least) - 1, block, prefix, window)
    if fewer is not None:
        forcing_schedule(frames, int(fewer), ar_step, block, prefix, window)


@settings(max_examples=100, deadline=None)
@given(settings_of_a_clip(), st.data())
def test_rows_left_out_for_known_frames_change_nothing_else(clip, data):
    frames, steps, ar_step, block, prefix, _ = clip
    known = torch.tensor(data.draw(st.lists(st.booleans(), min_size=frames, max_size=frames)))
    known[: prefix // block * block] = True
    if bool(known.all()):
        return
    index, update, _ = forcing_schedule(frames, steps, ar_step, block, leading_known(known))
    run = plan_run(ForcingOptions(ar_step=ar_step, causal_block_size=block), flow_sigmas(steps), frames, known)
    wanted = (update & ~known).any(dim=1)
    assert len(run.rows) == int(wanted.sum())
    assert torch.equal(run.step_index, index[wanted])
    for frame in torch.nonzero(~known).flatten().tolist():
        assert [row.steps[frame] for row in run.rows if row.steps[frame] is not None] == list(range(steps))


def test_the_authors_async_setting_takes_fifty_rows():
    assert len(forcing_schedule(25, 30, ar_step=5, block=5)[0]) == 50


@pytest.mark.parametrize(("frames", "block", "padded"), [(25, 5, 25), (31, 5, 35), (1, 5, 5), (6, 1, 6)])
def test_frames_are_padded_to_whole_blocks(frames, block, padded):
    assert padded_frames(frames, block) == padded


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((31, 30, 5, 5), "31 latent frames, but .* multiple of the block size 5: use 35"),
        ((25, 30, 2, 5, 0, 10), r"ar_step is 2, .* at least 15: raise ar_step to 15 or lower the steps to 4"),
        ((25, 30, 0, 5, 0, 10), r"ar_step is 0, .* at least 15: raise ar_step to 15\.$"),
        ((25, 30, 5, 5, 0, 4), "window is 4 latent frames, .* at least one block of 5: raise the window to 5"),
        ((25, 30, 5, 5, 0, 0), "window is 0 latent frames"),
        ((25, 0), "steps is 0, but it has to be at least 1"),
        ((0, 5), "num_frames is 0"),
        ((5, 5, -1), "ar_step is -1"),
        ((5, 5, 0, 0), "causal_block_size is 0"),
        ((5, 5, 0, 1, 5), "5 of 5 latent frames are known"),
    ],
)
def test_what_cannot_be_scheduled_is_refused_with_what_would_work(arguments, words):
    with pytest.raises(ScheduleError, match=words):
        forcing_schedule(*arguments)
