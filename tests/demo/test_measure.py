"""The measure that the embedded models are judged by is itself judged: on clips whose truth is known."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from demo.measure import NOTHING, look, motion_of, psnr, template
from demo.shapes import FPS, MOTIONS, SHAPES, Clips, centres, draw_clips, render

CLIPS = 60


@pytest.fixture(scope="module")
def clips() -> Clips:
    return draw_clips(CLIPS, 4242)


def test_it_reads_rendered_clips_without_a_mistake(clips: Clips) -> None:
    for row in range(CLIPS):
        seen = look(render(clips[slice(row, row + 1)], 37)[0], int(clips.fps[row]))
        assert {kind: seen.says(kind) for kind in clips.words(row)} == clips.words(row)


def test_it_reads_clips_with_soft_edges_and_noise(clips: Clips) -> None:
    right = 0
    generator = torch.Generator().manual_seed(0)
    for row in range(CLIPS):
        pixels = render(clips[slice(row, row + 1)], 37)[0]
        soft = torch.nn.functional.avg_pool2d(pixels.permute(0, 3, 1, 2), 3, 1, 1, count_include_pad=False)
        noisy = soft.permute(0, 2, 3, 1) + 0.03 * torch.randn(pixels.shape, generator=generator)
        seen = look(noisy.clamp(0, 1), int(clips.fps[row]))
        right += sum(seen.says(kind) == name for kind, name in clips.words(row).items())
    assert right >= 0.97 * 4 * CLIPS


def test_it_does_not_see_what_is_not_there() -> None:
    empty = look(torch.full((9, 64, 64, 3), 0.5), 24)
    assert (empty.shape, empty.colour, empty.motion) == (NOTHING, NOTHING, NOTHING)
    noise = look(torch.rand(9, 64, 64, 3, generator=torch.Generator().manual_seed(0)), 24)
    assert noise.shape == NOTHING


def test_a_clip_that_loses_its_shape_half_way_shows_none(clips: Clips) -> None:
    pixels = render(clips[slice(0, 1)], 37)[0]
    pixels[20:] = pixels[0, 0, 0]
    assert look(pixels, 24).shape == NOTHING


@pytest.mark.parametrize("fps", FPS)
@pytest.mark.parametrize("motion", MOTIONS)
def test_a_motion_is_told_from_the_track_alone(motion: str, fps: int) -> None:
    drawn = draw_clips(400, 99)
    drawn = drawn[drawn.motion == MOTIONS.index(motion)]
    drawn = replace(drawn, fps=torch.full((len(drawn),), fps))
    told = [motion_of(track, fps) for track in centres(drawn, 37)]
    assert told.count(motion) >= 0.95 * len(told)


def test_a_shape_that_moves_askew_is_no_straight_motion() -> None:
    time = torch.arange(49.0)
    assert motion_of(torch.stack((time * 2, time * 2), dim=1) % 64, 24) == NOTHING


@pytest.mark.parametrize("shape", SHAPES)
def test_a_template_lies_where_it_was_asked_to(shape: str) -> None:
    cover = template(shape, torch.tensor([[5.0, 60.0]]), torch.tensor([400.0]))
    assert cover.sum() == pytest.approx(400, rel=0.03)
    assert cover[0, 60, 5] == 1 and cover[0, 32, 32] == 0


def test_psnr_is_that_of_the_mean_square_error() -> None:
    assert psnr(torch.zeros(4), torch.full((4,), 0.1)) == pytest.approx(20)
