"""Sigmas and timesteps against the numbers of the SkyReels-V2 release."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import UniPCMultistepScheduler
from hypothesis import given, settings
from hypothesis import strategies as st

from wan_core.errors import ScheduleError
from wan_core.sampling.run import ForcingOptions, plan_run
from wan_core.sampling.sigmas import (
    exact_timesteps,
    flow_sigmas,
    noise_levels,
    parse_timesteps,
    row_sigmas,
    timesteps_of,
    warped_sigmas,
)

# read off the release's FlowUniPCMultistepScheduler
RELEASE = {
    (5, 8.0): ([0.999874890, 0.969549894, 0.922899246, 0.841883481, 0.666388750, 0.0], [999, 969, 922, 841, 666]),
    (4, 1.0): ([0.999000013, 0.749249995, 0.499500006, 0.249750003, 0.0], [999, 749, 499, 249]),
    (3, 5.0): ([0.999799848, 0.908842802, 0.713979423, 0.0], [999, 908, 713]),
}


@pytest.mark.parametrize("setting", RELEASE)
def test_sigmas_and_timesteps_are_those_of_the_release(setting):
    steps, shift = setting
    sigmas, timesteps = RELEASE[setting]
    got = flow_sigmas(steps, shift)
    np.testing.assert_allclose(got.numpy(), np.array(sigmas, np.float32), rtol=1e-6)
    assert timesteps_of(got)[:-1].tolist() == timesteps


@given(st.integers(1, 60), st.floats(1.0, 12.0))
def test_sigmas_fall_from_nearly_one_to_zero(steps, shift):
    sigmas = flow_sigmas(steps, shift)
    assert len(sigmas) == steps + 1 and sigmas[0] >= 0.9989 and sigmas[-1] == 0
    assert (sigmas.diff() < 0).all()


@given(st.integers(0, 1000))
def test_whole_thousandths_are_their_own_timestep(thousandth):
    assert timesteps_of(torch.tensor([thousandth / 1000]))[0] == thousandth


@given(st.floats(0.0, 0.99995))
def test_timesteps_are_cut_as_the_release_cuts_them(sigma):
    exact = np.float32(sigma).astype(np.float64) * 1000
    got = timesteps_of(torch.tensor([sigma])).item()
    assert got in (np.floor(exact), np.floor(exact + 2e-4))


def test_timesteps_equal_those_of_diffusers_scheduler():
    for steps in (1, 2, 7, 30, 50):
        scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=8.0)
        scheduler.set_timesteps(steps)
        assert timesteps_of(scheduler.sigmas)[:-1].tolist() == scheduler.timesteps.tolist()


def test_noise_levels_name_the_frames_that_have_not_begun_and_that_are_finished():
    levels = noise_levels(flow_sigmas(3))
    assert timesteps_of(levels).tolist() == [999, 999, 941, 799, 0]


def test_a_schedule_that_begins_below_full_noise_keeps_waiting_frames_at_its_first_level():
    assert noise_levels(torch.tensor([0.6, 0.3, 0.0]))[0] == pytest.approx(0.6)


def test_row_sigmas_are_the_mean_over_the_frames_that_are_made():
    index = torch.tensor([[3, 1, 0], [4, 2, 1]])
    sigmas = torch.tensor([0.9, 0.6, 0.3, 0.0])
    assert row_sigmas(sigmas, index).tolist() == pytest.approx([(0.3 + 0.9 + 0.9) / 3, (0.0 + 0.6 + 0.9) / 3])
    known = torch.tensor([False, False, True])
    assert row_sigmas(sigmas, index, known).tolist() == pytest.approx([0.6, 0.3])


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 12), st.integers(0, 14), st.integers(1, 4), st.floats(1, 12), st.lists(st.booleans(), min_size=8))
def test_row_sigmas_fall_from_row_to_row_whatever_is_known(steps, ar_step, block, shift, known):
    known = torch.tensor((known + [False] * 4)[: len(known) // 4 * 4])  # whole blocks of 1, 2 and 4
    block = 1 if block == 3 else block
    options = ForcingOptions(ar_step=ar_step, causal_block_size=block)
    run = plan_run(options, flow_sigmas(steps, shift), len(known), known)
    assert (run.call_sigmas.diff() < 0).all()


@pytest.mark.parametrize(
    ("steps", "shift", "words"), [(0, 8.0, "steps is 0"), (5, 0.0, "shift is 0.0"), (5, -1.0, "shift is -1")]
)
def test_impossible_settings_are_refused(steps, shift, words):
    with pytest.raises(ScheduleError, match=words):
        flow_sigmas(steps, shift)


def test_a_warped_list_has_the_timesteps_that_self_forcing_was_distilled_with():
    sigmas = warped_sigmas((1000, 750, 500, 250), 5.0)
    # its scheduler: 1000 sigmas from 1 down, shifted; the list picks every 250th
    table = torch.linspace(1, 0, 1001, dtype=torch.float64)[:-1]
    table = 5 * table / (1 + 4 * table)
    expected = [float(table[1000 - t]) * 1000 for t in (1000, 750, 500, 250)]
    assert exact_timesteps(sigmas).tolist() == pytest.approx([*expected, 0.0], rel=1e-6)
    assert expected[1] == pytest.approx(937.5)


def test_with_shift_1_a_list_is_taken_as_it_is():
    assert exact_timesteps(warped_sigmas((1000, 757, 522), 1.0)).tolist() == pytest.approx([1000, 757, 522, 0])


@pytest.mark.parametrize("text", ["1000, 750, 500, 250", "1000 750 500 250", "1000\uff0c750,500 , 250, 0"])
def test_a_list_of_timesteps_is_read(text):
    assert parse_timesteps(text) == (1000, 750, 500, 250)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"), ("0", "is empty"), ("four", "numbers separated by commas"), ("1001, 500", "at most 1000"),
        ("500, -1", "above 0"), ("500, 500", "have to fall"), ("250, 500", "have to fall"), ("nan", "above 0"),
    ],
)  # fmt: skip
def test_a_list_that_is_no_timesteps_is_refused(text, words):
    with pytest.raises(ScheduleError, match=words):
        parse_timesteps(text)


def test_a_warped_list_needs_a_shift_above_0():
    with pytest.raises(ScheduleError, match="shift is 0"):
        warped_sigmas((1000,), 0)
