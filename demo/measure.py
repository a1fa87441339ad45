"""What a clip shows, read from its pixels: colour, background, shape, motion. No model is asked.

The picture is a torus, so places are circular means. A shape is the template that covers most of what was found, at its
centre and of its area; a motion is read from the track of the centre. Every threshold was set on rendered clips.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from demo.shapes import BACKGROUNDS, COLOURS, MOTIONS, SHAPES, SIZE, coverage, palette

PRESENT_AREA = (200.0, 1300.0)  # pixels; the drawn shapes have 370 to 620
PRESENT_SHARE = 0.9  # of the frames that must show one shape
SOLID = 0.5  # of a pixel's distance from the background to the colour: it belongs to the shape
SHAPE_FRAMES = 7
STILL_SPEED = 10.0  # pixels per second; the others make 48 and more
STRAIGHT = 0.9  # net way of all the way made
AXIS_ANGLE = math.radians(25)
CIRCLE_ERROR = 0.08  # of the radius, root mean square; the diamond of a bouncing clip has 0.1
CIRCLE_RADIUS = (8.0, 20.0)
CIRCLE_TURN = 0.75  # of the turning that has one sign
NOTHING = "none"


@dataclass(frozen=True)
class Seen:
    """What a clip shows, by the names of demo.shapes, or "none".

    Attributes:
        colour: of the shape.
        background: of the rest.
        shape: best template.
        motion: class of the track.
        centres: float [F, 2], x and y in pixels on the torus; of a frame without a shape, not a number.
    """

    colour: str
    background: str
    shape: str
    motion: str
    centres: Tensor

    def says(self, kind: str) -> str:
        """Return the attribute of a kind: "shape", "colour", "background" or "motion"."""
        return str(getattr(self, kind))


def nearest(colour: Tensor, colours: dict[str, tuple[int, int, int]]) -> str:
    """Return the name of the nearest of some colours; `colour` is float [3], 0..1."""
    return tuple(colours)[int((palette(colours) - colour).norm(dim=1).argmin())]


def foreground(pixels: Tensor) -> tuple[Tensor, str, str]:
    """Find the shape.

    Args:
        pixels: float [F, 64, 64, 3], 0..1.

    Returns:
        How much of every pixel it covers, float [F, 64, 64], its colour's and the background's name.
    """
    back = pixels[::4].flatten(0, 2).median(dim=0).values
    away = (pixels - back).norm(dim=-1)
    far = away > 0.6 * away.flatten(1).quantile(0.97, dim=1)[:, None, None]  # the inside of the shape
    solid = far & (away > 0.15)
    background = nearest(back, BACKGROUNDS)
    if not solid.any():
        return torch.zeros_like(away), NOTHING, background
    colour = pixels[solid].median(dim=0).values
    line = colour - back
    cover = ((pixels - back) @ line / line.square().sum()).clamp(0, 1)
    return torch.where(cover > 0.25, cover, 0.0), nearest(colour, COLOURS), background


def centre_of(cover: Tensor) -> Tensor:
    """Return the centres of masses on the torus, float [F, 2] (x, y), for cover [F, 64, 64]."""
    angle = 2 * math.pi * (torch.arange(SIZE) + 0.5) / SIZE
    found = []
    for weight in (cover.sum(dim=1), cover.sum(dim=2)):  # columns, rows
        sine, cosine = (weight * angle.sin()).sum(dim=1), (weight * angle.cos()).sum(dim=1)
        found.append(torch.atan2(sine, cosine) % (2 * math.pi) * SIZE / (2 * math.pi))
    return torch.stack(found, dim=1)


def template(shape: str, centre: Tensor, area: Tensor) -> Tensor:
    """Return a shape's cover [F, 64, 64] with its centre of mass [F, 2] and area [F] where and as large as given."""
    middle = torch.full((1, 2), SIZE / 2)
    unit = coverage(shape, middle, torch.full((1,), 10.0))
    offset = (centre_of(unit) - middle) / 10
    radius = (area / (unit.sum() / 100)).sqrt()
    return coverage(shape, centre - offset * radius[:, None], radius)


def shape_of(cover: Tensor, centre: Tensor) -> str:
    """Return the shape that fits best over some frames, by the overlap of covers (intersection over union)."""
    picked = torch.linspace(0, len(cover) - 1, min(SHAPE_FRAMES, len(cover))).round().long()
    cover, centre = cover[picked], centre[picked]
    area = cover.sum(dim=(1, 2))
    overlaps = []
    for shape in SHAPES:
        drawn = template(shape, centre, area)
        overlaps.append((torch.minimum(drawn, cover).sum() / torch.maximum(drawn, cover).sum()).item())
    return SHAPES[max(range(len(SHAPES)), key=overlaps.__getitem__)]


def steps_of(centres: Tensor) -> Tensor:
    """Return the way from frame to frame on the torus, float [F - 1, 2]."""
    return (centres.diff(dim=0) + SIZE / 2) % SIZE - SIZE / 2


def motion_of(centres: Tensor, fps: float) -> str:
    """Return the class of a track; centres float [F, 2], F at least 2."""
    steps = steps_of(centres)
    track = torch.cat((torch.zeros(1, 2), steps.cumsum(dim=0)))
    seconds = len(steps) / fps
    ahead = torch.nn.functional.avg_pool1d(track.T[None], 3, 1)[0].T if len(track) > 4 else track
    way = ahead.diff(dim=0).norm(dim=1).sum()  # of the smoothed track: jitter is no way
    if way / seconds < STILL_SPEED:
        return "still"
    net = track[-1]
    if net.norm() > STRAIGHT * way:
        x, y = net.tolist()
        for name, dx, dy in (("left", -1, 0), ("right", 1, 0), ("up", 0, -1), ("down", 0, 1)):
            if math.acos(max(-1.0, min(1.0, (dx * x + dy * y) / math.hypot(x, y)))) < AXIS_ANGLE:
                return name
        return NOTHING
    return "orbit" if is_circle(ahead) else "bounce"


def is_circle(track: Tensor) -> bool:
    """Say whether a track [F, 2] runs on a circle, one way round; the circle is a least-squares fit."""
    ones = torch.ones(len(track), 1)
    solution = torch.linalg.lstsq(torch.cat((2 * track, ones), dim=1), track.square().sum(dim=1, keepdim=True)).solution
    middle = solution[:2, 0]
    radius = (solution[2, 0] + middle.square().sum()).clamp(min=0).sqrt()
    arms = track - middle
    error = (arms.norm(dim=1) - radius).square().mean().sqrt()
    turning = arms[:-1, 0] * arms[1:, 1] - arms[:-1, 1] * arms[1:, 0]
    one_way = turning.sum().abs() / turning.abs().sum().clamp(min=1e-6)
    low, high = CIRCLE_RADIUS
    return bool(error < CIRCLE_ERROR * radius and low < radius < high and one_way > CIRCLE_TURN)


def look(pixels: Tensor, fps: float) -> Seen:
    """Read a clip.

    Args:
        pixels: float [F, 64, 64, 3], 0..1.
        fps: frames per second.
    """
    cover, colour, background = foreground(pixels)
    area = cover.sum(dim=(1, 2))
    present = (area > PRESENT_AREA[0]) & (area < PRESENT_AREA[1])
    centres = centre_of(cover)
    if present.float().mean() < PRESENT_SHARE:
        return Seen(NOTHING, background, NOTHING, NOTHING, torch.where(present[:, None], centres, torch.nan))
    shape = shape_of(cover[present], centres[present])
    motion = motion_of(centres, fps) if len(centres) > 1 else NOTHING
    assert motion in (*MOTIONS, NOTHING)
    return Seen(colour, background, shape, motion, centres)


def psnr(made: Tensor, wanted: Tensor) -> float:
    """Return the peak signal-to-noise ratio in dB of pixels, 0..1."""
    return -10 * math.log10(max(float((made - wanted).square().mean()), 1e-12))
