"""The rotary embedding through ComfyUI's own function, which is one fused kernel where the host has one.

On a CPU ours is the faster; elsewhere core's is called as core's own Wan model calls it. Where no kernel is fused
behind it, core computes with copies in float32 of all that it is given, so it is given some tokens at a time.
"""

from __future__ import annotations

from collections.abc import Sequence

import comfy.ldm.flux.math
import torch

from ...model.operations import by_hand
from ...model.rope import (
    Positions,
    Rotary,
    RotaryKernel,
    apply_rotary,
    rotary_part,
    rotary_table,
    rotation_matrices,
    turn_in_place,
)
from .kernels import has_fused_kernel

Table = Rotary | torch.Tensor


FUSED = has_fused_kernel("apply_rope1")


def host_table(
    grid: tuple[int, int, int],
    head_dim: int,
    device: torch.device,
    positions: Positions,
    references: Sequence[tuple[int, int, int]] = (),
) -> Table:
    """Return `rotary_table`, off the CPU as the matrices [1, L, 1, D / 2, 2, 2] that core's function reads."""
    table = rotary_table(grid, head_dim, device, positions, references)
    return table if device.type == "cpu" else rotation_matrices(table)


def host_apply(x: torch.Tensor, table: Table) -> torch.Tensor:
    """Turn every channel pair of x [B, L, N, D] by its token's angle, without gradients maybe written over `x`."""
    if not isinstance(table, torch.Tensor):
        return apply_rotary(x, table)
    if FUSED or not by_hand():
        return comfy.ldm.flux.math.apply_rope1(x, table)
    return turn_in_place(x, table, comfy.ldm.flux.math.apply_rope1, host_part)


def host_part(table: Table, tokens: slice | torch.Tensor) -> Table:
    """Return the table of some of the tokens."""
    return table[:, tokens] if isinstance(table, torch.Tensor) else rotary_part(table, tokens)


HOST_ROTARY = RotaryKernel(host_table, host_apply, host_part, lean=FUSED)
