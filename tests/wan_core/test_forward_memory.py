"""The memory that is kept free for a forward pass against what one takes, counted at the full size of the releases."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from benchmarks.counted import counted_peak
from tools.model_shapes import model_inputs
from wan_core.config import PRESETS, WanConfig
from wan_core.forward_memory import forward_bytes
from wan_core.model import WanModel

BF16 = torch.bfloat16


def counted(config: WanConfig, inputs: dict[str, torch.Tensor], gradients: bool = False, **how: int) -> int:
    """One layer says it all: layers follow each other in the same memory."""
    model = WanModel(replace(config, num_layers=1), device=torch.device("meta"), dtype=BF16).requires_grad_(False)
    with torch.set_grad_enabled(gradients):
        return counted_peak(lambda: model(**inputs, **how))


def inputs_of(name: str, frames: int | None = None, batch: int = 1) -> dict[str, torch.Tensor]:
    """What a released model is called with at its own size, or on another number of latent frames."""
    inputs = {key: value.to(BF16) for key, value in model_inputs(PRESETS[name]).items()}
    if frames is not None:
        inputs["x"], inputs["t"] = inputs["x"][:, :, :1].expand(-1, -1, frames, -1, -1), inputs["t"][:, :1]
    return {key: value.expand(batch, *value.shape[1:]) for key, value in inputs.items()}


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("frames", [None, 1, 4, 120])
@pytest.mark.parametrize("name", PRESETS)
def test_what_is_kept_free_is_enough_and_not_far_too_much(name: str, frames: int | None, batch: int) -> None:
    config, inputs = PRESETS[name].config, inputs_of(name, frames, batch)
    kept = forward_bytes(config, batch, tuple(inputs["x"].shape[2:]), BF16.itemsize)
    assert 1.1 < kept / counted(config, inputs) < 2.3


@pytest.mark.parametrize("name", ["DF-1.3B-540P", "DF-14B-720P"])
def test_causal_attention_takes_hardly_more(name: str) -> None:
    inputs = inputs_of(name)
    whole, causal = (counted(PRESETS[name].config, inputs, causal_block_size=size) for size in (0, 5))
    assert causal < 1.1 * whole


def test_a_long_video_takes_no_more_than_its_token_streams() -> None:
    config, inputs = PRESETS["DF-14B-720P"].config, inputs_of("DF-14B-720P", frames=120)
    stream = 120 * 45 * 80 * config.dim * BF16.itemsize
    assert counted(config, inputs) < 5.2 * stream


def test_the_feed_forward_alone_would_take_more() -> None:
    """The test above would fail without parts: here nothing is computed in parts, as where gradients are asked for."""
    config, inputs = PRESETS["DF-14B-720P"].config, inputs_of("DF-14B-720P", frames=120)
    stream = 120 * 45 * 80 * config.dim * BF16.itemsize
    assert counted(config, inputs, gradients=True) > 8 * stream
