"""Write docs/inputs.md and its Chinese twin: what each input of each node makes of right and wrong values.

    SKYREELS_CONTRACTS=seen.json, then the tests inside a host: tests/comfy/inside/test_contracts.py
    python -m tools.contract_table seen.json

Without a file the pages are made again from tests/contracts.json, where what was seen is kept.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
KEPT = ROOT / "tests" / "contracts.json"
MESSAGES = ROOT / "locales" / "zh" / "messages.json"
PAGES = {"en": ROOT / "docs" / "inputs.md", "zh": ROOT / "docs" / "inputs.zh-CN.md"}
START, END = "<!-- inputs: python -m tools.contract_table -->\n", "<!-- end -->"
RIGHT = "right"
COLUMNS = {
    "right": "正确",
    "empty": "空",
    "wrong size": "大小不对",
    "wrong kind": "类型不对",
    "NaN": "NaN",
    "from another model": "来自其他模型",
}
INPUT, WORKS, NO_INPUTS = {"en": "input", "zh": "输入"}, "✓", {"en": "no inputs", "zh": "没有输入"}
Outcomes = dict[str, dict[str, dict[str, list[str]]]]


def packed(outcomes: Outcomes) -> dict[str, Any]:
    """Return the outcomes with each sentence written once: 0 is "right", n the sentence n."""
    sentences = [RIGHT]
    rows: dict[str, dict[str, dict[str, list[int]]]] = {}
    for node, inputs in outcomes.items():
        for name, columns in inputs.items():
            for column, said in columns.items():
                sentences += [each for each in said if each not in sentences]
                places = rows.setdefault(node, {}).setdefault(name, {})
                places[column] = [sentences.index(each) for each in said]
    return {"sentences": sentences, "rows": rows}


def unpacked(kept: dict[str, Any]) -> Outcomes:
    """Return the outcomes as they were before `packed`."""
    sentences = kept["sentences"]
    return {
        node: {
            name: {column: [sentences[at] for at in places] for column, places in columns.items()}
            for name, columns in inputs.items()
        }
        for node, inputs in kept["rows"].items()
    }


def tables(kept: dict[str, Any], language: str) -> str:
    """Return a table for each node and the list of sentences."""
    said = json.loads(MESSAGES.read_text("utf-8")) if language == "zh" else {}
    heads = [name if language == "en" else chinese for name, chinese in COLUMNS.items()]
    parts = []
    for node, inputs in kept["rows"].items():
        lines = [
            f"### {node}",
            "",
            f"| {INPUT[language]} | " + " | ".join(heads) + " |",
            "|---" * (len(heads) + 1) + "|",
        ]
        for name, columns in inputs.items():
            cells = [" ".join(WORKS if at == 0 else f"[{at}]" for at in columns.get(column, [])) for column in COLUMNS]
            lines.append(f"| {f'`{name}`' if name else NO_INPUTS[language]} | " + " | ".join(cells) + " |")
        parts.append("\n".join(lines) + "\n")
    sentences = [f"{at}. {said.get(each, each)}" for at, each in enumerate(kept["sentences"]) if at]
    heading = {"en": "## Sentences", "zh": "## 提示语"}[language]
    return "\n" + "\n".join(parts) + f"\n{heading}\n\n" + "\n".join(sentences) + "\n\n"


def page_with_tables(page: str, kept: dict[str, Any], language: str) -> str:
    """Return a page with the tables between its two marks."""
    before, start, rest = page.partition(START)
    return before + start + tables(kept, language) + rest[rest.index(END) :]


def as_json(kept: dict[str, Any]) -> str:
    """Return the file's text: a line for each sentence and each input."""
    sentences = ",\n".join("  " + json.dumps(each, ensure_ascii=False) for each in kept["sentences"])
    nodes = ",\n".join(
        f"  {json.dumps(node)}: {{\n"
        + ",\n".join(f"   {json.dumps(name)}: {json.dumps(columns)}" for name, columns in inputs.items())
        + "\n  }"
        for node, inputs in kept["rows"].items()
    )
    return f'{{\n "sentences": [\n{sentences}\n ],\n "rows": {{\n{nodes}\n }}\n}}\n'


def main(file: Path | None = None) -> None:
    """Keep what was seen, if there is a file of it, and write both pages."""
    if file is not None:
        KEPT.write_text(as_json(packed(json.loads(file.read_text("utf-8")))), "utf-8")
    kept = json.loads(KEPT.read_text("utf-8"))
    for language, page in PAGES.items():
        page.write_text(page_with_tables(page.read_text("utf-8"), kept, language), "utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
