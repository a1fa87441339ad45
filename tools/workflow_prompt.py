"""From a saved workflow (the frontend's JSON) to an API prompt, with what the server says about its nodes.

A stand-in for the frontend's own conversion, good for the plain graphs this pack ships: no subgraphs, no primitives.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

COMMENTS = ("Note", "MarkdownNote")
WIDGET_TYPES = ("COMBO", "INT", "FLOAT", "STRING", "BOOLEAN")
MUTED, BYPASSED = 2, 4


class WorkflowError(Exception):
    """The workflow holds something that the server does not know or this conversion cannot carry over."""


def load_workflow(path: Path) -> dict[str, Any]:
    """Read a workflow file."""
    return json.loads(path.read_text(encoding="utf-8"))


def widget_names(description: dict[str, Any]) -> list[str | None]:
    """Return the inputs that a node's `widgets_values` stand for, in order; None for a value that is no input."""
    names: list[str | None] = []
    for kind in ("required", "optional"):
        for name, (type_, *rest) in description["input"].get(kind, {}).items():
            options = rest[0] if rest else {}
            if not (isinstance(type_, list) or type_ in WIDGET_TYPES) or options.get("forceInput"):
                continue
            names.append(name)
            control = options.get("control_after_generate") or (type_ == "INT" and name in ("seed", "noise_seed"))
            if control or options.get("image_upload") or options.get("video_upload"):
                names.append(None)  # the drop-down "randomize", or the upload button
    return names


def widget_values(node: dict[str, Any], description: dict[str, Any]) -> dict[str, Any]:
    """Return the widget values of a saved node by input name."""
    values = node.get("widgets_values") or []
    if isinstance(values, dict):
        return values
    names = widget_names(description)
    if len(values) > len(names) or len(values) < len([name for name in names if name is not None]):
        raise WorkflowError(f"{node['type']} saves {len(values)} widget values, but the server knows {names}")
    return {name: value for name, value in zip(names, values, strict=False) if name is not None}


def to_prompt(workflow: dict[str, Any], object_info: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the API prompt of a workflow.

    Args:
        workflow: the frontend's JSON.
        object_info: the server's answer to GET /object_info.

    Raises:
        WorkflowError: a node that the server does not have, or a construct that is not carried over.
    """
    if workflow.get("definitions", {}).get("subgraphs"):
        raise WorkflowError("the workflow has subgraphs, which this conversion does not unpack")
    nodes = {node["id"]: node for node in workflow["nodes"] if node["type"] not in COMMENTS}
    links = {link[0]: (link[1], link[2]) for link in workflow["links"]}
    prompt: dict[str, dict[str, Any]] = {}
    for identity, node in nodes.items():
        if node.get("mode", 0) in (MUTED, BYPASSED):
            continue
        if node["type"] not in object_info:
            raise WorkflowError(f"the server has no node {node['type']}")
        description = object_info[node["type"]]
        inputs = widget_values(node, description)
        for slot in node.get("inputs", ()):
            if slot.get("link") is None:
                continue
            source, output = links[slot["link"]]
            if source not in nodes or nodes[source].get("mode", 0) in (MUTED, BYPASSED):
                raise WorkflowError(f"{node['type']}.{slot['name']} hangs on a muted or missing node")
            inputs[slot["name"]] = [str(source), output]
        known = {name for kind in ("required", "optional") for name in description["input"].get(kind, {})}
        unknown = {slot["name"] for slot in node.get("inputs", ()) if slot.get("link") is not None} - known
        if unknown:
            raise WorkflowError(f"{node['type']} has no input {sorted(unknown)}")
        prompt[str(identity)] = {"class_type": node["type"], "inputs": inputs}
    return prompt


def changed(prompt: dict[str, dict[str, Any]], /, **values: Any) -> dict[str, dict[str, Any]]:
    """Return a prompt with some widgets changed wherever they are; links stay what they are."""
    return {
        number: {
            **node,
            "inputs": {
                name: values[name] if name in values and not isinstance(value, list) else value
                for name, value in node["inputs"].items()
            },
        }
        for number, node in prompt.items()
    }
