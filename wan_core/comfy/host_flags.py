"""What ComfyUI was told on its command line, where it concerns what we write and what we hand on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import comfy.cli_args
import comfy.model_management
import torch


def file_texts(prompt: Any, extra: Mapping[str, Any] | None) -> dict[str, str]:
    """Return the texts that go into a video and its pictures, by name; none where the host has --disable-metadata.

    Args:
        prompt: the API prompt, or None.
        extra: more of it, such as the workflow.
    """
    if writes_no_texts():
        return {}
    found = {"prompt": prompt, **(extra or {})}
    return {name: json.dumps(value) for name, value in found.items() if value is not None}


def writes_no_texts() -> bool:
    """Whether nothing of the prompt may go into a file."""
    return bool(comfy.cli_args.args.disable_metadata)


def handed_on(samples: torch.Tensor) -> torch.Tensor:
    """Return latents where, and as what, nodes hand tensors on: --gpu-only and --fp16-intermediates decide."""
    management = comfy.model_management
    return samples.to(device=management.intermediate_device(), dtype=management.intermediate_dtype())


def spare_memory(device: torch.device) -> int:
    """Return the bytes that are free on a device, without those that --reserve-vram keeps for other programs."""
    management = comfy.model_management
    kept = 0 if management.is_device_cpu(device) else management.extra_reserved_memory()
    return int(management.get_free_memory(device) - kept)
