"""The panel of SkyReels-V2 Jobs in ComfyUI's front ends: what is there, queued again from where it stopped, deleted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.comfy.front_end import CENTRE
from tests.comfy.host import Host
from tests.comfy.scene import Scene
from tests.comfy.test_long_video import long_video
from tests.waiting import wait_until
from tools.browser import EMPTY, OPEN, PROMPT

ADD = """(kind) => {
    const node = window.LiteGraph.createNode(kind)
    node.pos = [200, 200]
    window.app.graph.add(node)
}"""
ROWS = """(name) => [...document.querySelectorAll('.skyreels-v2-job')]
    .filter((row) => row.textContent.includes(name))
    .map((row) => {
        const picture = row.querySelector('img'), box = row.getBoundingClientRect()
        const at = document.elementFromPoint(box.x + 10, box.y + 10)
        const buttons = [...row.querySelectorAll('button')].filter((each) => each.checkVisibility())
        return {
            text: row.textContent, picture: [picture.naturalWidth, picture.naturalHeight], atop: row.contains(at),
            buttons: buttons.map((each) => each.textContent), resumable: !buttons.some((each) => each.disabled),
        }
    })"""
CLICK = """([name, label]) => [...document.querySelectorAll('.skyreels-v2-job')]
    .find((row) => row.textContent.includes(name)).querySelectorAll('button')
    .forEach((each) => each.textContent === label && each.click())"""


def stop_after_a_segment(host: Host, name: str) -> Path:
    """Begin a job of three segments and interrupt it; return its folder."""
    scene = Scene()
    video = long_video(scene, total_frames=45, steps=20, job_name=name)
    scene.add("SaveVideo", video=video, filename_prefix=name, format="auto", codec="auto")
    identity, root = host.queue(scene.prompt), host.base / "output" / "skyreels_v2_jobs"
    wait_until(lambda: list(root.glob(f"{name}-*/segment-0000.json")), 120, every=0.02)
    host.interrupt()
    host.wait(identity, timeout=120)
    (folder,) = root.glob(f"{name}-*")
    return folder


def test_a_stopped_job_is_seen_queued_again_and_deleted(host: Host, page: Any, tmp_path: Path, request: Any) -> None:
    name = f"board-{request.node.callspec.id.replace('.', '-').lower()}"
    folder = stop_after_a_segment(host, name)
    page.evaluate(OPEN, EMPTY)
    page.evaluate(ADD, "SkyReelsV2Jobs")
    page.evaluate(CENTRE, "SkyReelsV2Jobs")

    def rows(part: str) -> Any:
        return page.wait_for_function(
            f"([name, part]) => (({ROWS})(name).find((row) => row.text.includes(part) && row.picture[0]))",
            arg=[folder.name, part],
            timeout=280_000,
        ).json_value()

    stopped = rows("of 3 segments kept")
    page.wait_for_timeout(500)
    page.screenshot(path=tmp_path / "stopped.png")
    assert stopped["buttons"] == ["Resume", "Delete"] and stopped["resumable"]
    assert stopped["picture"] == [64, 64] and rows("kept")["atop"]
    kept = {path.name: path.stat().st_mtime_ns for path in folder.glob("segment-*.json")}
    page.evaluate(CLICK, [folder.name, "Resume"])
    working = rows("at work")  # neither queued again nor deleted meanwhile
    assert working["buttons"] == []
    finished = rows("finished")
    page.screenshot(path=tmp_path / "finished.png")
    assert finished["buttons"] == ["Delete"]
    assert {name: (folder / name).stat().st_mtime_ns for name in kept} == kept, "not made again"
    assert (folder / f"{folder.name}.mp4").is_file() and list((host.base / "output").glob(f"{name}_*.mp4"))
    page.evaluate(CLICK, [folder.name, "Delete"])
    assert folder.is_dir(), "a single click deletes nothing"
    page.evaluate(CLICK, [folder.name, "Really delete?"])
    page.wait_for_function(f"(name) => ({ROWS})(name).length === 0", arg=folder.name, timeout=30_000)
    assert not folder.exists()
    assert "job_board" not in page.evaluate("JSON.stringify(window.app.graph.serialize())")
    assert "job_board" not in str(page.evaluate(PROMPT))
