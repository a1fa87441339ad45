"""The embedded VAE's latents are linear in the pixels, and say where, which way and how fast things are."""

from __future__ import annotations

import torch

from demo.latents import CELL, CHANGE, COLOUR_CHANNELS, alone, linear_latents
from demo.shapes import SIZE, draw_clips, render

MEANS = slice(0, COLOUR_CHANNELS)


def test_a_mixture_of_clips_has_the_mixture_of_their_latents() -> None:
    first, second = render(draw_clips(3, 1), 9), render(draw_clips(3, 2), 9)
    mixed = linear_latents(0.3 * first + 0.7 * second)
    torch.testing.assert_close(mixed, 0.3 * linear_latents(first) + 0.7 * linear_latents(second), atol=1e-5, rtol=0)


def test_a_plain_picture_has_its_colour_and_nothing_else() -> None:
    colour = torch.tensor([0.9, 0.2, 0.5])
    latents = linear_latents(colour.expand(1, 1, SIZE, SIZE, 3))
    assert latents.shape == (1, 16, 1, SIZE // CELL, SIZE // CELL)
    means = latents[0, MEANS, 0]
    assert (means.flatten(1).std(dim=1) < 1e-5).all()
    torch.testing.assert_close(means[:, 0, 0] / means[0, 0, 0], (2 * colour - 1) / (2 * colour[0] - 1))
    assert latents[:, COLOUR_CHANNELS:].abs().max() < 1e-5


def test_what_moves_by_a_cell_moves_its_latents_by_one() -> None:
    still = render(draw_clips(4, 3), 1)
    moved = linear_latents(still.roll(CELL, dims=3))
    inside = slice(2, -1)
    torch.testing.assert_close(moved[..., inside], linear_latents(still)[..., 1:-2])


def test_only_a_clip_says_what_changes_and_a_picture_alone_is_the_same_otherwise() -> None:
    clip = render(draw_clips(6, 4), 9)
    latents = linear_latents(clip)
    assert latents[:, CHANGE, 1:].abs().amax() > 0.5 and latents[:, CHANGE, 0].abs().max() == 0
    pictures = torch.cat([linear_latents(clip[:, at : at + 1]) for at in (0, 4, 8)], dim=2)
    torch.testing.assert_close(alone(latents), pictures)
