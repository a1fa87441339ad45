"""From a checkpoint file to a MODEL: ComfyUI's steps (quantisation, dtypes, patcher) around our reader and model."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import comfy.model_detection
import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy.patcher_extension
import comfy.utils
import torch

from ...checkpoint.key_names import AUTO
from ...checkpoint.reader import load_checkpoint
from ...finite import check_weights
from ..model.base_model import model_config
from ..model.origin import CHECKPOINT
from ..sampling.conditioning import check_every_run
from ..sampling.memory_estimate import estimate_memory
from .packed import hold_packed
from .quantization import for_host

HELD_IDENTITY = "skyreels_v2_identity"  # the attachment of a MODEL whose weights are elsewhere: digests of them
WEIGHT_DTYPES: dict[str, dict[str, Any]] = {
    "default": {},
    "fp8_e4m3fn": {"dtype": torch.float8_e4m3fn},
    "fp8_e4m3fn_fast": {"dtype": torch.float8_e4m3fn, "fp8_optimizations": True},
    "fp8_e5m2": {"dtype": torch.float8_e5m2},
}


def load_model(
    path: str | Path,
    weight_dtype: str = "default",
    part: str = AUTO,
    variant: str = AUTO,
    disable_dynamic: bool = False,
) -> Any:
    """Load a Wan or SkyReels-V2 checkpoint as a ComfyUI MODEL.

    Args:
        path: a safetensors or PyTorch file, one shard of several, an index json or a folder.
        weight_dtype: a key of WEIGHT_DTYPES; "default" keeps the file's dtype as core's loader does.
        part: which model of a file with several; see `wan_core.checkpoint.key_names.detect_naming`.
        variant: which model it is, one of `wan_core.checkpoint.variants.CHOICES`; "auto" takes what the file says.
        disable_dynamic: ask for the plain ModelPatcher, as core does when it needs a second copy for LoRA hooks.

    Returns:
        A ModelPatcher.

    Raises:
        CheckpointError: the file is missing, damaged, incomplete or no Wan transformer.
        InputError: it has another shape than the variant.
        NotFiniteError: a weight is NaN or infinite.
    """
    state_dict, config, info = load_checkpoint(path, comfy.utils.load_torch_file, part, variant)
    check_weights(state_dict, str(path))
    load_device = comfy.model_management.get_torch_device()
    offload_device = comfy.model_management.unet_offload_device()
    model_cfg = model_config(config)
    supported = list(model_cfg.supported_inference_dtypes)
    parameters = sum(math.prod(shape) for shape in config.parameter_shapes().values())
    compute = compute_dtype(parameters, load_device, supported)
    prepared = for_host(state_dict, info.stored, compute)
    file_dtype = comfy.utils.weight_dtype(state_dict)
    quantization = prepared.quant_config()
    if quantization:
        model_cfg.quant_config, file_dtype = quantization, None
    options = WEIGHT_DTYPES[weight_dtype]
    dtype = options.get("dtype") or comfy.model_management.unet_dtype(
        model_params=parameters, supported_dtypes=supported, weight_dtype=file_dtype
    )
    compute_from = None if quantization else dtype
    cast_dtype = comfy.model_management.unet_manual_cast(compute_from, load_device, supported)
    model_cfg.set_inference_dtype(dtype, cast_dtype)
    if options.get("fp8_optimizations"):
        model_cfg.optimizations["fp8"] = True

    model = model_cfg.get_model(state_dict, "")
    patcher = patcher_class(disable_dynamic)(model, load_device=load_device, offload_device=offload_device)
    if not comfy.model_management.is_device_cpu(offload_device):
        model.to(offload_device)
    model.load_model_weights(state_dict, "", assign=patcher.is_dynamic())
    hold_packed(model.diffusion_model, prepared.packed, compute)
    estimate_memory(patcher)
    check_every_run(patcher)
    patcher.set_attachments(CHECKPOINT, replace(info, unpacked=prepared.said(compute)))
    patcher.cached_patcher_init = (load_model, (str(path), weight_dtype, part, variant))
    patcher.add_callback(comfy.patcher_extension.CallbacksMP.ON_CLEANUP, forget_tables)
    return patcher


def compute_dtype(parameters: int, device: torch.device, supported: list[torch.dtype]) -> torch.dtype:
    """Return the dtype that a model of 16 bit weights would be computed in."""
    dtype = comfy.model_management.unet_dtype(
        model_params=parameters, supported_dtypes=supported, weight_dtype=torch.bfloat16
    )
    return comfy.model_management.unet_manual_cast(dtype, device, supported) or dtype


def forget_tables(patcher: Any) -> None:
    """Free what the transformer keeps from step to step: the rotary table of a 720P clip takes over 50 MB."""
    patcher.model.diffusion_model.last_rotary = None


def patcher_class(disable_dynamic: bool) -> Any:
    """Return the host's ModelPatcher class, read at call time: on some machines it rebinds it."""
    return comfy.model_patcher.ModelPatcher if disable_dynamic else comfy.model_patcher.CoreModelPatcher
