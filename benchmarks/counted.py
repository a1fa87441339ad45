"""The GPU memory of a forward pass, counted without a GPU: every tensor is made, but none has data.

Torch's meta device runs a model at full size by shapes alone. What is counted is what a GPU's allocator would be asked
for; what kernels take for themselves is not. Attention and RMS norm count as kernels that make nothing but their
result, as flash attention and torch's own RMS norm are on a GPU.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

ROUNDING = 512  # bytes: what torch's allocator for GPUs hands out are multiples of it


class AllocationCounter(TorchDispatchMode):
    """While it is entered, the memory of the tensors that come and go is counted.

    Args:
        limit: bytes that may be in use at once; what goes beyond is refused as a GPU refuses it. None only counts.

    Attributes:
        now: bytes of all tensors that were made and still live.
        peak: the most there ever were.
        refused: how often the limit was met.
    """

    def __init__(self, limit: float | None = None):
        super().__init__()
        self.limit = limit
        self.now = self.peak = self.refused = 0
        self.seen: set[int] = set()  # storages that live, also those that were there before

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation and look at what goes in and what comes out; `Raises: torch.OutOfMemoryError`."""
        for leaf in tree_leaves((args, kwargs)):
            self.see(leaf, made=False)
        results = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(results):
            self.see(leaf, made=True)
        return results

    def see(self, leaf: Any, made: bool) -> None:
        """Take note of a tensor's storage when it is a new one; count it when it was made here."""
        if not isinstance(leaf, Tensor):
            return
        storage = leaf.untyped_storage()
        key = storage._cdata
        if key in self.seen:
            return
        size = -(-storage.nbytes() // ROUNDING) * ROUNDING if made else 0
        if self.limit is not None and self.now + size > self.limit:
            self.refused += 1
            raise torch.OutOfMemoryError(f"{self.now} bytes are in use, {size} more do not fit in {self.limit:.0f}")
        self.seen.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self.forget, key, size)

    def forget(self, key: int, size: int) -> None:
        """Take back what a storage counted for."""
        self.seen.discard(key)
        self.now -= size


class SingleKernels(TorchFunctionMode):
    """While it is entered, attention and RMS norm are one operation each, whatever torch would make of them here."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Return what a function returns."""
        given = kwargs or {}
        if func is functional.scaled_dot_product_attention:
            return torch.empty_like(args[0] if args else given["query"])
        if func in (functional.rms_norm, torch.rms_norm):
            return torch.empty_like(args[0] if args else given["input"])
        return func(*args, **given)


def counted_peak(call: Callable[[], object]) -> int:
    """Return the bytes that a call on meta tensors takes at its peak, beyond what was there before."""
    with SingleKernels(), AllocationCounter() as counter:
        result = call()
    del result
    return counter.peak
