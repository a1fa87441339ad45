"""Packed weights for ComfyUI: kept as they are where its mixed-precision layers read them, unpacked where they do not.

How each matrix is stored is known from the header (wan_core/checkpoint/formats.py). ComfyUI wants the parts of what it
keeps under its own names, and a `comfy_quant` key next to each weight that states the format.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import comfy.quant_ops
import comfy.utils
import torch
from torch import Tensor

from ...checkpoint.formats import HOST_INT8, Format, Stored
from ...checkpoint.matrices import FP8, MARK, SMOOTHING, STATEMENT, Matrix
from ...checkpoint.stored import take_parts
from ...words import Words, joined, words

INPUT_SCALES = {"input_scale": "input_scale", "scale_input": "input_scale"}


@dataclass
class Prepared:
    """A checkpoint in a form that this ComfyUI computes with.

    Attributes:
        state_dict: what its layers load.
        packed: layer -> numbers and scales, to be held as packed.py does.
        unpacked: the formats of the matrices that had to be unpacked.
    """

    state_dict: dict[str, Tensor]
    packed: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    unpacked: list[Format] = field(default_factory=list)

    def quant_config(self) -> dict[str, Any] | None:
        """Return the host's setting for mixed-precision layers; None where none is packed."""
        found = comfy.utils.detect_layer_quantization(self.state_dict, "")
        return {"mixed_ops": True} if self.packed else found

    def said(self, dtype: torch.dtype) -> Words | None:
        """Say what was unpacked and why; None where nothing was."""
        if not self.unpacked:
            return None
        counts = Counter(each.name for each in self.unpacked)
        formats = {each.name: each.said for each in self.unpacked}
        named = (words("{name} ({count} matrices)", name=formats[name], count=counts[name]) for name in counts)
        return words(
            "unpacked to {dtype} while loading, since this ComfyUI cannot keep it packed: {formats}",
            dtype=str(dtype).removeprefix("torch."),
            formats=joined(named),
        )


def for_host(state_dict: dict[str, Tensor], stored: Mapping[str, Stored], dtype: torch.dtype) -> Prepared:
    """Bring a checkpoint's packed and scaled matrices into a form that this ComfyUI computes with.

    Args:
        state_dict: parameters and their parts under the original names; changed in place.
        stored: layer -> how its weight is stored, for those that are packed or scaled.
        dtype: for what is unpacked.
    """
    mark = state_dict.pop(MARK, None)
    exact = mark is None or mark.numel() == 2  # a mark of one number allows fp8 products
    prepared = Prepared(state_dict)
    for name, each in stored.items():
        parts = take_parts(state_dict, each)
        scales = each.format.scales
        if can_keep(each):
            state_dict |= {f"{name}.{part}": tensor for part, tensor in kept_parts(parts, each, exact).items()}
        elif scales is not None and can_hold(each):
            prepared.packed[name] = scales(parts, each.matrix)
            state_dict[f"{name}.weight"] = torch.empty(0)  # its place; the layers load anything
        else:
            state_dict[f"{name}.weight"] = each.numbers(parts).to(dtype)
            prepared.unpacked.append(each.format)
    return prepared


def can_hold(each: Stored) -> bool:
    """Whether packed.py can hold the matrix."""
    matrix = each.matrix
    eight_bits = matrix.dtype in (*FP8, "int8", "uint8")
    return eight_bits and is_linear(matrix) and SMOOTHING not in matrix.parts


def is_linear(matrix: Matrix) -> bool:
    """Whether the weight is a linear layer's."""
    return len(matrix.full_shape) == 2 and matrix.name != "fps_embedding"


def can_keep(each: Stored) -> bool:
    """Whether this ComfyUI has layers for the format, and for everything that belongs to the matrix.

    Its int8 layers round their inputs as well, which is right only where the file was made for them.
    """
    algorithm = comfy.quant_ops.QUANT_ALGOS.get(each.format.host or "")
    smoothed = SMOOTHING in each.matrix.parts
    meant = each.format.host != HOST_INT8 or each.matrix.format is not None
    fits = is_linear(each.matrix) and (not smoothed or (algorithm is not None and SMOOTHING in algorithm["parameters"]))
    return algorithm is not None and meant and fits


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
