"""A noise level of its own for every latent frame, carried through ComfyUI's ordinary guider.

Core code knows one sigma per call. It keeps getting one: a scalar that falls strictly from row to row. The levels of
the frames ride beside it in the conditioning, so that core's batching, areas and hooks treat them as any other
condition; a wrapper around apply_model takes them out again (before core would cast them to the compute dtype, which
turns timestep 998.5 into 1000 in bf16) and a model_sampling of ours reads sigmas of [B, F]. This works on any Wan 2.1
MODEL.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import comfy.conds
import comfy.patcher_extension
import torch

from ...sampling.sigmas import timesteps_of
from ..model.base_model import SkyReelsV2
from ..model.core_parts import is_replaced, one_noise_level

FRAME_SIGMAS = "skyreels_frame_sigmas"  # the key in model_conds
# conditions whose latents stand beside the clip's in attention and have the clip's one noise level
BESIDE_THE_CLIP = ("time_dim_concat", "context_latents")
WRAPPER_KEY = "skyreels_v2"

Timesteps = Callable[[torch.Tensor], torch.Tensor]


class FrameSampling:
    """Mixed into the model's own model_sampling class: sigmas of [B, F] beside the ordinary ones of [B]."""

    timesteps_of_frames = staticmethod(timesteps_of)

    def timestep(self, sigma: torch.Tensor) -> torch.Tensor:
        """Return timesteps of the same shape; for [B, F] as the models were sampled by their authors."""
        return self.timesteps_of_frames(sigma) if sigma.ndim == 2 else super().timestep(sigma)  # type: ignore[misc]

    def calculate_denoised(
        self, sigma: torch.Tensor, model_output: torch.Tensor, model_input: torch.Tensor
    ) -> torch.Tensor:
        """Return x0 [B, C, F, H, W] from the velocity, with each frame's own sigma."""
        if sigma.ndim != 2:
            return super().calculate_denoised(sigma, model_output, model_input)  # type: ignore[misc]
        return model_input - model_output * sigma[:, None, :, None, None]


def frame_sampling(model_sampling: Any, timesteps: Timesteps = timesteps_of) -> Any:
    """Return a copy of a model's model_sampling (the user's shift node included) that also reads sigmas of [B, F]."""
    framed = copy.copy(model_sampling)
    how = {"timesteps_of_frames": staticmethod(timesteps)}
    framed.__class__ = type("FrameModelSampling", (FrameSampling, type(model_sampling)), how)
    return framed


class FrameNoise:
    """Calls on with the frames' sigmas [B, F] in place of the scalar one; an APPLY_MODEL wrapper.

    It goes by the model that is called: with MultiGPU CFG Split each device has its own, in a thread of its own.

    Args:
        timesteps: turns the frames' sigmas into timesteps: whole numbers as SkyReels-V2 wants them, or exact ones.
    """

    def __init__(self, timesteps: Timesteps = timesteps_of):
        self.timesteps = timesteps

    def __call__(self, executor: Any, x: torch.Tensor, t: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Return x0 [B, C, F, H, W]."""
        frame_sigmas = kwargs.pop(FRAME_SIGMAS, None)
        if frame_sigmas is None:
            return executor(x, t, *args, **kwargs)
        t = frame_sigmas[:, 0, :, 0, 0].to(x.device)
        if any(name in kwargs for name in BESIDE_THE_CLIP):
            t = t[:, :1]  # one for all: the sampler has seen to it that they are alike
        model = executor.class_obj
        if not isinstance(model, SkyReelsV2) and is_replaced(model.diffusion_model, "forward_orig"):
            t = one_noise_level(t)  # a cache pack's on core's transformer, which fails on others
        original = model.model_sampling
        model.model_sampling = frame_sampling(original, self.timesteps)
        try:
            return executor(x, t, *args, **kwargs)
        finally:
            model.model_sampling = original


def add_frame_noise(model_options: dict[str, Any], timesteps: Timesteps = timesteps_of) -> None:
    """Make the models of a sampling run understand `set_frame_sigmas`.

    Args:
        model_options: the options of this sampling run (a copy that core makes for it).
        timesteps: see `FrameNoise`.
    """
    comfy.patcher_extension.add_wrapper_with_key(
        comfy.patcher_extension.WrappersMP.APPLY_MODEL,
        WRAPPER_KEY,
        FrameNoise(timesteps),
        model_options,
        is_model_options=True,
    )


def set_frame_sigmas(conds: dict[str, list[dict[str, Any]] | None], sigmas: torch.Tensor, like: torch.Tensor) -> None:
    """Put the frames' noise levels into every condition of a guider.

    Args:
        conds: the guider's conds, changed in place (they belong to this run).
        sigmas: [F], 0..1.
        like: the latent video they belong to, [B, C, F, H, W].
    """
    batch, _, frames, height, width = like.shape
    # a view without memory of its own, in the shape that core slices for areas and windows
    view = sigmas.to(like.device).view(1, 1, frames, 1, 1).expand(batch, 1, frames, height, width)
    for conditions in conds.values():
        for condition in conditions or ():
            condition["model_conds"] = {
                **condition["model_conds"],
                FRAME_SIGMAS: comfy.conds.CONDNoiseShape(view),
            }
