"""Keys and values of finished blocks, so that under causal attention only the blocks that are at work are computed.

A block of latent frames sees itself and the blocks before it. Once these are finished, what the later blocks see of
them never changes again: they are computed once more at their last noise level, their keys and values stay here, layer
by layer, and the following calls begin behind them. Blocks that have not begun influence nobody and are left out. So a
block is computed `steps + 1` times, whatever the number of rows, and the result is that of computing everything.

With a moving window the blocks that have left it are forgotten; what the others have seen of them stays, as in the
rolling generation of causal video models (Yin et al. 2025, CausVid; Huang et al. 2025, Self Forcing).

With a budget below 1 only a share of a finished frame's keys and values is kept, in each head those with the longest
values: what attention can take from a token is bounded by the length of its value (Guo et al. 2024, VATP).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class KeptTokens:
    """The keys, or the values, of the finished blocks in one attention layer, oldest first.

    Args:
        device: where they are kept; None leaves them where they were computed.
    """

    def __init__(self, device: torch.device | None = None):
        self.device = device
        self.blocks: list[Tensor] = []  # [B, tokens of the block, heads * D]
        self.new_blocks = 0  # how many blocks at the front of the next call are finished

    @torch.compiler.disable  # what is in a list changes from call to call: outside of the compiled part of a block
    def extend(self, x: Tensor, block_tokens: int) -> Tensor:
        """Put the finished blocks in front, and keep those that have just become so.

        Args:
            x: keys or values of this call's tokens [B, L, heads * D].
            block_tokens: tokens of a block.

        Returns:
            Those of all tokens that this call's queries may look at.
        """
        before = list(self.blocks)
        for number in range(self.new_blocks):  # a share of very few tokens may have none of a block
            start = number * block_tokens
            # copies: a view would hold the memory of the whole call
            self.blocks.append(x[:, start : start + block_tokens].to(self.device or x.device, copy=True))
        if not before:
            return x
        at_hand = all(block.device == x.device for block in before)
        return torch.cat((*before, x), dim=1) if at_hand else gathered((*before, x))


def gathered(parts: Sequence[Tensor]) -> Tensor:
    """Return what `torch.cat` gives of tokens [B, l, C], from any device on that of the last.

    Each part is copied to its place at once: moved first and joined then, they would lie there twice.
    """
    last, lengths = parts[-1], [part.shape[1] for part in parts]
    whole = last.new_empty(last.shape[0], sum(lengths), last.shape[2])
    for place, part in zip(whole.split(lengths, dim=1), parts, strict=True):
        place.copy_(part)
    return whole


def longest(keys: Tensor, values: Tensor, share: float, heads: int) -> tuple[Tensor, Tensor]:
    """Return those keys and values of a block whose values are the longest, in each head as many, in order.

    Args:
        keys: [B, l, heads * D].
        values: of the same shape.
        share: how many of them, 0..1; at least one.
        heads: number of heads.
    """
    by_head = [x.unflatten(2, (heads, -1)) for x in (keys, values)]
    count = max(round(share * keys.shape[1]), 1)
    lengths = torch.linalg.vector_norm(by_head[1], dim=-1, dtype=torch.float32)  # [B, l, heads]
    places = lengths.topk(count, dim=1).indices.sort(dim=1).values.unsqueeze(-1)
    kept, kept_values = (x.gather(1, places.expand(-1, -1, -1, x.shape[-1])).flatten(2) for x in by_head)
    return kept, kept_values


class LayerCache:
    """Keys and values of the finished blocks in one attention layer.

    They are extended one after the other, so that the keys from before the joining are gone when values are joined.

    Args:
        device: where they are kept; None leaves them where they were computed.
        budget: the share of a block's tokens that is kept.
    """

    def __init__(self, device: torch.device | None = None, budget: float = 1.0):
        self.keys, self.values = KeptTokens(device), KeptTokens(device)
        self.budget = budget
        self.sink_blocks = 0  # at the beginning, kept whole

    @torch.compiler.disable
    def thin(self, heads: int) -> None:
        """Keep the budget's share of the blocks that this call has put here; what it saw itself was whole."""
        if self.budget >= 1:
            return
        keys, values = self.keys.blocks, self.values.blocks
        for at in range(max(len(keys) - self.keys.new_blocks, self.sink_blocks), len(keys)):
            keys[at], values[at] = longest(keys[at], values[at], self.budget, heads)


class KVCache:
    """The finished blocks in every layer, for one condition; `WanModel.forward` takes one.

    Args:
        num_layers: attention blocks of the model.
        block_size: latent frames that are kept or forgotten together: a causal block, or a part of one.
        device: where keys and values are kept; None leaves them where they were computed.
        budget: the share of a finished block's tokens that is kept, above 0; sink blocks are kept whole.
    """

    def __init__(self, num_layers: int, block_size: int, device: torch.device | None = None, budget: float = 1.0):
        self.block_size, self.budget = block_size, budget
        self.layers = [LayerCache(device, budget) for _ in range(num_layers)]
        self.parts = [part for layer in self.layers for part in (layer.keys, layer.values)]
        self.end = 0  # the latent frame behind the cached ones, at which the next call begins
        self.held = 0  # blocks in each part when the call began
        # what `begin` was asked for: who keeps keys and values elsewhere asks for the same there
        self.asked = (0, 0, 0)

    @property
    def num_bytes(self) -> int:
        """Memory that the keys and values take."""
        return sum(block.nbytes for part in self.parts for block in part.blocks)

    def begin(self, start: int, finished: int, sink_blocks: int = 0) -> None:
        """Prepare a call.

        Args:
            start: first latent frame that the model may see; whole blocks before it are forgotten.
            finished: latent frame behind the finished ones; whole blocks of them are kept by the call.
            sink_blocks: blocks at the beginning of the video that are never forgotten.
        """
        self.asked = (start, finished, sink_blocks)
        self.end = max(self.end, start)
        inside = (self.end - start) // self.block_size
        for part in self.parts:
            part.blocks = [*part.blocks[:sink_blocks], *part.blocks[max(len(part.blocks) - inside, sink_blocks) :]]
            part.new_blocks = max(finished - self.end, 0) // self.block_size
        for layer in self.layers:
            layer.sink_blocks = sink_blocks
        self.held = len(self.parts[0].blocks)

    def cancel(self) -> None:
        """Forget what a call has kept that did not come to its end: it can then be made once more."""
        for part in self.parts:
            del part.blocks[self.held :]
            part.new_blocks = 0

    def move(self, device: torch.device) -> None:
        """Keep keys and values on another device from now on."""
        for part in self.parts:
            part.device = device
            part.blocks = [block.to(device) for block in part.blocks]

    def finish(self) -> None:
        """Count the blocks that the call has kept."""
        self.end += self.parts[0].new_blocks * self.block_size
        for part in self.parts:
            part.new_blocks = 0
