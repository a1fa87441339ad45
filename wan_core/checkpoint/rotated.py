"""ComfyUI's rotated formats (ConvRot): groups of columns were multiplied by a Hadamard matrix before they were rounded.

Source: ComfyUI's quant_ops and comfy-kitchen's layouts of the same names.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from . import decode
from .matrices import FLOATS, Matrix

Parts = Mapping[str, Tensor]

INT8, W4A4, W4A8 = "int8_tensorwise", "convrot_w4a4", "asym_w4a8_int8"  # as they are stated


def rotation(matrix: Matrix) -> int:
    """Columns that are rotated together; 0: none."""
    turned = matrix.format in (W4A4, W4A8) or bool(matrix.option("convrot", 0))
    return matrix.option("convrot_groupsize", 256) if turned else 0


def _is_rotated(matrix: Matrix, stated: str) -> bool:
    group = rotation(matrix)
    return matrix.format == stated and group > 0 and decode.is_rotation(group) and matrix.shape[1] % group == 0


def is_int8(matrix: Matrix) -> bool:
    """Whether a matrix is int8_tensorwise with convrot."""
    scale = matrix.granularity() in (decode.TENSOR, decode.ROW)
    stored = matrix.is_stored(("int8",)) and matrix.has_only("weight", "weight_scale")
    return _is_rotated(matrix, INT8) and stored and scale


def is_w4a4(matrix: Matrix) -> bool:
    """Whether a matrix is convrot_w4a4: signed 4 bit integers with a scale for each row."""
    scale = matrix.has_only("weight", "weight_scale") and matrix.granularity() == decode.ROW
    return _is_rotated(matrix, W4A4) and scale and matrix.is_packed("int8")


def is_w4a8(matrix: Matrix) -> bool:
    """Whether a matrix is asym_w4a8_int8: 4 bit codes, a codebook, scales for a group and for a row."""
    rows, columns = matrix.shape
    group = matrix.option("group_size", 16)
    if not (_is_rotated(matrix, W4A8) and group > 0 and columns % group == 0):
        return False
    wanted = {"weight_s_rel": (rows, columns // group), "weight_s_channel": (rows,), "weight_codebook": (16,)}
    if "weight_codebook" not in matrix.parts:
        wanted.pop("weight_codebook")
    only = matrix.has_only("weight", *wanted) and matrix.is_packed("int8")
    only = only and matrix.parts["weight_s_rel"].dtype in ("float8_e4m3fn", "uint8", *FLOATS)
    return only and all(matrix.parts[part].shape == shape for part, shape in wanted.items())


def read_int8(parts: Parts, matrix: Matrix) -> Tensor:
    """Read int8_tensorwise with convrot."""
    return decode.turned_back(decode.scaled(parts["weight"], parts["weight_scale"]), rotation(matrix))


def read_w4a4(parts: Parts, matrix: Matrix) -> Tensor:
    """Read convrot_w4a4."""
    codes = decode.nibbles(parts["weight"]).float()
    rotated = decode.scaled(torch.where(codes > 7, codes - 16, codes), parts["weight_scale"])
    return decode.turned_back(rotated, rotation(matrix))


def read_w4a8(parts: Parts, matrix: Matrix) -> Tensor:
    """Read asym_w4a8_int8."""
    codes, relative, book = decode.nibbles(parts["weight"]), parts["weight_s_rel"], parts.get("weight_codebook")
    numbers = codes.float() - 8 if book is None else book.float()[codes.long()]
    relative = relative.view(torch.float8_e4m3fn) if relative.dtype == torch.uint8 else relative
    grid = decode.scaled(numbers, relative).round().clamp(-127, 127)  # the grid of the host's int8 products
    return decode.turned_back(decode.scaled(grid, parts["weight_s_channel"]), rotation(matrix))
