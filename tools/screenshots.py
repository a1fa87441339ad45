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

from tools.browser import FIT, LOCALE, NODES2, OPEN, SELECT, SET, THEME, open_page, run, visit
from tools.front_ends import ROOT, newest_front_end
from tools.host import PACK_FOLDER, Host
from tools.host_demo import start
from tools.hosts import find_hosts, why_no_host
from tools.templates import template
from tools.workflow_prompt import load_workflow

COMMAND = "(name) => window.app.extensionManager.command.execute(name)"
SPOKEN = f"() => window.app.extensionManager.setting.get('{LOCALE}')"
MIDDLE = """() => {
    const video = document.querySelector('video:not(.skyreels-v2-growing video)')
    if (!(video?.readyState >= 2)) return false
    if (video.currentTime === 0) video.currentTime = 0.95 * video.duration
    return true
}"""
PLAIN = {"Comfy.Minimap.Visible": False, "Comfy.RightSidePanel.IsOpen": False, "Comfy.Graph.CanvasInfo": False}
AROUND = """() => {
    const boxes = [...document.querySelectorAll('[data-node-id]')].map((node) => node.getBoundingClientRect())
    const [x, y] = [Math.min(...boxes.map((box) => box.left)) - 16, Math.min(...boxes.map((box) => box.top)) - 16]
    const [right, bottom] = [Math.max(...boxes.map((box) => box.right)), Math.max(...boxes.map((box) => box.bottom))]
    return { x, y, width: right + 16 - x, height: bottom + 16 - y }
}"""
SETTLE = 3000  # milliseconds for the front end to draw
LONG = "SkyReelsV2LongVideo"


def open_workflow(page: Any, name: str) -> None:
    """Open an example workflow and bring all of it into view."""
    page.evaluate(OPEN, load_workflow(template(name)))
    page.evaluate(FIT)
    page.wait_for_timeout(SETTLE)


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


def finished(page: Any) -> None:
    """Show a graph after its run, with the video that it made."""
    open_workflow(page, "Demo Long Video")
    # a job of its own in each language: ComfyUI keeps the text of a run in the language of that run
    page.evaluate(SET, [LONG, "job_name", f"demo_{page.evaluate(SPOKEN)}"])
    trouble = run(page, seconds=600)
    if trouble:
        raise RuntimeError(trouble)
    page.wait_for_function(MIDDLE, timeout=60_000)
    page.evaluate(FIT)
    page.wait_for_timeout(2 * SETTLE)  # the message that the job is done goes away


Pictures = dict[str, Callable[[Any], None]]
ALL: Pictures = {
    "templates": templates, "graph": english_graph, "refused": refused, "help": help_page, "finished": finished,
}  # fmt: skip
AFTER: Pictures = {"refused": refused, "finished": finished}
PICTURES: list[tuple[dict[str, Any], Pictures]] = [
    ({LOCALE: language, THEME: theme, NODES2: nodes2, **PLAIN}, ALL if (theme, nodes2) == ("dark", False) else AFTER)
    for language, theme in (("en", "dark"), ("en", "light"), ("zh", "dark"))
    for nodes2 in (False, True)
]
STYLES = {False: "classic", True: "nodes2"}
README = {"en": ROOT / "docs" / "figures" / "graph.jpg", "zh": ROOT / "docs" / "figures" / "graph.zh-CN.jpg"}


def take(url: str, folder: Path) -> None:
    """Take every picture of a running front end."""
    folder.mkdir(parents=True, exist_ok=True)
    with open_page(url, 1600, 1000) as page:
        for settings, pictures in PICTURES:
            for name, show in pictures.items():
                visit(page, url, settings)  # nothing of the picture before
                show(page)
                path = folder / f"{name}.{settings[LOCALE]}.{settings[THEME]}.{STYLES[settings[NODES2]]}.png"
                page.screenshot(path=path)
                print(path)


def take_for_the_readme(url: str) -> None:
    """Take the pictures at the top of the READMEs: a graph after its run, in Nodes 2.0 of the newest front end."""
    with open_page(url, 1800, 1000, newest_front_end(), {NODES2: True, **PLAIN}) as page:
        for language, path in README.items():
            visit(page, url, {LOCALE: language, **PLAIN})
            finished(page)
            page.screenshot(path=path, type="jpeg", quality=85, clip=page.evaluate(AROUND))
            print(path)


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
