"""Write docs/compatibility.md: what was tried in which ComfyUI, front end and style of nodes, and how it went.

usage: python -m tools.compatibility [pytest's arguments]
       python -m tools.compatibility REPORT.xml ...

It runs the tests of the front ends and counts what passed; no number comes from anywhere else. `python dev.py test`
once before it, so that the hosts and the newest front end are there; SKYREELS_HOSTS and SKYREELS_FRONTEND_ROOT name
others. The second form counts JUnit reports of runs made one after another (SKYREELS_WHOLE_MATRIX=1, --junitxml); a
test counts as the last of them says.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from importlib.metadata import distributions
from itertools import product
from pathlib import Path
from xml.etree import ElementTree

from tests.comfy.test_layouts import IN_EVERY_ROW
from tools.front_ends import NEWEST, PACKAGE
from tools.hosts import ROOT, HostInstall, find_hosts, why_no_host

TESTS = ("test_frontend", "test_live_plan", "test_blueprints", "test_front_end_words", "test_layouts")
STYLES = ("classic", "nodes2")
PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"
# column: the test file and what the names of its tests have in them
COLUMNS = {
    "opened": ("test_frontend", "opens_whole"),
    "played": ("test_layouts", "play_button"),
    "plan": ("test_live_plan", ""),
    "blueprints": ("test_blueprints", ""),
    "help": ("test_front_end_words", "help_page"),
    "search": ("test_front_end_words", "search_finds"),
    "locale": ("test_front_end_words", "chinese_names"),
    "text": ("test_front_end_words", "on_the_node"),
}


@dataclass(frozen=True)
class Words:
    """The page in one language; `columns` in the order of COLUMNS, `styles` in that of STYLES."""

    file: str
    title: str
    intro: str
    notes: str
    made: str
    row: tuple[str, ...]
    styles: tuple[str, ...]
    newest: str
    untried: str
    columns: tuple[str, ...]


WORDS = (
    Words(
        file="compatibility.md",
        title="# Which ComfyUI, which front end\n\n[中文](compatibility.zh-CN.md)",
        intro="Each row is a ComfyUI with a front end and a node style. A cell shows *tests passed / tests run*. The "
        "tests drive the real front end in a browser, with tiny stand-ins for the released models, so this page says "
        "nothing about the quality or speed of a video.",
        notes="*Templates run, result played*: in every row one template for each way to make a video ({titles}); "
        "where the cell has 23, all 21 templates, and Demo Long Video in three shapes. *Blueprints*: every pair of the "
        "two blueprints in one graph, and the seed of each after three runs.",
        made="Written on {day} by `python -m tools.compatibility`. See tests/comfy for what each test does.",
        row=("ComfyUI", "front end", "nodes"),
        styles=("classic", "Nodes 2.0"),
        newest="newest",
        untried="not tested",
        columns=(
            "templates opened", "templates run, result played", "live plan", "blueprints, also twice", "help page",
            "search", "Chinese names", "text of a run on its node",
        ),
    ),
    Words(
        file="compatibility.zh-CN.md",
        title="# 支持的 ComfyUI 和前端版本\n\n[English](compatibility.md)",
        intro="每一行是一个 ComfyUI 版本、一个前端版本和一种节点样式，单元格内是*通过的测试数 / 运行的测试数*。"
        "测试在浏览器中操作真实的前端，用极小的模型代替正式模型，因此本页不反映视频的质量和速度。",
        notes="*运行模板并播放结果*：每一行都运行每种生成方式的一个模板（{titles}）；单元格为 23 的行运行全部 "
        "21 个模板，其中 Demo Long Video 有三种画面比例。*蓝图*：两个蓝图两两放进同一个工作流，"
        "以及运行三次后各自的种子。",
        made="{day} 由 `python -m tools.compatibility` 生成。各项测试的内容见 tests/comfy。",
        row=("ComfyUI", "前端", "节点样式"),
        styles=("经典", "Nodes 2.0"),
        newest="最新版",
        untried="未测试",
        columns=(
            "打开模板", "运行模板并播放结果", "实时计划", "蓝图（含重复使用）", "帮助页", "搜索", "中文名称",
            "节点上显示运行结果",
        ),
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """Where tests ran: version of the host, "pinned" or "newest" front end, style of the nodes."""

    host: str
    front_end: str
    style: str


def run_tests(report: Path, arguments: list[str]) -> int:
    """Run the tests of the front ends into a JUnit report; return pytest's exit code."""
    files = [f"tests/comfy/{name}.py" for name in TESTS]
    command = [sys.executable, "-m", "pytest", "-q", *files, f"--junitxml={report}", *arguments]
    whole = {**os.environ, "SKYREELS_WHOLE_MATRIX": "1"}
    return subprocess.run(command, cwd=ROOT, env=whole, check=False).returncode


def outcomes(report: Path) -> Iterator[tuple[str, tuple[Row, str, str]]]:
    """Yield each test, where it ran, its column, and how it went."""
    for case in ElementTree.parse(report).iter("testcase"):
        file, name = case.get("classname", "").rpartition(".")[2], case.get("name", "")
        where = re.search(r"(\d+\.\d+(?:\.\d+)*)-(pinned|newest)-(classic|nodes2)", name)
        column = next((key for key, (at, part) in COLUMNS.items() if at == file and part in name), None)
        if where is None or column is None:
            continue
        kinds = {child.tag for child in case}
        outcome = FAILED if kinds & {"failure", "error"} else SKIPPED if "skipped" in kinds else PASSED
        yield f"{file} {name}", (Row(*where.groups()), column, outcome)


def pinned_front_end(install: HostInstall) -> str:
    """Return the version of the front end that a host's Python has."""
    folders = [str(folder) for folder in install.python.parent.parent.glob("lib/python*/site-packages")]
    folders.append(str(install.python.parent.parent / "Lib" / "site-packages"))
    return next((found.version for found in distributions(name=PACKAGE, path=folders)), "?")


def page(words: Words, hosts: list[HostInstall], counted: Counter[tuple[Row, str, str]]) -> str:
    """Return the page in one language."""
    columns = [*words.row, *words.columns]
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for install in hosts:
        versions = {"pinned": pinned_front_end(install), "newest": f"{NEWEST} ({words.newest})"}
        for (front_end, version), (style, name) in product(versions.items(), zip(STYLES, words.styles, strict=True)):
            row = Row(install.version, front_end, style)
            cells = []
            for column in COLUMNS:
                passed, failed = (counted[row, column, outcome] for outcome in (PASSED, FAILED))
                cells.append(f"{passed} / {passed + failed}" if passed + failed else words.untried)
            lines.append("| " + " | ".join([install.version, version, name, *cells]) + " |")
    notes = words.notes.format(titles=", ".join(IN_EVERY_ROW))
    made = words.made.format(day=date.today().isoformat())
    return "\n\n".join([words.title, words.intro, "\n".join(lines), notes, made]) + "\n"


def main() -> int:
    """Run the tests and write both pages; return pytest's exit code."""
    hosts = find_hosts()
    if not hosts:
        sys.exit(why_no_host())
    with tempfile.TemporaryDirectory() as folder:
        reports, code = [Path(name) for name in sys.argv[1:] if name.endswith(".xml")], 0
        if not reports:
            reports = [Path(folder) / "report.xml"]
            code = run_tests(reports[0], sys.argv[1:])
        last = {name: outcome for report in reports for name, outcome in outcomes(report)}
        counted = Counter(last.values())
    for words in WORDS:
        (ROOT / "docs" / words.file).write_text(page(words, hosts, counted), "utf-8")
    return code


if __name__ == "__main__":
    sys.exit(main())
