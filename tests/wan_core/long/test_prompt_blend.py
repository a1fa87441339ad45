"""Weights of blended prompts against a walk through the video, one latent frame and one change at a time."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wan_core.long.prompt_blend import prompt_weights
from wan_core.long.segments import Plan, plan_segments

PLAN = plan_segments(117, 37, 17, steps=3)  # latent frames 0..9, then 5 in each of four segments


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
        weights = prompt_weights(PLAN, conditions, segment, blend)
        torch.testing.assert_close(sum(weights.values()), torch.ones(segment.length))
        for frame in range(*segment.latents):
            for prompt in range(3):
                got = weights[prompt][frame - segment.start].item() if prompt in weights else 0.0
                assert got == pytest.approx(expected[frame].get(prompt, 0.0), abs=1e-6)


def test_a_change_grows_behind_the_overlap_in_equal_steps():
    weights = prompt_weights(PLAN, (0, 1, 1, 1, 1), PLAN.segments[1], 3)
    assert list(weights) == [1, 0]
    assert weights[1][PLAN.overlap :].tolist() == [0.25, 0.5, 0.75, 1.0, 1.0]


def test_prompts_that_count_nowhere_are_left_out():
    assert list(prompt_weights(PLAN, (0, 1, 1, 1, 1), PLAN.segments[2], 5)) == [1]
    assert list(prompt_weights(PLAN, (0, 1, 1, 1, 1), PLAN.segments[2], 6)) == [1, 0]  # one frame longer
    assert list(prompt_weights(PLAN, (0, 1, 0, 1, 2), PLAN.segments[4], 0)) == [2]
    assert list(prompt_weights(PLAN, (0,) * 5, PLAN.segments[3], 4)) == [0]
