"""docs/trust.md and its Chinese twin hold the figures that are kept, and those are what SECURITY.md promises."""

from __future__ import annotations

import pytest

from tools import trust
from tools.soak import FIGURES, WORDS, picture

KEPT = trust.read()


@pytest.mark.parametrize("language", trust.PAGES)
def test_the_page_holds_the_tables(language: str) -> None:
    page = trust.PAGES[language].read_text("utf-8")
    assert trust.page_with_tables(page, KEPT, language) == page, "run python -m tools.trust"
    sections = {part for name, (part, _) in trust.TABLES.items() if trust.START.format(name=name) in page}
    assert sections == KEPT.keys()


@pytest.mark.parametrize("language", WORDS)
def test_the_picture_shows_the_memory(language: str) -> None:
    drawn = picture(KEPT["soak"]["memory"], language).svg()
    assert drawn == (FIGURES / f"soak{language}.svg").read_text("utf-8")


def test_enough_was_tried() -> None:
    trials = KEPT["trials"]
    assert trials["interrupts"]["ended"] >= 100 and trials["kills"]["ended"] >= 50
    assert len(KEPT["soak"]["memory"]) >= 200
    counts = {test: seen["cases"] for test, seen in KEPT["fuzz"].items()}
    for part, wanted in (("checkpoints", 10_000), ("journals", 10_000), ("scripts", 100_000), ("plan", 100_000)):
        assert sum(count for test, count in counts.items() if part in test.partition("::")[0]) >= wanted, part


def test_what_was_seen_keeps_the_promises() -> None:
    assert all(abs(trust.grown(seen["memory"])) < 0.05 for seen in (KEPT["soak"], *KEPT["trials"].values()))
    answers = [KEPT["soak"], *KEPT["answers"]["nodes"].values()]
    assert max(max(seen["longest"], seen["interrupt"] or 0) for seen in answers) < 1
    assert all(seen["seconds"] < 2 and seen["megabytes"] < 500 for seen in KEPT["fuzz"].values())
    assert not [name for name, equal in KEPT["ways"]["ways"].items() if False in equal.values()]


def test_the_tests_notice_nine_changes_of_ten_and_each_other_has_its_reason() -> None:
    files = KEPT["mutants"]["files"].values()
    assert sum(seen["killed"] for seen in files) > 0.9 * sum(seen["tried"] for seen in files)
    assert all(len(each["en"]) > 10 and len(each["zh"]) > 5 for each in KEPT["mutants"]["survivors"])
