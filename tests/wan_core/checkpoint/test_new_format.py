"""A further number format is one row of FORMATS: here whole numbers of 16 bit, and their step."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.tiny import random_state_dict, tiny_config
from wan_core.checkpoint import formats
from wan_core.checkpoint.reader import inspect_checkpoint, load_checkpoint
from wan_core.checkpoint.stored import take_parts
from wan_core.errors import CheckpointError

LAYER = "blocks.0.ffn.0"
STEP = 2.0**-10

STEPS = formats.Format(
    "int16 with a step",
    lambda matrix: matrix.has_only("weight", "step") and matrix.is_stored(("int16",)),
    2.0**-10,
    scales=lambda parts, matrix: (parts["weight"], parts["step"]),
)


def test_a_new_row_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = random_state_dict(tiny_config(dim=128, num_heads=1))
    given = weights.pop(f"{LAYER}.weight")
    steps = (given / STEP).round().to(torch.int16)
    path = tmp_path / "model.safetensors"
    save_file({**weights, f"{LAYER}.weight": steps, f"{LAYER}.step": torch.tensor(STEP)}, path)
    with pytest.raises(CheckpointError):
        inspect_checkpoint(path)
    monkeypatch.setattr(formats, "FORMATS", (*formats.FORMATS, STEPS))
    loaded, _, info = load_checkpoint(path)
    assert info.quantization == "int16 with a step"
    stored = info.stored[LAYER]
    assert torch.equal(stored.numbers(take_parts(loaded, stored)), steps.float() * STEP)
