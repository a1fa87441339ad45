"""The step cache as a patch of a MODEL: any guider, any sampler, this pack's transformer or core's Wan 2.1.

Block by block it works with the diffusion-forcing sampler on this pack's transformer; elsewhere by whole calls.

An OUTER_SAMPLE wrapper gives every sampling run a cache of its own and frees it, a DIFFUSION_MODEL wrapper asks it for
each call. The diffusion-forcing sampler says where every frame stands; other samplers move the whole clip at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import comfy.model_patcher
import comfy.patcher_extension
import torch

from ...sampling.reuse import BY_THRESHOLD, distance_for
from ...sampling.run import Row
from ...sampling.sigmas import TRAIN_STEPS
from ...sampling.step_cache import StepCache
from ..model.checks import check_model
from ..model.transformer import CACHED_CALLS, CAUSAL_BLOCK_SIZE, FORCING_ROW, SOME_FRAMES, WANTED_FRAMES
from ..node_text import tell

WRAPPER_KEY = "skyreels_v2_step_cache"
STEP_CACHE = "skyreels_step_cache"  # the key in a run's transformer_options
APART = "skyreels_step_cache_apart"  # whether a run has room for the keys and values of all its frames
DISTANCE = "skyreels_step_cache_distance"  # the key in a MODEL's, where the identity of a long video's job sees it
OPTIONS_ARGUMENT = 5  # of a Wan transformer: x, timestep, context, clip_fea, time_dim_concat, transformer_options


def step_cached(model: Any, threshold: float, preset: str = BY_THRESHOLD) -> Any:
    """Return a MODEL whose sampling runs leave out what can be forecast.

    Args:
        model: a MODEL of Wan 2.1 kind; not changed.
        threshold: see `wan_core.sampling.reuse.distance_of`; 0 computes all.
        preset: one of `wan_core.sampling.reuse.PRESETS`; all but the first take the place of the threshold.

    Raises:
        InputError: another kind of model, a preset that there is not, or a threshold below 0.
    """
    check_model(model.model, causal_attention=False)
    distance = distance_for(preset, threshold)
    model = model.clone()
    model.model_options.setdefault("transformer_options", {})[DISTANCE] = distance
    kinds = comfy.patcher_extension.WrappersMP
    for kind, wrapper in ((kinds.OUTER_SAMPLE, one_run), (kinds.DIFFUSION_MODEL, reuse_steps)):
        model.remove_wrappers_with_key(kind, WRAPPER_KEY)  # of a step cache node before this one
        model.add_wrapper_with_key(kind, WRAPPER_KEY, wrapper)
    return model


def one_run(executor: Any, *args: Any, **kwargs: Any) -> Any:
    """Sample with a cache that lives as long as the run, and say what it left out; an OUTER_SAMPLE wrapper."""
    guider = executor.class_obj
    model_options = guider.model_options
    guider.model_options = comfy.model_patcher.create_model_options_clone(model_options)
    try:
        options = guider.model_options["transformer_options"]
        with StepCache(options[DISTANCE]) as cache:
            options[STEP_CACHE] = cache
            made = executor(*args, **kwargs)
        tell("step cache", cache.report.sentence())
        return made
    finally:
        guider.model_options = model_options


def reuse_steps(executor: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
    """Call the transformer for what is due, and forecast the rest; a DIFFUSION_MODEL wrapper."""
    x, options = args[0], args[OPTIONS_ARGUMENT]
    cache, keys = options.get(STEP_CACHE), options.get("uuids")
    row = None if cache is None else row_of(x, options)
    # with context windows a condition comes many times in a row, each time with other frames
    if not keys or row is None or x.shape[0] % len(keys) or options.get("context_window") is not None:
        return executor(*args, **kwargs)

    apart = bool(options.get(APART)) and args[1].ndim == 2

    def compute(wanted: Sequence[Sequence[int]]) -> torch.Tensor:
        told: tuple[str, Any] = WANTED_FRAMES, len(wanted[0])
        if apart:
            num_layers = len(executor.class_obj.blocks)
            told = SOME_FRAMES, cache.some_frames(keys, wanted, num_layers, x.shape[2])
        try:
            options[told[0]] = told[1]
            return executor(*args, **kwargs)
        finally:
            del options[told[0]]

    causal = FORCING_ROW in options and (CACHED_CALLS in options or (apart and bool(options.get(CAUSAL_BLOCK_SIZE))))
    return cache(compute, keys, row, causal, apart).to(x.device)  # a forecast lies where it was computed last


def row_of(x: torch.Tensor, options: dict[str, Any]) -> Row | None:
    """Say where the frames of a call [B, C, F, H, W] stand; None where that cannot be known."""
    frames = x.shape[2]
    row: Row | None = options.get(FORCING_ROW)
    if row is not None:
        return row if len(row.sigmas) == frames else None
    if CACHED_CALLS in options:  # of a rolling sampler, whose next call may be about other frames
        return None
    sigmas = options.get("sample_sigmas")
    if sigmas is None or len(sigmas) < 2:
        return None
    sigma, num_steps = float(options["sigmas"][0]), len(sigmas) - 1
    step = min(int((sigmas > sigma + 0.5 / TRAIN_STEPS).sum()), num_steps - 1)
    return Row(0, frames, (sigma,) * frames, (step,) * frames, num_steps)
