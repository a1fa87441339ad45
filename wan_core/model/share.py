"""What a forward pass asks of others, where several processes compute one together; how they do is `wan_core.parallel`.

A process has a share of the tokens: it computes everything of these but attention, for which it meets the others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from .attention import Attention


@dataclass(frozen=True)
class Tokens:
    """The tokens of one forward pass.

    Attributes:
        count: of the video, and of its references behind it.
        noise_levels: how many there are; each belongs to as many tokens, in order.
        unit: tokens that attention or a cache begins or ends with, from the first one on: those of a causal block, or
            of the frames that are kept together; 0 where there is nothing of the kind.
        cached_units: units that were computed before, and are kept.
        heads: of attention.
    """

    count: int
    noise_levels: int
    unit: int
    cached_units: int
    heads: int


@dataclass(frozen=True)
class Run:
    """Tokens of a share that follow one another, of whole frames or of a part of one.

    Attributes:
        tokens: their place in the share.
        levels: their noise levels; each belongs to as many of the tokens.
    """

    tokens: slice
    levels: slice


class Share(Protocol):
    """One process's part of a forward pass.

    Attributes:
        runs: its tokens, so that each meets the modulation of its own frame.
    """

    runs: tuple[Run, ...]

    def own(self, x: Tensor) -> Tensor:
        """Return its tokens [B, l, C] of all [B, L, C]."""

    def whole(self, x: Tensor) -> Tensor:
        """Return all tokens [B, L, C] from every process's own [B, l, C]; all processes call it, and all get them."""

    def rotary(self, part: Callable[[Any, Any], Any], table: Any) -> Any:
        """Return its tokens' part of a rotary table; `part` is the kernel's own."""

    def attend(self, attention: Attention, q: Tensor, k: Tensor, v: Tensor, heads: int, inputs: Any) -> Tensor:
        """Return what its queries see in all tokens [B, l, heads * D]; all processes call it.

        Args:
            attention: the backend.
            q: queries of its tokens [B, l, heads * D], turned.
            k: their keys.
            v: their values.
            heads: number of heads.
            inputs: the `BlockInputs` of the block.
        """


class Team(Protocol):
    """The processes that compute together."""

    def share(self, tokens: Tokens) -> Share:
        """Return this process's share of a forward pass."""


def by_run(
    share: Share | None, function: Callable[..., Tensor], tokens: tuple[Tensor, ...], levels: tuple[Tensor, ...]
) -> Tensor:
    """Return `function(*tokens, *levels)`, called once for every run of a share.

    Args:
        share: None where all tokens are here, which are whole frames.
        function: takes tokens [B, l, C] and values [B, t, C] that belong to l / t tokens each; returns [B, l, any].
        tokens: each [B, l, C].
        levels: each [B, T, C].
    """
    if share is None:
        return function(*tokens, *levels)
    made = [
        function(*(x[:, run.tokens] for x in tokens), *(value[:, run.levels] for value in levels)) for run in share.runs
    ]
    return made[0] if len(made) == 1 else torch.cat(made, dim=1)
