"""From a checkpoint file to a MODEL: ComfyUI's steps (quantisation, dtypes, patcher) around our reader and model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import comfy.model_detection
import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy.patcher_extension
import comfy.utils
import torch

from ...checkpoint.reader import CheckpointInfo, inspect_checkpoint, load_checkpoint
from ...finite import check_weights
from ..model.base_model import model_config
from ..sampling.conditioning import check_every_run
from ..sampling.memory_estimate import estimate_memory
from .quantization import with_stated_formats

CHECKPOINT = "skyreels_v2_checkpoint"  # the attachment under which a MODEL of ours keeps its CheckpointInfo
WEIGHT_DTYPES: dict[str, dict[str, Any]] = {
    "default": {},
    "fp8_e4m3fn": {"dtype": torch.float8_e4m3fn},
    "fp8_e4m3fn_fast": {"dtype": torch.float8_e4m3fn, "fp8_optimizations": True},
    "fp8_e5m2": {"dtype": torch.float8_e5m2},
}


def describe_checkpoint(path: str | Path) -> CheckpointInfo:
    """Return what a file holds, from its header alone; raises CheckpointError as `inspect_checkpoint` does."""
    return inspect_checkpoint(path)[1]


def load_model(path: str | Path, weight_dtype: str = "default", disable_dynamic: bool = False) -> Any:
    """Load a Wan or SkyReels-V2 checkpoint as a ComfyUI MODEL.

    Args:
        path: a safetensors file, one shard of several, an index json or a folder.
        weight_dtype: a key of WEIGHT_DTYPES; "default" keeps the file's dtype as core's loader does.
        disable_dynamic: ask for the plain ModelPatcher, as core does when it needs a second copy for LoRA hooks.

    Returns:
        A ModelPatcher.

    Raises:
        CheckpointError: the file is missing, damaged, incomplete or no Wan transformer.
        NotFiniteError: a weight is NaN or infinite.
    """
    state_dict, config, info = load_checkpoint(path, read=comfy.utils.load_torch_file)
    check_weights(state_dict, str(path))
    state_dict = with_stated_formats(state_dict, info.metadata)
    parameters = comfy.utils.calculate_parameters(state_dict)
    file_dtype = comfy.utils.weight_dtype(state_dict)
    load_device = comfy.model_management.get_torch_device()
    offload_device = comfy.model_management.unet_offload_device()

    model_cfg = model_config(config)
    quantization = comfy.utils.detect_layer_quantization(state_dict, "")
    if quantization:
        model_cfg.quant_config = quantization
        file_dtype = None
    options = WEIGHT_DTYPES[weight_dtype]
    supported = list(model_cfg.supported_inference_dtypes)
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
    estimate_memory(patcher)
    check_every_run(patcher)
    patcher.set_attachments(CHECKPOINT, info)  # clones, and so LoRAs and every other patch, hand it on
    patcher.cached_patcher_init = (load_model, (str(path), weight_dtype))
    patcher.add_callback(comfy.patcher_extension.CallbacksMP.ON_CLEANUP, forget_tables)
    return patcher


def forget_tables(patcher: Any) -> None:
    """Free what the transformer keeps from step to step: the rotary table of a 720P clip takes over 50 MB."""
    patcher.model.diffusion_model.last_rotary = None


def patcher_class(disable_dynamic: bool) -> Any:
    """Return the host's ModelPatcher class, read at call time: on some machines it rebinds it."""
    return comfy.model_patcher.ModelPatcher if disable_dynamic else comfy.model_patcher.CoreModelPatcher
