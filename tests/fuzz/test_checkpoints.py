"""Damaged model files: read right, or refused in a sentence of ours, at once and in little memory."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from random import Random

import pytest
import torch
from hypothesis import strategies as st

from tests.fuzz.budget import fuzz
from tests.fuzz.damage import damaged_safetensors, something_else
from tests.tiny import random_state_dict, tiny_config, write_single
from wan_core.checkpoint.reader import inspect_checkpoint, load_checkpoint, read_parameters
from wan_core.errors import SkyReelsError
from wan_core.finite import check_weights


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Small files of every kind: with fps weights, image to video, half precision, fp8 with scales."""
    folder = tmp_path_factory.mktemp("originals")
    small = {"dim": 32, "ffn_dim": 32, "freq_dim": 16, "text_dim": 16, "num_heads": 1, "num_layers": 1}
    made = []
    for number, (changes, dtype, prefix) in enumerate(
        [
            ({"inject_sample_info": True}, torch.float32, ""),
            ({"model_type": "i2v"}, torch.bfloat16, "model.diffusion_model."),
            ({}, torch.float8_e4m3fn, ""),
        ]
    ):
        config = tiny_config(**small, **changes)
        weights = random_state_dict(config, dtype=dtype)
        if dtype == torch.float8_e4m3fn:
            weights |= {f"{key}.scale_weight": torch.ones(()) for key in ("blocks.0.ffn.0", "head.head")}
        made.append(folder / f"{number}.safetensors")
        write_single(made[-1], config, weights, prefix=prefix)
    return made


def test_a_damaged_checkpoint_is_read_right_or_refused(originals: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    outside = tmp_path / "outside"
    (outside / "folder").mkdir(parents=True)
    (outside / "file").write_bytes(b"precious")

    def case(drawn: tuple[int, int, bool]) -> None:
        which, seed, other = drawn
        numbers = Random(seed)
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
        path.write_bytes(damaged_safetensors(originals[which].read_bytes(), numbers))
        if other and hasattr(os, "mkfifo"):
            something_else(path, outside, numbers)
        try:
            config, info = inspect_checkpoint(path)
            weights, loaded, _ = load_checkpoint(path)
            read_parameters(path, "fps_")
            check_weights(weights, path.name)
        except SkyReelsError as error:
            assert str(error)
            return
        assert loaded == config and str(info.describe())
        wanted = config.parameter_shapes()
        assert wanted.keys() <= weights.keys()
        assert all(tuple(weights[key].shape) == shape for key, shape in wanted.items())

    assert fuzz(case, st.tuples(st.integers(0, 2), st.integers(0, 2**40), st.sampled_from([False] * 9 + [True]))) > 0
