"""The READMEs list every node, under the names that it has in either language's ComfyUI."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools.node_schemas import CHINESE, ENGLISH, read

ROOT = Path(__file__).resolve().parents[2]


def names(texts: Path) -> list[str]:
    return [node["display_name"] for node in read(texts).values()]


@pytest.mark.parametrize(("file", "heading"), [("README.md", "## Nodes"), ("README.zh-CN.md", "## 节点一览")])
def test_the_table_of_nodes_is_whole(file: str, heading: str) -> None:
    section = (ROOT / file).read_text("utf-8").split(f"{heading}\n", 1)[1].split("\n## ", 1)[0]
    rows = [re.split(r" *\| *", line.strip("| ")) for line in section.splitlines() if line.startswith("| SkyReels-V2 ")]
    english = names(ENGLISH)
    chinese = dict(zip(english, names(CHINESE), strict=True))
    assert sorted(row[0] for row in rows) == sorted(english)
    if len(rows[0]) == 3:
        assert {row[0]: row[1] for row in rows} == chinese
