"""Diffusion forcing as a ComfyUI SAMPLER: any guider, any Wan 2.1 MODEL, one noise level per latent frame.

The loop is `wan_core.sampler.sample`; here it meets the host: conditioning, callback and preview, noise mask, padding.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import comfy.conds
import comfy.samplers
import torch
from tqdm.auto import tqdm

from ..errors import InputError
from ..forcing import ForcingSchedule, forcing_schedule, padded_frames
from ..noise import seeded_noise
from ..sampler import PinnedFrames, Row, leading_pinned, sample
from ..sampling import FULL_NOISE, row_sigmas
from .causal_cache import HostCausalRun, causal_cache
from .checks import check_model
from .frame_noise import frame_noise, set_frame_sigmas
from .transformer import CAUSAL_BLOCK_SIZE


@dataclass(frozen=True)
class ForcingOptions:
    """What a person chooses for diffusion forcing beside steps, shift and guidance.

    Attributes:
        solver: a name in SOLVERS.
        fps: frames per second the model is told.
        ar_step: steps a block lags behind the one before it; 0 denoises all frames together.
        causal_block_size: latent frames of a block.
        causal_attention: whether a block sees only itself and those before it.
        addnoise_condition: noise on known frames, in timesteps 0..1000.
    """

    solver: str = "unipc"
    fps: int = 24
    ar_step: int = 0
    causal_block_size: int = 1
    causal_attention: bool = False
    addnoise_condition: int = 20

    @property
    def needs_whole_blocks(self) -> bool:
        """Whether the number of latent frames has to be a multiple of the block size."""
        return self.causal_block_size > 1 and (self.ar_step > 0 or self.causal_attention)


class DiffusionForcingSampler(comfy.samplers.Sampler):
    """A SAMPLER for SamplerCustomAdvanced and for this pack's own sampler nodes.

    Args:
        options: the diffusion-forcing settings.
        condition_noise: noise on known frames [B, C, F, H, W]; None draws it from the run's seed.
    """

    def __init__(self, options: ForcingOptions, condition_noise: torch.Tensor | None = None):
        self.options = options
        self.condition_noise = condition_noise

    def sample(
        self,
        guider: Any,
        sigmas: torch.Tensor,
        extra_args: dict[str, Any],
        callback: Any,
        noise: torch.Tensor,
        latent_image: torch.Tensor | None = None,
        denoise_mask: torch.Tensor | None = None,
        disable_pbar: bool = False,
    ) -> torch.Tensor:
        """Denoise a latent video; called by core's guider.

        Args:
            guider: a CFGGuider or one derived from it, with the model loaded and its conds processed.
            sigmas: [steps + 1], falling to 0.
            extra_args: model_options and seed of this run.
            callback: core's (step, x0, x, total steps), or None.
            noise: unit normal [B, C, F, H, W].
            latent_image: known latents in model space; frames that are not masked as known only count below full noise.
            denoise_mask: [B, C, F, H, W], 0 = known frame, 1 = to be made; the same over a whole frame.
            disable_pbar: no progress bar on the console.

        Returns:
            Latent video in model space [B, C, F, H, W].

        Raises:
            InputError: the model is no Wan 2.1 model, the mask splits a frame, the sigmas do not end at 0.
        """
        options = self.options
        check_model(guider.inner_model, options.causal_attention)
        check_sigmas(sigmas)
        frames = noise.shape[2]
        known = known_frames(denoise_mask, frames)
        if latent_image is None:
            latent_image = torch.zeros_like(noise)
        if all(known.tolist()):
            return latent_image
        seed = extra_args.get("seed") or 0

        padded = padded_frames(frames, options.causal_block_size) if options.needs_whole_blocks else frames
        noise = pad_noise(noise, padded, seed)
        latent_image = pad_frames(latent_image, padded)
        known = torch.cat((known, known.new_zeros(padded - frames)))
        pad_conditions(guider.conds, frames, padded)

        steps, block = len(sigmas) - 1, options.causal_block_size
        schedule = forcing_schedule(padded, steps, options.ar_step, block, leading_pinned(known))
        schedule = schedule.without_idle_rows(known)
        pinned = None
        if known.any():
            condition_noise = self.condition_noise
            if condition_noise is None:
                condition_noise = seeded_noise(tuple(noise.shape), seed, "condition")
            pinned = PinnedFrames(latent_image, known, options.addnoise_condition / 1000, condition_noise.to(noise))
        run = GuiderRun(guider, extra_args, options, schedule, sigmas, known)
        block_size = block if options.causal_attention else 0
        with (
            frame_noise(guider.inner_model, extra_args["model_options"]),
            causal_cache(guider, extra_args["model_options"], schedule, known, block_size, noise) as run.cache,
            tqdm(total=schedule.num_rows, disable=disable_pbar) as bar,
        ):

            def report(row: Row, x0: torch.Tensor, x: torch.Tensor) -> None:
                bar.update()
                if callback is not None:
                    callback(row.index, run.preview(row, x0)[:, :, :frames], x[:, :, :frames], row.num_rows)

            x = start(noise, latent_image, sigmas)
            x = sample(run.denoise, x, sigmas, schedule, options.solver, pinned, report)
        return x[:, :, :frames]


class GuiderRun:
    """One sampling run through a guider: what its conditions carry, and a row of the schedule as a call of it."""

    def __init__(
        self,
        guider: Any,
        extra_args: dict[str, Any],
        options: ForcingOptions,
        schedule: ForcingSchedule,
        sigmas: torch.Tensor,
        known: torch.Tensor,
    ):
        self.guider = guider
        self.extra_args = extra_args
        self.cache: HostCausalRun | None = None
        self.first_changed = torch.argmax((schedule.update_mask & ~known).int(), dim=1).tolist()
        transformer_options = extra_args["model_options"].setdefault("transformer_options", {})
        # neighbours look their progress up in this list: it has to hold the sigmas that they will be called with
        rows = row_sigmas(sigmas, schedule.step_index, known)
        transformer_options["sample_sigmas"] = torch.cat((rows, rows.new_zeros(1))).to(sigmas)
        if options.causal_attention:
            transformer_options[CAUSAL_BLOCK_SIZE] = options.causal_block_size
        fps = comfy.conds.CONDRegular(torch.tensor([options.fps], dtype=torch.long))
        for conditions in guider.conds.values():
            for condition in conditions or ():
                condition["model_conds"] = {**condition["model_conds"], "fps": fps}

    def preview(self, row: Row, x0: torch.Tensor) -> torch.Tensor:
        """Return the clip with the first frame that this row changed in front: previews show the first one only.

        The last row gives the clip in its own order, since core keeps it as the denoised output.
        """
        last = row.index == row.num_rows - 1
        return x0 if last else torch.roll(x0, -self.first_changed[row.index], dims=2)

    def denoise(self, x: torch.Tensor, frame_sigmas: torch.Tensor, row: Row) -> torch.Tensor:
        """Return x0 [B, C, F, H, W] from the guider for one row of the schedule."""
        set_frame_sigmas(self.guider.conds, frame_sigmas, x)
        if self.cache is not None:
            self.cache.row = row
        sigma = x.new_full((x.shape[0],), row.sigma)
        return self.guider(x, sigma, **self.extra_args)


def check_sigmas(sigmas: torch.Tensor) -> None:
    """Refuse sigmas that diffusion forcing cannot follow; `Raises: InputError`."""
    values = sigmas.tolist()
    if values[-1] != 0:
        raise InputError(
            f"The sigmas end at {values[-1]:.4f}, but diffusion forcing has to end at 0: connect the whole schedule, "
            "not the first part of a split one."
        )
    if any(later >= earlier for earlier, later in pairwise(values)):
        raise InputError("The sigmas do not fall from step to step: connect a scheduler's sigmas unchanged.")


def known_frames(denoise_mask: torch.Tensor | None, frames: int) -> torch.Tensor:
    """Return which latent frames are known, bool [F]; `Raises: InputError` for a mask that splits a frame."""
    if denoise_mask is None:
        return torch.zeros(frames, dtype=torch.bool)
    mask = denoise_mask.movedim(2, 0).flatten(1).cpu()  # [F, everything else]
    low, high = mask.amin(dim=1), mask.amax(dim=1)
    mixed = torch.nonzero((low > 0.5) != (high > 0.5)).flatten().tolist()
    if mixed:
        raise InputError(
            f"The noise mask splits latent frame {mixed[0]}, but diffusion forcing keeps or makes whole frames: "
            "set the mask of each frame to 0 (known) or 1 everywhere."
        )
    return high <= 0.5


def start(noise: torch.Tensor, latent_image: torch.Tensor, sigmas: torch.Tensor) -> torch.Tensor:
    """Return the latents of the first row: pure noise, or below full noise a mixture with the given video."""
    sigma = float(sigmas[0])
    return noise if sigma >= FULL_NOISE else sigma * noise + (1 - sigma) * latent_image


def pad_frames(latents: torch.Tensor, frames: int) -> torch.Tensor:
    """Repeat the last latent frame of [B, C, F, H, W] until there are `frames`."""
    missing = frames - latents.shape[2]
    return torch.cat((latents, latents[:, :, -1:].expand(-1, -1, missing, -1, -1)), dim=2) if missing else latents


def pad_noise(noise: torch.Tensor, frames: int, seed: int) -> torch.Tensor:
    """Add seeded noise behind [B, C, F, H, W] until there are `frames`."""
    batch, channels, have, height, width = noise.shape
    if have == frames:
        return noise
    extra = seeded_noise((batch, channels, frames - have, height, width), seed, "padding")
    return torch.cat((noise, extra.to(noise)), dim=2)


def pad_conditions(conds: dict[str, list[dict[str, Any]] | None], have: int, frames: int) -> None:
    """Bring conditions with latent frames of their own (image-to-video channels) to the padded number of frames."""
    if have == frames:
        return
    for conditions in conds.values():
        for condition in conditions or ():
            for name, value in condition["model_conds"].items():
                tensor = getattr(value, "cond", None)
                if isinstance(tensor, torch.Tensor) and tensor.ndim == 5 and tensor.shape[2] == have:
                    condition["model_conds"][name] = type(value)(pad_frames(tensor, frames))
