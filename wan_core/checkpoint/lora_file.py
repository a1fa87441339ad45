"""Opens a LoRA file: safetensors, or a pickled file of tensors as PEFT and the causal few-step projects write it."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from ..errors import InputError
from ..words import words
from .header import read_header
from .lora_settings import LoraSettings, find_settings

ReadFile = Callable[[str], dict[str, Tensor]]

# where a training script's file keeps the tensors of the one who makes the video, the best first
INNER = ("generator_lora", "lora", "lora_state_dict", "state_dict", "module", "model", "generator_ema", "generator")


def read_lora(path: Path, read: ReadFile | None = None) -> tuple[dict[str, Tensor], LoraSettings]:
    """Read a LoRA file and what is said about it.

    Args:
        path: the file.
        read: reads a safetensors file, given its path; None means safetensors' own reader, onto the CPU.

    Returns:
        Its tensors, and its settings.

    Raises:
        CheckpointError: the file is missing, damaged, truncated or of another format.
        InputError: it holds no tensors, or its settings cannot be used.
    """
    if zipfile.is_zipfile(path):
        tensors = inner_tensors(path, read_pickled(path))
        return tensors, find_settings(path, {})
    header = read_header(path)
    return (read or safetensors.torch.load_file)(str(path)), find_settings(path, header.metadata)


def read_pickled(path: Path) -> Any:
    """Read a file of `torch.save`: tensors only, without running what else may be in it."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError, ValueError, KeyError, AttributeError) as error:
        raise InputError(
            "{name} cannot be read as a file of tensors alone: it is damaged, or holds Python objects, which could run "
            "anything. Download it again, or use its safetensors version.",
            name=path.name,
        ) from error


def inner_tensors(path: Path, content: Any) -> dict[str, Tensor]:
    """Return the tensors of a pickled file, from the table that a LoRA is in; `Raises: InputError`."""
    while isinstance(content, Mapping) and not any(isinstance(value, Tensor) for value in content.values()):
        tables = {name: value for name, value in content.items() if isinstance(value, Mapping) and value}
        only = next(iter(tables)) if len(tables) == 1 else None
        chosen = next((name for name in INNER if name in tables), only)
        if chosen is None:
            break
        content = tables[chosen]
    found = {}
    if isinstance(content, Mapping):
        found = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    if not found:
        seen = ", ".join(map(str, content)) if isinstance(content, Mapping) else type(content).__name__
        raise InputError(
            "{name} holds {seen}, where a table of tensors is wanted: use the LoRA's own file.",
            name=path.name,
            seen=seen[:200] or words("nothing"),
        )
    return found
