"""Writes a transformer in every number format that files of it come in, and says what it means: written and decoded by
this file alone, so that a host's own decoder is held against something else.

Every writer takes and gives name -> tensor under the original names. A form's `meaning` holds the float32 weights that
the bytes stand for.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

Tensors = dict[str, torch.Tensor]

# unit roundoff u of a format: a number x becomes one within u * |x|, if it is in the normal range
ROUNDOFF = {
    torch.float16: 2.0**-11,
    torch.bfloat16: 2.0**-8,
    torch.float8_e4m3fn: 2.0**-4,
    torch.float8_e5m2: 2.0**-3,
}
E2M1 = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])  # the sizes of a 4 bit float; the fourth bit is the sign
NVFP4_BLOCK, MXFP8_BLOCK, Q8_BLOCK = 16, 32, 32


@dataclass(frozen=True)
class Form:
    """A model in one format: what is written, with which metadata, and the float32 numbers that it stands for."""

    stored: Tensors
    meaning: Tensors
    metadata: dict[str, str] = field(default_factory=dict)


def is_quantised(name: str, tensor: torch.Tensor) -> bool:
    """Whether quantised files hold this weight quantised: the matrices of the blocks."""
    return name.startswith("blocks.") and name.endswith(".weight") and tensor.ndim == 2


def plain(dtype: torch.dtype) -> Callable[[Tensors], Form]:
    """Every tensor in one dtype; fp8 files keep what is no matrix of a block in fp16."""

    def write(tensors: Tensors) -> Form:
        small = dtype.itemsize == 1
        stored = {
            name: tensor.to(torch.float16 if small and not is_quantised(name, tensor) else dtype)
            for name, tensor in tensors.items()
        }
        return Form(stored, {name: tensor.float() for name, tensor in stored.items()})

    return write


def with_layers(tensors: Tensors, quantise: Callable[[torch.Tensor], tuple[Tensors, torch.Tensor]]) -> Form:
    """Quantise the matrices of the blocks: `quantise` gives what is stored per suffix, and what it means."""
    stored: Tensors = {}
    meaning: Tensors = {}
    for name, tensor in tensors.items():
        if is_quantised(name, tensor):
            parts, meaning[name] = quantise(tensor)
            stored |= {name.removesuffix("weight") + suffix: part for suffix, part in parts.items()}
        else:
            stored[name] = tensor.to(torch.float16)
            meaning[name] = stored[name].float()
    return Form(stored, meaning)


def stated(format_name: str) -> torch.Tensor:
    """The `comfy_quant` key of a layer."""
    return torch.tensor(list(json.dumps({"format": format_name}).encode()), dtype=torch.uint8)


def scaled(dtype: torch.dtype, scale_name: str, state: bool) -> Callable[[Tensors], Form]:
    """fp8 with one scale per layer, under either name; `state` adds the layer's own `comfy_quant`."""

    def quantise(weight: torch.Tensor) -> tuple[Tensors, torch.Tensor]:
        scale = weight.abs().amax() / torch.finfo(dtype).max
        data = (weight / scale).to(dtype)
        parts = {"weight": data, scale_name: scale}
        if state:
            parts["comfy_quant"] = stated(str(dtype).removeprefix("torch."))
        return parts, data.float() * scale

    return lambda tensors: with_layers(tensors, quantise)


def marked_scaled_fp8(dtype: torch.dtype, numbers: int) -> Callable[[Tensors], Form]:
    """`scale_weight` keys and the `scaled_fp8` key; two numbers in that one ask for full-precision products."""

    def write(tensors: Tensors) -> Form:
        form = scaled(dtype, "scale_weight", False)(tensors)
        return Form({**form.stored, "scaled_fp8": torch.zeros(numbers, dtype=dtype)}, form.meaning)

    return write


def table_in_metadata(tensors: Tensors) -> Form:
    """`weight_scale` keys, with the formats of all layers in the file's metadata."""
    form = scaled(torch.float8_e4m3fn, "weight_scale", False)(tensors)
    layers = {
        name.removesuffix(".weight_scale"): {"format": "float8_e4m3fn"}
        for name in form.stored
        if name.endswith(".weight_scale")
    }
    return Form(form.stored, form.meaning, {"_quantization_metadata": json.dumps({"layers": layers})})


def swizzled(scales: torch.Tensor) -> torch.Tensor:
    """Block scales [rows, columns] in the order of NVIDIA's matrix units: tiles of 128 x 4, 32 rows beside each other.

    Source: the block-scaling layout in the cuBLAS documentation: row r, column c of a tile lies at
    (r % 32) * 16 + (r // 32) * 4 + c.
    """
    rows, columns = scales.shape
    assert rows % 128 == 0 and columns % 4 == 0
    row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    tile = (row // 128) * (columns // 4) + column // 4
    within = (row % 32) * 16 + (row % 128 // 32) * 4 + column % 4
    flat = torch.empty(rows * columns, dtype=scales.dtype)
    flat[(tile * 512 + within).flatten()] = scales.flatten()
    return flat.view(rows, columns)


def nvfp4(tensors: Tensors) -> Form:
    """4 bit floats, two to a byte (the first in the high half), with an e4m3 scale for 16 and one for the layer."""

    def quantise(weight: torch.Tensor) -> tuple[Tensors, torch.Tensor]:
        blocks = weight.unflatten(1, (-1, NVFP4_BLOCK))
        layer = weight.abs().amax() / (448 * 6)
        scales = (blocks.abs().amax(-1) / 6 / layer).clamp(max=448).to(torch.float8_e4m3fn)  # [rows, blocks]
        total = (scales.float() * layer)[..., None]
        sizes = (blocks.abs() / total).clamp(max=6)
        codes = (sizes[..., None] - E2M1).abs().argmin(-1)
        decoded = (E2M1[codes] * blocks.sign() * total).flatten(1)
        nibbles = (codes + 8 * (blocks < 0)).flatten(1).to(torch.uint8)
        packed = nibbles[:, ::2] * 16 + nibbles[:, 1::2]
        block_scale = swizzled(scales.view(torch.uint8)).view(torch.float8_e4m3fn)
        parts = {"weight": packed, "weight_scale": block_scale, "weight_scale_2": layer, "comfy_quant": stated("nvfp4")}
        return parts, decoded

    return with_layers(tensors, quantise)


def mxfp8(tensors: Tensors) -> Form:
    """e4m3 with a power of two as the scale for 32 numbers, stored as its exponent + 127."""

    def quantise(weight: torch.Tensor) -> tuple[Tensors, torch.Tensor]:
        blocks = weight.unflatten(1, (-1, MXFP8_BLOCK))
        exponent = (blocks.abs().amax(-1) / 448).log2().ceil()
        total = exponent.exp2()[..., None]
        data = (blocks / total).to(torch.float8_e4m3fn)
        parts = {
            "weight": data.flatten(1),
            "weight_scale": swizzled((exponent + 127).to(torch.uint8)),
            "comfy_quant": stated("mxfp8"),
        }
        return parts, (data.float() * total).flatten(1)

    return with_layers(tensors, quantise)


def pack_q8_0(weight: torch.Tensor) -> torch.Tensor:
    """GGUF's Q8_0: of 32 numbers an fp16 scale and 32 signed bytes; [rows, columns / 32 * 34] bytes."""
    blocks = weight.unflatten(1, (-1, Q8_BLOCK))
    scale = (blocks.abs().amax(-1, keepdim=True) / 127).to(torch.float16)
    numbers = (blocks / scale.float()).round().clamp(-127, 127).to(torch.int8)
    return torch.cat((scale.view(torch.uint8), numbers.view(torch.uint8)), dim=-1).flatten(1)


def unpack_q8_0(packed: torch.Tensor) -> torch.Tensor:
    """The float32 numbers of `pack_q8_0`."""
    blocks = packed.unflatten(1, (-1, Q8_BLOCK + 2))
    scale, numbers = blocks[..., :2].contiguous().view(torch.float16), blocks[..., 2:].contiguous().view(torch.int8)
    return (scale.float() * numbers.float()).flatten(1)


E4M3, E5M2 = torch.float8_e4m3fn, torch.float8_e5m2
FORMATS: dict[str, Callable[[Tensors], Form]] = {
    "fp32": plain(torch.float32),
    "fp16": plain(torch.float16),
    "bf16": plain(torch.bfloat16),
    "fp8_e4m3fn": plain(E4M3),
    "fp8_e5m2": plain(E5M2),
    "scaled fp8_e4m3fn": marked_scaled_fp8(E4M3, 2),
    "scaled fp8_e4m3fn, fast": marked_scaled_fp8(E4M3, 1),
    "scaled fp8_e5m2": marked_scaled_fp8(E5M2, 2),
    "scale_weight alone": scaled(E4M3, "scale_weight", False),
    "weight_scale alone": scaled(E5M2, "weight_scale", False),
    "comfy_quant float8_e4m3fn": scaled(E4M3, "weight_scale", True),
    "comfy_quant float8_e5m2": scaled(E5M2, "weight_scale", True),
    "comfy_quant in the metadata": table_in_metadata,
    "comfy_quant nvfp4": nvfp4,
    "comfy_quant mxfp8": mxfp8,
}
