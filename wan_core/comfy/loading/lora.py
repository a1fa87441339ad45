"""A LoRA file on a MODEL, whatever its keys are called: the names are `lora_names`', the rest is the host's."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import comfy.lora
import comfy.utils

from ...checkpoint.foreign import LORA_FOR_WAN, foreign_kind
from ...checkpoint.key_names import detect_naming
from ...checkpoint.lora_names import HOST_PREFIX, LoraNames, convert_names
from ...errors import CheckpointError, InputError
from ...finite import check_weights
from ...words import Joined, lines, words

SHOWN = 3  # keys named in a report


def apply_lora(model: Any, path: str | Path, strength: float) -> tuple[Any, Joined]:
    """Patch a LoRA into a copy of a MODEL.

    Args:
        model: a MODEL (ModelPatcher) of Wan kind, ours or core's.
        path: the LoRA's file.
        strength: factor of its change; 0 leaves the model as it is, negative ones turn it round.

    Returns:
        The patched copy, and what was found in the file as text.

    Raises:
        CheckpointError: there is no such file.
        InputError: nothing in the file fits the model.
        NotFiniteError: a weight is NaN or infinite.
    """
    name = Path(path).name
    if not Path(path).is_file():  # a pipe would never end
        raise CheckpointError("{path} is not a file: choose a LoRA from the list.", path=path)
    tensors = comfy.utils.load_torch_file(str(path), safe_load=True)
    check_weights(tensors, name)
    state = model.model.state_dict()
    weights = {key.removeprefix(HOST_PREFIX): tuple(state[key].shape) for key in state if key.startswith(HOST_PREFIX)}
    names = convert_names({key: tuple(tensor.shape) for key, tensor in tensors.items()}, weights)
    if not names.renamed:
        raise refusal(name, names)
    key_map = comfy.lora.model_lora_keys_unet(model.model, {})
    patches = comfy.lora.load_lora({ours: tensors[key] for key, ours in names.renamed.items()}, key_map)
    if not patches:
        raise InputError(
            "{name} has keys of this model ({renamed}), but no complete pair of factors among them: download the file "
            "again.",
            name=name,
            renamed=_listed(list(names.renamed)),
        )
    patched = model.clone()
    patched.add_patches(patches, strength)
    text = report(name, names, patches, parts_out_of_reach(model.model, patches))
    logging.info("SkyReels-V2: %s", text)
    return patched, text


def parts_out_of_reach(model: Any, patches: dict[Any, Any]) -> list[str]:
    """Return the patched parameters that the host will skip: those of modules that have modules in them."""
    inner = {name for name, module in model.named_modules() if next(module.children(), None) is not None}
    return [key for key in patches if isinstance(key, str) and key.rpartition(".")[0] in inner]


def report(name: str, names: LoraNames, patches: dict[Any, Any], skipped: list[str]) -> Joined:
    """Return in a line or more what a LoRA does to the model."""
    incomplete = [
        key
        for key, module in names.modules.items()
        if not any(HOST_PREFIX + module + end in patches for end in ("", ".weight", ".bias"))
    ]
    used = len(names.renamed) - len(incomplete)
    total = len(names.renamed) + len(names.unknown) + len(names.misfits)
    shown = [
        words(
            "{name}: {used} of {total} keys used, {changed} weights changed",
            name=name,
            used=used,
            total=total,
            changed=len(patches),
        )
    ]
    for what, keys in (
        (words("not understood"), names.unknown),
        (words("of another shape than this model's"), names.misfits),
        (words("without their other half"), incomplete),
        (words("understood, but ComfyUI does not patch parameters of this kind"), skipped),
    ):
        if keys:
            shown.append(words("{count} {what}: {listed}", count=len(keys), what=what, listed=_listed(list(keys))))
    return lines(*shown)


def refusal(name: str, names: LoraNames) -> InputError:
    """Return the error that says why nothing of a file fits."""
    if names.misfits:
        return InputError(
            "{name} was made for a model of another size ({misfit}): use a LoRA for this model, 1.3B or 14B, or load "
            "the model that it was made for.",
            name=name,
            misfit=names.misfit,
        )
    naming = detect_naming(names.unknown)
    kind = words("a whole diffusion model") if naming else (foreign_kind(names.unknown) or (None,))[0]
    if kind is not None and kind != LORA_FOR_WAN:
        return InputError(
            "{name} looks like {kind}, where a LoRA for SkyReels-V2 or Wan 2.1 is wanted: choose another file, and put "
            "this one into the folder of its kind.",
            name=name,
            kind=kind,
        )
    return InputError(
        "{name} has {count} keys, but none of them names a part of this model ({listed}): use a LoRA for SkyReels-V2 "
        "or Wan 2.1.",
        name=name,
        count=len(names.unknown),
        listed=_listed(list(names.unknown)) or words("it is empty"),
    )


def _listed(keys: list[str]) -> str:
    return ", ".join(keys[:SHOWN]) + (", ..." if len(keys) > SHOWN else "")
