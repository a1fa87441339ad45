"""What this machine's processor can do: whether half precision is quick on it, or crawls.

Without instructions of its own for bfloat16 a processor does a matrix product a hundred times slower than in float32
(measured with AVX2 alone: 1.2 and 130 GFLOP/s).
"""

from __future__ import annotations

import torch

BFLOAT16 = ("amx_bf16", "avx512_bf16", "bf16")  # torch's names of the instructions: x86, x86, ARM


def has_bfloat16() -> bool:
    """Return whether this processor multiplies in bfloat16."""
    known = torch.cpu.get_capabilities()
    return any(known.get(name, False) for name in BFLOAT16)
