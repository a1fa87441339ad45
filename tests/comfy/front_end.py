"""The front ends that a test is run in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import pytest

from tests.comfy.host import Host
from tools.browser import NO_BROWSER, NODES2, browser_path, open_page
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
        with open_page(host.url, front_end=folder, settings={NODES2: self.nodes2}) as page:
            yield page


one_front_end = pytest.mark.parametrize("front_end", [FrontEnd(False, False)], ids=str, indirect=True)
FRONT_ENDS = [FrontEnd(newest, nodes2) for newest in (False, True) for nodes2 in (False, True)]

CENTRE = """(kind) => {
    const { app } = window
    app.canvas.ds.scale = 1
    app.canvas.centerOnNode(app.graph.nodes.find((node) => node.comfyClass === kind))
    app.canvas.setDirty(true, true)
}"""
OFFERED = """(title) => [...document.querySelectorAll('[role=option]')].some(
    (shown) => shown.textContent.startsWith(title))"""
TYPED = "(text) => document.activeElement?.value === text"
# title and place of each node, title included, in the units of the graph: from the document where nodes are part of it
BOXES = """() => {
    const { canvas, ds } = window.app.canvas, at = canvas.getBoundingClientRect()
    return window.app.graph.nodes.map((node) => {
        const element = window.LiteGraph.vueNodesMode && document.querySelector(`[data-node-id="${node.id}"]`)
        if (!element) return [node.title, node.pos[0], node.pos[1] - 30, node.size[0], node.size[1] + 30]
        const box = element.getBoundingClientRect()
        const [x, y] = [(box.left - at.left) / ds.scale - ds.offset[0], (box.top - at.top) / ds.scale - ds.offset[1]]
        return [node.title, x, y, box.width / ds.scale, box.height / ds.scale]
    })
}"""


def search(page: Any, place: tuple[int, int], text: str, title: str) -> None:
    """Ask the search box for a node as a person does: a double click on the empty canvas, and text.

    Args:
        page: of the front end.
        place: pixels of the page where nothing is but the canvas.
        text: what is typed.
        title: of the node or blueprint that has to be offered.
    """
    for _ in range(5):
        page.mouse.dblclick(*place)
        page.wait_for_timeout(2000)
        if page.evaluate(TYPED, ""):  # the box is open and has the focus; a slow page takes two clicks for two
            break
    page.keyboard.type(text)
    page.wait_for_function(TYPED, arg=text, timeout=30_000)
    page.wait_for_function(OFFERED, arg=title, timeout=30_000)


def overlaps(boxes: list[tuple[str, float, float, float, float]]) -> list[str]:
    """Return which boxes (title, left, top, width, height) lie over one another."""
    return [
        f"{a[0]} and {b[0]}"
        for a, b in combinations(boxes, 2)
        if a[1] < b[1] + b[3] and b[1] < a[1] + a[3] and a[2] < b[2] + b[4] and b[2] < a[2] + a[4]
    ]


def known_part(node: dict[str, Any], description: dict[str, Any]) -> dict[str, Any]:
    """Return a node of the front end's prompt without the inputs that only its own widgets have (PreviewAny's text)."""
    known = {name for kind in ("required", "optional") for name in description["input"].get(kind, {})}
    inputs = {name: value for name, value in node["inputs"].items() if name.partition(".")[0] in known}
    return {"class_type": node["class_type"], "inputs": inputs}
