"""A further kind of file is one entry of CONTAINERS."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import torch

from tests.tiny import random_state_dict, tiny_config
from wan_core.checkpoint.containers import CONTAINERS, Container
from wan_core.checkpoint.reader import inspect_checkpoint, load_checkpoint, read_parameters
from wan_core.errors import CheckpointError

SIGNATURE = b"TEST"


def test_a_new_kind_of_file_is_read_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_config(dim=128, num_heads=1, inject_sample_info=True)  # what a file without metadata is taken for
    weights = random_state_dict(config)
    path = tmp_path / "model.test"
    path.write_bytes(SIGNATURE + safetensors.torch.save(weights))
    with pytest.raises(CheckpointError):
        inspect_checkpoint(path)
    kind = Container(SIGNATURE, lambda file: safetensors.torch.load(file.read_bytes()[len(SIGNATURE) :]))
    monkeypatch.setattr("wan_core.checkpoint.containers.CONTAINERS", [*CONTAINERS, kind])
    found, info = inspect_checkpoint(path)
    assert (found.dim, found.num_layers, info.dtype) == (config.dim, config.num_layers, "float32")
    loaded, _, _ = load_checkpoint(path)
    assert loaded.keys() == weights.keys()
    assert all(torch.equal(loaded[key], value) for key, value in weights.items())
    of_rate = read_parameters(path, "fps_")
    assert of_rate.keys() == {key for key in weights if key.startswith("fps_")}
