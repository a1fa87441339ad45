"""Our LoRA loader in the host: every spelling of a file changes the weights as core's loader does with its own."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import comfy.lora
import comfy.model_management
import comfy.sd
import comfy.utils
import pytest
import torch
from safetensors.torch import save_file

DIFFUSERS = {"self_attn.q": "attn1.to_q", "self_attn.v": "attn1.to_v", "cross_attn.k": "attn2.to_k",
             "ffn.0": "ffn.net.0.proj"}  # fmt: skip


def diffusers(key: str) -> str:
    for ours, theirs in DIFFUSERS.items():
        key = key.replace(f".{ours}.", f".{theirs}.")
    return key


def kohya(key: str) -> str:
    module, _, factor = key.rpartition(".lora_")
    return f"{module.replace('.', '_')}.lora_{ {'A.weight': 'down', 'B.weight': 'up'}[factor] }.weight"


SPELLINGS: dict[str, Callable[[str], str]] = {
    "ComfyUI's own": lambda key: f"diffusion_model.{key}",
    "kohya": lambda key: "lora_unet_" + kohya(key),
    "no prefix": lambda key: key,
    "DiffSynth": lambda key: key.replace(".weight", ".default.weight"),
    "peft": lambda key: f"base_model.model.{key}",
    "diffusers": lambda key: f"transformer.{diffusers(key)}",
    "kohya of diffusers": lambda key: "lora_unet_" + kohya(diffusers(key)),
}
KNOWN_TO_CORE = ("ComfyUI's own", "kohya")


def lora_module(pack: ModuleType) -> Any:
    return importlib.import_module(f"{pack.__name__}.wan_core.comfy.loading.lora")


def load(pack: ModuleType, file: Path) -> Any:
    return importlib.import_module(f"{pack.__name__}.wan_core.comfy.loading.loader").load_model(file)


@pytest.fixture
def model(pack: ModuleType, models: Path) -> Any:
    return load(pack, models / "diffusion_models" / "tiny_df.safetensors")


@pytest.fixture
def lora(models: Path) -> dict[str, torch.Tensor]:
    """The tiny LoRA without its prefix."""
    tensors = comfy.utils.load_torch_file(str(models / "loras" / "tiny_lora.safetensors"))
    return {key.removeprefix("diffusion_model."): value for key, value in tensors.items()}


def weights(patcher: Any) -> dict[str, torch.Tensor]:
    """The weights as sampling sees them, patches and all."""
    comfy.model_management.load_models_gpu([patcher], force_full_load=True)
    found = {name: value.clone() for name, value in patcher.model.diffusion_model.state_dict().items()}
    patcher.detach()
    return found


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_changes_the_weights_as_cores_loader_does_with_its_own(
    pack: ModuleType, model: Any, lora: dict[str, torch.Tensor], tmp_path: Path, spelling: str
) -> None:
    expected, _ = comfy.sd.load_lora_for_models(
        model, None, {f"diffusion_model.{key}": value for key, value in lora.items()}, 0.7, 0
    )
    expected = weights(expected)
    plain = weights(model)
    file = tmp_path / "lora.safetensors"
    save_file({SPELLINGS[spelling](key): value for key, value in lora.items()}, file)
    patched, report = lora_module(pack).apply_lora(model, file, 0.7)
    got = weights(patched)
    assert all(torch.equal(got[name], expected[name]) for name in expected)
    assert sum(not torch.equal(got[name], plain[name]) for name in plain) == len(lora) // 2
    assert str(report) == f"lora.safetensors: {len(lora)} of {len(lora)} keys used, {len(lora) // 2} weights changed"


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_cores_own_loader_knows_two_of_the_spellings(model: Any, lora: dict[str, torch.Tensor], spelling: str) -> None:
    key_map = comfy.lora.model_lora_keys_unet(model.model, {})
    found = comfy.lora.load_lora({SPELLINGS[spelling](key): value for key, value in lora.items()}, key_map)
    assert len(found) == (len(lora) // 2 if spelling in KNOWN_TO_CORE else 0)


def test_a_model_from_cores_loader_takes_the_node_too(
    pack_nodes: dict[str, Any], models: Path, lora: dict[str, torch.Tensor]
) -> None:
    core = comfy.sd.load_diffusion_model(str(models / "diffusion_models" / "tiny_df_nofps.safetensors"))
    file = models / "loras" / "d.safetensors"
    save_file({f"transformer.{diffusers(key)}": value for key, value in lora.items()}, file)
    node = pack_nodes["SkyReelsV2LoraLoader"]
    patched, report = node.execute(core, file.name, 1.0).result
    assert len(patched.patches) == len(lora) // 2 and f"{len(lora)} of {len(lora)} keys used" in report


def test_what_is_not_understood_is_reported_and_the_rest_used(
    pack: ModuleType, model: Any, lora: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    file = tmp_path / "mixed.safetensors"
    lonely = "blocks.1.self_attn.k.lora_A.weight"
    extra = {"text_model.q.lora_A.weight": torch.zeros(4, 8), lonely: torch.zeros(4, 256),
             "patch_embedding.diff": torch.zeros(256, 36, 1, 2, 2)}  # fmt: skip
    save_file({**lora, **extra}, file)
    patched, report = lora_module(pack).apply_lora(model, file, 1.0)
    lines = str(report).splitlines()
    assert len(patched.patches) == len(lora) // 2
    assert lines[0] == f"mixed.safetensors: {len(lora)} of {len(lora) + 3} keys used, {len(lora) // 2} weights changed"
    assert lines[1:] == [
        "1 not understood: text_model.q.lora_A.weight",
        "1 of another shape than this model's: patch_embedding.diff",
        f"1 without their other half: {lonely}",
    ]


@pytest.mark.parametrize("loader", ["ours", "core's"])
def test_the_host_does_not_patch_modulation_and_the_report_says_so(
    pack: ModuleType, models: Path, lora: dict[str, torch.Tensor], tmp_path: Path, loader: str
) -> None:
    path = models / "diffusion_models" / "tiny_df.safetensors"
    model = load(pack, path) if loader == "ours" else comfy.sd.load_diffusion_model(str(path))
    file = tmp_path / "modulation.safetensors"
    save_file({**lora, "head.modulation.diff": torch.ones(1, 2, 256), "blocks.0.modulation.diff": torch.ones(1, 6, 256),
               "blocks.0.norm3.diff": torch.ones(256)}, file)  # fmt: skip
    plain = weights(model)
    patched, report = lora_module(pack).apply_lora(model, file, 1.0)
    got = weights(patched)
    assert torch.equal(got["head.modulation"], plain["head.modulation"])
    assert torch.equal(got["blocks.0.modulation"], plain["blocks.0.modulation"])
    assert not torch.equal(got["blocks.0.norm3.weight"], plain["blocks.0.norm3.weight"])
    (line,) = str(report).splitlines()[1:]
    assert line.startswith("2 understood, but ComfyUI does not patch") and "head.modulation" in line


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"blocks.0.self_attn.q.lora_A.weight": (4, 5120), "blocks.0.self_attn.q.lora_B.weight": (5120, 4)},
         ("another size", "256", "5120", "14B")),
        ({"double_blocks.0.img_attn.qkv.lora_A.weight": (4, 64)}, ("looks like a LoRA for Flux", "is wanted")),
        ({"encoder.block.0.layer.0.SelfAttention.q.weight": (4, 4)}, ("looks like a T5 text encoder",)),
        ({"text_embedding.0.weight": (4, 4), "head.modulation": (1, 2, 4)}, ("looks like a whole diffusion model",)),
        ({"alpha": (1,), "beta": (1,)}, ("2 keys", "none of them", "Wan 2.1")),
        ({"blocks.0.self_attn.q.lora_A.weight": (4, 256)}, ("no complete pair", "again")),
    ],
    ids=["for 14B", "for another model", "a text encoder", "a checkpoint", "of no kind", "half a file"],
)  # fmt: skip
def test_a_file_of_which_nothing_fits_is_refused(
    pack: ModuleType, model: Any, tmp_path: Path, tensors: dict[str, tuple[int, ...]], words: tuple[str, ...]
) -> None:
    file = tmp_path / "wrong.safetensors"
    save_file({key: torch.zeros(shape) for key, shape in tensors.items()}, file)
    with pytest.raises(ValueError, match=r"^wrong\.safetensors .*\.$") as refused:
        lora_module(pack).apply_lora(model, file, 1.0)
    assert all(word in str(refused.value) for word in words), refused.value
    assert type(refused.value).__name__ == "InputError" and not model.patches
