"""Attention as the model calls it: any backend through one signature, and block-causal attention without a mask.

A backend is a callable `(q, k, v, heads, transformer_options=...)` over [B, L, heads * D] tensors; ComfyUI's
`optimized_attention` is one, `scaled_dot_product` below is the one used without a host.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from einops import rearrange
from torch.nn import functional

Attention = Callable[..., torch.Tensor]


def scaled_dot_product(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int, transformer_options: dict[str, Any] | None = None
) -> torch.Tensor:
    """Bidirectional attention with torch's own kernel.

    Args:
        q: queries [B, Lq, heads * D].
        k: keys [B, Lk, heads * D].
        v: values [B, Lk, heads * D].
        heads: number of heads.
        transformer_options: accepted for the shared signature, not used.

    Returns:
        [B, Lq, heads * D].
    """
    q, k, v = (rearrange(tensor, "b l (n d) -> b n l d", n=heads) for tensor in (q, k, v))
    return rearrange(functional.scaled_dot_product_attention(q, k, v), "b n l d -> b l (n d)")


def query_spans(queries: int, keys: int, block_tokens: int, pieces: int = 1) -> list[tuple[slice, int]]:
    """Cut the queries of an attention into parts that can be computed one after the other.

    Args:
        queries: number of queries, the last tokens of the keys.
        keys: number of keys.
        block_tokens: tokens of a causal block; 0 = bidirectional, every query sees every key.
        pieces: about how many parts memory asks for; a part never reaches over the end of a block.

    Returns:
        For each part its queries, and how many of the keys, from the first on, they see.
    """
    block, longest = block_tokens or queries, -(-queries // pieces)
    spans = []
    for start in range(0, queries, block):
        end = min(start + block, queries)
        for first in range(start, end, longest):
            spans.append((slice(first, min(first + longest, end)), keys - queries + end))
    return spans


def block_causal(
    attention: Attention,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    heads: int,
    block_tokens: int,
    transformer_options: dict[str, Any] | None = None,
) -> torch.Tensor:
    """Attention in which a block of tokens sees itself and every block before it.

    The queries are the last tokens of the keys: with a cache there are keys of blocks that are not computed again.

    Each block of queries is one call on the keys it may see, so the result is exact on every backend and no mask is
    built: masks are ignored or misread by several of ComfyUI's backends, and an L x L one does not fit.

    Args:
        attention: the backend.
        q: queries [B, Lq, heads * D], beginning with a whole block.
        k: keys [B, Lk, heads * D], Lk >= Lq.
        v: values, of the shape of `k`.
        heads: number of heads.
        block_tokens: tokens in a block (latent frames of a block times tokens of a frame); the last may be shorter.
        transformer_options: handed to the backend.

    Returns:
        [B, Lq, heads * D].

    Source: the causal mask of SkyReels-V2's transformer (`num_frame_per_block`).
    """
    return in_spans(attention, q, k, v, heads, query_spans(q.shape[1], k.shape[1], block_tokens), transformer_options)


def in_spans(
    attention: Attention,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    heads: int,
    spans: list[tuple[slice, int]],
    transformer_options: dict[str, Any] | None = None,
) -> torch.Tensor:
    """Attention of some queries after the others, each on the first keys; arguments as of `block_causal`.

    Args:
        attention: the backend.
        q: queries [B, Lq, heads * D].
        k: keys [B, Lk, heads * D].
        v: values, of the shape of `k`.
        heads: number of heads.
        spans: all queries in parts, and how many of the keys, from the first on, each part sees.
        transformer_options: handed to the backend.

    Returns:
        [B, Lq, heads * D].
    """
    if len(spans) == 1:
        seen = spans[0][1]
        return attention(q, k[:, :seen], v[:, :seen], heads, transformer_options=transformer_options)
    out = torch.empty_like(q)
    for rows, seen in spans:
        out[:, rows] = attention(q[:, rows], k[:, :seen], v[:, :seen], heads, transformer_options=transformer_options)
    return out
