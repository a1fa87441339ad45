"""Prompts and workflows of the released nodes, whose inputs have moved since: they run and open as they did.

The files of tests/released are as the released version wrote them: three of its templates, and a graph as front ends
save it, with a socket for every widget.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.comfy.front_end import one_front_end
from tests.comfy.host import REPO, Host, PromptRefused
from tests.comfy.scene import Scene, refusal, tensors
from tests.comfy.test_long_video import LONG, text_of
from tools.browser import OPEN, SET
from tools.hosts import version_numbers
from tools.node_schemas import MOVED, read
from tools.templates import template
from tools.workflow_prompt import load_workflow

TABLE = read(MOVED)
WORKFLOWS = sorted(path for path in (REPO / "tests" / "released").glob("*.json") if path.stem != "contracts")
PRESET = "540P landscape (960x544)"
CUSTOM = {"size": "custom", "size.width": 96, "size.height": 64}
RELEASED = {"size": "custom", "width": 96, "height": 64}


def test_a_prompt_of_the_released_nodes_makes_what_it_made(host: Host) -> None:
    scene, rest = Scene(), {"frames": 9, "batch_size": 2}
    number = scene.add("SkyReelsV2ModelInfo", model=scene.model, variant="DF-14B-540P", mode="auto")
    sizes: dict[str, dict[str, Any]] = {
        "custom": RELEASED, "preset": {"size": PRESET, "width": 96, "height": 64},
        "linked": {"size": "custom", "width": number[1], "height": number[2]},
    }  # fmt: skip
    for name, size in sizes.items():
        scene.dump(name, scene.add("SkyReelsV2EmptyLatent", **size, **rest))
    scene.dump("now", scene.add("SkyReelsV2EmptyLatent", **CUSTOM, **rest))
    found = {name: tuple(latent.shape) for name, latent in tensors(host, scene).items()}
    large = (2, 16, 3, 68, 120)
    assert found == {"custom": (2, 16, 3, 8, 12), "now": (2, 16, 3, 8, 12), "preset": large, "linked": large}


def test_a_plan_is_the_same_by_the_released_names_and_by_todays(host: Host) -> None:
    names = ("total_frames", "base_num_frames", "overlap_history", "steps", "shift")
    rest = {name: LONG[name] for name in names} | {"ar_step": 0, "causal_block_size": 1, "causal_attention": False}
    texts = []
    for size in (RELEASED, CUSTOM, {"size": PRESET, "width": 96, "height": 64}):
        scene = Scene()
        texts.append(text_of(host, scene, scene.add("SkyReelsV2Plan", **size, **rest, loop=False)[0]))
    assert texts[0] == texts[1] and "144 tokens" in texts[0] and "144 tokens" not in texts[2]


@pytest.mark.parametrize("size", [{"size": "4K"}, {}], ids=["unknown", "missing"])
def test_a_size_that_is_none_is_refused(host: Host, size: dict[str, str]) -> None:
    scene = Scene()
    scene.dump("latent", scene.add("SkyReelsV2EmptyLatent", **size, frames=9, batch_size=1))
    assert f"one of {PRESET}, " in refusal(host, scene, "SkyReelsV2EmptyLatent").message


def test_a_custom_size_needs_its_sides(host: Host) -> None:
    scene = Scene()
    scene.dump("latent", scene.add("SkyReelsV2EmptyLatent", size="custom", frames=9, batch_size=1))
    with pytest.raises(PromptRefused, match=r"size\.width"):
        host.run(scene.prompt)


OPENED = """async () => {
    const graph = window.app.graph
    return {
        prompt: (await window.app.graphToPrompt()).output,
        saved: JSON.parse(JSON.stringify(graph.serialize())),
        links: [...graph.links.values()].map((link) =>
            [link.id, graph.getNodeById(link.target_id).inputs[link.target_slot]?.name]),
    }
}"""
VUE = "(on) => window.app.extensionManager.setting.set('Comfy.VueNodes.Enabled', on)"


def opened(page: Any, workflow: dict[str, Any]) -> Any:
    """Open a workflow; return its prompt, what is saved of it, and the input in which each link ends."""
    page.evaluate(OPEN, workflow)
    return page.evaluate(OPENED)


def inputs_as_they_were(node: dict[str, Any], links: dict[int, list[Any]]) -> dict[str, Any]:
    """The inputs of a node of ours in a saved workflow, by the released names."""
    values = dict(zip(TABLE[node["type"]]["widgets"], node["widgets_values"], strict=True))
    linked = {
        slot["name"]: [str(links[slot["link"]][1]), links[slot["link"]][2]]
        for slot in node["inputs"]
        if slot.get("link") is not None
    }
    return {name: value for name, value in (values | linked).items() if name != "control_after_generate"}


def todays(inputs: dict[str, Any]) -> dict[str, Any]:
    """The same by today's names."""
    width, height = inputs.pop("width"), inputs.pop("height")
    return inputs | ({"size.width": width, "size.height": height} if inputs["size"] == "custom" else {})


@one_front_end
@pytest.mark.parametrize("vue", [False, True], ids=["classic", "nodes 2.0"])
@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_of_the_released_nodes_opens_and_makes_the_same_prompt(page: Any, path: Path, vue: bool) -> None:
    page.evaluate(VUE, vue)
    workflow = load_workflow(path)
    seen = opened(page, workflow)
    links = {link[0]: link for link in workflow["links"]}
    moved = {str(node["id"]): node for node in workflow["nodes"] if node["type"] in TABLE}
    assert moved
    for number, node in moved.items():
        inputs = dict(seen["prompt"][number]["inputs"])
        assert inputs.pop("method", "segments") == "segments", "how the released nodes made every long video"
        assert inputs == todays(inputs_as_they_were(node, links)), node["type"]
    # every link that is left ends in the input it was for
    slots = {slot["link"]: slot["name"] for node in workflow["nodes"] for slot in node["inputs"] if slot.get("link")}
    for identity, name in seen["links"]:
        assert name in (slots[identity], f"size.{slots[identity]}")
    again = opened(page, seen["saved"])  # and what is saved now opens as it was
    assert {number: again["prompt"][number] for number in moved} == {number: seen["prompt"][number] for number in moved}
    page.evaluate(VUE, False)


BLUEPRINT = REPO / "tests" / "released" / "blueprint" / "text_to_video.json"
SIZES = {"preset": ("720P portrait (720x1280)", 960, 544), "custom": ("custom", 320, 192)}


@one_front_end
@pytest.mark.parametrize("name", SIZES)
def test_a_released_blueprint_in_a_saved_workflow_keeps_its_values(host: Host, page: Any, name: str) -> None:
    """It shows size, width and height on its outside; values are saved by place there, so none may go."""
    if version_numbers(host.version) < (0, 33):
        pytest.skip("the file is as front end 1.49 saves it: 1.42 keeps such values elsewhere")
    page.evaluate(VUE, False)
    workflow, size = load_workflow(BLUEPRINT), dict(zip(("size", "width", "height"), SIZES[name], strict=True))
    (outside,) = workflow["nodes"]
    inner = next(node for node in workflow["definitions"]["subgraphs"][0]["nodes"] if node["type"] in TABLE)
    for node in (outside, inner):
        names = [slot["name"] for slot in node["inputs"] if slot.get("widget")]
        for key, value in size.items():
            node["widgets_values"][names.index(key)] = node["widgets_values_named"][key] = value
    prompt = opened(page, workflow)["prompt"]
    (latent,) = [node["inputs"] for node in prompt.values() if node["class_type"] == "SkyReelsV2EmptyLatent"]
    assert (latent["size"], latent["frames"], latent["batch_size"]) == (size["size"], 97, 1)
    if name == "custom":
        assert (latent["size.width"], latent["size.height"]) == (320, 192)
    (sampler,) = [node["inputs"] for node in prompt.values() if node["class_type"] == "SkyReelsV2Sampler"]
    assert (sampler["seed"], sampler["steps"], sampler["cfg"], sampler["shift"]) == (42, 30, 6.0, 8.0)


@pytest.mark.two_front_ends
def test_a_rolling_video_that_was_saved_before_kv_budget_opens_with_its_values(page: Any) -> None:
    kind = "SkyReelsV2LongVideo"
    opened(page, load_workflow(template("Demo Long Video")))
    page.evaluate(SET, [kind, "method", "rolling"])
    for name, value in {"window_frames": 17, "at_prompt_change": "flush", "kv_budget": 0.25}.items():
        page.evaluate(SET, [kind, f"method.{name}", value])
    seen = page.evaluate(OPENED)
    (made,) = (node["inputs"] for node in seen["prompt"].values() if node["class_type"] == kind)
    assert made["method.kv_budget"] == 0.25 and made["method.window_frames"] == 17
    (node,) = (node for node in seen["saved"]["nodes"] if node["type"] == kind)
    assert node["widgets_values"].pop() == 0.25
    node.get("widgets_values_named", {}).pop("method.kv_budget", None)
    node["inputs"] = [slot for slot in node["inputs"] if slot["name"] != "method.kv_budget"]
    again = opened(page, seen["saved"])
    (found,) = (node["inputs"] for node in again["prompt"].values() if node["class_type"] == kind)
    assert found == {**made, "method.kv_budget": 1}
