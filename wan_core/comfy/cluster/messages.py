"""What the host and its actors send one another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch


class Stopped(Exception):
    """A call was ended because the host's user asked for it."""


@dataclass(frozen=True)
class Weights:
    """What an actor loads.

    Attributes:
        factory: makes a MODEL; a function of this pack.
        path: of the file on the host's machine.
        name: of the file in models/diffusion_models.
        args: what else the factory is given.
        patches: ComfyUI's weight patches (LoRAs), by name of the weight.
        parameters: weights that took the place of others, by name.
        version: changes when any of it does.
        sharded: whether each actor keeps a part of the blocks' weights only.
    """

    factory: Callable[..., Any]
    path: str
    name: str
    args: tuple[Any, ...] = ()
    patches: dict[str, Any] = field(default_factory=dict)
    parameters: dict[str, torch.Tensor] = field(default_factory=dict)
    version: str = ""
    sharded: bool = False


@dataclass(frozen=True)
class CacheCall:
    """How a call uses a cache that the actors hold; see `KVCache.begin`.

    Attributes:
        key: whose it is.
        layers: attention blocks of the model.
        block_size: latent frames that are kept together.
        begin: start, finished and sink_blocks.
        keeps: whether the call adds to it.
        budget: the share of a frame's tokens that is kept.
    """

    key: str
    layers: int
    block_size: int
    begin: tuple[int, int, int]
    keeps: bool
    budget: float = 1.0


@dataclass(frozen=True)
class Call:
    """One forward pass, on the CPU.

    Attributes:
        x: noisy latents [B, C, f, H, W].
        t: timesteps [B] or [B, f].
        context: text tokens [B, n, text_dim].
        inputs: what else `WanModel.forward` takes.
        cache: None where there is none.
    """

    x: torch.Tensor
    t: torch.Tensor
    context: torch.Tensor
    inputs: dict[str, Any]
    cache: CacheCall | None = None

    def on(self, device: torch.device) -> Call:
        """Return the call with its tensors on another device."""
        moved = {name: on_device(value, device) for name, value in self.inputs.items()}
        return replace(
            self, x=self.x.to(device), t=self.t.to(device), context=self.context.to(device), inputs=moved
        )  # fmt: skip


def on_device(value: Any, device: torch.device) -> Any:
    """Return a tensor, or a sequence of them, on a device; anything else as it is."""
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, list | tuple):
        return type(value)(on_device(each, device) for each in value)
    return value


class Refused(Exception):
    """An error of ours, on its way to the host; its argument is the sentence, a `Words`."""
