"""Packed weights for ComfyUI: kept as they are where its mixed-precision layers read them, unpacked where they do not.

How each matrix is stored is known from the header (wan_core/checkpoint/formats.py). ComfyUI wants the parts of what it
keeps under its own names, and a `comfy_quant` key next to each weight that states the format.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

import comfy.quant_ops
import torch
from torch import Tensor

from ...checkpoint.formats import Stored
from ...checkpoint.matrices import MARK, SMOOTHING, STATEMENT
from ...checkpoint.stored import take_parts
from ...words import Joined, Words, joined, words

INPUT_SCALES = {"input_scale": "input_scale", "scale_input": "input_scale"}


def for_host(
    state_dict: dict[str, Tensor], stored: Mapping[str, Stored], dtype: torch.dtype
) -> tuple[dict[str, Tensor], Words | None]:
    """Bring a checkpoint's packed and scaled matrices into a form that this ComfyUI computes with.

    Args:
        state_dict: parameters and their parts under the original names; changed in place.
        stored: layer -> how its weight is stored, for those that are packed or scaled.
        dtype: for what is unpacked.

    Returns:
        The parameters, and which formats were unpacked and why, or None.
    """
    mark = state_dict.pop(MARK, None)
    exact = mark is None or mark.numel() == 2  # a mark of one number allows fp8 products
    unpacked: dict[str, int] = {}
    for name, each in stored.items():
        parts = take_parts(state_dict, each)
        if can_keep(each):
            kept = kept_parts(parts, each, exact)
            state_dict |= {f"{name}.{part}": tensor for part, tensor in kept.items()}
        else:
            state_dict[f"{name}.weight"] = each.numbers(parts).to(dtype)
            unpacked[each.format.name] = unpacked.get(each.format.name, 0) + 1
    if not unpacked:
        return state_dict, None
    said = words(
        "{formats}: unpacked to {dtype} while loading, since this ComfyUI cannot keep it packed",
        formats=listed(unpacked),
        dtype=str(dtype).removeprefix("torch."),
    )
    logging.info("SkyReels-V2: %s", said)
    return state_dict, said


def listed(counts: Mapping[str, int]) -> Joined:
    """Name formats with the number of matrices stored so."""
    return joined(words("{name} ({count} matrices)", name=name, count=count) for name, count in counts.items())


def can_keep(each: Stored) -> bool:
    """Whether this ComfyUI has layers for the format, and for everything that belongs to the matrix."""
    algorithm = comfy.quant_ops.QUANT_ALGOS.get(each.format.host or "")
    is_linear = len(each.matrix.full_shape) == 2 and each.matrix.name != "fps_embedding"
    smoothed = SMOOTHING in each.matrix.parts
    return algorithm is not None and is_linear and (not smoothed or SMOOTHING in algorithm["parameters"])


def kept_parts(parts: Mapping[str, Tensor], each: Stored, exact: bool) -> dict[str, Tensor]:
    """Return the parts that ComfyUI reads, its statement among them.

    Args:
        parts: of one matrix, as the file has them.
        each: how it is stored.
        exact: where the file states nothing, its inputs may not be rounded to 8 bit as well.
    """
    convert = each.format.for_host
    kept = dict(convert(parts, each.matrix)) if convert else {}
    if SMOOTHING in parts:
        kept[SMOOTHING] = parts[SMOOTHING]
    for part, name in INPUT_SCALES.items():
        if part in parts and parts[part].numel() == 1 and float(parts[part]) != 1:
            kept[name] = parts[part]
    stated: dict[str, Any] = {**each.matrix.stated, "format": each.format.host}
    if each.matrix.format is None and exact:
        stated["full_precision_matrix_mult"] = True
    kept[STATEMENT] = torch.tensor(list(json.dumps(stated).encode()), dtype=torch.uint8)
    return kept
