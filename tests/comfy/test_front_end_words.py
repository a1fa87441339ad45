"""What the front ends tell of our nodes: the help page, the search, Chinese names, the text that a run returned."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.comfy.front_end import CENTRE, search
from tests.comfy.host import PACK_FOLDER, Host
from tools.browser import DRAWN, EMPTY, FIT, LOCALE, OPEN, SELECT, run, visit
from tools.node_schemas import CHINESE, page_file, read

pytestmark = pytest.mark.whole_matrix

LONG = "SkyReelsV2LongVideo"
ADD = """([kind, x]) => {
    const node = window.LiteGraph.createNode(kind)
    node.pos = [x, 200]
    window.app.graph.add(node)
    return node.title
}"""


def add(page: Any, kind: str) -> str:
    """Put one node into an empty graph, show it and return its title."""
    page.evaluate(OPEN, EMPTY)
    title = page.evaluate(ADD, [kind, 200])
    page.evaluate(CENTRE, kind)
    page.evaluate(DRAWN)
    return title


def test_the_info_button_shows_our_help_page(page: Any) -> None:
    heading = page_file(LONG, "en").read_text("utf-8").splitlines()[0].lstrip("# ")
    # the front end cuts the name of a pack's folder at its first dot, and the tests' folder has one
    cut = PACK_FOLDER.partition(".")[0]
    page.route(
        f"**/extensions/{cut}/docs/**",
        lambda route: route.continue_(url=route.request.url.replace(f"/{cut}/docs/", f"/{PACK_FOLDER}/docs/")),
    )
    add(page, LONG)
    page.evaluate(FIT)  # the buttons stand above the node
    page.evaluate(SELECT, LONG)
    page.get_by_test_id("info-button").first.click(timeout=30_000)
    page.locator("h1, h2").filter(has_text=heading).first.wait_for(timeout=30_000)
    assert page.get_by_text("base_num_frames").count() > 0


@pytest.mark.parametrize(
    ("typed", "title"),
    [
        ("skyreels long", "SkyReels-V2 Long Video"),
        ("skyreels sampler", "SkyReels-V2 Diffusion Forcing Sampler"),
        ("skyreels jobs", "SkyReels-V2 Jobs"),
    ],
)
def test_the_search_finds_our_nodes(page: Any, typed: str, title: str) -> None:
    page.evaluate(OPEN, EMPTY)
    try:
        search(page, (1200, 700), typed, title)
    finally:
        page.keyboard.press("Escape")
        page.keyboard.press("Escape")


def test_the_nodes_have_chinese_names_where_the_front_end_is_chinese(page: Any) -> None:
    words = read(CHINESE)[LONG]
    visit(page, page.url, {LOCALE: "zh"})
    try:
        assert add(page, LONG) == words["display_name"]
        labels = page.evaluate("window.app.graph.nodes[0].widgets.map((w) => [w.name, w.label])")
        named = [label for name, label in labels if name in words["inputs"]]
        assert named == [words["inputs"][name]["name"] for name, _ in labels if name in words["inputs"]]
        assert len(named) > 5
    finally:
        visit(page, page.url, {LOCALE: "en"})


TEXTS = """() => [...document.querySelectorAll('.skyreels-v2-node-text')].map((shown) => {
    const box = shown.getBoundingClientRect()
    const at = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2)
    return [shown.textContent, shown.contains(at), box.height]
})"""


def test_jobs_alone_in_a_graph_shows_its_list_on_the_node(page: Any) -> None:
    add(page, "SkyReelsV2Jobs")
    for _ in range(2):  # the second run's text stands where the first one's did
        assert run(page) == ""
        page.wait_for_timeout(1000)
        ((text, atop, height),) = page.evaluate(TEXTS)
        assert re.match(r"\d+ jobs?, ", text) and atop and height == pytest.approx(150, abs=1)
    assert "node_text" not in page.evaluate("JSON.stringify(window.app.graph.serialize())")


def test_model_info_shows_what_the_model_is_on_the_node(page: Any) -> None:
    page.evaluate(OPEN, EMPTY)
    page.evaluate(ADD, ["SkyReelsV2DemoModels", 100])
    page.evaluate(ADD, ["SkyReelsV2ModelInfo", 600])
    page.evaluate("() => window.app.graph.nodes[0].connect(0, window.app.graph.nodes[1], 0)")
    page.evaluate(CENTRE, "SkyReelsV2ModelInfo")
    assert run(page) == ""
    page.wait_for_timeout(1000)
    ((text, atop, _),) = page.evaluate(TEXTS)
    assert "SkyReels-V2 Demo" in text and atop


# what is read on the page, wherever the front end puts it: in a dialog, in a panel of errors
READ = """(part) => [...document.querySelectorAll('body *')].some((shown) =>
    shown.children.length === 0 && shown.textContent.includes(part) && shown.checkVisibility())"""
REFUSED = "所选的模型型号（variant）是 I2V-14B-540P，但这个模型是 2 层"
IMPOSSIBLE = """() => {
    const [loader, info] = window.app.graph.nodes
    loader.widgets.find((widget) => widget.name === 'model_name').value = 'tiny_df.safetensors'
    info.widgets.find((widget) => widget.name === 'variant').value = 'I2V-14B-540P'
    loader.connect(0, info, 0)
}"""


def test_a_refused_run_says_why_in_chinese_where_the_front_end_is(host: Host, page: Any, tmp_path: Path) -> None:
    printed = host.log_size
    visit(page, page.url, {LOCALE: "zh"})
    try:
        page.evaluate(OPEN, EMPTY)
        page.evaluate(ADD, ["SkyReelsV2ModelLoader", 100])
        page.evaluate(ADD, ["SkyReelsV2ModelInfo", 600])
        page.evaluate(IMPOSSIBLE)
        assert "I2V-14B-540P" in run(page)
        details = page.get_by_role("button", name="查看详情").or_(page.get_by_text("显示报告"))
        page.wait_for_timeout(3000)
        if details.count() and not page.evaluate(READ, REFUSED):  # newer front ends open the panel of errors with it
            details.first.click()
        page.wait_for_function(READ, arg=REFUSED, timeout=20_000)
    finally:
        page.wait_for_timeout(500)
        page.screenshot(path=tmp_path / "refused_in_chinese.png")
        visit(page, page.url, {LOCALE: "en"})
    log = host.log_from(printed)
    assert "The variant chosen is I2V-14B-540P, but the model has 2 layers" in log and "型号" not in log
