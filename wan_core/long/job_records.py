"""What is written down about a job: JSON files that hold their own checksum, and digests of settings and tensors."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..errors import InputError
from .job_files import write_whole


def canonical(data: Mapping[str, Any]) -> bytes:
    """Return data as JSON that is the same for equal data; `Raises: InputError` for what JSON does not know."""
    try:
        return json.dumps(data, sort_keys=True, ensure_ascii=False, allow_nan=False, indent=1).encode()
    except (TypeError, ValueError) as error:
        raise InputError(
            "A setting cannot be written down ({error}): use numbers, text and lists of them.", error=error
        ) from error


def digest_of(data: Mapping[str, Any]) -> str:
    """Return the sha256 of data as JSON."""
    return hashlib.sha256(canonical(data)).hexdigest()


def tensor_digest(tensor: torch.Tensor) -> str:
    """Return the sha256 of a tensor's type, shape and values."""
    tensor = tensor.detach().cpu().contiguous()
    digest = hashlib.sha256(f"{tensor.dtype} {list(tensor.shape)} ".encode())
    digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def write_record(path: Path, data: Mapping[str, Any]) -> None:
    """Write data as a JSON file that holds its own checksum."""
    write_whole(path, canonical({**data, "check": digest_of(data)}))


def read_record(path: Path) -> dict[str, Any] | None:
    """Return what `write_record` wrote, or None where there is nothing or it is torn."""
    try:
        data = json.loads(path.read_bytes())
        check = data.pop("check")
        return data if check == digest_of(data) else None
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError):
        return None
