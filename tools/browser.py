"""ComfyUI's front end in headless Chromium: opened, ready for a workflow. For the tests and the screenshots."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
NO_BROWSER = "no Chromium found: install one, or name it in CHROMIUM_PATH"
READY = "window.app && window.app.graph && window.app.extensionManager"
SETTING = "([name, value]) => window.app.extensionManager.setting.set(name, value)"
OURS = "window.LiteGraph.registered_node_types['SkyReelsV2Sampler'] !== undefined"


def browser_path() -> str | None:
    """Return a Chromium of this machine: CHROMIUM_PATH, or one on the PATH."""
    return os.environ.get("CHROMIUM_PATH") or next(filter(None, map(shutil.which, BROWSERS)), None)


def wait_until_ready(page: Any) -> None:
    """Return when the front end knows the pack's nodes, with the template browser of a first visit out of the way."""
    page.wait_for_function(READY, timeout=180_000)
    page.wait_for_function(OURS, timeout=120_000)
    page.wait_for_timeout(3000)
    page.keyboard.press("Escape")


def set_node_style(page: Any, nodes2: bool) -> None:
    """Draw the nodes as Nodes 2.0 or as classic nodes, from the next visit on; this is that visit."""
    page.evaluate(SETTING, ["Comfy.VueNodes.Enabled", nodes2])
    page.wait_for_timeout(1000)  # the server writes the setting
    page.reload(wait_until="load")
    wait_until_ready(page)


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
def open_page(url: str, width: int = 1800, height: int = 1000, front_end: Path | None = None) -> Iterator[Any]:
    """Open the front end of a server in a browser of its own; yields playwright's page, ready for a workflow.

    Args:
        url: of the server.
        width: pixels of the window.
        height: pixels of the window.
        front_end: the `static` folder of another front end than the server's own.

    Raises:
        RuntimeError: this machine has no Chromium.
    """
    with open_browser() as browser:
        page = browser.new_page(viewport={"width": width, "height": height})
        if front_end is not None:
            serve_front_end(page, url, front_end)
        page.goto(url, wait_until="load", timeout=120_000)
        wait_until_ready(page)
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
