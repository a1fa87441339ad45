"""Attention to keys that come in parts: each part's answer and its weight, and how answers are put together.

The weight of a part is the logarithm of the sum of its exponentials; with it, parts give exactly what all keys at once
would. Sources: Milakov and Gimelshein 2018 (online softmax), Liu et al. 2023 (ring attention).
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor

SCORES = 2**24  # how many are held at once where no kernel of torch's gives the weights


def attend_part(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Return what queries [B, N, l, D] see in some of the keys, and the weight of these.

    Args:
        q: queries [B, N, l, D], at least one.
        k: keys [B, N, s, D], at least one.
        v: values, of the shape of `k`.

    Returns:
        [B, N, l, D] in the dtype of `q`, and [B, N, l] in float32.
    """
    aten = torch.ops.aten
    if q.device.type == "cpu":
        return aten._scaled_dot_product_flash_attention_for_cpu(q, k, v)[:2]
    if q.device.type == "cuda" and q.dtype in (torch.float16, torch.bfloat16):
        return aten._scaled_dot_product_flash_attention(q, k, v)[:2]
    if q.device.type == "cuda":
        answer, weight = aten._scaled_dot_product_efficient_attention(q, k, v, None, True)[:2]
        return answer, weight[:, :, : q.shape[2]]  # the kernel pads it
    return attend_by_hand(q, k, v)


def attend_by_hand(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Return the same as `attend_part` from plain products, some queries at a time."""
    answers, weights = [], []
    for part in q.split(max(SCORES // max(q.shape[0] * q.shape[1] * k.shape[2], 1), 1), dim=2):
        scores = part.float() @ k.float().mT * q.shape[-1] ** -0.5
        answers.append((scores.softmax(dim=-1) @ v.float()).to(q.dtype))
        weights.append(scores.logsumexp(dim=-1))
    return torch.cat(answers, dim=2), torch.cat(weights, dim=2)


class Merged:
    """What queries have seen so far, in float32.

    Args:
        like: the queries [B, l, N * D].
        heads: N.
    """

    def __init__(self, like: Tensor, heads: int):
        self.heads, self.dtype = heads, like.dtype
        batch, length, channels = like.shape
        self.answer = like.new_zeros(batch, heads, length, channels // heads, dtype=torch.float32)
        self.weight = like.new_full((batch, heads, length), -torch.inf, dtype=torch.float32)

    def see(self, rows: slice, q: Tensor, k: Tensor, v: Tensor) -> None:
        """Have some of the queries see more keys.

        Args:
            rows: which queries.
            q: these [B, l, N * D].
            k: keys [B, s, N * D] that they have not seen yet.
            v: their values.
        """
        if q.shape[1] == 0 or k.shape[1] == 0:
            return
        answer, weight = attend_part(*(rearrange(x, "b l (n d) -> b n l d", n=self.heads) for x in (q, k, v)))
        before = self.weight[:, :, rows]
        both = torch.logaddexp(before, weight)
        old, new = ((part - both).exp_().unsqueeze(-1) for part in (before, weight))
        self.answer[:, :, rows] = self.answer[:, :, rows] * old + answer * new
        self.weight[:, :, rows] = both

    def result(self) -> Tensor:
        """Return what has been seen [B, l, N * D], in the dtype of the queries."""
        return rearrange(self.answer, "b n l d -> b l (n d)").to(self.dtype)
