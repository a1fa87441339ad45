"""docs/inputs.md and its Chinese twin hold the table that is kept in tests/contracts.json."""

from __future__ import annotations

import json

import pytest

from tools.contract_table import KEPT, MESSAGES, PAGES, as_json, packed, page_with_tables, unpacked


@pytest.mark.parametrize("language", PAGES)
def test_the_page_holds_the_table(language: str) -> None:
    page = PAGES[language].read_text("utf-8")
    kept = json.loads(KEPT.read_text("utf-8"))
    assert page_with_tables(page, kept, language) == page, "run python -m tools.contract_table"


def test_packing_loses_nothing() -> None:
    text = KEPT.read_text("utf-8")
    kept = json.loads(text)
    assert packed(unpacked(kept)) == kept and as_json(kept) == text


def test_every_sentence_has_its_chinese() -> None:
    chinese = json.loads(MESSAGES.read_text("utf-8"))
    assert [each for each in json.loads(KEPT.read_text("utf-8"))["sentences"][1:] if each not in chinese] == []
