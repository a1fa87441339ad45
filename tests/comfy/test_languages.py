"""What a running host serves beside the nodes: their texts in both languages, their help pages, their scripts."""

from __future__ import annotations

import re
import urllib.error
import urllib.parse
import urllib.request

import pytest

from tests.comfy.host import PACK_FOLDER, REPO, Host
from tools.node_schemas import CHINESE, ENGLISH, PAGES, read

pytestmark = pytest.mark.newest_host


def served(host: Host, path: str) -> str:
    """The text at a path of the server."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(host.url + urllib.parse.quote(path), timeout=60) as answer:
            return answer.read().decode("utf-8")
    except urllib.error.HTTPError as error:
        raise AssertionError(f"{path}: {error.code}") from None


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_host_serves_the_texts_of_every_node(host: Host, language: str) -> None:
    nodes = host.get("/i18n")[language]["nodeDefs"]
    ours = read(ENGLISH if language == "en" else CHINESE)
    assert {node: nodes[node] for node in ours} == ours
    assert {node for node, entry in host.object_info().items() if PACK_FOLDER in entry["python_module"]} == set(ours)


def test_the_host_serves_the_help_pages_where_the_frontend_asks_for_them(host: Host) -> None:
    for page in PAGES.rglob("*.md"):
        path = f"/extensions/{PACK_FOLDER}/docs/{page.relative_to(PAGES).as_posix()}"
        assert served(host, path) == page.read_text("utf-8")


def test_what_the_scripts_import_is_there(host: Host) -> None:
    scripts = [path for path in host.get("/extensions") if f"/{PACK_FOLDER}/" in path]
    assert len(scripts) == len([*(REPO / "web").rglob("*.js")])
    for script in scripts:
        for imported in re.findall(r'from "([^"]+)"', served(host, script)):
            served(host, urllib.parse.urljoin(script, imported))
