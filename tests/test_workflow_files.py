"""The shipped workflows are what tools/build_workflows.py makes, and say the same as the nodes."""

from __future__ import annotations

import ast
import itertools
import re
from pathlib import Path

import av
import pytest
import torch

from tools import build_subgraphs
from tools.build_thumbnails import EDGE, LOOKS, card, strip_of
from tools.build_workflows import FOLDER, text_of, workflows
from tools.node_inputs import in_order
from tools.templates import DEMO, ORDER, TITLES
from tools.workflow_files import NEGATIVE_PROMPT
from tools.workflow_graph import Graph, save_video

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("name", workflows())
def test_a_workflow_file_is_what_the_builder_makes(name: str) -> None:
    file = FOLDER / f"{name}.json"
    assert file.read_text("utf-8") == text_of(name, workflows()[name]), "run python -m tools.build_workflows"


def test_no_workflow_file_is_left_over() -> None:
    assert {file.stem for file in FOLDER.glob("*.json")} == set(workflows())


def test_the_workflows_carry_the_nodes_own_negative_prompt() -> None:
    source = (ROOT / "nodes" / "conditioning.py").read_text("utf-8")
    assignment = next(node for node in ast.parse(source).body if isinstance(node, ast.Assign))
    assert ast.literal_eval(assignment.value) == NEGATIVE_PROMPT


def test_every_link_of_a_workflow_joins_two_sockets_that_know_of_it() -> None:
    for name, graph in workflows().items():
        file = graph.to_json(name)
        nodes = {node["id"]: node for node in file["nodes"]}
        for number, source, out_slot, target, in_slot, kind in file["links"]:
            assert number in nodes[source]["outputs"][out_slot]["links"]
            assert nodes[target]["inputs"][in_slot]["link"] == number
            assert nodes[source]["outputs"][out_slot]["type"] == kind
            assert nodes[target]["inputs"][in_slot]["type"] in (kind, "*")


def test_every_template_has_a_card_that_no_other_has_and_no_card_is_left_over() -> None:
    cards = {file.stem: file for file in FOLDER.glob("*.jpg")}
    assert set(cards) == set(workflows()), "run python -m tools.build_thumbnails"
    assert sum(file.stat().st_size for file in cards.values()) < 10**6
    small = {}
    for name, file in cards.items():
        with av.open(str(file)) as container:
            frame = next(container.decode(video=0))
        assert (frame.width, frame.height) == (EDGE, EDGE)
        small[name] = torch.from_numpy(frame.to_ndarray(format="rgb24")).float()
    for (one, a), (other, b) in itertools.combinations(small.items(), 2):
        assert (a - b).abs().mean() > 4, f"{one} looks like {other}"


def test_a_title_fits_its_card_and_the_demos_come_first() -> None:
    names, black = list(workflows()), torch.zeros(9, 8, 8, 3, dtype=torch.uint8)
    assert names == sorted(names) and all(len(name) <= 30 for name in names)
    demos = [title for title in ORDER if title.startswith(DEMO)]
    assert list(ORDER[: len(demos)]) == demos and set(LOOKS) == set(TITLES)
    for title in ORDER:
        page = card(title, black)
        assert strip_of(title) in demos and title.removeprefix(DEMO) in page
        assert ("no download" in page) == (title in demos) == ("made by the demo model" not in page)


def test_a_template_names_its_values_and_the_pack_that_its_nodes_are_of() -> None:
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE)
    assert version is not None
    for graph in workflows().values():
        for node in graph.nodes:
            if node["type"] == "MarkdownNote":
                continue
            ours = node["type"].startswith("SkyReelsV2")
            assert node["properties"]["cnr_id"] == ("comfyui-skyreels-v2" if ours else "comfy-core")
            assert not ours or node["properties"]["ver"] == version[1]
            assert list(node.get("widgets_values_named", {}).values()) == node.get("widgets_values", [])
            for entry in node["inputs"]:
                assert entry["name"] not in node.get("widgets_values_named", {}) or "widget" in entry


def test_values_are_put_in_the_order_of_the_inputs_and_none_may_be_missing_or_unknown() -> None:
    values = {"shift": 5.0, "steps": 3}
    assert list(in_order("SkyReelsV2Sigmas", values)) == [("steps", 3), ("shift", 5.0)]  # timesteps is left to the node
    with pytest.raises(ValueError, match="no value for steps"):
        list(in_order("SkyReelsV2Sigmas", {"shift": 5.0}))
    with pytest.raises(ValueError, match="no widgets nonsense"):
        list(in_order("SkyReelsV2Sigmas", {**values, "timesteps": "", "nonsense": 1}))


def test_what_grows_with_its_result_has_nothing_below_it() -> None:
    with pytest.raises(ValueError, match="last of its column"):
        Graph().column(save_video(), save_video())


def test_two_prompts_are_shown_only_where_both_are_used() -> None:
    for name, graph in workflows().items():
        for node in graph.nodes:
            if node["type"] == "SkyReelsV2TextEncode":
                assert all(output["links"] for output in node["outputs"]), name


@pytest.mark.parametrize("name", build_subgraphs.BLUEPRINTS)
def test_a_blueprint_file_is_what_the_builder_makes(name: str) -> None:
    file = build_subgraphs.FOLDER / f"{name}.json"
    assert file.read_text("utf-8") == build_subgraphs.text_of(name), "run python -m tools.build_subgraphs"
    assert {path.stem for path in build_subgraphs.FOLDER.glob("*.json")} == set(build_subgraphs.BLUEPRINTS)


@pytest.mark.parametrize("name", build_subgraphs.BLUEPRINTS)
def test_every_link_of_a_blueprint_joins_two_sockets_that_know_of_it(name: str) -> None:
    file = build_subgraphs.build(name, build_subgraphs.BLUEPRINTS[name])
    (subgraph,) = file["definitions"]["subgraphs"]
    nodes = {node["id"]: node for node in subgraph["nodes"]}
    ends = {(build_subgraphs.INPUTS, at): socket["linkIds"] for at, socket in enumerate(subgraph["inputs"])} | {
        (build_subgraphs.OUTPUTS, at): socket["linkIds"] for at, socket in enumerate(subgraph["outputs"])
    }
    for link in subgraph["links"]:
        source, target = (link["origin_id"], link["origin_slot"]), (link["target_id"], link["target_slot"])
        assert link["id"] in (ends.get(source) or nodes[source[0]]["outputs"][source[1]]["links"])
        assert link["id"] in (ends.get(target) or [nodes[target[0]]["inputs"][target[1]]["link"]])
    (shown,) = file["nodes"]
    assert {int(node) for node, _ in shown["properties"]["proxyWidgets"]} <= {build_subgraphs.SHOWN_OUTSIDE, *nodes}
