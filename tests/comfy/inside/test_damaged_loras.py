"""Damaged LoRA files in the host's process: used, or refused in a sentence of ours; a thousand of them in minutes.

`SKYREELS_FUZZ_MINUTES` makes it longer, as for tests/fuzz, whose ways to damage a file these are.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import time
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

import pytest
import safetensors.torch
import torch
from conftest import REPO, load_module

CASES = 150
MOST_SECONDS = 2.0  # of the processor


def lora_files(folder: Path, model: Any) -> list[Path]:
    """Small LoRAs with the key names of several makers."""
    weight = model.model.diffusion_model.blocks[0].ffn[0].weight
    down, up = torch.rand(2, weight.shape[1]) * 0.01, torch.rand(weight.shape[0], 2) * 0.01
    styles = {
        "diffusers": {"transformer.blocks.0.ffn.0.lora_A.weight": down, "transformer.blocks.0.ffn.0.lora_B.weight": up},
        "comfy": {
            "diffusion_model.blocks.0.ffn.0.lora_down.weight": down,
            "diffusion_model.blocks.0.ffn.0.lora_up.weight": up,
            "diffusion_model.blocks.0.ffn.0.alpha": torch.tensor(2.0),
            "diffusion_model.blocks.0.ffn.0.diff_b": torch.zeros(weight.shape[0]),
        },
        "kohya": {
            "lora_unet_blocks_0_ffn_0.lora_down.weight": down,
            "lora_unet_blocks_0_ffn_0.lora_up.weight": up,
            "lora_unet_blocks_0_ffn_0.alpha": torch.tensor(1.0),
        },
    }
    for name, tensors in styles.items():
        safetensors.torch.save_file(tensors, folder / f"{name}.safetensors", {"format": "pt"})
    return sorted(folder.glob("*.safetensors"))


def test_a_damaged_lora_is_used_or_refused(model: Any, pack: ModuleType, tmp_path: Path) -> None:
    lora = importlib.import_module("skyreels_v2.wan_core.comfy.loading.lora")
    ours = importlib.import_module("skyreels_v2.wan_core.errors").SkyReelsError
    damage = load_module("damage", REPO / "tests" / "fuzz" / "damage.py")
    originals = [path.read_bytes() for path in lora_files(tmp_path, model)]
    path, used, refused, raw = tmp_path / "damaged.safetensors", 0, 0, []
    end = time.monotonic() + 60 * float(os.environ.get("SKYREELS_FUZZ_MINUTES", "0"))
    seed = 0
    while seed < CASES or time.monotonic() < end:
        numbers = Random(seed)
        path.write_bytes(damage.damaged_safetensors(numbers.choice(originals), numbers))
        begin = time.process_time()
        try:
            lora.apply_lora(model, path, 1.0)
            used += 1
        except ours as error:
            assert str(error)
            refused += 1
        except Exception as error:
            raw.append(f"seed {seed}: {type(error).__name__}: {error}")
        assert time.process_time() - begin < MOST_SECONDS, seed
        seed += 1
    print(f"{seed} cases: {used} used, {refused} refused", file=sys.stderr)
    assert raw == []
    assert used > seed / 100 and refused > seed / 10


@pytest.mark.parametrize("what", ["folder", "pipe", "dangling link", "nothing"])
def test_what_is_no_lora_file_is_refused(model: Any, pack: ModuleType, tmp_path: Path, what: str) -> None:
    lora = importlib.import_module("skyreels_v2.wan_core.comfy.loading.lora")
    ours = importlib.import_module("skyreels_v2.wan_core.errors").SkyReelsError
    path = tmp_path / "x.safetensors"
    if what == "folder":
        path.mkdir()
    elif what == "pipe" and hasattr(os, "mkfifo"):
        os.mkfifo(path)
    elif what == "dangling link":
        path.symlink_to(tmp_path / "gone")
    with pytest.raises(ours):
        lora.apply_lora(model, path, 1.0)
