"""docs/host_flags.md and the flags of every ComfyUI here: a flag that a new host brings fails until it is placed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.test_neighbours import NAMED, ROOT, TESTS, cases_of, rows
from tools.hosts import HostInstall, find_hosts, why_no_host

PAGES = {name: ROOT / "docs" / name for name in ("host_flags.md", "host_flags.zh-CN.md")}
ENGLISH, CHINESE = PAGES.values()
FLAG = re.compile(r"--[\w-]+")
HOSTS: list[HostInstall | None] = [*find_hosts()] or [None]
UNTRIED = {ENGLISH: "Not tried", CHINESE: "未测试"}


def flags_of_host(folder: Path) -> set[str]:
    text = (folder / "comfy" / "cli_args.py").read_text("utf-8")
    return set(re.findall(r"add_argument\(\s*[\"'](--[\w-]+)", text))


def in_table(page: Path) -> list[str]:
    return [flag for row in rows(page) for flag in FLAG.findall(row[0])]


def not_ours(page: Path) -> list[str]:
    return FLAG.findall(page.read_text("utf-8").rpartition("\n## ")[2])


@pytest.mark.parametrize("install", HOSTS, ids=lambda install: install.version if install else "no-host")
@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_every_flag_of_a_host_has_its_place(page: Path, install: HostInstall | None) -> None:
    if install is None:
        pytest.skip(why_no_host())
    flags = flags_of_host(install.folder)
    assert len(flags) > 80
    placed = {*in_table(page), *not_ours(page)}
    assert flags - placed == set(), "say what they do for this pack, or that they are not our concern"


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_no_flag_is_placed_twice_or_made_up(page: Path) -> None:
    placed = in_table(page) + not_ours(page)
    assert sorted(placed) == sorted(set(placed))
    if None not in HOSTS:
        known = set().union(*(flags_of_host(install.folder) for install in HOSTS if install))
        versions = {install.version for install in HOSTS if install}
        assert set(placed) <= known or len(versions) < 2, set(placed) - known


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_every_row_that_claims_something_names_tests_that_exist(page: Path) -> None:
    for row in rows(page):
        named = NAMED.findall(row[2])
        assert named or row[2] == UNTRIED[page], row
        for file, name in named:
            assert (TESTS / file).is_file() and name in cases_of(file), f"{file}::{name}"


@pytest.mark.parametrize("file", ["test_host_flags.py", "inside/test_flags.py"])
def test_every_test_of_a_flag_has_its_row(file: str) -> None:
    assert cases_of(file) == {name for row in rows(ENGLISH) for found, name in NAMED.findall(row[2]) if found == file}


def test_both_languages_place_the_same_flags_and_name_the_same_tests() -> None:
    english, chinese = rows(ENGLISH), rows(CHINESE)
    assert [FLAG.findall(row[0]) for row in english] == [FLAG.findall(row[0]) for row in chinese]
    assert [NAMED.findall(row[2]) for row in english] == [NAMED.findall(row[2]) for row in chinese]
    assert not_ours(ENGLISH) == not_ours(CHINESE)


def test_the_pack_reads_no_environment_while_it_runs() -> None:
    for room in ("wan_core", "nodes"):
        for file in (ROOT / room).rglob("*.py"):
            assert not re.search(r"\bos\.(environ|getenv)", file.read_text("utf-8")), file
