"""What the tests of sampling in the host's process share."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

import torch


def module(name: str) -> ModuleType:
    """A module of wan_core, by its name there."""
    return importlib.import_module(f"skyreels_v2.wan_core.{name}")


def generated(
    model: Any, texts: tuple[Any, Any], latent: Any, options: Any, seed: int, steps: int, cfg: float, shift: float
) -> torch.Tensor:
    """The latents of the sampler node's own function."""
    guidance = module("comfy.sampling.guided").Guidance(model, *texts, cfg)
    sigmas = module("sampling.sigmas").flow_sigmas(steps, shift)
    with torch.inference_mode():
        return module("comfy.sampling.generate").generate(guidance, latent, seed, sigmas, options)["samples"]
