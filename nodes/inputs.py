"""Inputs and outputs that several nodes share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from comfy_api.latest import io

from ..wan_core.comfy.vae.latents import SIZES
from ..wan_core.errors import InputError
from ..wan_core.long.carry_over import CARRY_OVERS, USUAL
from ..wan_core.model.geometry import WAN21
from ..wan_core.sampling.solvers import SOLVERS
from ..wan_core.video.codecs import available_codecs

Script = io.Custom("SKYREELS_V2_SCRIPT")
SOLVER_TOOLTIP = (
    "unipc: the authors' for DF models (order 2). euler: order 1. unipc_plain: the authors' for T2V and I2V models, "
    "whose second step differs. lcm: for models and LoRAs distilled to few steps; fresh noise after every step."
)
CUSTOM = "custom"
FORCING = ("solver", "fps", "ar_step", "causal_block_size", "causal_attention", "addnoise_condition")


def shown_first(*names: str) -> Callable[[Callable[[Any], io.Schema]], Callable[[Any], io.Schema]]:
    """Return a decorator of define_schema that marks every other widget as advanced: front ends fold these away.

    Args:
        names: the widgets that a person sets for a first video; at most 8 with those that come with them.
    """

    def decorate(define: Callable[[Any], io.Schema]) -> Callable[[Any], io.Schema]:
        def define_schema(node: Any) -> io.Schema:
            schema = define(node)
            for entry in schema.inputs:
                if isinstance(entry, io.WidgetInput) and entry.id not in names:
                    entry.advanced = True
            return schema

        return define_schema

    return decorate


def size_input() -> Any:
    """Return the input of the picture's size: a preset, or custom with its width and height."""
    pixels = {"min": WAN21.multiple, "max": 8192, "step": WAN21.multiple}
    sides = [
        io.Int.Input("width", default=960, tooltip="Width in pixels, a multiple of 16.", **pixels),
        io.Int.Input("height", default=544, tooltip="Height in pixels, a multiple of 16.", **pixels),
    ]
    return io.DynamicCombo.Input(
        "size",
        options=[*(io.DynamicCombo.Option(name, []) for name in SIZES), io.DynamicCombo.Option(CUSTOM, sides)],
        tooltip="Size of the video. The presets are what the models were trained on; custom asks for width and height.",
    )


def pixels_of(size: dict[str, Any] | None) -> tuple[int, int]:
    """Return width and height of what came through the size input.

    Args:
        size: {"size": a preset}, or {"size": "custom", "width": .., "height": ..}; None for anything else: the host
            hands on only what the input offers.

    Raises:
        InputError: there is no such size.
    """
    if size is None:
        names = ", ".join([*SIZES, CUSTOM])
        raise InputError(
            "The size is missing, linked or unknown: choose one of {names} on the node itself; custom takes a linked "
            "width and height.",
            names=names,
        )
    return SIZES[size["size"]] if size["size"] in SIZES else (size["width"], size["height"])


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
            tooltip="Video frames that a segment takes over from the one before: 17, or 37 for more coherence.",
        ),
    ]


def window_inputs() -> list[Any]:
    """Return the inputs of the model's window and what is carried from one to the next."""
    return length_inputs()[1:]


def image_inputs() -> list[Any]:
    """Return the inputs of the images that a long video has to go through."""
    return [
        io.Image.Input("start_image", optional=True, tooltip="The first frame, or several: the beginning of a video."),
        io.Image.Input("end_image", optional=True, tooltip="The last frame of the whole video."),
        io.Image.Input("key_images", optional=True, tooltip="Frames on the way, one or a batch; key_times says when."),
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
        tooltip="The end leads back to the start: the video can be played round and round. The last frame would be the "
        "first again, so the file has one frame fewer than total_frames.",
    )


def quality_inputs() -> list[Any]:
    """Return the inputs of how segments follow one another, and of the file."""
    return [
        io.Combo.Input(
            "carry_over",
            options=list(CARRY_OVERS),
            default=USUAL,
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


def seed_and_cfg() -> list[Any]:
    """Return the inputs of seed and guidance."""
    return [
        io.Int.Input(
            "seed",
            default=0,
            min=0,
            max=0xFFFFFFFFFFFFFFFF,
            control_after_generate=True,
            tooltip="Seed of all noise of this run; the same on any device. A long video that was stopped goes on only "
            "with the same seed: keep it fixed.",
        ),
        io.Float.Input(
            "cfg",
            default=6.0,
            min=0.0,
            max=100.0,
            step=0.1,
            round=0.01,
            tooltip="Guidance towards the prompt: 6 for text to video, 5 for image to video. 1 is off and takes half "
            "the time (for distilled models).",
        ),
    ]


def negative_input() -> Any:
    """Return the input of the negative prompt; optional as `positive` is, since a host puts required inputs on top."""
    return io.Conditioning.Input(
        "negative", optional=True, tooltip="The encoded negative prompt; only needed when cfg is not 1."
    )


def negative_of(negative: list[Any] | None, cfg: float) -> list[Any]:
    """Return the negative prompt, an empty one where it is not read; `Raises: InputError` where it lacks."""
    if negative is None and cfg != 1:
        raise InputError("cfg is {cfg:g}, which needs a negative prompt: connect negative, or set cfg to 1.", cfg=cfg)
    return negative or []


def job_inputs() -> list[Any]:
    """Return the inputs that say where the work is kept."""
    return [
        io.String.Input(
            "job_name", default="long_video", tooltip="Begins the name of the job's folder; no folders in it."
        ),
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
        io.String.Output("plan", display_name="plan", tooltip="The plan, and what an earlier run had done."),
    ]


def steps_and_shift() -> list[Any]:
    """Return the inputs of the noise schedule."""
    return [
        io.Int.Input(
            "steps", default=30, min=1, max=1000, tooltip="Denoising steps of a frame; the authors use 30 to 50."
        ),
        io.Float.Input(
            "shift",
            default=8.0,
            min=0.1,
            max=100.0,
            step=0.1,
            tooltip="Shift of the noise schedule towards high noise: 8 for text to video, 5 for image to video.",
        ),
    ]


def timesteps_input(default: str, tooltip: str, optional: bool = False) -> Any:
    """Return the input of a list of timesteps."""
    return io.String.Input("timesteps", default=default, optional=optional, tooltip=tooltip)


MODEL_RATE = (
    "Frames per second the model aims at. Only DF-1.3B reads it: 16 has weights of its own, anything else counts as 24."
)
FILE_RATE = (
    "Frames per second of the file, by which times in scripts and key_times count. The model is told it as well; only "
    "DF-1.3B reads it: 16 has weights of its own, anything else counts as 24."
)


def moving_window_input() -> Any:
    """Return the input of the window that moves along a long clip."""
    return io.Int.Input(
        "window_frames",
        optional=True,  # so prompts that were written down before it was there still run
        default=0,
        min=0,
        max=100_000,
        tooltip="Latent frames that the model sees at once; 0: the whole clip. A longer clip is made without seams, by "
        "a window that moves along it and in its memory: for 30 steps 25 (97 video frames), ar_step 6 and "
        "causal_block_size 5. ar_step times the blocks in the window has to reach steps.",
    )


def forcing_inputs(rate: str = MODEL_RATE) -> list[Any]:
    """Return the inputs that diffusion forcing adds to an ordinary sampler; `rate`: what fps is, as a tooltip."""
    return [
        io.Combo.Input("solver", options=list(SOLVERS), default="unipc", tooltip=SOLVER_TOOLTIP),
        io.Int.Input(
            "fps",
            default=24,
            min=1,
            max=120,
            tooltip=rate,
        ),
        io.Int.Input(
            "ar_step",
            default=0,
            min=0,
            max=1000,
            tooltip="Steps that each block of frames lags behind the one before. 0: all frames together (sync). The "
            "authors' async setting is 5 with causal_block_size 5; it takes more model calls.",
        ),
        io.Int.Input(
            "causal_block_size",
            default=1,
            min=1,
            max=256,
            tooltip="Latent frames (4 video frames each) that are denoised together when ar_step is above 0 or "
            "causal_attention is on. A length that does not fit is padded and cut again.",
        ),
        io.Boolean.Input(
            "causal_attention",
            default=False,
            tooltip="A block sees only itself and the blocks before it. Off is what the authors show.",
        ),
        io.Int.Input(
            "addnoise_condition",
            default=20,
            min=0,
            max=999,
            tooltip="Noise on known frames, in timesteps of 1000: 20 lets them blend with what is made, more than 50 "
            "loses them, 0 keeps them exact.",
        ),
    ]
