"""Opens a LoRA file: safetensors, or a PyTorch file of tensors as PEFT and the causal few-step projects write it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import safetensors.torch
from torch import Tensor

from .header import is_pickled, read_header
from .lora_settings import LoraSettings, find_settings
from .pickled import read_pickled

ReadFile = Callable[[str], dict[str, Tensor]]


def read_lora(path: Path, read: ReadFile | None = None) -> tuple[dict[str, Tensor], LoraSettings]:
    """Read a LoRA file and what is said about it.

    Args:
        path: the file.
        read: reads a safetensors file, given its path; None means safetensors' own reader, onto the CPU.

    Returns:
        Its tensors, and its settings.

    Raises:
        CheckpointError: the file is missing, damaged, truncated, of another format, or holds more than tensors.
        InputError: its settings cannot be used.
    """
    settings = find_settings(path, read_header(path).metadata)
    read_tensors = read or safetensors.torch.load_file
    return read_pickled(path) if is_pickled(path) else read_tensors(str(path)), settings
