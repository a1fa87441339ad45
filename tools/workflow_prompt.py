"""From a saved workflow (the frontend's JSON) to an API prompt, with what the server says about its nodes.

A stand-in for the frontend's own conversion, good for the plain graphs this pack ships: no subgraphs, no primitives,
no widgets that only the frontend knows (3D views, painting). Its rules are the frontend's. A file keeps widget values
as a list without names: they belong to the widgets in the server's order, required inputs before optional ones. A
choice that brings inputs of its own (DynamicCombo) is followed by them, named `format.codec`. Where the list ends
early, the widgets keep their defaults; what it has too much is left over. A file of a frontend that writes
`widgets_values_named` beside the list is read by these names, which stay right when a node's inputs change places.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

COMMENTS = ("Note", "MarkdownNote")
WIDGET_TYPES = ("COMBO", "INT", "FLOAT", "STRING", "BOOLEAN", "COLOR")
DYNAMIC_COMBO, AUTOGROW = "COMFY_DYNAMICCOMBO_V3", "COMFY_AUTOGROW_V3"
UPLOADS = ("image_upload", "video_upload", "audio_upload")
MUTED, BYPASSED = 2, 4
CONTROL, BUTTON = "control_after_generate", "upload"  # widgets that are in a file and in no prompt

Specs = dict[str, dict[str, Any]]  # inputs by "required" and "optional", each a list of type and options
Take = Callable[[str, Any], Any]  # gives the saved value of a name, or the default where there is none


class WorkflowError(Exception):
    """The workflow holds something that the server does not know or this conversion cannot carry over."""


def load_workflow(path: Path) -> dict[str, Any]:
    """Read a workflow file."""
    return json.loads(path.read_text(encoding="utf-8"))


def default_of(type_: Any, options: dict[str, Any]) -> Any:
    """Return what the frontend shows in a new node."""
    if "default" in options:
        return options["default"]
    choices = type_ if isinstance(type_, list) else options.get("options")
    if choices:
        return choices[0]
    return {"INT": 0, "FLOAT": 0, "STRING": "", "BOOLEAN": False}.get(type_) if isinstance(type_, str) else None


def has_control(name: str, type_: Any, options: dict[str, Any]) -> bool:
    """Return whether a widget is followed by the one that says how its value changes after a run."""
    return bool(options.get("control_after_generate", type_ == "INT" and name in ("seed", "noise_seed")))


def read_widgets(specs: Specs, take: Take, group: str = "") -> Iterator[tuple[str, Any]]:
    """Yield name and value of every widget of a node that the server knows, taking the saved values one by one.

    Args:
        specs: the inputs.
        take: gives a saved value; called in the order of the file's list.
        group: what the names begin with: the choice that brought these inputs, and a dot.
    """
    for kind in ("required", "optional"):
        buttons = 0
        for short, (type_, *rest) in (specs.get(kind) or {}).items():
            name, options = group + short, rest[0] if rest else {}
            type_ = options.get("widgetType", type_)
            if type_ == DYNAMIC_COMBO:
                choices = {choice["key"]: choice["inputs"] for choice in options["options"]}
                value = take(name, options.get("default", next(iter(choices), None)))
                yield name, value
                yield from read_widgets(choices.get(value, {}), take, f"{name}.")
            elif (isinstance(type_, list) or type_ in WIDGET_TYPES) and not options.get("forceInput"):
                yield name, take(name, default_of(type_, options))
                if has_control(name, type_, options):
                    take(CONTROL, None)
                buttons += any(map(options.get, UPLOADS))
        for _ in range(buttons):  # "choose file to upload": the frontend adds it to the required inputs
            take(BUTTON, None)


def widget_values(node: dict[str, Any], description: dict[str, Any]) -> dict[str, Any]:
    """Return the widget values of a saved node by input name."""
    saved = node.get("widgets_values") or []
    if isinstance(saved, dict):
        return dict(saved)
    named, values = node.get("widgets_values_named"), iter(saved)

    def take(name: str, default: Any) -> Any:
        return next(values, default) if named is None else named.get(name, default)

    return dict(read_widgets(description["input"], take))


def knows(specs: Specs, name: str) -> bool:
    """Return whether a node can have an input of this name, also one that grows or that a choice brings."""
    inputs = {**(specs.get("required") or {}), **(specs.get("optional") or {})}
    if name in inputs:
        return True
    head, _, tail = name.partition(".")
    type_, *rest = inputs.get(head, (None,))
    if type_ == DYNAMIC_COMBO:
        return any(knows(choice["inputs"], tail) for choice in rest[0]["options"])
    if type_ == AUTOGROW:
        template = rest[0]["template"]
        prefix, most = template.get("prefix", ""), template.get("max", 0)
        return tail in template.get("names", [f"{prefix}{number}" for number in range(most)])
    return False


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
            if not knows(description["input"], slot["name"]):
                raise WorkflowError(f"{node['type']} has no input {slot['name']}")
            inputs[slot["name"]] = [str(source), output]
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
