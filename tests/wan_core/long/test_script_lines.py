"""Lines of prompt scripts as people write them, each with its meaning: a table of 300 and more, in two languages."""

from __future__ import annotations

from pathlib import Path

import pytest

from wan_core.errors import InputError
from wan_core.long.inner_times import refuse_inner_times
from wan_core.long.script_lines import Line, read_line

TABLE = Path(__file__).with_name("script_lines.tsv")
ROWS = [row.split("\t", 1) for row in TABLE.read_text("utf-8").splitlines() if row and not row.startswith("#")]


def read(text: str) -> Line:
    """A line as a script reads it: its own time, and none left in its prompt."""
    line = read_line(text)
    refuse_inner_times(line, count=0)
    return line


def meaning(line: Line) -> str:
    """A line's meaning as the table writes it."""
    if line.span is None or not line.firm:
        return f"item {line.item}" if line.item is not None else "none"
    return str(line.span) if line.span.dash else str(line.span.start)


@pytest.mark.parametrize(("wanted", "text"), ROWS, ids=[text for _, text in ROWS])
def test_a_line_means_what_its_writer_meant(wanted: str, text: str) -> None:
    text = text.replace("\\t", "\t")
    if wanted == "refused":
        with pytest.raises(InputError, match=r"(write it like|with it, like|write) '"):
            read(text)
        return
    line = read(text)
    assert meaning(line) == wanted
    prompts = [text] if wanted == "none" else ["a swan", "天鹅"]
    assert (line.text if wanted == "none" else line.prompt) in prompts


def test_the_table_is_long_and_in_two_languages() -> None:
    chinese = [
        text for _, text in ROWS if not text.isascii() and any("\u4e00" <= letter <= "\u9fff" for letter in text)
    ]
    assert len(ROWS) >= 300 and len(chinese) >= 100 and len({text for _, text in ROWS}) == len(ROWS)
