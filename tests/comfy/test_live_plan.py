"""The live plan on the nodes for long videos, in both front ends and both styles of nodes: seen, read, never saved."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tests.comfy.front_end import CENTRE
from tests.comfy.host import REPO
from tools.browser import EMPTY, LOCALE, OPEN, PROMPT, SET, SETTING, THEME
from tools.workflow_prompt import load_workflow

LONG, STEP_CACHE = "SkyReelsV2LongVideo", "SkyReelsV2StepCache"
PANEL = ".skyreels-v2-live-plan"
SHOWN = f"(part) => [...document.querySelectorAll('{PANEL}')].some((shown) => shown.textContent.includes(part))"
TEXTS = f"() => [...document.querySelectorAll('{PANEL}')].map((shown) => shown.textContent).join()"
FACTS = f"""() => [...document.querySelectorAll('{PANEL}')].map((shown) => {{
    const box = shown.getBoundingClientRect()
    return {{
        ok: shown.dataset.ok === 'true',
        box: [box.x, box.y, box.width, box.height],
        hidden: shown.scrollHeight - shown.clientHeight,
        colour: getComputedStyle(shown).color,
        editable: shown.isContentEditable || shown.matches('input, textarea'),
        atop: shown.contains(document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2)),
    }}
}})"""
LINK = """([kind, name]) => {
    const node = window.app.graph.nodes.find((node) => node.comfyClass === kind)
    const number = window.LiteGraph.createNode('PrimitiveInt')
    window.app.graph.add(number)
    number.connect(0, node, node.inputs.findIndex((input) => input.name === name))
}"""
BEFORE_THE_MODEL = """([kind, added]) => {
    const { graph } = window.app
    const node = graph.nodes.find((node) => node.comfyClass === kind)
    const slot = node.inputs.findIndex((input) => input.name === 'model')
    const cache = window.LiteGraph.createNode(added)
    graph.add(cache)
    node.getInputNode(slot).connect(0, cache, 0)
    cache.connect(0, node, slot)
}"""
MODE = """([kind, mode]) => {
    window.app.graph.nodes.find((node) => node.comfyClass === kind).mode = mode
}"""
ADD = """(kind) => {
    const node = window.LiteGraph.createNode(kind)
    node.pos = [100, 100]
    window.app.graph.add(node)
}"""


def wait_for(page: Any, part: str) -> None:
    """Wait until a plan shows some text."""
    page.wait_for_function(SHOWN, arg=part, timeout=60_000)


def open_long_video(page: Any) -> None:
    """Open a graph with the Long Video node, with nothing of another test's graph, and show that node."""
    page.evaluate(OPEN, EMPTY)
    page.evaluate(OPEN, long_video_workflow())
    page.evaluate(CENTRE, LONG)
    wait_for(page, "9 segments, 540 model calls, 737 video frames = 30.7 s")


def long_video_workflow() -> dict[str, Any]:
    """Return the first template that has a Long Video node, no demo model and 737 frames."""
    for path in sorted((REPO / "example_workflows").glob("*.json")):
        workflow = load_workflow(path)
        nodes = {node["type"]: node for node in workflow["nodes"]}
        if LONG in nodes and 737 in nodes[LONG]["widgets_values"] and "SkyReelsV2ModelLoader" in nodes:
            return workflow
    raise AssertionError("no template makes 737 frames")


def test_the_plan_shows_what_the_settings_mean_and_what_will_be_refused(page: Any, tmp_path: Path) -> None:
    open_long_video(page)
    page.evaluate(SET, [LONG, "total_frames", 97])
    wait_for(page, "1 segment, 60 model calls, 97 video frames")
    page.evaluate(SET, [LONG, "overlap_history", 97])
    wait_for(page, "overlap_history is 97")
    page.screenshot(path=tmp_path / "refused.png")
    (shown,) = page.evaluate(FACTS)
    assert not shown["ok"] and not shown["editable"] and shown["atop"]
    assert shown["hidden"] <= 0, "the box is too low for the whole refusal"
    assert shown["box"][3] == pytest.approx(86, abs=1)
    assert "live_plan" not in page.evaluate("JSON.stringify(window.app.graph.serialize())")
    assert "live_plan" not in str(page.evaluate(PROMPT))
    page.evaluate(LINK, [LONG, "overlap_history"])
    wait_for(page, "overlap_history: linked, so not known")
    assert [shown["ok"] for shown in page.evaluate(FACTS)] == [True]


@pytest.mark.two_front_ends
def test_a_step_cache_before_the_model_is_counted_while_it_is_on(page: Any) -> None:
    open_long_video(page)
    assert "Step Cache" not in page.evaluate(TEXTS)
    page.evaluate(BEFORE_THE_MODEL, [LONG, STEP_CACHE])
    wait_for(page, "Step Cache: about ")
    page.evaluate(BEFORE_THE_MODEL, [LONG, "Reroute"])
    page.evaluate(SET, [STEP_CACHE, "threshold", 0])
    page.wait_for_function(f"!({TEXTS})().includes('Step Cache')", timeout=30_000)
    page.evaluate(SET, [STEP_CACHE, "preset", "fast"])
    wait_for(page, "Step Cache: about ")
    page.evaluate(MODE, [STEP_CACHE, 4])  # bypassed
    page.wait_for_function(f"!({TEXTS})().includes('Step Cache')", timeout=30_000)
    page.evaluate(MODE, [STEP_CACHE, 0])
    wait_for(page, "Step Cache: about ")
    page.evaluate(LINK.replace("PrimitiveInt", "PrimitiveFloat"), [STEP_CACHE, "threshold"])
    page.wait_for_function(f"!({TEXTS})().includes('Step Cache')", timeout=30_000)


@pytest.mark.two_front_ends
@pytest.mark.parametrize("inside", [LONG, STEP_CACHE])
def test_a_step_cache_is_found_through_the_walls_of_subgraphs(page: Any, inside: str) -> None:
    open_long_video(page)
    page.evaluate(BEFORE_THE_MODEL, [LONG, STEP_CACHE])
    wait_for(page, "Step Cache: about ")
    page.evaluate(SET, [STEP_CACHE, "preset", "fast"])
    page.wait_for_timeout(1000)
    (saved,) = [line for line in page.evaluate(TEXTS).splitlines() if "Step Cache" in line]
    page.evaluate(INTO_SUBGRAPH, inside)
    if inside != LONG:
        page.evaluate("window.app.canvas.setGraph(window.app.rootGraph)")  # where the plan is shown
    page.wait_for_timeout(1500)
    assert saved in page.evaluate(TEXTS).splitlines()


@pytest.mark.two_front_ends
@pytest.mark.parametrize("theme", ["dark", "light"])
def test_the_red_of_a_refusal_can_be_read(page: Any, theme: str, tmp_path: Path) -> None:
    page.evaluate(SETTING, [THEME, theme])
    try:
        open_long_video(page)
        page.evaluate(SET, [LONG, "overlap_history", 97])
        wait_for(page, "overlap_history is 97")
        page.wait_for_timeout(500)
        (shown,) = page.evaluate(FACTS)
        picture = tmp_path / f"{theme}.png"
        page.screenshot(path=picture)
    finally:
        page.evaluate(SETTING, [THEME, "dark"])
    red = colour(shown["colour"])
    ground = background(picture, shown["box"])
    assert red[0] > 1.3 * max(red[1:]), "that isn't red"
    assert contrast(red, ground) >= 4.5


def colour(style: str) -> tuple[float, float, float]:
    """Return a computed colour as 0..1: `rgb(255, 0, 0)` or `color(srgb 1 0 0)`."""
    red, green, blue = (float(number) for number in re.findall(r"[\d.]+", style)[:3])
    scale = 1.0 if style.startswith("color(") else 255.0
    return red / scale, green / scale, blue / scale


def background(picture: Path, box: list[float]) -> tuple[float, float, float]:
    """Return the commonest colour inside a box of a screenshot: what stands behind the text there."""
    x, y, width, height = (int(number) for number in box)
    with av.open(str(picture)) as file:
        pixels = next(file.decode(video=0)).to_ndarray(format="rgb24")
    inside = pixels[y + 2 : y + height - 2, x + 2 : x + width - 2].reshape(-1, 3)
    values, counts = np.unique(inside, axis=0, return_counts=True)
    red, green, blue = (values[counts.argmax()] / 255.0).tolist()
    return red, green, blue


def contrast(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """Return the contrast of two colours, 1..21. Source: WCAG 2.2, relative luminance and contrast ratio."""

    def luminance(rgb: tuple[float, ...]) -> float:
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in rgb]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_the_plan_and_its_refusal_are_chinese_where_the_front_end_is(page: Any) -> None:
    open_long_video(page)
    page.evaluate(SETTING, [LOCALE, "zh"])
    try:
        wait_for(page, "9 段，540 次模型调用，737 个视频帧 = 30.7 秒")
        page.evaluate(SET, [LONG, "overlap_history", 97])
        wait_for(page, "重叠帧数（overlap_history）是 97 个视频帧")
    finally:
        page.evaluate(SETTING, [LOCALE, "en"])
    wait_for(page, " frames")  # plan or refusal: some front ends open the graph again as it was


COPY = """(kind) => {
    const { app } = window
    app.canvas.selectItems([app.graph.nodes.find((node) => node.comfyClass === kind)])
    app.canvas.copyToClipboard()
    app.canvas.pasteFromClipboard()
}"""
# from the lower edge of each plan to that of its node, in pixels of the graph
BELOW = f"""() => {{
    const {{ canvas, ds }} = window.app.canvas, top = canvas.getBoundingClientRect().top
    return [...document.querySelectorAll('{PANEL}')].map((shown) => {{
        const low = shown.getBoundingClientRect().bottom
        const element = shown.closest('[data-node-id]')
        if (element) return (element.getBoundingClientRect().bottom - low) / ds.scale
        const node = window.app.graph.nodes.find((node) => node.widgets.some((widget) => widget.element === shown))
        return node.pos[1] + node.size[1] - ((low - top) / ds.scale - ds.offset[1])
    }})
}}"""
MOST_BELOW = 110  # in Nodes 2.0 the pack's name and the button for advanced inputs stand there
REMOVE = """(kind) => {
    const { graph } = window.app
    for (const node of graph.nodes.filter((node) => node.comfyClass === kind)) graph.remove(node)
}"""
INTO_SUBGRAPH = """(kind) => {
    const { app } = window
    app.canvas.selectItems([app.graph.nodes.find((node) => node.comfyClass === kind)])
    const { node } = app.graph.convertToSubgraph(app.canvas.selectedItems)
    app.canvas.openSubgraph(node.subgraph, node)
}"""


@pytest.mark.two_front_ends
@pytest.mark.parametrize("kind", ["SkyReelsV2LongVideo", "SkyReelsV2ExtendVideo", "SkyReelsV2Plan"])
def test_a_new_node_and_its_copy_have_a_plan_each_and_a_removed_one_none(page: Any, kind: str) -> None:
    page.evaluate(OPEN, EMPTY)
    page.evaluate(ADD, kind)
    wait_for(page, "model calls")
    page.evaluate(COPY, kind)
    page.wait_for_function(
        f"[...document.querySelectorAll('{PANEL}')].filter((shown) => shown.textContent.includes('model calls'))"
        ".length === 2",
        timeout=30_000,
    )
    assert all(10 <= below <= MOST_BELOW for below in page.evaluate(BELOW)), "the plan does not fill its node"
    asked: list[str] = []
    page.evaluate(REMOVE, kind)
    page.wait_for_function(f"document.querySelectorAll('{PANEL}').length === 0", timeout=30_000)
    page.on("request", lambda request: asked.append(request.url))
    page.wait_for_timeout(1000)
    assert not [url for url in asked if url.endswith("/skyreels_v2/plan")]


def test_a_node_inside_a_subgraph_has_its_plan(page: Any) -> None:
    open_long_video(page)
    page.evaluate(SET, [LONG, "total_frames", 97])
    wait_for(page, "1 segment, 60 model calls, 97 video frames")
    page.evaluate(INTO_SUBGRAPH, LONG)
    page.wait_for_timeout(1500)
    page.evaluate(CENTRE.replace("app.graph.nodes", "app.canvas.graph.nodes"), LONG)
    wait_for(page, "1 segment, 60 model calls, 97 video frames")
    # once the node is where it was centred, which takes Nodes 2.0 a few frames
    page.wait_for_function(f"() => {{ const [one, ...more] = ({FACTS})(); return one?.atop && !more.length }}")
    assert [shown["atop"] for shown in page.evaluate(FACTS)] == [True]
