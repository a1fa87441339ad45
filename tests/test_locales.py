"""Names, tooltips and help pages: complete in both languages and not out of date. No ComfyUI is needed.

locales/en is what the nodes themselves say; that it still is, is checked inside a host (tests/comfy/inside).
"""

from __future__ import annotations

import ast
import json
import re
from typing import Any

import pytest

from tools.node_schemas import (
    CHINESE,
    ENGLISH,
    PAGES,
    ROOT,
    WORDS,
    as_json,
    page_file,
    page_with_tables,
    read,
    translated,
)

HOW = "run python -m tools.build_locales"
TEXTS: dict[str, dict[str, Any]] = {"en": read(ENGLISH), "zh": read(CHINESE)}
LANGUAGES = pytest.mark.parametrize("language", TEXTS)
HAN = re.compile(r"[\u4e00-\u9fff]")


def strings(entry: Any) -> list[str]:
    if isinstance(entry, dict):
        return [text for value in entry.values() for text in strings(value)]
    return [entry]


def node_ids_in_the_source() -> list[str]:
    """The ids of the nodes in nodes/__init__.py's list, read without importing: their files need ComfyUI."""
    listed = ast.parse((ROOT / "nodes" / "__init__.py").read_text("utf-8"))
    assigned = next(item for item in listed.body if isinstance(item, ast.AnnAssign))
    assert isinstance(assigned.value, ast.List)
    classes = [entry.id for entry in assigned.value.elts if isinstance(entry, ast.Name)]
    found = {}
    for file in (ROOT / "nodes").glob("*.py"):
        for item in ast.parse(file.read_text("utf-8")).body:
            if isinstance(item, ast.ClassDef):
                ids = re.findall(r'node_id="(\w+)"', ast.get_source_segment(file.read_text("utf-8"), item) or "")
                found |= dict.fromkeys([item.name], ids[0]) if ids else {}
    return [found[name] for name in classes]


@LANGUAGES
def test_every_node_has_its_texts_and_no_other_has(language: str) -> None:
    assert list(TEXTS[language]) == node_ids_in_the_source(), HOW


@LANGUAGES
def test_every_node_input_and_output_has_a_name_and_a_tooltip(language: str) -> None:
    for node, entry in TEXTS[language].items():
        assert all(isinstance(text, str) and text.strip() for text in strings(entry)), node
        assert entry["outputs"], node


def test_both_languages_speak_of_the_same_inputs_and_outputs() -> None:
    shapes = [
        {node: [list(entry["inputs"]), list(entry["outputs"])] for node, entry in found.items()}
        for found in TEXTS.values()
    ]
    assert shapes[0] == shapes[1], HOW


def test_the_chinese_texts_are_the_translation_of_the_english_ones() -> None:
    """Translations are keyed by the English sentence: one that changes has none any more and is missed here."""
    chinese, missing = translated(TEXTS["en"], read(WORDS))
    assert not missing, "translate these in tools/chinese.json"
    assert CHINESE.read_text("utf-8") == as_json(chinese), HOW


def test_no_translation_is_left_over() -> None:
    used = {re.sub(r"\d+$", "#", text) for text in strings(TEXTS["en"])} | set(strings(TEXTS["en"]))
    words = read(WORDS)
    assert {text for kind in words.values() for text in kind} <= used


def test_inputs_that_grow_have_texts_of_their_own_where_the_front_end_looks_for_them() -> None:
    """It calls the second one `prompts.prompt_2` and asks for the key in which the dot is a `_`."""
    (english, chinese) = (TEXTS[language]["SkyReelsV2PromptList"]["inputs"] for language in ("en", "zh"))
    assert english["prompts_prompt_2"]["name"] == "prompt_2" and "time range" in english["prompts_prompt_2"]["tooltip"]
    assert chinese["prompts_prompt_50"]["name"] == "提示词 50" and "时间范围" in chinese["prompts_prompt_50"]["tooltip"]


def test_a_changed_english_sentence_is_noticed() -> None:
    changed = json.loads(json.dumps(TEXTS["en"]))
    node = next(iter(changed))
    changed[node]["description"] += " And more."
    _, missing = translated(changed, read(WORDS))
    assert missing == {changed[node]["description"]}


def test_what_is_said_in_chinese_is_chinese() -> None:
    for node, entry in TEXTS["zh"].items():
        parts = [*entry["inputs"].values(), *entry["outputs"].values()]
        for sentence in [entry["description"], *(part["tooltip"] for part in parts)]:
            assert HAN.search(sentence) or sentence == "Wan 2.1 VAE。", f"{node}: {sentence}"
            # full-width punctuation between Chinese characters
            assert not re.search(r"[\u4e00-\u9fff][,;:?!]", sentence), f"{node}: {sentence}"


def test_numbers_are_the_same_in_both_languages() -> None:
    for english, chinese in read(WORDS)["sentences"].items():
        numbers = [set(re.findall(r"\d+(?:\.\d+)?", text)) for text in (english, chinese)]
        assert numbers[0] - numbers[1] <= {"0", "1", "2", "8"}, english  # "order 2" is 二阶, "1 of 2" and the like


@LANGUAGES
def test_every_node_has_a_help_page_with_its_inputs_and_outputs(language: str) -> None:
    for node, entry in TEXTS[language].items():
        page = page_file(node, language).read_text("utf-8")
        assert page == page_with_tables(page, TEXTS["en"][node], entry, language), f"{node}: {HOW}"
        assert page.startswith(f"# {entry['display_name']}\n"), node


@LANGUAGES
def test_a_help_page_speaks_of_nodes_by_the_names_they_have(language: str) -> None:
    names = {entry["display_name"] for entry in TEXTS[language].values()}
    for node in TEXTS[language]:
        page = page_file(node, language).read_text("utf-8")
        assert set(re.findall(r"\*\*(SkyReels-V2 [^*]+)\*\*", page)) <= names, node


def test_no_help_page_is_left_over() -> None:
    wanted = {page_file(node, language) for language in TEXTS for node in TEXTS[language]}
    assert set(PAGES.rglob("*.md")) == wanted


def test_the_host_is_told_where_the_pages_are() -> None:
    pack = ast.parse((ROOT / "__init__.py").read_text("utf-8"))
    told = {target.id: item.value for item in pack.body if isinstance(item, ast.Assign)
            for target in item.targets if isinstance(target, ast.Name)}  # fmt: skip
    assert ROOT / ast.literal_eval(told["WEB_DIRECTORY"]) / "docs" == PAGES


def test_scripts_reach_those_of_the_host() -> None:
    """A file of web/ is served as /extensions/<pack>/<its path>, the host's own scripts as /scripts/<name>."""
    for file in (ROOT / "web").rglob("*.js"):
        up = "../" * (2 + len(file.relative_to(ROOT / "web").parts) - 1)
        for found in re.findall(r'from "(\.[^"]*/scripts/)', file.read_text("utf-8")):
            assert found == f"{up}scripts/", f"{file.name}: {found}"
