"""A picture of what a plan will do: latent frames across, rows (model calls) down, colour = noise level.

Source of the colours: five stops of matplotlib's "viridis" map, dark = no noise left, bright = pure noise.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from itertools import accumulate

import torch

from ..sampling.known import leading_known
from ..sampling.schedule import Staircase, staircase
from ..sampling.sigmas import flow_sigmas, noise_levels
from .plan import MOVING_WINDOW, SEGMENTS, Plan, Segment
from .segments import stairs_of

STOPS = (
    (0.267, 0.005, 0.329),
    (0.229, 0.322, 0.546),
    (0.128, 0.567, 0.551),
    (0.369, 0.789, 0.383),
    (0.993, 0.906, 0.144),
)
UNSEEN = (0.10, 0.10, 0.10)  # frames that the model does not see in this row
KNOWN = (0.85, 0.85, 0.85)  # frames that are given or carried over
PADDING = (0.35, 0.12, 0.12)  # frames that are made to fill a block, and thrown away
EDGE = (1.0, 1.0, 1.0)  # the line between two segments
LONGEST_SIDE = 1600  # pixels
LARGEST_CELL = 16


def schedule_picture(plan: Plan, shift: float, known: tuple[int, ...] = ()) -> torch.Tensor:
    """Draw a plan, in time and memory that its size in pixels bounds: of a long video only what a pixel falls on.

    Args:
        plan: the plan of a video, one segment or more.
        shift: shift of the noise schedule.
        known: given latent frames of the video.

    Returns:
        [H, W, 3] in 0..1, neither side above LONGEST_SIDE; a cell of pixels for each row and latent frame, or a pixel
        for several of them, and a white line between two segments.
    """
    if plan.method != SEGMENTS:
        return without_seams(plan, shift, known)
    columns = max(segment.start + segment.length for segment in plan.segments)
    tops = list(accumulate((segment.rows + 1 for segment in plan.segments), initial=0))  # with a line after each
    rows = tops[-1] - 1
    cell = max(1, min(LARGEST_CELL, LONGEST_SIDE // max(rows, columns)))
    across, down = samples(columns), samples(rows)
    shades = colour_of(noise_levels(flow_sigmas(plan.steps, shift)))
    picture = torch.tensor(UNSEEN).repeat(len(down), len(across), 1)
    windows: dict[tuple[object, ...], Window] = {}  # most segments are alike
    begins, ends = torch.searchsorted(down, torch.tensor([tops[:-1], [top - 1 for top in tops[1:]]]))
    for number in torch.nonzero(begins < ends).flatten().tolist():
        segment, seen = plan.segments[number], slice(begins[number], ends[number])
        inside = tuple(at - segment.start for at in known if segment.latents[0] <= at < segment.latents[1])
        kind = (segment.overlap, segment.new, segment.closing, inside)
        if kind not in windows:
            windows[kind] = window_of(plan, segment, known)
        sides = torch.tensor((segment.start, segment.start + segment.length))
        shown = slice(*torch.searchsorted(across, sides).tolist())
        picture[seen, shown] = colours(windows[kind], shades, down[seen] - tops[number], across[shown] - segment.start)
    edges = torch.isin(down, torch.tensor(tops[1:-1], dtype=torch.int64) - 1)
    picture[edges] = torch.tensor(EDGE)
    return picture.repeat_interleave(cell, dim=0).repeat_interleave(cell, dim=1)


def without_seams(plan: Plan, shift: float, known: tuple[int, ...]) -> torch.Tensor:
    """Draw a plan of a moving window or of rolling; the arguments and the answer are those of `schedule_picture`.

    A chunk of a rolling video has a row for each of its steps; the calls that keep its keys and values have none.
    """
    size, prefix = plan.causal_block_size, plan.prefix
    blocks = -(-(plan.latent_frames - prefix) // size)
    columns, rows = prefix + blocks * size, blocks * plan.steps
    mask = torch.zeros(columns, dtype=torch.bool)
    mask[[at for at in known if at < columns]] = True
    stairs = None
    if plan.method == MOVING_WINDOW:
        stairs = staircase(columns, plan.steps, plan.ar_step, size, leading_known(mask), plan.window)
        rows = stairs.num_rows
    cell = max(1, min(LARGEST_CELL, LONGEST_SIDE // max(rows, columns)))
    across, down = samples(columns), samples(rows)
    if stairs is not None:
        block = across // size
        seen = torch.tensor([stairs.seen(row) for row in down.tolist()])
        step, _ = stairs.steps_of(down.tolist(), block.tolist())
        shown = (block >= seen[:, :1]) & (block < seen[:, 1:])
    else:
        first = prefix + down[:, None] // plan.steps * size  # of the chunk in work
        step = torch.where(across < first, plan.steps + 1, down[:, None] % plan.steps + 1)
        shown = (across < first + size) & (across >= first + size - plan.window)
    shades = colour_of(noise_levels(flow_sigmas(plan.steps, shift)))
    picture = shades[step]
    padding = across >= plan.latent_frames
    picture[:, padding] = 0.5 * picture[:, padding] + 0.5 * torch.tensor(PADDING)
    picture[:, mask[across]] = torch.tensor(KNOWN)
    picture[~shown] = torch.tensor(UNSEEN)
    return picture.repeat_interleave(cell, dim=0).repeat_interleave(cell, dim=1)


def samples(cells: int) -> torch.Tensor:
    """Return which of the cells of a side are drawn: all, or as many as there are pixels."""
    pixels = cells if cells <= LONGEST_SIDE else LONGEST_SIDE // 2
    return ((torch.arange(pixels) * 2 + 1) * cells) // (2 * pixels)


@dataclass(frozen=True)
class Window:
    """What the colours of a segment follow from.

    Attributes:
        known: bool [F] of its latent frames.
        made: latent frames before its padding.
        busy: int64 [N, 2], the rows (first, end) of its schedule that denoise something.
        stairs: its schedule.
    """

    known: torch.Tensor
    made: int
    busy: torch.Tensor
    stairs: Staircase


def window_of(plan: Plan, segment: Segment, given: Collection[int]) -> Window:
    """Return the window of a segment; `given`: known latent frames of the video."""
    known = segment.known(set(given))
    stairs = stairs_of(plan, known)
    made = segment.overlap + segment.new + segment.closing
    return Window(torch.tensor(known), made, torch.tensor(stairs.busy(known)), stairs)


def colours(window: Window, shades: torch.Tensor, rows: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
    """Return the colours [R, F, 3] of some rows and latent frames of a segment's window.

    Rows in which only known frames would be denoised are left out.
    """
    lengths = window.busy[:, 1] - window.busy[:, 0]
    before = torch.cumsum(lengths, 0) - lengths  # busy rows before each stretch of them
    stretch = torch.searchsorted(before, rows, right=True) - 1
    row = rows - before[stretch] + window.busy[stretch, 0]
    step, _ = window.stairs.steps_of(row.tolist(), (frames // window.stairs.block).tolist())
    found = shades[step]
    padding = frames >= window.made
    found[:, padding] = 0.5 * found[:, padding] + 0.5 * torch.tensor(PADDING)
    found[:, window.known[frames]] = torch.tensor(KNOWN)
    return found


def colour_of(levels: torch.Tensor) -> torch.Tensor:
    """Return the colour [..., 3] of noise levels 0..1 of any shape."""
    stops = torch.tensor(STOPS)
    at = levels.clamp(0, 1) * (len(STOPS) - 1)
    low = at.floor().long().clamp(max=len(STOPS) - 2)
    part = (at - low)[..., None]
    return stops[low] * (1 - part) + stops[low + 1] * part
