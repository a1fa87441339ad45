"""The shipped workflows are what tools/build_workflows.py makes, and say the same as the nodes."""

from __future__ import annotations

import ast
from pathlib import Path

import av
import pytest
import torch

from demo.shapes import SIZE
from tools import build_subgraphs
from tools.build_thumbnails import GAP, SCALE, thumbnail, twins
from tools.build_workflows import FOLDER, text_of, workflows
from tools.workflow_files import NEGATIVE_PROMPT

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


def test_every_template_has_a_picture_of_the_size_that_the_builder_makes_and_no_picture_is_left_over() -> None:
    pictures = {file.stem: file for file in FOLDER.glob("*.jpg")}
    assert set(pictures) == set(workflows()), "run python -m tools.build_thumbnails"
    assert sum(file.stat().st_size for file in pictures.values()) < 10**6
    edge = 2 * SCALE * SIZE + GAP
    for file in pictures.values():
        with av.open(str(file)) as container:
            frame = next(container.decode(video=0))
        assert (frame.width, frame.height) == (edge, edge)
        assert frame.to_ndarray(format="rgb24").std() > 5, f"{file.name} shows nothing"


def test_a_template_shows_the_picture_of_its_demo_twin() -> None:
    names = set(workflows())
    shown = {name for demo in names if "_demo_" in demo for name in twins(demo)}
    assert shown == names
    for demo in (name for name in names if "_demo_" in name):
        assert len({(FOLDER / f"{name}.jpg").read_bytes() for name in twins(demo)}) == 1, demo


def test_a_picture_holds_first_and_last_frame_and_two_between(tmp_path: Path) -> None:
    greys = torch.linspace(40, 220, 7).round().to(torch.uint8)
    file = tmp_path / "picture.jpg"
    file.write_bytes(thumbnail(greys[:, None, None, None].expand(7, SIZE, SIZE, 3).contiguous()))
    with av.open(str(file)) as container:
        pixels = next(container.decode(video=0)).to_ndarray(format="rgb24").astype(int)
    step = SCALE * SIZE + GAP
    middles = [pixels[row * step + 90, column * step + 90] for row in (0, 1) for column in (0, 1)]
    for middle, at in zip(middles, (0, 2, 4, 6), strict=True):
        assert abs(middle - int(greys[at])).max() <= 3


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
    assert {int(node) for node, _ in shown["properties"]["proxyWidgets"]} <= set(nodes)
