"""The longest video that fits into a device's memory, by resolution: ours, ours in pieces, diffusers and ComfyUI's own.

A forward pass is run in which one layer computes and the memory of all others' weights is taken. Layers follow each
other in the same memory, so the peak is that of the whole model, in a fraction of the time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from .cases import Case, Size, inputs, weight_bytes
from .contenders import COMFYUI, DIFFUSERS, OURS, build, our_model
from .forward import first_call
from .hosts import Host

IN_PIECES = "ours in 8 pieces"
PIECES = 8  # what the memory ladder comes to when memory is short
LONGEST = 512  # latent frames, 85 seconds at 24 fps: enough is enough


@dataclass(frozen=True)
class OneLayer(Case):
    """A case of which only one layer is computed."""

    @property
    def shape(self) -> Size:
        """The size that the name stands for, with a single layer."""
        whole = super().shape
        return replace(whole, config=replace(whole.config, num_layers=1))


@dataclass(frozen=True)
class FitResult:
    """How long a video of one resolution may be.

    Attributes:
        title: model, resolution and dtype.
        latent_frames: by contender; 0 where not even one latent frame fits.
        limit: longest that was asked for: what fits may be longer still.
    """

    title: str
    latent_frames: dict[str, int]
    limit: int


def longest(fits: Callable[[int], bool], limit: int) -> int:
    """Return the largest length in 1..limit that fits, 0 if none does, given that whatever is shorter fits as well."""
    good, bad = 0, limit + 1
    while bad - good > 1:
        trial = min(max(2 * good, 1), (good + bad) // 2)  # short ones first: they cost little
        good, bad = (trial, bad) if fits(trial) else (good, trial)
    return good


def measure_fit(case: Case, host: Host | None, limit: int = LONGEST) -> FitResult:
    """Return what fits on the device of a case, every latent frame at a noise level of its own."""
    one = OneLayer(case.size, "per-frame", case.dtype, case.device)
    others = torch.empty(weight_bytes(case) - weight_bytes(one), dtype=torch.uint8, device=case.device)
    found = {}
    with torch.no_grad():
        model = our_model(one)
        contenders = {OURS: build(OURS, one, model), DIFFUSERS: build(DIFFUSERS, one, model)}
        contenders[IN_PIECES] = lambda given: model(given.x, given.t, given.context, pieces=PIECES)
        if host is not None:
            contenders[COMFYUI] = build(COMFYUI, one, model, host)
        for name, call in contenders.items():

            def fits(frames: int, call: Callable[..., object] = call) -> bool:
                return first_call(lambda: call(inputs(one, frames)), one.device)[1]

            found[name] = longest(fits, limit)
    del others
    height, width = (8 * side for side in case.shape.latent[1:])
    return FitResult(f"{case.size.partition('-')[0]}, {height} x {width}, {case.dtype}", found, limit)
