"""What is said at run time: sentences that can be said in another language, and a catalogue that says all of them.

A sentence is a literal where it is meant, so what there is to translate is read from the source; no ComfyUI is needed.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from string import Formatter
from typing import Any

import pytest

from wan_core.checkpoint import foreign
from wan_core.words import CATALOGUE, LOCALES, Words, counted

ROOT = Path(__file__).parent.parent
FILES = [*(ROOT / "wan_core").rglob("*.py"), *(ROOT / "nodes").rglob("*.py")]
LANGUAGES = pytest.mark.parametrize("language", [file.parent.name for file in LOCALES.glob(f"*/{CATALOGUE}")])
SAYS = {"words": 0, "Words": 0, "counted": 1, "joined": 1, "tell": 1}  # which argument is said
# where a sentence comes from somewhere else: the two places that make one of what they are given, and a table's rows
GIVEN = {("words.py", "Words"), ("errors.py", "Words"), ("foreign.py", "words")}
HAN = re.compile(r"[\u4e00-\u9fff]")


@cache
def errors() -> set[str]:
    """The names of our error classes."""
    found, before = {"SkyReelsError"}, set[str]()
    classes = [item for file in FILES for item in ast.walk(parsed(file)) if isinstance(item, ast.ClassDef)]
    while found != before:
        before = set(found)
        found |= {each.name for each in classes if any(isinstance(b, ast.Name) and b.id in found for b in each.bases)}
    return found


@cache
def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text("utf-8"))


def said() -> Iterator[tuple[Path, str, ast.expr]]:
    """Every place where something is said: file, name of what says it, and what is said."""
    for file in FILES:
        for call in ast.walk(parsed(file)):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name):
                name = call.func.id
                place = 0 if name in errors() else SAYS.get(name)
                if place is not None and place < len(call.args):
                    yield file, name, call.args[place]


@cache
def templates() -> frozenset[str]:
    """All that a catalogue has to have."""
    found: set[str] = set()
    for _file, name, text in said():
        if isinstance(text, ast.Constant):
            numbers = [counted(number, text.value).template for number in (1, 2)] if name == "counted" else []
            found.update(numbers or [text.value])
    found.update(each.template for each in words_within(vars(foreign)))
    return frozenset({*found, ", "})  # what a list has between its parts unless it is told otherwise


def words_within(value: Any, depth: int = 5) -> Iterator[Words]:
    """The sentences in nested tables."""
    if isinstance(value, Words):
        yield value
    elif isinstance(value, dict | list | tuple) and depth:
        for item in value.values() if isinstance(value, dict) else value:
            yield from words_within(item, depth - 1)


def places(template: str) -> list[tuple[str, str, str | None]]:
    """The places of a sentence: name, format and conversion."""
    return sorted((name, form or "", how) for _, name, form, how in Formatter().parse(template) if name is not None)


def in_language(language: str) -> dict[str, str]:
    found: dict[str, str] = json.loads((LOCALES / language / CATALOGUE).read_text("utf-8"))
    return found


def test_no_sentence_is_put_together_before_it_is_said() -> None:
    spoken = [
        f"{file.relative_to(ROOT)}:{text.lineno}: {ast.unparse(text)[:80]}"
        for file, name, text in said()
        if (file.name, name) not in GIVEN
        and (isinstance(text, ast.JoinedStr | ast.BinOp) or (name != "tell" and not isinstance(text, ast.Constant)))
    ]
    assert spoken == [], "give a literal with places, and values by name"


def test_no_value_is_a_sentence_that_only_english_has() -> None:
    """A value that has words in it and is no Words would stay English: every such text is a name or a number."""
    plain = []
    for file in FILES:
        for call in ast.walk(parsed(file)):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in {"words", *errors()}:
                for value in call.keywords:
                    for part in ast.walk(value.value):
                        inner = isinstance(part, ast.JoinedStr)
                        if inner and any(re.search(r"[a-z] ", t.value) for t in part.values if is_text(t)):
                            plain.append(f"{file.relative_to(ROOT)}:{part.lineno}: {ast.unparse(part)}")
    assert plain == []


def is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def test_the_places_of_sentences_are_plain_names() -> None:
    assert len(templates()) > 250
    for template in templates():
        assert all(name.isidentifier() for name, _, _ in places(template)), template


@LANGUAGES
def test_a_catalogue_has_every_sentence_and_no_other(language: str) -> None:
    found = in_language(language)
    assert sorted(templates() - set(found)) == [], f"missing in locales/{language}/{CATALOGUE}"
    assert sorted(set(found) - templates()) == [], f"left over in locales/{language}/{CATALOGUE}"


@LANGUAGES
def test_a_translation_has_the_places_of_its_sentence(language: str) -> None:
    for english, other in in_language(language).items():
        assert {each[0] for each in places(other)} == {each[0] for each in places(english)}, english
        assert set(places(other)) <= set(places(english)), english  # with the same formats


def test_chinese_is_chinese() -> None:
    for english, chinese in in_language("zh").items():
        kept = re.sub(r"\{[^}]*\}|SkyReels-V2|MB", "", chinese)
        assert HAN.search(chinese) or not re.search("[A-Za-z]", kept) or len(english) < 25, english  # names are kept
        outside = re.sub(r"\[.*?\]", "", chinese)  # of shapes
        assert not re.search(r"[\u4e00-\u9fff][,;:?!]|[,;:?!][\u4e00-\u9fff]", outside), chinese  # ASCII punctuation
        assert "  " not in chinese or "  " in english, chinese
