"""Every example workflow in ComfyUI's real frontend, in headless Chromium: whole, and the prompt that is tested."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.comfy.host import REPO, Host
from tests.comfy.scene import Scene
from tests.comfy.test_long_video import long_video, saved
from tools.browser import NO_BROWSER, browser_path, open_page
from tools.build_subgraphs import BLUEPRINTS, build
from tools.templates import template
from tools.workflow_prompt import load_workflow, to_prompt

pytest.importorskip("playwright.sync_api", reason="the frontend test needs the package playwright")

WORKFLOWS = sorted((REPO / "example_workflows").glob("*.json"))
LOAD = """async (workflow) => {
    await window.app.loadGraphData(workflow, true, true)
    const prompt = (await window.app.graphToPrompt()).output
    const known = window.LiteGraph.registered_node_types
    const nodes = window.app.graph.nodes
    return {
        prompt,
        missing: nodes.filter((node) => !known[node.type]).map((node) => node.type),
        red: nodes.filter((node) => node.has_errors).map((node) => node.type),
        overlaps: nodes.flatMap((a) => nodes.filter((b) => a.id < b.id
            && a.pos[0] < b.pos[0] + b.size[0] && b.pos[0] < a.pos[0] + a.size[0]
            && a.pos[1] - 30 < b.pos[1] + b.size[1] && b.pos[1] - 30 < a.pos[1] + a.size[1]
        ).map((b) => `${a.type} and ${b.type}`)),
    }
}"""


@pytest.fixture(scope="module")
def shipped_files(host: Host) -> Iterator[None]:
    """Empty files under the names that the workflows ship with: a missing file is red, and rightly so."""
    models = {
        host.models / model["directory"] / model["name"]
        for path in WORKFLOWS
        for node in load_workflow(path)["nodes"]
        for model in node["properties"].get("models", ())
    }
    files = [*models, host.base / "input" / "example.png", host.base / "input" / "your_video.mp4"]
    for file in files:
        file.touch()
    yield
    for file in files:
        file.unlink()


@pytest.fixture(scope="module")
def page(host: Host, shipped_files: None) -> Iterator[Any]:
    """The frontend of a running host, ready for a workflow."""
    if browser_path() is None:
        pytest.skip(f"{NO_BROWSER}, to test the workflows in the frontend")
    with open_page(host.url) as page:
        yield page


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_opens_whole_and_makes_the_prompt_that_the_other_tests_run(
    host: Host, page: Any, path: Path, tmp_path: Path
) -> None:
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    workflow = load_workflow(path)
    seen = page.evaluate(LOAD, workflow)
    page.wait_for_timeout(500)
    page.screenshot(path=tmp_path / f"{path.stem}.png")
    assert seen["missing"] == [] and seen["red"] == [] and seen["overlaps"] == [] and problems == []
    info = host.object_info()
    theirs = {number: known_part(node, info[node["class_type"]]) for number, node in seen["prompt"].items()}
    assert theirs == to_prompt(workflow, info)


def known_part(node: dict[str, Any], description: dict[str, Any]) -> dict[str, Any]:
    """Return a node of the frontend's prompt without the inputs that only its own widgets have (PreviewAny's text)."""
    known = {name for kind in ("required", "optional") for name in description["input"].get(kind, {})}
    inputs = {name: value for name, value in node["inputs"].items() if name in known}
    return {"class_type": node["class_type"], "inputs": inputs}


SET = """([kind, name, value]) => {
    const node = window.app.graph.nodes.find((node) => node.comfyClass === kind)
    const widget = node.widgets.find((widget) => widget.name === name)
    widget.value = value
    widget.callback?.(value)
}"""
LINK = """([kind, name]) => {
    const node = window.app.graph.nodes.find((node) => node.comfyClass === kind)
    const number = window.LiteGraph.createNode('PrimitiveInt')
    window.app.graph.add(number)
    number.connect(0, node, node.inputs.findIndex((input) => input.name === name))
}"""
SHOWN = """(part) => [...document.querySelectorAll('.skyreels-v2-plan')].some(
    (shown) => shown.textContent.includes(part))"""


def test_the_long_video_node_shows_its_plan_and_what_will_be_refused(host: Host, page: Any, tmp_path: Path) -> None:
    page.evaluate(LOAD, load_workflow(template("Long Video")))
    page.wait_for_function(SHOWN, arg="9 segments, 540 model calls, 737 frames = 30.7 s", timeout=20_000)
    page.evaluate(SET, ["SkyReelsV2LongVideo", "total_frames", 97])
    page.wait_for_function(SHOWN, arg="1 segment, 60 model calls, 97 frames", timeout=20_000)
    page.evaluate(SET, ["SkyReelsV2LongVideo", "overlap_history", 97])
    page.wait_for_function(SHOWN, arg="overlap_history is 97", timeout=20_000)
    page.screenshot(path=tmp_path / "refused.png")
    shown = page.evaluate("[...document.querySelectorAll('.skyreels-v2-plan')].map((shown) => shown.dataset.ok)")
    assert shown == ["false"]
    saved = page.evaluate("JSON.stringify(window.app.graph.serialize())")
    assert "live_plan" not in saved
    page.evaluate(LINK, ["SkyReelsV2LongVideo", "overlap_history"])
    page.wait_for_function(SHOWN, arg="overlap_history: linked, and so not known", timeout=20_000)
    assert page.evaluate("[...document.querySelectorAll('.skyreels-v2-plan')].map((shown) => shown.dataset.ok)") == [
        "true"
    ]


LOCALE = "(language) => window.app.extensionManager.setting.set('Comfy.Locale', language)"


def test_the_plan_and_its_refusal_are_chinese_where_the_front_end_is(page: Any) -> None:
    page.evaluate(LOAD, load_workflow(template("Long Video")))
    page.wait_for_function(SHOWN, arg="9 segments", timeout=60_000)
    page.evaluate(LOCALE, "zh")
    try:
        page.wait_for_function(SHOWN, arg="9 段，540 次模型调用，737 帧 = 30.7 秒", timeout=60_000)
        page.evaluate(SET, ["SkyReelsV2LongVideo", "overlap_history", 97])
        page.wait_for_function(SHOWN, arg="重叠帧数（overlap_history）是 97 帧", timeout=60_000)
    finally:
        page.evaluate(LOCALE, "en")
    page.wait_for_function(SHOWN, arg="9 segments", timeout=60_000)  # the front end opens the graph again as it was


EMPTY: dict[str, Any] = {"nodes": [], "links": [], "version": 0.4}
CONVERT = "async () => (await window.app.graphToPrompt()).output"
TYPES = "() => window.app.graph.nodes.map((node) => [node.title, node.isSubgraphNode?.() ?? false])"


@pytest.mark.parametrize("name", BLUEPRINTS)
def test_a_blueprint_is_found_dropped_and_makes_the_prompt_of_its_workflow(host: Host, page: Any, name: str) -> None:
    page.evaluate(LOAD, EMPTY)
    page.mouse.dblclick(900, 500)  # the search box
    page.keyboard.type(name, delay=20)
    page.wait_for_timeout(1500)
    page.keyboard.press("Enter")
    page.wait_for_function("window.app.graph.nodes.length === 1", timeout=60_000)
    page.mouse.click(600, 300)  # puts down what hangs on the mouse
    assert page.evaluate(TYPES) == [[name, True]]
    info = host.object_info()
    theirs = {
        number.rpartition(":")[2]: known_part(node, info[node["class_type"]])
        for number, node in page.evaluate(CONVERT).items()
    }
    for node in theirs.values():  # inside, links name nodes by their whole path
        node["inputs"] = {
            key: [value[0].rpartition(":")[2], value[1]] if isinstance(value, list) else value
            for key, value in node["inputs"].items()
        }
    workflow = BLUEPRINTS[name].graph.to_json(name)
    kept = {node["id"] for node in build(name, BLUEPRINTS[name])["definitions"]["subgraphs"][0]["nodes"]}
    ours = to_prompt(workflow, info)
    assert theirs == {number: node for number, node in ours.items() if int(number) in kept}


PLAY = """(address) => new Promise((resolve, reject) => {
    const video = document.createElement('video')
    video.muted = true
    video.onerror = () => reject(new Error(video.error.message))
    video.oncanplaythrough = async () => {
        await video.play()
        setTimeout(() => resolve([video.videoWidth, video.videoHeight, video.duration, video.currentTime]), 500)
    }
    video.src = address
})"""


def test_a_long_video_plays_in_the_browser(host: Host, page: Any) -> None:
    scene = Scene()
    path = saved(host, scene, long_video(scene, job_name="played"))
    width, height, seconds, at = page.evaluate(PLAY, f"{host.url}/view?filename={path.name}&type=output")
    assert (width, height) == (64, 64) and seconds == pytest.approx(45 / 24, abs=0.05) and at > 0


DROP = """async (address) => {
    const picture = await (await fetch(address)).blob()
    await window.app.handleFile(new File([picture], "frame.png", { type: "image/png" }))
    return window.app.graph.nodes.map((node) => node.type).sort()
}"""


def test_the_first_picture_of_a_sequence_opens_its_graph(host: Host, page: Any) -> None:
    scene = Scene()
    saved(host, scene, long_video(scene, job_name="dropped", codec="png"))
    output = host.base / "output"
    (folder,) = output.glob("skyreels_v2_jobs/dropped-*/frames")
    place = f"filename=frame_000000.png&type=output&subfolder={folder.relative_to(output)}"
    assert page.evaluate(DROP, f"{host.url}/view?{place}") == sorted(
        node["class_type"] for node in scene.prompt.values()
    )
