"""The longest video that fits into a device's memory, by resolution: ours, ours in pieces, diffusers and ComfyUI's own.

A forward pass is run in which one layer computes and the memory of all others' weights is taken. Layers follow each
other in the same memory, so the peak is that of the whole model, in a fraction of the time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from wan_core.model import WanModel

from .cases import Case, Size, inputs
from .contenders import COMFYUI, DIFFUSERS, IN_PIECES, OURS, Call, build, our_model, weight_bytes
from .forward import first_call
from .hosts import Host

LONGEST = 1024  # latent frames, nearly three minutes at 24 fps; the tables of diffusers end here


@dataclass(frozen=True)
class OneLayer(Case):
    """A case of which only one layer is computed."""

    @property
    def shape(self) -> Size:
        """The size that the name stands for, with a single layer."""
        whole = super().shape
        return replace(whole, config=replace(whole.config, num_layers=1))

    @classmethod
    def of(cls, case: Case) -> OneLayer:
        """Return a case with a single layer."""
        return cls(case.size, case.mode, case.dtype, case.device)


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


def contenders_of(one: OneLayer, model: WanModel, host: Host | None) -> dict[str, Call]:
    """Return who takes part, by name; ComfyUI comes last, since diffusers must not see its packages."""
    everyone = (OURS, IN_PIECES, DIFFUSERS) if host is None else (OURS, IN_PIECES, DIFFUSERS, COMFYUI)
    return {name: build(name, one, model, host) for name in everyone}


def measure_fit(case: Case, host: Host | None, limit: int = LONGEST) -> FitResult:
    """Return what fits on the device of a case."""
    one = OneLayer.of(case)
    others = torch.empty(weight_bytes(case) - weight_bytes(one), dtype=torch.uint8, device=case.device)
    found = {}
    with torch.no_grad():
        for name, call in contenders_of(one, our_model(one), host).items():

            def fits(frames: int, call: Call = call) -> bool:
                return first_call(lambda: call(inputs(one, frames)), one.device)[1]

            found[name] = longest(fits, limit)
    del others
    return FitResult(case.video, found, limit)
