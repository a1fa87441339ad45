"""A long video from MODEL, VAE and CONDITIONING to a file: segment after segment, each finished for good.

The roll-out and its journal are host-free; here a segment is sampled through ComfyUI's guider, decoded by the streaming
decoder, written as a part of the file, and committed. A run that is stopped goes on behind its last committed segment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import folder_paths
import torch

from ...finite import VAE_ADVICE, check_all_finite, check_finite
from ...long.jobs import agreed_gb, make_room
from ...long.journal import Journal
from ...long.key_frames import trimmed
from ...long.rollout import Finished, Rollout, Task, continue_job, seeded
from ...long.segments import SPATIAL, Plan
from ...sampling.sigmas import flow_sigmas
from ...video.codecs import find_codec
from ...video.join import join_videos, remove_texts, texts_of
from ...video.writer import SEQUENCE_SUFFIX, write_sequence, write_video
from ...words import Joined, Words, joined, lines, words
from ..host_flags import writes_no_texts
from ..model.checks import LATENT_CHANNELS
from ..node_text import tell
from ..sampling.guided import Guidance
from ..sampling.memory_ladder import OutOfMemory
from ..sampling.sampler import DiffusionForcingSampler
from ..vae.stream import StreamingDecoder
from .job_board import keep_workflow
from .job_progress import JobProgress
from .settings import Inputs, LongVideoSettings, describe, encode_clips, held_images, known_frames

JOBS_FOLDER = "skyreels_v2_jobs"
IN_USE_SECONDS = 3600.0  # a finished video may still be read by other nodes of its graph


@dataclass(frozen=True)
class LongVideo:
    """A finished long video.

    Attributes:
        path: the file.
        noted: its size and digest.
        latents: latents of the last segment [1, 16, F, H / 8, W / 8].
        text: the plan, and what was taken from an earlier run.
    """

    path: Path
    noted: list[int | str]
    latents: torch.Tensor
    text: Joined


@dataclass(frozen=True)
class Job:
    """Where a long video is kept, and what is said about it.

    Attributes:
        name: begins the name of its folder; a file name without folders.
        metadata: texts that go into the file, by name.
        keep_gb: gigabytes that all jobs may take before finished ones, the oldest first, are removed, where a person
            has agreed to that (`jobs.make_room`); 0 = no limit.
        say: shows a line of progress.
    """

    name: str
    metadata: Mapping[str, str] | None = None
    keep_gb: float = 0.0
    say: Callable[[Words], None] = lambda line: None


def jobs_root() -> Path:
    """Return the folder of all jobs."""
    return Path(folder_paths.get_output_directory()) / JOBS_FOLDER


def make_long_video(inputs: Inputs, settings: LongVideoSettings, job: Job) -> LongVideo:
    """Make a long video, or go on with one that was begun.

    Args:
        inputs: what comes from other nodes.
        settings: what a person chose.
        job: where it is kept.

    Returns:
        The file, in a folder of its own under the host's output folder.

    Raises:
        SkyReelsError: inputs or settings that cannot work, before any work; a job that another run holds; a full disk;
            NaN or infinity, before anything made of it is kept.
    """
    inputs.check(settings)
    check_all_finite(inputs.tensors(), words("What is connected"), words("check the node that made it"))
    decoder = StreamingDecoder(inputs.vae)
    clips = inputs.images.placed(settings.check().total_frames)
    plan = settings.plan(known_frames(clips))
    about = settings.by_name() | inputs.identity() | held_images(clips)
    limited = job.keep_gb > 0
    with Journal(jobs_root(), job.name, about, len(plan.segments), inputs.tensors(), limited) as journal:
        with journal.writing():
            keep_workflow(journal.folder, job.metadata)
        room = make_room(jobs_root(), job.keep_gb, IN_USE_SECONDS)
        before = journal.next_segment()
        text = report(plan, inputs, settings, journal, before)
        if room is not None:
            tell("jobs", room)
            text = lines(text, room)
        path = journal.result_path(settings.suffix)
        if before is not None:
            known = encode_clips(inputs.vae, clips, settings, plan.latent_frames)
            progress = JobProgress(plan, inputs.model, job.say)
            LongVideoRun(inputs, settings, plan, journal, decoder, known, progress, job).make()
        if before is not None or not journal.has(path):
            with journal.writing():
                source = inputs.source
                sound, times = (source.sound, source.times) if source else (None, ())
                join_videos(path, journal.parts(settings.suffix), job.metadata, sound, times)
            journal.finish(path)
        elif writes_no_texts() and texts_of(path):
            with journal.writing():
                remove_texts(path)
            journal.finish(path)
        latents = journal.load(len(plan.segments) - 1, "window")["window"]
        return LongVideo(path, journal.noted(path), latents, text)


def report(
    plan: Plan, inputs: Inputs, settings: LongVideoSettings, journal: Journal, next_segment: int | None
) -> Joined:
    """Return the plan, and where this run begins, as text for a person."""
    shown: list[Joined | Words] = [describe(plan, settings)]
    if blending := inputs.prompts.about_blend():
        shown.append(blending)
    if find_codec(settings.codec, settings.crf).sequence:
        shown.append(
            words("Every frame is a PNG file in {folder}, in addition to the video.", folder=journal.frames_folder)
        )
    if inputs.source and inputs.source.times:
        shown.append(
            words(
                "The frame rate of the video varies: its frames keep their times, and the new ones follow at "
                "{rate:.4g} frames per second.",
                rate=float(inputs.source.rate),
            )
        )
    if next_segment is None:
        shown.append(words("All segments were finished by an earlier run, in {job}.", job=journal.folder.name))
    elif next_segment:
        shown.append(
            words(
                "Resumes after segment {number}, the last that an earlier run finished, in {job}.",
                number=next_segment,
                job=journal.folder.name,
            )
        )
    elif journal.changed:
        shown.append(words("A new job, since these inputs changed: {names}.", names=joined(journal.changed)))
    return lines(*shown)


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
        progress: JobProgress,
        job: Job,
    ):
        self.inputs, self.settings, self.plan, self.progress = inputs, settings, plan, progress
        self.journal, self.decoder, self.job = journal, decoder, job
        self.sigmas = flow_sigmas(settings.steps, settings.shift)
        self.seeds = inputs.prompts.seeds or (settings.seed,) * len(plan.segments)
        shape = (1, LATENT_CHANNELS, settings.height // SPATIAL, settings.width // SPATIAL)
        self.rollout = Rollout(
            plan,
            shape,
            seeded(self.seeds),
            known,
            inputs.prompts.conditions,
            settings.forcing.addnoise_condition,
            settings.drift_control,
            inputs.prompts.blend,
        )
        self.pushed = 0  # latent frames that the decoder was given in all

    def make(self) -> None:
        """Make every segment that the journal lacks; one that was torn makes only itself again."""
        reencode = self.reencode if self.settings.carry_over == "frames" else None
        for finished in continue_job(self.rollout, self.sample, self.journal, reencode):
            self.take_up(finished.segment.index)
            parts = self.write(finished)
            tensors = finished.carry.tensors() | {"history": self.decoder.history, "pushed": torch.tensor(self.pushed)}
            if finished.segment.index == len(self.plan.segments) - 1:
                tensors["window"] = finished.window
            self.journal.commit(finished.segment.index, tensors, parts)
            room = make_room(jobs_root(), self.job.keep_gb, IN_USE_SECONDS)  # this job has grown
            if room is not None and agreed_gb(jobs_root()) is not None:
                tell("jobs", room)

    def write(self, finished: Finished) -> list[Path]:
        """Write the video frames that can be shown now, and return the files; none where there are no new frames."""
        index, settings, source = finished.segment.index, self.settings, self.inputs.source
        frames, parts, codec = self.decode(finished), [], find_codec(settings.codec, settings.crf)
        rate = float(source.rate) if source else settings.forcing.fps
        clips: list[tuple[str, Callable[[], Iterable[torch.Tensor]]]] = []
        if source and index == 0:  # the video that is extended goes first, and its tail is not shown again
            clips.append(("-source", lambda: source.scaled(settings.width, settings.height)))
            frames = frames[len(source.tail) :]
        if len(frames):
            clips.append(("", lambda: frames))
        shown = len(self.journal.parts(SEQUENCE_SUFFIX, before=index))
        with self.journal.writing():
            for name, clip in clips:
                parts.append(self.journal.part_path(index, f"{name}{codec.suffix}"))
                video, made = parts[-1], clip()
                if codec.sequence:
                    made = self.pictures(made, shown, codec.sequence, parts)
                shown += write_video(video, made, rate, settings.crf, settings.codec)
        return parts

    def pictures(
        self, frames: Iterable[torch.Tensor], first: int, bits: int, parts: list[Path]
    ) -> Iterator[torch.Tensor]:
        """Yield frames, each once it is written as a picture that belongs to `parts`."""
        for file, frame in write_sequence(self.journal.frames_folder, frames, first, self.job.metadata, bits):
            parts.append(file)
            yield frame

    def take_up(self, index: int) -> None:
        """Bring the decoder to where the segments before this one left it, if this run did not make them itself."""
        expected = sum(segment.new for segment in self.plan.segments[:index])
        if self.pushed == expected:
            return
        stored = self.journal.load(index - 1, "history", "pushed")
        self.decoder = StreamingDecoder(self.inputs.vae)
        self.pushed = int(stored["pushed"])
        with torch.inference_mode():
            self.decoder.warm_up(stored["history"])

    def decode(self, finished: Finished) -> torch.Tensor:
        """Return the video frames [n, H, W, 3] that can be shown now that a segment is finished."""
        last = finished.segment.index == len(self.plan.segments) - 1
        with torch.inference_mode():
            frames = self.decoder.push(finished.latents, final=last)
        self.decoder.park()
        self.pushed += finished.segment.new
        if last and self.plan.trimmed_frames:
            frames = trimmed(frames, self.plan.trimmed_frames, self.inputs.images.end is not None)
        return frames

    def sample(self, task: Task) -> torch.Tensor:
        """Return the latents [1, 16, F, h, w] of a segment, through the host's guider.

        Raises:
            OutOfMemory: the segment does not fit in any way; says what is kept of the others.
            NotFiniteError: the model's answer is NaN or infinite; says from which step on.
        """
        inputs, index = self.inputs, task.segment.index
        guidance = Guidance(inputs.model, inputs.prompts.positive(task), inputs.negative, self.settings.cfg)
        part = words("segment {number} of {count}", number=index + 1, count=len(self.plan.segments))
        sampler = DiffusionForcingSampler(self.settings.forcing, task.known, task.segment.start, part)
        callback = self.progress.begin(task.segment)
        try:
            return guidance.run(sampler, task.noise, self.sigmas, self.seeds[index], callback=callback)
        except OutOfMemory as error:
            if not index:
                raise
            raise OutOfMemory(
                "{error} The first {finished} of {segments} segments are kept: free memory and queue the same settings "
                "again to resume after them; other settings start a new job.",
                error=error,
                finished=index,
                segments=len(self.plan.segments),
            ) from None

    def reencode(self, window: torch.Tensor, frames: int) -> torch.Tensor:
        """Return the last video frames of a window, decoded and encoded as a clip of their own: the authors' way."""
        pixels = self.inputs.vae.decode(window)
        latents = self.inputs.vae.encode(pixels.flatten(0, 1)[-frames:]).float().cpu()
        return check_finite(latents, words("The re-encoded overlap"), VAE_ADVICE)
