"""Which process has which tokens: arithmetic alone, the same in every process.

Every process has a share of every *unit*: the whole video where attention is bidirectional, and a causal block where it
is causal. So under causal attention, too, all have as much to do, and what is kept of a finished block is spread over
all. Units need not divide: shares differ by one token.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..model.share import Run, Tokens


def share_start(length: int, rank: int, size: int) -> int:
    """Return the first token of a share of `length` tokens; that of the next rank is its end."""
    return length * rank // size


def share_length(length: int, rank: int, size: int) -> int:
    """Return how many of `length` tokens a process has."""
    return share_start(length, rank + 1, size) - share_start(length, rank, size)


@dataclass(frozen=True)
class Layout:
    """The tokens of a forward pass among `size` processes.

    Attributes:
        count: tokens.
        unit: tokens of a unit, of which each process has a share; the last one may be shorter. 0: all are one unit.
        size: processes.
    """

    count: int
    unit: int
    size: int

    @property
    def units(self) -> list[slice]:
        """The tokens of every unit."""
        step = self.unit or self.count
        return [slice(start, min(start + step, self.count)) for start in range(0, self.count, max(step, 1))]

    def slices(self, rank: int) -> list[slice]:
        """Return the tokens of a process, in the order in which it has them; empty ones too."""
        parts = []
        for unit in self.units:
            length = unit.stop - unit.start
            first, end = (unit.start + share_start(length, at, self.size) for at in (rank, rank + 1))
            parts.append(slice(first, end))
        return parts

    def length(self, rank: int, until: int | None = None) -> int:
        """Return how many tokens a process has, of all or of those before token `until`, which begins a unit."""
        parts = self.slices(rank)
        units = len(parts) if until is None else -(-until // (self.unit or self.count))
        return sum(part.stop - part.start for part in parts[:units])

    def kept(self, rank: int) -> int:
        """Return how many tokens of a whole unit a process has: as many does it keep of a finished one."""
        return share_length(self.unit, rank, self.size)


def runs_of(slices: list[slice], tokens: Tokens) -> tuple[Run, ...]:
    """Return how the tokens of a process meet their noise levels: frame by frame, whole frames at once.

    Args:
        slices: the tokens it has, in order.
        tokens: all of the forward pass.

    Returns:
        Runs that cover all it has: of one noise level, or of several with as many tokens each.
    """
    each = tokens.count // tokens.noise_levels
    runs, place = [], 0
    for part in slices:
        at = part.start
        while at < part.stop:
            level = at // each
            whole = (part.stop - at) // each if at % each == 0 else 0
            end = at + whole * each if whole else min((level + 1) * each, part.stop)
            runs.append(Run(slice(place, place + end - at), slice(level, level + max(whole, 1))))
            place, at = place + end - at, end
    return tuple(runs) or (Run(slice(0, 0), slice(0, 1)),)
