"""Every template after a run in the front ends, in both node styles: no node over another, the play button works."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.comfy.front_end import BOXES, overlaps
from tests.comfy.workflows import load_workflow, shrink
from tools.browser import FIT, OPEN, PROMPT, run
from tools.templates import ORDER, template

pytestmark = pytest.mark.whole_matrix

SIZES = {"landscape": (96, 64), "square": (64, 64), "portrait": (64, 96)}
ALL = [(title, "portrait") for title in ORDER] + [("Demo Long Video", "landscape"), ("Demo Long Video", "square")]
# one of each way to make a video runs in every row of the table (tools/compatibility.py), the others in two
IN_EVERY_ROW = (
    "Demo Text to Video", "Demo Long Video", "Demo Extend Video", "Demo Moving Window", "Demo Rolling", "I2V Model",
)  # fmt: skip
CASES = [
    pytest.param(title, shape, marks=[] if title in IN_EVERY_ROW and shape == "portrait" else pytest.mark.two_rows)
    for title, shape in ALL
]
# the one on Save Video, not on a node for long videos
VIDEO = """[...document.querySelectorAll('video:not(.skyreels-v2-growing video)')]
    .find((video) => video.getBoundingClientRect().width > 20)"""
LOADED = f"() => {VIDEO}?.readyState >= 2"
PLAY_BUTTON = f"""() => {{
    const video = {VIDEO}, box = video.getBoundingClientRect(), scale = box.width / video.offsetWidth
    return [box.left + 26 * scale, box.bottom - 44 * scale]
}}"""
PLAYS = f"() => {{ const video = {VIDEO}; return video.currentTime > 0 && (!video.paused || video.ended) }}"
SIDES = f"() => [{VIDEO}.videoWidth, {VIDEO}.videoHeight]"


def test_boxes_that_share_a_corner_overlap_and_boxes_that_touch_do_not() -> None:
    assert overlaps([("a", 0, 0, 10, 10), ("b", 9, 9, 10, 10), ("c", 19, 9, 5, 5)]) == ["a and b"]


def shaped(prompt: dict[str, Any], width: int, height: int) -> dict[str, Any]:
    """Return a prompt that runs in seconds and makes a video of these sides."""
    small = shrink(prompt, frames=17)
    sides = {"size.width": width, "size.height": height, "width": width, "height": height}
    for node in small.values():
        if node["class_type"] in ("SkyReelsV2EmptyLatent", "SkyReelsV2LongVideo", "WanImageToVideo"):
            node["inputs"].update({name: value for name, value in sides.items() if name in node["inputs"]})
    return small


@pytest.mark.parametrize(("title", "shape"), CASES, ids=lambda case: case)
def test_after_a_run_no_node_covers_another_and_the_play_button_plays_the_video(
    page: Any, title: str, shape: str, tmp_path: Path
) -> None:
    page.evaluate(OPEN, load_workflow(template(title)))
    prompt = shaped(page.evaluate(PROMPT), *SIZES[shape])  # the same in each front end: the host has the result then
    assert run(page, prompt) == ""
    page.wait_for_function(LOADED, timeout=60_000)
    page.evaluate(FIT)
    page.screenshot(path=tmp_path / "after.png")
    assert overlaps(page.evaluate(BOXES)) == []
    page.mouse.click(*page.evaluate(PLAY_BUTTON))
    page.wait_for_function(PLAYS, timeout=20_000)
    extended = any(node["class_type"] == "LoadVideo" for node in prompt.values())  # the clip, at its own size
    assert page.evaluate(SIDES) == list(SIZES["square" if extended else shape])
