"""Model calls with a cache of finished blocks for every condition, and nothing computed that nobody needs."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from types import TracebackType
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..errors import ScheduleError
from ..model.kv_cache import KVCache
from .run import Row

Calls = TypeVar("Calls", bound="CachedCalls")


def frames_at_work(rows: Iterable[Row], block_size: int) -> int:
    """Return the most latent frames that one call computes when a cache leaves out what it need not compute."""
    cached = most = 0
    for row in rows:
        cached = max(cached, row.start)
        most = max(most, -(-(row.busy_end - row.start) // block_size) * block_size + row.start - cached)
        cached += max(row.finished - cached, 0) // block_size * block_size
    return most


class CachedCalls:
    """Model calls with a cache for every condition. It is a context: the caches are gone when it ends, however it ends.

    Args:
        model: called with `(x, t, causal_block_size=..., cache=..., **inputs)` like a WanModel.
        num_layers: its attention blocks.
        device: where keys and values are kept; None leaves them where they were computed.
    """

    def __init__(self, model: Callable[..., Tensor], num_layers: int, device: torch.device | None = None):
        self.model = model
        self.num_layers = num_layers
        self.device = device
        self.caches: dict[Hashable, KVCache] = {}

    def __enter__(self: Calls) -> Calls:
        """Begin a run."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Free what was cached."""
        self.caches.clear()

    @property
    def num_bytes(self) -> int:
        """Memory that the caches take."""
        return sum(cache.num_bytes for cache in self.caches.values())

    def move(self, device: torch.device) -> None:
        """Keep the caches on another device from now on."""
        self.device = device
        for cache in self.caches.values():
            cache.move(device)

    def call(
        self, cache: KVCache, x: Tensor, t: Tensor, block_size: int, model: Callable[..., Tensor] | None, **inputs: Any
    ) -> Tensor:
        """Call the model with a cache that has begun; what it keeps counts once the call has come to its end."""
        try:
            velocity = (model or self.model)(x, t, causal_block_size=block_size, cache=cache, **inputs)
        except BaseException:
            cache.cancel()  # some layers have kept their part already
            raise
        cache.finish()
        return velocity


class CausalCalls(CachedCalls):
    """The model calls of one clip under causal attention, with as little computed as the result depends on.

    Args:
        model: called with `(x, t, causal_block_size=..., cache=..., **inputs)` like a WanModel.
        num_layers: its attention blocks.
        block_size: latent frames of a causal block.
        device: where keys and values are kept; None leaves them where they were computed.
        sink_blocks: blocks at the beginning that a moving window does not forget.
    """

    def __init__(
        self,
        model: Callable[..., Tensor],
        num_layers: int,
        block_size: int,
        device: torch.device | None = None,
        sink_blocks: int = 0,
    ):
        if block_size < 1:
            raise ScheduleError(
                "causal_block_size is {block_size}, but a causal block has at least 1 latent frame.",
                block_size=block_size,
            )
        super().__init__(model, num_layers, device)
        self.block_size = block_size
        self.sink_blocks = sink_blocks

    def __call__(
        self,
        x: Tensor,
        t: Tensor,
        row: Row,
        key: Hashable = None,
        model: Callable[..., Tensor] | None = None,
        **inputs: Any,
    ) -> Tensor:
        """Predict the velocity of the frames that are at work.

        Args:
            x: noisy latents [B, C, f, H, W] of all frames from `row.start` on.
            t: timesteps [B, f].
            row: how far the clip is.
            key: whose keys and values these are: cond and uncond have their own, and may join late or miss rows.
            model: called in place of the run's, such as a copy of it on another device.
            inputs: handed to the model (context, fps, ...).

        Returns:
            Velocity [B, C, f, H, W]; 0 on frames that were not computed, which have no part in this row.
        """
        block = self.block_size
        cache = self.caches.setdefault(key, KVCache(self.num_layers, block, self.device))
        cache.begin(row.start, row.finished, self.sink_blocks)
        end = -(-(row.busy_end - row.start) // block) * block
        at_work = slice(
            cache.end - row.start, end
        )  # slicing ends at the last frame, when the last block is a short one
        computed = self.call(cache, x[:, :, at_work], t[:, at_work], block, model, **inputs)
        velocity = computed.new_zeros(*computed.shape[:2], *x.shape[2:])  # image-to-video models take more channels in
        velocity[:, :, at_work] = computed
        return velocity
