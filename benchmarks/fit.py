"""The longest video that fits into a device's memory, by resolution: ours, ours in pieces, diffusers and ComfyUI's own.

A forward pass is run in which one layer computes and the memory of all others' weights is taken. Layers follow each
other in the same memory, so the peak is that of the whole model, in a fraction of the time. Attention looks at the
first keys only: its memory does not depend on how many there are, its time would be hours at the lengths that fit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from wan_core.model.wan_model import WanModel

from .attempt import attempt, first_call
from .cases import Case, inputs
from .contenders import COMFYUI, DIFFUSERS, IN_PIECES, OURS, Call, build, our_model, weight_bytes
from .hosts import Host

LONGEST = 1024  # latent frames, nearly three minutes at 24 fps; the tables of diffusers end here
FEW_KEYS = 512


class FewKeys(TorchFunctionMode):
    """While it is entered, attention sees only its first FEW_KEYS keys; all that is kept in memory is as before."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Return what a function returns."""
        given = dict(kwargs or {})
        if func is functional.scaled_dot_product_attention:
            names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
            given |= zip(names, args, strict=False)
            return func(**given | {name: given[name][..., :FEW_KEYS, :] for name in ("key", "value")})
        return func(*args, **given)


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


def who(host: Host | None) -> list[str]:
    """Return who takes part; ComfyUI comes last, since diffusers must not see its packages."""
    return [OURS, IN_PIECES, DIFFUSERS, *([] if host is None else [COMFYUI])]


def contenders_of(one: Case, model: WanModel, host: Host | None) -> dict[str, Call]:
    """Return the calls of who takes part, by name."""
    return {name: build(name, one, model, host) for name in who(host)}


def measure_fit(case: Case, host: Host | None, limit: int = LONGEST) -> FitResult:
    """Return what fits on the device of a case."""
    one = replace(case, layers=1)
    rest = weight_bytes(case) - weight_bytes(one)

    def weights() -> tuple[torch.Tensor, dict[str, Call]]:
        others = torch.empty(rest, dtype=torch.uint8, device=case.device)
        return others, contenders_of(one, our_model(one), host)

    with torch.no_grad(), FewKeys():
        made, failure = attempt(weights, case.device)
        if made is None:
            print(f"{case.video}: the weights alone: {failure}", flush=True)
            return FitResult(case.video, dict.fromkeys(who(host), 0), limit)
        found = {}
        for name, call in made[1].items():

            def fits(frames: int, call: Call = call) -> bool:
                return not first_call(lambda: call(inputs(one, frames)), one.device)[1]

            found[name] = longest(fits, limit)
    return FitResult(case.video, found, limit)
