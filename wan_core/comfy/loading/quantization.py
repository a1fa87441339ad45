"""Quantised checkpoints in the form that ComfyUI's mixed-precision layers read: a stated format for every scaled layer.

Files state it in three ways: a `comfy_quant` key beside each weight, a table in the metadata, or, older, only by
`scale_weight` keys. Core converts the older ones when a `scaled_fp8` key stands in the file, and takes all of them for
e4m3; what it leaves is completed here from the dtypes of the weights, since a scale that nobody applies makes noise
instead of video without any error.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import comfy.quant_ops
import comfy.utils
import torch

from ...errors import CheckpointError

FP8_FORMATS = {torch.float8_e4m3fn: "float8_e4m3fn", torch.float8_e5m2: "float8_e5m2"}
OLD_NAMES = {"scale_weight": "weight_scale", "scale_input": "input_scale"}
STATEMENT = "comfy_quant"


def with_stated_formats(state_dict: dict[str, torch.Tensor], metadata: Mapping[str, str]) -> dict[str, torch.Tensor]:
    """Return a checkpoint whose every scaled layer says its format in a `comfy_quant` key.

    Args:
        state_dict: parameters and scale keys under the original names; changed in place.
        metadata: the file's metadata, with original layer names.

    Returns:
        The parameters; unquantised ones as they were.

    Raises:
        CheckpointError: a layer has a format that this ComfyUI does not know.
    """
    state_dict, _ = comfy.utils.convert_old_quants(state_dict, "", metadata=dict(metadata))
    for old, new in OLD_NAMES.items():
        for key in [key for key in state_dict if key.endswith("." + old)]:
            state_dict[key.removesuffix(old) + new] = state_dict.pop(key)
    for key in [key for key in state_dict if key.endswith(".weight_scale")]:
        layer = key.removesuffix(".weight_scale")
        actual = FP8_FORMATS.get(state_dict[f"{layer}.weight"].dtype) if f"{layer}.weight" in state_dict else None
        said = statement(state_dict.get(f"{layer}.{STATEMENT}"))
        if actual is not None and said.get("format", "float8_e4m3fn") in FP8_FORMATS.values():
            said = said or {"full_precision_matrix_mult": True}  # nobody promised that its inputs may be fp8 as well
            state_dict[f"{layer}.{STATEMENT}"] = as_tensor({**said, "format": actual})
    check_formats(state_dict)
    return state_dict


def statement(stored: torch.Tensor | None) -> dict[str, Any]:
    """Return what a `comfy_quant` key says; nothing where there is none or it is no JSON object."""
    try:
        content = json.loads(stored.numpy().tobytes()) if stored is not None else {}
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def as_tensor(stated: dict[str, Any]) -> torch.Tensor:
    """Return a statement as the bytes of its JSON, the way files hold it."""
    return torch.tensor(list(json.dumps(stated).encode()), dtype=torch.uint8)


def check_formats(state_dict: Mapping[str, torch.Tensor]) -> None:
    """Refuse formats that the host cannot compute with; `Raises: CheckpointError`."""
    known = list(comfy.quant_ops.QUANT_ALGOS)
    for key, stored in state_dict.items():
        if not key.endswith("." + STATEMENT):
            continue
        found = statement(stored).get("format")
        if found not in known:
            raise CheckpointError(
                "{layer} is quantised as {found!r}, but this ComfyUI reads {known}: update ComfyUI, or "
                "choose a file in one of these formats.",
                layer=key.removesuffix("." + STATEMENT),
                found=found,
                known=", ".join(known),
            )
