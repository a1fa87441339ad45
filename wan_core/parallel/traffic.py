"""How many bytes a process sends in one forward pass, told before it runs.

What a process receives is, over all of them, as much. Text, timesteps and latents are not in it: in every process they
are there already.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..model.config import WanConfig
from .layout import Layout


@dataclass(frozen=True)
class Call:
    """A forward pass among processes.

    Attributes:
        config: the model.
        tokens: that are computed.
        batch: clips in it.
        value_bytes: bytes of a value in the dtype that is computed in.
        unit: tokens of a causal block, or of what a cache keeps together; 0 without.
        cached_units: units that a cache holds already.
    """

    config: WanConfig
    tokens: int
    batch: int = 1
    value_bytes: int = 2
    unit: int = 0
    cached_units: int = 0


def sent_bytes(call: Call, rank: int, size: int) -> int:
    """Return the bytes that one of `size` processes sends the others in a forward pass."""
    if size == 1:
        return 0
    by_heads = call.config.num_heads % size == 0
    layout = Layout(call.tokens, 0 if by_heads else call.unit, size)
    values = values_for_heads(call, layout, rank) if by_heads else values_round_the_ring(call, layout, rank)
    longest = max(layout.length(each) for each in range(size))
    answer = (size - 1) * longest * math.prod(call.config.patch_size) * call.config.out_dim
    return call.batch * call.value_bytes * (call.config.num_layers * values + answer)


def values_for_heads(call: Call, layout: Layout, rank: int) -> int:
    """Return the values sent in one layer: queries, keys and values of its tokens, and the answers of its heads.

    Of n processes with L tokens of C channels each sends about 4 L C (n - 1) / n^2.
    """
    own, heads = layout.length(rank), call.config.dim // layout.size
    return 3 * own * (call.config.dim - heads) + (call.tokens - own) * heads


def values_round_the_ring(call: Call, layout: Layout, rank: int) -> int:
    """Return the values sent in one layer: keys and values of all but the next process.

    Of n processes with L tokens of C channels each sends about 2 L C (n - 1) / n, and as much again of what is cached.
    """
    next_one = (rank + 1) % layout.size
    held = [layout.length(each) + call.cached_units * layout.kept(each) for each in range(layout.size)]
    return 2 * (sum(held) - held[next_one]) * call.config.dim
