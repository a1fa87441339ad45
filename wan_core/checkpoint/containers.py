"""The kinds of files that tensors come in, each told by the bytes that it begins with.

A further kind is one more entry of CONTAINERS; one whose tensors are mapped needs nothing but its signature and a
function that gives them. What is none of them is taken for safetensors, whose reader says what is wrong with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from ..errors import CheckpointError
from .header import Header, TensorEntry, check_count, safetensors_header
from .pickled import SIGNATURE, read_pickled

Wanted = Callable[[str, TensorEntry], bool]
READING = (safetensors.SafetensorError, OSError, ValueError, RuntimeError, KeyError, TypeError, MemoryError)


@dataclass(frozen=True)
class Container:
    """One kind of file of tensors, whose numbers are read when they are used.

    Attributes:
        signature: what such a file begins with.
        tensors: gives all tensors of a file by name.
    """

    signature: bytes
    tensors: Callable[[Path], dict[str, Tensor]]

    def header(self, path: Path) -> Header:
        """Return what a file says about itself."""
        tensors = {key: TensorEntry.of(tensor) for key, tensor in self.tensors(path).items()}
        check_count(path, len(tensors))
        return Header(tensors, {})

    def some(self, path: Path, wanted: Wanted) -> Iterator[tuple[str, Tensor]]:
        """Yield the tensors that are wanted, by name."""
        yield from (pair for pair in self.tensors(path).items() if wanted(pair[0], TensorEntry.of(pair[1])))


class Safetensors(Container):
    """A safetensors file: its header is read alone, and of its tensors only those that are wanted."""

    def header(self, path: Path) -> Header:
        """Return what a file says about itself."""
        return safetensors_header(path)

    def some(self, path: Path, wanted: Wanted) -> Iterator[tuple[str, Tensor]]:
        """Yield the tensors that are wanted, by name."""
        found = {key: entry for key, entry in self.header(path).tensors.items() if wanted(key, entry)}
        # torch would reserve memory for all of the file, but only it knows every dtype
        framework = "np" if all(entry.dtype == "uint8" for entry in found.values()) else "pt"
        with safetensors.safe_open(str(path), framework=framework) as stored:
            yield from ((key, torch.as_tensor(stored.get_tensor(key))) for key in found)


SAFETENSORS = Safetensors(b"", safetensors.torch.load_file)
CONTAINERS = [Container(SIGNATURE, read_pickled)]


def container_of(path: Path) -> Container:
    """Return what kind of file lies at a path, whatever its name; `Raises: CheckpointError` if it can't be opened."""
    try:
        with open(path, "rb") as file:
            start = file.read(max(len(each.signature) for each in CONTAINERS))
    except OSError as error:
        raise CheckpointError(
            "{path} cannot be opened ({error}); check the path and its permissions.", path=path, error=error
        ) from error
    return next((each for each in CONTAINERS if start.startswith(each.signature)), SAFETENSORS)


def read_header(path: Path) -> Header:
    """Return what a file of tensors says about itself; `Raises: CheckpointError` if it is damaged or of no kind."""
    return container_of(path).header(path)


def some_tensors(path: Path, wanted: Wanted) -> Iterator[tuple[str, Tensor]]:
    """Yield those tensors of a file that are wanted, by the names that the file has for them."""
    return container_of(path).some(path, wanted)


def read_tensors(file: Path, read: Callable[[str], dict[str, Tensor]] | None = None) -> dict[str, Tensor]:
    """Read all of one file, a checkpoint's or a LoRA's.

    Args:
        file: a file of any kind.
        read: reads a safetensors file, given its path; None means safetensors' own reader, onto the CPU.

    Returns:
        Key -> tensor, as the file has them.

    Raises:
        CheckpointError: if it cannot be read.
    """
    kind = container_of(file)
    if kind is not SAFETENSORS:
        return kind.tensors(file)
    try:
        return read(str(file)) if read else kind.tensors(file)
    except READING as error:
        raise CheckpointError(
            "{file} cannot be read, though its header is in order ({error}); check the disk, the permissions and the "
            "free memory, then try again.",
            file=file,
            error=error,
        ) from error
