"""The benchmark of the budget for keys and values: all of them are the measure, and a share takes its share."""

from __future__ import annotations

import pytest

from benchmarks import kv_budget
from demo.generate import Settings
from demo.models import load_models


def test_every_way_is_held_against_the_whole_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kv_budget, "HOW", Settings(steps=2))
    monkeypatch.setattr(kv_budget, "AFTER", (3, 4))
    lines = {line.way: line for line in kv_budget.measure(load_models(), 2)}
    whole = lines.pop("all of 20 latent frames")
    assert whole.memory == 1 and set(sum(whole.decibels, ())) == {120.0}
    assert [lines[f"kv_budget {share}"].memory for share in (0.5, 0.25, 0.125)] == [0.5, 0.25, 0.125]
    for line in lines.values():
        near = sum(line.decibels, ())
        assert len(near) == 4 and all(10 < each < 120 for each in near)
    assert "| kv_budget 0.25 | 25% |" in kv_budget.page([whole, lines["kv_budget 0.25"]])
