"""What a GGUF loader hands to core: weights packed in Q8_0 blocks, and layers that unpack them when they are used.

Such loaders call `comfy.sd.load_diffusion_model_state_dict(sd, model_options={"custom_operations": ...})` with tensors
that hold bytes and answer with the shape of what the bytes stand for.
"""

from __future__ import annotations

from typing import Any

import comfy.ops
import torch


class PackedTensor(torch.Tensor):
    """Bytes of Q8_0 blocks that answer with the unpacked shape."""

    unpacked_shape: torch.Size

    @staticmethod
    def __new__(cls, packed: torch.Tensor, shape: torch.Size) -> PackedTensor:
        made = packed.as_subclass(cls)
        made.unpacked_shape = torch.Size(shape)
        return made

    @property
    def shape(self) -> torch.Size:  # type: ignore[override]
        return getattr(self, "unpacked_shape", self.size())

    def to(self, *args: Any, **kwargs: Any) -> PackedTensor:
        """Bytes stay bytes, whatever dtype is asked for."""
        return self

    def detach(self) -> PackedTensor:
        return self

    def clone(self, *args: Any, **kwargs: Any) -> PackedTensor:
        return self


def operations(unpack: Any) -> Any:
    """Layers for core: a Linear unpacks its weight with `unpack` (bytes [rows, n] -> float32 [rows, columns])."""

    class PackedOperations(comfy.ops.manual_cast):
        class Linear(comfy.ops.manual_cast.Linear):
            def __init__(self, in_features: int, out_features: int, bias: bool = True, **_: Any) -> None:
                torch.nn.Module.__init__(self)
                self.in_features, self.out_features = in_features, out_features
                self.weight, self.bias = None, None

            def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
                self.weight = torch.nn.Parameter(state_dict[prefix + "weight"], requires_grad=False)
                if prefix + "bias" in state_dict:
                    self.bias = torch.nn.Parameter(state_dict[prefix + "bias"], requires_grad=False)

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                weight = self.weight
                if isinstance(weight, PackedTensor):
                    weight = unpack(weight.as_subclass(torch.Tensor))
                bias = None if self.bias is None else self.bias.to(x.dtype)
                return torch.nn.functional.linear(x, weight.to(x.dtype), bias)

    return PackedOperations
