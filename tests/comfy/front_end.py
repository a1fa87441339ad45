"""The front ends that a test is run in, and what a person does there, as JavaScript."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from tests.comfy.host import Host
from tools.browser import NO_BROWSER, SETTING, browser_path, open_page, set_node_style
from tools.front_ends import NEWEST, VARIABLE, newest_front_end


@dataclass(frozen=True)
class FrontEnd:
    """A front end and a style of its nodes.

    Attributes:
        newest: whether it is the newest of the package index, else the one that the host pins.
        nodes2: whether the nodes are drawn as Nodes 2.0.
    """

    newest: bool
    nodes2: bool

    def __str__(self) -> str:
        return f"{'newest' if self.newest else 'pinned'}-{'nodes2' if self.nodes2 else 'classic'}"

    @contextmanager
    def opened(self, host: Host) -> Iterator[Any]:
        """Open it in a browser; yields playwright's page, ready for a workflow."""
        pytest.importorskip("playwright.sync_api", reason="the front end is tested with the package playwright")
        if browser_path() is None:
            pytest.skip(f"{NO_BROWSER}, to test the front end")
        folder = newest_front_end() if self.newest else None
        if self.newest and folder is None:
            pytest.skip(f"no front end {NEWEST}: `python dev.py test` gets it, or set {VARIABLE} to its static folder")
        with open_page(host.url, front_end=folder) as page:
            set_node_style(page, self.nodes2)
            yield page


FRONT_ENDS = [FrontEnd(newest, nodes2) for newest in (False, True) for nodes2 in (False, True)]

EMPTY: dict[str, Any] = {"nodes": [], "links": [], "version": 0.4}
OPEN = "(workflow) => window.app.loadGraphData(workflow, true, true)"
PROMPT = "async () => (await window.app.graphToPrompt()).output"
FIT = """async () => {
    window.app.canvas.selectItems(window.app.graph.nodes)
    await window.app.extensionManager.command.execute('Comfy.Canvas.FitView')
    window.app.canvas.deselectAll()
}"""
CENTRE = """(kind) => {
    const { app } = window
    app.canvas.ds.scale = 1
    app.canvas.centerOnNode(app.graph.nodes.find((node) => node.comfyClass === kind))
    app.canvas.setDirty(true, true)
}"""
SET = """([kind, name, value]) => {
    const node = window.app.graph.nodes.find((node) => node.comfyClass === kind)
    const widget = node.widgets.find((widget) => widget.name === name)
    widget.value = value
    widget.callback?.(value)
}"""


def set_locale(page: Any, language: str) -> None:
    """Change the language of the front end, and visit it anew."""
    from tools.browser import wait_until_ready

    page.evaluate(SETTING, ["Comfy.Locale", language])
    page.wait_for_timeout(1000)
    page.reload(wait_until="load")
    wait_until_ready(page)


def known_part(node: dict[str, Any], description: dict[str, Any]) -> dict[str, Any]:
    """Return a node of the front end's prompt without the inputs that only its own widgets have (PreviewAny's text)."""
    known = {name for kind in ("required", "optional") for name in description["input"].get(kind, {})}
    inputs = {name: value for name, value in node["inputs"].items() if name.partition(".")[0] in known}
    return {"class_type": node["class_type"], "inputs": inputs}
