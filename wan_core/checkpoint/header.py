"""Reads and checks the header of a safetensors file: names, shapes, dtypes and metadata, never tensor data.

Source: the format description of the safetensors project (8 bytes little-endian length, JSON, data).
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import CheckpointError
from ..words import Words, words

MAX_HEADER_BYTES = 100_000_000  # the format's own limit

# safetensors name -> (torch name, bits per element)
DTYPES = {
    "BOOL": ("bool", 8),
    "U8": ("uint8", 8),
    "I8": ("int8", 8),
    "U16": ("uint16", 16),
    "I16": ("int16", 16),
    "U32": ("uint32", 32),
    "I32": ("int32", 32),
    "U64": ("uint64", 64),
    "I64": ("int64", 64),
    "F4": ("float4_e2m1fn_x2", 4),
    "F8_E4M3": ("float8_e4m3fn", 8),
    "F8_E5M2": ("float8_e5m2", 8),
    "F8_E8M0": ("float8_e8m0fnu", 8),
    "F16": ("float16", 16),
    "BF16": ("bfloat16", 16),
    "F32": ("float32", 32),
    "F64": ("float64", 64),
    "C64": ("complex64", 64),
}

_SIGNATURES = (
    (
        b"GGUF",
        words("a GGUF file"),
        words("load it with a GGUF loader node, whose MODEL works with the SkyReels-V2 samplers"),
    ),
    (b"PK\x03\x04", words("a PyTorch pickle or zip file"), words("download the safetensors version of the model")),
    (b"\x80\x02", words("a Python pickle file"), words("download the safetensors version of the model")),
    (
        b"version https://git-lfs",
        words("a Git LFS pointer, not the model itself"),
        words("fetch the file with `git lfs pull`"),
    ),
    (b"<!doctype html", words("a web page saved under the model's name"), words("download the model file again")),
    (b"<html", words("a web page saved under the model's name"), words("download the model file again")),
)


@dataclass(frozen=True)
class TensorEntry:
    """One tensor as the header describes it.

    Args:
        dtype: torch's name of the dtype, e.g. "bfloat16".
        shape: size per axis.
    """

    dtype: str
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Header:
    """What a safetensors file says about itself.

    Args:
        tensors: key -> entry, in file order.
        metadata: the `__metadata__` strings.
    """

    tensors: dict[str, TensorEntry]
    metadata: dict[str, str]


def read_header(path: Path) -> Header:
    """Read the header of a safetensors file and check that the file is as long as the header says.

    Args:
        path: the file.

    Returns:
        The header. No tensor data is read.

    Raises:
        CheckpointError: if the file is missing, damaged, truncated or of another format.
    """
    try:
        with open(path, "rb") as file:
            file_bytes = file.seek(0, 2)
            file.seek(0)
            start = file.read(32)
            _refuse_other_formats(path, start)
            header_bytes = int.from_bytes(start[:8], "little")
            if file_bytes < 8 or not 2 <= header_bytes <= min(file_bytes - 8, MAX_HEADER_BYTES):
                raise CheckpointError(
                    "{path} is {file_bytes} bytes long and its header claims {header_bytes} bytes, so the file isn't "
                    "complete; download it again.",
                    path=path,
                    file_bytes=file_bytes,
                    header_bytes=header_bytes,
                )
            file.seek(8)
            raw = file.read(header_bytes)
    except OSError as error:
        raise CheckpointError(
            "{path} cannot be opened ({error}); check the path and its permissions.", path=path, error=error
        ) from error
    content = _parse(path, raw)
    metadata = content.pop("__metadata__", None) or {}
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _corrupt(path, words("its metadata is not a table of strings"))
    ends = [0]
    tensors = {key: _entry(path, key, entry, ends) for key, entry in _by_offset(path, content)}
    wanted = 8 + header_bytes + ends[-1]
    if file_bytes != wanted:
        more = words("followed by bytes that belong to no tensor")
        state = words("truncated") if file_bytes < wanted else more
        raise CheckpointError(
            "{path} is {state}: it is {file_bytes} bytes long and its header describes {wanted}; download it again.",
            path=path,
            state=state,
            file_bytes=file_bytes,
            wanted=wanted,
        )
    return Header({key: tensors[key] for key in content}, metadata)


def _refuse_other_formats(path: Path, start: bytes) -> None:
    if start[8:9] == b"{":  # where a header begins; its length before it may read like any signature
        return
    for signature, what, advice in _SIGNATURES:
        if start.lower().startswith(signature.lower()):
            raise CheckpointError(
                "{path} is {what}, where a safetensors file is wanted; {advice}.", path=path, what=what, advice=advice
            )


def _parse(path: Path, raw: bytes) -> dict[str, Any]:
    try:
        content = json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError) as error:  # ValueError covers JSON, UTF-8 and over-long numbers
        raise _corrupt(path, words("it is not valid JSON")) from error
    if not isinstance(content, dict):
        raise _corrupt(path, words("it is not a table of tensors"))
    return content


def _by_offset(path: Path, content: dict[str, Any]) -> list[tuple[str, Any]]:
    def start(item: tuple[str, Any]) -> tuple[int, int]:
        key, entry = item
        offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
        if not (isinstance(offsets, list) and len(offsets) == 2 and all(type(value) is int for value in offsets)):
            raise _corrupt(path, words("the entry of {key!r} has no data_offsets", key=key))
        return offsets[0], offsets[1]

    return sorted(content.items(), key=start)


def _entry(path: Path, key: str, entry: dict[str, Any], ends: list[int]) -> TensorEntry:
    """Check one entry; `ends` collects where each tensor ends, since the data may have no holes."""
    shape = entry.get("shape")
    if not (isinstance(shape, list) and all(type(size) is int and size >= 0 for size in shape)):
        raise _corrupt(path, words("{key!r} has shape {shape!r}", key=key, shape=shape))
    dtype = entry.get("dtype")
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise _corrupt(path, words("{key!r} has the unknown dtype {dtype!r}", key=key, dtype=dtype))
    name, bits = DTYPES[dtype]
    begin, end = entry["data_offsets"]
    if begin != ends[-1] or (end - begin) * 8 != math.prod(shape) * bits:
        reason = words(
            "the bytes of {key!r} do not fit its shape {shape} and dtype {dtype}", key=key, shape=shape, dtype=dtype
        )
        raise _corrupt(path, reason)
    ends.append(end)
    return TensorEntry(name, tuple(shape))


def _corrupt(path: Path, reason: Words) -> CheckpointError:
    return CheckpointError(
        "The safetensors header of {path} is corrupt: {reason}; download the file again.", path=path, reason=reason
    )
