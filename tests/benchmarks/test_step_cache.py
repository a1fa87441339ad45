"""The benchmark of the step cache makes the demo's own clips, and counts what it says it counts."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from benchmarks.step_cache import make_clip
from demo.generate import Settings, make_clips
from demo.models import Models, load_models

TEXT, SEED = "a red circle moving to the right on a black background", 5


@pytest.fixture(scope="module")
def models() -> Models:
    return load_models()


@pytest.mark.parametrize("causal", [False, True])
def test_at_threshold_0_it_is_the_demos_clip_in_all_its_calls(models: Models, causal: bool) -> None:
    how = Settings(steps=3, ar_step=1, causal_block_size=1, causal_attention=causal)
    made = make_clip(models, TEXT, SEED, 2, how, 0.0)
    (expected,) = make_clips(models, [TEXT], [SEED], 5, how)
    torch.testing.assert_close(made.pixels, expected, rtol=1e-4, atol=1e-4)
    assert made.calls == 4 and made.frames <= 2 * 4


def test_a_threshold_makes_fewer_calls_for_nearly_the_same_clip(models: Models) -> None:
    how = Settings(steps=12)
    whole, cached = (make_clip(models, TEXT, SEED, 2, how, threshold) for threshold in (0.0, 0.3))
    assert whole.calls == 12 and cached.calls < 12 and cached.frames == 2 * cached.calls
    assert 0 < (whole.pixels - cached.pixels).abs().mean() < 0.1


def test_fewer_steps_are_another_clip(models: Models) -> None:
    how = Settings(steps=12)
    assert make_clip(models, TEXT, SEED, 2, replace(how, steps=6), 0.0).calls == 6
