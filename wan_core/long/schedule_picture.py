"""A picture of what a plan will do: latent frames across, rows (model calls) down, colour = noise level.

Source of the colours: five stops of matplotlib's "viridis" map, dark = no noise left, bright = pure noise.
"""

from __future__ import annotations

import torch

from ..sampling.run import ForcingOptions, plan_run
from ..sampling.sigmas import flow_sigmas
from .segments import Plan, Segment

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
    """Draw a plan.

    Args:
        plan: the plan of a video, one segment or more.
        shift: shift of the noise schedule.
        known: given latent frames of the video.

    Returns:
        [H, W, 3] in 0..1; a cell of pixels for each row and latent frame, a white line between two segments.
    """
    columns = max(segment.start + segment.length for segment in plan.segments)
    pieces = []
    for segment in plan.segments:
        if segment.index:
            pieces.append(torch.tensor(EDGE).expand(1, columns, 3))
        if segment.rows:
            pieces.append(segment_rows(plan, segment, shift, known, columns))
    cells = torch.cat(pieces)
    cell = max(1, min(LARGEST_CELL, LONGEST_SIDE // max(cells.shape[:2])))
    return cells.repeat_interleave(cell, dim=0).repeat_interleave(cell, dim=1)


def segment_rows(plan: Plan, segment: Segment, shift: float, known: tuple[int, ...], columns: int) -> torch.Tensor:
    """Return the colours of a segment's rows [R, columns, 3]."""
    mask = torch.tensor(segment.known(known))
    options = ForcingOptions(ar_step=plan.ar_step, causal_block_size=plan.causal_block_size)
    run = plan_run(options, flow_sigmas(plan.steps, shift), segment.length, mask)
    colours = colour_of(run.levels)  # [R, F, 3]
    wanted = segment.overlap + segment.new + segment.closing
    colours[:, wanted:] = 0.5 * colours[:, wanted:] + 0.5 * torch.tensor(PADDING)
    colours[:, mask] = torch.tensor(KNOWN)
    rows = torch.tensor(UNSEEN).repeat(len(run.rows), columns, 1)
    rows[:, segment.start : segment.start + segment.length] = colours
    return rows


def colour_of(levels: torch.Tensor) -> torch.Tensor:
    """Return the colour [..., 3] of noise levels 0..1 of any shape."""
    stops = torch.tensor(STOPS)
    at = levels.clamp(0, 1) * (len(STOPS) - 1)
    low = at.floor().long().clamp(max=len(STOPS) - 2)
    part = (at - low)[..., None]
    return stops[low] * (1 - part) + stops[low + 1] * part
