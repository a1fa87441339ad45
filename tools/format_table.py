"""Write the table of number formats in docs/files.md and its Chinese twin from what the tests in the hosts measured.

    SKYREELS_MEASURED=measured.tsv python dev.py test
    python -m tools.format_table measured.tsv

The rows are those of tests/comfy/format_table.py; what a host does with a format, and how far its prediction lies from
that of the unquantised model, is what tests/comfy/inside/test_files.py noted.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.comfy.format_table import CHINESE, FORMATS

DOCS = Path(__file__).resolve().parent.parent / "docs"
START, END = "<!-- formats: python -m tools.format_table -->\n", "<!-- end -->"
BOUNDS = {
    "fp32": ("2^-24", "2^-24"),
    "fp16": ("2^-11", "2^-11"),
    "bf16": ("2^-8", "2^-8"),
    "e4m3": ("2^-4", "2^-4"),
    "e5m2": ("2^-3", "2^-3"),
    "int8": ("1/127 of the largest", "最大值的 1/127"),
    "int4": ("1/7 of the largest", "最大值的 1/7"),
    "mxfp4": ("1/4 of the largest", "最大值的 1/4"),
    "nvfp4": ("0.24 of the largest", "最大值的 0.24"),
}
STATES = {"as it is": ("as it is", "原样"), "kept": ("packed", "保持打包"), "unpacked": ("unpacked", "加载时解包")}
HEADS = (
    ("format", "in the file", "kept in memory", "error of a prediction", "error of a weight, at most"),
    ("格式", "文件内容", "内存中的形式", "预测误差", "权重误差上限"),
)
HOSTS = ("0.33.0", "0.18.1")
Measured = dict[tuple[str, str], tuple[str, str]]


def read(file: Path) -> Measured:
    """Read what was measured: (format, host) -> state of its weights, and error against the unquantised model."""
    rows = [line.split("\t") for line in file.read_text("utf-8").splitlines()]
    return {(name, host): (state, error) for name, host, state, _, error in rows}


def both(first: str, second: str) -> str:
    """Say what holds in the newest host, and what in the oldest one if that differs."""
    return first if first == second else f"{first} / {second}"


def table(measured: Measured, language: int) -> str:
    """Return the table in English (0) or Chinese (1)."""
    lines = ["| " + " | ".join(HEADS[language]) + " |", "|" + "---|" * len(HEADS[language])]
    for name, row in FORMATS.items():
        found = [measured[name, host] for host in HOSTS]
        inside = (row.inside, CHINESE.get(row.inside, row.inside))[language]
        states = both(*(STATES[state][language] for state, _ in found))
        cells = (f"`{name}`", inside, states, both(*(error for _, error in found)), BOUNDS[row.bound][language])
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main(file: Path) -> None:
    """Write both pages."""
    measured = read(file)
    for language, name in enumerate(("files.md", "files.zh-CN.md")):
        page = DOCS / name
        before, start, rest = page.read_text("utf-8").partition(START)
        page.write_text(before + start + table(measured, language) + rest[rest.index(END) :], "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
