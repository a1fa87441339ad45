"""Inputs and outputs that the nodes for long videos share."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..wan_core.codecs import available_codecs
from ..wan_core.comfy.latents import SIZES

Script = io.Custom("SKYREELS_V2_SCRIPT")
FORCING = ("solver", "fps", "ar_step", "causal_block_size", "causal_attention", "addnoise_condition")


def size_inputs() -> list[Any]:
    """Return the inputs of the picture's size."""
    return [
        io.Combo.Input("size", options=[*SIZES, "custom"], default=next(iter(SIZES)), tooltip="Size of the video."),
        io.Int.Input("width", default=960, min=16, max=8192, step=16, tooltip="Pixels, with size custom."),
        io.Int.Input("height", default=544, min=16, max=8192, step=16, tooltip="Pixels, with size custom."),
    ]


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
            step=4,
            tooltip="Video frames that the model sees at once: 97 for 540P models, 121 for 720P models.",
        ),
        io.Int.Input(
            "overlap_history",
            default=17,
            min=1,
            max=8193,
            step=4,
            tooltip="Video frames that a segment takes over from the one before: 17, or 37 for more coherence.",
        ),
    ]


def window_inputs() -> list[Any]:
    """Return the inputs of the model's window and what is carried from one to the next."""
    return length_inputs()[1:]


def loop_input() -> Any:
    """Return the input of the seamless loop."""
    return io.Boolean.Input(
        "loop",
        default=False,
        tooltip="The end leads back to the start: the video can be played round and round.",
    )


def quality_inputs() -> list[Any]:
    """Return the inputs of how segments follow one another, and of the file."""
    return [
        io.Combo.Input(
            "carry_over",
            options=["latents", "frames"],
            default="latents",
            tooltip="How the overlap is handed on. latents: as they are. frames: decoded and encoded again, as the "
            "authors' program does; colours drift more.",
        ),
        io.Float.Input(
            "drift_control",
            default=0.0,
            min=0.0,
            max=1.0,
            step=0.05,
            tooltip="How far a segment is brought to the brightness and contrast of the first. 0: not.",
        ),
        io.Combo.Input(
            "codec",
            options=available_codecs(),
            default="h264",
            tooltip="h264: plays everywhere. hevc and av1: smaller. prores: for editing (mov). ffv1: lossless (mkv).",
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


def seed_and_cfg() -> list[Any]:
    """Return the inputs of seed and guidance."""
    return [
        io.Int.Input(
            "seed",
            default=0,
            min=0,
            max=0xFFFFFFFFFFFFFFFF,
            control_after_generate=True,
            tooltip="Seed of all noise. Keep it fixed to go on with a stopped run.",
        ),
        io.Float.Input(
            "cfg", default=6.0, min=0.0, max=100.0, step=0.1, round=0.01, tooltip="Guidance: 6; 5 with images."
        ),
    ]


def job_inputs() -> list[Any]:
    """Return the inputs that say where the work is kept."""
    return [
        io.String.Input(
            "job_name", default="long_video", tooltip="Begins the name of the job's folder; no folders in it."
        ),
        io.Float.Input(
            "keep_gb",
            default=50.0,
            min=0.0,
            max=100000.0,
            step=1.0,
            tooltip="Gigabytes (GB) that all jobs may take: beyond it finished ones are removed, the oldest first. "
            "0: no limit. Unfinished jobs are never removed.",
        ),
    ]


def video_outputs() -> list[Any]:
    """Return the outputs of both nodes that make long videos."""
    return [
        io.Video.Output("video", display_name="video", tooltip="The whole video, a file; for SaveVideo."),
        io.Latent.Output("latent", display_name="latent", tooltip="Latents of the last segment."),
        io.String.Output("plan", display_name="plan", tooltip="The plan, and what an earlier run had done."),
    ]
