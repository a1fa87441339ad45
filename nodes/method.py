"""The input of how a long video is made, with the settings of each method, and the inputs that rolling has anywhere."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..wan_core.errors import InputError
from ..wan_core.long.methods import Method, method_of
from ..wan_core.long.plan import METHODS, MOVING_WINDOW, ROLLING, SEGMENTS
from ..wan_core.long.rolling_video import CHANGES, RECACHE
from .inputs import timesteps_input

TIMESTEPS = (
    "The timesteps that the model was distilled with, before the shift; one step for each. CausVid: 1000, 757, 522 "
    "with shift 1."
)
TIMESTEPS_SHIFT = (
    "Shift of the timesteps towards high noise: 5 for Self Forcing, Causal Forcing and LongLive; 1 takes them as they "
    "are."
)

KV_BUDGET = (
    "The share of the keys and values of finished frames that is kept, the sink's all. 1: all. 0.25 takes a quarter of "
    "the memory and less time, at some loss: better than a shorter window of the same size. Measured on the demo model "
    "only."
)


def shift_input(name: str = "shift") -> Any:
    """Return the input of the shift of a few-step model's timesteps."""
    return io.Float.Input(name, default=5.0, min=0.1, max=100.0, step=0.1, tooltip=TIMESTEPS_SHIFT)


def chunk_inputs() -> list[Any]:
    """Return the inputs of what a causal model makes at once and sees."""
    return [
        io.Int.Input(
            "chunk_frames",
            default=3,
            min=1,
            max=256,
            tooltip="Latent frames (4 video frames each) that are made together: 3 for chunk-wise models, 1 for "
            "frame-wise ones. As the model was trained.",
        ),
        io.Int.Input(
            "window_frames",
            default=21,
            min=1,
            max=4096,
            tooltip="Latent frames that a chunk sees, itself and the sink included (local_attn_size): 21 for Self "
            "Forcing, 12 for LongLive. Time and memory of a chunk depend on it, not on the length of the video.",
        ),
        io.Int.Input(
            "sink_frames",
            default=0,
            min=0,
            max=4096,
            tooltip="Latent frames at the start of the video that always stay in the window (sink_size): 3 for "
            "LongLive, 0 for others.",
        ),
    ]


def budget_input() -> Any:
    """Return the input of how much of the window's keys and values is kept; optional, as it came later."""
    return io.Float.Input(
        "kv_budget",
        optional=True,
        default=1.0,
        min=0.05,
        max=1.0,
        step=0.05,
        round=0.01,
        tooltip=KV_BUDGET,
    )


def method_input() -> Any:
    """Return the input of the method; optional, so that prompts written down before it was there still run."""
    rolling = [
        *chunk_inputs(),
        timesteps_input(Method().timesteps, TIMESTEPS + " Empty: steps, shift and solver of this node."),
        shift_input("timesteps_shift"),
        io.Combo.Input(
            "at_prompt_change",
            options=list(CHANGES),
            default=RECACHE,
            tooltip="What a new prompt of a script sees of the video so far. recache: everything in the window, "
            "re-encoded with the new prompt. keep: everything, as it was. flush: only the sink and the last chunk. "
            "cut: nothing, a new scene.",
        ),
        budget_input(),
    ]
    for entry in rolling:
        entry.advanced = True
    return io.DynamicCombo.Input(
        "method",
        optional=True,
        options=[
            io.DynamicCombo.Option(SEGMENTS, []),
            io.DynamicCombo.Option(MOVING_WINDOW, []),
            io.DynamicCombo.Option(ROLLING, rolling),
        ],
        tooltip="How the video is made. segments: one after another, each overlapping the last. moving window: no "
        "seams and fewer model calls; for DF models, with causal_block_size 5. rolling: chunk by chunk, for causal "
        "few-step models such as Self Forcing, with cfg 1.",
    )


def chosen_method(method: dict[str, Any] | None) -> Method:
    """Return what came through the method input.

    Args:
        method: {"method": its name, ...}; None where nothing came, or something that the input does not offer.

    Raises:
        InputError: it is linked or unknown.
    """
    if method is None:
        return Method()
    if method.get("method") not in METHODS:
        raise InputError(
            "The method is linked or unknown: set it on the node itself, to one of {names}.", names=", ".join(METHODS)
        )
    own = {name: value for name, value in method.items() if name != "method"}
    return method_of({"name": method["method"], **own})
