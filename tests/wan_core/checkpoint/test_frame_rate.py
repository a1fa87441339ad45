"""The frame rate as one vector on the time projection: the model without its weights then predicts the same."""

from __future__ import annotations

from dataclasses import replace

import pytest
import safetensors
import torch

from tests.tiny import (
    random_state_dict,
    tiny_config,
    to_diffusers_names,
    write_diffusers_folder,
    write_shards,
    write_single,
)
from wan_core.checkpoint.frame_rate import frame_rate_shift
from wan_core.errors import CheckpointError
from wan_core.model.wan_model import WanModel

CONFIG = tiny_config(inject_sample_info=True)


def built(config, state_dict):
    model = WanModel(config)
    model.load_state_dict(state_dict)
    return model


@pytest.mark.parametrize("fps", [16, 24, 30])
@pytest.mark.parametrize("form", ["single", "prefix", "diffusers names", "shards", "diffusers folder"])
def test_a_model_without_the_weights_predicts_the_same_with_the_vector(form, fps, tmp_path):
    weights = random_state_dict(CONFIG)
    path = tmp_path / "model.safetensors"
    if form == "shards":
        path = write_shards(tmp_path / "shards", CONFIG)
    elif form == "diffusers folder":
        path = write_diffusers_folder(tmp_path / "folder", CONFIG)
    elif form == "diffusers names":
        write_single(path, CONFIG, to_diffusers_names(weights))
    else:
        write_single(path, CONFIG, prefix="model.diffusion_model." if form == "prefix" else "")
    shift = frame_rate_shift(path, fps)
    assert shift.dtype == torch.float32

    plain = {key: value for key, value in weights.items() if not key.startswith("fps_")}
    plain["time_projection.1.bias"] = plain["time_projection.1.bias"] + shift
    x, context = torch.randn(1, 16, 3, 4, 4), torch.randn(1, 8, CONFIG.text_dim)
    t = torch.tensor([[0.0, 400.0, 999.0]])
    with torch.inference_mode():
        wanted = built(CONFIG, weights)(x, t, context, fps=fps)
        made = built(replace(CONFIG, inject_sample_info=False), plain)(x, t, context)
    torch.testing.assert_close(made, wanted, rtol=1e-5, atol=1e-5)


def test_only_the_frame_rate_weights_are_read(tmp_path, monkeypatch):
    path = write_single(tmp_path / "model.safetensors", CONFIG)
    read = []
    real = safetensors.safe_open

    class Counting:
        def __init__(self, *args, **kwargs):
            self.file = real(*args, **kwargs)

        def __enter__(self):
            self.file.__enter__()
            return self

        def __exit__(self, *_):
            return None

        def __getattr__(self, name):
            return getattr(self.file, name)

        def get_tensor(self, key):
            read.append(key)
            return self.file.get_tensor(key)

    monkeypatch.setattr(safetensors, "safe_open", Counting)
    frame_rate_shift(path, 24)
    assert sorted(read) == sorted(key for key in random_state_dict(CONFIG) if key.startswith("fps_"))


def test_a_file_without_the_weights_is_refused(tmp_path):
    path = write_single(tmp_path / "plain.safetensors", tiny_config())
    with pytest.raises(CheckpointError, match=r"has no frame-rate weights, which of the released models only DF-1.3B"):
        frame_rate_shift(path, 24)


def test_packed_weights_are_read_as_the_numbers_that_they_stand_for(tmp_path):
    weights = random_state_dict(CONFIG)
    path = write_single(tmp_path / "plain.safetensors", CONFIG, weights)
    key = "fps_projection.2.weight"
    scale = weights[key].abs().amax(1, keepdim=True) / 127
    packed = {**weights, key: (weights[key] / scale).round().to(torch.int8), f"{key}_scale": scale}
    other = write_single(tmp_path / "packed.safetensors", CONFIG, packed)
    torch.testing.assert_close(frame_rate_shift(other, 24), frame_rate_shift(path, 24), rtol=0.05, atol=0.05)
    weights[key] = torch.zeros(6 * CONFIG.dim, CONFIG.dim // 2, dtype=torch.uint8)
    with pytest.raises(CheckpointError, match=r"fps_projection.2 is \[384, 64\] in the model and stored as"):
        frame_rate_shift(write_single(tmp_path / "four_bits.safetensors", CONFIG, weights), 24)
