"""The table of checkpoint formats that are read: how each is written for a test, its bound, and what is in the file."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from .file_formats import (
    E4M3,
    E5M2,
    INT8,
    Form,
    Quantise,
    Tensors,
    Written,
    all_scaled,
    bitsandbytes_int8,
    marked,
    marked_scaled_fp8,
    mx,
    nvfp4,
    plain,
    rotated_int8,
    stated,
    table_in_metadata,
    w4a4,
    w4a8,
    with_layers,
)

BF16 = torch.bfloat16
ONE = torch.ones(())
QUANTO = {"input_scale": ONE, "output_scale": ONE}


def layers(quantise: Quantise) -> Callable[[Tensors], Form]:
    """A writer around what is done to one matrix."""
    return partial(with_layers, quantise=quantise)


def noted(format_name: str) -> Tensors:
    """The statement of a layer, to be written beside it."""
    return {"comfy_quant": stated(format_name)}


FORMATS: dict[str, Written] = {
    "fp32": Written(plain(torch.float32), "fp32", "float32"),
    "fp16": Written(plain(torch.float16), "fp16", "float16"),
    "bf16": Written(plain(BF16), "bf16", "bfloat16"),
    "fp8_e4m3fn": Written(plain(E4M3), "e4m3", "matrices of the blocks in fp8, no scale"),
    "fp8_e5m2": Written(plain(E5M2), "e5m2", "the same in e5m2"),
    "scaled fp8_e4m3fn": Written(marked_scaled_fp8(E4M3, 2), "e4m3", "`scale_weight`; `scaled_fp8` of two numbers"),
    "scaled fp8_e4m3fn, fast": Written(marked_scaled_fp8(E4M3, 1), "e4m3", "the same; `scaled_fp8` of one number"),
    "scaled fp8_e5m2": Written(marked_scaled_fp8(E5M2, 2), "e5m2", "`scale_weight`, e5m2"),
    "scale_weight alone": Written(all_scaled(E4M3, "scale_weight"), "e4m3", "`scale_weight`, no `scaled_fp8`"),
    "weight_scale alone": Written(all_scaled(E5M2, "weight_scale"), "e5m2", "`weight_scale`, no word about the format"),
    "comfy_quant float8_e4m3fn": Written(
        all_scaled(E4M3, "weight_scale", more=noted("float8_e4m3fn")), "e4m3", "`weight_scale`, `comfy_quant`"
    ),
    "comfy_quant float8_e5m2": Written(
        all_scaled(E5M2, "weight_scale", more=noted("float8_e5m2")), "e5m2", "the same in e5m2"
    ),
    "comfy_quant in the metadata": Written(
        table_in_metadata, "e4m3", "`weight_scale`, formats in `_quantization_metadata`"
    ),
    "comfy_quant float8_e4m3fn_rowwise": Written(
        all_scaled(E4M3, "weight_scale", "row", more=noted("float8_e4m3fn_rowwise")), "e4m3", "a scale for each row"
    ),
    "comfy_quant float8_e4m3fn_blockwise": Written(
        all_scaled(E4M3, "weight_scale", "block", more=noted("float8_e4m3fn_blockwise")), "e4m3", "for squares of 64"
    ),
    "comfy_quant int8_tensorwise": Written(
        all_scaled(INT8, "weight_scale", more=noted("int8_tensorwise")), "int8", "int8, a scale for each matrix"
    ),
    "comfy_quant int8_tensorwise, rows": Written(
        all_scaled(INT8, "weight_scale", "row", more=noted("int8_tensorwise")), "int8", "int8, a scale for each row"
    ),
    "comfy_quant int8_blockwise": Written(
        all_scaled(INT8, "weight_scale", "block", size=128, more=noted("int8_blockwise")), "int8", "for squares of 128"
    ),
    "comfy_quant int8_tensorwise, convrot": Written(layers(rotated_int8), "int8", "int8 of rotated columns"),
    "comfy_quant convrot_w4a4": Written(layers(w4a4), "int4", "two 4 bit integers to a byte, of rotated columns"),
    "comfy_quant asym_w4a8_int8": Written(layers(w4a8), "int4", "4 bit codes, a codebook, scales for 16 and for a row"),
    "comfy_quant nvfp4": Written(layers(nvfp4()), "nvfp4", "two 4 bit floats to a byte, scales for 16 and for all"),
    "comfy_quant nvfp4, pre_quant_scale": Written(
        layers(nvfp4("smoothed")), "nvfp4", "the same, and a factor for each column"
    ),
    "comfy_quant mxfp8": Written(layers(mx(False, False)), "e4m3", "e4m3, powers of two for 32 numbers"),
    "LightX2V fp8": Written(all_scaled(E4M3, "weight_scale", "row"), "e4m3", "`weight_scale` for each row"),
    "LightX2V int8": Written(all_scaled(INT8, "weight_scale", "row"), "int8", "the same in int8"),
    "LightX2V int8, comfyui_mode": Written(
        marked(all_scaled(INT8, "scale_weight"), 2), "int8", "`scale_weight`, and `scaled_fp8` although it is int8"
    ),
    "LightX2V mxfp8": Written(layers(mx(False, True)), "e4m3", "e4m3 as bytes, E8M0 scales, no statement"),
    "LightX2V mxfp4": Written(layers(mx(True, True)), "mxfp4", "4 bit floats, E8M0 scales"),
    "LightX2V nvfp4": Written(layers(nvfp4("lightx2v")), "nvfp4", "`weight_global_scale`; bytes the other way round"),
    "LightX2V nvfp4, calibrated": Written(
        layers(nvfp4("calibrated")), "nvfp4", "`alpha` and `input_global_scale` in its place"
    ),
    "musubi-tuner fp8, blocks": Written(
        all_scaled(E4M3, "scale_weight", "group", scale_dtype=BF16), "e4m3", "`scale_weight` for 64 columns of a row"
    ),
    "musubi-tuner fp8, channels": Written(
        all_scaled(E4M3, "scale_weight", "row", scale_dtype=BF16), "e4m3", "`scale_weight` for each row, bfloat16"
    ),
    "DeepSeek-style fp8": Written(
        all_scaled(E4M3, "weight_scale_inv", "block", size=128), "e4m3", "`weight_scale_inv` for squares of 128"
    ),
    "quanto int8 (Wan2GP)": Written(
        all_scaled(INT8, "weight._scale", "row", "weight._data", BF16, QUANTO),
        "int8",
        "`weight._data` and `._scale`",
    ),
    "quanto float8": Written(
        all_scaled(E4M3, "weight._scale", "row", "weight._data", BF16, QUANTO), "e4m3", "the same in fp8"
    ),
    "bitsandbytes int8": Written(layers(bitsandbytes_int8), "int8", "`SCB`, the largest of each row"),
    "SDNQ int8": Written(all_scaled(INT8, "scale", "row"), "int8", "`scale` for each row"),
}

# what is in the files, as docs/files.zh-CN.md says it
CHINESE = {
    "matrices of the blocks in fp8, no scale": "各块的矩阵为 fp8，无缩放系数",
    "the same in e5m2": "同上，e5m2",
    "`scale_weight`; `scaled_fp8` of two numbers": "`scale_weight`；`scaled_fp8` 含两个数",
    "the same; `scaled_fp8` of one number": "同上；`scaled_fp8` 含一个数",
    "`scale_weight`, e5m2": "`scale_weight`，e5m2",
    "`scale_weight`, no `scaled_fp8`": "`scale_weight`，没有 `scaled_fp8`",
    "`weight_scale`, no word about the format": "`weight_scale`，没有说明格式",
    "`weight_scale`, `comfy_quant`": "`weight_scale`、`comfy_quant`",
    "`weight_scale`, formats in `_quantization_metadata`": "`weight_scale`，格式写在 `_quantization_metadata` 中",
    "a scale for each row": "每行一个缩放系数",
    "for squares of 64": "每个 64x64 的块一个缩放系数",
    "int8, a scale for each matrix": "int8，每个矩阵一个缩放系数",
    "int8, a scale for each row": "int8，每行一个缩放系数",
    "for squares of 128": "每个 128x128 的块一个缩放系数",
    "int8 of rotated columns": "对列做旋转后的 int8",
    "two 4 bit integers to a byte, of rotated columns": "对列做旋转，每字节两个 4 位整数",
    "4 bit codes, a codebook, scales for 16 and for a row": "4 位码和码本，每 16 个数和每行各有缩放系数",
    "two 4 bit floats to a byte, scales for 16 and for all": "每字节两个 4 位浮点数，每 16 个数和整体各有缩放系数",
    "the same, and a factor for each column": "同上，另外每列一个系数",
    "e4m3, powers of two for 32 numbers": "e4m3，每 32 个数一个 2 的幂",
    "`weight_scale` for each row": "每行一个 `weight_scale`",
    "the same in int8": "同上，int8",
    "`scale_weight`, and `scaled_fp8` although it is int8": "`scale_weight`，虽是 int8 却带 `scaled_fp8`",
    "e4m3 as bytes, E8M0 scales, no statement": "以字节存的 e4m3，E8M0 缩放系数，没有说明",
    "4 bit floats, E8M0 scales": "4 位浮点数，E8M0 缩放系数",
    "`weight_global_scale`; bytes the other way round": "`weight_global_scale`；字节内顺序相反",
    "`alpha` and `input_global_scale` in its place": "改用 `alpha` 和 `input_global_scale`",
    "`scale_weight` for 64 columns of a row": "每行每 64 列一个 `scale_weight`",
    "`scale_weight` for each row, bfloat16": "每行一个 bfloat16 的 `scale_weight`",
    "`weight_scale_inv` for squares of 128": "每个 128x128 的块一个 `weight_scale_inv`",
    "`weight._data` and `._scale`": "`weight._data` 和 `._scale`",
    "the same in fp8": "同上，fp8",
    "`SCB`, the largest of each row": "`SCB`，每行的最大值",
    "`scale` for each row": "每行一个 `scale`",
}
