"""Procedural clips of one moving shape: what the embedded model is trained on and judged by. It knows no words.

A clip is a shape in a colour on a plain background with one motion, at 16 or 24 frames per second. The picture is a
torus for the four straight motions: what leaves on one side comes back on the other, so a clip may be of any length.
Everything that happens follows from a seed, and the truth (place, colour, shape, motion) is known for every frame.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

SIZE = 64  # pixels, both ways
FPS = (16, 24)
SHAPES = ("circle", "square", "triangle", "star")
MOTIONS = ("still", "left", "right", "up", "down", "bounce", "orbit")
WAYS = torch.tensor([[0, 0], [-1, 0], [1, 0], [0, -1], [0, 1], [0, 0], [0, 0]])  # of the motions
PLAIN_MOTIONS = 5  # the first of MOTIONS: a place and a velocity say all about them
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (222, 44, 44),
    "green": (40, 164, 60),
    "blue": (48, 76, 220),
    "yellow": (242, 206, 36),
    "purple": (148, 56, 188),
    "cyan": (44, 200, 216),
}
BACKGROUNDS: dict[str, tuple[int, int, int]] = {
    "black": (16, 16, 20),
    "white": (240, 240, 240),
    "grey": (124, 124, 124),
}

# places lie on a grid, and in the time of a latent frame most motions go a whole number of its steps: so a tiny
# transformer sees few sights of a shape, and has the capacity to learn all of them
GRID = 4  # pixels
RADIUS = 13.25  # pixels, of the circle; the other shapes have about its area
MARGIN = 18  # no shape reaches further from its centre; it lies on the grid
STRAIGHT_SPEED = 48.0  # pixels per second
BOUNCE_SPEED = (48.0, 36.0)  # pixels per second, along the faster and the slower axis
ORBIT_RADIUS = 11.5
ORBIT_PLACES = 16  # on the circle
ORBIT_SPEED = 1.5 * math.pi  # radians per second; a latent frame is 2 places at 24 frames per second, and 3 at 16
SURGES = (-24, -16, -8, -4, 4, 8, 16, 24, 32, 40)  # pixels; small ones too, since a loop is seldom far off
EVEN_PACE = torch.tensor([0.0, 0.0, 1.0])  # no surge
SURGE_SECONDS = 1.4  # at most
# pixels per second that a surge takes away and adds, at most, in its middle; no shape turns back, and half the torus is
# made up for within a second
SLOWING, HASTENING = 0.9 * STRAIGHT_SPEED, 80.0
TURN_FRAMES = tuple(range(4, 24, 4))  # last of a latent frame, the second to the sixth
NO_TURN = torch.tensor([0.0, 0.0, -1.0])
STAR_INNER = 0.5  # inner radius of the star, of its outer one


def star_corners() -> list[tuple[float, float]]:
    """Return the ten corners of a five-pointed star, point up, circumradius 1."""
    turns = [(1.0 if corner % 2 == 0 else STAR_INNER, math.pi * corner / 5) for corner in range(10)]
    return [(length * math.sin(angle), -length * math.cos(angle)) for length, angle in turns]


# corners in units of the clip's radius, x to the right and y down; sized so that all areas are near the circle's
CORNERS: dict[str, list[tuple[float, float]]] = {
    "square": [(-0.88, -0.88), (0.88, -0.88), (0.88, 0.88), (-0.88, 0.88)],
    "triangle": [(0.0, -1.1), (1.2, 0.9), (-1.2, 0.9)],
    "star": [(1.36 * x, 1.36 * y + 0.08) for x, y in star_corners()],
}


@dataclass(frozen=True)
class Clips:
    """A batch of B clips; indices point into the tuples above.

    Attributes:
        shape: int64 [B], into SHAPES.
        colour: int64 [B], into COLOURS.
        background: int64 [B], into BACKGROUNDS.
        motion: int64 [B], into MOTIONS.
        fps: int64 [B], frames per second.
        radius: float [B], pixels.
        start: float [B, 2], x and y of the centre (of the orbit's centre) in pixels at second 0.
        velocity: float [B, 2], pixels per second.
        orbit: float [B, 3], radius in pixels, radians at second 0, radians per second; radius 0 without an orbit.
        surge: float [B, 3], pixels that the shape gets ahead of an even pace, the second when this begins, the seconds
            it takes; 0 pixels with an even pace.
        turn: float [B, 3], velocity in pixels per second before the shape took up this motion, and the second when it
            did; below 0 where it had it from the first.
    """

    shape: Tensor
    colour: Tensor
    background: Tensor
    motion: Tensor
    fps: Tensor
    radius: Tensor
    start: Tensor
    velocity: Tensor
    orbit: Tensor
    surge: Tensor
    turn: Tensor

    def __len__(self) -> int:
        return len(self.shape)

    def __getitem__(self, rows: slice | Tensor) -> Clips:
        """Return some of the clips."""
        return Clips(*(getattr(self, field.name)[rows] for field in fields(self)))

    def words(self, row: int) -> dict[str, str]:
        """Return the attributes of one clip by name."""
        return {
            "shape": SHAPES[int(self.shape[row])],
            "colour": tuple(COLOURS)[int(self.colour[row])],
            "background": tuple(BACKGROUNDS)[int(self.background[row])],
            "motion": MOTIONS[int(self.motion[row])],
        }


def draw_clips(count: int, seed: int) -> Clips:
    """Draw clips at random.

    Args:
        count: number of clips.
        seed: 0 or more; the same seed gives the same clips.
    """
    generator = torch.Generator().manual_seed(seed)

    def choose(options: int) -> Tensor:
        return torch.randint(options, (count,), generator=generator)

    motion = choose(len(MOTIONS))
    signs = torch.stack((choose(2), choose(2)), dim=1) * 2 - 1  # [B, 2]
    bounce = torch.tensor([BOUNCE_SPEED, BOUNCE_SPEED[::-1]])[choose(2)] * signs
    bouncing, orbiting = motion == MOTIONS.index("bounce"), motion == MOTIONS.index("orbit")

    steps, first = SIZE // GRID, MARGIN % GRID
    anywhere = first + GRID * torch.stack((choose(steps), choose(steps)), dim=1)  # [B, 2]
    inside = MARGIN + (anywhere - first) % (SIZE - 2 * MARGIN + GRID)
    start = torch.where(WAYS[motion] != 0, anywhere, inside)
    angle = 2 * math.pi / ORBIT_PLACES * choose(ORBIT_PLACES)
    orbit = torch.stack((torch.full((count,), ORBIT_RADIUS), angle, ORBIT_SPEED * signs[:, 0]), dim=1)
    return Clips(
        shape=choose(len(SHAPES)),
        colour=choose(len(COLOURS)),
        background=choose(len(BACKGROUNDS)),
        motion=motion,
        fps=torch.tensor(FPS)[choose(len(FPS))],
        radius=torch.full((count,), RADIUS),
        start=torch.where(orbiting[:, None], SIZE / 2, start.float()),
        velocity=torch.where(bouncing[:, None], bounce, WAYS[motion] * STRAIGHT_SPEED),
        orbit=orbit * orbiting[:, None],
        surge=EVEN_PACE.repeat(count, 1),
        turn=NO_TURN.repeat(count, 1),
    )


def with_surges(clips: Clips, share: float, seconds: float, seed: int) -> Clips:
    """Let some of the straight motions change their pace once, smoothly, without turning back.

    A video that has to end where something is given - the start of a loop - can only get there so. All of it is in the
    clip: at its ends the pace is even.

    Args:
        clips: B clips.
        share: of the straight motions.
        seconds: length of the clips, SURGE_SECONDS or more.
        seed: 0 or more.
    """
    generator = torch.Generator().manual_seed(seed)
    chance, long, when = torch.rand(3, len(clips), generator=generator)
    far = torch.tensor(SURGES)[torch.randint(len(SURGES), (len(clips),), generator=generator)]
    shortest = 1.5 * torch.where(far < 0, -far / SLOWING, far / HASTENING)  # 1.5: of the pace's curve in its middle
    lasts = shortest + (SURGE_SECONDS - shortest) * long**2  # often as short as can be: a loop leaves it little room
    surge = torch.stack((far, (seconds - lasts) * when, lasts), dim=1)
    straight = (clips.motion >= MOTIONS.index("left")) & (clips.motion <= MOTIONS.index("down"))
    return replace(clips, surge=torch.where((straight & (chance < share))[:, None], surge, clips.surge))


def with_turns(clips: Clips, share: float, seed: int) -> Clips:
    """Let some of the shapes that stand still or go straight begin with another such motion.

    A long video whose prompt changes goes on from frames that show what the former prompt asked for.

    Args:
        clips: B clips.
        share: of the clips with such motions.
        seed: 0 or more.
    """
    generator = torch.Generator().manual_seed(seed)
    count = len(clips)
    other = torch.randint(1, PLAIN_MOTIONS, (count,), generator=generator)
    before = WAYS[(clips.motion + other) % PLAIN_MOTIONS] * STRAIGHT_SPEED  # of any of the others
    when = torch.tensor(TURN_FRAMES)[torch.randint(len(TURN_FRAMES), (count,), generator=generator)] / clips.fps
    turns = (clips.motion < PLAIN_MOTIONS) & (torch.rand(count, generator=generator) < share)
    turn = torch.cat((before, when[:, None]), dim=1)
    return replace(
        clips,
        turn=torch.where(turns[:, None], turn, clips.turn),
        surge=torch.where(turns[:, None], EVEN_PACE, clips.surge),
    )


def centres(clips: Clips, frames: int, first: int = 0) -> Tensor:
    """Return where the shapes are.

    Args:
        clips: B clips.
        frames: number of video frames.
        first: number of the first of them.

    Returns:
        float [B, frames, 2], x and y in pixels, 0..64.
    """
    seconds = (torch.arange(first, first + frames) / clips.fps[:, None]).unsqueeze(-1)  # [B, frames, 1]
    ahead, begins, lasts = clips.surge[:, None].unbind(-1)  # each [B, 1]
    part = ((seconds[..., 0] - begins) / lasts).clamp(0, 1)
    pace = torch.nn.functional.normalize(clips.velocity, dim=1)[:, None] * (ahead * part**2 * (3 - 2 * part))[..., None]
    place = clips.start[:, None] + clips.velocity[:, None] * seconds + pace
    before, turns = clips.turn[:, None].split((2, 1), dim=-1)
    place = place + (clips.velocity[:, None] - before) * (turns - seconds).clamp(min=0)
    radius, phase, speed = clips.orbit[:, None].unbind(-1)  # each [B, 1]
    angle = phase + speed * seconds[..., 0]
    place = place + radius[..., None] * torch.stack((angle.cos(), angle.sin()), dim=-1)
    # bouncing is going straight on a line that is folded at the walls
    span = SIZE - 2 * MARGIN
    folded = MARGIN + span - ((place - MARGIN) % (2 * span) - span).abs()
    bounces = (clips.motion == MOTIONS.index("bounce"))[:, None, None]
    return torch.where(bounces, folded, place % SIZE)


def polygon_distance(points: Tensor, corners: list[tuple[float, float]]) -> Tensor:
    """Return the distance of points [..., 2] to a polygon's edge, negative inside, in the same unit; [...]."""
    x, y = points.unbind(-1)
    nearest = torch.full_like(x, torch.inf)
    inside = torch.zeros_like(x, dtype=torch.bool)
    for (ax, ay), (bx, by) in zip(corners, corners[1:] + corners[:1], strict=True):
        ex, ey = bx - ax, by - ay
        along = (((x - ax) * ex + (y - ay) * ey) / (ex * ex + ey * ey)).clamp(0, 1)
        nearest = torch.minimum(nearest, (x - ax - along * ex) ** 2 + (y - ay - along * ey) ** 2)
        if ey != 0:  # an edge is crossed by the ray to the right of the point
            crosses = (y >= min(ay, by)) & (y < max(ay, by)) & (x < ax + (y - ay) * ex / ey)
            inside = inside ^ crosses
    return torch.where(inside, -nearest.sqrt(), nearest.sqrt())


def coverage(shape: str, centre: Tensor, radius: Tensor) -> Tensor:
    """Return how much of every pixel a shape covers, antialiased.

    Args:
        shape: one of SHAPES.
        centre: float [..., 2] in pixels.
        radius: float [...] in pixels.

    Returns:
        float [..., 64, 64], 0..1.
    """
    pixel = torch.arange(SIZE, device=centre.device) + 0.5
    y, x = torch.meshgrid(pixel, pixel, indexing="ij")
    offset = torch.stack((x, y), dim=-1) - centre[..., None, None, :]
    offset = (offset + SIZE / 2) % SIZE - SIZE / 2  # the nearest image on the torus
    scale = radius[..., None, None]
    if shape == "circle":
        distance = offset.norm(dim=-1) - scale
    else:
        distance = polygon_distance(offset / scale[..., None], CORNERS[shape]) * scale
    return (0.5 - distance).clamp(0, 1)


def palette(colours: dict[str, tuple[int, int, int]]) -> Tensor:
    """Return the colours as float [N, 3], 0..1."""
    return torch.tensor(list(colours.values())) / 255


def render(clips: Clips, frames: int, first: int = 0) -> Tensor:
    """Draw clips.

    Args:
        clips: B clips.
        frames: number of video frames.
        first: number of the first of them.

    Returns:
        float [B, frames, 64, 64, 3], 0..1.
    """
    place = centres(clips, frames, first)
    cover = torch.empty(len(clips), frames, SIZE, SIZE)
    for number, shape in enumerate(SHAPES):
        rows = (clips.shape == number).nonzero()[:, 0]
        if len(rows):
            cover[rows] = coverage(shape, place[rows], clips.radius[rows, None].expand(-1, frames))
    fore = palette(COLOURS)[clips.colour][:, None, None, None]
    back = palette(BACKGROUNDS)[clips.background][:, None, None, None]
    return torch.lerp(back, fore, cover[..., None])
