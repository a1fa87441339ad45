"""Inputs that several nodes share: size, seed, guidance, schedule and diffusion forcing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from comfy_api.latest import io

from ..wan_core.comfy.vae.latents import SIZES
from ..wan_core.errors import InputError
from ..wan_core.model.geometry import WAN21
from ..wan_core.sampling.solvers import SOLVERS

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


def seed_and_cfg() -> list[Any]:
    """Return the inputs of seed and guidance."""
    return [
        io.Int.Input(
            "seed",
            default=0,
            min=0,
            max=0xFFFFFFFFFFFFFFFF,
            control_after_generate=True,
            tooltip="Seed of all noise in this run; gives the same result on any device. A stopped long video "
            "resumes only with the same seed, so keep it fixed.",
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


def moving_window_input() -> Any:
    """Return the input of the window that moves along a long clip."""
    return io.Int.Input(
        "window_frames",
        optional=True,  # so prompts that were written down before it was there still run
        default=0,
        min=0,
        max=100_000,
        tooltip="Latent frames that the model sees at once; 0 = the whole clip. A window this long moves along a "
        "longer clip: no seams, and memory for the window only. For 30 steps use 25 (97 video frames) with "
        "ar_step 6 and causal_block_size 5: ar_step times the blocks in the window must be at least steps.",
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
            tooltip="Denoising steps by which each block starts later than the block before it; 0 = all frames "
            "together (sync). The authors' async setting is 5 with causal_block_size 5, which takes more "
            "model calls.",
        ),
        io.Int.Input(
            "causal_block_size",
            default=1,
            min=1,
            max=256,
            tooltip="Latent frames (4 video frames each) that are denoised together when ar_step is above 0 or "
            "causal_attention is on. Any length works: it is padded to whole blocks and trimmed afterwards.",
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
            tooltip="Noise on known frames, in timesteps (0 to 999): 20 lets them blend with the new frames, above "
            "50 they lose their content, 0 keeps them exact.",
        ),
    ]
