"""Key names of LoRA files: every naming ends in the host's, checked against diffusers' own conversion the other way."""

from __future__ import annotations

import pytest
import torch
from diffusers.loaders.lora_conversion_utils import _convert_non_diffusers_wan_lora_to_diffusers

from tests.tiny import random_state_dict, tiny_config, to_diffusers_names
from wan_core.checkpoint.key_names import diffusers_name
from wan_core.checkpoint.lora_names import convert_names

CONFIG = tiny_config(model_type="i2v")
WEIGHTS = {name: tuple(tensor.shape) for name, tensor in random_state_dict(CONFIG).items()}
LINEARS = [name.removesuffix(".weight") for name, shape in WEIGHTS.items()
           if name.startswith("blocks.") and name.endswith(".weight") and len(shape) == 2]  # fmt: skip
RANK = 3


def pair(module: str, down: str = "lora_A.weight", up: str = "lora_B.weight") -> dict[str, tuple[int, ...]]:
    """The keys of one layer's factors with their shapes."""
    rows, columns = WEIGHTS[f"{module}.weight"]
    return {f"{module}.{down}": (RANK, columns), f"{module}.{up}": (rows, RANK)}


def lora(**names: str) -> dict[str, tuple[int, ...]]:
    return {key: shape for module in LINEARS for key, shape in pair(module, **names).items()}


def renamed(keys: dict[str, str]) -> dict[str, tuple[int, ...]]:
    """The plain LoRA under other names: old module -> new module."""
    return {keys[key.rpartition(".lora_")[0]] + ".lora_" + key.rpartition(".lora_")[2]: shape
            for key, shape in lora().items()}  # fmt: skip


THEIRS = {module: next(iter(to_diffusers_names({f"{module}.weight": torch.zeros(1)}))).removesuffix(".weight")
          for module in LINEARS}  # fmt: skip
SPELLINGS = {
    "ComfyUI's own": lambda module: f"diffusion_model.{module}",
    "no prefix": lambda module: module,
    "peft": lambda module: f"base_model.model.{module}",
    "DiffSynth": lambda module: f"pipe.dit.{module}",
    "kohya": lambda module: "lora_unet_" + module.replace(".", "_"),
    "Wan Fun": lambda module: "lora_unet__" + module.replace(".", "_"),
    "LyCORIS": lambda module: "lycoris_" + module.replace(".", "_"),
    "diffusers": lambda module: f"transformer.{THEIRS[module]}",
    "peft of diffusers": lambda module: f"base_model.model.transformer.{THEIRS[module]}",
    "diffusers under ComfyUI's prefix": lambda module: f"diffusion_model.{THEIRS[module]}",
    "kohya of diffusers": lambda module: "lora_unet_" + THEIRS[module].replace(".", "_"),
    "OneTrainer of diffusers": lambda module: "lora_transformer_" + THEIRS[module].replace(".", "_"),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_names_the_layer_it_was_made_from(spelling: str) -> None:
    file = renamed({module: SPELLINGS[spelling](module) for module in LINEARS})
    names = convert_names(file, WEIGHTS)
    assert names.unknown == () and names.misfits == () and len(names.renamed) == 2 * len(LINEARS)
    plain = {key: f"diffusion_model.{key}" for key in lora()}
    assert list(names.renamed.values()) == [plain[key] for key in lora()]
    assert set(names.modules.values()) == set(LINEARS)


def test_a_file_that_diffusers_has_converted_comes_back_under_the_names_it_had() -> None:
    tensors = {f"diffusion_model.{key}": torch.full((1, 1), float(number)) for number, key in enumerate(lora())}
    converted = _convert_non_diffusers_wan_lora_to_diffusers(dict(tensors))
    shapes = {f"diffusion_model.{key}": shape for key, shape in lora().items()}
    by_value = {tensor.item(): shapes[key] for key, tensor in tensors.items()}
    names = convert_names({key: by_value[tensor.item()] for key, tensor in converted.items()}, WEIGHTS)
    assert not names.unknown and len(names.renamed) == len(tensors)
    for key, ours in names.renamed.items():
        assert torch.equal(converted[key], tensors[ours])


@pytest.mark.parametrize(
    ("down", "up"),
    [
        ("lora_A.default.weight", "lora_B.default.weight"),
        ("lora_down.weight", "lora_up.weight"),
        ("lora.down.weight", "lora.up.weight"),
        ("lora_linear_layer.down.weight", "lora_linear_layer.up.weight"),
    ],
)
def test_the_names_of_the_factors_stay_or_lose_the_adapters_name(down: str, up: str) -> None:
    names = convert_names(lora(down=down, up=up), WEIGHTS)
    expected = {f"diffusion_model.{key.replace('.default', '')}" for key in lora(down=down, up=up)}
    assert set(names.renamed.values()) == expected


def test_norms_are_swapped_in_files_with_diffusers_names_and_in_no_others() -> None:
    affine = WEIGHTS["blocks.0.norm3.weight"]
    own = convert_names({"blocks.0.norm3.diff": affine}, WEIGHTS)
    theirs = convert_names({"blocks.0.norm2.diff": affine, **pair_of_diffusers("blocks.0.self_attn.q")}, WEIGHTS)
    assert own.renamed["blocks.0.norm3.diff"] == "diffusion_model.blocks.0.norm3.diff"
    assert theirs.renamed["blocks.0.norm2.diff"] == "diffusion_model.blocks.0.norm3.diff"


def pair_of_diffusers(module: str) -> dict[str, tuple[int, ...]]:
    return {f"{THEIRS[module]}{key.removeprefix(module)}": shape for key, shape in pair(module).items()}


def test_differences_alphas_and_modulation_keep_their_kind() -> None:
    file = {
        "blocks.1.self_attn.q.diff_b": (64,),
        "blocks.1.self_attn.q.alpha": (),
        "blocks.1.modulation.diff": WEIGHTS["blocks.1.modulation"],
        "head.modulation.diff": WEIGHTS["head.modulation"],
        "patch_embedding.diff": WEIGHTS["patch_embedding.weight"],
    }
    names = convert_names(file, WEIGHTS)
    assert names.renamed == {key: f"diffusion_model.{key}" for key in file}


def test_what_names_nothing_is_listed_and_the_rest_is_used() -> None:
    stray = {"text_encoder.layers.0.q.lora_A.weight": (3, 8), "blocks.9.self_attn.q.lora_A.weight": (3, 64), "x": (1,)}
    names = convert_names({**lora(), **stray}, WEIGHTS)
    assert set(names.unknown) == set(stray) and len(names.renamed) == len(lora())


@pytest.mark.parametrize("suffix", ["lora_A.weight", "lora_B.weight", "lora_up.weight", "lora.down.weight", "diff"])
def test_a_file_for_another_width_fits_nowhere(suffix: str) -> None:
    shape = {"lora_A.weight": (RANK, 128), "lora.down.weight": (RANK, 128), "diff": (128, 128)}.get(suffix, (128, RANK))
    names = convert_names({f"blocks.0.self_attn.q.{suffix}": shape}, WEIGHTS)
    assert names.misfits and not names.renamed and not names.unknown
    assert all(part in str(names.misfit) for part in ("64", "128", "blocks.0.self_attn.q"))


@pytest.mark.parametrize("name", sorted({name.removesuffix(".weight").removesuffix(".bias") for name in WEIGHTS}))
def test_the_way_back_to_diffusers_names_agrees_with_the_tests_own_table(name: str) -> None:
    whole = name if name in WEIGHTS else f"{name}.weight"
    assert diffusers_name(whole) == next(iter(to_diffusers_names({whole: torch.zeros(1)})))
