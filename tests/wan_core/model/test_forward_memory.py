"""The memory that is kept free for a forward pass against what one takes, counted at the full size of the releases."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from benchmarks.counted import counted_peak
from tools.model_shapes import model_inputs
from wan_core.model.config import PRESETS, WanConfig
from wan_core.model.forward_memory import forward_bytes, kept_bytes, seen_bytes
from wan_core.model.kv_cache import KVCache
from wan_core.model.layers import Layers
from wan_core.model.wan_model import WanModel

BF16 = torch.bfloat16
META = torch.device("meta")


def counted(config: WanConfig, inputs: dict[str, torch.Tensor], gradients: bool = False, **how: Any) -> int:
    """One layer says it all: layers follow each other in the same memory. A cache has to have as many as are asked."""
    layers = len(how["cache"].layers) if "cache" in how else 1
    model = WanModel(replace(config, num_layers=layers), Layers(device=META, dtype=BF16)).requires_grad_(False)
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


def cache_of(config: WanConfig, x: torch.Tensor, frames: int, device: str, layers: int = 1, keep: int = 0) -> KVCache:
    """A cache of latent frames before those of `x`, at the beginning of a call that keeps so many of its own."""
    cache, tokens = KVCache(layers, 1, torch.device(device)), x.shape[3] * x.shape[4] // 4
    for part in cache.parts:  # on the CPU as well without data: one value that is shown many times
        whole = torch.empty(1, 1, 1, dtype=BF16, device=device).expand(len(x), tokens, config.dim)
        part.blocks = [whole.contiguous() if device == "meta" else whole for _ in range(frames)]
    cache.end = frames
    cache.begin(0, frames + keep)
    return cache


# the last block of 97 frames, of 397, and of a rolling window; and a whole clip in work behind as many that are known
SEEN = [(20, 5), (95, 5), (18, 3), (25, 25)]


@pytest.mark.parametrize(("seen", "frames"), SEEN)
@pytest.mark.parametrize("name", PRESETS)
def test_what_is_kept_free_is_enough_for_a_look_at_a_cache(name: str, seen: int, frames: int) -> None:
    config, inputs = PRESETS[name].config, inputs_of(name, frames)
    size, cache = inputs["x"].shape[3:], cache_of(config, inputs["x"], seen, "meta")
    work = forward_bytes(config, 1, (frames, *size), BF16.itemsize)
    kept = work + seen_bytes(config, 1, (seen, *size), BF16.itemsize)
    peak = counted(config, inputs, causal_block_size=frames, cache=cache)
    assert 1.1 < kept / peak < 2.3
    if seen == 95:
        assert peak > 1.5 * work  # without a word about the cache there would be an end of memory here


@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_a_look_at_a_cache_takes_its_keys_and_values_once_wherever_it_lies(device: str) -> None:
    name, seen, frames = "DF-14B-540P", 95, 5
    config, inputs = PRESETS[name].config, inputs_of(name, frames)
    stream = inputs["x"].shape[3] * inputs["x"].shape[4] // 4 * config.dim * BF16.itemsize  # of one frame
    cache = cache_of(config, inputs["x"], seen, device)
    peak = counted(config, inputs, causal_block_size=frames, cache=cache)
    assert peak < (2 * seen + 6.2 * frames) * stream


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("name", ["DF-1.3B-540P", "DF-14B-540P"])
def test_the_whole_of_a_rolling_window_fits_in_what_is_kept_free(name: str, batch: int) -> None:
    """All layers, in the call that keeps a chunk: the cache is at its largest when the last layer is computed."""
    config, window, chunk = PRESETS[name].config, 21, 3
    inputs = inputs_of(name, chunk, batch)
    size, value_bytes = inputs["x"].shape[3:], BF16.itemsize
    cache = cache_of(config, inputs["x"], window - chunk, "meta", config.num_layers, keep=chunk)
    before = cache.num_bytes
    peak = before + counted(config, inputs, causal_block_size=chunk, cache=cache)
    cache_room = kept_bytes(config, batch, (window, *size), value_bytes)
    assert cache.num_bytes == cache_room
    kept = cache_room + seen_bytes(config, batch, (window, *size), value_bytes)
    kept += forward_bytes(config, batch, (chunk, *size), value_bytes)
    assert cache_room + forward_bytes(config, batch, (chunk, *size), value_bytes) < peak < kept < 1.1 * peak
