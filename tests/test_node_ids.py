"""What saved workflows rely on is frozen in node_ids.json; a node, input, option or output that goes is found.

The nodes themselves are held against the file inside a host (tests/comfy/inside/test_schemas.py). Something new is
added to the file by `python -m tools.build_locales`; nothing is ever taken out of it once a version is released.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any

import pytest

from tools.build_locales import add_new
from tools.node_schemas import ENGLISH, FROZEN, MOVED, ROOT, as_json, breaks, is_grown, read, with_moved

NODES: dict[str, Any] = read(FROZEN)
RELEASED: dict[str, Any] = read(ROOT / "tests" / "released" / "contracts.json")  # before inputs moved
TABLE: dict[str, Any] = read(MOVED)
SAMPLER, LATENT, LONG = "SkyReelsV2Sampler", "SkyReelsV2EmptyLatent", "SkyReelsV2LongVideo"
NEW = {"name": "new", "type": "INT", "widget": True}
Change = Callable[[dict[str, Any]], Any]


def named(nodes: dict[str, Any], name: str, node: str = SAMPLER) -> dict[str, Any]:
    return next(entry for entry in nodes[node]["inputs"] if entry["name"] == name)


def test_the_file_is_written_as_the_tool_writes_it() -> None:
    assert FROZEN.read_text("utf-8") == as_json(NODES)
    assert all(re.fullmatch(r"SkyReelsV2[A-Z]\w+", node) for node in NODES)


def test_every_frozen_node_and_input_still_has_its_texts() -> None:
    texts = read(ENGLISH)
    for node, entry in NODES.items():
        assert {inputs["name"] for inputs in entry["inputs"]} <= set(texts[node]["inputs"]), node
        assert len(entry["outputs"]) <= len(texts[node]["outputs"]), node


def test_every_node_and_input_that_has_texts_is_frozen() -> None:
    frozen = {node: {inputs["name"] for inputs in entry["inputs"]} for node, entry in NODES.items()}
    texts = {node: entry["inputs"] for node, entry in read(ENGLISH).items()}
    assert frozen == {
        node: {key for key, entry in inputs.items() if not is_grown(key, entry)} for node, inputs in texts.items()
    }


def test_the_nodes_as_they_are_break_nothing() -> None:
    assert breaks(NODES, NODES) == []


BREAKING: dict[str, tuple[Change, str]] = {
    "a node goes": (lambda nodes: nodes.pop(SAMPLER), "is gone"),
    "an input goes": (lambda nodes: nodes[SAMPLER]["inputs"].remove(named(nodes, "model")), "model is gone"),
    "a widget goes": (lambda nodes: nodes[SAMPLER]["inputs"].remove(named(nodes, "fps")), "fps is gone"),
    "an input changes its type": (lambda nodes: named(nodes, "cfg").update(type="INT"), "was FLOAT and is INT"),
    "an option goes": (lambda nodes: named(nodes, "solver")["options"].remove("euler"), "lost the options"),
    "an output goes": (lambda nodes: nodes[SAMPLER]["outputs"].clear(), "outputs were"),
    "widgets change places": (lambda nodes: nodes[SAMPLER]["inputs"].reverse(), "the widgets were"),
    "a widget is put in front of others": (
        lambda nodes: nodes[SAMPLER]["inputs"].insert(0, {"name": "new", "type": "INT", "widget": True}),
        "the widgets were",
    ),
    "a new input has to be connected": (
        lambda nodes: nodes[SAMPLER]["inputs"].append({"name": "new", "type": "CLIP", "widget": False}),
        "is required",
    ),
    "an option loses an input that it brings": (
        lambda nodes: named(nodes, "size", LATENT)["inside"]["custom"].pop(),
        "inside custom were ['width', 'height'] and are ['width']",
    ),
    "an input comes in front of those that an option brings": (
        lambda nodes: named(nodes, "size", LATENT)["inside"]["custom"].insert(0, {"name": "new", "type": "INT"}),
        "inside custom were",
    ),
    "an option brings inputs that it did not": (
        lambda nodes: named(nodes, "size", LATENT)["inside"].update(
            {named(nodes, "size", LATENT)["options"][0]: [{"name": "new", "type": "INT", "widget": True}]}
        ),
        "inside 540P landscape (960x544) were []",
    ),
    "an option brings one more in front of other inputs": (
        lambda nodes: named(nodes, "size", LATENT)["inside"]["custom"].append({**NEW, "optional": True}),
        "inside custom were",
    ),
    "an option of the last input brings one more that is required": (
        lambda nodes: named(nodes, "method", LONG)["inside"]["rolling"].append(NEW),
        "inside rolling were",
    ),
    "an input that an option brings changes its type": (
        lambda nodes: named(nodes, "size", LATENT)["inside"]["custom"][0].update(type="FLOAT"),
        "size.width was INT and is FLOAT",
    ),
    "an optional input has to be connected": (
        lambda nodes: named(nodes, "start_image", "SkyReelsV2KeyFrames").pop("optional"),
        "was optional",
    ),
}


@pytest.mark.parametrize("name", BREAKING)
def test_it_is_found_when(name: str) -> None:
    change, message = BREAKING[name]
    changed = copy.deepcopy(NODES)
    change(changed)
    found = breaks(NODES, changed)
    assert found and any(message in sentence for sentence in found), found


ALLOWED: dict[str, Change] = {
    "one more behind those that an option of the last input brings": lambda nodes: named(nodes, "method", LONG)[
        "inside"
    ]["rolling"].append({**NEW, "optional": True}),
    "a new node": lambda nodes: nodes.update(SkyReelsV2New={"inputs": [], "outputs": []}),
    "a widget behind the others": lambda nodes: nodes[SAMPLER]["inputs"].append(
        {"name": "new", "type": "INT", "widget": True}
    ),
    "an optional input": lambda nodes: nodes[SAMPLER]["inputs"].insert(
        0, {"name": "new", "type": "CLIP", "widget": False, "optional": True}
    ),
    "an input that need not be connected any more": lambda nodes: named(nodes, "negative").update(optional=True),
    "a new option": lambda nodes: named(nodes, "solver")["options"].append("new"),
    "an output behind the others": lambda nodes: nodes[SAMPLER]["outputs"].append("IMAGE"),
}


@pytest.mark.parametrize("name", ALLOWED)
def test_it_is_allowed_and_then_frozen_to_add(name: str) -> None:
    changed = copy.deepcopy(NODES)
    ALLOWED[name](changed)
    assert breaks(NODES, changed) == []
    frozen = add_new(NODES, changed)
    assert frozen != NODES
    assert breaks(frozen, changed) == []
    assert breaks(frozen, NODES)  # from now on it may not go again


def test_what_the_migration_moves_is_no_break_and_without_it_there_would_be_some() -> None:
    assert breaks(RELEASED, NODES, TABLE) == []
    unmoved = breaks(RELEASED, NODES)
    for node in TABLE:
        assert f"{node}.width is gone" in unmoved and f"{node}.size was COMBO and is COMFY_DYNAMICCOMBO_V3" in unmoved


def test_what_the_migration_does_not_cover_is_a_break() -> None:
    for node, entry in TABLE.items():
        inside = {"size": {"custom": ["width"]}}  # height is forgotten
        found = breaks(RELEASED, NODES, {**TABLE, node: {**entry, "inside": inside}})
        assert f"{node}.height is gone" in found
    changed = copy.deepcopy(NODES)
    named(changed, "size", LATENT)["inside"]["custom"].reverse()
    assert breaks(RELEASED, changed, TABLE) == [
        "SkyReelsV2EmptyLatent.size: inside custom were ['width', 'height'] and are ['height', 'width']"
    ]


def test_the_migration_leaves_alone_what_is_as_it_is_now() -> None:
    assert with_moved(NODES, TABLE) == NODES


KINDS = {"INT": "number", "FLOAT": "number", "STRING": "string", "COMBO": "string", "BOOLEAN": "boolean"}


def test_the_table_of_the_migration_has_the_widgets_as_they_were() -> None:
    """In the order of a front end: required ones first, a seed followed by what becomes of it after a run."""
    for node, entry in TABLE.items():
        widgets = [each for each in RELEASED[node]["inputs"] if each["widget"]]
        listed = {}
        for each in sorted(widgets, key=lambda each: each.get("optional", False)):
            listed[each["name"]] = KINDS[each["type"]]
            if each["name"] == "seed":
                listed["control_after_generate"] = "string"
        assert list(entry["widgets"].items()) == list(listed.items()), node
