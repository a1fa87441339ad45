"""What a sampling run tells ComfyUI that it will need, before ComfyUI decides which weights stay on the device.

Core's estimate knows the latent video and nothing of the cache of finished blocks. With that cache a call computes only
the blocks that are at work, so a long clip does not need what core would reserve for it, and the cache needs what core
does not reserve: room for itself, and for what attention makes of it. A cache that would push the model's own weights
out is not asked for: it goes to main memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import comfy.model_management
import comfy.patcher_extension
import torch

from ...sampling.cached_calls import frames_at_work
from ...sampling.run import Run
from ...sampling.solvers import adds_noise
from ..model.multigpu import patchers_of
from .causal_cache import cache_need, call_bytes, can_cache
from .sampler import DiffusionForcingSampler

WRAPPER_KEY = "skyreels_v2_memory"
HELD_COPIES = 4  # of what the guider was given: noise, latents, mask, and what comes out
WINDOW_COPIES = 9  # of the window: samples, clean frames, the solver's, known frames, a preview


@dataclass(frozen=True)
class Need:
    """What a run needs beside the weights.

    Attributes:
        frames: the most latent frames that a model call computes.
        extra: bytes that are reserved on the device beside what such a call takes.
    """

    frames: int
    extra: int = 0


def with_estimate(model: Any) -> Any:
    """Return a MODEL of any loader whose sampling runs reserve what they need: itself, or a clone of it."""
    kind = comfy.patcher_extension.WrappersMP.OUTER_SAMPLE
    if model.get_wrappers(kind, WRAPPER_KEY):
        return model
    model = model.clone()
    estimate_memory(model)
    return model


def estimate_memory(patcher: Any) -> None:
    """Have every sampling run of a MODEL with diffusion forcing reserve what it needs."""
    kind = comfy.patcher_extension.WrappersMP.OUTER_SAMPLE
    patcher.add_wrapper_with_key(kind, WRAPPER_KEY, sample_with_estimate)


def sample_with_estimate(
    executor: Any,
    noise: torch.Tensor,
    latent_image: torch.Tensor,
    sampler: Any,
    sigmas: torch.Tensor,
    denoise_mask: torch.Tensor | None = None,
    *args: Any,
    **kwargs: Any,
) -> torch.Tensor:
    """Tell the loading of the models what this run needs; an OUTER_SAMPLE wrapper."""
    need, guider = None, executor.class_obj
    if isinstance(sampler, DiffusionForcingSampler) and noise.ndim == 5:
        run = sampler.plan(guider.model_options, noise.shape[2], sigmas, denoise_mask)
        need = needed(guider, run, noise.shape) if run.rows else None
    if need is not None:
        comfy.patcher_extension.add_wrapper_with_key(
            comfy.patcher_extension.WrappersMP.PREPARE_SAMPLING,
            WRAPPER_KEY,
            Preparation(need),
            guider.model_options,  # a copy that core makes for this run
            is_model_options=True,
        )
    return executor(noise, latent_image, sampler, sigmas, denoise_mask, *args, **kwargs)


def needed(guider: Any, run: Run, shape: Sequence[int]) -> Need:
    """Return what a run needs; `shape` is [B, C, F, H, W] of its latents."""
    frames, block_size = run.seen, run.options.cached_block_size
    if not can_cache(run, block_size, guider, guider.model_options):
        return Need(frames, clip_bytes(run, shape) if run.moves else 0)
    at_work = min(frames_at_work(run.rows, block_size), frames)
    return need_with_cache(guider.model_patcher, guider.conds, shape, at_work, frames - block_size)


def clip_bytes(run: Run, shape: Sequence[int]) -> int:
    """Return what a run with a moving window takes on the device beside the calls on the window.

    Without one it is a small part of what a call takes, and lies within core's own margin.

    Args:
        run: the run.
        shape: [B, C, F, H, W] of what the guider was given, a clip or a window of one.
    """
    batch, channels, frames, height, width = shape
    copies = WINDOW_COPIES + (run.num_steps - 1 if adds_noise(run.options.solver) else 0)  # fresh noise for every step
    return (HELD_COPIES * frames + copies * run.seen) * batch * channels * height * width * torch.float32.itemsize


def need_with_cache(patcher: Any, conds: dict[str, Any], shape: Sequence[int], at_work: int, kept: int) -> Need:
    """Return what a run with a cache needs.

    Args:
        patcher: the MODEL.
        conds: a guider's conditions.
        shape: [B, C, F, H, W] of the latents.
        at_work: the most latent frames of a call.
        kept: latent frames whose keys and values are kept at most.
    """
    cache, host = cache_need(patcher, conds, shape, kept), comfy.model_management
    beside = call_bytes(patcher.model, shape, at_work, cache) + cache.kept + host.extra_reserved_memory()
    least = min(host.get_total_memory(each.load_device) for each in patchers_of(patcher))
    fits = patcher.model_size() + beside < least
    return Need(at_work, cache.seen + (cache.kept if fits else 0))


class Preparation:
    """A PREPARE_SAMPLING wrapper: core's loading of the models, with the run's own need."""

    def __init__(self, need: Need):
        self.need = need

    def __call__(self, executor: Any, patcher: Any, noise_shape: Any, *args: Any, **kwargs: Any) -> Any:
        """Return what core's `prepare_sampling` returns."""
        batch, channels, _, height, width = noise_shape
        with reserved(patcher.model, self.need.extra):
            return executor(patcher, [batch, channels, self.need.frames, height, width], *args, **kwargs)


@contextmanager
def reserved(model: Any, extra: int) -> Iterator[None]:
    """Add bytes to a BaseModel's `memory_required` while the context lasts."""
    required, outer = model.memory_required, vars(model).get("memory_required")
    model.memory_required = lambda *args, **kwargs: required(*args, **kwargs) + extra
    try:
        yield
    finally:
        if outer is None:
            del model.memory_required  # the one of its class again
        else:
            model.memory_required = outer
