"""Take pictures of the pack in ComfyUI's real front end, in headless Chromium, to be looked at by a person.

usage: python -m tools.screenshots [FOLDER] [--url http://127.0.0.1:8188]

Without --url a ComfyUI is started (SKYREELS_HOSTS, COMFYUI_PATH or ~/ComfyUI). The Chinese ones need a font with
Chinese characters on this machine.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tools.browser import open_page, set_node_style, wait_until_ready
from tools.front_ends import ROOT, newest_front_end
from tools.host import PACK_FOLDER, Host
from tools.host_demo import start
from tools.hosts import find_hosts, why_no_host
from tools.templates import template
from tools.workflow_prompt import load_workflow

OPEN = "(workflow) => window.app.loadGraphData(workflow, true, true)"
FIT = """async () => {
    window.app.canvas.selectItems(window.app.graph.nodes)
    await window.app.extensionManager.command.execute('Comfy.Canvas.FitView')
    window.app.canvas.deselectAll()
}"""
COMMAND = "(name) => window.app.extensionManager.command.execute(name)"
SELECT = """(kind) => {
    const node = window.app.graph.nodes.find((node) => node.comfyClass === kind)
    window.app.canvas.selectItems([node])
}"""
SET = """([kind, name, value]) => {
    const node = window.app.graph.nodes.find((node) => node.comfyClass === kind)
    const widget = node.widgets.find((widget) => widget.name === name)
    widget.value = value
    widget.callback?.(value)
}"""
LOCALE = "(language) => window.app.extensionManager.setting.set('Comfy.Locale', language)"
SETTLE = 3000  # milliseconds for the front end to draw
LONG = "SkyReelsV2LongVideo"


def open_workflow(page: Any, name: str) -> None:
    """Open an example workflow and bring all of it into view."""
    page.evaluate(OPEN, load_workflow(template(name)))
    page.wait_for_timeout(SETTLE)
    page.evaluate(FIT)
    page.wait_for_timeout(SETTLE)
    page.keyboard.press("Escape")


def templates(page: Any) -> None:
    """Show the pack's workflows in the template browser."""
    page.evaluate(COMMAND, "Comfy.BrowseTemplates")
    page.wait_for_timeout(SETTLE)
    packs = page.get_by_text(PACK_FOLDER, exact=True)
    if packs.count() == 0:  # the list of extensions is folded
        page.get_by_text("Extensions", exact=True).click()
    packs.first.click()
    page.wait_for_timeout(2 * SETTLE)


def english_graph(page: Any) -> None:
    """Show a graph with the live plan."""
    open_workflow(page, "Demo Long Video")


def refused(page: Any) -> None:
    """Show the live plan of a setting that will be refused."""
    open_workflow(page, "Demo Long Video")
    page.evaluate(SET, [LONG, "overlap_history", 37])
    page.wait_for_timeout(SETTLE)


def help_page(page: Any) -> None:
    """Show the help page of the Long Video node."""
    open_workflow(page, "Demo Long Video")
    page.evaluate(SELECT, LONG)
    page.wait_for_timeout(500)
    page.get_by_test_id("info-button").click()
    page.wait_for_timeout(2 * SETTLE)


RUN = """async () => {
    const { api } = window.app
    const ended = new Promise((resolve) => {
        for (const kind of ['execution_success', 'execution_error'])
            api.addEventListener(kind, (event) => resolve(event.detail.exception_message ?? ''), { once: true })
    })
    await window.app.queuePrompt(0, 1)
    return await ended
}"""


def finished(page: Any) -> None:
    """Show a graph after its run, with the video that it made."""
    open_workflow(page, "Demo Long Video")
    trouble = page.evaluate(RUN)
    if trouble:
        raise RuntimeError(trouble)
    page.wait_for_timeout(2 * SETTLE)
    page.evaluate(FIT)
    page.wait_for_timeout(SETTLE)


ENGLISH: dict[str, Callable[[Any], None]] = {
    "templates": templates, "graph": english_graph, "refused": refused, "help": help_page,
    "finished": finished,
}  # fmt: skip
CHINESE: dict[str, Callable[[Any], None]] = {
    "graph": english_graph, "refused": refused, "help": help_page, "finished": finished,
}  # fmt: skip
README = {"en": ROOT / "docs" / "figures" / "graph.jpg", "zh": ROOT / "docs" / "figures" / "graph.zh-CN.jpg"}


def take(url: str, folder: Path) -> None:
    """Take every picture of a running front end."""
    folder.mkdir(parents=True, exist_ok=True)
    with open_page(url, 1600, 1000) as page:
        for language, pictures in (("en", ENGLISH), ("zh", CHINESE)):
            page.evaluate(LOCALE, language)
            page.wait_for_timeout(SETTLE)
            for name, show in pictures.items():
                page.reload(wait_until="load")  # nothing of the picture before; names change at the next visit
                wait_until_ready(page)
                show(page)
                path = folder / f"{name}.{language}.png"
                page.screenshot(path=path)
                print(path)
        page.evaluate(LOCALE, "en")


def take_for_the_readme(url: str) -> None:
    """Take the pictures at the top of the READMEs: a graph after its run, in Nodes 2.0 of the newest front end."""
    with open_page(url, 1500, 850, newest_front_end()) as page:
        set_node_style(page, True)
        for language, path in README.items():
            page.evaluate(LOCALE, language)
            page.wait_for_timeout(SETTLE)
            page.reload(wait_until="load")
            wait_until_ready(page)
            finished(page)
            page.screenshot(path=path, type="jpeg", quality=80)
            print(path)
        page.evaluate(LOCALE, "en")
        set_node_style(page, False)


def main() -> None:
    """Read the command line and take the pictures."""
    parser = argparse.ArgumentParser(prog="python -m tools.screenshots", description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", help="where they go; none: those of the READMEs")
    parser.add_argument("--url", help="of a ComfyUI that runs already, with this pack")
    options = parser.parse_args()

    def take_them(url: str) -> None:
        if options.folder is None:
            take_for_the_readme(url)
        else:
            take(url, options.folder)

    if options.url:
        take_them(options.url)
        return
    hosts = find_hosts()
    if not hosts:
        sys.exit(why_no_host())
    host = Host(hosts[0])
    try:
        start(host)
        take_them(host.url)
    finally:
        host.stop()


if __name__ == "__main__":
    main()
