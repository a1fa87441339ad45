"""docs/files.md and its Chinese twin name every form of a LoRA that is tested, with the errors of one run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.comfy.lora_formats import FORMATS

DOCS = Path(__file__).resolve().parents[2] / "docs"
ROW = re.compile(r"^\| ([^|]+) \| [^|]+ \| (\de-\d\d) \| (\de-\d\d) \|$", re.MULTILINE)
BOUND = 1e-5  # of tests/comfy/inside/test_lora.py


def rows(page: str) -> list[tuple[str, str, str]]:
    return ROW.findall((DOCS / page).read_text("utf-8").partition("\n## LoRA")[2])


@pytest.mark.parametrize("page", ["files.md", "files.zh-CN.md"])
def test_the_table_is_the_list_of_the_tests_and_within_their_bound(page: str) -> None:
    assert [row[0] for row in rows(page)] == list(FORMATS) and len(FORMATS) >= 20
    assert all(float(error) < BOUND for row in rows(page) for error in row[1:])


def test_both_languages_have_the_same_errors() -> None:
    assert rows("files.md") == rows("files.zh-CN.md")
