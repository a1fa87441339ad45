"""Weights of blended prompts against a walk through the video, one latent frame and one change at a time."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wan_core.long.plan import Plan, Wanted
from wan_core.long.prompt_blend import prompt_weights
from wan_core.long.segments import plan_segments

PLAN = plan_segments(Wanted(117, 37, 17, steps=3))  # latent frames 0..9, then 5 in each of four segments
STARTS = [first for first, _ in PLAN.places]


def frames_of(number: int) -> torch.Tensor:
    return torch.arange(*PLAN.segments[number].latents)


def walked(plan: Plan, conditions: tuple[int, ...], blend: int) -> list[dict[int, float]]:
    """The share of every prompt in every latent frame: each change pulls all that came before it down."""
    shares: list[dict[int, float]] = [{conditions[0]: 1.0} for _ in range(plan.latent_frames)]
    for before, segment in zip(plan.segments, plan.segments[1:], strict=False):
        old, new, begin = conditions[before.index], conditions[segment.index], segment.latents[0]
        if old == new:
            continue
        for frame in range(begin, plan.latent_frames):
            taken = min((frame - begin + 1) / (blend + 1), 1.0)
            mixed = {prompt: share * (1 - taken) for prompt, share in shares[frame].items()}
            mixed[new] = mixed.get(new, 0.0) + taken
            shares[frame] = mixed
    return shares


@settings(deadline=None)
@given(st.tuples(*[st.integers(0, 2)] * 5), st.integers(0, 14))
def test_every_new_frame_has_the_shares_of_a_walk_through_the_video(conditions, blend):
    expected = walked(PLAN, conditions, blend)
    for segment in PLAN.segments:
        weights = prompt_weights(STARTS, conditions, frames_of(segment.index), blend)
        torch.testing.assert_close(sum(weights.values()), torch.ones(segment.new))
        for at, frame in enumerate(range(*segment.latents)):
            for prompt in range(3):
                got = weights[prompt][at].item() if prompt in weights else 0.0
                assert got == pytest.approx(expected[frame].get(prompt, 0.0), abs=1e-6)


@settings(deadline=None)
@given(st.tuples(*[st.integers(0, 2)] * 5), st.integers(0, 14))
def test_frames_of_several_places_have_the_shares_that_each_has_by_itself(conditions, blend):
    whole = prompt_weights(STARTS, conditions, torch.arange(PLAN.latent_frames), blend)
    for number, segment in enumerate(PLAN.segments):
        alone = prompt_weights(STARTS, conditions, frames_of(number), blend)
        for prompt in range(3):
            part = whole.get(prompt, torch.zeros(PLAN.latent_frames))[slice(*segment.latents)]
            torch.testing.assert_close(alone.get(prompt, torch.zeros(segment.new)), part)


def test_a_change_grows_behind_the_overlap_in_equal_steps():
    weights = prompt_weights(STARTS, (0, 1, 1, 1, 1), frames_of(1), 3)
    assert list(weights) == [1, 0]
    assert weights[1].tolist() == [0.25, 0.5, 0.75, 1.0, 1.0]


def test_prompts_that_count_nowhere_are_left_out():
    assert list(prompt_weights(STARTS, (0, 1, 1, 1, 1), frames_of(2), 5)) == [1]
    assert list(prompt_weights(STARTS, (0, 1, 1, 1, 1), frames_of(2), 6)) == [1, 0]  # one frame longer
    assert list(prompt_weights(STARTS, (0, 1, 0, 1, 2), frames_of(4), 0)) == [2]
    assert list(prompt_weights(STARTS, (0,) * 5, frames_of(3), 4)) == [0]
