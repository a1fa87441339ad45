"""Files of packed weights that are refused: how each is written for a test, and what the sentence has to say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from .file_formats import E4M3, INT8, Tensors, is_quantised, mx, nvfp4, packed, rounded, scaled, stated, swizzled

BYTE, BF16 = torch.uint8, torch.bfloat16
Pack = Callable[[torch.Tensor], Tensors]


@dataclass(frozen=True)
class Refused:
    """A row of the table of formats that are not read: what stands in place of a matrix, and words of the refusal."""

    pack: Pack
    says: str

    def write(self, tensors: Tensors) -> Tensors:
        """A whole model, its blocks' matrices packed."""
        stored: Tensors = {}
        for name, tensor in tensors.items():
            if is_quantised(name, tensor):
                stored |= {name.removesuffix("weight") + part: value for part, value in self.pack(tensor).items()}
            else:
                stored[name] = tensor.to(BF16)
        return stored


def nf4(weight: torch.Tensor) -> Tensors:
    """bitsandbytes nf4 as diffusers saves it."""
    count = weight.numel()
    return {
        "weight": torch.zeros(count // 2, 1, dtype=BYTE),
        "weight.absmax": torch.zeros(count // 64, dtype=BYTE),
        "weight.quant_map": torch.zeros(16),
        "weight.nested_absmax": torch.zeros(4),
        "weight.nested_quant_map": torch.zeros(256),
        "weight.quant_state.bitsandbytes__nf4": torch.zeros(80, dtype=BYTE),
    }


def svdquant(weight: torch.Tensor) -> Tensors:
    """Nunchaku's SVDQuant."""
    rows, columns = weight.shape
    return {
        "qweight": torch.zeros(rows, columns // 2, dtype=INT8),
        "wscales": torch.zeros(columns // 64, rows, dtype=BF16),
        "smooth_factor": torch.ones(columns),
        "proj_down": torch.zeros(columns, 32),
        "proj_up": torch.zeros(rows, 32),
    }


def gptq(weight: torch.Tensor) -> Tensors:
    """GPTQ, 4 bit."""
    rows, columns = weight.shape
    return {
        "qweight": torch.zeros(columns // 8, rows, dtype=torch.int32),
        "qzeros": torch.zeros(columns // 128, rows // 8, dtype=torch.int32),
        "scales": torch.zeros(columns // 128, rows, dtype=torch.float16),
        "g_idx": torch.zeros(columns, dtype=torch.int32),
    }


def numbers(**more: Callable[[torch.Tensor], torch.Tensor]) -> Pack:
    """int8 numbers of the right shape, and more parts beside them."""

    def pack(weight: torch.Tensor) -> Tensors:
        data = rounded(weight / weight.abs().amax() * 127, INT8)
        return {"weight": data} | {part.replace("__", "."): make(weight) for part, make in more.items()}

    return pack


def rows(weight: torch.Tensor) -> torch.Tensor:
    """A scale for each row."""
    return weight.abs().amax(1, keepdim=True) / 127


def in_rows(weight: torch.Tensor) -> Tensors:
    """mxfp8 without a statement, in a shape that suits both orders of its scales."""
    parts, _ = mx(False, False)(weight)
    return {"weight": parts["weight"], "weight_scale": parts["weight_scale"]}


def modelopt_nvfp4(weight: torch.Tensor) -> Tensors:
    """nvfp4 as ModelOpt exports it: no statement, and the scales in rows."""
    parts, _ = nvfp4()(weight)
    return {part: value for part, value in parts.items() if part != "comfy_quant"}


def without_scales(weight: torch.Tensor) -> Tensors:
    """fp8 numbers whose scales somebody took away."""
    return {"weight": scaled(E4M3, "scale")(weight)[0]["weight"]}


def reciprocal(weight: torch.Tensor) -> Tensors:
    """A scale that would have to divide."""
    parts, _ = scaled(INT8, "weight_scale", "row")(weight)
    return {"weight": parts["weight"], "weight_scale": 1 / parts["weight_scale"]}


def nothing_left(weight: torch.Tensor) -> Tensors:
    """Scales so small that half floats have made them 0."""
    parts, _ = scaled(INT8, "weight_scale", "row")(weight)
    return {"weight": parts["weight"], "weight_scale": (parts["weight_scale"] * 1e-8).half()}


def mxfp6(weight: torch.Tensor) -> Tensors:
    """LightX2V's 6 bit floats."""
    tall, wide = weight.shape
    scale = swizzled(torch.full((tall, wide // 32), 120, dtype=BYTE)).view(torch.float8_e8m0fnu)
    return {"weight": torch.zeros(tall, wide // 4 * 3, dtype=BYTE), "weight_scale": scale}


NO_FORMAT = "which is no known format"
REFUSED: dict[str, Refused] = {
    "bitsandbytes nf4": Refused(nf4, "4 bit numbers of bitsandbytes"),
    "SVDQuant (Nunchaku)": Refused(svdquant, "SVDQuant, as Nunchaku has it"),
    "GPTQ": Refused(gptq, "GPTQ"),
    "torchao": Refused(
        lambda w: {"_weight_qdata": rounded(w / rows(w), INT8), "_weight_scale": rows(w)}, "a torchao tensor"
    ),
    "torchao, in parts": Refused(
        lambda w: {"weight.tensor_impl.int_data": rounded(w / rows(w), INT8), "weight.tensor_impl.scale": rows(w)},
        "a torchao tensor",
    ),
    "HQQ": Refused(lambda w: {"W_q": torch.zeros(len(w), 8, dtype=BYTE), "scale": rows(w), "zero": rows(w)}, "HQQ"),
    "compressed-tensors": Refused(
        lambda w: {"weight_packed": torch.zeros(len(w), 32, dtype=torch.int32), "weight_scale": rows(w)},
        "compressed-tensors",
    ),
    "quanto int4": Refused(
        lambda w: {
            "weight._data": packed((w * 0).long(), False),
            "weight._scale": rows(w),
            "weight._shift": rows(w),
        },
        "4 bit numbers of optimum-quanto",
    ),
    "SDNQ uint8": Refused(
        lambda w: {"weight": torch.zeros(w.shape, dtype=BYTE), "scale": rows(w), "zero_point": rows(w)}, "SDNQ"
    ),
    "LightX2V mxfp6": Refused(mxfp6, NO_FORMAT),
    "mxfp8, order unknown": Refused(in_rows, NO_FORMAT),
    "ModelOpt nvfp4": Refused(modelopt_nvfp4, NO_FORMAT),
    "int8 without a scale": Refused(numbers(), NO_FORMAT),
    "int8, scale of no shape": Refused(numbers(weight_scale=lambda w: w[:3, 0]), NO_FORMAT),
    "int8, scale of columns": Refused(numbers(weight_scale=lambda w: w[:1].abs()), NO_FORMAT),
    "int8, unknown part": Refused(numbers(weight_scale=rows, weight_shift=rows), NO_FORMAT),
    "int8, two scales": Refused(numbers(weight_scale=rows, scale_weight=rows), NO_FORMAT),
    "int8, dotted part": Refused(numbers(weight__factor=rows), NO_FORMAT),
    "fp8, scales lost": Refused(without_scales, "the file's scales have been lost"),
    "reciprocal scales": Refused(reciprocal, "which no trained model has"),
    "scales of 0": Refused(nothing_left, "has scales that are all 0"),
    "uint8 about 128": Refused(lambda w: {"weight": torch.full(w.shape, 128, dtype=BYTE), "scale": rows(w)}, NO_FORMAT),
    "int8 with a zero point": Refused(numbers(weight_scale=rows, weight_zero_point=rows), NO_FORMAT),
    "int8, smoothed": Refused(numbers(weight_scale=rows, smooth_scale=rows), NO_FORMAT),
    "a statement of the future": Refused(
        lambda w: {"weight": w.to(E4M3), "weight_scale": torch.ones(()), "comfy_quant": stated("fp3_e1m1")},
        "stated as 'fp3_e1m1'",
    ),
}
