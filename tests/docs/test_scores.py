"""The demo model's cards show what was measured."""

from __future__ import annotations

import pytest

from tools.build_scores import CARDS, read_scores, with_table


@pytest.mark.parametrize("language", list(CARDS))
def test_the_table_is_that_of_the_scores(language: str) -> None:
    card = CARDS[language].read_text("utf-8")
    assert with_table(card, language, read_scores()) == card
    assert card.count("\n| text" if language == "en" else "\n| 文字") == 21
