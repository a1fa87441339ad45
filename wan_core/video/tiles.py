"""Tiles in space that lie over one another: where they are in a latent picture, and how their pixels are blended."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Span:
    """A tile along one axis, in latent rows or columns.

    Attributes:
        begin: the first one.
        end: behind the last one.
        before: how many it shares with the tile before it.
        behind: how many it shares with the tile behind it.
    """

    begin: int
    end: int
    before: int = 0
    behind: int = 0

    def weights(self, scale: int) -> torch.Tensor:
        """Return how much each pixel counts, rising and falling evenly where tiles lie over one another, never 0."""
        place = torch.arange((self.end - self.begin) * scale) + 0.5
        weights = torch.ones_like(place)
        for shared, distance in ((self.before, place), (self.behind, place.flip(0))):
            if shared:
                weights = torch.minimum(weights, distance / (shared * scale))
        return weights


@dataclass(frozen=True)
class Tile:
    """A rectangle of the latent picture."""

    rows: Span
    columns: Span

    def of(self, picture: torch.Tensor, scale: int = 1) -> torch.Tensor:
        """Return the tile's part of a picture [..., H, W], a view; `scale`: its pixels for each latent one."""
        rows, columns = (slice(span.begin * scale, span.end * scale) for span in (self.rows, self.columns))
        return picture[..., rows, columns]

    def weights(self, scale: int) -> torch.Tensor:
        """Return how much each of the tile's pixels counts [h, w]."""
        return self.rows.weights(scale)[:, None] * self.columns.weights(scale)


def spans(length: int, tile: int, overlap: int) -> list[Span]:
    """Cut an axis into tiles of one length that share `overlap` or more with their neighbours.

    Args:
        length: of the axis.
        tile: longest tile.
        overlap: less than a tile.
    """
    if length <= tile:
        return [Span(0, length)]
    count = -(-(length - overlap) // (tile - overlap))
    begins = [round(number * (length - tile) / (count - 1)) for number in range(count)]
    shared = [0, *(first + tile - second for first, second in itertools.pairwise(begins)), 0]
    return [Span(begin, begin + tile, shared[at], shared[at + 1]) for at, begin in enumerate(begins)]


def cut(rows: int, columns: int, tile: int, overlap: int) -> list[Tile]:
    """Return the tiles of a latent picture, row by row; one where it is no larger than a tile."""
    across = spans(columns, tile, overlap)
    return [Tile(down, one) for down in spans(rows, tile, overlap) for one in across]
