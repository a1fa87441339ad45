"""Scaled 8 bit weights that ComfyUI's own layers do not hold: one scale for each row, group of columns or square.

They are tensors of the host's own quantised kind with a layout of ours, so that moving, offloading and LoRAs go the
host's way: it unpacks such a weight where it is used. Its own fp8 layout takes one scale for the whole matrix, and its
GPU kernels refuse others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import comfy.float
import comfy.quant_ops
import torch
from torch import Tensor

from ...checkpoint import decode
from ...checkpoint.formats import HOST_INT8

LARGEST = {torch.float8_e4m3fn: 448.0, torch.float8_e5m2: 57344.0, torch.int8: 127.0}
BASE: Any = comfy.quant_ops.QuantizedLayout
PARAMS: Any = getattr(comfy.quant_ops.TensorCoreFP8Layout, "Params", object)


class ScaledLayout(BASE):
    """Numbers of one dtype and float32 scales of any granularity; rounded anew, they get one for each row."""

    NUMBERS: torch.dtype

    @dataclass(frozen=True)
    class Params(PARAMS):
        """The scales, and the shape and dtype of what is unpacked."""

    @classmethod
    def quantize(cls, tensor: Tensor, stochastic_rounding: int = 0, **options: Any) -> tuple[Tensor, Any]:
        """Round a float matrix, as the host does after it has added a LoRA."""
        largest = LARGEST[cls.NUMBERS]
        scale = (tensor.abs().amax(1, keepdim=True).float() / largest).clamp(min=torch.finfo(torch.float32).tiny)
        values = (tensor.float() / scale).clamp(-largest, largest)
        if torch.int8 == cls.NUMBERS:
            numbers = values.round().to(torch.int8)
        elif stochastic_rounding > 0:
            numbers = comfy.float.stochastic_rounding(values, dtype=cls.NUMBERS, seed=stochastic_rounding)
        else:
            numbers = values.to(cls.NUMBERS)
        return numbers, cls.Params(scale=scale, orig_dtype=tensor.dtype, orig_shape=tuple(tensor.shape))

    @classmethod
    def dequantize(cls, qdata: Tensor, params: Any) -> Tensor:
        """Unpack the matrix."""
        return decode.scaled(qdata, params.scale).to(params.orig_dtype)

    @classmethod
    def get_plain_tensors(cls, qtensor: Any) -> tuple[Tensor, Tensor]:
        """Return numbers and scales."""
        return qtensor._qdata, qtensor._params.scale

    @classmethod
    def state_dict_tensors(cls, qdata: Tensor, params: Any) -> dict[str, Tensor]:
        """Return what a saved file holds, by the ending of the key."""
        return {"": qdata, "_scale": params.scale}


LAYOUTS: dict[torch.dtype, Any] = {
    numbers: type(f"Scaled_{str(numbers).removeprefix('torch.')}", (ScaledLayout,), {"NUMBERS": numbers})
    for numbers in LARGEST
}
for _layout in LAYOUTS.values():
    comfy.quant_ops.register_layout_class(f"SkyReelsV2{_layout.__name__}", _layout)


def hold_packed(transformer: Any, packed: Mapping[str, tuple[Tensor, Tensor]], dtype: torch.dtype) -> None:
    """Give layers of a transformer their packed weights.

    Args:
        transformer: made of the host's mixed-precision layers, its other weights loaded.
        packed: layer -> numbers [rows, columns] and their scales.
        dtype: that the weights are unpacked to where nothing else is asked for.
    """
    for name, (numbers, scale) in packed.items():
        layer, layout = transformer.get_submodule(name), LAYOUTS[numbers.dtype]
        params = layout.Params(scale=scale.float(), orig_dtype=dtype, orig_shape=tuple(numbers.shape))
        tensor = comfy.quant_ops.QuantizedTensor(numbers, f"SkyReelsV2{layout.__name__}", params)
        layer.weight = torch.nn.Parameter(tensor.to(layer.bias.device), requires_grad=False)
        layer.layout_type = f"SkyReelsV2{layout.__name__}"
        layer.quant_format = HOST_INT8 if numbers.dtype == torch.int8 else str(numbers.dtype).removeprefix("torch.")
        layer._full_precision_mm = layer._full_precision_mm_config = True


def stored(weight: Tensor) -> Tensor:
    """Return the numbers of a weight that is held packed, as they are; another one as it is."""
    ours = str(getattr(weight, "_layout_cls", "")).startswith("SkyReelsV2")
    return weight._qdata if ours else weight  # type: ignore[attr-defined]
