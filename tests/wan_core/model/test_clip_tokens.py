"""Calls that compute some frames of a clip: equal to the whole call where nothing has changed, whatever is computed."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tiny import random_state_dict, tiny_config
from wan_core.model.clip_tokens import ClipTokens, SomeFrames
from wan_core.model.forward_memory import kept_bytes
from wan_core.model.wan_model import WanModel

FRAMES, BLOCK = 6, 2
CONFIG = replace(tiny_config(inject_sample_info=True), num_layers=3)


def randn(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def model() -> WanModel:
    model = WanModel(CONFIG)
    model.load_state_dict(random_state_dict(CONFIG))
    return model.eval().requires_grad_(False)


VIDEO, TEXT = randn(2, 16, FRAMES, 4, 6, seed=1), randn(2, 5, CONFIG.text_dim, seed=2)
TIMES = torch.tensor([[20.0, 20.0, 400.0, 400.0, 999.0, 999.0]]).expand(2, -1)


def whole_call(model: WanModel, causal: int, video: torch.Tensor = VIDEO) -> tuple[torch.Tensor, ClipTokens]:
    """The velocity of the whole clip, and what is kept of it."""
    kept = ClipTokens(CONFIG.num_layers, FRAMES)
    everything = SomeFrames(range(FRAMES), kept)
    return model(video, TIMES, TEXT, fps=24, causal_block_size=causal, some=everything), kept


@pytest.mark.parametrize("causal", [0, BLOCK])
def test_a_call_of_all_frames_is_the_call_without_anything_kept(model: WanModel, causal: int) -> None:
    expected = model(VIDEO, TIMES, TEXT, fps=24, causal_block_size=causal)
    made, _ = whole_call(model, causal)
    torch.testing.assert_close(made, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("pieces", [1, 3])
@pytest.mark.parametrize("causal", [0, BLOCK])
@given(st.sets(st.integers(0, FRAMES - 1), min_size=1))
@settings(max_examples=12, deadline=None)
def test_some_frames_equal_the_whole_call_where_nothing_has_changed(
    model: WanModel, causal: int, pieces: int, chosen: set[int]
) -> None:
    frames = sorted(chosen)
    expected, kept = whole_call(model, causal)
    made = model(
        VIDEO[:, :, frames], TIMES[:, frames], TEXT, fps=24, causal_block_size=causal, pieces=pieces,
        some=SomeFrames(frames, kept),
    )  # fmt: skip
    torch.testing.assert_close(made, expected[:, :, frames], rtol=1e-4, atol=1e-4)


def test_the_others_are_seen_as_they_were_last_computed(model: WanModel) -> None:
    """Frames 2 and 3 change and are not computed: frame 0 sees the old ones, and the new ones once they are."""
    changed = VIDEO.clone()
    changed[:, :, 2:4] = randn(2, 16, 2, 4, 6, seed=9)
    old, kept = whole_call(model, 0)
    new, _ = whole_call(model, 0, changed)
    first = model(changed[:, :, :1], TIMES[:, :1], TEXT, fps=24, some=SomeFrames([0], kept))
    torch.testing.assert_close(first, old[:, :, :1], rtol=1e-4, atol=1e-4)
    assert (first - new[:, :, :1]).abs().max() > 1e-3
    whole = model(changed, TIMES, TEXT, fps=24, some=SomeFrames(range(FRAMES), kept))
    torch.testing.assert_close(whole, new, rtol=1e-4, atol=1e-4)


def test_under_causal_attention_no_later_block_is_seen_however_it_was_kept(model: WanModel) -> None:
    changed = VIDEO.clone()
    changed[:, :, 4:] = randn(2, 16, 2, 4, 6, seed=9)
    _, kept = whole_call(model, BLOCK, changed)
    frames = [0, 2, 3]
    some = SomeFrames(frames, kept)
    made = model(VIDEO[:, :, frames], TIMES[:, frames], TEXT, fps=24, causal_block_size=BLOCK, some=some)
    expected, _ = whole_call(model, BLOCK)
    torch.testing.assert_close(made, expected[:, :, frames], rtol=1e-4, atol=1e-4)


def test_it_takes_the_memory_that_was_told(model: WanModel) -> None:
    _, kept = whole_call(model, 0)
    told = kept_bytes(CONFIG, 2, (FRAMES, 4, 6), 4)
    assert kept.num_bytes == told
    some = SomeFrames([1, 4], kept)
    model(VIDEO[:, :, [1, 4]], TIMES[:, [1, 4]], TEXT, fps=24, some=some)
    assert kept.num_bytes == told  # and no more, whatever is computed
