"""The step cache as a patch of a MODEL: any guider, any sampler, this pack's transformer or core's Wan 2.1.

An OUTER_SAMPLE wrapper gives every sampling run a cache of its own and frees it, a DIFFUSION_MODEL wrapper asks it for
each call. The diffusion-forcing sampler says where every frame stands; other samplers move the whole clip at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import comfy.model_patcher
import comfy.patcher_extension
import torch

from ...sampling.run import Row
from ...sampling.sigmas import TRAIN_STEPS
from ...sampling.step_cache import StepCache
from ..model.checks import check_model
from ..model.transformer import CACHED_CALLS, FORCING_ROW, WANTED_FRAMES
from ..node_text import tell

WRAPPER_KEY = "skyreels_v2_step_cache"
STEP_CACHE = "skyreels_step_cache"  # the key in a run's transformer_options
THRESHOLD = "skyreels_step_cache_threshold"  # the key in a MODEL's, where the identity of a long video's job sees it
OPTIONS_ARGUMENT = 5  # of a Wan transformer: x, timestep, context, clip_fea, time_dim_concat, transformer_options


def step_cached(model: Any, threshold: float) -> Any:
    """Return a MODEL whose sampling runs leave out model calls.

    Args:
        model: a MODEL of Wan 2.1 kind; not changed.
        threshold: see `wan_core.sampling.step_cache.StepCache`.

    Raises:
        InputError: another kind of model, or a threshold below 0.
    """
    check_model(model.model, causal_attention=False)
    StepCache(threshold)  # refuses it now, not when sampling begins
    model = model.clone()
    model.model_options.setdefault("transformer_options", {})[THRESHOLD] = threshold
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
        with StepCache(options[THRESHOLD]) as cache:
            options[STEP_CACHE] = cache
            made = executor(*args, **kwargs)
        tell("step cache", cache.report.sentence())
        return made
    finally:
        guider.model_options = model_options


def reuse_steps(executor: Callable[..., torch.Tensor], *args: Any, **kwargs: Any) -> torch.Tensor:
    """Call the transformer for what is due, and forecast the rest; a DIFFUSION_MODEL wrapper."""
    x, options = args[0], args[OPTIONS_ARGUMENT]
    cache, keys = options.get(STEP_CACHE), options.get("uuids")
    row = None if cache is None else row_of(x, options)
    # with context windows a condition comes many times in a row, each time with other frames
    if not keys or row is None or x.shape[0] % len(keys) or options.get("context_window") is not None:
        return executor(*args, **kwargs)

    def compute(end: int) -> torch.Tensor:
        try:
            options[WANTED_FRAMES] = end
            return executor(*args, **kwargs)
        finally:
            del options[WANTED_FRAMES]

    causal = FORCING_ROW in options and CACHED_CALLS in options
    return cache(compute, keys, row, causal).to(x.device)  # a forecast lies where its condition was computed last


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
