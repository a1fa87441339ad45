"""Reads the tensors of a PyTorch file (`.pt`, `.pth`, `.bin`, `.ckpt`), as training scripts save them.

Only what `torch.load` allows with `weights_only`: tensors and plain containers, no code. The file stays mapped, so
that a tensor's numbers are read when they are used. What lies in dictionaries inside dictionaries gets their names as
a prefix: `{"generator_ema": {"model.head.head.bias": ...}}` is `generator_ema.model.head.head.bias`.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import CheckpointError

SIGNATURE = b"PK\x03\x04"  # since PyTorch 1.6; what is older cannot be mapped
MAX_TABLE_BYTES = 25_000_000  # of the pickled table of names; a 14B model's is a thousandth of that
MAX_DEPTH = 8


def read_pickled(path: Path) -> dict[str, Tensor]:
    """Read the names of a PyTorch file and map its tensors.

    Args:
        path: the file.

    Returns:
        Dotted name -> tensor on the CPU; what is no tensor is left out.

    Raises:
        CheckpointError: if the file is damaged, holds more than tensors, or holds none.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            table = max(
                (entry.file_size for entry in archive.infolist() if entry.filename.endswith("data.pkl")), default=0
            )
        content = (
            torch.load(path, map_location="cpu", weights_only=True, mmap=True) if table <= MAX_TABLE_BYTES else None
        )
    except Exception as error:  # a stranger's pickle fails in any way there is
        raise CheckpointError(
            "{path} cannot be read as a PyTorch file of tensors alone ({error}); choose the safetensors version of the "
            "model, or save its state_dict again with torch.save.",
            path=path,
            error=_first_line(error),
        ) from error
    tensors = dict(_tensors(content, ""))
    if not tensors:
        raise CheckpointError(
            "{path} is a PyTorch file without tensors under names; choose a file that holds a model's state_dict.",
            path=path,
        )
    return tensors


def _tensors(content: Any, prefix: str) -> Iterator[tuple[str, Tensor]]:
    if not isinstance(content, Mapping) or prefix.count(".") > MAX_DEPTH:
        return
    for key, value in content.items():
        if isinstance(value, Tensor):
            yield f"{prefix}{key}", value.detach()
        elif isinstance(key, str):
            yield from _tensors(value, f"{prefix}{key}.")


def _first_line(error: Exception) -> str:
    """The rest explains at length how to switch the protection off, which is no advice to give."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].partition(". ")[0][:200]
