"""The cache of finished blocks in ComfyUI: one for every condition, for one sampling run, where memory allows.

It works where the answer on frames that are not computed cannot matter. Patches, wrappers and guidance functions of
neighbours may look at the whole clip: with them every block is computed in every row, as without a cache.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import comfy.patcher_extension
import torch

from ...model.forward_memory import kept_bytes, seen_bytes
from ...sampling.cached_calls import CausalCalls, frames_at_work
from ...sampling.run import Run
from ..host_flags import spare_memory
from ..model.multigpu import patchers_of
from ..model.transformer import HostWanModel
from .cfg_range import predict_in_range
from .frame_noise import FrameNoise
from .host_calls import HostCachedCalls
from .step_cache import APART, STEP_CACHE, reuse_steps

# options of a run that hand the whole clip to a function of somebody else
LOOKING_AT_THE_CLIP = (
    "context_handler",
    "model_function_wrapper",
    "sampler_calc_cond_batch_function",
    "sampler_cfg_function",
    "sampler_post_cfg_function",
    "sampler_pre_cfg_function",
)
# wrappers that know which frames are not computed
OUR_OWN = (predict_in_range, reuse_steps)


def causal_cache(
    guider: Any, model_options: dict[str, Any], run: Run, block_size: int, latents: torch.Tensor
) -> HostCachedCalls | None:
    """Return the cache of one sampling run; None where it could not help, could do harm or does not fit.

    Args:
        guider: the guider, with the model loaded and its conds processed.
        model_options: the options of this sampling run (a copy that core makes for it).
        run: of the whole clip.
        block_size: latent frames of a causal block; 0 without causal attention.
        latents: what is sampled [B, C, F, H, W].
    """
    if not can_cache(run, block_size, guider, model_options):
        return None
    need = cache_need(guider.model_patcher, guider.conds, latents.shape, latents.shape[2] - block_size)
    place = free_place(guider, need, latents, frames_at_work(run.rows, block_size))
    if place is None:
        return None
    transformer = guider.inner_model.diffusion_model
    calls = CausalCalls(transformer.predict, len(transformer.blocks), block_size, kept_on(place, latents))
    return HostCachedCalls(calls)


def let_frames_apart(guider: Any, model_options: dict[str, Any], run: Run, latents: torch.Tensor) -> bool:
    """Let the step cache compute blocks of frames one without the other where that helps and fits; say whether it may.

    What it keeps for it are the keys and values of all frames that a call sees. They lie where they were computed and
    nowhere else: brought there from main memory for every call, they would take longer than is saved.

    Args:
        guider: the guider, with the model loaded and its conds processed.
        model_options: the options of this sampling run (a copy that core makes for it).
        run: of the whole clip.
        latents: what is sampled [B, C, F, H, W].
    """
    options, patcher = model_options["transformer_options"], guider.model_patcher
    staggered = len(run.rows) > run.num_steps
    transformer = guider.inner_model.diffusion_model
    ours = isinstance(transformer, HostWanModel) and not hasattr(transformer, "room")  # a cluster would forget them
    saves = STEP_CACHE in options and options[STEP_CACHE].distance > 0
    if not saves or not staggered or not ours or looked_at(guider, model_options):
        return False
    need = cache_need(patcher, guider.conds, latents.shape, run.seen)
    options[APART] = fits = fits_beside(guider, need, latents, run.seen)
    return fits


def can_cache(run: Run, block_size: int, guider: Any, model_options: dict[str, Any]) -> bool:
    """Say whether a cache would save work and could do no harm, wherever it might lie.

    Where all frames are denoised in step there is nothing to save. Behind a moving window it would do harm: what is
    kept has seen frames that the window has left, so the video would depend on whether there was room for it.
    """
    helpful = block_size > 0 and not run.moves and run.leaves_frames
    return helpful and not looked_at(guider, model_options)


def looked_at(guider: Any, model_options: dict[str, Any]) -> bool:
    """Say whether somebody's function would see frames that were not computed, or weights change during the run."""
    options = model_options["transformer_options"]
    kinds = comfy.patcher_extension.WrappersMP
    wrapped = any(
        wrapper not in OUR_OWN and not isinstance(wrapper, FrameNoise)
        for kind in (kinds.APPLY_MODEL, kinds.DIFFUSION_MODEL, kinds.CALC_COND_BATCH, kinds.PREDICT_NOISE)
        for wrapper in comfy.patcher_extension.get_all_wrappers(kind, options)
    )
    hooked = any(condition.get("hooks") for conditions in guider.conds.values() for condition in conditions or ())
    patched = any(options.get(name) for name in ("patches", "patches_replace"))
    # somebody's part in a block (WanVideoNAG) may tell the conditions by their place in the batch; here each is alone
    replaced = any(name.startswith("diffusion_model.blocks.") for name in guider.model_patcher.object_patches)
    return wrapped or hooked or patched or replaced or any(model_options.get(name) for name in LOOKING_AT_THE_CLIP)


@dataclass(frozen=True)
class CacheNeed:
    """The memory that a cache of finished blocks takes, in bytes.

    Attributes:
        kept: keys and values in all layers, of all conditions that one device computes.
        devices: how many devices compute.
        seen: what a model call that looks at them takes for it on its own device, wherever they are kept.
    """

    kept: int
    seen: int
    devices: int = 1


def cache_need(patcher: Any, conds: dict[str, Any], shape: Sequence[int], frames: int) -> CacheNeed:
    """Return what a cache takes.

    Args:
        patcher: the MODEL.
        conds: a guider's conditions; each has keys and values of its own, and is computed by itself.
        shape: [B, C, F, H, W] of the latents.
        frames: latent frames that are kept.
    """
    batch, _, _, height, width = shape
    model, devices = patcher.model, len(patchers_of(patcher))
    dtype = model.get_dtype_inference()
    cached = model.diffusion_model.config, batch, (frames, height, width), dtype.itemsize
    conditions = sum(len(conditions or ()) for conditions in conds.values())
    return CacheNeed(kept_bytes(*cached) * -(-conditions // devices), seen_bytes(*cached), devices)


def call_bytes(model: Any, shape: Sequence[int], at_work: int, need: CacheNeed) -> float:
    """Return the bytes to keep free for a model call with a cache, as much as core would for two conditions at once.

    Args:
        model: the BaseModel.
        shape: [B, C, F, H, W] of the latents.
        at_work: the most latent frames of a call.
        need: of the cache that it looks at.
    """
    batch, channels, _, height, width = shape
    return model.memory_required([2 * batch, channels, at_work, height, width]) + need.seen


def free_place(guider: Any, need: CacheNeed, latents: torch.Tensor, at_work: int) -> torch.device | None:
    """Return what has room for the cache beside a model call: the latents' device, else the CPU, else None.

    With several devices the first stands for all: each keeps what it has computed.

    Args:
        guider: the guider, with the model loaded.
        need: of the cache.
        latents: what is sampled [B, C, F, H, W].
        at_work: the most latent frames of a call with the cache.
    """
    device = latents.device
    if fits_beside(guider, need, latents, at_work):
        return device
    cpu, kept = torch.device("cpu"), need.kept * need.devices
    elsewhere = hasattr(guider.inner_model.diffusion_model, "room")  # what computes elsewhere keeps its cache there
    if device != cpu and not elsewhere and spare_memory(cpu) > 2 * kept:
        logging.info("SkyReels-V2: the cache of finished blocks (%.1f GB) is kept in main memory.", kept / 1e9)
        return cpu
    return None


def fits_beside(guider: Any, need: CacheNeed, latents: torch.Tensor, at_work: int) -> bool:
    """Say whether every device that computes has room for its part of a cache beside a model call; see `free_place`."""
    beside = call_bytes(guider.inner_model, latents.shape, at_work, need)
    transformer = guider.inner_model.diffusion_model
    if hasattr(transformer, "room"):
        return bool(transformer.room() > need.kept + beside)
    others = [copied.load_device for copied in patchers_of(guider.model_patcher)[1:]]
    return all(spare_memory(each) > need.kept + beside for each in (latents.device, *others))


def kept_on(place: torch.device, latents: torch.Tensor) -> torch.device | None:
    """Return the one device that keeps all of a cache at `place`; None where each device keeps what it has computed."""
    return None if place == latents.device else place
