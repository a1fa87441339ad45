"""The layers a WanModel is built from, as plain torch. ComfyUI's `comfy.ops` classes take their place in the host.

What goes over all tokens without a matrix product is bound by memory, so it works in place or piece by piece: on a CPU
a piece stays in the caches, elsewhere it is only a bound for memory. Where a gradient is asked for, or torch.compile
fuses what it sees, the plain formula stands.

An operations object has `Linear`, `Conv3d`, `LayerNorm`, `RMSNorm` and `Embedding` with torch's own signatures
(`device` and `dtype` by keyword); that is all the model asks for, so quantised, offloaded and casting layers fit in.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

CPU_PIECE = 2**18  # values: half as many are slower, twice as many take more memory than ComfyUI's own Wan
PIECE = 2**24
GELU_IN_PLACE = ("cuda", "xpu", "meta")  # hidden values twice were the peak of a forward pass
GELU_LINEAR, GELU_CUBIC = 1.5957691216057308, 0.07135481627159979  # 2 sqrt(2 / pi), and 0.044715 times that


def pieces(x: Tensor, dim: int) -> Iterator[slice]:
    """Yield slices of a dimension of `x`, as long as memory likes them on its device."""
    rows = x.shape[dim]
    step = max((CPU_PIECE if x.device.type == "cpu" else PIECE) * rows // max(x.numel(), 1), 1)
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def by_hand() -> bool:
    """Say whether we look after memory ourselves: neither autograd nor torch.compile does."""
    return not torch.is_grad_enabled() and not torch.compiler.is_compiling()


def reusable(y: Tensor, x: Tensor) -> Tensor | None:
    """Return `y` to be written over with what has the dtype of `x`, for `out=`; None where that would do harm."""
    return y if by_hand() and y.dtype == x.dtype else None


def gelu_(x: Tensor) -> Tensor:
    """Return the GELU (tanh approximation) of `x` [..., C], without gradients written over it where the device can.

    Both sides of 0.5 x (1 + tanh(z)) = x sigmoid(2 z) are the same; sigmoid is by far the faster on a CPU.
    """
    if by_hand() and x.device.type in GELU_IN_PLACE:
        return torch.ops.aten.gelu_(x, approximate="tanh")
    if x.device.type != "cpu" or not by_hand():
        return functional.gelu(x, approximate="tanh")
    flat = x.flatten(0, -2)
    linear = flat.new_full((), GELU_LINEAR, dtype=torch.float32)
    for rows in pieces(flat, dim=0):
        piece = flat[rows].float()
        opened = torch.addcmul(linear, piece, piece, value=GELU_CUBIC).mul_(piece).sigmoid_()
        torch.mul(piece, opened, out=flat[rows])
    return flat.view(x.shape)


class RMSNorm(nn.RMSNorm):
    """An RMS norm that is as fast on a CPU, where torch has no kernel of its own, as its memory."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised `x` [..., C]."""
        if x.device.type != "cpu" or not by_hand():
            return super().forward(x)
        out = torch.empty_like(x)
        width = x.shape[-1]
        flat, flat_out = x.flatten(0, -2), out.view(-1, width)
        for rows in pieces(flat, dim=0):
            piece = flat[rows].float()
            length = torch.linalg.vector_norm(piece, dim=-1, keepdim=True)
            shrink = length.square_().div_(width).add_(self.eps).rsqrt_()
            torch.mul(piece * shrink, self.weight, out=flat_out[rows])
        return out


class Embedding(nn.Embedding):
    """A lookup table that can be asked for its rows in another dtype, as ComfyUI's can."""

    def forward(self, input: torch.Tensor, out_dtype: torch.dtype | None = None) -> torch.Tensor:
        """Return the rows of `input` (integer tensor of any shape), in `out_dtype` when given."""
        rows = super().forward(input)
        return rows if out_dtype is None else rows.to(out_dtype)


class TorchOperations:
    """Layers without casting or offloading: training, tests, benchmarks and use outside a host."""

    Linear: Any = nn.Linear
    Conv3d: Any = nn.Conv3d
    LayerNorm: Any = nn.LayerNorm
    RMSNorm: Any = RMSNorm
    Embedding: Any = Embedding
