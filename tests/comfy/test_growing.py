"""A long video in ComfyUI's front ends while it is made: its node plays what is finished, and says what is kept."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.comfy.front_end import one_front_end
from tests.comfy.host import Host
from tests.waiting import wait_until
from tools.browser import FIT, OPEN

STATE = """() => {
    const box = document.querySelector('.skyreels-v2-growing')
    const video = box?.querySelector('video')
    return video && {
        text: box.textContent, part: video.dataset.part, time: video.currentTime, seconds: video.duration,
        size: [video.videoWidth, video.videoHeight], hidden: video.hidden,
    }
}"""
QUEUE = "() => void window.app.queuePrompt(0)"  # not waited for: it comes back after what the server tells
PUT = """(settings) => {
    const find = (kind) => window.app.graph._nodes.find((each) => each.comfyClass === kind)
    const put = (node, key, value) => { node.widgets.find((each) => each.name === key).value = value }
    put(find('SkyReelsV2PromptScript'), 'script', 'a red circle moving to the right')
    Object.entries(settings).forEach(([key, value]) => put(find('SkyReelsV2LongVideo'), key, value))
}"""
DEMO = Path(__file__).resolve().parents[2] / "example_workflows"


def workflow() -> Any:
    """The demo template of a long video."""
    from tools.workflow_prompt import load_workflow

    (file,) = DEMO.glob("*Demo*Long Video.json")
    return load_workflow(file)


def wait_for(page: Any, condition: str, timeout: float = 180_000) -> Any:
    """Return what the node shows once a condition on it holds."""
    return page.wait_for_function(
        f"() => {{ const now = ({STATE})(); return now && ({condition}) && now }}", timeout=timeout
    ).json_value()


@one_front_end
def test_a_running_job_plays_grows_says_what_is_kept_and_ends_whole(
    host: Host, page: Any, tmp_path: Path, request: Any
) -> None:
    name = f"growing-{request.node.callspec.id}".replace(".", "-").replace(" ", "-").lower()
    page.evaluate(OPEN, workflow())
    settings = {"total_frames": 433, "base_num_frames": 121, "steps": 6, "seed": 5}
    page.evaluate(PUT, {"job_name": name, **settings})
    page.evaluate(QUEUE)
    root = host.base / "output" / "skyreels_v2_jobs"
    wait_until(lambda: list(root.glob(f"{name}-*/segment-0001.json")), 120, every=0.02)
    host.interrupt()  # seen from here: a browser without a graphics card may be behind
    first = wait_for(page, "now.size[0] > 0 && !now.hidden")
    assert first["part"].startswith("part-") and first["seconds"] > 0
    wait_for(page, f"now.time !== {first['time']} || now.part !== {first['part']!r}", 30_000)
    page.screenshot(path=tmp_path / "running.png")
    stopped = wait_for(page, "now.text.includes('queue again to continue')")
    wait_for(page, "now.part === 'part-0001.mp4'")
    page.screenshot(path=tmp_path / "stopped.png")
    (folder,) = root.glob(f"{name}-*")
    kept = {path.name: path.stat().st_mtime_ns for path in folder.glob("segment-*.json")}
    assert f"{len(kept)} of 4 segments kept" in stopped["text"] and 2 <= len(kept) < 4
    time.sleep(1)
    page.evaluate(QUEUE)
    whole = wait_for(page, "now.text.includes('finished') && now.part.endsWith('.mp4') && now.seconds > 15")
    page.screenshot(path=tmp_path / "finished.png")
    assert not whole["part"].startswith("part-") and abs(whole["seconds"] - 433 / 24) < 0.2
    assert {name: (folder / name).stat().st_mtime_ns for name in kept} == kept, "not made again"
    assert "growing" not in page.evaluate("JSON.stringify(window.app.graph.serialize())").replace(name, "")


CONVERT = """() => {
    const { graph } = window.app
    const { node } = graph.convertToSubgraph(
        new Set(graph._nodes.filter((each) => each.comfyClass === 'SkyReelsV2LongVideo')))
    return [String(node.id), node.widgets.map((widget) => widget.name)]
}"""


@pytest.mark.two_front_ends
def test_a_job_in_a_subgraph_plays_on_the_node_that_is_seen(
    host: Host, page: Any, tmp_path: Path, request: Any
) -> None:
    name = f"inner-{request.node.callspec.id}".replace(".", "-").replace(" ", "-").lower()
    page.evaluate(OPEN, workflow())
    page.evaluate(PUT, {"job_name": name, "total_frames": 97, "base_num_frames": 49, "steps": 2})
    outside, widgets = page.evaluate(CONVERT)
    page.evaluate(FIT)
    page.evaluate(QUEUE)
    whole = wait_for(page, "now.text.includes('finished') && now.part.endsWith('.mp4') && now.seconds > 3")
    page.screenshot(path=tmp_path / "finished.png")
    assert whole["size"] == [64, 64] and not whole["hidden"]
    saved = page.evaluate("JSON.stringify(window.app.graph.serialize())")
    assert "growing" not in saved
    (found,) = [node for node in json.loads(saved)["nodes"] if str(node["id"]) == outside]
    assert "growing" not in widgets
    assert len(found.get("widgets_values") or ()) <= len(widgets)
