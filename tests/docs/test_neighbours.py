"""docs/neighbours.md and the tests it rests on: each named test is there, and each test of a neighbour has its row."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TESTS = ROOT / "tests" / "comfy"
ENGLISH, CHINESE = ROOT / "docs" / "neighbours.md", ROOT / "docs" / "neighbours.zh-CN.md"
WHOLE_FILES = ("inside/test_neighbours.py", "inside/test_lora.py", "inside/test_previews.py", "test_pipelines.py")
NAMED = re.compile(r"`([\w/]+\.py)::(test_\w+)`")


def rows(page: Path) -> list[list[str]]:
    lines = [line for line in page.read_text("utf-8").splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def cases_of(file: str) -> set[str]:
    tree = ast.parse((TESTS / file).read_text("utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def neighbours_sampled() -> list[str]:
    """The names that the tests of changes to sampling are run with."""
    tree = ast.parse((TESTS / "inside" / "test_neighbours.py").read_text("utf-8"))
    table = next(node.value for node in tree.body if isinstance(node, ast.AnnAssign) and node.target.id == "SAMPLING")
    return [key.value for key in table.keys]


@pytest.mark.parametrize("page", [ENGLISH, CHINESE], ids=lambda page: page.name)
def test_every_test_that_a_row_names_exists(page: Path) -> None:
    found = [pair for row in rows(page) for pair in NAMED.findall(row[2])]
    assert len(found) >= len(WHOLE_FILES)
    for file, name in found:
        assert name in cases_of(file), f"{file}::{name}"


@pytest.mark.parametrize("file", WHOLE_FILES)
def test_every_test_of_a_neighbour_has_its_row(file: str) -> None:
    named = {name for row in rows(ENGLISH) for found, name in NAMED.findall(row[2]) if found == file}
    assert cases_of(file) == named


def test_every_neighbour_that_changes_sampling_has_its_row() -> None:
    names = [row[0] for row in rows(ENGLISH)]
    for neighbour in neighbours_sampled():
        assert any(name.startswith(neighbour) for name in names), neighbour


def test_a_row_without_a_test_says_how_it_was_tried_or_that_it_was_not() -> None:
    for row in rows(ENGLISH):
        if "test_" not in row[2]:
            tried = row[2] == "(the two tests above)" or row[2].startswith("(by hand: `")
            assert tried or row[1].startswith("Not tried"), row[0]


def test_both_languages_have_the_same_rows() -> None:
    english, chinese = rows(ENGLISH), rows(CHINESE)
    assert [NAMED.findall(row[2]) for row in english] == [NAMED.findall(row[2]) for row in chinese]
    for theirs, ours in zip(english, chinese, strict=True):
        latin = re.findall(r"`[^`]+`|[A-Z]\w+[A-Z]\w*", theirs[0])
        assert all(name in ours[0] or name.startswith(("SkyReels", "MODEL")) for name in latin), ours[0]
