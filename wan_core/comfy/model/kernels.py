"""Which of comfy-kitchen's fused kernels the host has, and the norm before a branch through one of them."""

from __future__ import annotations

from typing import cast

import comfy.quant_ops
import torch
from einops import rearrange
from torch import nn

from ...model.layers import by_frame, modulated_norm
from ...model.operations import by_hand


def has_fused_kernel(name: str) -> bool:
    """Say whether one of comfy-kitchen's compiled backends has a kernel; its "eager" one is plain torch.

    Args:
        name: of the function in comfy-kitchen, such as "apply_rope1" or "adaln".
    """
    kitchen = getattr(comfy.quant_ops, "ck", None)
    backends = {} if kitchen is None else kitchen.list_backends()
    return hasattr(kitchen, name) and any(
        facts.get("available") and not facts.get("disabled") and name in facts.get("capabilities", ())
        for backend, facts in backends.items()
        if backend != "eager"
    )


FUSED_NORM = has_fused_kernel("adaln")


def host_modulated_norm(norm: nn.Module, x: torch.Tensor, shift: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Return `wan_core.model.layers.modulated_norm`, `x` [B, L, C] read once on a GPU whose host has a kernel.

    A norm with weights, or with something of a neighbour's, is called as it is.
    """
    alike = x.device.type == "cuda" and x.dtype == shift.dtype  # the kernel knows one dtype for all
    if FUSED_NORM and alike and by_hand() and is_plain(norm):
        return fused_norm(x, shift, scale, cast(nn.LayerNorm, norm).eps)
    return modulated_norm(norm, x, shift, scale)


def is_plain(norm: nn.Module) -> bool:
    """Say whether a norm is the host's or torch's own layer norm, has no weights, and nobody has hooked into it."""
    own = isinstance(norm, nn.LayerNorm) and type(norm).__module__.partition(".")[0] in ("comfy", "torch")
    hooked = "forward" in vars(norm) or norm._forward_hooks or norm._forward_pre_hooks
    return own and not cast(nn.LayerNorm, norm).elementwise_affine and not hooked


def fused_norm(x: torch.Tensor, shift: torch.Tensor, scale: torch.Tensor, eps: float) -> torch.Tensor:
    """Return a norm without weights of `x` [B, L, C], modulated by [B, T, C] shifts and scales, by comfy-kitchen."""
    made = comfy.quant_ops.ck.adaln(by_frame(x, shift), scale.unsqueeze(2), shift.unsqueeze(2), eps)
    return rearrange(made, "b t l c -> b (t l) c")
