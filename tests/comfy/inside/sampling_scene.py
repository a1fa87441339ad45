"""What the tests of sampling in the host's process share."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

import comfy.samplers
import torch


def module(name: str) -> ModuleType:
    """A module of wan_core, by its name there."""
    return importlib.import_module(f"skyreels_v2.wan_core.{name}")


def conditioning(seed: int, **held: Any) -> list[Any]:
    """A prompt of random tokens."""
    return [[torch.randn(1, 12, 4096, generator=torch.Generator().manual_seed(seed)) * 0.3, held]]


def sampled(
    model: Any, sigmas: torch.Tensor, shape: tuple[int, ...], sampler: Any = None, positive: list[Any] | None = None,
    known: int = 0, **options: Any,
) -> torch.Tensor:  # fmt: skip
    """What core's guider makes of two prompts with a sampler: ours with these options where none is given.

    Args:
        model: a MODEL.
        sigmas: of the run.
        shape: of the latents [B, C, F, H, W].
        sampler: None for diffusion forcing.
        positive: the prompt, None for one of random tokens.
        known: latent frames at the beginning that are known.
        options: of diffusion forcing.
    """
    bridge = module("comfy.sampling.sampler")
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(positive or conditioning(1), conditioning(2))
    guider.set_cfg(4.0)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(7))
    mask = torch.ones(1, 1, *shape[2:])
    mask[:, :, :known] = 0
    sampler = sampler or bridge.DiffusionForcingSampler(bridge.ForcingOptions(**options))
    with torch.inference_mode():
        return guider.sample(
            noise, noise.flip(2), sampler, sigmas, disable_pbar=True, seed=3, denoise_mask=mask if known else None
        )


def generated(
    model: Any, texts: tuple[Any, Any], latent: Any, options: Any, seed: int, steps: int, cfg: float, shift: float
) -> torch.Tensor:
    """The latents of the sampler node's own function."""
    guidance = module("comfy.sampling.guided").Guidance(model, *texts, cfg)
    sigmas = module("sampling.sigmas").flow_sigmas(steps, shift)
    with torch.inference_mode():
        return module("comfy.sampling.generate").generate(guidance, latent, seed, sigmas, options)["samples"]
