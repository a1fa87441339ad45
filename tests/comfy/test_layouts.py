"""Every demo template after a run in the real frontend, in both node styles: no node over another, the video plays."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.comfy.host import Host
from tools.browser import NO_BROWSER, browser_path, open_page
from tools.templates import DEMO, ORDER, template
from tools.workflow_prompt import load_workflow

pytestmark = [pytest.mark.newest_host, pytest.mark.whole_matrix]

pytest.importorskip("playwright.sync_api", reason="the layout test needs the package playwright")

DEMOS = [title for title in ORDER if title.startswith(DEMO)]
SIZES = {"landscape": (96, 64), "square": (64, 64), "portrait": (64, 96)}
CASES = [(title, "portrait") for title in DEMOS] + [("Demo Long Video", "landscape"), ("Demo Long Video", "square")]
STYLE = "(vue) => window.app.extensionManager.setting.set('Comfy.VueNodes.Enabled', vue)"
OPEN = """async (workflow) => {
    await window.app.loadGraphData(workflow, true, true)
    await new Promise((resolve) => setTimeout(resolve, 500))
    await window.app.extensionManager.command.execute('Comfy.Canvas.FitView')
}"""
SET = """(values) => {
    for (const node of window.app.graph.nodes.filter((node) => node.comfyClass?.startsWith('SkyReelsV2')))
        for (const widget of node.widgets ?? []) {
            const name = widget.name.split('.').at(-1)
            if (name in values) { widget.value = values[name]; widget.callback?.(widget.value) }
        }
}"""
RUN = """async () => {
    const ends = ['execution_success', 'execution_error', 'execution_interrupted']
    const ended = new Promise((resolve) => ends.forEach((name) => window.app.api.addEventListener(
        name, (event) => resolve([name, event.detail.exception_message]), { once: true })))
    await window.app.queuePrompt(0, 1)
    return ended
}"""
# title included: in the units of the graph, from the document where the nodes are elements of it
BOXES = """() => {
    const { canvas, ds } = window.app.canvas, at = canvas.getBoundingClientRect()
    return window.app.graph.nodes.map((node) => {
        const element = window.LiteGraph.vueNodesMode && document.querySelector(`[data-node-id="${node.id}"]`)
        if (!element) return [node.title, node.pos[0], node.pos[1] - 30, node.size[0], node.size[1] + 30]
        const box = element.getBoundingClientRect()
        const [x, y] = [(box.left - at.left) / ds.scale - ds.offset[0], (box.top - at.top) / ds.scale - ds.offset[1]]
        return [node.title, x, y, box.width / ds.scale, box.height / ds.scale]
    })
}"""
VIDEO = "[...document.querySelectorAll('video')].find((video) => video.getBoundingClientRect().width > 20)"
LOADED = f"() => {VIDEO}?.readyState >= 2"
MIDDLE = (
    f"() => {{ const box = {VIDEO}.getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2] }}"
)
PLAYS = f"() => {{ const video = {VIDEO}; return !video.paused && video.currentTime > 0 }}"


@pytest.fixture(scope="module")
def page(host: Host) -> Iterator[Any]:
    if browser_path() is None:
        pytest.skip(f"{NO_BROWSER}, to run the templates in the frontend")
    with open_page(host.url) as page:
        yield page
        page.evaluate(STYLE, False)


def overlaps(boxes: list[tuple[str, float, float, float, float]]) -> list[str]:
    """Return which boxes (title, left, top, width, height) lie over one another."""
    return [
        f"{a[0]} and {b[0]}"
        for number, a in enumerate(boxes)
        for b in boxes[number + 1 :]
        if a[1] < b[1] + b[3] and b[1] < a[1] + a[3] and a[2] < b[2] + b[4] and b[2] < a[2] + a[4]
    ]


def test_boxes_that_share_a_corner_overlap_and_boxes_that_touch_do_not() -> None:
    assert overlaps([("a", 0, 0, 10, 10), ("b", 9, 9, 10, 10), ("c", 19, 9, 5, 5)]) == ["a and b"]


@pytest.mark.parametrize(("title", "shape"), CASES)
def test_after_a_run_no_node_covers_another_and_a_click_plays_the_video(
    page: Any, title: str, shape: str, tmp_path: Path
) -> None:
    width, height = SIZES[shape]
    for vue in (False, True):  # the second run comes from the server's cache
        page.evaluate(STYLE, vue)
        page.wait_for_function(f"window.LiteGraph.vueNodesMode === {str(vue).lower()}")
        page.evaluate(OPEN, load_workflow(template(title)))
        page.evaluate(SET, {"steps": 2, "width": width, "height": height, "total_frames": 57})
        assert overlaps(page.evaluate(BOXES)) == []
        assert page.evaluate(RUN) == ["execution_success", None]
        page.wait_for_function(LOADED, timeout=60_000)
        page.wait_for_timeout(1000)
        page.screenshot(path=tmp_path / f"after {vue}.png")
        assert overlaps(page.evaluate(BOXES)) == []
        page.mouse.click(*page.evaluate(MIDDLE))
        page.wait_for_function(PLAYS, timeout=20_000)
