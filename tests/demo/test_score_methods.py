"""The arithmetic of the score by method, on drawn clips that need no model."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import torch
from torch import Tensor

from demo.score_methods import LOOKED_AT, SECOND, WHOLE_BLOCK, Scored, heard_after, in_block, jump_at, kept, table
from demo.shapes import COLOURS, coverage, palette

CHANGE = 24  # video frames


def turning(late: int, jump: float = 0.0) -> Tensor:
    """Return a red circle that moves right and turns up so many video frames after the change [F, 64, 64, 3]."""
    steps = torch.full((CHANGE + late - 1, 2), 2.0) * torch.tensor([1.0, 0.0])
    turned = torch.full((36 - late, 2), 2.0) * torch.tensor([0.0, -1.0])
    steps = torch.cat((steps, turned))
    steps[CHANGE - 1, 0] += jump
    centres = torch.cat((torch.tensor([[10.0, 50.0]]), torch.tensor([10.0, 50.0]) + steps.cumsum(dim=0))) % 64
    cover = coverage("circle", centres, torch.full((len(centres),), 12.0))[..., None]
    return cover * palette(COLOURS)[0]


def test_a_direction_is_heard_when_it_is_seen_and_counts_in_its_block_and_in_its_second() -> None:
    last = WHOLE_BLOCK - LOOKED_AT
    late = {true: heard_after(turning(true), CHANGE, "up") for true in (0, 6, 12)}
    assert late[0] == 0 and 0 < late[6] <= 6 and late[6] < late[12] <= 12  # a last step of the old way may pass
    assert heard_after(turning(SECOND), CHANGE, "up") is None and heard_after(turning(0), CHANGE, "left") is None
    assert [in_block(late) for late in (0, last, last + 1, None)] == [True, True, False, False]


def test_a_jump_at_the_change_is_the_step_beyond_the_usual_one() -> None:
    assert abs(jump_at(turning(0), CHANGE)) < 0.5
    assert abs(jump_at(turning(0, 9.0), CHANGE) - (85**0.5 - 2)) < 0.5  # a step of 9 and 2 pixels, less one of 2


def test_what_was_measured_is_read_again_and_added_up(tmp_path) -> None:
    first = Scored("segments", 0, 1457, 1440, 100.0, [0, 12, None], [0.5, 1.5, 4.0], 0.2, 0.3, 1.0)
    other = replace(first, scene=1, late=[0, 0, 0], seconds=200.0)
    path = tmp_path / "methods.json"
    assert kept(None) == [] and kept(path) == []
    path.write_text(json.dumps([asdict(first), asdict(other)]))
    assert kept(path) == [first, other]
    (line,) = [line for line in table(kept(path)).splitlines() if line.startswith("| segments")]
    assert line.split(" | ")[1:6] == ["1440", "150", "4 of 6", "5 of 6", "2.4"]
