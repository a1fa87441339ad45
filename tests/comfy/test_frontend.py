"""Every template in ComfyUI's real front ends, in both styles of nodes: it opens whole, with its prompt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.comfy.front_end import BOXES, known_part, one_front_end, overlaps
from tests.comfy.host import REPO, Host
from tests.comfy.scene import Scene
from tests.comfy.test_long_video import long_video, saved
from tools.browser import DRAWN, OPEN, PROMPT
from tools.templates import title_of
from tools.workflow_prompt import load_workflow, to_prompt

WORKFLOWS = sorted((REPO / "example_workflows").glob("*.json"))
# one of each kind opens in every front end and style, the others in two
EVERYWHERE = ("Demo Text to Video", "Demo Rolling", "Start End Frames", "Long Video", "Extend Video", "Moving Window")
every_workflow = pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, marks=[] if title_of(path.stem) in EVERYWHERE else pytest.mark.two_front_ends)
        for path in WORKFLOWS
    ],
    ids=lambda path: path.stem,
)
WHOLE = """() => {
    const known = window.LiteGraph.registered_node_types
    const nodes = window.app.graph.nodes
    return {
        missing: nodes.filter((node) => !known[node.type]).map((node) => node.type),
        red: nodes.filter((node) => node.has_errors).map((node) => node.type),
    }
}"""


@every_workflow
def test_a_template_opens_whole_and_makes_the_prompt_that_the_other_tests_run(
    host: Host, page: Any, path: Path
) -> None:
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    workflow = load_workflow(path)
    page.evaluate(OPEN, workflow)
    page.evaluate(DRAWN)
    assert page.evaluate(WHOLE) == {"missing": [], "red": []} and problems == []
    assert overlaps(page.evaluate(BOXES)) == []
    info = host.object_info()
    prompt = page.evaluate(PROMPT)
    theirs = {number: known_part(node, info[node["class_type"]]) for number, node in prompt.items()}
    assert theirs == to_prompt(workflow, info)


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


@one_front_end
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


@one_front_end
def test_the_first_picture_of_a_sequence_opens_its_graph(host: Host, page: Any) -> None:
    scene = Scene()
    saved(host, scene, long_video(scene, job_name="dropped", codec="png"))
    output = host.base / "output"
    (folder,) = output.glob("skyreels_v2_jobs/dropped-*/frames")
    place = f"filename=frame_000000.png&type=output&subfolder={folder.relative_to(output)}"
    assert page.evaluate(DROP, f"{host.url}/view?{place}") == sorted(
        node["class_type"] for node in scene.prompt.values()
    )
