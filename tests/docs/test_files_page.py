"""docs/files.md and its Chinese twin name every format that is tested, and no other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.comfy.file_formats import FORMATS

DOCS = Path(__file__).resolve().parents[2] / "docs"
ROW = re.compile(r"^\| `([^`]+)` \|.*\| ([^|]+) \|$", re.MULTILINE)


@pytest.mark.parametrize("name", ["files.md", "files.zh-CN.md"])
def test_the_table_of_formats_is_the_list_of_the_tests(name: str) -> None:
    page = (DOCS / name).read_text("utf-8")
    assert [row[0] for row in ROW.findall(page)] == list(FORMATS)


def test_both_languages_name_the_same_bounds() -> None:
    bounds = [
        [row[1] for row in ROW.findall((DOCS / name).read_text("utf-8")) if "nvfp4" not in row[0]]
        for name in ("files.md", "files.zh-CN.md")
    ]
    assert bounds[0] == bounds[1] and len(bounds[0]) == len(FORMATS) - 1
