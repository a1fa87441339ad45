"""A moving window with the embedded models: the whole video is one, and shows what was asked for to its end."""

from __future__ import annotations

from demo.files import WEIGHTS
from demo.generate import Settings
from demo.measure import look
from demo.models import load_models
from demo.run import OVERLAP, WINDOW
from demo.score_long import FPS, PROMPTS, SEED, finite, make_moving, step_errors
from wan_core.long.plan import Wanted
from wan_core.long.segments import plan_segments

JUMP = 5.0  # pixels


def test_a_moving_window_keeps_shape_colour_and_motion_and_has_no_jump() -> None:
    settings = Settings(fps=FPS)
    plan = plan_segments(Wanted(117, WINDOW, OVERLAP, steps=settings.steps))
    minute = make_moving(load_models(WEIGHTS), PROMPTS[0], plan, SEED, settings)
    assert minute.pixels.shape == (117, 64, 64, 3)
    for part in (minute.pixels[:WINDOW], minute.pixels[-WINDOW:]):
        seen = look(part, FPS)
        assert [seen.says(kind) for kind in ("colour", "shape", "motion")] == ["red", "circle", "right"]
    assert max(finite(errors).max() for errors in step_errors(minute)) < JUMP
