"""The score's arithmetic, on clips that need no model."""

from __future__ import annotations

import pytest
import torch

from demo.captions import LANGUAGES, parse
from demo.generate import Settings, latent_count
from demo.measure import look
from demo.score import FPS, FRAMES, Line, drawn, goes_on, prompts_of, right
from demo.shapes import render


def test_real_clips_score_in_full() -> None:
    clips, _, _ = drawn(12)
    truth = render(clips, FRAMES)
    words = [clips.words(row) for row in range(len(clips))]
    seen = [look(pixels, FPS) for pixels in truth]
    assert [right(seen, words, kind) for kind in ("colour", "shape", "motion", "background")] == [1, 1, 1, 1]
    assert all(goes_on(pixels, 0, None) for pixels in truth)


def test_wrong_words_score_nothing_and_open_ones_do_not_count() -> None:
    clips, _, _ = drawn(2)
    seen = [look(pixels, FPS) for pixels in render(clips, FRAMES)]
    assert right(seen, [{"colour": "none"}, {"colour": "none"}], "colour") == 0
    assert right(seen, [{"colour": clips.words(0)["colour"]}, {}], "colour") == 1


def test_a_clip_that_jumps_does_not_go_on() -> None:
    pixels = render(drawn(1)[0], FRAMES)[0].clone()
    pixels[-1] = pixels[-1].roll(20, dims=1)
    assert goes_on(pixels, 0, 3)
    assert not goes_on(pixels, -3, None)
    assert not goes_on(torch.full_like(pixels, 0.5), 0, 3)


@pytest.mark.parametrize("language", LANGUAGES)
def test_prompts_are_the_same_every_time_and_say_a_shape_a_colour_and_a_motion(language: str) -> None:
    texts, seeds = prompts_of(language, 30, 5)
    assert prompts_of(language, 30, 5) == (texts, seeds) and len(set(seeds)) == 30
    assert all({"shape", "colour", "motion"} <= set(parse(text)) for text in texts)


@pytest.mark.parametrize(
    ("line", "verdict", "part"),
    [
        (Line("a", 0.96, 0.95), "yes", "| 96% | at least 95% |"),
        (Line("a", 0.94, 0.95), "no", "| 94% | at least 95% |"),
        (Line("a", 3.0, 5.0, "points", at_most=True), "yes", "| 3.0 points | at most 5.0 points |"),
        (Line("a", 21.0, 22.0, "dB"), "no", "| 21.0 dB | at least 22.0 dB |"),
        (Line("a", 0.5), "", "| 50% |  |"),
    ],
)
def test_a_line_says_what_was_reached_and_whether_it_is_enough(line: Line, verdict: str, part: str) -> None:
    assert line.verdict == verdict
    assert part in line.text()


@pytest.mark.parametrize(("frames", "block", "expected"), [(1, 1, 1), (2, 1, 2), (37, 1, 10), (37, 5, 10), (41, 5, 15)])
def test_latent_frames_hold_all_video_frames_in_whole_blocks(frames: int, block: int, expected: int) -> None:
    assert latent_count(frames, Settings(ar_step=5, causal_block_size=block)) == expected
