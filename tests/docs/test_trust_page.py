"""docs/trust.md and its Chinese twin hold the figures that are kept, and those are what SECURITY.md promises."""

from __future__ import annotations

import pytest

from tools import trust

KEPT = trust.read()


@pytest.mark.parametrize("language", trust.PAGES)
def test_the_page_holds_the_tables(language: str) -> None:
    page = trust.PAGES[language].read_text("utf-8")
    assert trust.page_with_tables(page, KEPT, language) == page, "run python -m tools.trust"
    sections = {part for name, (part, _) in trust.TABLES.items() if trust.START.format(name=name) in page}
    assert sections == KEPT.keys()


def test_enough_was_tried() -> None:
    assert KEPT["trials"]["interrupts"]["count"] >= 100
    counts = {test: seen["cases"] for test, seen in KEPT["fuzz"].items()}
    assert sum(count for test, count in counts.items() if "checkpoints" in test) >= 10_000


def test_what_was_seen_keeps_the_promises() -> None:
    assert all(abs(trust.grown(seen["memory"])) < 0.05 for seen in KEPT["trials"].values())
    assert all(seen["seconds"] < 2 and seen["megabytes"] < 500 for seen in KEPT["fuzz"].values())
