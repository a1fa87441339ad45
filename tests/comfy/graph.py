"""Write an API prompt as a few calls: every call adds a node and returns a handle on its outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Ref:
    """A node of a graph; `ref[1]` is its second output, and the ref itself stands for the first."""

    node: str
    output: int = 0

    def __getitem__(self, output: int) -> Ref:
        return Ref(self.node, output)


class Graph:
    """An API prompt under construction."""

    def __init__(self) -> None:
        self.prompt: dict[str, dict[str, Any]] = {}

    def add(self, class_type: str, **inputs: Any) -> Ref:
        """Add a node; a Ref as input value is a link, anything else a widget value."""
        node = str(len(self.prompt) + 1)
        linked = {
            name: [value.node, value.output] if isinstance(value, Ref) else value for name, value in inputs.items()
        }
        self.prompt[node] = {"class_type": class_type, "inputs": linked}
        return Ref(node)
