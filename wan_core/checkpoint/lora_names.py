"""Key names of LoRA files: every naming in circulation for Wan models, turned into the one that ComfyUI maps.

ComfyUI maps `diffusion_model.blocks.0.self_attn.q.lora_A.weight` and kohya's `lora_unet_blocks_0_self_attn_q...`. Files
trained with diffusers, peft, DiffSynth or kohya's scripts on diffusers models have other prefixes, other module names,
or both. Works on names and shapes only; it opens no file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ..words import Words, words
from .key_names import diffusers_name

HOST_PREFIX = "diffusion_model."
PREFIXES = ("model.", "diffusion_model.", "base_model.", "transformer.", "unet.", "pipe.", "dit.")
FLAT_PREFIXES = re.compile(r"(lora_unet|lora_transformer|lycoris)_+")
SUFFIX = re.compile(
    r"\.(lora_[AB](\.\w+)?(\.weight)?|lora_(down|up|mid)\.weight|lora\.(down|up)\.weight"
    r"|lora_linear_layer\.(down|up)\.weight|alpha|dora_scale|diff|diff_b|reshape_weight|set_weight"
    r"|lokr_\w+|hada_\w+|oft_blocks|w_norm|b_norm)$"
)
ADAPTER = re.compile(r"\.lora_([AB])\.\w+\.weight$")  # peft puts an adapter's name between
DIFFUSERS = re.compile(r"\battn[12]\b|_attn[12]_|\bffn\.net\b|_ffn_net_|condition_embedder|scale_shift_table")
FACTORS = {"A": 1, "down": 1, "B": 0, "up": 0}  # which dimension of the weight a factor shares

Shape = tuple[int, ...]


@dataclass(frozen=True)
class LoraNames:
    """What the keys of a LoRA file mean to a model.

    Attributes:
        renamed: key of the file -> key that the host maps.
        modules: key of the file -> module of the model, for the same keys.
        unknown: keys that name nothing in the model.
        misfits: keys whose weight in the model has another shape.
        misfit: one of the misfits: module, shape in the file, shape in the model; None where there is none.
    """

    renamed: dict[str, str]
    modules: dict[str, str]
    unknown: tuple[str, ...]
    misfits: tuple[str, ...]
    misfit: Words | None


def convert_names(lora: Mapping[str, Shape], model: Mapping[str, Shape]) -> LoraNames:
    """Find the module that each key of a LoRA is for.

    Args:
        lora: key -> shape, as the file has them.
        model: parameter name (original naming, without prefix) -> shape.

    Returns:
        The names; every key of the file is in exactly one of `renamed`, `unknown` and `misfits`.
    """
    shapes = {name.removesuffix(".weight"): shape for name, shape in model.items() if not name.endswith(".bias")}
    diffusers = any(DIFFUSERS.search(key) for key in lora)  # a file keeps to one naming; norm2 and norm3 need this
    spelled = {diffusers_name(module) if diffusers else module: module for module in shapes}
    flat = {name.replace(".", "_"): module for name, module in spelled.items()}

    renamed: dict[str, str] = {}
    modules: dict[str, str] = {}
    unknown, misfits = [], []
    misfit: Words | None = None
    for key, shape in lora.items():
        found = SUFFIX.search(key)
        module = _module(key[: found.start()], spelled, flat) if found else None
        if found is None or module is None:
            unknown.append(key)
        elif not _fits(found[0], shape, shapes[module]):
            misfits.append(key)
            misfit = misfit or words(
                "{module} has shape {wanted} in this model, and the file's part of it {shape}",
                module=module,
                wanted=list(shapes[module]),
                shape=list(shape),
            )
        else:
            renamed[key] = HOST_PREFIX + module + ADAPTER.sub(r".lora_\1.weight", found[0])
            modules[key] = module
    return LoraNames(renamed, modules, tuple(unknown), tuple(misfits), misfit)


def _module(name: str, spelled: Mapping[str, str], flat: Mapping[str, str]) -> str | None:
    """The model's module that a LoRA's module name stands for."""
    if prefix := FLAT_PREFIXES.match(name):
        return flat.get(name[prefix.end() :])
    while name not in spelled:
        prefix_found = next((prefix for prefix in PREFIXES if name.startswith(prefix)), None)
        if prefix_found is None:
            return None
        name = name.removeprefix(prefix_found)
    return spelled[name]


def _fits(suffix: str, shape: Shape, weight: Shape) -> bool:
    """Whether a tensor of this shape can belong to a weight of that one; only plain factors and differences say."""
    if suffix == ".diff":
        return shape == weight
    part = re.match(r"\.lora_?(?:linear_layer)?[._]?(A|B|down|up)\b", suffix)
    if part is None or len(shape) < 2 or len(weight) < 2:
        return True
    dimension = FACTORS[part[1]]
    return shape[dimension] == weight[dimension]
