"""Diffusion forcing as a ComfyUI SAMPLER: any guider, any Wan 2.1 MODEL, one noise level per latent frame.

The loop is `wan_core.sampling.loop.sample`; here it meets the host: conditioning, callback,
preview, noise mask, padding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import comfy.samplers
import torch

from ...sampling.known import KnownFrames, known_mask
from ...sampling.loop import Denoise, sample
from ...sampling.noise import fresh_noise, seeded_noise
from ...sampling.run import ForcingOptions, Row, Run, plan_run
from ...sampling.sigmas import FULL_NOISE
from ...sampling.solvers import adds_noise
from ...words import Words, words
from ..harmless import Progress
from ..model.checks import check_model
from ..model.origin import check_forcing
from ..model.transformer import CAUSAL_BLOCK_SIZE, FORCING_ROW
from .causal_cache import causal_cache, let_frames_apart
from .conditioning import refuse_beside_the_clip, refuse_block_patches, refuse_unread_conditions
from .frame_noise import add_frame_noise
from .guided import GuidedCalls, in_use, set_fps
from .padding import check_movable, pad_conditions, pad_frames, pad_noise
from .prompt_frames import of_frames

PLANNED_RUN = "skyreels_planned_run"  # key in a run's model_options: who plans it first leaves it there


@dataclass(frozen=True)
class Stretch:
    """A part of a longer run.

    Attributes:
        run: its rows, and all latent frames that these see.
        weights: number of the prompt -> how much it counts in every frame [F]; see `prompt_frames`.
        fresh: what the solver adds between its steps [steps - 1, B, C, F, H, W], or None.
        begun: what the part before left of the first f frames [4, B, C, f, H, W], in the model's space, or None.
    """

    run: Run
    weights: Mapping[int, torch.Tensor]
    fresh: torch.Tensor | None = None
    begun: torch.Tensor | None = None


@dataclass(frozen=True)
class MainMemory:
    """A clip that stays in main memory while its window moves: the guider is given latents of one window.

    Attributes:
        run: of the whole clip.
        noise: unit normal [B, C, F, H, W] on the CPU.
        latents: what the clip is given, as the VAE gives it [B, C, F, H, W], on the CPU.
    """

    run: Run
    noise: torch.Tensor
    latents: torch.Tensor

    @property
    def window(self) -> torch.Tensor:
        """What the guider is given [B, C, f, H, W]: latents of as many frames as a call sees."""
        batch, channels, _, height, width = self.noise.shape
        return torch.zeros(batch, channels, self.run.seen, height, width)


class DiffusionForcingSampler(comfy.samplers.Sampler):
    """A SAMPLER for SamplerCustomAdvanced and for this pack's own sampler nodes.

    Args:
        options: the diffusion-forcing settings.
        known: known frames as the VAE gives them, in place of the host's mask and latent; None reads these.
        first_frame: latent frame of the video that the clip begins with, where it is a part of a longer one.
        part: names that part for a person, such as "segment 2 of 5".
        stretch: what the run is a part of, where it does not begin with noise and end with finished frames.
        held: the clip, where the guider is given its window only.

    Attributes:
        left: after a stretch, what is left of its frames for the next one [4, B, C, F, H, W], on the CPU.
    """

    def __init__(
        self,
        options: ForcingOptions,
        known: KnownFrames | None = None,
        first_frame: int = 0,
        part: Words | None = None,
        stretch: Stretch | None = None,
        held: MainMemory | None = None,
    ):
        self.stretch, self.left, self.held = stretch, torch.zeros(0), held
        self.options = options
        self.known = known
        self.first_frame = first_frame
        self.part = part

    def plan(
        self, model_options: dict[str, Any], frames: int, sigmas: torch.Tensor, denoise_mask: torch.Tensor | None
    ) -> Run:
        """Return the run, planned by whoever asks first: the memory estimate, or the sampler itself.

        Raises:
            InputError: the mask splits a frame, the sigmas do not end at 0.
            ScheduleError: steps, frames, block size and window that do not go together.
        """
        described = self.stretch or self.held
        if described is not None:
            return described.run
        known = known_mask(denoise_mask, frames) if self.known is None else self.known.mask
        planned: Run | None = model_options.get(PLANNED_RUN)
        if planned is None or not planned.describes(self.options, sigmas, known):
            planned = plan_run(self.options, sigmas, frames, known)
            model_options[PLANNED_RUN] = planned
        return planned

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
        """Denoise a latent video; core's guider calls it with the arguments of `comfy.samplers.Sampler`.

        All of them are [B, C, F, H, W] in model space; the mask is 0 over known frames and 1 over those to be made, the
        same over a whole frame. Unmasked frames of `latent_image` count only below full noise.

        A clip in main memory is read in place of noise and latent image, which then only give its size and device.

        Returns:
            Latent video in model space [B, C, F, H, W], on the CPU where a window moved along it.

        Raises:
            InputError: the model is no Wan 2.1 model, the model has image channels and the window moves; see `plan`.
            ScheduleError: see `plan`.
            NotFiniteError: the model's answer is NaN or infinite; says from which call on.
        """
        options, model_options = self.options, extra_args["model_options"]
        check_model(guider.inner_model, options.causal_attention)
        device, seed = noise.device, extra_args.get("seed") or 0
        noise, latents = self.given(guider, noise, latent_image)
        frames = noise.shape[2]
        run = self.plan(model_options, frames, sigmas, denoise_mask)
        if not run.rows:
            return latents
        if moves := run.moves and self.stretch is None:
            noise, latents = noise.cpu(), latents.cpu()  # what the window has left or not reached stays there
        noise, latents = pad_noise(noise, run.num_frames, seed), pad_frames(latents, run.num_frames)
        self.prepare(guider, model_options, run, frames)
        shown = noise[:, :, : run.seen].to(device)
        apart = let_frames_apart(guider, model_options, run, shown)  # it keeps finished blocks as well
        cache = None if apart else causal_cache(guider, model_options, run, options.cached_block_size, shown)
        calls = GuidedCalls(guider, extra_args, run.call_sigmas.to(sigmas), shown, cache, self.part)
        if options.causal_attention:
            calls.options[CAUSAL_BLOCK_SIZE] = options.causal_block_size
        with in_use(cache, calls.options), Progress(callback, len(run.rows), disable_pbar) as progress:

            def report(row: Row, x0: torch.Tensor, x: torch.Tensor) -> None:
                inside = slice(max(frames - row.start, 1))
                if not (moves and is_last(row)):
                    progress.done(lambda: (row.index, preview(row, x0)[:, :, inside], x[:, :, inside], row.num_rows))

            start, (fresh, begun) = first_latents(noise, latents, sigmas), self.drawn(run, noise, seed)
            known = self.known_frames(run, latents, noise, seed)
            denoise, left = self.denoiser(guider, calls), self.keep if self.stretch else None
            made = sample(denoise, start, run, known, report, fresh, begun, left, device)[:, :, :frames]
            if moves:  # core keeps what it is shown last as the denoised output
                last, rows = made[:, :, -run.seen :] if self.held else made, len(run.rows)
                progress.done(lambda: (rows - 1, last.to(device), last.to(device), rows))
            calls.finish()
        return made

    def denoiser(self, guider: Any, calls: GuidedCalls) -> Denoise:
        """Return what makes a row's model call, with the prompts of its frames where a stretch has several."""
        conds, stretch = guider.conds, self.stretch

        def denoise(x: torch.Tensor, frame_sigmas: torch.Tensor, row: Row) -> torch.Tensor:
            calls.options[FORCING_ROW] = row
            if stretch is not None:
                visible, work = slice(row.start, row.end), slice(row.runs[0][0], row.busy_end)
                guider.conds = of_frames(conds, stretch.weights, visible, work, x)
            where = words("model call {call} of {calls}", call=row.index + 1, calls=row.num_rows)
            return calls(x, frame_sigmas, row, row.sigma, where)

        return denoise

    def prepare(self, guider: Any, model_options: dict[str, Any], run: Run, frames: int) -> None:
        """Bring the conditions of a clip of `frames` latent frames into the run's form, and refuse what can't be."""
        refuse_without_forcing(guider.model_patcher, run)
        refuse_unread_conditions(guider)
        refuse_apart(guider.conds, model_options, self.options, run)
        pad_conditions(guider.conds, frames, run.num_frames)
        if run.moves or self.stretch is not None:
            check_movable(guider.conds, frames, run.num_frames)
        set_fps(guider.conds, self.options.fps)
        add_frame_noise(model_options)

    def drawn(self, run: Run, noise: torch.Tensor, seed: int) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """Return the noise that the solver adds between its steps, and what the stretch before this one left."""
        if self.stretch is not None:
            return self.stretch.fresh, self.stretch.begun
        if not adds_noise(self.options.solver):
            return None, None
        return fresh_noise(tuple(noise.shape), seed, run.num_steps, self.first_frame), None

    def keep(self, left: torch.Tensor) -> None:
        """Keep what is left of a stretch."""
        self.left = left.float().cpu()

    def given(
        self, guider: Any, noise: torch.Tensor, latent_image: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return noise and the latents that the run is given, in model space [B, C, F, H, W]."""
        if self.held is not None:
            latents = self.held.latents
            empty = torch.count_nonzero(latents) == 0  # which core does not shift either
            return self.held.noise, latents if empty else guider.inner_model.process_latent_in(latents)
        if self.known is not None:
            return noise, guider.inner_model.process_latent_in(self.known.latents.to(noise))
        return noise, torch.zeros_like(noise) if latent_image is None else latent_image

    def known_frames(self, run: Run, latents: torch.Tensor, noise: torch.Tensor, seed: int) -> KnownFrames | None:
        """Return the known frames of the padded clip; their noise comes from the run's seed if none was given."""
        if not run.known.any():
            return None
        drawn = None if self.known is None else self.known.noise
        if drawn is None:
            drawn = seeded_noise(tuple(noise.shape), seed, "condition")
        return KnownFrames(latents, run.known, drawn.to(noise))


def preview(row: Row, x0: torch.Tensor) -> torch.Tensor:
    """Return the visible frames with the first that this row changed in front: previews show the first one only.

    The last row gives them in their own order, since core keeps it as the denoised output.
    """
    return x0 if is_last(row) else torch.roll(x0, row.start - row.runs[0][0], dims=2)


def is_last(row: Row) -> bool:
    """Say whether a row is the last of its run."""
    return row.index == row.num_rows - 1


def refuse_without_forcing(patcher: Any, run: Run) -> None:
    """Refuse a MODEL known to have learned one noise level for a whole clip where this run has several."""
    needs = (
        (run.moves, words("a moving window (window_frames)")),
        (run.options.ar_step > 0, words("async sampling (ar_step above 0)")),
        (run.options.causal_attention, words("causal attention")),
        (bool(run.known.any()), words("a latent with known frames (start, end or key images)")),
    )
    for asked, need in needs:
        if asked:
            check_forcing(patcher, need)


def refuse_apart(conds: dict[str, Any], model_options: dict[str, Any], options: ForcingOptions, run: Run) -> None:
    """Refuse what looks at the clip as a whole where a run takes it apart; `Raises: InputError`."""
    reason = None
    if run.moves:
        reason = words("a moving window shows it a part of the clip: set window_frames to 0, or remove the node")
    elif not run.in_step:
        reason = words("here each frame has its own: set ar_step to 0 and connect no known frames, or remove the node")
    if reason is not None:
        refuse_block_patches(model_options.get("transformer_options", {}), reason)
    elif options.causal_attention:
        reason = words("causal attention would hide it from the frames: turn causal_attention off, or remove the node")
    if reason is not None:
        refuse_beside_the_clip(conds, reason)


def first_latents(noise: torch.Tensor, given: torch.Tensor, sigmas: torch.Tensor) -> torch.Tensor:
    """Return the latents of the first row: pure noise, or below full noise a mixture with the given video."""
    sigma = float(sigmas[0])
    return noise if sigma >= FULL_NOISE else sigma * noise + (1 - sigma) * given
