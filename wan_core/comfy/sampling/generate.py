"""One diffusion-forcing run from MODEL, CONDITIONING and LATENT to LATENT, with core's guider, noise and previews."""

from __future__ import annotations

from typing import Any

import comfy.sample
import comfy.samplers
import comfy.utils
import latent_preview

from ...sampling.run_plan import ForcingOptions
from ...sampling.sigmas import flow_sigmas
from ...words import words
from ..host_flags import handed_on
from ..model.checks import check_latent, check_model, refuse_image_to_video
from .conditioning import check_conditioning
from .memory_estimate import with_estimate
from .sampler import DiffusionForcingSampler


def generate(
    model: Any,
    positive: list[Any],
    negative: list[Any],
    latent: dict[str, Any],
    seed: int,
    steps: int,
    cfg: float,
    shift: float,
    options: ForcingOptions,
) -> dict[str, Any]:
    """Denoise a LATENT with diffusion forcing.

    Args:
        model: a MODEL (ModelPatcher) of Wan 2.1 kind.
        positive: CONDITIONING of the prompt.
        negative: CONDITIONING of the negative prompt; not computed at cfg 1.
        latent: samples [B, 16, F, H / 8, W / 8] and, for known frames, a noise_mask that is 0 over them.
        seed: seed of all noise of the run.
        steps: denoising steps of a frame.
        cfg: guidance scale.
        shift: shift of the noise schedule, 1 = none.
        options: the diffusion-forcing settings.

    Returns:
        LATENT with the finished samples; its noise_mask is dropped, since no frame is left to be made.

    Raises:
        InputError: inputs that do not go together, before any work starts.
    """
    samples = check_latent(latent).float()  # with --fp16-intermediates they come in half precision
    check_model(model.model, options.causal_attention)
    frames, rows, columns = samples.shape[2:]
    size = (frames, rows, columns)
    check_conditioning(model.model, positive, "positive", size)
    check_conditioning(model.model, negative, "negative", size)

    if options.window(frames):
        reason = words(
            "whose image belongs to a whole clip, but window_frames shows it {window} of {frames} latent frames: set "
            "window_frames to 0, or load a SkyReels-V2-DF model",
            window=options.window_frames,
            frames=frames,
        )
        refuse_image_to_video(model.model, reason)
        model = with_estimate(model)

    sigmas = flow_sigmas(steps, shift)
    noise = comfy.sample.prepare_noise(samples, seed, latent.get("batch_index"))
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(positive, negative)
    guider.set_cfg(cfg)
    made = guider.sample(
        noise,
        samples,
        DiffusionForcingSampler(options),
        sigmas,
        denoise_mask=latent.get("noise_mask"),
        callback=latent_preview.prepare_callback(model, steps),
        disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
        seed=seed,
    )
    out = {name: value for name, value in latent.items() if name not in ("noise_mask", "downscale_ratio_spacial")}
    out["samples"] = handed_on(made)
    return out
