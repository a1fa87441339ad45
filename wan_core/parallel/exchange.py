"""What processes send one another: parts of a sequence against parts of the heads, and parts round a ring.

All of it is torch.distributed's: gloo between processors, NCCL between GPUs. Tokens [B, l, C] may differ in number from
process to process; every process knows how many each has, so no sizes are sent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.distributed as dist
from torch import Tensor


def exchange(
    parts: Sequence[Tensor], shapes: Sequence[tuple[int, ...]], group: dist.ProcessGroup | None
) -> list[Tensor]:
    """Send each process a part, and return what each has sent here.

    Args:
        parts: for every process.
        shapes: of what every process sends.
        group: the processes; None for all.
    """
    sent = torch.cat([part.reshape(-1) for part in parts])
    lengths = [int(torch.Size(shape).numel()) for shape in shapes]
    received = sent.new_empty(sum(lengths))
    dist.all_to_all_single(received, sent, lengths, [part.numel() for part in parts], group=group)
    return [flat.view(shape) for flat, shape in zip(received.split(lengths), shapes, strict=True)]


def to_heads(x: Tensor, lengths: Sequence[int], group: dist.ProcessGroup | None) -> Tensor:
    """Return the heads of this process, of all tokens.

    Args:
        x: all heads of its tokens [B, l, C], head after head.
        lengths: tokens of every process.
        group: the processes, which share the heads equally.

    Returns:
        [B, sum of the lengths, C / processes], the tokens in order of the processes.

    Source: Jacobs et al. 2023, DeepSpeed Ulysses.
    """
    batch, _, channels = x.shape
    width = channels // len(lengths)
    return torch.cat(exchange(x.split(width, dim=-1), [(batch, length, width) for length in lengths], group), dim=1)


def to_tokens(x: Tensor, lengths: Sequence[int], rank: int, group: dist.ProcessGroup | None) -> Tensor:
    """Return the tokens of this process [B, l, C], with all heads: what `to_heads` did, undone."""
    batch, _, width = x.shape
    shapes = [(batch, lengths[rank], width)] * len(lengths)
    return torch.cat(exchange(x.split(list(lengths), dim=1), shapes, group), dim=-1)


def gathered(x: Tensor, lengths: Sequence[int], group: dist.ProcessGroup | None) -> list[Tensor]:
    """Return the tokens of every process, each [B, l, C], in all of them; `x` is what this one has."""
    longest = max(lengths)
    padded = x.new_zeros(x.shape[0], longest, x.shape[2])
    padded[:, : x.shape[1]] = x
    everyones = [torch.empty_like(padded) for _ in lengths]
    dist.all_gather(everyones, padded, group=group)
    return [part[:, :length] for part, length in zip(everyones, lengths, strict=True)]


def round_the_ring(
    x: Tensor, shapes: Sequence[tuple[int, ...]], rank: int, group: dist.ProcessGroup | None
) -> Iterator[tuple[int, Tensor]]:
    """Yield what each process has, with its rank, beginning here; meanwhile the next one is on its way.

    Args:
        x: what this process has.
        shapes: of what each has.
        rank: of this process.
        group: the processes.
    """
    size = len(shapes)
    x = x.contiguous()
    for step in range(size):
        owner = (rank - step) % size
        waiting: list[dist.Work] = []
        if step < size - 1:
            coming = x.new_empty(shapes[(owner - 1) % size])
            waiting = passed_on(x, coming, (rank + 1) % size, (rank - 1) % size, group)
        yield owner, x
        for work in waiting:
            work.wait()
        if waiting:
            x = coming


def passed_on(x: Tensor, coming: Tensor, to: int, of: int, group: dist.ProcessGroup | None) -> list[dist.Work]:
    """Begin to send `x` to one process of a group and to receive `coming` from another."""
    ranks = dist.get_process_group_ranks(group)
    send = dist.P2POp(dist.isend, x, ranks[to], group)
    receive = dist.P2POp(dist.irecv, coming, ranks[of], group)
    return list(dist.batch_isend_irecv([send, receive]))
