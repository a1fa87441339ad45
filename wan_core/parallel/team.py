"""The processes that compute one forward pass, and the share of one of them.

Where their number divides the heads, they change places for attention: each gives up its part of the tokens for a part
of the heads, and keeps the keys and values of its heads. Where it does not, keys and values of all heads go round in a
ring, and each keeps those of its tokens. Either way every process holds a part of a cache, none the whole.

Sources: Jacobs et al. 2023 (DeepSpeed Ulysses), Liu et al. 2023 (ring attention).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ..errors import InputError
from ..model.attention import Attention, in_spans, query_spans
from ..model.blocks import BlockInputs
from ..model.share import Share, Tokens
from .exchange import gathered, round_the_ring, to_heads, to_tokens
from .layout import Layout, runs_of
from .merge import Merged


class ProcessTeam:
    """All processes of a torch.distributed group; what `WanModel.team` is set to in each of them.

    Every process calls the model with the same arguments, and all get the same answer. Under causal attention each has
    a `KVCache` of its own, which holds this process's part.

    Args:
        group: the processes; None for all of the default group.
    """

    def __init__(self, group: dist.ProcessGroup | None = None):
        self.group = group
        self.rank, self.size = dist.get_rank(group), dist.get_world_size(group)

    def share(self, tokens: Tokens) -> Share:
        """Return this process's share of a forward pass."""
        return HeadShare(self, tokens) if tokens.heads % self.size == 0 else RingShare(self, tokens)


class ProcessShare:
    """What both ways of sharing have in common.

    Args:
        team: the processes.
        tokens: of the forward pass.
        unit: see `Layout`.
    """

    def __init__(self, team: ProcessTeam, tokens: Tokens, unit: int):
        self.team, self.tokens = team, tokens
        self.layout = Layout(tokens.count, unit, team.size)
        self.lengths = [self.layout.length(rank) for rank in range(team.size)]
        self.slices = self.layout.slices(team.rank)
        self.runs = runs_of(self.slices, tokens)

    def own(self, x: Tensor) -> Tensor:
        """Return this process's tokens [B, l, C] of all [B, L, C], in memory of their own."""
        return torch.cat([x[:, part] for part in self.slices], dim=1)

    def whole(self, x: Tensor) -> Tensor:
        """Return all tokens [B, L, C] from every process's own [B, l, C]."""
        parts = gathered(x, self.lengths, self.team.group)
        made = x.new_empty(x.shape[0], self.tokens.count, x.shape[2])
        for rank, part in enumerate(parts):
            slices = self.layout.slices(rank)
            for place, piece in zip(slices, part.split([at.stop - at.start for at in slices], dim=1), strict=True):
                made[:, place] = piece
        return made

    def rotary(self, part: Callable[[Any, Any], Any], table: Any) -> Any:
        """Return the rotary table of this process's tokens."""
        places = [torch.arange(each.start, each.stop) for each in self.slices]
        return part(table, places[0] if len(places) == 1 else torch.cat(places))


class HeadShare(ProcessShare):
    """Tokens in one piece; for attention a part of the heads, of all tokens."""

    def __init__(self, team: ProcessTeam, tokens: Tokens):
        super().__init__(team, tokens, unit=0)

    def attend(
        self, attention: Attention, q: Tensor, k: Tensor, v: Tensor, heads: int, inputs: BlockInputs
    ) -> Tensor:  # fmt: skip
        """Return what this process's queries see [B, l, heads * D]; see `Share.attend`."""
        group, lengths = self.team.group, self.lengths
        q, k, v = (to_heads(x, lengths, group) for x in (q, k, v))
        if inputs.cache is not None:
            k = inputs.cache.keys.extend(k, inputs.cached_tokens)
            v = inputs.cache.values.extend(v, inputs.cached_tokens)
            inputs.cache.thin(heads // self.team.size)
        spans = query_spans(q.shape[1], k.shape[1], inputs.block_tokens, inputs.pieces)
        seen = in_spans(attention, q, k, v, heads // self.team.size, spans, inputs.transformer_options)
        return to_tokens(seen, lengths, self.team.rank, group)


class RingShare(ProcessShare):
    """A share of every unit of tokens, with all heads; keys and values of the others come by."""

    def __init__(self, team: ProcessTeam, tokens: Tokens):
        super().__init__(team, tokens, tokens.unit)

    def attend(
        self, attention: Attention, q: Tensor, k: Tensor, v: Tensor, heads: int, inputs: BlockInputs
    ) -> Tensor:  # fmt: skip
        """Return what this process's queries see [B, l, heads * D]; the attention is torch's own.

        A kernel has to give the weight of what it has seen, which the host's do not.
        """
        cached = self.tokens.cached_units
        if inputs.cache is not None:
            self.check_budget(inputs.cache.budget, heads)
            kept = self.layout.kept(self.team.rank)
            k, v = inputs.cache.keys.extend(k, kept), inputs.cache.values.extend(v, kept)
        before = [cached * self.layout.kept(rank) if cached else 0 for rank in range(self.team.size)]
        batch, _, channels = q.shape
        shapes = [
            (2, batch, first + own, channels) for first, own in zip(before, self.lengths, strict=True)
        ]  # fmt: skip
        merged = Merged(q, heads)
        spans = self.spans(inputs.block_tokens, inputs.pieces)
        for rank, both in round_the_ring(torch.stack((k, v)), shapes, self.team.rank, self.team.group):
            keys, values = both
            for rows, until in spans:
                seen = before[rank] + self.layout.length(rank, until)
                merged.see(rows, q[:, rows], keys[:, :seen], values[:, :seen])
        return merged.result()

    def check_budget(self, budget: float, heads: int) -> None:
        """Refuse a cache with a budget, as no process has all tokens of a head; `Raises: InputError`."""
        if budget < 1:
            raise InputError(
                "kv_budget is {budget:g}, but {size} GPUs can't share {heads} heads evenly, and then all keys and "
                "values have to be kept: set kv_budget to 1, or use a number of GPUs that divides {heads}.",
                budget=budget,
                size=self.team.size,
                heads=heads,
            )

    def spans(self, block_tokens: int, pieces: int) -> list[tuple[slice, int]]:
        """Return parts of this process's queries, and one past the last of all tokens that each sees."""
        count, spans, place = self.tokens.count, [], 0
        block = block_tokens or count
        for start in range(0, count, block):
            end = min(start + block, count)
            length = self.layout.length(self.team.rank, end) - self.layout.length(self.team.rank, start)
            for rows, _ in query_spans(length, length, 0, pieces) if length else ():
                spans.append((slice(place + rows.start, place + rows.stop), end))
            place += length
        return spans
