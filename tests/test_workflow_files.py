"""The shipped workflows are what tools/build_workflows.py makes, and say the same as the nodes."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tools.build_workflows import FOLDER, text_of, workflows
from tools.workflow_graph import NEGATIVE_PROMPT

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("name", workflows())
def test_a_workflow_file_is_what_the_builder_makes(name: str) -> None:
    file = FOLDER / f"{name}.json"
    assert file.read_text("utf-8") == text_of(name, workflows()[name]), "run python -m tools.build_workflows"


def test_no_workflow_file_is_left_over() -> None:
    assert {file.stem for file in FOLDER.glob("*.json")} == set(workflows())


def test_every_workflow_has_its_picture_for_the_template_browser() -> None:
    pictures = {file.stem for file in FOLDER.glob("*.jpg")}
    assert pictures == set(workflows()), "run python -m tools.build_thumbnails"
    assert all(file.read_bytes()[:3] == b"\xff\xd8\xff" for file in FOLDER.glob("*.jpg"))


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
        assert re.fullmatch(r"skyreels_v2_[a-z0-9_]+", name)
