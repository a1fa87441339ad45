"""Guidance in a part of the steps only: outside of it the negative prompt is not computed at all.

ComfyUI leaves the negative prompt out at cfg 1; a wrapper around the guider's prediction gives it that cfg where the
range does not hold. In diffusion forcing every latent frame has steps of its own, and so a range of its own: the
negative prompt is computed in the rows in which some frame is inside, and counts for these frames only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import comfy.patcher_extension
import comfy.samplers
import torch

from ...errors import InputError
from ...sampling.run import Row
from ..model.transformer import FORCING_ROW

CFG_RANGE = "skyreels_cfg_range"  # key in transformer_options
WRAPPER_KEY = "skyreels_v2_cfg_range"


@dataclass(frozen=True)
class CFGRange:
    """The part of the steps that guidance is used in.

    Attributes:
        start: share of the steps before it, 0..1.
        end: share of the steps behind which it is not used, 0..1.
    """

    start: float
    end: float

    def __post_init__(self) -> None:
        """Refuse an empty range; `Raises: InputError`."""
        if not 0 <= self.start < self.end <= 1:
            raise InputError(
                "The CFG range is {start:g} to {end:g}, but the start has to be below the end, and both between 0 and "
                "1: use 0 to 0.5 for the first half, or set cfg to 1 for no guidance at all.",
                start=self.start,
                end=self.end,
            )

    def holds(self, progress: float) -> bool:
        """Say whether a step is inside; `progress` is the share of the steps before it, 0..1."""
        return self.start <= progress + 1e-6 < self.end or (self.end == 1 and progress >= 1)


def with_cfg_range(model: Any, start: float, end: float) -> Any:
    """Return a clone of a MODEL with guidance from `start` to `end` (shares of the steps); `Raises: InputError`."""
    model = model.clone()
    options = dict(model.model_options.get("transformer_options", {}))
    model.model_options["transformer_options"] = {**options, CFG_RANGE: CFGRange(start, end)}
    kind = comfy.patcher_extension.WrappersMP.PREDICT_NOISE
    model.remove_wrappers_with_key(kind, WRAPPER_KEY)  # of a node before this one, whose range is replaced
    model.add_wrapper_with_key(kind, WRAPPER_KEY, predict_in_range)
    return model


def predict_in_range(
    executor: Any, x: torch.Tensor, timestep: torch.Tensor, model_options: dict[str, Any], seed: int | None = None
) -> torch.Tensor:
    """Call on with the guider's cfg, or with 1 outside of the range; a PREDICT_NOISE wrapper.

    Raises:
        InputError: the guider does something else with its prompts than core's CFGGuider.
    """
    guider, cfg_range = executor.class_obj, model_options["transformer_options"][CFG_RANGE]
    check_guider(guider)
    inside = frames_inside(cfg_range, timestep, model_options)
    if all(inside):
        return executor(x, timestep, model_options, seed)
    if any(inside):
        functions = [unguided_outside(inside), *model_options.get("sampler_post_cfg_function", ())]
        return executor(x, timestep, {**model_options, "sampler_post_cfg_function": functions}, seed)
    cfg = guider.cfg
    try:
        guider.cfg = 1.0
        return executor(x, timestep, model_options, seed)
    finally:
        guider.cfg = cfg


def check_guider(guider: Any) -> None:
    """Refuse a guider in which cfg 1 may mean something else; `Raises: InputError`."""
    if type(guider).predict_noise is not comfy.samplers.CFGGuider.predict_noise:
        raise InputError(
            "The guider is {name}, but SkyReels-V2 CFG Range works with CFGGuider: connect that one, or "
            "take SkyReels-V2 CFG Range out.",
            name=type(guider).__name__,
        )


def frames_inside(cfg_range: CFGRange, timestep: torch.Tensor, model_options: dict[str, Any]) -> list[bool]:
    """Return for each visible latent frame whether it is inside the range; one value where all go together.

    A frame that a row does not denoise does not matter: it goes with the others.
    """
    row: Row | None = model_options["transformer_options"].get(FORCING_ROW)
    if row is not None:
        progress = row.progress
        busy = [share for share in progress if share is not None]
        some = any(map(cfg_range.holds, busy))
        return [some if share is None else cfg_range.holds(share) for share in progress]
    sigmas = model_options["transformer_options"]["sample_sigmas"]  # of one of core's samplers
    done = int((sigmas > timestep.max() * (1 + 1e-5)).sum())
    return [cfg_range.holds(done / max(len(sigmas) - 1, 1))]


def unguided_outside(inside: list[bool]) -> Callable[[dict[str, Any]], torch.Tensor]:
    """Return a function for core's post-cfg hooks that takes the frames outside from the prompt's prediction alone."""

    def select(args: dict[str, Any]) -> torch.Tensor:
        guided = args["denoised"]
        mask = torch.tensor(inside, device=guided.device)[:, None, None]
        return torch.where(mask, guided, args["cond_denoised"])

    return select
