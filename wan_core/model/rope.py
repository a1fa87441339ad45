"""3D rotary position embedding: time, height and width share the width of a head.

A head of D channels is D / 2 pairs; time turns the first D / 2 - 2 * (D // 6) of them, height and width D // 6 each.
Source: Su et al. 2021, RoFormer, and `rope_params` / `rope_apply` of the Wan 2.1 transformer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from einops import rearrange

from .operations import by_hand, pieces

THETA = 10000.0  # base of the geometric series of wave lengths


class Rotary(NamedTuple):
    """Cosine and sine of every token's angles, each [L, 1, D / 2] in float32."""

    cos: torch.Tensor
    sin: torch.Tensor


@dataclass(frozen=True)
class Positions:
    """Where the tokens of a grid stand, on each axis.

    Attributes:
        offset: position of the first token (a later window of a long video starts at its own frame).
        scale: distance of neighbouring tokens.
    """

    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)
    scale: tuple[float, float, float] = (1.0, 1.0, 1.0)


FROM_ZERO = Positions()


def axis_pairs(head_dim: int) -> tuple[int, int, int]:
    """Return how many channel pairs of a head belong to time, height and width."""
    spatial = head_dim // 6
    return head_dim // 2 - 2 * spatial, spatial, spatial


def rotary_table(
    grid: tuple[int, int, int],
    head_dim: int,
    device: torch.device | None = None,
    positions: Positions = FROM_ZERO,
    references: Sequence[tuple[int, int, int]] = (),
) -> Rotary:
    """Return the rotation of every token of a (frames, rows, columns) grid, in the order time, height, width.

    Args:
        grid: latent frames, patch rows, patch columns.
        head_dim: channels of a head.
        device: where the table lies.
        positions: of the tokens.
        references: grids whose tokens follow; all pairs of the n-th turn further, as a position n would turn a head.

    Returns:
        Rotary of [L, 1, head_dim / 2], L = frames * rows * columns, and those of the references.
    """
    tables = [grid_table(each, head_dim, device, positions, source) for source, each in enumerate((grid, *references))]
    return tables[0] if len(tables) == 1 else Rotary(*(torch.cat(parts) for parts in zip(*tables, strict=True)))


def grid_table(
    grid: tuple[int, int, int], head_dim: int, device: torch.device | None, positions: Positions, source: int = 0
) -> Rotary:
    """Return the rotation of the tokens of one grid: the video's with source 0, or that of the n-th reference.

    Source: the in-context references of Bernini in ComfyUI's Wan model.
    """
    whole_head = THETA ** (-torch.arange(head_dim // 2, dtype=torch.float64) / (head_dim // 2))
    further = (source * whole_head).split(axis_pairs(head_dim))
    cos, sin = [], []
    for axis, (length, pairs) in enumerate(zip(grid, axis_pairs(head_dim), strict=True)):
        # float64 on the CPU: late frames keep exact phases, and devices without float64 work too
        frequencies = THETA ** (-torch.arange(pairs, dtype=torch.float64) / pairs)
        along = positions.offset[axis] + positions.scale[axis] * torch.arange(length, dtype=torch.float64)
        angles = torch.outer(along, frequencies) + further[axis]  # [length, pairs]
        shape = [1, 1, 1, pairs]
        shape[axis] = length
        cos.append(angles.cos().float().to(device).view(shape).expand(*grid, pairs))
        sin.append(angles.sin().float().to(device).view(shape).expand(*grid, pairs))
    return Rotary(*(rearrange(torch.cat(parts, dim=-1), "f h w pairs -> (f h w) 1 pairs") for parts in (cos, sin)))


def apply_rotary(x: torch.Tensor, rotary: Rotary) -> torch.Tensor:
    """Turn every channel pair of every head by its token's angle.

    Args:
        x: queries or keys [B, L, N, D]; the two channels of a pair are neighbours.
        rotary: table of the same L and D.

    Returns:
        [B, L, N, D] in the dtype of `x`, computed in float32; without gradients written over `x`.
    """
    if not by_hand():
        return turned(x, rotary).to(x.dtype)
    x = x.contiguous()  # it nearly always is; complex numbers ask for it
    return turn_in_place(x, rotary, turned_on_cpu if x.device.type == "cpu" else turned, rotary_part)


def turn_in_place(
    x: torch.Tensor,
    table: Any,
    turn: Callable[[torch.Tensor, Any], torch.Tensor],
    part: Callable[[Any, slice], Any],
) -> torch.Tensor:
    """Write `turn(x, table)` over `x` [B, L, N, D], some tokens at a time; `part` returns their table."""
    for tokens in pieces(x, dim=1):
        x[:, tokens] = turn(x[:, tokens], part(table, tokens))
    return x


def rotary_part(rotary: Rotary, tokens: slice | torch.Tensor) -> Rotary:
    """Return the table of some of the tokens, a slice or their numbers."""
    return Rotary(rotary.cos[tokens], rotary.sin[tokens])


def turned(x: torch.Tensor, rotary: Rotary) -> torch.Tensor:
    """Return `x` [B, L, N, D], turned, in float32."""
    (cos, sin), (even, odd) = rotary, rearrange(x.float(), "b l n (pairs two) -> two b l n pairs", two=2)
    pairs = torch.addcmul(even * cos, odd, sin, value=-1), torch.addcmul(odd * cos, even, sin)
    return rearrange(torch.stack(pairs, dim=-1), "b l n pairs two -> b l n (pairs two)")


def turned_on_cpu(x: torch.Tensor, rotary: Rotary) -> torch.Tensor:
    """Return the same by complex numbers: one pass on a CPU, but no good for compilers and some other devices."""
    pairs = torch.view_as_complex(rearrange(x.float(), "b l n (pairs two) -> b l n pairs two", two=2))
    turned_pairs = torch.view_as_real(pairs * torch.complex(*rotary))
    return rearrange(turned_pairs, "b l n pairs two -> b l n (pairs two)")


def rotation_matrices(rotary: Rotary) -> torch.Tensor:
    """Return a table as 2 x 2 matrices [1, L, 1, D / 2, 2, 2] in float32, the form that fused kernels read."""
    cos, sin = rotary
    matrices = torch.stack((cos, -sin, sin, cos), dim=-1)
    return rearrange(matrices, "l 1 pairs (rows columns) -> 1 l 1 pairs rows columns", rows=2)


@dataclass(frozen=True)
class RotaryKernel:
    """How a model turns queries and keys; a host may have a kernel of its own.

    Attributes:
        table: makes the table of a grid, with the arguments of `rotary_table`.
        apply: turns x [B, L, N, D] by such a table, as `apply_rotary`; any order of channels will do that is the same
            for queries and keys.
        part: returns the table of some of the tokens, a slice or their numbers, as `rotary_part`.
        lean: whether `apply` makes nothing but its result, so that long videos need not be turned in parts.
    """

    table: Callable[..., Any] = rotary_table
    apply: Callable[[torch.Tensor, Any], torch.Tensor] = apply_rotary
    part: Callable[[Any, Any], Any] = rotary_part
    lean: bool = False


OWN_KERNEL = RotaryKernel()
