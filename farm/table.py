"""What a person sees of a farm: a bar or lines while it works, and a table of all jobs at the end."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from types import TracebackType
from typing import Any

from .results import Result

HEADS = ("job", "state", "host", "tries", "seconds", "outputs")


class Progress:
    """A bar by tqdm where there is tqdm, with a line for what happens above it; a context manager.

    Args:
        total: jobs of the list.
        done: those that were finished before.
    """

    def __init__(self, total: int, done: int):
        self.total, self.done = total, done
        try:
            from tqdm import tqdm
        except ImportError:
            self.bar: Any = None
        else:
            self.bar = tqdm(total=total, initial=done, unit="job")

    def __call__(self, line: str, ended: int) -> None:
        """Show a line, and that so many more jobs have come to an end."""
        self.done += ended
        if self.bar is None:
            print(f"[{self.done}/{self.total}] {line}", file=sys.stderr, flush=True)
        else:
            self.bar.write(line, file=sys.stderr)
            self.bar.update(ended)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, _kind: type | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        if self.bar is not None:
            self.bar.close()


def table(results: Iterable[Result]) -> str:
    """Return a table of results; what did not finish has its sentence below it."""
    rows = [
        (each.name, each.state, each.host or "-", str(each.tries), f"{each.seconds:.1f}", outputs(each))
        for each in results
    ]
    sentences = [each.sentence for each in results]
    widths = [max(len(row[column]) for row in [HEADS, *rows]) for column in range(len(HEADS) - 1)]
    lines = [line(HEADS, widths), "  ".join("-" * width for width in [*widths, len(HEADS[-1])])]
    for row, sentence in zip(rows, sentences, strict=True):
        lines.append(line(row, widths))
        lines += [f"    {sentence}"] * bool(sentence)
    return "\n".join(lines)


def outputs(result: Result) -> str:
    """Return a result's files in one cell."""
    return ", ".join(result.outputs) or "-"


def line(row: tuple[str, ...], widths: list[int]) -> str:
    """Return one line of the table."""
    cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
    return "  ".join([*cells, row[-1]]).rstrip()
