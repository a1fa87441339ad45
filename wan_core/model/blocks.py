"""The parts a WanModel is stacked from: attention, the block around it, and the head.

Shapes: B batch, C channels (the model's dim), L tokens in frame order, N heads, D channels of a head; T is the number
of latent frames where every frame has its own noise level and 1 where one holds for the clip.

Source: Wan et al. 2025 (Wan 2.1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from .attention import block_causal, in_spans, query_spans
from .clip_tokens import LayerTokens, Placed
from .config import WanConfig
from .kv_cache import LayerCache
from .layers import GELU, Layers, gate, modulate, parts_of, written_over
from .operations import by_hand, reusable
from .rope import Rotary
from .share import Share, by_run


@dataclass(frozen=True)
class Patched:
    """What a host's patches after a block are shown besides the tokens."""

    video: Tensor  # [B, C, F, H, W], noisy and padded to whole patches
    time: Tensor  # [B, T, dim], time embeddings before their projection


@dataclass
class BlockInputs:
    """What a block needs beside its tokens; the same for every block of one forward pass."""

    modulation: Tensor  # [B, T, 6, dim]
    rotary: Rotary  # [L, 1, D / 2], or what the host's kernel has in its place
    context: Tensor  # [B, image tokens + text tokens, dim]
    image_tokens: int | None  # how many of the context tokens are the image's; None without an image
    block_tokens: int  # tokens of a causal block, 0 for bidirectional attention
    transformer_options: dict[str, Any] = field(default_factory=dict)
    cache: LayerCache | None = None  # this block's keys and values of frames that are not computed again
    kept: LayerTokens | None = None  # this block's keys and values of the clip, where a call computes some frames of it
    placed: Placed | None = None  # which these are; None where all are computed
    pieces: int = 1  # parts of the tokens that are computed one after the other, where memory is short
    cached_tokens: int = 0  # tokens of a block as the cache keeps it
    patched: Patched | None = None  # None where no host's patches are asked
    share: Share | None = None  # which of the tokens are here, where several processes compute together


class WanSelfAttention(nn.Module):
    """Every token of the video looks at every other, or under causal attention at its own block and those before."""

    def __init__(self, config: WanConfig, layers: Layers):
        super().__init__()
        dim = config.dim
        self.dim, self.num_heads, self.head_dim = dim, config.num_heads, dim // config.num_heads
        self.attention = layers.attention
        self.rotary = layers.rotary
        self.q = layers.linear(dim, dim)
        self.k = layers.linear(dim, dim)
        self.v = layers.linear(dim, dim)
        self.o = layers.linear(dim, dim)
        # the norm runs over all heads together, before they are split
        self.norm_q = layers.rms_norm(dim, config.eps) if config.qk_norm else nn.Identity()
        self.norm_k = layers.rms_norm(dim, config.eps) if config.qk_norm else nn.Identity()

    def rotated(self, projection: nn.Module, norm: nn.Module, x: Tensor, rotary: Rotary) -> Tensor:
        """Project, normalise and turn `x` [B, L, C]; a function of its own so that its intermediates are freed."""
        by_head = rearrange(norm(projection(x)), "b l (n d) -> b l n d", n=self.num_heads)
        return rearrange(self.rotary.apply(by_head, rotary), "b l n d -> b l (n d)")

    def forward(self, x: Tensor, inputs: BlockInputs) -> Tensor:
        """Return [B, L, C] for `x` [B, L, C]."""
        options = inputs.transformer_options
        alone = inputs.share is None
        in_pieces = inputs.pieces > 1 and by_hand() and alone and not options.get("patches", {}).get("attn1_patch")
        # v last: it has no intermediates, which would stand beside the two others
        q = None if in_pieces else self.rotated_in_parts(self.q, self.norm_q, x, inputs)
        k = self.rotated_in_parts(self.k, self.norm_k, x, inputs)
        v = self.v(x) if q is None else written_over(self.v, x)
        if inputs.share is not None and q is not None:  # q is: in pieces it is made only where all tokens are here
            x = inputs.share.attend(self.attention, q, k, v, self.num_heads, inputs)
            del q, k, v
            return self.o(x)
        if inputs.cache is not None:
            k = inputs.cache.keys.extend(k, inputs.cached_tokens)
            v = inputs.cache.values.extend(v, inputs.cached_tokens)
            inputs.cache.thin(self.num_heads)
        if inputs.kept is not None and inputs.placed is not None:
            k = inputs.kept.keys.put(k, inputs.placed.tokens, inputs.placed.length)
            v = inputs.kept.values.put(v, inputs.placed.tokens, inputs.placed.length)
        if q is None:
            return self.in_pieces(x, k, v, inputs)
        if inputs.placed is not None:
            x = in_spans(self.attention, q, k, v, self.num_heads, inputs.placed.spans, options)
        elif inputs.block_tokens:
            x = block_causal(self.attention, q, k, v, self.num_heads, inputs.block_tokens, options)
        else:
            x = self.attention(q, k, v, heads=self.num_heads, transformer_options=options)
        for patch in options.get("patches", {}).get("attn1_patch", ()):
            q_heads, k_heads = (rearrange(tokens, "b l (n d) -> b l n d", n=self.num_heads) for tokens in (q, k))
            x = patch({"x": x, "q": q_heads, "k": k_heads, "transformer_options": options})
        del q, k, v  # three tensors of the size of the one that the next line makes
        return self.o(x)

    def rotated_in_parts(self, projection: nn.Module, norm: nn.Module, x: Tensor, inputs: BlockInputs) -> Tensor:
        """Return the same as `rotated`; in parts, no intermediate is as long as the result."""
        parts = parts_of(x, inputs.pieces)
        if len(parts) == 1 or (self.rotary.lean and inputs.pieces == 1):
            return self.rotated(projection, norm, x, inputs.rotary)
        y = torch.empty_like(x)
        for rows in parts:
            y[:, rows] = self.rotated(projection, norm, x[:, rows], self.rotary.part(inputs.rotary, rows))
        return y

    def in_pieces(self, x: Tensor, k: Tensor, v: Tensor, inputs: BlockInputs) -> Tensor:
        """Return the same as `forward`, from some queries at a time and written over `x` [B, L, C]."""
        options = inputs.transformer_options
        placed, pieces = inputs.placed, inputs.pieces
        whole = query_spans(x.shape[1], k.shape[1], inputs.block_tokens, pieces) if placed is None else []
        for rows, seen in whole if placed is None else placed.in_pieces(pieces):
            q = self.rotated(self.q, self.norm_q, x[:, rows], self.rotary.part(inputs.rotary, rows))
            y = self.attention(q, k[:, :seen], v[:, :seen], heads=self.num_heads, transformer_options=options)
            x[:, rows] = self.o(y)
        return x


class WanT2VCrossAttention(WanSelfAttention):
    """The video asks the text what it should be."""

    def forward(  # type: ignore[override]
        self,
        x: Tensor,
        context: Tensor,
        context_img_len: int | None = None,
        transformer_options: dict[str, Any] | None = None,
    ) -> Tensor:
        """Return [B, L, C] for `x` [B, L, C] and `context` [B, text tokens, C].

        The signature is that of ComfyUI's own module: neighbours (NAG) put their own forward in its place.
        """
        q = self.norm_q(self.q(x))
        k = self.norm_k(self.k(context))
        v = self.v(context)
        y = self.attention(q, k, v, heads=self.num_heads, transformer_options=transformer_options)
        del q, k, v
        return self.o(y)


class WanI2VCrossAttention(WanT2VCrossAttention):
    """The video asks the text and, with keys and values of its own, the start image."""

    def __init__(self, config: WanConfig, layers: Layers):
        super().__init__(config, layers)
        self.k_img = layers.linear(config.dim, config.dim)
        self.v_img = layers.linear(config.dim, config.dim)
        self.norm_k_img = layers.rms_norm(config.dim, config.eps) if config.qk_norm else nn.Identity()

    def forward(  # type: ignore[override]
        self,
        x: Tensor,
        context: Tensor,
        context_img_len: int | None = None,
        transformer_options: dict[str, Any] | None = None,
    ) -> Tensor:
        """Return [B, L, C] for `x` [B, L, C]; the first `context_img_len` tokens of `context` are the image's."""
        # without CLIP vision (None) ComfyUI's own module reads the text in both places: a file gives one video in both
        image, text = context[:, :context_img_len], context[:, context_img_len:]
        options = transformer_options
        q = self.norm_q(self.q(x))
        k, v = self.norm_k(self.k(text)), self.v(text)
        y = self.attention(q, k, v, heads=self.num_heads, transformer_options=options)
        k, v = self.norm_k_img(self.k_img(image)), self.v_img(image)
        of_image = self.attention(q, k, v, heads=self.num_heads, transformer_options=options)
        del q, k, v
        return self.o(torch.add(y, of_image, out=reusable(y, of_image)))


class WanAttentionBlock(nn.Module):
    """Self attention, cross attention and feed-forward, each on the residual stream, steered by six modulations."""

    self_attention: type[WanSelfAttention] = WanSelfAttention  # a host may have one that it calls in its own way

    def __init__(self, config: WanConfig, layers: Layers):
        super().__init__()
        dim, eps = config.dim, config.eps
        cross_attention = WanT2VCrossAttention if config.model_type == "t2v" else WanI2VCrossAttention
        self.norm1 = layers.layer_norm(dim, eps)
        self.self_attn = self.self_attention(config, layers)
        self.norm3 = layers.layer_norm(dim, eps, affine=True) if config.cross_attn_norm else nn.Identity()
        self.cross_attn = cross_attention(config, layers)
        self.norm2 = layers.layer_norm(dim, eps)
        self.ffn = nn.Sequential(layers.linear(dim, config.ffn_dim), GELU(), layers.linear(config.ffn_dim, dim))
        self.modulation = layers.parameter(1, 6, dim)
        self.modulated_norm = layers.modulated_norm

    def forward(self, x: Tensor, inputs: BlockInputs) -> Tensor:
        """Return the residual stream [B, L, C] after this block."""
        options = inputs.transformer_options
        modulation = self.modulation.to(x) + inputs.modulation  # [B, T, 6, C]
        shift_attn, scale_attn, gate_attn, shift_ffn, scale_ffn, gate_ffn = modulation.unbind(2)  # each [B, T, C]

        share = inputs.share
        y = self.attend(by_run(share, partial(self.modulated_norm, self.norm1), (x,), (shift_attn, scale_attn)), inputs)
        x = by_run(share, gate, (x, y), (gate_attn,))
        del y
        x = self.add_cross_attention(x, inputs)
        for patch in options.get("patches", {}).get("attn2_patch", ()):
            x = patch({"x": x, "transformer_options": options})
        y = by_run(share, partial(self.modulated_norm, self.norm2), (x,), (shift_ffn, scale_ffn))
        y = written_over(self.ffn, y, inputs.pieces)
        return by_run(share, gate, (x, y), (gate_ffn,))

    def attend(self, x: Tensor, inputs: BlockInputs) -> Tensor:
        """Return what self attention makes of `x` [B, L, C], normalised and modulated."""
        return self.self_attn(x, inputs)

    def add_cross_attention(self, x: Tensor, inputs: BlockInputs) -> Tensor:
        """Return `x` [B, L, C] and what the text adds to it, written over `x`, which is this block's own."""
        # a neighbour's forward in place of ours may count the tokens that it is given
        pieces = inputs.pieces if by_hand() and "forward" not in vars(self.cross_attn) else 1
        told = {"context_img_len": inputs.image_tokens, "transformer_options": inputs.transformer_options}
        if pieces == 1:
            y = self.cross_attn(self.norm3(x), inputs.context, **told)
            return torch.add(x, y, out=reusable(x, y))  # not over y, which may be a neighbour's
        for rows, _ in query_spans(x.shape[1], x.shape[1], 0, pieces):
            x[:, rows] += self.cross_attn(self.norm3(x[:, rows]), inputs.context, **told)
        return x


class Head(nn.Module):
    """The last norm, two modulations, and the projection of a token to the values of its patch."""

    def __init__(self, config: WanConfig, layers: Layers):
        super().__init__()
        self.norm = layers.layer_norm(config.dim, config.eps)
        self.head = layers.linear(config.dim, math.prod(config.patch_size) * config.out_dim)
        self.modulation = layers.parameter(1, 2, config.dim)

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        """Return [B, L, patch values] for tokens `x` [B, L, C] and time embeddings `e` [B, T, C]."""
        shift, scale = (self.modulation.to(x) + e.unsqueeze(2)).unbind(2)  # each [B, T, C]
        return self.head(modulate(self.norm(x), shift, scale))


class MLPProj(nn.Module):
    """The start image's CLIP tokens [B, 257, 1280], brought to the width of the model."""

    def __init__(self, in_dim: int, out_dim: int, layers: Layers):
        super().__init__()
        self.proj = nn.Sequential(
            layers.layer_norm(in_dim, affine=True),
            layers.linear(in_dim, in_dim),
            nn.GELU(),
            layers.linear(in_dim, out_dim),
            layers.layer_norm(out_dim, affine=True),
        )

    def forward(self, image_embeds: Tensor) -> Tensor:
        """Return [B, 257, dim]."""
        return self.proj(image_embeds)
