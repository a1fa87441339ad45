"""Weights of which every process of a team keeps a part: a model that one device can't hold fits on several.

torch's own `fully_shard` gathers what a block needs when it begins and frees it when it ends, so each process holds its
part of all blocks and one block whole. What lies around the blocks (embeddings, head) stays whole: under 3 percent.
Source: Zhao et al. 2023 (PyTorch FSDP); https://docs.pytorch.org/docs/stable/distributed.fsdp.fully_shard.html
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from ..errors import InputError
from ..model.wan_model import WanModel

SHARDED = (torch.float32, torch.bfloat16, torch.float16)


def shard_blocks(model: WanModel, group: dist.ProcessGroup | None = None, device: str = "cpu") -> None:
    """Spread the weights of a model's blocks over the processes of a group, in place.

    Every process calls it with the same weights; they may still be in main memory where `device` is another.

    Args:
        model: on the way in, with all of its weights.
        group: the processes; None for all.
        device: "cpu" or "cuda": where the parts are kept.

    Raises:
        InputError: weights in a number format that is not gathered, such as fp8, or a torch without `fully_shard`.
    """
    for name, value in model.blocks.named_parameters():
        if type(value.data) is not torch.Tensor or value.dtype not in SHARDED:
            raise InputError(
                "blocks.{name} is stored as {dtype}, but only float32, bfloat16 and float16 weights can be spread over "
                "several GPUs: load a file in one of these, or keep the weights whole.",
                name=name,
                dtype=str(value.dtype).removeprefix("torch."),
            )
    try:
        from torch.distributed.device_mesh import DeviceMesh
        from torch.distributed.fsdp import fully_shard
    except ImportError:
        raise InputError("Spreading weights over several GPUs needs torch 2.6 or newer: update torch.") from None
    mesh = DeviceMesh.from_group(group or dist.distributed_c10d._get_default_group(), device)
    for block in model.blocks:
        block.requires_grad_(False)
        fully_shard(block, mesh=mesh, reshard_after_forward=True)


def kept_bytes(module: nn.Module) -> int:
    """Return the bytes of a module's weights that this process keeps."""
    parts: list[Any] = [getattr(value, "_local_tensor", value) for value in module.parameters()]
    return sum(part.nbytes for part in parts)
