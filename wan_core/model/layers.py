"""What the parts of the model are made with: layers, a norm and its modulation, and long products in parts.

Modulation belongs to a latent frame, so it is broadcast over the frame's tokens and never written out per token (that
tensor would be 13.7 GB for the 14B model at 121 frames 720P). Shapes: see `blocks.py`.

Source: Peebles and Xie 2022 (adaptive layer norm, "six-way modulation").
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from .attention import Attention, query_spans, scaled_dot_product
from .operations import TorchOperations, by_hand, gelu_, reusable
from .rope import OWN_KERNEL, RotaryKernel

PART_TOKENS = 2**15  # of a batch, in one matrix product


def by_frame(x: Tensor, values: Tensor) -> Tensor:
    """Return tokens [B, L, C] by the frame whose value, one of [B, T, C], they share: [B, T, L / T, C]."""
    return rearrange(x, "b (t l) c -> b t l c", t=values.shape[1])


def modulate(y: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Return `y * (1 + scale) + shift`, [B, L, C]; [B, T, C] values are spread over the tokens of their frames.

    Without gradients this is written over `y`.
    """
    frames = by_frame(y, shift)
    made = torch.addcmul(shift.unsqueeze(2), frames, 1 + scale.unsqueeze(2), out=reusable(frames, shift))
    return rearrange(made, "b t l c -> b (t l) c")


def modulated_norm(norm: nn.Module, x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Return `modulate(norm(x), shift, scale)`: what a branch of the residual stream `x` [B, L, C] begins with."""
    return modulate(norm(x), shift, scale)


ModulatedNorm = Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor]


def gate(x: Tensor, y: Tensor, scale: Tensor) -> Tensor:
    """Return `x + y * scale`, [B, L, C]; [B, T, C] scales are spread over the tokens of their frames.

    Without gradients this is written over `y`: a host may have kept `x`.
    """
    frames, branch = by_frame(x, scale), by_frame(y, scale)
    made = torch.addcmul(frames, branch, scale.unsqueeze(2), out=reusable(branch, frames))
    return rearrange(made, "b t l c -> b (t l) c")


@dataclass(frozen=True)
class Layers:
    """What every part of the model is made with: layer classes, kernels, device and dtype of the weights."""

    operations: Any = TorchOperations
    attention: Attention = scaled_dot_product
    rotary: RotaryKernel = OWN_KERNEL
    modulated_norm: ModulatedNorm = modulated_norm
    device: torch.device | None = None
    dtype: torch.dtype | None = None

    def linear(self, in_features: int, out_features: int) -> nn.Module:
        """Return a linear layer with bias."""
        return self.operations.Linear(in_features, out_features, device=self.device, dtype=self.dtype)

    def layer_norm(self, dim: int, eps: float = 1e-5, affine: bool = False) -> nn.Module:
        """Return a layer norm, without weights unless `affine`."""
        return self.operations.LayerNorm(dim, eps=eps, elementwise_affine=affine, device=self.device, dtype=self.dtype)

    def rms_norm(self, dim: int, eps: float) -> nn.Module:
        """Return an RMS norm with weights."""
        return self.operations.RMSNorm(dim, eps=eps, elementwise_affine=True, device=self.device, dtype=self.dtype)

    def parameter(self, *shape: int) -> nn.Parameter:
        """Return a zero parameter: the checkpoint or `init_weights` fills it."""
        return nn.Parameter(torch.zeros(*shape, device=self.device, dtype=self.dtype))


def parts_of(x: Tensor, pieces: int = 1) -> list[slice]:
    """Cut tokens [B, L, C] into parts that a matrix product is still fast on; into no fewer than `pieces`.

    A part is long enough that neither a GPU's idle corners nor the copying of offloaded weights for each part matter.
    """
    if not by_hand() or x.shape[1] == 0:
        return [slice(0, x.shape[1])]
    parts = max(pieces, -(-x.shape[0] * x.shape[1] // PART_TOKENS))
    return [rows for rows, _ in query_spans(x.shape[1], x.shape[1], 0, parts)]


def written_over(layer: nn.Module, x: Tensor, pieces: int = 1) -> Tensor:
    """Return `layer(x)` for tokens `x` [B, L, C] that are not read again; in parts it is written over `x`."""
    parts = parts_of(x, pieces)
    if len(parts) == 1:
        return layer(x)
    for rows in parts:
        x[:, rows] = layer(x[:, rows])
    return x


class GELU(nn.Module):
    """The activation of the feed-forward, written over its input where no gradient is asked for."""

    def forward(self, x: Tensor) -> Tensor:
        """Return [B, L, hidden channels]."""
        return gelu_(x)
