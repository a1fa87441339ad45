"""The rolling roll-out in ComfyUI: block after block through core's guider, with a window of keys and values.

The guider is given the latents of one block, however long the video is; the finished ones leave the device. Time and
memory of a block are the same for the first and the thousandth once the window is full.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import comfy.patcher_extension
import comfy.samplers
import latent_preview
import torch

from ...errors import InputError
from ...long.rolling import (
    BlockNoise,
    RollingCalls,
    RollingRow,
    Window,
    all_call_sigmas,
    block_noise,
    call_sigma,
    roll_out,
    split_known,
)
from ...long.rolling_video import RollingTask
from ...sampling.known import leading_known
from ...sampling.sigmas import check_sigmas, exact_timesteps
from ...words import Words, words
from ..harmless import Progress
from ..host_flags import handed_on
from ..model.checks import check_latent, check_rolling_model, known_of, model_geometry
from ..model.origin import check_forcing
from .causal_cache import cache_need, free_place, kept_on
from .conditioning import check_conditioning, refuse_beside_the_clip, refuse_block_patches, refuse_unread_conditions
from .frame_noise import WRAPPER_KEY, add_frame_noise
from .guided import Guidance, GuidedCalls, in_use, set_fps
from .host_calls import HostCachedCalls
from .memory_estimate import Preparation, need_with_cache
from .prompt_frames import ChunkPrompts

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


class RollingSampler(comfy.samplers.Sampler):
    """Makes a video of any length, or a segment of one, when a guider asks for one block.

    Args:
        options: the settings.
        num_frames: latent frames, the known ones included.
        known: latents [B, C, k, H, W] that it begins with, not in model space yet; None where there are none.
        task: the segment; None for a whole video.
        part: names it for a person, such as "segment 2 of 5".
    """

    def __init__(
        self,
        options: RollingOptions,
        num_frames: int,
        known: torch.Tensor | None = None,
        task: RollingTask | None = None,
        part: Words | None = None,
    ):
        self.options = options
        self.num_frames = num_frames
        self.known = known
        self.task, self.part = task, part

    @property
    def sink_blocks(self) -> list[int]:
        """Sizes of the blocks that the frames of the sink go in, where what comes after it in the video is not seen."""
        return split_known(self.task.sink, self.options.chunk_frames) if self.task else []

    @property
    def known_blocks(self) -> list[int]:
        """Sizes of the blocks that the known frames go in."""
        sink = self.sink_blocks
        later = 0 if self.known is None else self.known.shape[2] - sum(sink)
        return [*sink, *split_known(later, self.options.chunk_frames)]

    @property
    def new_blocks(self) -> int:
        """Blocks to make; the last one may reach behind the end."""
        return -(-(self.num_frames - sum(self.known_blocks)) // self.options.chunk_frames)

    @property
    def kept_frames(self) -> int:
        """Latent frames as large as the keys and values that are kept at most."""
        return self.options.window.cached(self.num_frames)

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
        """Make the video; core's guider calls it with the arguments of `comfy.samplers.Sampler`.

        `noise` [B, C, f, H, W] of one block gives shape, dtype and device; latent image and mask are not read.

        Returns:
            Latent video in model space [B, C, F, H, W] on the CPU.

        Raises:
            InputError: the window's keys and values fit nowhere.
            NotFiniteError: the model's answer is NaN or infinite; says from which call on.
        """
        options, known = self.options, self.known
        refuse_unread_conditions(guider)
        steps, seed = len(sigmas) - 1, extra_args.get("seed") or 0
        batch, channels, _, height, width = noise.shape
        video = torch.empty(batch, channels, self.num_frames, height, width)
        first, total = sum(self.known_blocks), self.new_blocks * steps
        blocks: tuple[torch.Tensor, ...] = ()
        if known is not None:
            video[:, :, :first] = clean = guider.inner_model.process_latent_in(known.float())
            blocks = clean.split(self.known_blocks, dim=2)
        set_fps(guider.conds, options.fps)
        add_frame_noise(extra_args["model_options"], exact_timesteps)
        cache = self.cache(guider, noise)
        levels, every = options.sigmas.tolist(), len(blocks) + self.new_blocks
        call_sigmas = torch.tensor([*all_call_sigmas(levels, len(blocks), self.new_blocks), 0.0])
        calls = GuidedCalls(guider, extra_args, call_sigmas.to(options.sigmas), noise, cache, self.part)
        prompts = None if self.task is None else ChunkPrompts(guider.conds, self.task, self.known_blocks)

        def denoise(x: torch.Tensor, frame_sigmas: torch.Tensor, row: RollingRow) -> torch.Tensor:
            if prompts is not None:
                guider.conds = prompts.of(row, x)
            named = {"step": row.step + 1, "chunk": row.block + 1, "chunks": every}
            where = words("step {step} of chunk {chunk} of {chunks}", **named)
            x, frame_sigmas = x.to(noise), frame_sigmas.to(noise)  # known blocks come from main memory
            return calls(x, frame_sigmas, row, call_sigma(row, levels, every), where)

        with in_use(cache, calls.options), Progress(callback, total, disable_pbar) as progress:

            def report(row: RollingRow, x0: torch.Tensor) -> None:
                progress.done(lambda: ((row.block - len(blocks)) * steps + row.step, x0, None, total))

            jump = (0, 0) if self.task is None else (len(self.sink_blocks), self.task.position)
            drawn = self.drawn(noise, seed, steps)
            for block in roll_out(denoise, drawn, sigmas, options.window, options.solver, blocks, report, jump):
                video[:, :, first : first + block.shape[2]] = block[:, :, : self.num_frames - first]
                first += block.shape[2]
            calls.finish()
        return video

    def drawn(self, like: torch.Tensor, seed: int, steps: int) -> Iterator[BlockNoise]:
        """Yield the noise of every block to make; `like`: latents of one."""
        length = self.options.chunk_frames
        begin = sum(self.known_blocks) if self.task is None else self.task.first
        for at in range(begin, begin + self.new_blocks * length, length):
            made = block_noise(tuple(like.shape), seed, steps, at, self.options.solver)
            yield BlockNoise(made.start.to(like), None if made.fresh is None else made.fresh.to(like))

    def cache(self, guider: Any, block: torch.Tensor) -> HostCachedCalls:
        """Return the cache of the window's keys and values; `Raises: InputError` if it fits nowhere."""
        need = cache_need(guider.model_patcher, guider.conds, block.shape, self.kept_frames)
        place = free_place(guider, need, block, block.shape[2])
        if place is None:
            raise InputError(
                "The keys and values of a window of {frames} latent frames take {gigabytes:.1f} GB, but there "
                "is no room for them: lower window_frames or kv_budget, or make a smaller video.",
                frames=min(self.options.window.frames, self.num_frames),
                gigabytes=need.kept / 1e9,
            )
        transformer = guider.inner_model.diffusion_model
        window, device = self.options.window, kept_on(place, block)
        return HostCachedCalls(RollingCalls(transformer.predict, len(transformer.blocks), window, device), needed=True)


def known_prefix(latent: dict[str, Any]) -> int:
    """Return how many latent frames at the beginning are known; `Raises: InputError` for known frames elsewhere."""
    known = known_of(latent)
    prefix = leading_known(known)
    if int(known.sum()) != prefix:
        later = int(torch.nonzero(known[prefix:]).flatten()[0]) + prefix
        raise InputError(
            "Latent frame {later} is known, but a rolling video is made from the start, so only its first frames can "
            "be known: remove end and key frames, or use the Diffusion Forcing Sampler.",
            later=later,
        )
    return prefix


def roll(guidance: Guidance, latent: dict[str, Any], seed: int, options: RollingOptions) -> dict[str, Any]:
    """Make a LATENT of any length block by block.

    Args:
        guidance: a MODEL of this pack's loader with a causal model in it, prompts and guidance scale (1 for distilled
            models).
        latent: samples [B, 16, F, H / 8, W / 8] and, for known frames at the beginning, a noise_mask that is 0 there.
        seed: seed of all noise of the run.
        options: the settings.

    Returns:
        LATENT with the finished samples, without noise_mask.

    Raises:
        InputError, ScheduleError: settings that cannot work, before any work starts.
    """
    model, conditions = guidance.model, check_guidance(guidance)
    samples = check_latent(latent, model_geometry(model.model)).float()  # half precision with --fp16-intermediates
    check_sigmas(options.sigmas)
    options.window.check(options.chunk_frames)
    frames, prefix = samples.shape[2], known_prefix({**latent, "samples": samples})
    out = {name: value for name, value in latent.items() if name not in ("noise_mask", "downscale_ratio_spacial")}
    if prefix == frames:
        return out

    sampler = RollingSampler(options, frames, samples[:, :, :prefix] if prefix else None)
    callback = latent_preview.prepare_callback(model, sampler.new_blocks * (len(options.sigmas) - 1))
    made = run_rolling(replace(guidance, negative=conditions.get("negative")), sampler, samples.shape, seed, callback)
    out["samples"] = handed_on(made)
    return out


def run_rolling(
    guidance: Guidance, sampler: RollingSampler, shape: Sequence[int], seed: int, callback: Any
) -> torch.Tensor:
    """Return what a rolling sampler makes, known frames included, with what it needs reserved.

    Args:
        guidance: checked.
        sampler: what makes it.
        shape: [B, C, any, H, W] of the latents.
        seed: of all noise.
        callback: core's.
    """
    options, model = sampler.options, guidance.model
    block = torch.zeros(*shape[:2], options.chunk_frames, *shape[3:])
    conditions = {"positive": guidance.positive, "negative": guidance.negative or []}
    need = need_with_cache(model, conditions, block.shape, options.chunk_frames, sampler.kept_frames)
    patched = model.clone()
    patched.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.PREPARE_SAMPLING, WRAPPER_KEY, Preparation(need))
    return replace(guidance, model=patched).run(sampler, block, options.sigmas, seed, block, callback=callback)


def check_guidance(guidance: Guidance) -> dict[str, list[Any]]:
    """Return the conditions that are computed, by name; `Raises: InputError` for what rolling cannot follow."""
    model, cfg = guidance.model, guidance.cfg
    check_rolling_model(model.model)
    check_forcing(model, words("the Rolling Sampler"), causal_too=True)
    if model.model_options.get("context_handler") is not None:
        raise InputError("The model has Context Windows, but rolling has a window of its own: remove that node.")
    conditions = {"positive": guidance.positive}
    if not math.isclose(cfg, 1.0):
        if guidance.negative is None:
            raise InputError(
                "cfg is {cfg:g}, which needs a negative prompt: connect negative, or set cfg to 1.", cfg=cfg
            )
        conditions["negative"] = guidance.negative
    for name, conditioning in conditions.items():
        check_conditioning(model.model, conditioning or [], name)
    each_block = words("rolling makes one block after the other: remove the node")
    for name, conditioning in conditions.items():
        refuse_beside_the_clip({name: [held for _, held in conditioning or []]}, each_block)
    refuse_block_patches(model.model_options.get("transformer_options", {}), each_block)
    return conditions
