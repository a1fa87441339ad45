"""Frames side by side in one picture, to look at a video at once."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from wan_core.errors import InputError
from wan_core.video.writer import all_of_one_size, to_uint8


def contact_sheet(frames: Tensor | Iterable[Tensor], columns: int, gap: int = 2) -> Tensor:
    """Lay frames out in rows, left to right and top to bottom, on black.

    Args:
        frames: tensor [F, H, W, 3] or an iterable of [H, W, 3], all of one size; float 0..1 or uint8.
        columns: frames in a row.
        gap: pixels between frames.

    Returns:
        uint8 [rows * H + (rows - 1) * gap, columns * W + (columns - 1) * gap, 3], with fewer columns for fewer frames.

    Raises:
        InputError: no frame, frames of different sizes, or columns below 1.
    """
    if columns < 1:
        raise InputError("columns is {columns}, but a contact sheet needs at least 1", columns=columns)
    pictures = (to_uint8(frame) for frame in frames)
    first = next(pictures, None)
    if first is None:
        raise InputError("a contact sheet has 0 frames, but needs at least one")
    tiles = list(all_of_one_size(first, pictures))
    height, width = first.shape[:2]
    columns = min(columns, len(tiles))
    rows = math.ceil(len(tiles) / columns)
    sheet = torch.zeros(rows * (height + gap) - gap, columns * (width + gap) - gap, 3, dtype=torch.uint8)
    for index, tile in enumerate(tiles):
        top, left = (index // columns) * (height + gap), (index % columns) * (width + gap)
        sheet[top : top + height, left : left + width] = torch.from_numpy(tile)
    return sheet
