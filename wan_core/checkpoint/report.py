"""What became of a file that is put on a model: what was used, how much that changed, and what was left out.

One report for whatever changes a model's weights; a node shows it with `say`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from ..words import Joined, Words, counted, joined, lines, words

SHOWN = 3  # names listed of many


@dataclass(frozen=True)
class LeftOut:
    """Some keys of a file that were not used, and the one reason for all of them."""

    reason: Words
    keys: tuple[str, ...]

    def describe(self) -> Words:
        """Return them as a line."""
        return words("{count} not used, {reason}: {listed}", count=len(self.keys), reason=self.reason,
                     listed=listed(self.keys))  # fmt: skip


@dataclass(frozen=True)
class Report:
    """What was made of a file.

    Attributes:
        name: of the file.
        used: how many of its keys were used.
        total: how many it has.
        changed: how many weights of the model change.
        norm: of the change as far as the file tells it, the square root of the sum of all its squares.
        notes: what else a person should know, such as where a scale comes from.
        left_out: the keys that were not used.
    """

    name: str
    used: int
    total: int
    changed: int
    norm: float | None
    notes: tuple[Words, ...] = ()
    left_out: tuple[LeftOut, ...] = field(default=())

    def describe(self) -> Joined:
        """Return the report in a line or more."""
        weights = counted(self.changed, "weights")
        told = {"name": self.name, "used": self.used, "total": self.total, "weights": weights}
        first = (
            words("{name}: {used} of {total} keys used, {weights} changed", **told)
            if self.norm is None
            else words(
                "{name}: {used} of {total} keys used, {weights} changed by {norm:.3g} (norm)", **told, norm=self.norm
            )
        )
        return lines(first, *self.notes, *(each.describe() for each in self.left_out))


def listed(keys: Iterable[str]) -> Joined:
    """Return the first few of many names."""
    known = list(keys)
    return joined([*known[:SHOWN], *["..."] * (len(known) > SHOWN)])
