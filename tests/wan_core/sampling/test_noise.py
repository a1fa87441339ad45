"""Seeded noise: the same for a frame however it is drawn, and different for everything else."""

from __future__ import annotations

import torch

from wan_core.sampling.noise import fresh_noise, noise_of_frames

SHAPE = (2, 3, 4, 5, 6)


def test_a_frame_has_its_noise_however_the_video_is_cut():
    whole = noise_of_frames(SHAPE, 7)
    parts = [noise_of_frames((2, 3, 1, 5, 6), 7, first) for first in range(4)]
    assert torch.equal(whole, torch.cat(parts, dim=2))


def test_frames_steps_and_seeds_have_noise_of_their_own():
    drawn = [noise_of_frames(SHAPE, seed, step=step) for seed in (1, 2) for step in range(3)]
    frames = torch.cat(drawn, dim=2).movedim(2, 0).flatten(1)  # [frames of all, values]
    correlation = torch.corrcoef(frames) - torch.eye(len(frames))
    assert correlation.abs().max() < 0.4  # 180 values: a standard deviation of 0.075


def test_what_is_added_between_steps_is_the_noise_of_the_steps():
    fresh = fresh_noise(SHAPE, 7, 4, first_frame=2)
    assert fresh.shape == (3, *SHAPE)
    assert all(torch.equal(fresh[step - 1], noise_of_frames(SHAPE, 7, 2, step)) for step in (1, 2, 3))
    assert fresh_noise(SHAPE, 7, 1).shape == (0, *SHAPE)
