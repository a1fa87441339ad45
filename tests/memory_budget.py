"""A memory of a size of our choice: it counts what torch allocates and refuses what goes beyond, as a GPU does."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class MemoryBudget(TorchDispatchMode):
    """While it is entered, tensors that torch makes count until they are freed.

    Args:
        limit: bytes that may be in use at once; None only counts.
    """

    def __init__(self, limit: float | None = None):
        super().__init__()
        self.limit = limit
        self.live = self.peak = self.refused = 0
        self.seen: set[int] = set()

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = {leaf.untyped_storage().data_ptr() for leaf in tree_leaves((args, kwargs)) if is_tensor(leaf)}
        made = func(*args, **(kwargs or {}))
        for tensor in filter(is_tensor, tree_leaves(made)):
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in given | self.seen:
                self.allocate(storage)
        return made

    def allocate(self, storage: torch.UntypedStorage) -> None:
        """Count a storage, or refuse it."""
        size, address = storage.nbytes(), storage.data_ptr()
        if self.limit is not None and self.live + size > self.limit:
            self.refused += 1
            raise torch.cuda.OutOfMemoryError(f"{self.live} bytes are in use, {size} more do not fit in {self.limit}")
        self.live += size
        self.peak = max(self.peak, self.live)
        self.seen.add(address)
        weakref.finalize(storage, self.free, size, address)

    def free(self, size: int, address: int) -> None:
        """Take back what was counted."""
        self.live -= size
        self.seen.discard(address)


def is_tensor(value: Any) -> bool:
    """Whether a value is a tensor with memory of its own device."""
    return isinstance(value, torch.Tensor) and value.device.type == "cpu"
