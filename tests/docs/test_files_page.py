"""docs/files.md and its Chinese twin name every format that is tested, and no other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.comfy.format_table import CHINESE, FORMATS
from tools.format_table import BOUNDS

DOCS = Path(__file__).resolve().parents[2] / "docs"
ROW = re.compile(r"^\| `([^`]+)` \|.*\| ([^|]+) \|$", re.MULTILINE)


@pytest.mark.parametrize("name", ["files.md", "files.zh-CN.md"])
def test_the_table_of_formats_is_the_list_of_the_tests(name: str) -> None:
    page = (DOCS / name).read_text("utf-8")
    assert [row[0] for row in ROW.findall(page)] == list(FORMATS)


@pytest.mark.parametrize(("name", "language"), [("files.md", 0), ("files.zh-CN.md", 1)])
def test_every_row_has_the_bound_and_the_words_of_the_tests(name: str, language: int) -> None:
    for row in ROW.finditer((DOCS / name).read_text("utf-8")):
        _, inside, _, error, bound = (cell.strip() for cell in row[0].strip("|").split(" | "))
        form = FORMATS[row[1]]
        assert bound == BOUNDS[form.bound][language]
        assert inside == (form.inside if language == 0 else CHINESE.get(form.inside, form.inside))
        assert all(float(number) > 0 for number in error.split(" / "))
