"""The process these tests run in is a host on the CPU, and its own classes take the tiny files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.sd
import comfy.utils
import folder_paths
import torch


def test_the_host_runs_on_the_cpu_and_sees_the_tiny_files(models: Path) -> None:
    assert comfy.model_management.get_torch_device() == torch.device("cpu")
    assert "tiny_df.safetensors" in folder_paths.get_filename_list("diffusion_models")
    assert Path(folder_paths.get_full_path_or_raise("diffusion_models", "tiny_df.safetensors")).parent.parent == models


def test_core_builds_its_wan_model_from_the_tiny_file(models: Path) -> None:
    patcher = comfy.sd.load_diffusion_model(str(models / "diffusion_models" / "tiny_df.safetensors"))
    model = patcher.model.diffusion_model
    assert (model.dim, model.num_heads, model.num_layers, model.text_dim) == (256, 2, 2, 4096)
    written = comfy.utils.load_torch_file(str(models / "diffusion_models" / "tiny_df.safetensors"))
    loaded = model.state_dict()
    assert all(torch.equal(loaded[name].float(), written[name].float()) for name in loaded)


def test_the_tiny_clip_encodes_the_same_text_to_the_same_numbers(tiny_clip: Any) -> None:
    first, second = (tiny_clip.encode_from_tokens_scheduled(tiny_clip.tokenize("a swan"))[0][0] for _ in range(2))
    assert first.shape == (1, 512, 4096)
    assert torch.equal(first, second)
