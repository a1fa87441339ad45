"""API prompts that were written with nodes whose inputs have moved since: puts the inputs where they are now.

The table of what has moved is web/js/moved_inputs.json: by node, `widgets` (the widgets as they were, in the order in
which a workflow file keeps their values, each with the kind of its value), and `inside` (the input that others are
inside of now, by the option that has them). web/js/moved_inputs.js does the same for saved workflows.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .language import running_server

TABLE = Path(__file__).resolve().parent.parent / "web" / "js" / "moved_inputs.json"


def in_their_places(inputs: dict[str, Any], inside: dict[str, dict[str, list[str]]]) -> dict[str, Any]:
    """Return a node's inputs with those that moved in their new places; what has no place there is left out.

    Args:
        inputs: values and links by name.
        inside: of this node's entry in the table.
    """
    homes = {
        name: (parent, option) for parent, options in inside.items() for option, names in options.items()
        for name in names
    }  # fmt: skip
    found = {name: value for name, value in inputs.items() if name not in homes}
    for name, (parent, option) in homes.items():
        if name in inputs and inputs.get(parent) == option:
            found.setdefault(f"{parent}.{name}", inputs[name])
    return found


def migrate(request: dict[str, Any]) -> dict[str, Any]:
    """Return what was posted to /prompt with the inputs of our nodes in their places."""
    table = json.loads(TABLE.read_text("utf-8"))
    prompt = request.get("prompt")
    for node in prompt.values() if isinstance(prompt, dict) else ():
        moved = table.get(str(node.get("class_type"))) if isinstance(node, dict) else None
        if moved and isinstance(node.get("inputs"), dict):
            node["inputs"] = in_their_places(node["inputs"], moved["inside"])
    return request


def register() -> None:
    """Let the running server migrate what it is sent, before it looks at it; without one there is nothing to do."""
    server = running_server()
    if server is not None:
        server.add_on_prompt_handler(migrate)
