"""One diffusion-forcing run from MODEL, CONDITIONING and LATENT to LATENT, with core's guider, noise and previews."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import comfy.sample
import latent_preview
import torch

from ...sampling.run import ForcingOptions, plan_run
from ...words import words
from ..host_flags import handed_on
from ..model.checks import check_latent, check_model, known_of, mask_of, model_geometry, refuse_image_to_video
from .conditioning import check_conditioning
from .guided import Guidance
from .memory_estimate import with_estimate
from .padding import check_timeless
from .sampler import DiffusionForcingSampler, MainMemory


def generate(
    guidance: Guidance, latent: dict[str, Any], seed: int, sigmas: torch.Tensor, options: ForcingOptions
) -> dict[str, Any]:
    """Denoise a LATENT with diffusion forcing.

    Args:
        guidance: model, prompts and guidance scale.
        latent: samples [B, 16, F, H / 8, W / 8] and, for known frames, a noise_mask that is 0 over them.
        seed: seed of all noise of the run.
        sigmas: the noise schedule [steps + 1], falling to 0.
        options: the diffusion-forcing settings.

    Returns:
        LATENT with the finished samples; its noise_mask is dropped, since no frame is left to be made.

    Raises:
        InputError: inputs that do not go together, before any work starts.
    """
    model = guidance.model
    check_model(model.model, options.causal_attention)
    samples = check_latent(latent, model_geometry(model.model)).float()  # half precision with --fp16-intermediates
    frames, rows, columns = samples.shape[2:]
    mask = mask_of(latent, frames)
    size = (frames, rows, columns)
    check_conditioning(model.model, guidance.positive, "positive", size)
    check_conditioning(model.model, guidance.negative or [], "negative", size)

    sampler = DiffusionForcingSampler(options)
    noise = comfy.sample.prepare_noise(samples, seed, latent.get("batch_index"))
    given: dict[str, Any] = {"latent": samples, "denoise_mask": mask}
    if options.window(frames):
        reason = words(
            "whose image belongs to a whole clip, but window_frames shows it {window} of {frames} latent frames: set "
            "window_frames to 0, or load a SkyReels-V2-DF model",
            window=options.window_frames,
            frames=frames,
        )
        refuse_image_to_video(model.model, reason)
        guidance = replace(guidance, model=with_estimate(model))
        check_timeless({"positive": guidance.positive, "negative": guidance.negative or []}, size)
        run = plan_run(options, sigmas, frames, known_of({**latent, "samples": samples}))
        if run.rows:
            held = MainMemory(run, noise, samples)
            sampler, noise, given = DiffusionForcingSampler(options, held=held), held.window, {}
    callback = latent_preview.prepare_callback(model, len(sigmas) - 1)
    made = guidance.run(sampler, noise, sigmas, seed, callback=callback, **given)
    out = {name: value for name, value in latent.items() if name not in ("noise_mask", "downscale_ratio_spacial")}
    out["samples"] = handed_on(made)
    return out
