"""The benchmark of the step cache makes the demo's own clips, by its own rule and by others, and counts the work."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from benchmarks.rivals import FIRST_STEPS, Rival
from benchmarks.step_cache import Made, Mode, Way, make_clips
from demo.generate import Settings
from demo.generate import make_clips as demo_clips
from demo.models import Models, load_models
from wan_core.sampling.run import ForcingOptions, plan_run
from wan_core.sampling.sigmas import flow_sigmas

TEXT, SEED = "a red circle moving to the right on a black background", 5
FRAMES, ASYNC = 4, Settings(steps=12, ar_step=3, causal_block_size=2)


@pytest.fixture(scope="module")
def models() -> Models:
    return load_models()


def made_by(models: Models, way: Way, how: Settings = ASYNC, frames: int = FRAMES) -> Made:
    return make_clips(models, [(TEXT, SEED)], Mode(how, frames, ()), way)


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("causal", [False, True])
def test_with_all_calls_it_is_the_demos_clip(models: Models, causal: bool, apart: bool) -> None:
    how = Settings(steps=3, ar_step=1, causal_block_size=1, causal_attention=causal)
    made = made_by(models, Way("all calls", apart=apart), how, 2)
    (expected,) = demo_clips(models, [TEXT], [SEED], 5, how)
    near = 1e-4 if causal or not apart else 0.05  # frames at rest are seen as they were computed last
    torch.testing.assert_close(made.pixels[0], expected, rtol=near, atol=near)


@pytest.mark.parametrize(
    "way",
    [
        Way("apart", 0.1),
        Way("whole", 0.1, apart=False),
        Way("FlowCache", rival=0.2),
        Way("MotionCache", rival=0.2, motion=True),
    ],
    ids=lambda way: way.name,
)
def test_less_work_for_nearly_the_same_clip(models: Models, way: Way) -> None:
    whole, made = made_by(models, Way("all calls", apart=False)), made_by(models, way)
    assert made.work < whole.work
    assert 0 < (whole.pixels - made.pixels).abs().mean() < 0.1


def test_fewer_steps_are_another_clip_in_less_work(models: Models) -> None:
    how = replace(ASYNC, ar_step=0)
    whole, fewer = (made_by(models, Way("steps", steps=steps), how) for steps in (0, 6))
    assert whole.work == 2 * 12 * FRAMES and fewer.work == 2 * 6 * FRAMES


def test_a_rival_that_computes_everything_gives_the_models_velocity(models: Models) -> None:
    run = plan_run(ForcingOptions(ar_step=3, causal_block_size=2), flow_sigmas(12, 5.0), FRAMES)
    rival, text = Rival(models.dit, 0.0, 2), models.embed([TEXT])
    x = torch.randn(1, 16, FRAMES, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        for row in run.rows[: FIRST_STEPS + 1]:
            times = torch.tensor([row.sigmas]) * 1000
            velocity, expected = rival(x, times, text, 16, row), models.dit(x, times, text, fps=16)
            if row.index == 0:
                torch.testing.assert_close(velocity, expected, rtol=1e-3, atol=1e-3)
    assert rival.work == FRAMES + FIRST_STEPS * 2 + 2 * (FIRST_STEPS - 2)  # the second block began three rows later
    near = (velocity[:, :, 2:] - expected[:, :, 2:]).norm() / expected[:, :, 2:].norm()
    assert near < 0.05  # of the block before it sees what was computed in the same call
