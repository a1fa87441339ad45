"""How the numbers of a model lie in a file: every format in circulation, how it is told, and how it is read or why not.

A matrix of the model is told by what stands in the header under its name: parts such as `weight`, `weight_scale` or
`weight._data`, with their dtypes and shapes, and what a `comfy_quant` key or the metadata states. The first row of
FORMATS that matches is its format. A matrix that matches none is refused: numbers without their scale are noise.

Sources: ComfyUI's quant_ops; LightX2V's tools/convert; musubi-tuner's fp8_optimization_utils; optimum-quanto, mmgp;
bitsandbytes; DeepSeek's `weight_scale_inv`, which despite its name is multiplied.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..words import Words, words
from . import decode, rotated
from .matrices import BESIDE, FLOATS, FP8, SMOOTHING, Matrix

SCALED = tuple(f"{number}{by}" for number in (*FP8, "int8") for by in ("", "_tensorwise", "_rowwise", "_blockwise"))
HOST_INT8 = rotated.INT8

Parts = Mapping[str, Tensor]


@dataclass(frozen=True)
class Format:
    """A row of the table.

    Attributes:
        name: as people call it.
        matches: whether a matrix is stored like that.
        error: largest error of a weight, as a part of itself (floats) or of the largest under the same scale.
        scales: its parts -> numbers [rows, columns], and scales of any granularity to multiply them by.
        read: where there is no such pair: its parts -> float32 numbers [rows, columns].
        host: the name under which ComfyUI can keep it as it is; None: it cannot.
        for_host: its parts -> those that ComfyUI wants, without the statement.
    """

    name: str
    matches: Callable[[Matrix], bool]
    error: float
    scales: Callable[[Parts, Matrix], tuple[Tensor, Tensor]] | None = None
    read: Callable[[Parts, Matrix], Tensor] | None = None
    host: str | None = None
    for_host: Callable[[Parts, Matrix], dict[str, Tensor]] | None = None

    @property
    def said(self) -> Words | str:
        """Return the name as it is said to a person."""
        numbers, _, by = self.name.partition(" with a scale for each ")
        return words("{numbers} with {scales}", numbers=numbers, scales=SAID[by]) if by else self.name


def find_format(matrix: Matrix) -> Format | None:
    """Find how a matrix is stored; None where nothing known matches."""
    return next((row for row in FORMATS if row.matches(matrix)), None)


SAID = {
    decode.TENSOR: words("one scale"),
    decode.ROW: words("a scale for each row"),
    decode.GROUP: words("a scale for each group of columns"),
    decode.BLOCK: words("a scale for each block"),
}


@dataclass(frozen=True)
class Stored:
    """A matrix of a file, and the format it is stored in."""

    matrix: Matrix
    format: Format

    @property
    def is_plain(self) -> bool:
        """Whether the numbers are those of the model, with nothing to be done."""
        return self.format.scales is None and self.format.read is None and SMOOTHING not in self.matrix.parts

    def numbers(self, parts: Parts) -> Tensor:
        """Read the float32 numbers of the weight, in its shape, from its parts."""
        scales, read = self.format.scales, self.format.read
        if scales is not None:
            found = decode.scaled(*scales(parts, self.matrix))
        else:
            found = parts["weight"].float() if read is None else read(parts, self.matrix)
        smoothing = parts.get(SMOOTHING)
        if smoothing is not None:
            found = found.flatten(1) * smoothing.float().reshape(1, -1)
        return found.reshape(self.matrix.full_shape)


# numbers as they are, and numbers times a scale


def _plain(dtype: str) -> Callable[[Matrix], bool]:
    """Numbers without a scale; next to 8 bits nothing else may stand that could be one."""

    def matches(matrix: Matrix) -> bool:
        alone = matrix.has_only("weight") or (dtype in FLOATS and matrix.scale is None)
        return matrix.format is None and alone and matrix.is_stored((dtype,)) and matrix.numbers == "weight"

    return matches


def _scaled(dtypes: tuple[str, ...], by: str) -> Callable[[Matrix], bool]:
    def matches(matrix: Matrix) -> bool:
        stated = matrix.format in (None, *SCALED) and not rotated.rotation(matrix)
        only = matrix.scale is not None and matrix.has_only(matrix.numbers, matrix.scale)
        return only and stated and matrix.is_stored(dtypes) and matrix.granularity() == by

    return matches


def _scales(parts: Parts, matrix: Matrix) -> tuple[Tensor, Tensor]:
    return parts[matrix.numbers or ""].flatten(1), parts[matrix.scale or ""]


def _keep_scaled(parts: Parts, matrix: Matrix) -> dict[str, Tensor]:
    numbers, scale = _scales(parts, matrix)
    return {"weight": numbers, "weight_scale": scale.float().reshape(() if scale.numel() == 1 else (-1, 1))}


def _bitsandbytes_int8(matrix: Matrix) -> bool:
    scale = matrix.parts.get("SCB")
    row = scale is not None and scale.shape == matrix.shape[:1] and scale.dtype in FLOATS
    return row and matrix.is_stored(("int8",)) and matrix.has_only("weight", "SCB", beside=(*BESIDE, "weight_format"))


def _bitsandbytes_scales(parts: Parts, matrix: Matrix) -> tuple[Tensor, Tensor]:
    return parts["weight"], (parts["SCB"].float() / 127)[:, None]


# 4 and 8 bit floats whose block scales lie in NVIDIA's order


def _block_scales(matrix: Matrix, dtypes: tuple[str, ...], size: int) -> bool:
    """Whether there is a scale for every `size` columns, in the shape of NVIDIA's order."""
    rows, columns = matrix.shape
    entry = matrix.parts.get("weight_scale")
    wanted = decode.swizzled_shape(rows, columns // size)
    return entry is not None and columns % size == 0 and entry.dtype in dtypes and entry.shape == wanted


def _order_is_open(matrix: Matrix) -> bool:
    """Whether block scales that nothing is stated of could as well lie in rows: bytes, in a shape that suits both."""
    rows, columns = matrix.shape
    entry = matrix.parts.get("weight_scale")
    return entry is not None and entry.dtype == "uint8" and entry.shape == (rows, columns // 32)


def _mxfp8(matrix: Matrix) -> bool:
    told = matrix.format == "mxfp8" or (matrix.format is None and not _order_is_open(matrix))
    stored = matrix.is_stored(("float8_e4m3fn", "uint8")) and matrix.has_only("weight", "weight_scale")
    return told and stored and _block_scales(matrix, ("float8_e8m0fnu", "uint8"), 32)


def _mxfp4(matrix: Matrix) -> bool:
    stored = matrix.is_packed("uint8") and matrix.has_only("weight", "weight_scale")
    return matrix.format is None and stored and _block_scales(matrix, ("float8_e8m0fnu",), 32)


def _nvfp4(stated: str | None, *parts: str) -> Callable[[Matrix], bool]:
    dtypes = ("float8_e4m3fn", "uint8") if stated else ("float8_e4m3fn",)
    beside = tuple(part for part in (*BESIDE, "alpha") if part not in parts)

    def matches(matrix: Matrix) -> bool:
        only = matrix.has_only("weight", "weight_scale", *parts, beside=beside)
        single = only and all(matrix.parts[part].elements == 1 and matrix.parts[part].dtype in FLOATS for part in parts)
        return matrix.format == stated and single and matrix.is_packed("uint8") and _block_scales(matrix, dtypes, 16)

    return matches


def _mxfp8_scales(parts: Parts, matrix: Matrix) -> tuple[Tensor, Tensor]:
    return parts["weight"].view(torch.float8_e4m3fn), _exponents(parts, matrix)


def _read_mxfp4(parts: Parts, matrix: Matrix) -> Tensor:
    numbers = decode.four_bit_floats(decode.nibbles(parts["weight"]))
    return decode.scaled(numbers, _exponents(parts, matrix))


def _exponents(parts: Parts, matrix: Matrix) -> Tensor:
    rows, columns = matrix.shape
    return decode.in_rows(decode.powers_of_two(parts["weight_scale"]), rows, columns // 32)


def _read_nvfp4(high_first: bool) -> Callable[[Parts, Matrix], Tensor]:
    def read(parts: Parts, matrix: Matrix) -> Tensor:
        rows, columns = matrix.shape
        scales = decode.in_rows(parts["weight_scale"].view(torch.float8_e4m3fn).float(), rows, columns // 16)
        numbers = decode.four_bit_floats(decode.nibbles(parts["weight"], high_first))
        return decode.scaled(numbers, scales * decode.nvfp4_scale(parts))

    return read


def _keep_mxfp8(parts: Parts, matrix: Matrix) -> dict[str, Tensor]:
    return {
        "weight": parts["weight"].view(torch.float8_e4m3fn),
        "weight_scale": parts["weight_scale"].view(torch.uint8),
    }


def _keep_nvfp4(high_first: bool) -> Callable[[Parts, Matrix], dict[str, Tensor]]:
    def keep(parts: Parts, matrix: Matrix) -> dict[str, Tensor]:
        packed = parts["weight"]
        weight = packed if high_first else (packed >> 4) | (packed << 4)
        return {"weight": weight, "weight_scale": parts["weight_scale"], "weight_scale_2": decode.nvfp4_scale(parts)}

    return keep


def _keep_all(parts: Parts, matrix: Matrix) -> dict[str, Tensor]:
    return {part: tensor for part, tensor in parts.items() if part != "comfy_quant"}


# the table

E4M3, E5M2, INT8 = 2.0**-4, 2.0**-3, 1 / 127
NVFP4 = 1 / 6 * (1 + E4M3) + E4M3  # half of the widest gap, 4 to 6, of 6; and what the block's own scale is off
PLAIN = {
    "float64": 2.0**-24,
    "float32": 2.0**-24,
    "float16": 2.0**-11,
    "bfloat16": 2.0**-8,
    **dict(zip(FP8, (E4M3, E5M2), strict=True)),
}
WITH_SCALE = (  # dtypes, error, name at the host, scales that the host can keep
    (FP8[:1], E4M3, FP8[0], (decode.TENSOR,)),
    (FP8[1:], E5M2, FP8[1], (decode.TENSOR,)),
    (("int8",), INT8, HOST_INT8, (decode.TENSOR, decode.ROW)),
    (FLOATS, 2.0**-8, None, ()),
)

FORMATS = (
    *(Format(dtype, _plain(dtype), error) for dtype, error in PLAIN.items()),
    *(
        Format(
            f"{dtypes[0] if len(dtypes) == 1 else 'floats'} with a scale for each {by}",
            _scaled(dtypes, by),
            error,
            scales=_scales,
            host=host if by in kept else None,
            for_host=_keep_scaled if by in kept else None,
        )
        for dtypes, error, host, kept in WITH_SCALE
        for by in (decode.TENSOR, decode.ROW, decode.GROUP, decode.BLOCK)
    ),
    Format("bitsandbytes int8", _bitsandbytes_int8, INT8, scales=_bitsandbytes_scales),
    Format("mxfp8", _mxfp8, E4M3, scales=_mxfp8_scales, host="mxfp8", for_host=_keep_mxfp8),
    Format("mxfp4", _mxfp4, 0.25, read=_read_mxfp4),
    Format(
        "nvfp4",
        _nvfp4("nvfp4", "weight_scale_2"),
        NVFP4,
        read=_read_nvfp4(True),
        host="nvfp4",
        for_host=_keep_nvfp4(True),
    ),
    *(
        Format(
            "LightX2V nvfp4",
            _nvfp4(None, *parts),
            NVFP4,
            read=_read_nvfp4(False),
            host="nvfp4",
            for_host=_keep_nvfp4(False),
        )
        for parts in (("weight_global_scale",), ("alpha", "input_global_scale"))
    ),
    Format("rotated int8", rotated.is_int8, INT8, read=rotated.read_int8, host=HOST_INT8, for_host=_keep_scaled),
    Format(
        "rotated int4 (convrot_w4a4)",
        rotated.is_w4a4,
        1 / 7,
        read=rotated.read_w4a4,
        host=rotated.W4A4,
        for_host=_keep_all,
    ),
    Format(
        "rotated int4 (asym_w4a8_int8)",
        rotated.is_w4a8,
        1 / 7,
        read=rotated.read_w4a8,
        host=rotated.W4A8,
        for_host=_keep_all,
    ),
)
