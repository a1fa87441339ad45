"""Key names of LoRA files: every spelling of a layer is the same layer, checked against diffusers' own conversion."""

from __future__ import annotations

import pytest
import torch
from diffusers.loaders.lora_conversion_utils import _convert_non_diffusers_wan_lora_to_diffusers

from tests.tiny import random_state_dict, tiny_config, to_diffusers_names
from wan_core.checkpoint.key_names import diffusers_name
from wan_core.checkpoint.lora_names import convert_names, flat

CONFIG = tiny_config(model_type="i2v")
WEIGHTS = list(random_state_dict(CONFIG))
MODULES = sorted({name.removesuffix(".weight").removesuffix(".bias") for name in WEIGHTS})
LINEARS = [name.removesuffix(".weight") for name, value in random_state_dict(CONFIG).items()
           if name.startswith("blocks.") and name.endswith(".weight") and value.ndim == 2]  # fmt: skip

THEIRS = {module: next(iter(to_diffusers_names({f"{module}.weight": torch.zeros(1)}))).removesuffix(".weight")
          for module in LINEARS}  # fmt: skip
SPELLINGS = {
    "ComfyUI's own": lambda module: f"diffusion_model.{module}",
    "no prefix": lambda module: module,
    "peft": lambda module: f"base_model.model.{module}",
    "DiffSynth": lambda module: f"pipe.dit.{module}",
    "kohya": lambda module: "lora_unet_" + module.replace(".", "_"),
    "kohya with dots": lambda module: "lora_unet_" + module.replace(".", "_", 1),
    "Wan Fun": lambda module: "lora_unet__" + module.replace(".", "_"),
    "LyCORIS": lambda module: "lycoris_" + module.replace(".", "_"),
    "diffusers": lambda module: f"transformer.{THEIRS[module]}",
    "peft of diffusers": lambda module: f"base_model.model.transformer.{THEIRS[module]}",
    "diffusers under ComfyUI's prefix": lambda module: f"diffusion_model.{THEIRS[module]}",
    "kohya of diffusers": lambda module: "lora_unet_" + THEIRS[module].replace(".", "_"),
    "OneTrainer of diffusers": lambda module: "lora_transformer_" + THEIRS[module].replace(".", "_"),
    "compiled": lambda module: f"_orig_mod.{module}",
    "kohya of a compiled model": lambda module: "lora_unet__orig_mod_" + module.replace(".", "_"),
    "DDP": lambda module: f"module.{module}",
    "FSDP": lambda module: "model._fsdp_wrapped_module." + module.replace(".self", "._fsdp_wrapped_module.self"),
    "EMA of a generator": lambda module: f"generator_ema.model.{module}",
    "checkpointed": lambda module: module.replace(".ffn", "._checkpoint_wrapped_module.ffn"),
}


def lora(spell: object = str) -> dict[str, tuple[str, str]]:
    """The keys of a LoRA, each with its module and part."""
    return {f"{spell(module)}.{key}": (module, part) for module in LINEARS  # type: ignore[operator]
            for key, part in (("lora_A.weight", "down"), ("lora_B.weight", "up"))}  # fmt: skip


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_names_the_layer_it_was_made_from(spelling: str) -> None:
    keys = lora(SPELLINGS[spelling])
    names = convert_names(keys, WEIGHTS)
    assert not (names.unknown or names.strange or names.double)
    assert {key: (module, part) for module, parts in names.parts.items() for part, key in parts.items()} == keys


def test_no_two_modules_share_a_spelling() -> None:
    spelled = [flat(name) for module in MODULES for name in {module, diffusers_name(module)}]
    assert len(spelled) == len(set(spelled))


def test_a_file_that_diffusers_has_converted_comes_back_under_the_names_it_had() -> None:
    tensors = {f"diffusion_model.{key}": torch.full((1, 1), float(number)) for number, key in enumerate(lora())}
    converted = _convert_non_diffusers_wan_lora_to_diffusers(dict(tensors))
    names = convert_names(converted, WEIGHTS)
    assert not names.unknown and set(names.parts) == set(LINEARS)
    ends = {"down": "lora_A.weight", "up": "lora_B.weight"}
    for module, parts in names.parts.items():
        for part, key in parts.items():
            assert torch.equal(converted[key], tensors[f"diffusion_model.{module}.{ends[part]}"])


@pytest.mark.parametrize(
    ("ending", "part"),
    [
        ("lora_A.weight", "down"), ("lora_A.default.weight", "down"), ("lora_A", "down"), ("lora_down.weight", "down"),
        ("lora.down.weight", "down"), ("lora_linear_layer.down.weight", "down"), ("lora_B.default.weight", "up"),
        ("lora_up.weight", "up"), ("lora.up.weight", "up"), ("lora_linear_layer.up.weight", "up"),
        ("lora_B.bias", "up_bias"), ("lora_B.default.bias", "up_bias"), ("lora_mid.weight", "mid"), ("alpha", "alpha"),
        ("dora_scale", "magnitude"), ("lora_magnitude_vector", "magnitude"),
        ("lora_magnitude_vector.default.weight", "magnitude"), ("lora_magnitude_vector.weight", "magnitude"),
        ("diff", "diff"), ("diff_b", "diff_b"), ("w_norm", "w_norm"), ("lokr_w2_b", "lokr_w2_b"),
        ("hada_t1", "hada_t1"), ("oft_blocks", "oft_blocks"),
    ],
)  # fmt: skip
def test_the_end_of_a_key_names_the_part(ending: str, part: str) -> None:
    key = f"diffusion_model.{LINEARS[0]}.{ending}"
    assert convert_names([key], WEIGHTS).parts == {LINEARS[0]: {part: key}}


def test_norms_are_swapped_in_diffusers_names() -> None:
    names = convert_names(["blocks.0.norm3.diff", "transformer.blocks.1.norm2.diff"], WEIGHTS)
    assert set(names.parts) == {"blocks.0.norm3", "blocks.1.norm3"}


def test_modulations_are_found_under_their_owner() -> None:
    names = convert_names(["diffusion_model.blocks.1.diff_m", "diffusion_model.head.diff_m"], WEIGHTS)
    assert set(names.parts) == {"blocks.1.modulation", "head.modulation"}


def test_every_key_is_in_one_place() -> None:
    strange = {f"{LINEARS[0]}.lora_C.weight": LINEARS[0], f"{LINEARS[1]}.weight": LINEARS[1]}
    double = f"transformer.{LINEARS[2]}.lora_A.weight"
    unknown = ["text_encoder.layers.0.q.lora_A.weight", "blocks.9.self_attn.q.lora_A.weight", "x", "transformer_2."
               f"{LINEARS[0]}.lora_A.weight"]  # fmt: skip
    names = convert_names([*lora(), *strange, double, *unknown], WEIGHTS)
    assert names.unknown == tuple(unknown) and names.double == {LINEARS[2]: [double]}
    assert names.strange == {module: [key] for key, module in strange.items()}
    assert sum(map(len, names.parts.values())) == len(lora())


@pytest.mark.parametrize("name", MODULES)
def test_the_way_back_to_diffusers_names_agrees_with_the_tests_own_table(name: str) -> None:
    whole = name if name in WEIGHTS else f"{name}.weight"
    assert diffusers_name(whole) == next(iter(to_diffusers_names({whole: torch.zeros(1)})))
