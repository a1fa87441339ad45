"""A long video from MODEL, VAE and CONDITIONING to a file: segment after segment, each finished for good.

The roll-out and its journal are host-free; here a segment is sampled through ComfyUI's guider, decoded by the streaming
decoder, written as a part of the file, and committed. A run that is stopped goes on behind its last committed segment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import folder_paths
import torch

from ...finite import check_all_finite
from ...long.jobs import agreed_gb, make_room
from ...long.journal import Journal
from ...long.key_frames import trimmed
from ...long.settings import PlannedVideo
from ...long.sources import Finished, Source, continue_job
from ...video.codecs import find_codec
from ...video.join import join_videos, remove_texts, texts_of
from ...video.writer import SEQUENCE_SUFFIX, write_sequence, write_video
from ...words import Joined, Words, joined, lines, words
from ..harmless import Harmless
from ..host_flags import writes_no_texts
from ..language import say
from ..node_text import tell
from ..vae.tiny_stream import Decoder, streaming_decoder
from .inputs import Inputs, encode_clips
from .job_board import keep_workflow
from .job_progress import JobProgress
from .job_sampling import JobSampling

JOBS_FOLDER = "skyreels_v2_jobs"
IN_USE_SECONDS = 3600.0  # a finished video may still be read by other nodes of its graph
MOST_PARTS = 100  # that a front end is told of at once: the newest


@dataclass(frozen=True)
class LongVideo:
    """A finished long video.

    Attributes:
        path: the file.
        noted: its size and digest.
        latents: latents of the last segment [1, C, F, h, w].
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
        show: takes what there is to see of the job, each time there is more; see `growing`.
    """

    name: str
    metadata: Mapping[str, str] | None = None
    keep_gb: float = 0.0
    say: Callable[[Words], None] = lambda line: None
    show: Callable[[dict[str, Any]], None] = lambda found: None


def jobs_root() -> Path:
    """Return the folder of all jobs."""
    return Path(folder_paths.get_output_directory()) / JOBS_FOLDER


def make_long_video(inputs: Inputs, video: PlannedVideo, job: Job) -> LongVideo:
    """Make a long video, or go on with one that was begun.

    Args:
        inputs: what comes from other nodes.
        video: what is made of them.
        job: where it is kept.

    Returns:
        The file, in a folder of its own under the host's output folder.

    Raises:
        SkyReelsError: inputs or settings that cannot work, before any work; a job that another run holds; a full disk;
            NaN or infinity, before anything made of it is kept.
    """
    inputs.check(video.settings)
    tensors = inputs.tensors() | video.images.tensors()
    check_all_finite(tensors, words("What is connected"), words("check the node that made it"))
    decoder, video, suffix = streaming_decoder(inputs.vae), video.cut(inputs.prompts), video.settings.suffix
    about = video.identity() | inputs.identity()
    with Journal(jobs_root(), job.name, about, len(video.plan.segments), tensors, job.keep_gb > 0) as journal:
        with journal.writing():
            keep_workflow(journal.folder, job.metadata)
        room = make_room(jobs_root(), job.keep_gb, IN_USE_SECONDS)
        before = journal.next_segment()
        text = report(video, inputs, journal, before)
        if room is not None:
            tell("jobs", room)
            text = lines(text, room)
        path = journal.result_path(suffix)
        if before:
            show_growing(job, journal, suffix)
        if before is not None:
            progress = JobProgress(video.plan, inputs.model, job.say)
            latents_from = JobSampling(inputs, video, encode_clips(inputs.vae, video), progress).source()
            LongVideoRun(inputs, video, journal, decoder, job).make(latents_from)
        if before is not None or not journal.has(path):
            with journal.writing():
                source = inputs.source
                sound, times = (source.sound, source.times) if source else (None, ())
                join_videos(path, journal.parts(suffix), job.metadata, sound, times)
            journal.finish(path)
        elif writes_no_texts() and texts_of(path):
            with journal.writing():
                remove_texts(path)
            journal.finish(path)
        show_growing(job, journal, suffix, path)
        latents = journal.load(len(video.plan.segments) - 1, "window")["window"]
        return LongVideo(path, journal.noted(path), latents, text)


def report(video: PlannedVideo, inputs: Inputs, journal: Journal, next_segment: int | None) -> Joined:
    """Return the plan, and where this run begins, as text for a person."""
    shown: list[Joined | Words] = [video.describe()]
    if blending := inputs.prompts.about_blend():
        shown.append(blending)
    if find_codec(video.settings.codec, video.settings.crf).sequence:
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


def growing(journal: Journal, suffix: str, whole: Path | None = None) -> dict[str, Any]:
    """Return what a front end needs to play what was finished last of a job, in the language of whoever queued it.

    Args:
        journal: the open job.
        suffix: of the files that hold the video.
        whole: the finished video, in place of its parts.
    """
    files = [whole] if whole is not None else journal.parts(suffix)[-MOST_PARTS:]
    kept = {"finished": len(journal.finished), "segments": journal.segments}
    about = words("{finished} of {segments} segments", **kept) if whole is None else words("finished")
    return {
        "folder": f"{JOBS_FOLDER}/{journal.folder.name}",
        "files": [path.name for path in files],
        "versions": {path.name: path.stat().st_mtime_ns for path in files},
        "complete": whole is not None,
        "about": say(about),
        "stopped": say(words("{finished} of {segments} segments kept; queue again to continue.", **kept)),
    }


def show_growing(job: Job, journal: Journal, suffix: str, whole: Path | None = None) -> None:
    """Show what is finished of a job; a part that somebody took away meanwhile is no reason to end the run."""
    Harmless(lambda: job.show(growing(journal, suffix, whole)))()


class LongVideoRun:
    """One run of a job: from the first segment that is missing to the last.

    Args:
        inputs: what comes from other nodes.
        video: what is made of them.
        journal: the open job.
        decoder: new.
        job: what is said about it, and what goes into its pictures.
    """

    def __init__(self, inputs: Inputs, video: PlannedVideo, journal: Journal, decoder: Decoder, job: Job):
        self.inputs, self.video, self.settings, self.plan = inputs, video, video.settings, video.plan
        self.journal, self.decoder, self.job = journal, decoder, job
        self.pushed = 0  # latent frames that the decoder was given in all

    def make(self, source: Source) -> None:
        """Make every segment that the journal lacks; one that was torn makes only itself again."""
        for finished in continue_job(source, self.journal):
            self.take_up(finished.segment.index)
            parts = self.write(finished)
            own = {"history": self.decoder.history, "pushed": torch.tensor(self.pushed)}
            if finished.segment.index == len(self.plan.segments) - 1:
                own["window"] = finished.window
            self.journal.commit(finished.segment.index, {**finished.state, **own}, parts)
            show_growing(self.job, self.journal, self.settings.suffix)
            room = make_room(jobs_root(), self.job.keep_gb, IN_USE_SECONDS)  # this job has grown
            if room is not None and agreed_gb(jobs_root()) is not None:
                tell("jobs", room)

    def write(self, finished: Finished) -> list[Path]:
        """Write the video frames that can be shown now, and return the files; none where there are no new frames."""
        index, settings, source = finished.segment.index, self.settings, self.inputs.source
        known = len(source.tail) if source else 0  # frames that are not shown again: those of the video before it
        hidden = max(known - self.decoded, 0)
        frames, parts, codec = self.decode(finished)[hidden:], [], find_codec(settings.codec, settings.crf)
        rate = float(source.rate) if source else settings.forcing.fps
        clips: list[tuple[str, Callable[[], Iterable[torch.Tensor]]]] = []
        if source and index == 0:
            clips.append(("-source", lambda: source.scaled(settings.width, settings.height)))
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

    @property
    def decoded(self) -> int:
        """Video frames that were decoded so far."""
        waiting = 0 if self.decoder.waiting is None else self.decoder.waiting.shape[2]
        return self.plan.geometry.video_frames(self.pushed - waiting) if self.pushed > waiting else 0

    def take_up(self, index: int) -> None:
        """Bring the decoder to where the segments before this one left it, if this run did not make them itself."""
        expected = sum(segment.new for segment in self.plan.segments[:index])
        if self.pushed == expected:
            return
        stored = self.journal.load(index - 1, "history", "pushed")
        self.decoder = streaming_decoder(self.inputs.vae)
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
            frames = trimmed(frames, self.plan.trimmed_frames, self.video.images.end is not None)
        return frames
