"""Write the table of demo/weights/scores.json into the demo model's card and its Chinese twin.

`python dev.py score --json demo/weights/scores.json`, then `python -m tools.build_scores`; a test says when a card's
table is out of date.
"""

from __future__ import annotations

import json
import re

from demo.files import WEIGHTS
from demo.score import Line

SCORES = WEIGHTS / "scores.json"
CARDS = {"en": WEIGHTS / "README.md", "zh": WEIGHTS / "README.zh-CN.md"}
HEADS = {"en": "| what | reached | wanted | kept |", "zh": "| 内容 | 达到 | 目标 | 达标 |"}
RULE = "| --- | --- | --- | --- |"
LINES = {
    "VAE: round trip of clips": "VAE:短片编码再解码",
    "image to video: first frame": "图生视频:首帧",
    "image to video: goes on from there": "图生视频:从首帧接着动",
    "start and end: first frame": "首尾帧:首帧",
    "start and end: last frame": "首尾帧:尾帧",
    "start and end: no jump at the end": "首尾帧:结尾没有跳变",
    "start and end: no jump anywhere": "首尾帧:全程没有跳变",
}
PATTERNS = (  # of names that come with several kinds or modes
    (r"VAE: (.+) right after it", r"VAE: \1(经过 VAE 后)正确"),
    (r"text, (.+): background right, where it is named", r"文字,\1: 背景正确(说出背景时)"),
    (r"text, (.+), (en|zh): (.+) right", r"文字,\1,\2: \3正确"),
    (r"between the modes: (.+)", r"各模式之间相差: \1"),
    (r"image to video: (.+) right", r"图生视频: \1正确"),
)
WORDS = {
    r"\basync\b": "异步",
    r"\bsync\b": "同步",
    r"\bblock-causal\b": "块因果",
    r" \(ar_step 5, block 5\)": "(ar_step 5,块 5)",
    r" \(block 5\)": "(块 5)",
    r"\ben\b": "英文",
    r"\bzh\b": "中文",
    r"colour": "颜色",
    r"shape": "形状",
    r"motion": "运动",
    r"at least": "至少",
    r"at most": "至多",
    r"\bpoints\b": "分",
    r"\byes\b": "是",
    r"\bno\b": "否",
}


def read_scores() -> list[Line]:
    """Return the lines that `dev.py score --json` wrote."""
    rows = json.loads(SCORES.read_text(encoding="utf-8"))
    return [Line(row["what"], row["reached"], row["wanted"], row["unit"], row.get("at_most", False)) for row in rows]


def in_chinese(row: str) -> str:
    """Return a row of the table in Chinese; `Raises: ValueError` for one that has no translation."""
    name, rest = row.removeprefix("| ").split(" | ", 1)
    said = LINES.get(name, name)
    for pattern, wording in PATTERNS:
        said = said if said != name else re.sub(f"^{pattern}$", wording, name)
    if said == name:
        raise ValueError(f"The line {name!r} has no Chinese in tools/build_scores.py: add it to LINES or PATTERNS.")
    row = f"| {said} | {rest}"
    for pattern, word in WORDS.items():
        row = re.sub(pattern, word, row)
    return row


def with_table(card: str, language: str, lines: list[Line]) -> str:
    """Return the text of a card with the table of `lines` in place of the one that it has."""
    rows = [line.text() for line in lines]
    rows = [in_chinese(row) for row in rows] if language == "zh" else rows
    before, after = card.split(HEADS[language])
    return "\n".join([before + HEADS[language], RULE, *rows, after[after.index("\n\n") + 1 :]])


def main() -> None:
    """Write both cards."""
    for language, path in CARDS.items():
        path.write_text(with_table(path.read_text(encoding="utf-8"), language, read_scores()), encoding="utf-8")
        print(path.relative_to(WEIGHTS.parent.parent))


if __name__ == "__main__":
    main()
