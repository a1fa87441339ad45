"""What a MODEL, a VAE or a CONDITIONING is, in values that stay the same from one start of the host to the next.

A long video's journal is found again by them: two inputs that would make two different videos have to differ here.
"""

from __future__ import annotations

import hashlib
import types
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from ..loading.loader import HELD_IDENTITY
from ..loading.packed import stored

PRIMITIVES = (str, int, float, bool, type(None))
NAMED_WEIGHTS = ("patch_embedding.weight", "head.head.weight", "head.modulation", "text_embedding.2.bias")
SAMPLE = 64  # numbers of every weight of a block: a LoRA that was merged into a file changes some of them
DEPTH = 6  # options lie a few levels deep; further down are modules and caches
RUN_STATE = ("wrappers", "callbacks", "sample_sigmas", "sigmas", "uuids", "cond_or_uncond", "multigpu_options")


def model_identity(patcher: Any) -> dict[str, Any]:
    """Return what decides about a MODEL's output: some of its weights, its LoRAs, and the options of its patches."""
    return {
        "weights": patcher.get_attachment(HELD_IDENTITY) or weights_identity(patcher),
        "dtype": str(patcher.model.get_dtype()),
        "patches": {key: digest(value) for key, value in sorted(patcher.patches.items())},
        "options": settings_of(patcher.model_options),
        **({"object_patches": replaced_parts(patcher.object_patches)} if patcher.object_patches else {}),
    }


def weights_identity(patcher: Any) -> dict[str, str]:
    """Return digests of some of the weights that a MODEL has from its file."""
    weights = file_weights(patcher)
    blocks = [stored(each).reshape(-1)[:SAMPLE] for name, each in weights.items() if "blocks." in name]
    named = {name: digest(weights[name]) for name in NAMED_WEIGHTS if name in weights}
    return {**named, "blocks": digest(blocks)}


def replaced_parts(patches: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a MODEL's object patches are: modules by their buffers (a shift's sigmas), functions by options."""
    return {
        name: [type(value).__name__, digest(list(value.buffers(recurse=False)))]
        if isinstance(value, torch.nn.Module)
        else settings_of(value)
        for name, value in sorted(patches.items())
    }


def file_weights(patcher: Any) -> dict[str, torch.Tensor]:
    """Return the transformer's weights by name as they were before LoRAs were patched into them."""
    prefix = "diffusion_model."
    weights = dict(patcher.model.diffusion_model.named_parameters())
    kept = {key.removeprefix(prefix): entry.weight for key, entry in patcher.backup.items() if key.startswith(prefix)}
    return weights | {name: weight for name, weight in kept.items() if name in weights}


def vae_identity(vae: Any) -> str:
    """Return a digest of a VAE's first and last weights."""
    weights = list(vae.first_stage_model.parameters())
    return digest([weights[0], weights[-1]])


def conditioning_tensors(name: str, conditioning: list[Any]) -> dict[str, torch.Tensor]:
    """Return every tensor of a CONDITIONING under a name of its own."""
    found = {}
    for number, (tensor, options) in enumerate(conditioning):
        found[f"{name} {number}"] = tensor
        for at, value in enumerate(tensors_in(options)):
            found[f"{name} {number} option {at}"] = value
    return found


def conditioning_settings(conditioning: list[Any]) -> list[dict[str, Any]]:
    """Return what a CONDITIONING says beside its tensors: hooks, a range of the steps, an area; {} where nothing is."""
    return [
        {
            str(name): hook_settings(value) if name == "hooks" else settings_of(value)
            for name, value in options.items()
            if value is not None and not isinstance(value, torch.Tensor)
        }
        for _, options in conditioning
    ]


def hook_settings(group: Any) -> list[dict[str, Any]]:
    """Return what the hooks of a HookGroup do; not where in their keyframes the last run left them."""
    return [
        {
            "kind": type(hook).__name__,
            "strength": getattr(hook, "_strength_model", 1.0),
            "keyframes": [
                [key.strength, key.start_percent, key.guarantee_steps] for key in hook.hook_keyframe.keyframes
            ],
            "weights": digest(getattr(hook, "weights", None)),
            "parts": [settings_of(getattr(hook, name, None)) for name in ("object_patches", "transformers_dict")],
        }
        for hook in group.hooks
    ]


def tensors_in(value: Any, depth: int = DEPTH) -> Iterator[torch.Tensor]:
    """Yield the tensors in nested lists, dicts and adapters (LoRA weights), in a fixed order."""
    if isinstance(value, torch.Tensor):
        yield value
    elif depth > 0 and isinstance(value, Mapping):
        for key in sorted(value, key=str):
            yield from tensors_in(value[key], depth - 1)
    elif depth > 0 and isinstance(value, list | tuple):
        for item in value:
            yield from tensors_in(item, depth - 1)
    elif depth > 0 and hasattr(value, "weights"):
        yield from tensors_in(value.weights, depth - 1)


def digest(value: Any) -> str:
    """Return a SHA-256 of the tensors and the plain values in `value`."""
    made = hashlib.sha256()
    for tensor in tensors_in(value):
        data = tensor.detach().cpu().contiguous()
        made.update(f"{data.dtype} {tuple(data.shape)}".encode())
        made.update(data.reshape(-1).view(torch.uint8).numpy().tobytes())
    made.update(repr(settings_of(value)).encode())
    return made.hexdigest()


def settings_of(value: Any, depth: int = DEPTH) -> Any:
    """Return the plain values in options: numbers and texts, the names of functions and what their closures hold."""
    if isinstance(value, PRIMITIVES):
        return value
    if depth == 0 or isinstance(value, torch.Tensor | torch.nn.Module):
        return type(value).__name__
    if isinstance(value, Mapping):
        return {str(key): settings_of(item, depth - 1) for key, item in value.items() if key not in RUN_STATE}
    if isinstance(value, list | tuple):
        return [settings_of(item, depth - 1) for item in value]
    if isinstance(value, types.MethodType):
        return [value.__func__.__qualname__, settings_of(value.__self__, depth - 1)]
    if isinstance(value, types.FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or () if cell_is_set(cell)]
        return [value.__qualname__, settings_of(cells, depth - 1), settings_of(value.__defaults__, depth - 1)]
    state = {key: item for key, item in getattr(value, "__dict__", {}).items() if isinstance(item, PRIMITIVES)}
    return [type(value).__name__, state]


def cell_is_set(cell: types.CellType) -> bool:
    """Whether a closure's variable has a value yet."""
    try:
        return cell.cell_contents is not cell
    except ValueError:
        return False
