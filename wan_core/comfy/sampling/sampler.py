"""Diffusion forcing as a ComfyUI SAMPLER: any guider, any Wan 2.1 MODEL, one noise level per latent frame.

The loop is `wan_core.sampling.loop.sample`; here it meets the host: conditioning, callback,
preview, noise mask, padding.
"""

from __future__ import annotations

from typing import Any

import comfy.conds
import comfy.samplers
import torch
from tqdm.auto import tqdm

from ...errors import InputError
from ...sampling.forcing import ForcingSchedule
from ...sampling.loop import PinnedFrames, Row, sample
from ...sampling.noise import fresh_noise, seeded_noise
from ...sampling.run_plan import ForcingOptions, RunPlan, plan_run
from ...sampling.sigmas import FULL_NOISE, row_sigmas
from ...words import words
from ..model.checks import check_model
from ..model.origin import check_forcing
from ..model.transformer import CAUSAL_BLOCK_SIZE, FORCING_ROW
from .causal_cache import HostCausalRun, causal_cache
from .cfg_range import FRAME_PROGRESS
from .conditioning import refuse_beside_the_clip, refuse_block_patches, refuse_unread_conditions
from .frame_noise import add_frame_noise, set_frame_sigmas
from .memory_ladder import MemoryLadder


class DiffusionForcingSampler(comfy.samplers.Sampler):
    """A SAMPLER for SamplerCustomAdvanced and for this pack's own sampler nodes.

    Args:
        options: the diffusion-forcing settings.
        condition_noise: noise on known frames [B, C, F, H, W]; None draws it from the run's seed.
        first_frame: latent frame of the video that the clip begins with, where it is a part of a longer one.
    """

    def __init__(self, options: ForcingOptions, condition_noise: torch.Tensor | None = None, first_frame: int = 0):
        self.options = options
        self.condition_noise = condition_noise
        self.first_frame = first_frame

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
            InputError: the model is no Wan 2.1 model, the mask splits a frame, the sigmas do not end at 0, the model
                has image channels and the window moves.
            ScheduleError: steps, frames, block size and window that do not go together.
        """
        options = self.options
        check_model(guider.inner_model, options.causal_attention)
        frames, seed = noise.shape[2], extra_args.get("seed") or 0
        if latent_image is None:
            latent_image = torch.zeros_like(noise)
        plan = plan_run(options, frames, sigmas, denoise_mask)
        if plan is None:
            return latent_image
        known, schedule = plan.known, plan.schedule
        refuse_without_forcing(guider.model_patcher, options, plan)
        padded = schedule.num_frames
        refuse_unread_conditions(guider)
        refuse_apart(guider.conds, extra_args["model_options"], options, plan)
        noise = pad_noise(noise, padded, seed)
        latent_image = pad_frames(latent_image, padded)
        pad_conditions(guider.conds, frames, padded)
        if plan.moves:
            check_movable(guider.conds, frames, padded)

        pinned = None
        if known.any():
            condition_noise = self.condition_noise
            if condition_noise is None:
                condition_noise = seeded_noise(tuple(noise.shape), seed, "condition")
            pinned = PinnedFrames(latent_image, known, options.addnoise_condition / 1000, condition_noise.to(noise))
        run = GuiderRun(guider, extra_args, options, schedule, sigmas, known)
        model_options = extra_args["model_options"]
        add_frame_noise(model_options)
        with (
            causal_cache(guider, model_options, plan, options.cached_block_size, noise) as run.cache,
            tqdm(total=schedule.num_rows, disable=disable_pbar) as bar,
        ):
            run.ladder = MemoryLadder(guider, model_options, run.cache, noise[:, :, : plan.seen])

            def report(row: Row, x0: torch.Tensor, x: torch.Tensor) -> None:
                bar.update()
                if callback is not None:
                    callback(row.index, run.preview(row, x0)[:, :, :frames], x[:, :, :frames], row.num_rows)

            x = start(noise, latent_image, sigmas)
            fresh = None
            if options.solver == "lcm":
                fresh = fresh_noise(tuple(noise.shape), seed, len(sigmas) - 1, self.first_frame)
            x = sample(run.denoise, x, sigmas, schedule, options.solver, pinned, report, fresh)
        return x[:, :, :frames]


def refuse_without_forcing(patcher: Any, options: ForcingOptions, plan: RunPlan) -> None:
    """Refuse a MODEL known to have learned one noise level for a whole clip where this run has several."""
    needs = (
        (plan.moves, words("a moving window (window_frames)")),
        (options.ar_step > 0, words("async sampling (ar_step above 0)")),
        (options.causal_attention, words("causal attention")),
        (bool(plan.known.any()), words("a latent with known frames (start, end or key images)")),
    )
    for asked, need in needs:
        if asked:
            check_forcing(patcher, need)


def refuse_apart(conds: dict[str, Any], model_options: dict[str, Any], options: ForcingOptions, plan: RunPlan) -> None:
    """Refuse what looks at the clip as a whole where a run takes it apart; `Raises: InputError`."""
    reason = None
    if plan.moves:
        reason = words("a moving window shows it a part of the clip: set window_frames to 0, or remove the node")
    elif not plan.in_step:
        reason = words("here each frame has its own: set ar_step to 0 and connect no known frames, or remove the node")
    if reason is not None:
        refuse_block_patches(model_options.get("transformer_options", {}), reason)
    elif options.causal_attention:
        reason = words("causal attention would hide it from the frames: turn causal_attention off, or remove the node")
    if reason is not None:
        refuse_beside_the_clip(conds, reason)


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
        self.ladder: MemoryLadder | None = None
        busy = schedule.update_mask & ~known
        self.first_changed = torch.argmax(busy.int(), dim=1).tolist()
        self.progress = frame_progress(schedule, busy)
        transformer_options = extra_args["model_options"].setdefault("transformer_options", {})
        # neighbours look their progress up in this list: it has to hold the sigmas that they will be called with
        rows = row_sigmas(sigmas, schedule.step_index, known)
        transformer_options["sample_sigmas"] = torch.cat((rows, rows.new_zeros(1))).to(sigmas)
        if options.causal_attention:
            transformer_options[CAUSAL_BLOCK_SIZE] = options.causal_block_size
        set_fps(guider.conds, options.fps)

    def preview(self, row: Row, x0: torch.Tensor) -> torch.Tensor:
        """Return the clip with the first frame that this row changed in front: previews show the first one only.

        The last row gives the clip in its own order, since core keeps it as the denoised output.
        """
        last = row.index == row.num_rows - 1
        return x0 if last else torch.roll(x0, -self.first_changed[row.index], dims=2)

    def denoise(self, x: torch.Tensor, frame_sigmas: torch.Tensor, row: Row) -> torch.Tensor:
        """Return x0 [B, C, F, H, W] from the guider for one row of the schedule."""
        set_frame_sigmas(self.guider.conds, frame_sigmas, x)
        self.extra_args["model_options"]["transformer_options"][FORCING_ROW] = row
        if self.cache is not None:
            self.cache.row = row
        self.extra_args["model_options"][FRAME_PROGRESS] = self.progress[row.index][row.start : row.end]
        sigma = x.new_full((x.shape[0],), row.sigma)
        assert self.ladder is not None, "made when the run begins"
        where = words("model call {call} of {calls}", call=row.index + 1, calls=row.num_rows)
        return self.ladder.call(lambda: self.guider(x, sigma, **self.extra_args), where)


def frame_progress(schedule: ForcingSchedule, busy: torch.Tensor) -> list[list[float | None]]:
    """Return for every row and frame the share of the frame's steps that are done; None where the row leaves it."""
    return [
        [(step - 1) / schedule.steps if works else None for step, works in zip(steps, row, strict=True)]
        for steps, row in zip(schedule.step_index.tolist(), busy.tolist(), strict=True)
    ]


def set_fps(conds: dict[str, list[dict[str, Any]] | None], fps: int) -> None:
    """Put the frame rate into every condition of a guider, in place."""
    rate = comfy.conds.CONDRegular(torch.tensor([fps], dtype=torch.long))
    for conditions in conds.values():
        for condition in conditions or ():
            condition["model_conds"] = {**condition["model_conds"], "fps": rate}


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
            for name, tensor in of_every_frame(condition["model_conds"], have):
                condition["model_conds"][name] = type(condition["model_conds"][name])(pad_frames(tensor, frames))


def check_movable(conds: dict[str, list[dict[str, Any]] | None], frames: int, padded: int) -> None:
    """Refuse conditions that say something of every frame of a clip where the model sees a part of it.

    Args:
        conds: a guider's conditions, processed.
        frames: latent frames of the clip.
        padded: the same in whole blocks.

    Raises:
        InputError: channels for every frame, an area that is a part of the clip's time, or a mask for every frame.
    """
    for conditions in conds.values():
        for condition in conditions or ():
            area: tuple[Any, ...] = tuple(condition.get("area") or ())
            mask = condition.get("mask")
            held: list[Any] = [name for name, _ in of_every_frame(condition["model_conds"], padded)]
            if len(area) == 6 and (area[3] > 0 or area[0] < frames):  # frames, height, width; where each begins
                held.append(words("an area in time"))
            if mask is not None and mask.ndim == 4 and mask.shape[1] > 1:
                held.append(words("a mask for every frame"))
            if held:
                raise InputError(
                    "The conditioning holds {what} for a clip of {frames} latent frames, but a moving window shows "
                    "the model only a part of them: set window_frames to 0, or remove the node that adds it.",
                    what=held[0],
                    frames=frames,
                )


def of_every_frame(model_conds: dict[str, Any], frames: int) -> list[tuple[str, torch.Tensor]]:
    """Return the conditions [B, C, F, H, W] that belong to every latent frame of a clip, by name."""
    tensors = {name: getattr(value, "cond", None) for name, value in model_conds.items()}
    return [
        (name, tensor)
        for name, tensor in tensors.items()
        if isinstance(tensor, torch.Tensor) and tensor.ndim == 5 and tensor.shape[2] == frames
    ]
