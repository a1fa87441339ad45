"""The rolling roll-out in ComfyUI: block after block through core's guider, with a window of keys and values.

The guider is given the latents of one block, however long the video is; the finished ones leave the device. Time and
memory of a block are the same for the first and the thousandth once the window is full.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import comfy.patcher_extension
import comfy.sampler_helpers
import comfy.samplers
import comfy.utils
import latent_preview
import torch
from tqdm.auto import tqdm

from ...errors import InputError
from ...long.rolling import (
    BlockNoise,
    RollingRow,
    RollingRun,
    Window,
    all_call_sigmas,
    block_noise,
    call_sigma,
    roll_out,
    split_known,
)
from ...sampling.loop import leading_pinned
from ...sampling.run_plan import check_sigmas, known_frames
from ...sampling.sigmas import exact_timesteps
from ...words import words
from ..host_flags import handed_on
from ..model.checks import check_latent, check_rolling_model
from ..model.origin import check_forcing
from ..model.transformer import CAUSAL_RUN
from .causal_cache import by_condition, cache_need, free_place, kept_on
from .conditioning import check_conditioning, refuse_beside_the_clip, refuse_block_patches, refuse_unread_conditions
from .frame_noise import WRAPPER_KEY, add_frame_noise, set_frame_sigmas
from .memory_estimate import Preparation, need_with_cache
from .memory_ladder import MemoryLadder
from .sampler import set_fps

WINDOW = Window(21)  # what most of these models were trained with: 81 video frames


@dataclass(frozen=True)
class RollingOptions:
    """What a person chooses for a rolling roll-out beside prompt, seed and guidance.

    Attributes:
        sigmas: [steps + 1], falling to 0.
        chunk_frames: latent frames of a block.
        window: latent frames that a block sees.
        solver: one of `solvers.SOLVERS`.
        fps: frames per second the model is told.
    """

    sigmas: torch.Tensor
    chunk_frames: int = 3
    window: Window = WINDOW
    solver: str = "lcm"
    fps: int = 24


class HostRollingRun:
    """A RollingRun that speaks the transformer's language: conditions come in one batch, in any number and order."""

    def __init__(self, run: RollingRun):
        self.run = run
        self.row: RollingRow | None = None  # set before each call of the guider

    def takes(self, x: torch.Tensor, options: dict[str, Any]) -> bool:
        """Say yes to every call of the guider: without the cache there is no way to go on; `Raises: InputError`."""
        parts = len(options.get("uuids", ()))
        if self.row is None or parts == 0 or x.shape[0] % parts:
            raise InputError(
                "A node called the model directly instead of through the guider, so the cache can't tell the prompts "
                "apart. Remove nodes that patch the model call."
            )
        return True

    def __call__(self, x: torch.Tensor, t: torch.Tensor, options: dict[str, Any], **inputs: Any) -> torch.Tensor:
        """Return the velocity [B, C, f, H, W]; each condition in the batch has a cache of its own.

        The arguments are those of `HostCausalRun`.
        """
        return by_condition(self.run, x, t, self.row, options, **inputs)


class RollingSampler(comfy.samplers.Sampler):
    """Makes a video of any length when a guider asks for one block.

    Args:
        options: the settings.
        num_frames: latent frames of the video, the known ones included.
        known: latents [B, C, k, H, W] that it begins with, not in model space yet; None where there are none.
    """

    def __init__(self, options: RollingOptions, num_frames: int, known: torch.Tensor | None = None):
        self.options = options
        self.num_frames = num_frames
        self.known = known

    @property
    def known_blocks(self) -> list[int]:
        """Sizes of the blocks that the known frames go in."""
        return [] if self.known is None else split_known(self.known.shape[2], self.options.chunk_frames)

    @property
    def new_blocks(self) -> int:
        """Blocks to make; the last one may reach behind the end."""
        return -(-(self.num_frames - sum(self.known_blocks)) // self.options.chunk_frames)

    @property
    def kept_frames(self) -> int:
        """Latent frames whose keys and values are kept at most."""
        return min(self.options.window.frames, self.num_frames)

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
        """Make the video; called by core's guider.

        Args:
            guider: a CFGGuider, with the model loaded and its conds processed.
            sigmas: [steps + 1], falling to 0.
            extra_args: model_options and seed of this run.
            callback: `(call, x0 of the block, None, calls)`, or None.
            noise: [B, C, f, H, W] of one block; gives shape, dtype and device.
            latent_image: not read.
            denoise_mask: not read.
            disable_pbar: no progress bar on the console.

        Returns:
            Latent video in model space [B, C, F, H, W] on the CPU.

        Raises:
            InputError: the window's keys and values fit nowhere.
        """
        options, model_options = self.options, extra_args["model_options"]
        refuse_unread_conditions(guider)
        steps, seed = len(sigmas) - 1, extra_args.get("seed") or 0
        model, known = guider.inner_model, self.known
        batch, channels, _, height, width = noise.shape
        video = torch.empty(batch, channels, self.num_frames, height, width)
        blocks: tuple[torch.Tensor, ...] = ()
        if known is not None:
            clean = model.process_latent_in(known.float())
            video[:, :, : clean.shape[2]] = clean
            blocks = tuple(part.to(noise) for part in clean.split(self.known_blocks, dim=2))
        first = sum(self.known_blocks)
        guided = GuidedBlocks(guider, extra_args, options, len(blocks), self.new_blocks, self.kept_frames)
        total = self.new_blocks * steps

        def drawn() -> Iterator[BlockNoise]:
            for at in range(first, first + self.new_blocks * options.chunk_frames, options.chunk_frames):
                made = block_noise(tuple(noise.shape), seed, steps, at, options.solver)
                yield BlockNoise(made.start.to(noise), None if made.fresh is None else made.fresh.to(noise))

        add_frame_noise(model_options, exact_timesteps)
        with guided, tqdm(total=total, disable=disable_pbar) as bar:

            def report(row: RollingRow, x0: torch.Tensor) -> None:
                bar.update()
                if callback is not None:
                    callback((row.block - len(blocks)) * steps + row.step, x0, None, total)

            made = roll_out(guided.denoise, drawn(), sigmas, options.window, options.solver, blocks, report)
            for block in made:
                behind = min(first + block.shape[2], self.num_frames)
                video[:, :, first:behind] = block[:, :, : behind - first]
                first = behind
        return video


class GuidedBlocks:
    """The model calls of one roll-out through a guider. It is a context: the cache is gone when it ends."""

    def __init__(
        self,
        guider: Any,
        extra_args: dict[str, Any],
        options: RollingOptions,
        known_blocks: int,
        new_blocks: int,
        kept_frames: int,
    ):
        self.guider = guider
        self.extra_args = extra_args
        self.options = options
        self.sigmas = options.sigmas.tolist()
        self.blocks = known_blocks + new_blocks
        self.kept_frames = kept_frames
        self.transformer_options = extra_args["model_options"].setdefault("transformer_options", {})
        # neighbours look their progress up in this list: it has to hold the sigmas that they will be called with
        calls = all_call_sigmas(self.sigmas, known_blocks, new_blocks)
        self.transformer_options["sample_sigmas"] = torch.tensor([*calls, 0.0]).to(options.sigmas)
        set_fps(guider.conds, options.fps)
        transformer = guider.inner_model.diffusion_model
        self.run = RollingRun(transformer.predict, len(transformer.blocks), options.window)
        self.host_run = HostRollingRun(self.run)
        self.ladder: MemoryLadder | None = None

    def __enter__(self) -> GuidedBlocks:
        """Give the transformer the cache, before anything is computed."""
        self.transformer_options[CAUSAL_RUN] = self.host_run
        return self

    def __exit__(self, *error: object) -> None:
        """Take it away again and free it."""
        del self.transformer_options[CAUSAL_RUN]
        self.run.caches.clear()

    def denoise(self, x: torch.Tensor, frame_sigmas: torch.Tensor, row: RollingRow) -> torch.Tensor:
        """Return x0 [B, C, f, H, W] of a block from the guider."""
        if not self.run.caches:
            self.run.device = kept_on(self.place(x), x)
        self.host_run.row = row
        set_frame_sigmas(self.guider.conds, frame_sigmas, x)
        sigma = x.new_full((x.shape[0],), call_sigma(row, self.sigmas, self.blocks))
        if self.ladder is None:
            self.ladder = MemoryLadder(self.guider, self.extra_args["model_options"], self.host_run, x, True)
        where = words(
            "step {step} of chunk {chunk} of {chunks}", step=row.step + 1, chunk=row.block + 1, chunks=self.blocks
        )
        return self.ladder.call(lambda: self.guider(x, sigma, **self.extra_args), where)

    def place(self, x: torch.Tensor) -> torch.device:
        """Return where the cache has room; `Raises: InputError`."""
        need = cache_need(self.guider.model_patcher, self.guider.conds, x.shape, self.kept_frames)
        place = free_place(self.guider, need, x, x.shape[2])
        if place is None:
            raise InputError(
                "The keys and values of a window of {frames} latent frames take {gigabytes:.1f} GB, but there "
                "is no room for them: lower window_frames, or make a smaller video.",
                frames=self.kept_frames,
                gigabytes=need.kept / 1e9,
            )
        return place


def known_prefix(latent: dict[str, Any]) -> int:
    """Return how many latent frames at the beginning are known; `Raises: InputError` for known frames elsewhere."""
    samples, mask = latent["samples"], latent.get("noise_mask")
    if mask is None:
        return 0
    shape = (samples.shape[0], 1, *samples.shape[2:])
    known = known_frames(comfy.sampler_helpers.prepare_mask(mask, shape, torch.device("cpu")), samples.shape[2])
    prefix = leading_pinned(known)
    if int(known.sum()) != prefix:
        later = int(torch.nonzero(known[prefix:]).flatten()[0]) + prefix
        raise InputError(
            "Latent frame {later} is known, but a rolling video is made from its start on, so only frames at the "
            "beginning can be known: leave out end and key frames, or use the Diffusion Forcing Sampler.",
            later=later,
        )
    return prefix


def roll(
    model: Any,
    positive: list[Any],
    negative: list[Any] | None,
    latent: dict[str, Any],
    seed: int,
    cfg: float,
    options: RollingOptions,
) -> dict[str, Any]:
    """Make a LATENT of any length block by block.

    Args:
        model: a MODEL of this pack's loader with a causal model in it.
        positive: CONDITIONING of the prompt.
        negative: CONDITIONING of the negative prompt; None at cfg 1, where it is not read.
        latent: samples [B, 16, F, H / 8, W / 8] and, for known frames at the beginning, a noise_mask that is 0 there.
        seed: seed of all noise of the run.
        cfg: guidance scale; 1 for distilled models.
        options: the settings.

    Returns:
        LATENT with the finished samples, without noise_mask.

    Raises:
        InputError, ScheduleError: settings that cannot work, before any work starts.
    """
    samples = check_latent(latent).float()  # with --fp16-intermediates they come in half precision
    check_rolling_model(model.model)
    check_forcing(model, words("the Rolling Sampler"), causal_too=True)
    if model.model_options.get("context_handler") is not None:
        raise InputError("The model has Context Windows, but rolling has a window of its own: remove that node.")
    guided = not math.isclose(cfg, 1.0)
    if guided and negative is None:
        raise InputError("cfg is {cfg:g}, which needs a negative prompt: connect negative, or set cfg to 1.", cfg=cfg)
    conditions = {"positive": positive, **({"negative": negative} if guided else {})}
    for name, conditioning in conditions.items():
        check_conditioning(model.model, conditioning or [], name)
    each_block = words("rolling makes one block after the other: remove the node")
    for name, conditioning in conditions.items():
        refuse_beside_the_clip({name: [held for _, held in conditioning or []]}, each_block)
    refuse_block_patches(model.model_options.get("transformer_options", {}), each_block)
    check_sigmas(options.sigmas)
    options.window.check(options.chunk_frames)
    frames, prefix = samples.shape[2], known_prefix(latent)
    out = {name: value for name, value in latent.items() if name not in ("noise_mask", "downscale_ratio_spacial")}
    if prefix == frames:
        return out

    block = torch.zeros(*samples.shape[:2], options.chunk_frames, *samples.shape[3:])
    sampler = RollingSampler(options, frames, samples[:, :, :prefix] if prefix else None)
    need = need_with_cache(model, conditions, block.shape, options.chunk_frames, sampler.kept_frames)
    patched = model.clone()
    patched.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.PREPARE_SAMPLING, WRAPPER_KEY, Preparation(need))
    guider = comfy.samplers.CFGGuider(patched)
    guider.inner_set_conds(conditions)
    guider.set_cfg(cfg)
    made = guider.sample(
        block,
        block,
        sampler,
        options.sigmas,
        callback=latent_preview.prepare_callback(model, sampler.new_blocks * (len(options.sigmas) - 1)),
        disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
        seed=seed,
    )
    out["samples"] = handed_on(made)
    return out
