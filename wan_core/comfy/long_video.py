"""A long video from MODEL, VAE and CONDITIONING to a file: segment after segment, each finished for good.

The roll-out and its journal are host-free; here a segment is sampled through ComfyUI's guider, decoded by the streaming
decoder, written as a part of the file, and committed. A run that is stopped goes on behind its last committed segment.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.samplers
import comfy.utils
import folder_paths
import latent_preview
import torch

from ..errors import InputError
from ..journal import Journal
from ..rollout import Finished, Rollout, Task, continue_job, known_clip, seeded
from ..sampling import flow_sigmas
from ..schedule_picture import schedule_picture
from ..script import parse_script
from ..segments import Plan, latent_of_frame, plan_segments
from ..video import join_videos, write_video
from .checks import LATENT_CHANNELS, check_conditioning, check_model
from .identity import conditioning_tensors, model_identity, vae_identity
from .sampler import DiffusionForcingSampler, ForcingOptions
from .text import encode_prompt
from .vae import SPATIAL, encode_images
from .vae_stream import MEMORY_FRAMES, StreamingDecoder

JOBS_FOLDER = "skyreels_v2_jobs"


@dataclass(frozen=True)
class LongVideoSettings:
    """What a person chooses for a long video.

    Attributes:
        total_frames: video frames wanted.
        width: pixels.
        height: pixels.
        base_num_frames: video frames of the model's window.
        overlap_history: video frames that a segment takes over from the one before.
        seed: seed of all noise; every segment has noise of its own.
        steps: denoising steps of a frame.
        cfg: guidance scale.
        shift: shift of the noise schedule.
        carry_over: "latents", or "frames" to decode and encode the overlap as the authors' program does.
        drift_control: 0 to 1, how far a segment is matched to the statistics of the first.
        loop: whether the end leads back to the start.
        crf: quality of the file, 0 (lossless) to 51.
        forcing: the diffusion-forcing settings; its fps is the rate of the file too.
    """

    total_frames: int = 257
    width: int = 960
    height: int = 544
    base_num_frames: int = 97
    overlap_history: int = 17
    seed: int = 0
    steps: int = 30
    cfg: float = 6.0
    shift: float = 8.0
    carry_over: str = "latents"
    drift_control: float = 0.0
    loop: bool = False
    crf: int = 18
    forcing: ForcingOptions = field(default_factory=ForcingOptions)

    def plan(self, known: tuple[int, ...] = ()) -> Plan:
        """Return the plan; `known`: given latent frames. `Raises: ScheduleError` for what cannot be planned."""
        options = self.forcing
        return plan_segments(
            self.total_frames,
            self.base_num_frames,
            self.overlap_history,
            options.causal_block_size,
            options.ar_step,
            self.steps,
            options.causal_attention,
            known,
            self.loop,
        )


@dataclass(frozen=True)
class LongVideo:
    """A finished long video.

    Attributes:
        path: the file.
        latents: latents of the last segment [1, 16, F, H / 8, W / 8].
        text: the plan, and what was taken from an earlier run.
    """

    path: Path
    latents: torch.Tensor
    text: str


@dataclass(frozen=True)
class Inputs:
    """What comes from other nodes: the models, one positive CONDITIONING for each prompt, and given images."""

    model: Any
    vae: Any
    positives: list[Any]
    negative: list[Any]
    conditions: tuple[int, ...] = ()
    start_images: torch.Tensor | None = None
    end_image: torch.Tensor | None = None

    def check(self, causal_attention: bool) -> None:
        """Refuse inputs that do not go together, before any work; `Raises: InputError`."""
        check_model(self.model.model, causal_attention)
        for positive in self.positives:
            check_conditioning(self.model.model, positive, "positive")
        check_conditioning(self.model.model, self.negative, "negative")

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return every given tensor by name, for the journal."""
        found = conditioning_tensors("negative", self.negative)
        for number, positive in enumerate(self.positives):
            found |= conditioning_tensors(f"positive {number}", positive)
        images = {"start images": self.start_images, "end image": self.end_image}
        return found | {name: image for name, image in images.items() if image is not None}


def make_long_video(inputs: Inputs, settings: LongVideoSettings, name: str) -> LongVideo:
    """Make a long video, or go on with one that was begun.

    Args:
        inputs: what comes from other nodes.
        settings: what a person chose.
        name: name of the job; a file name without folders.

    Returns:
        The file, in a folder of its own under the host's output folder.

    Raises:
        SkyReelsError: inputs or settings that cannot work, before any work; a job that another run holds; a full disk.
    """
    inputs.check(settings.forcing.causal_attention)
    decoder = StreamingDecoder(inputs.vae)
    known_frames = given_frames(inputs, settings)
    plan = settings.plan(known_frames)
    about = {
        "settings": asdict(settings),
        "conditions": list(inputs.conditions),
        "model": model_identity(inputs.model),
        "vae": vae_identity(inputs.vae),
    }
    root = Path(folder_paths.get_output_directory()) / JOBS_FOLDER
    with Journal(root, name, about, len(plan.segments), inputs.tensors()) as journal:
        before = journal.next_segment()
        text = report(plan, settings, journal, before)
        path = journal.folder / "video.mp4"
        if before is not None:
            known = encode_given(inputs, settings, plan)
            LongVideoRun(inputs, settings, plan, journal, decoder, known).make()
        if before is not None or not path.exists():
            with journal.writing():
                join_videos(path, journal.parts())
            journal.finish()
        return LongVideo(path, journal.load(len(plan.segments) - 1)["window"], text)


def positives_of(
    positive: list[Any] | None, script: tuple[Any, str] | None, settings: LongVideoSettings
) -> tuple[list[Any], tuple[int, ...]]:
    """Return the CONDITIONING of every prompt, and which segment gets which of them.

    Args:
        positive: one CONDITIONING for the whole video, or None.
        script: text encoder and script of prompts, or None.
        settings: they give the segments and the frame rate.

    Raises:
        InputError: neither or both are given, or the script does not fit the video.
    """
    if (positive is None) == (script is None):
        seen = "Neither positive nor script is" if positive is None else "Both positive and script are"
        raise InputError(f"{seen} connected, but exactly one says what the video shows: connect one of them.")
    if script is None:
        return [positive], ()
    clip, text = script
    parsed = parse_script(text, settings.plan(), settings.forcing.fps)
    return [encode_prompt(clip, prompt) for prompt in parsed.prompts], parsed.conditions


def show_plan(settings: LongVideoSettings) -> tuple[str, torch.Tensor]:
    """Return the plan as a table and as a picture [1, H, W, 3]."""
    plan = settings.plan()
    return plan.table(guided=settings.cfg != 1), schedule_picture(plan, settings.shift)[None]


def given_frames(inputs: Inputs, settings: LongVideoSettings) -> tuple[int, ...]:
    """Return the latent frames that are given by images, before anything is encoded."""
    last = latent_of_frame(settings.total_frames - 1)
    known: list[int] = []
    if inputs.start_images is not None:
        known += range((len(inputs.start_images) - 1) // 4 + 1)
    if inputs.end_image is not None:
        known.append(last)
    if len(set(known)) < len(known) or max(known, default=0) > last or len(known) > last:
        raise InputError(
            f"The given images fill {len(known)} of {last + 1} latent frames, which leaves nothing to make: ask for "
            "more frames or give fewer images."
        )
    return tuple(known)


def encode_given(inputs: Inputs, settings: LongVideoSettings, plan: Plan) -> dict[int, torch.Tensor]:
    """Return the given latent frames [1, 16, 1, H / 8, W / 8] by their number in the video."""
    rows, columns = settings.height // SPATIAL, settings.width // SPATIAL
    like = torch.zeros(1, LATENT_CHANNELS, plan.latent_frames, rows, columns)
    known: dict[int, torch.Tensor] = {}
    if inputs.start_images is not None:
        whole = (len(inputs.start_images) - 1) // 4 * 4 + 1
        known |= known_clip(0, encode_images(inputs.vae, inputs.start_images[:whole], like).cpu())
    if inputs.end_image is not None:
        known |= known_clip(plan.latent_frames - 1, encode_images(inputs.vae, inputs.end_image[:1], like).cpu())
    return known


def report(plan: Plan, settings: LongVideoSettings, journal: Journal, next_segment: int | None) -> str:
    """Return the plan, and where this run begins, as text for a person."""
    lines = [plan.table(guided=settings.cfg != 1)]
    if next_segment is None:
        lines.append(f"All segments were finished by an earlier run, in {journal.folder.name}.")
    elif next_segment:
        lines.append(
            f"Going on behind segment {next_segment}, which an earlier run finished, in {journal.folder.name}."
        )
    elif journal.changed:
        lines.append(f"A new job, since these inputs changed: {', '.join(journal.changed)}.")
    return "\n".join(lines)


class LongVideoRun:
    """One run of a job: from the first segment that is missing to the last."""

    def __init__(
        self,
        inputs: Inputs,
        settings: LongVideoSettings,
        plan: Plan,
        journal: Journal,
        decoder: StreamingDecoder,
        known: dict[int, torch.Tensor],
    ):
        self.inputs, self.settings, self.plan = inputs, settings, plan
        self.journal, self.decoder = journal, decoder
        self.sigmas = flow_sigmas(settings.steps, settings.shift)
        shape = (1, LATENT_CHANNELS, settings.height // SPATIAL, settings.width // SPATIAL)
        self.rollout = Rollout(
            plan,
            shape,
            seeded((settings.seed,) * len(plan.segments)),
            known,
            inputs.conditions,
            settings.forcing.addnoise_condition,
            settings.drift_control,
        )
        self.history = torch.zeros(1, LATENT_CHANNELS, 0, *shape[2:])  # the last latents that the decoder was given
        self.pushed = 0  # how many it was given in all
        self.rows_done = 0
        self.bar = comfy.utils.ProgressBar(plan.rows)
        self.previewer = latent_preview.get_previewer(inputs.model.load_device, inputs.model.model.latent_format)

    def make(self) -> None:
        """Make every segment that the journal lacks; one that was torn makes only itself again."""
        reencode = self.reencode if self.settings.carry_over == "frames" else None
        for finished in continue_job(self.rollout, self.sample, self.journal, reencode):
            self.take_up(finished.segment.index)
            frames = self.decode(finished)
            parts = []
            if len(frames):
                parts.append(self.journal.part_path(finished.segment.index, ".mp4"))
                with self.journal.writing():
                    write_video(parts[0], frames, self.settings.forcing.fps, self.settings.crf)
            tensors = finished.carry.tensors() | {"history": self.history, "pushed": torch.tensor(self.pushed)}
            if finished.segment.index == len(self.plan.segments) - 1:
                tensors["window"] = finished.window
            self.journal.commit(finished.segment.index, tensors, parts)

    def take_up(self, index: int) -> None:
        """Bring the decoder to where the segments before this one left it, if this run did not make them itself."""
        expected = sum(segment.new for segment in self.plan.segments[:index])
        if self.pushed == expected:
            return
        stored = self.journal.load(index - 1)
        self.decoder = StreamingDecoder(self.inputs.vae)
        self.history, self.pushed = stored["history"], int(stored["pushed"])
        with torch.inference_mode():
            self.decoder.push(self.history)

    def decode(self, finished: Finished) -> torch.Tensor:
        """Return the video frames [n, H, W, 3] that can be shown now that a segment is finished."""
        last = finished.segment.index == len(self.plan.segments) - 1
        with torch.inference_mode():
            frames = self.decoder.push(finished.latents, final=last)
        self.decoder.park()
        self.pushed += finished.segment.new
        # as many, odd or even, as were pushed: so a decoder that begins with them meets the same pairs
        keep = MEMORY_FRAMES + 1 + (self.pushed + 1) % 2
        self.history = torch.cat((self.history, finished.latents.to(self.history)), dim=2)[:, :, -keep:].clone()
        if last and self.plan.trimmed_frames:
            frames = frames[: -self.plan.trimmed_frames]
        return frames

    def sample(self, task: Task) -> torch.Tensor:
        """Return the latents [1, 16, F, h, w] of a segment, through the host's guider."""
        settings, pinned = self.settings, task.pinned
        guider = comfy.samplers.CFGGuider(self.inputs.model)
        guider.set_conds(self.inputs.positives[task.condition], self.inputs.negative)
        guider.set_cfg(settings.cfg)
        latent, mask = torch.zeros_like(task.noise), None
        if pinned is not None:
            latent = pinned.latents
            mask = (~pinned.mask).float().view(1, 1, -1, 1, 1).expand(1, 1, *task.noise.shape[2:])
        sampler = DiffusionForcingSampler(settings.forcing, None if pinned is None else pinned.noise)
        self.rows_done = sum(segment.rows for segment in self.plan.segments[: task.segment.index])
        return guider.sample(
            task.noise,
            latent,
            sampler,
            self.sigmas,
            denoise_mask=mask,
            callback=self.progress(),
            disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
            seed=settings.seed,
        )

    def progress(self) -> Callable[[int, torch.Tensor, torch.Tensor, int], None]:
        """Return the guider's callback: the bar runs over the whole job, the preview shows the segment in work."""

        def report(step: int, x0: torch.Tensor, _x: torch.Tensor, _total: int) -> None:
            image = self.previewer.decode_latent_to_preview_image("JPEG", x0) if self.previewer else None
            self.bar.update_absolute(self.rows_done + step + 1, self.plan.rows, image)

        return report

    def reencode(self, window: torch.Tensor, frames: int) -> torch.Tensor:
        """Return the last video frames of a window, decoded and encoded as a clip of their own: the authors' way."""
        pixels = self.inputs.vae.decode(window)
        return self.inputs.vae.encode(pixels.flatten(0, 1)[-frames:]).cpu()
