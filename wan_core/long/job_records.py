"""What is written down about a job: JSON files that hold their own checksum, and digests of settings and tensors."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

import safetensors
import safetensors.torch
import torch

from ..errors import InputError
from ..words import Words
from .job_files import JournalError, open_plain, write_whole

MOST_BYTES = 16_000_000  # of a record; one that names 100,000 pictures has 11 million
PLACE = re.compile(r"(frames/)?[^/\\\0:]+")  # of a job's file: in its folder or among its pictures


def canonical(data: Mapping[str, Any]) -> bytes:
    """Return data as JSON that is the same for equal data; `Raises: InputError` for what JSON does not know."""
    try:
        return json.dumps(data, sort_keys=True, ensure_ascii=False, allow_nan=False, indent=1).encode()
    except (TypeError, ValueError) as error:
        raise InputError(
            "A setting can't be saved ({error}): use numbers, text, or lists of them.", error=error
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
    """Return what `write_record` wrote, or None where there is nothing, it is torn, or it is no record at all."""
    try:
        with open_plain(path) as file:
            text = file.read(MOST_BYTES + 1)
        if len(text) > MOST_BYTES:
            return None
        data = json.loads(text)
        check = data.pop("check")
        return data if check == digest_of(data) else None
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError):
        return None


def read_job(path: Path) -> dict[str, Any] | None:
    """Return a job's record, or None where it is torn or another kind of record."""
    data = read_record(path)
    kinds = {"name": str, "segments": int, "settings": dict, "tensors": dict, "complete": bool}
    return data if data is not None and all(type(data.get(name)) is kind for name, kind in kinds.items()) else None


def read_segment(path: Path, tensors: str) -> dict[str, Any] | None:
    """Return the record of a segment, or None where it is torn or that of another.

    Args:
        path: the record.
        tensors: name of the file with the segment's tensors, which it has to name.
    """
    data = read_record(path)
    if data is None or not isinstance(data.get("job"), str) or not isinstance(data.get("after"), str):
        return None
    files, parts = data.get("files"), data.get("parts")
    if not isinstance(files, dict) or not isinstance(parts, list) or tensors not in files:
        return None
    noted = all(is_noted(value) and is_place(name) for name, value in files.items())
    return data if noted and all(isinstance(part, str) and part in files for part in parts) else None


def is_noted(value: Any) -> TypeGuard[list[int | str]]:
    """Whether a record's value is the size and the digest of a file."""
    return isinstance(value, list) and [type(each) for each in value] == [int, str]


def is_place(name: str) -> bool:
    """Whether a name in a record is that of a file in the job's folder."""
    return bool(PLACE.fullmatch(name)) and name.rpartition("/")[2] not in (".", "..")


def read_tensors(path: Path, advice: Words) -> dict[str, torch.Tensor]:
    """Return the tensors of a segment's file, on the CPU; `advice`: what to do where it cannot be read.

    Raises:
        JournalError: it cannot be read.
    """
    try:
        with open_plain(path) as file:
            return safetensors.torch.load(file.read())
    except (OSError, safetensors.SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise JournalError(
            "{file} cannot be read ({error}): {advice}.", file=path, error=error, advice=advice
        ) from error
