"""From the bytes of a quantised matrix to its numbers: scales, 4 bit floats, block scales in NVIDIA's order, rotations.

Arithmetic only: which of these a file needs is told in formats.py.

Sources: the OCP Microscaling formats (E2M1, E8M0); the block-scaling layout in cuBLAS' documentation (tiles of 128 x 4
scales, row r and column c of a tile at (r % 32) * 16 + (r // 32) * 4 + c); ConvRot's regular Hadamard matrix.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

Shape = tuple[int, ...]

E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)  # by the lower three bits; the fourth is the sign
BLOCK_EDGES = (16, 32, 64, 128, 256, 512)
TENSOR, ROW, GROUP, BLOCK = "tensor", "row", "group", "block"


def granularity(scale: Shape, shape: tuple[int, int]) -> str | None:
    """Say what one scale of a matrix is for.

    Args:
        scale: shape of the scales.
        shape: rows and columns of the matrix.

    Returns:
        "tensor", "row", "group" (columns of a row), "block" (a square of one of BLOCK_EDGES), or None: no telling.
    """
    rows, columns = shape
    if math.prod(scale) == 1:
        return TENSOR
    if len(scale) > 1 and scale[-1] == 1:
        scale = scale[:-1]
    if scale == (rows,):
        return ROW
    if len(scale) == 2 and scale[0] == rows and columns % scale[1] == 0:
        return GROUP
    return BLOCK if len(scale) == 2 and _edge(scale, shape) else None


def scaled(numbers: Tensor, scale: Tensor) -> Tensor:
    """Multiply numbers [rows, columns] by scales of any granularity; gives float32."""
    shape, values = (numbers.shape[0], numbers.shape[1]), scale.float()
    kind = granularity(tuple(scale.shape), shape)
    if kind == TENSOR:
        return numbers.float() * values.reshape(())
    if kind == ROW:
        return numbers.float() * values.reshape(-1, 1)
    if kind == GROUP:
        return (numbers.float().unflatten(1, (values.shape[1], -1)) * values.reshape(*values.shape[:2], 1)).flatten(1)
    values = values.reshape(values.shape[:2])
    edge = _edge(tuple(values.shape), shape)
    spread = values.repeat_interleave(edge, 0)[: shape[0]].repeat_interleave(edge, 1)[:, : shape[1]]
    return numbers.float() * spread


def _edge(scale: Shape, shape: tuple[int, int]) -> int:
    """Edge of the square blocks that so many scales are for; 0 where none fits."""
    return next((edge for edge in BLOCK_EDGES if scale == tuple(math.ceil(size / edge) for size in shape)), 0)


def swizzled_shape(rows: int, columns: int) -> tuple[int, int]:
    """Shape of block scales in NVIDIA's order: whole tiles of 128 x 4."""
    return math.ceil(rows / 128) * 128, math.ceil(columns / 4) * 4


def in_rows(scales: Tensor, rows: int, columns: int) -> Tensor:
    """Bring block scales from NVIDIA's order into rows and columns."""
    tall, wide = swizzled_shape(rows, columns)
    tiles = scales.reshape(tall // 128, wide // 4, 32, 4, 4)  # tile row, tile column, row % 32, row // 32, column
    return tiles.permute(0, 3, 2, 1, 4).reshape(tall, wide)[:rows, :columns]


def nibbles(packed: Tensor, high_first: bool = False) -> Tensor:
    """Unpack two codes of 4 bits from every byte of [rows, columns / 2]; gives uint8 [rows, columns]."""
    low, high = packed.view(torch.uint8) & 15, packed.view(torch.uint8) >> 4
    return torch.stack((high, low) if high_first else (low, high), dim=-1).flatten(1)


def four_bit_floats(codes: Tensor) -> Tensor:
    """Turn E2M1 codes into float32."""
    return torch.tensor([*E2M1, *(-size for size in E2M1)])[codes.long()]


def powers_of_two(exponents: Tensor) -> Tensor:
    """Decode E8M0 scales, given as such or as bytes."""
    return (exponents.view(torch.uint8).float() - 127).exp2()


def turned_back(rotated: Tensor, group: int) -> Tensor:
    """Undo ConvRot: each group of columns of a weight [rows, columns] was multiplied by a symmetric Hadamard matrix."""
    four = torch.tensor([[1.0, 1, 1, -1], [1, 1, -1, 1], [1, -1, 1, 1], [-1, 1, 1, 1]])
    matrix = four
    while len(matrix) < group:
        matrix = torch.kron(matrix, four)
    return (rotated.unflatten(1, (-1, group)) @ (matrix / group**0.5)).flatten(1)


def is_rotation(group: int) -> bool:
    """Whether there is a ConvRot matrix of this size: a power of 4."""
    return group >= 4 and group & (group - 1) == 0 and group.bit_length() % 2 == 1


def nvfp4_scale(parts: Mapping[str, Tensor]) -> Tensor:
    """The scale of a whole NVFP4 matrix: ComfyUI stores it, LightX2V its reciprocal, or that times another scale."""
    if "weight_scale_2" in parts:
        return parts["weight_scale_2"].float().reshape(())
    if "weight_global_scale" in parts:
        return parts["weight_global_scale"].float().reshape(()).reciprocal()
    return (parts["alpha"].float() * parts["input_global_scale"].float()).reshape(())
