"""The blueprints in the front ends: found, dropped, once, twice and side by side, with all their widgets."""

from __future__ import annotations

from itertools import combinations_with_replacement
from typing import Any

import pytest

from tests.comfy.conftest import shipped_files
from tests.comfy.front_end import known_part, search
from tests.comfy.host import Host
from tools.browser import DRAWN, EMPTY, OPEN, PROMPT, run
from tools.build_subgraphs import BLUEPRINTS, build

pytestmark = pytest.mark.whole_matrix

PAIRS = list(combinations_with_replacement(BLUEPRINTS, 2))
FREE, ASIDE = (900, 900), (1200, 500)  # pixels: nothing is there but the canvas
FIRST = """(title) => document.querySelector('[role=option][aria-selected=true]')?.textContent.startsWith(title)"""
SEEN = """() => window.app.graph.nodes.map((node) => ({
    id: String(node.id),
    title: node.title,
    subgraph: node.isSubgraphNode?.() ?? false,
    widgets: Object.fromEntries((node.widgets ?? []).map((widget) => [widget.name, widget.value])),
}))"""
HANGS = "() => window.app.canvas.state?.ghostNodeId != null"  # on the mouse, until a click puts it down
PLACE = """(count) => {
    const { graph, canvas } = window.app
    if (graph.nodes.length !== count) return false
    graph.nodes.forEach((node, index) => { node.pos = [80 + 480 * index, 120] })
    canvas.ds.scale = 0.5
    canvas.ds.offset = [0, 0]
    canvas.setDirty(true, true)
    return true
}"""


def drop(page: Any, *names: str) -> list[dict[str, Any]]:
    """Drop blueprints into an empty graph as a person does, from the search box; return what is in the graph then."""
    page.evaluate(OPEN, EMPTY)
    page.evaluate(PLACE, 0)
    for count, name in enumerate(names, 1):
        search(page, FREE, name, name)
        page.wait_for_function(FIRST, arg=name, timeout=30_000)
        page.keyboard.press("Enter")
        page.wait_for_function(f"window.app.graph.nodes.length === {count}", timeout=60_000)
        page.evaluate(DRAWN)
        while page.evaluate(HANGS):  # the first click may come before it can be put down
            page.mouse.click(*ASIDE)
            page.wait_for_timeout(300)
        assert page.evaluate(PLACE, count)
    page.evaluate(DRAWN)
    return page.evaluate(SEEN)


def by_type(prompt: dict[str, Any], info: dict[str, Any], inside: str = "") -> dict[str, Any]:
    """Return the nodes of a prompt by their types, links too, so that it does not matter which ids they have.

    Args:
        prompt: as the front end makes it.
        info: the host's description of its nodes.
        inside: id of the node that they are inside of.
    """
    ours = {key: node for key, node in prompt.items() if key.startswith(inside)}
    kinds = {key: node["class_type"] for key, node in ours.items()}
    assert len(set(kinds.values())) == len(kinds)
    return {
        node["class_type"]: {
            name: [kinds[value[0]], value[1]] if isinstance(value, list) else value
            for name, value in known_part(node, info[node["class_type"]])["inputs"].items()
        }
        for node in ours.values()
    }


def whole_workflow(page: Any, info: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the prompt of the workflow of a blueprint, by type, without what the blueprint leaves out."""
    page.evaluate(OPEN, EMPTY)
    page.evaluate(OPEN, BLUEPRINTS[name].graph.to_json(name))
    kept = {node["type"] for node in build(name, BLUEPRINTS[name])["definitions"]["subgraphs"][0]["nodes"]}
    prompt = {key: node for key, node in page.evaluate(PROMPT).items() if node["class_type"] in kept}
    return by_type(prompt, info)


@pytest.mark.parametrize(
    "names", PAIRS, ids=lambda names: " and ".join(name.removeprefix("SkyReels-V2 ") for name in names)
)
def test_two_blueprints_in_a_graph_have_all_their_widgets_and_make_the_prompts_of_their_workflows(
    host: Host, page: Any, names: tuple[str, str]
) -> None:
    info = host.object_info()
    wanted = {name: whole_workflow(page, info, name) for name in names}
    dropped = drop(page, *names)
    assert [(node["title"], node["subgraph"]) for node in dropped] == [(name, True) for name in names]
    prompt = page.evaluate(PROMPT)
    for node in dropped:
        whole = wanted[node["title"]]
        assert by_type(prompt, info, f"{node['id']}:") == whole
        assert node["widgets"] == {widget: whole[kind][widget] for kind, widget in BLUEPRINTS[node["title"]].widgets}


CONTROL = """(mode) => {
    const seeded = window.app.graph.nodes[0].subgraph.nodes.find((node) => node.widgets?.some((w) => w.name === 'seed'))
    const control = seeded.widgets.find((widget) => widget.name === 'seed').linkedWidgets[0]
    const was = control.value
    control.value = mode
    return was
}"""
SAVE = """() => {
    const { graph } = window.app
    const save = window.LiteGraph.createNode('SaveVideo')
    graph.add(save)
    graph.nodes[0].connect(0, save, 0)
}"""


@pytest.mark.parametrize("name", BLUEPRINTS, ids=lambda name: name.removeprefix("SkyReels-V2 "))
def test_the_seed_of_a_blueprint_obeys_its_control_after_generate(host: Host, page: Any, name: str) -> None:
    drop(page, name)
    # a prompt that the host refuses, without an output or the files that it names, controls nothing
    page.evaluate(SAVE)
    assert page.evaluate(CONTROL, "fixed") == "fixed"
    seeds = []
    with shipped_files(host):
        for mode in ("fixed", "increment", "increment"):
            page.evaluate(CONTROL, mode)
            assert "header too small" in run(page), "the model files are empty"
            prompt = page.evaluate(PROMPT)
            seeds += [node["inputs"]["seed"] for node in prompt.values() if "seed" in node["inputs"]]
    assert seeds == [42, 43, 44]
