"""Key names of LoRA files: which part of an adapter for which module of the model a key is, in every naming in use.

A module's name is compared without dots and without whatever wrappers (compilers, FSDP, PEFT, training scripts) put
around it, so original, diffusers', kohya's and any mixture of them are one naming. Works on names only.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from .key_names import diffusers_name

# what a key ends with -> the part of an adapter that it is; an adapter's own name may stand in the middle (PEFT)
_PARTS = tuple(
    (re.compile(rf"(?P<stem>.+?)[._](?:{ending})"), part)
    for ending, part in (
        (r"lora_A(\.\w+)?(\.weight)?|lora_down(\.weight)?|lora(_linear_layer)?\.down\.weight", "down"),
        (r"lora_B(\.\w+)?\.bias", "up_bias"),
        (r"lora_B(\.\w+)?(\.weight)?|lora_up(\.weight)?|lora(_linear_layer)?\.up\.weight", "up"),
        (r"lora_mid(\.weight)?", "mid"),
        (r"lora_magnitude_vector(\.\w+)?(\.weight)?|dora_scale", "magnitude"),
        (r"alpha", "alpha"),
        (r"(?P<own>diff|diff_b|diff_m|set_weight|reshape_weight|w_norm|b_norm|oft_blocks|rescale)", ""),
        (r"(?P<own>lokr_(w1|w2|w1_a|w1_b|w2_a|w2_b|t2)|hada_(w1_a|w1_b|w2_a|w2_b|t1|t2))", ""),
    )
)
_WRAPPERS = re.compile(r"_(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|processor)(?=_)")
_PREFIXES = re.compile(
    r"_*(?:base_model|diffusion_model|model_ema|model|transformer|unet|pipe|dit|generator_lora|generator_ema|generator"
    r"|module|network|ema|lora_unet|lora_transformer|lycoris|_orig_mod|_fsdp_wrapped_module)_+"
)


@dataclass(frozen=True)
class LoraNames:
    """What the keys of a LoRA file mean to a model.

    Attributes:
        parts: module of the model -> part of its adapter -> key of the file.
        strange: module -> keys of its adapter that are no known part.
        double: module -> keys that name a part for a second time.
        unknown: keys that name nothing in the model.
    """

    parts: dict[str, dict[str, str]]
    strange: dict[str, list[str]]
    double: dict[str, list[str]]
    unknown: tuple[str, ...]


def convert_names(keys: Iterable[str], parameters: Collection[str]) -> LoraNames:
    """Find the module and the part that each key of a LoRA is for.

    Args:
        keys: as the file has them.
        parameters: the model's, in the original naming, without prefix.

    Returns:
        The names; every key is in exactly one place.
    """
    modules = {name.removesuffix(".weight").removesuffix(".bias") for name in parameters}
    # norm2 and norm3 are swapped in diffusers' naming, and only one of them has weights: no name means two modules
    table = {flat(spelled): module for module in modules for spelled in (module, diffusers_name(module))}
    parts: dict[str, dict[str, str]] = defaultdict(dict)
    strange: dict[str, list[str]] = defaultdict(list)
    double: dict[str, list[str]] = defaultdict(list)
    unknown = []
    for key in keys:
        stem, part = split_key(key)
        module = find_module(stem, table)
        if module is None:
            owner = owner_of(key, table)
            if owner is None:
                unknown.append(key)
            else:
                strange[owner].append(key)
        elif part in parts[module]:
            double[module].append(key)
        else:
            parts[module][part] = key
    return LoraNames({module: found for module, found in parts.items() if found}, strange, double, tuple(unknown))


def split_key(key: str) -> tuple[str, str]:
    """Return a key's module as the file names it, and its part of the adapter; "" twice for what is no part."""
    for pattern, part in _PARTS:
        if match := pattern.fullmatch(key):
            stem, part = match["stem"], part or match["own"]
            return (f"{stem}.modulation", "diff") if part == "diff_m" else (stem, part)
    return "", ""


def flat(name: str) -> str:
    """Return a module's name with underscores for dots, without what wraps its parts."""
    return _WRAPPERS.sub("", "_" + name.replace(".", "_"))[1:]


def find_module(name: str, table: dict[str, str]) -> str | None:
    """Return the model's module that a name in a file stands for, if any.

    Args:
        name: with any prefixes.
        table: flat name -> module.
    """
    name = flat(name)
    while name not in table:
        prefix = _PREFIXES.match(name)
        if prefix is None:
            return None
        name = name[prefix.end() :]
    return table[name]


def owner_of(key: str, table: dict[str, str]) -> str | None:
    """Return the module whose name a key begins with, for keys that end in no known part."""
    name = key
    while "." in name:
        name = name.rpartition(".")[0]
        if (module := find_module(name, table)) is not None:
            return module
    return None
