"""The layers a WanModel is built from, as plain torch. ComfyUI's `comfy.ops` classes take their place in the host.

An operations object has `Linear`, `Conv3d`, `LayerNorm`, `RMSNorm` and `Embedding` with torch's own signatures
(`device` and `dtype` by keyword); that is all the model asks for, so quantised, offloaded and casting layers fit in.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


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
    RMSNorm: Any = nn.RMSNorm
    Embedding: Any = Embedding
