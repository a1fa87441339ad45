"""Keys and values of a whole clip, so that a call computes some of its frames and these see all the others.

Where every block of frames has a noise level of its own, a call can leave blocks out: what the others see of them are
the keys and values of the last call that computed them. So a layer keeps one of each for every token of the clip; a
call writes those of its own frames over the old ones, and its queries look at all of them, under causal attention at
those up to the end of their own block. If nothing has changed since, that equals the call that computes every frame.

Source: the chunk-wise reuse of FlowCache (2025), there for causal attention alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

Span = tuple[slice, int]  # queries of a call that go together, and how many keys, from the first on, they see


class PlacedTokens:
    """The keys, or the values, of a clip in one attention layer, each as it was last computed."""

    def __init__(self) -> None:
        self.whole: Tensor | None = None  # [B, tokens of the clip, heads * D]

    @torch.compiler.disable  # which tokens are computed changes from call to call: outside of a block's compiled part
    def put(self, x: Tensor, tokens: Tensor, length: int) -> Tensor:
        """Keep those of the computed tokens, and return those of the clip [B, length, heads * D].

        Args:
            x: keys or values [B, l, heads * D].
            tokens: int64 [l], which tokens of the clip they belong to.
            length: tokens of the clip.
        """
        if self.whole is None:
            self.whole = x.new_zeros(x.shape[0], length, x.shape[2])
        self.whole = self.whole.to(x.device)  # a host may compute a condition on another device now
        self.whole[:, tokens] = x
        return self.whole


class LayerTokens:
    """Keys and values of a clip in one attention layer."""

    def __init__(self) -> None:
        self.keys, self.values = PlacedTokens(), PlacedTokens()


class ClipTokens:
    """Keys and values of a clip in every layer, for one condition; the first call has to compute what later ones see.

    Args:
        num_layers: attention blocks of the model.
        num_frames: latent frames of the clip.
    """

    def __init__(self, num_layers: int, num_frames: int):
        self.num_frames = num_frames
        self.layers = [LayerTokens() for _ in range(num_layers)]

    @property
    def num_bytes(self) -> int:
        """Memory that the keys and values take."""
        parts = (part.whole for layer in self.layers for part in (layer.keys, layer.values))
        return sum(part.nbytes for part in parts if part is not None)


@dataclass(frozen=True)
class SomeFrames:
    """What a call computes of a clip; `WanModel.forward` takes one.

    Attributes:
        frames: latent frames of the clip, rising: those of the call's tensors, in their order.
        kept: the clip's keys and values.
    """

    frames: Sequence[int]
    kept: ClipTokens

    def computed(self, model: Callable[..., Tensor], x: Tensor, t: Tensor, *args: Any, **inputs: Any) -> Tensor:
        """Have a model compute these frames; return the velocity [B, C, F, H, W] of the clip, 0 on the others.

        Args:
            model: called as `WanModel.forward`.
            x: noisy latents of the clip [B, C, F, H, W].
            t: timesteps of its frames [B, F].
            args: what else the model is handed by place.
            inputs: and by name.
        """
        frames = list(self.frames)
        return self.spread(model(x[:, :, frames], t[:, frames], *args, some=self, **inputs))

    def spread(self, velocity: Tensor) -> Tensor:
        """Return the velocity [B, C, F, H, W] of the clip, 0 where it was not computed, from that of some frames."""
        whole = velocity.new_zeros(*velocity.shape[:2], self.kept.num_frames, *velocity.shape[3:])
        whole[:, :, list(self.frames)] = velocity
        return whole

    def tokens(self, frame_tokens: int, device: torch.device) -> Tensor:
        """Return which tokens of the clip the call's are, int64 [l], with so many tokens in a frame."""
        first = torch.tensor(self.frames, device=device)[:, None] * frame_tokens
        return (first + torch.arange(frame_tokens, device=device)).flatten()

    def spans(self, frame_tokens: int, block_frames: int) -> list[Span]:
        """Return who sees what: the queries of every causal block and the end of the keys that it sees.

        Args:
            frame_tokens: tokens of a frame.
            block_frames: latent frames of a causal block; 0 = bidirectional, all see all.
        """
        length = self.kept.num_frames
        if not block_frames:
            return [(slice(0, len(self.frames) * frame_tokens), length * frame_tokens)]
        spans, start = [], 0
        for block, frames in groupby(self.frames, lambda frame: frame // block_frames):
            end = start + len(list(frames))
            seen = min((block + 1) * block_frames, length)
            spans.append((slice(start * frame_tokens, end * frame_tokens), seen * frame_tokens))
            start = end
        return spans


@dataclass(frozen=True)
class Placed:
    """The same in tokens, for the layers of one forward pass.

    Attributes:
        tokens: int64 [l], which tokens of the clip are computed.
        length: tokens of the clip.
        spans: who sees what.
    """

    tokens: Tensor
    length: int
    spans: list[Span]

    def in_pieces(self, pieces: int) -> list[Span]:
        """Return the spans, cut so that none is longer than the call's queries divided by `pieces`."""
        longest = -(-len(self.tokens) // pieces)
        return [
            (slice(first, min(first + longest, rows.stop)), seen)
            for rows, seen in self.spans
            for first in range(rows.start, rows.stop, longest)
        ]
