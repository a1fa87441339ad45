"""Write subgraphs/*.json: blueprints, each a whole workflow as one node in ComfyUI's node library.

Run `python -m tools.build_subgraphs` after a node changes; a test compares the files with what this makes. The format
is the front end's: a workflow of one node whose type is the id of the subgraph beside it; nodes -10 and -20 in the
subgraph are its inputs and outputs. A widget that the node shows is an input of the subgraph, linked to the inner
widget: `proxyWidgets` names it by -1. Naming the inner node instead works only once in a graph, because the front end
gives the inner nodes of a second blueprint other ids. What happens to the seed after a run is set at the inner seed.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tools.build_workflows import workflows
from tools.long_workflows import WAVES, LongSettings, long_graph
from tools.templates import name_of
from tools.workflow_graph import GAP, RELEASED, Graph

FOLDER = Path(__file__).resolve().parent.parent / "subgraphs"
CATEGORY = "SkyReels-V2"
INPUTS, OUTPUTS = -10, -20  # nodes of the front end
SHOWN_OUTSIDE = -1  # stands for the inner node of a widget that is an input of the subgraph
LEFT_OUT = ("MarkdownNote", "SaveVideo", "PreviewAny")
OPTIONAL = 7  # the shape of a socket that may stay open
ROW = 20  # pixels between sockets


@dataclass(frozen=True)
class Blueprint:
    """What becomes one node.

    Attributes:
        graph: the workflow that it holds.
        widgets: what the node shows: type of the inner node and name of its widget.
        outputs: what it gives: type of the inner node and name of its output.
        inputs: what it takes and may be left open: type of the inner node and name of its input.
        height: of the node, pixels.
    """

    graph: Graph
    widgets: tuple[tuple[str, str], ...]
    outputs: tuple[tuple[str, str], ...]
    inputs: tuple[tuple[str, str], ...] = field(default=())
    height: int = 560


MODELS = (("SkyReelsV2ModelLoader", "model_name"), ("CLIPLoader", "clip_name"), ("VAELoader", "vae_name"))
SAMPLING = ("seed", "steps", "cfg", "shift", "ar_step", "causal_block_size")
BLUEPRINTS: dict[str, Blueprint] = {
    "SkyReels-V2 Text to Video": Blueprint(
        workflows()[name_of("Text to Video")],
        (
            ("SkyReelsV2TextEncode", "prompt"),
            *(("SkyReelsV2EmptyLatent", name) for name in ("size", "frames")),
            *(("SkyReelsV2Sampler", name) for name in SAMPLING),
            *MODELS,
        ),
        (("CreateVideo", "VIDEO"),),
    ),
    "SkyReels-V2 Text to Long Video": Blueprint(
        long_graph(WAVES, LongSettings(RELEASED, 257, "long_video"), "", ""),
        (
            ("SkyReelsV2TextEncode", "prompt"),
            *(
                ("SkyReelsV2LongVideo", name)
                for name in ("size", "total_frames", "overlap_history", *SAMPLING, "loop", "job_name")
            ),
            *MODELS,
        ),
        (("SkyReelsV2LongVideo", "video"), ("SkyReelsV2LongVideo", "plan")),
        (("SkyReelsV2LongVideo", "start_image"), ("SkyReelsV2LongVideo", "end_image")),
        640,
    ),
}


def identity(*words: str) -> str:
    """Return an id that is the same at every run."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, "/".join(("comfyui-skyreels-v2/subgraphs", *words))))


class Inside:
    """The nodes and links of a workflow as those of a subgraph."""

    def __init__(self, workflow: dict[str, Any]) -> None:
        self.nodes = {node["id"]: node for node in workflow["nodes"] if node["type"] not in LEFT_OUT}
        self.links: list[dict[str, Any]] = []
        for node in self.nodes.values():
            for socket in node["inputs"]:
                socket["link"] = None
            for socket in node["outputs"]:
                socket["links"] = []
        for _, source, out_slot, target, in_slot, kind in workflow["links"]:
            if source in self.nodes and target in self.nodes:
                self.link(source, out_slot, target, in_slot, kind)

    def link(self, source: int, out_slot: int, target: int, in_slot: int, kind: str) -> int:
        """Join two sockets, one of which may be of the subgraph itself; returns the link's number."""
        number = len(self.links) + 1
        if source in self.nodes:
            self.nodes[source]["outputs"][out_slot]["links"].append(number)
        if target in self.nodes:
            self.nodes[target]["inputs"][in_slot]["link"] = number
        self.links.append(
            {"id": number, "origin_id": source, "origin_slot": out_slot, "target_id": target, "target_slot": in_slot,
             "type": kind}
        )  # fmt: skip
        return number

    def only(self, kind: str) -> dict[str, Any]:
        """Return the one node of a type."""
        (node,) = [node for node in self.nodes.values() if node["type"] == kind]
        return node

    def socket(self, kind: str, side: str, name: str) -> tuple[int, int, str]:
        """Return node, slot and type of a socket; `side` is "inputs" or "outputs"."""
        node = self.only(kind)
        slot = next(at for at, socket in enumerate(node[side]) if socket["name"] == name)
        return node["id"], slot, node[side][slot]["type"]

    def edges(self) -> tuple[float, float, float]:
        """Return left and right edge of all nodes, and the top."""
        nodes = self.nodes.values()
        right = max(node["pos"][0] + node["size"][0] for node in nodes)
        return min(node["pos"][0] for node in nodes), right, min(node["pos"][1] for node in nodes)


def sockets(inside: Inside, side: str, wanted: tuple[tuple[str, str], ...], name: str) -> list[dict[str, Any]]:
    """Join the subgraph's own inputs or outputs with those of its nodes, and return their descriptions."""
    made = []
    for slot, (kind, socket) in enumerate(wanted):
        node, at, type_ = inside.socket(kind, side, socket)
        if side == "inputs":
            number = inside.link(INPUTS, slot, node, at, type_)
        else:
            number = inside.link(node, at, OUTPUTS, slot, type_)
        entry = {"id": identity(name, side, socket), "name": socket, "type": type_, "linkIds": [number]}
        optional = side == "inputs" and "widget" not in inside.nodes[node]["inputs"][at]
        made.append(entry | ({"shape": OPTIONAL} if optional else {}))
    return made


def outer_input(entry: dict[str, Any]) -> dict[str, Any]:
    """Return what the node outside has for an input of the subgraph: a widget, or a socket that may stay open."""
    own = {"shape": OPTIONAL} if "shape" in entry else {"widget": {"name": entry["name"]}}
    return {"name": entry["name"], "type": entry["type"], **own, "link": None}


def build(name: str, blueprint: Blueprint) -> dict[str, Any]:
    """Return the file of a blueprint."""
    inside = Inside(json.loads(json.dumps(blueprint.graph.to_json(name))))  # a copy: the links are made anew
    inputs, outputs = (
        sockets(inside, side, wanted, name)
        for side, wanted in (("inputs", blueprint.inputs + blueprint.widgets), ("outputs", blueprint.outputs))
    )
    left, right, top = inside.edges()
    subgraph = {
        "id": identity(name),
        "version": 1,
        "state": {"lastGroupId": 0, "lastNodeId": max(inside.nodes), "lastLinkId": len(inside.links),
                  "lastRerouteId": 0},
        "revision": 0,
        "config": {},
        "name": name,
        "inputNode": {"id": INPUTS, "bounding": [left - 120 - GAP, top, 120, ROW * (2 + len(inputs))]},
        "outputNode": {"id": OUTPUTS, "bounding": [right + GAP, top, 120, ROW * (2 + len(outputs))]},
        "inputs": inputs,
        "outputs": outputs,
        "widgets": [],
        "nodes": list(inside.nodes.values()),
        "groups": [],
        "links": inside.links,
        "extra": {},
        "category": CATEGORY,
    }  # fmt: skip
    number = max(inside.nodes) + 1
    shown = {
        "id": number,
        "type": subgraph["id"],
        "pos": [0, 0],
        "size": [420, blueprint.height],
        "flags": {},
        "order": 0,
        "mode": 0,
        "inputs": [outer_input(entry) for entry in inputs],
        "outputs": [{"name": entry["name"], "type": entry["type"], "links": []} for entry in outputs],
        "properties": {"proxyWidgets": [[str(SHOWN_OUTSIDE), widget] for _, widget in blueprint.widgets]},
        "widgets_values": [],
        "title": name,
    }
    return {
        "id": identity(name, "file"),
        "revision": 0,
        "last_node_id": number,
        "last_link_id": 0,
        "nodes": [shown],
        "links": [],
        "groups": [],
        "definitions": {"subgraphs": [subgraph]},
        "config": {},
        "extra": {},
        "version": 0.4,
    }


def text_of(name: str) -> str:
    """Return a blueprint as the text of its file."""
    return json.dumps(build(name, BLUEPRINTS[name]), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for file_name in BLUEPRINTS:
        (FOLDER / f"{file_name}.json").write_text(text_of(file_name), encoding="utf-8")
        print(file_name)
