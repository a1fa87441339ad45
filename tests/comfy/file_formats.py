"""Writes a transformer in every number format that files of it come in, and says what it means: written and decoded by
this file alone, so that the pack's and a host's decoders are held against something else.

Every writer takes and gives name -> tensor under the original names. A form's `meaning` holds the float32 weights that
the bytes stand for. Formats that are refused are in refused_formats.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

Tensors = dict[str, torch.Tensor]
Quantise = Callable[[torch.Tensor], tuple[Tensors, torch.Tensor]]  # weight -> what is stored, what it means

E4M3, E5M2, INT8 = torch.float8_e4m3fn, torch.float8_e5m2, torch.int8
LARGEST = {E4M3: 448.0, E5M2: 57344.0, INT8: 127.0}
E2M1 = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])  # the sizes of a 4 bit float; the fourth bit is the sign
NVFP4_BLOCK, MX_BLOCK, Q8_BLOCK, ROTATED = 16, 32, 32, 256

# how far a number may lie from the one it was made from: times itself, or for integers and 4 bit floats times the
# largest under the same scale
BOUND = {"fp32": 2.0**-24, "fp16": 2.0**-11, "bf16": 2.0**-8, "e4m3": 2.0**-4, "e5m2": 2.0**-3, "int8": 1 / 127}
BOUND |= {"int4": 1 / 7, "mxfp4": 0.25, "nvfp4": 1 / 6 * (1 + 2**-4) + 2**-4}  # half the gap from 4 to 6, and the scale


@dataclass(frozen=True)
class Form:
    """A model in one format: what is written, with which metadata, and the float32 numbers that it stands for."""

    stored: Tensors
    meaning: Tensors
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Written:
    """A row of the table of formats: how it is written, a key of BOUND, and what is in the file, in words."""

    write: Callable[[Tensors], Form]
    bound: str
    inside: str


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


def with_layers(tensors: Tensors, quantise: Quantise, metadata: dict[str, str] | None = None) -> Form:
    """Quantise the matrices of the blocks."""
    stored: Tensors = {}
    meaning: Tensors = {}
    for name, tensor in tensors.items():
        if is_quantised(name, tensor):
            parts, meaning[name] = quantise(tensor)
            stored |= {name.removesuffix("weight") + suffix: part for suffix, part in parts.items()}
        else:
            stored[name] = tensor.to(torch.float16)
            meaning[name] = stored[name].float()
    return Form(stored, meaning, metadata or {})


def stated(format_name: str, **options: object) -> torch.Tensor:
    """The `comfy_quant` key of a layer."""
    return torch.tensor(list(json.dumps({"format": format_name, **options}).encode()), dtype=torch.uint8)


def spread(scale: torch.Tensor, shape: torch.Size, edge: int) -> torch.Tensor:
    """One scale for every square of `edge`, repeated over the matrix."""
    return scale.repeat_interleave(edge, 0)[: shape[0]].repeat_interleave(edge, 1)[:, : shape[1]]


def rounded(values: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Numbers as a dtype has them, its range not left."""
    values = values.clamp(-LARGEST[dtype], LARGEST[dtype])
    return (values.round() if dtype == INT8 else values).to(dtype)


def scaled(
    dtype: torch.dtype,
    name: str,
    by: str = "tensor",
    numbers: str = "weight",
    scale_dtype: torch.dtype = torch.float32,
    more: Tensors | None = None,
    size: int = 64,
) -> Quantise:
    """Numbers and a scale for the tensor, each row, each group of `size` columns or each square of that edge."""

    def quantise(weight: torch.Tensor) -> tuple[Tensors, torch.Tensor]:
        grouped = weight.unflatten(1, (-1, size))
        if by == "tensor":
            largest = weight.abs().amax()
        elif by == "row":
            largest = weight.abs().amax(1, keepdim=True)
        elif by == "group":
            largest = grouped.abs().amax(-1, keepdim=True)
        else:
            largest = weight.unflatten(0, (-1, size)).unflatten(2, (-1, size)).abs().amax((1, 3))
        scale = (largest / LARGEST[dtype]).to(scale_dtype)
        factor = spread(scale.float(), weight.shape, size) if by == "block" else scale.float()
        source = grouped if by == "group" else weight
        data = rounded(source / factor, dtype)
        meaning = data.float() * factor
        shaped = (data.flatten(1), meaning.flatten(1)) if by == "group" else (data, meaning)
        notes = {part: tensor.clone() for part, tensor in (more or {}).items()}
        return {numbers: shaped[0], name: scale, **notes}, shaped[1]

    return quantise


def all_scaled(*args: object, metadata: dict[str, str] | None = None, **options: object) -> Callable[[Tensors], Form]:
    """A writer around `scaled`."""
    return lambda tensors: with_layers(tensors, scaled(*args, **options), metadata)  # type: ignore[arg-type]


def marked(form_of: Callable[[Tensors], Form], numbers: int, dtype: torch.dtype = E4M3) -> Callable[[Tensors], Form]:
    """Add the `scaled_fp8` key; two numbers in it ask for full-precision products."""

    def write(tensors: Tensors) -> Form:
        form = form_of(tensors)
        return Form({**form.stored, "scaled_fp8": torch.zeros(numbers, dtype=dtype)}, form.meaning)

    return write


def marked_scaled_fp8(dtype: torch.dtype, numbers: int) -> Callable[[Tensors], Form]:
    """`scale_weight` keys and the `scaled_fp8` key."""
    return marked(all_scaled(dtype, "scale_weight"), numbers, dtype)


def table_in_metadata(tensors: Tensors) -> Form:
    """`weight_scale` keys, with the formats of all layers in the file's metadata."""
    form = with_layers(tensors, scaled(E4M3, "weight_scale"))
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


def packed(codes: torch.Tensor, high_first: bool) -> torch.Tensor:
    """Two codes of 4 bits to a byte."""
    first, second = codes[:, ::2].to(torch.uint8), codes[:, 1::2].to(torch.uint8)
    return first * 16 + second if high_first else second * 16 + first


def e2m1_codes(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The nearest 4 bit floats: codes and what they mean."""
    codes = (values.abs().clamp(max=6)[..., None] - E2M1).abs().argmin(-1)
    return codes + 8 * (values < 0), E2M1[codes] * values.sign()


def nvfp4(form: str = "comfy") -> Quantise:
    """4 bit floats with an e4m3 scale for 16 and one for the layer, as ComfyUI and as LightX2V have them."""

    def quantise(weight: torch.Tensor) -> tuple[Tensors, torch.Tensor]:
        smoothing = torch.linspace(0.5, 2, weight.shape[1]) if form == "smoothed" else torch.ones(weight.shape[1])
        blocks = (weight / smoothing).unflatten(1, (-1, NVFP4_BLOCK))
        layer = blocks.abs().amax() / (448 * 6)
        scales = (blocks.abs().amax(-1) / 6 / layer).clamp(max=448).to(E4M3)  # [rows, blocks]
        total = (scales.float() * layer)[..., None]
        codes, sizes = e2m1_codes(blocks / total)
        block_scale = swizzled(scales.view(torch.uint8)).view(E4M3)
        comfy = form in ("comfy", "smoothed")
        parts = {"weight": packed(codes.flatten(1), high_first=comfy), "weight_scale": block_scale}
        if comfy:
            parts |= {"weight_scale_2": layer, "comfy_quant": stated("nvfp4")}
            parts |= {"pre_quant_scale": smoothing} if form == "smoothed" else {}
        elif form == "lightx2v":
            parts["weight_global_scale"] = 1 / layer
        else:  # calibrated: the reciprocal is to be had from a product
            of_input = torch.tensor(37.5)
            parts |= {"input_global_scale": of_input, "alpha": layer / of_input, "input_absmax": torch.tensor(71.7)}
        return parts, (sizes * total).flatten(1) * smoothing

    return quantise


def mx(four_bits: bool, native: bool) -> Quantise:
    """Numbers with a power of two as the scale for 32, stored as its exponent + 127.

    Args:
        four_bits: E2M1 in place of e4m3.
        native: the dtypes that LightX2V writes, and no statement; else ComfyUI's.
    """

    def quantise(weight: torch.Tensor) -> tuple[Tensors, torch.Tensor]:
        blocks = weight.unflatten(1, (-1, MX_BLOCK))
        exponent = (blocks.abs().amax(-1) / (6 if four_bits else 448)).log2().ceil()
        total = exponent.exp2()[..., None]
        scale = swizzled((exponent + 127).to(torch.uint8))
        if four_bits:
            codes, sizes = e2m1_codes(blocks / total)
            data, meaning = packed(codes.flatten(1), high_first=False), sizes * total
        else:
            numbers = (blocks / total).to(E4M3)
            data, meaning = numbers.flatten(1), numbers.float() * total
        if native:
            parts = {"weight": data.view(torch.uint8), "weight_scale": scale.view(torch.float8_e8m0fnu)}
        else:
            parts = {"weight": data, "weight_scale": scale, "comfy_quant": stated("mxfp8")}
        return parts, meaning.flatten(1)

    return quantise


def hadamard(size: int) -> torch.Tensor:
    """ConvRot's regular Hadamard matrix: products of one of 4 x 4 whose rows all have the same sum."""
    four = torch.ones(4, 4) - 2 * torch.eye(4).flip(1)
    matrix = four
    while len(matrix) < size:
        matrix = torch.kron(matrix, four)
    return matrix / size**0.5


def turned(weight: torch.Tensor) -> torch.Tensor:
    """Each group of columns times the matrix; the same again turns it back."""
    return (weight.unflatten(1, (-1, ROTATED)) @ hadamard(ROTATED)).flatten(1)


def rotated_int8(weight: torch.Tensor) -> tuple[Tensors, torch.Tensor]:
    """ComfyUI's int8 with ConvRot."""
    parts, meaning = scaled(INT8, "weight_scale", "row")(turned(weight))
    note = stated("int8_tensorwise", convrot=True, convrot_groupsize=ROTATED)
    return {**parts, "comfy_quant": note}, turned(meaning)


def w4a4(weight: torch.Tensor) -> tuple[Tensors, torch.Tensor]:
    """ComfyUI's convrot_w4a4: signed 4 bit integers with a scale for each row."""
    values = turned(weight)
    scale = values.abs().amax(1) / 7
    numbers = (values / scale[:, None]).round().clamp(-7, 7)
    parts = {"weight": packed(numbers.to(torch.int64) % 16, high_first=False).view(INT8), "weight_scale": scale}
    return {**parts, "comfy_quant": stated("convrot_w4a4")}, turned(numbers * scale[:, None])


def w4a8(weight: torch.Tensor) -> tuple[Tensors, torch.Tensor]:
    """ComfyUI's asym_w4a8_int8: 16 levels, an e4m3 scale for 16 columns, and an int8 grid for each row."""
    values, levels = turned(weight), torch.linspace(-1, 1, 16)
    channel = values.abs().amax(1) / 127
    grouped = (values / channel[:, None]).unflatten(1, (-1, 16))
    relative = grouped.abs().amax(-1).to(E4M3)
    codes = ((grouped / relative.float()[..., None])[..., None] - levels).abs().argmin(-1)
    grid = (levels[codes] * relative.float()[..., None]).round().clamp(-127, 127).flatten(1)
    parts = {
        "weight": packed(codes.flatten(1), high_first=False).view(INT8),
        "weight_s_rel": relative,
        "weight_s_channel": channel,
        "weight_codebook": levels,
    }
    return {**parts, "comfy_quant": stated("asym_w4a8_int8")}, turned(grid * channel[:, None])


def bitsandbytes_int8(weight: torch.Tensor) -> tuple[Tensors, torch.Tensor]:
    """bitsandbytes' LLM.int8: the largest of each row, to be divided by 127."""
    parts, meaning = scaled(INT8, "scale", "row")(weight)
    scb = parts["scale"].flatten() * 127
    return {"weight": parts["weight"], "SCB": scb, "weight_format": torch.tensor(0, dtype=torch.uint8)}, meaning


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
