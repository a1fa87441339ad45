"""What a file of tensors says about itself: names, shapes, dtypes and metadata; of safetensors without tensor data.

What is no such file, or is not all there, is told from its first bytes and its length; the rest is the library's.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import safetensors
from torch import Tensor

from ..errors import CheckpointError
from ..words import Words, words

# some tens of times what a whole quantised 14B model has: reading and sorting them takes part of a second
MAX_HEADER_BYTES = 25_000_000
MAX_TENSORS = 20_000

# safetensors' names of dtypes -> torch's
DTYPES = {
    "BOOL": "bool",
    **{
        f"{letter}{bits}": f"{name}{bits}" for letter, name in (("U", "uint"), ("I", "int")) for bits in (8, 16, 32, 64)
    },
    "F4": "float4_e2m1fn_x2",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E8M0": "float8_e8m0fnu",
    "F16": "float16",
    "BF16": "bfloat16",
    "F32": "float32",
    "F64": "float64",
}

_SIGNATURES = (
    (
        b"GGUF",
        words("a GGUF file"),
        words("load it with a GGUF loader node, whose MODEL works with the SkyReels-V2 samplers"),
    ),
    *(
        (
            b"\x80" + bytes([protocol]),
            words("a pickled file of Python or of a PyTorch before 1.6"),
            words("choose the safetensors version of the model, or save it again with torch.save"),
        )
        for protocol in (2, 3, 4, 5)
    ),
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

    @classmethod
    def of(cls, tensor: Tensor) -> TensorEntry:
        """Describe a tensor."""
        return cls(str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))

    @property
    def elements(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Header:
    """What a file of tensors says about itself.

    Args:
        tensors: key -> entry.
        metadata: the `__metadata__` strings of safetensors.
    """

    tensors: dict[str, TensorEntry]
    metadata: dict[str, str]


def safetensors_header(path: Path) -> Header:
    """Read the header of a safetensors file and check that the file is as long as the header says.

    Args:
        path: an existing file.

    Returns:
        The header. No tensor data is read.

    Raises:
        CheckpointError: if the file is damaged, truncated or of another format.
    """
    with open(path, "rb") as file:
        file_bytes = file.seek(0, 2)
        file.seek(0)
        start = file.read(32)
    _refuse_other_formats(path, start)
    header_bytes = int.from_bytes(start[:8], "little")
    if file_bytes < 8 or not 2 <= header_bytes <= file_bytes - 8:
        raise CheckpointError(
            "{path} is {file_bytes} bytes long and its header claims {header_bytes} bytes, so the file isn't "
            "complete; download it again.",
            path=path,
            file_bytes=file_bytes,
            header_bytes=header_bytes,
        )
    if header_bytes > MAX_HEADER_BYTES:
        raise _too_large(path, words("a header of {number} bytes", number=header_bytes), MAX_HEADER_BYTES)
    try:
        with safetensors.safe_open(str(path), framework="np") as stored:  # torch would reserve memory for all of it
            check_count(path, len(stored.keys()))
            slices = {key: stored.get_slice(key) for key in stored.keys()}  # noqa: SIM118
            tensors = {
                key: TensorEntry(DTYPES.get(entry.get_dtype(), entry.get_dtype()), tuple(entry.get_shape()))
                for key, entry in slices.items()
            }
            return Header(tensors, dict(stored.metadata() or {}))
    except CheckpointError:
        raise
    except (safetensors.SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise _unreadable(path, file_bytes, header_bytes, error) from error


def check_count(path: Path, count: int) -> None:
    """Refuse a file of more tensors than any model has; `Raises: CheckpointError`."""
    if count > MAX_TENSORS:
        raise _too_large(path, words("{number} tensors", number=count), MAX_TENSORS)


def _too_large(path: Path, what: Words, most: int) -> CheckpointError:
    return CheckpointError(
        "{path} has {what}, and at most {most} are read; choose a file that holds a model and nothing else.",
        path=path,
        what=what,
        most=most,
    )


def _refuse_other_formats(path: Path, start: bytes) -> None:
    """Refuse a file whose first bytes are those of another format; `Raises: CheckpointError`."""
    if start[8:9] == b"{":  # where a header begins; its length before it may read like any signature
        return
    for signature, what, advice in _SIGNATURES:
        if start.lower().startswith(signature.lower()):
            raise CheckpointError(
                "{path} is {what}, but a safetensors file is needed; {advice}.", path=path, what=what, advice=advice
            )


def _unreadable(path: Path, file_bytes: int, header_bytes: int, error: Exception) -> CheckpointError:
    """Say that a file is cut off or too long, with both lengths where the header gives them, or that it is corrupt."""
    try:
        with open(path, "rb") as file:
            file.seek(8)
            entries = json.loads(file.read(header_bytes))
        end = max(entry["data_offsets"][1] for key, entry in entries.items() if key != "__metadata__")
        wanted = 8 + header_bytes + int(end)
    except (OSError, ValueError, RecursionError, AttributeError, LookupError, TypeError):
        wanted = file_bytes
    if wanted != file_bytes:
        more = words("followed by bytes that belong to no tensor")
        return CheckpointError(
            "{path} is {state}: it is {file_bytes} bytes long and its header describes {wanted}; download it again.",
            path=path,
            state=words("truncated") if file_bytes < wanted else more,
            file_bytes=file_bytes,
            wanted=wanted,
        )
    return CheckpointError(
        "The safetensors header of {path} is corrupt: {reason}; download the file again.",
        path=path,
        reason=str(error).removeprefix("Error while deserializing header: "),
    )
