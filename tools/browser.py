"""ComfyUI's front end in headless Chromium: opened, and what a person does there. For tests and screenshots."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
QUIET = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    # a page that serve_front_end gave has no address, and may not open the socket of a server on this machine
    "--disable-features=LocalNetworkAccessChecks,LocalNetworkAccessChecksWebSockets",
]  # fmt: skip
JSON = {"Content-Type": "application/json"}
NO_BROWSER = "no Chromium found: install one, or name it in CHROMIUM_PATH"

LOCALE, NODES2, THEME = "Comfy.Locale", "Comfy.VueNodes.Enabled", "Comfy.ColorPalette"
# what a page starts with, whatever was set before: no template browser of a first visit, no question when it leaves
SETTINGS = {
    "Comfy.TutorialCompleted": True, "Comfy.Window.UnloadConfirmation": False,
    LOCALE: "en", NODES2: False, THEME: "dark",
}  # fmt: skip
# the nodes are known, the first graph is open (it would replace a later one), and the server's events arrive
READY = """() => {
    const { app, LiteGraph } = window
    const { workflow, spinner } = app?.extensionManager ?? {}
    return workflow?.activeWorkflow && !spinner && app.api.clientId
        && LiteGraph.registered_node_types['SkyReelsV2Sampler'] !== undefined
}"""
SETTING = "([name, value]) => window.app.extensionManager.setting.set(name, value)"
EMPTY: dict[str, Any] = {"nodes": [], "links": [], "version": 0.4}
# the front end follows the address to the graph that it names: one opened right behind another may be put back
OPEN = """async (workflow) => {
    const ids = (nodes) => String(nodes.map((node) => String(node.id)).sort())
    const { app } = window, wanted = ids(workflow.nodes)
    const there = async () => {
        for (let checks = 0; checks < 3; checks++) {
            await new Promise((resolve) => setTimeout(resolve, 100))
            if (ids(app.graph.nodes) !== wanted || ![`#${app.graph.id}`, ''].includes(location.hash)) return false
        }
        return true
    }
    for (let tries = 0; tries < 5; tries++) {
        await app.loadGraphData(structuredClone(workflow), true, true)
        for (let waits = 0; waits < 10; waits++)
            if (await there()) return
    }
    throw new Error(`opened ${wanted}, shown ${ids(app.graph.nodes)} at ${location.hash}, not ${app.graph.id}`)
}"""
PROMPT = "async () => (await window.app.graphToPrompt()).output"
FIT = """async () => {
    const { canvas, extensionManager, graph } = window.app
    canvas.selectItems(graph.nodes)
    await extensionManager.command.execute('Comfy.Canvas.FitView')
    canvas.deselectAll()
    const view = () => String([canvas.ds.scale, ...canvas.ds.offset])
    for (let was = null; was !== view();) {  // it glides there
        was = view()
        await new Promise((done) => setTimeout(done, 300))
    }
}"""
SELECT = """(kind) => window.app.canvas.selectItems(
    window.app.graph.nodes.filter((node) => node.comfyClass === kind))"""
SET = """([kind, name, value]) => {
    const node = window.app.graph.nodes.find((node) => node.comfyClass === kind)
    const widget = node.widgets.find((widget) => widget.name === name)
    widget.value = value
    widget.callback?.(value)
}"""
RUN = """async ([prompt, seconds]) => {
    const { api } = window.app
    const ended = new Promise((resolve) => {
        const once = { once: true }
        api.addEventListener('execution_success', () => resolve(''), once)
        for (const kind of ['execution_error', 'execution_interrupted'])
            api.addEventListener(kind, (event) => resolve(event.detail.exception_message ?? kind), once)
        setTimeout(() => resolve(`no end after ${seconds} s`), 1000 * seconds)
    })
    if (prompt) await api.queuePrompt(0, { output: prompt, workflow: window.app.graph.serialize() })
    else await window.app.queuePrompt(0)
    return await ended
}"""
DRAWN = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done))))"


def browser_path() -> str | None:
    """Return a Chromium of this machine: CHROMIUM_PATH, or one on the PATH."""
    return os.environ.get("CHROMIUM_PATH") or next(filter(None, map(shutil.which, BROWSERS)), None)


def visit(page: Any, url: str, settings: Mapping[str, Any]) -> None:
    """Change settings of the front end at `url` and open it anew; returns when it is ready for a workflow."""
    server = "{0.scheme}://{0.netloc}".format(urlsplit(url))
    for name, value in settings.items():
        page.request.post(f"{server}/settings/{name}", data=json.dumps(value), headers=JSON)
    page.goto(server, wait_until="load", timeout=120_000)
    page.wait_for_function(READY, timeout=180_000)
    # the first graph's models are looked for meanwhile: what is missing would turn a node of the next graph red
    with suppress(Exception):  # some front end may never be idle
        page.wait_for_load_state("networkidle", timeout=10_000)
    page.evaluate(OPEN, EMPTY)


def run(page: Any, prompt: dict[str, Any] | None = None, seconds: int = 120) -> str:
    """Do what the Run button does with the open graph; return the error that ended the run, "" for none.

    Args:
        page: of the front end.
        prompt: what runs in place of the graph's own; the results are shown on the nodes of the graph.
        seconds: until it is given up.
    """
    return page.evaluate(RUN, [prompt, seconds])


def serve_front_end(page: Any, url: str, folder: Path) -> None:
    """Give the browser another front end than the server's: what `folder` has comes from there, as --front-end-root."""

    def answer(route: Any) -> None:
        path = unquote(urlsplit(route.request.url).path).lstrip("/") or "index.html"
        if (folder / path).is_file():
            route.fulfill(path=folder / path)
        else:
            route.continue_()

    page.route(f"{url}/**", answer)


@contextmanager
def open_browser() -> Iterator[Any]:
    """Start a browser and yield playwright's handle on it.

    Raises:
        RuntimeError: this machine has no Chromium.
    """
    from playwright.sync_api import sync_playwright

    program = browser_path()
    if program is None:
        raise RuntimeError(NO_BROWSER)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=QUIET)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def open_page(
    url: str,
    width: int = 1800,
    height: int = 1000,
    front_end: Path | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Iterator[Any]:
    """Open the front end of a server in a browser of its own; yields playwright's page, ready for a workflow.

    Args:
        url: of the server.
        width: pixels of the window.
        height: pixels of the window.
        front_end: the `static` folder of another front end than the server's own.
        settings: by name, in place of those of SETTINGS.

    Raises:
        RuntimeError: this machine has no Chromium.
    """
    with open_browser() as browser:
        page = browser.new_page(viewport={"width": width, "height": height})
        if front_end is not None:
            serve_front_end(page, url, front_end)
        visit(page, url, {**SETTINGS, **(settings or {})})
        yield page


def render(pages: Mapping[str, str], edge: int, quality: int) -> dict[str, bytes]:
    """Return what pages of HTML look like, each as a square JPEG.

    Args:
        pages: HTML by name.
        edge: pixels of the square.
        quality: of the JPEG, at most 100.

    Raises:
        RuntimeError: this machine has no Chromium.
    """
    with open_browser() as browser:
        page = browser.new_page(viewport={"width": edge, "height": edge})
        pictures = {}
        for name, content in pages.items():
            page.set_content(content, wait_until="load")
            pictures[name] = page.screenshot(type="jpeg", quality=quality)
        return pictures
