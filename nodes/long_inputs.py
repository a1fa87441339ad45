"""Inputs and outputs that the nodes around long video share: its length, images, segments, file and job."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..wan_core.long.carry_over import CARRY_OVERS, USUAL
from ..wan_core.model.geometry import WAN21
from ..wan_core.video.codecs import available_codecs

Script = io.Custom("SKYREELS_V2_SCRIPT")
FILE_RATE = (
    "Frame rate of the file; times in scripts and key_times are counted at this rate. The model gets it too, but "
    "only DF-1.3B reads it: 16 has weights of its own, anything else counts as 24."
)


def length_inputs() -> list[Any]:
    """Return the inputs that the plan of a long video depends on."""
    return [
        io.Int.Input(
            "total_frames",
            default=257,
            min=1,
            max=1_000_000,
            tooltip="Length in video frames: 257, 377, 737, 1457 are 10, 15, 30, 60 s at 24 fps.",
        ),
        io.Int.Input(
            "base_num_frames",
            default=97,
            min=5,
            max=8193,
            step=WAN21.temporal,
            tooltip="Video frames that the model sees at once: 97 for 540P models, 121 for 720P models.",
        ),
        io.Int.Input(
            "overlap_history",
            default=17,
            min=1,
            max=8193,
            step=WAN21.temporal,
            tooltip="Video frames that each segment takes over from the segment before it: 17, or 37 for smoother "
            "continuity.",
        ),
    ]


def image_inputs() -> list[Any]:
    """Return the inputs of the images that a long video has to go through."""
    return [
        io.Image.Input("start_image", optional=True, tooltip="The first frame, or several: the beginning of a video."),
        io.Image.Input("end_image", optional=True, tooltip="The last frame of the whole video."),
        io.Image.Input(
            "key_images",
            optional=True,
            tooltip="Images for frames in between, one or a batch; key_times says where each belongs.",
        ),
    ]


def key_times_input() -> Any:
    """Return the input of the times of key images."""
    return io.String.Input(
        "key_times",
        default="",
        tooltip="Where each key image lies: times like 2s, 4.5s, or video frames like 48, 108, counted from 0 (-1 is "
        "the last).",
    )


def loop_input() -> Any:
    """Return the input of the seamless loop."""
    return io.Boolean.Input(
        "loop",
        default=False,
        tooltip="Leads the end back to the start, so the video plays as a seamless loop. The last frame would repeat "
        "the first, so the file has one frame fewer than total_frames.",
    )


def quality_inputs() -> list[Any]:
    """Return the inputs of how segments follow one another, and of the file."""
    return [
        io.Combo.Input(
            "carry_over",
            options=list(CARRY_OVERS),
            default=USUAL,
            tooltip="How the overlap is passed on to the next segment. "
            + " ".join(f"{name}: {way.about}." for name, way in CARRY_OVERS.items()),
        ),
        io.Float.Input(
            "drift_control",
            default=0.0,
            min=0.0,
            max=1.0,
            step=0.05,
            tooltip="How strongly each segment is matched to the first one's brightness and contrast; 0 = off.",
        ),
        io.Combo.Input(
            "codec",
            options=available_codecs(),
            default="h264",
            tooltip="h264: plays everywhere. hevc and av1: smaller, av1 in 10 bits. prores: for editing, in 10 bits "
            "(mov, which SaveVideo cannot copy: take the file from the job's folder). ffv1: lossless (mkv). png: every "
            "frame as a lossless picture in 8 or 16 bits, with an h264 video to look at.",
        ),
        io.Int.Input(
            "crf",
            default=18,
            min=0,
            max=63,
            tooltip="Quality of the file: 0 is best, 18 looks the same, 51 is worst (av1: 63). prores and ffv1 have "
            "no such setting.",
        ),
    ]


def job_inputs() -> list[Any]:
    """Return the inputs that say where the work is kept."""
    return [
        io.String.Input("job_name", default="long_video", tooltip="Prefix for the job's folder name. No slashes."),
        io.Float.Input(
            "keep_gb",
            default=0.0,
            min=0.0,
            max=100000.0,
            step=1.0,
            tooltip="Gigabytes (GB) that all jobs may take; 0 = no limit. Beyond it finished jobs made with a limit "
            "are removed, the oldest first, if you allow it in skyreels_v2_jobs/keep_gb.txt.",
        ),
    ]


def video_outputs() -> list[Any]:
    """Return the outputs of both nodes that make long videos."""
    return [
        io.Video.Output("video", display_name="video", tooltip="The whole video, a file; for SaveVideo."),
        io.Latent.Output("latent", display_name="latent", tooltip="Latents of the last segment."),
        io.String.Output("plan", display_name="plan", tooltip="The plan, and what earlier runs have finished."),
    ]
