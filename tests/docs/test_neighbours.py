"""docs/neighbours.md and the tests it rests on: each named test is there, and each test of a neighbour has its row."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TESTS = ROOT / "tests" / "comfy"
ENGLISH, CHINESE = ROOT / "docs" / "neighbours.md", ROOT / "docs" / "neighbours.zh-CN.md"
WHOLE_FILES = (
    "inside/test_neighbours.py",
    "inside/test_lora.py",
    "inside/test_core_parts.py",
    "inside/test_previews.py",
    "test_pipelines.py",
)
NAMED = re.compile(r"`([\w/]+\.py)::(test_\w+)`")


def tables(page: Path) -> list[list[list[str]]]:
    """The cells of every table of a page, without its head."""
    found: list[list[list[str]]] = []
    before = ""
    for line in page.read_text("utf-8").splitlines():
        if line.startswith("|"):
            if not before.startswith("|"):
                found.append([])
            found[-1].append([cell.strip() for cell in line.strip("|").split("|")])
        before = line
    return [table[2:] for table in found]


def rows(page: Path) -> list[list[str]]:
    """The rows of the first table, of neighbours."""
    return tables(page)[0]


def cases_of(file: str) -> set[str]:
    tree = ast.parse((TESTS / file).read_text("utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


# outcomes in tests/comfy/inside/test_conditioning.py, as both languages write them
OUTCOMES = {
    "READ": ("Read", "读取"),
    "KEY_FRAMES": ("Refused: Start/End/Key Frames", "拒绝：改用 SkyReels-V2 首尾帧与关键帧"),
    "REFERENCE": ("Refused: Start/End/Key Frames", "拒绝：改用 SkyReels-V2 首尾帧与关键帧"),
    "OTHER_MODEL": ("Refused: the model it is made for", "拒绝：改用该节点对应的模型"),
    "load a 16-channel model": ("Refused: a 16-channel model", "拒绝：改用 16 通道的模型"),
}
IN_STEP = (" in step", "（同步时）")


def table_of(file: str, name: str) -> dict[str, tuple[str, ...]]:
    """A table of tuples in a test, by its keys; names in it stay names."""
    tree = ast.parse((TESTS / "inside" / file).read_text("utf-8"))
    found = next(node.value for node in tree.body if isinstance(node, ast.AnnAssign) and node.target.id == name)
    return {
        key.value: tuple(getattr(cell, "id", getattr(cell, "value", "")) for cell in row.elts)
        for key, row in zip(found.keys, found.values, strict=True)
    }


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


@pytest.mark.parametrize(("page", "language"), [(ENGLISH, 0), (CHINESE, 1)], ids=["English", "Chinese"])
def test_the_conditioning_of_cores_nodes_is_listed_with_the_outcomes_that_are_tested(page: Path, language: int) -> None:
    listed = {row[0]: row[2:] for row in tables(page)[1]}
    tested = table_of("test_conditioning.py", "NODES")
    assert list(listed) == list(tested)
    for node, (_, few, many) in tested.items():
        beside = IN_STEP[language] if few == "READ" else ""
        assert listed[node] == [OUTCOMES[few][language] + beside, OUTCOMES[many][language]], node


@pytest.mark.parametrize("page", [ENGLISH, CHINESE], ids=lambda page: page.name)
def test_every_key_and_patch_of_the_tables_is_one_that_the_code_knows(page: Path) -> None:
    source = (ROOT / "wan_core" / "comfy" / "sampling" / "conditioning.py").read_text("utf-8")
    keys = re.findall(r"`(\w+)`", " ".join(row[1] for row in tables(page)[1]))
    patches = re.findall(r"`(\w+)`", " ".join(row[0] for row in tables(page)[2]))
    assert set(patches) == set(table_of("test_patches.py", "PATCHES"))
    for name in {*keys, *patches}:
        assert f'"{name}"' in source, name


def test_the_keys_are_the_same_in_both_languages() -> None:
    english, chinese = ([re.findall(r"`(\w+)`", row[1]) for row in tables(page)[1]] for page in (ENGLISH, CHINESE))
    assert english == chinese and all(english)
