"""The pages for people: links lead somewhere, every page has its Chinese twin, and the registry finds what it needs."""

from __future__ import annotations

import ast
import re
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
WITHOUT_TWIN = ("CHANGELOG.md",)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def anchor(heading: str) -> str:
    """The name that a page's viewer gives to a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


def setting(name: str) -> str:
    """A setting of pyproject.toml written on one line; Python 3.10 has no reader for the whole file."""
    found = re.search(rf"^{name} = (.+)$", (ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE)
    assert found, name
    return ast.literal_eval(found[1])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_file_or_heading_of_ours_leads_somewhere(page: Path) -> None:
    for link in LINK.findall(page.read_text("utf-8")):
        if re.match(r"https?://", link):
            continue
        name, _, heading = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        if heading:
            headings = re.findall(r"^#+ (.+)$", target.read_text("utf-8"), re.MULTILINE)
            assert heading in map(anchor, headings), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_page_has_its_twin_and_names_it(page: Path) -> None:
    if page.name in WITHOUT_TWIN:
        return
    english = page.name.replace(".zh-CN.md", ".md")
    twin = english if english != page.name else page.name.replace(".md", ".zh-CN.md")
    assert (page.parent / twin).is_file()
    assert f"]({twin})" in page.read_text("utf-8").split("\n\n")[1]


def test_the_icon_of_the_registry_is_in_the_repository() -> None:
    repository = setting("Repository").removeprefix("https://github.com/")
    owner_and_name, branch, *path = re.split(r"/(main)/", setting("Icon").split(".com/", 1)[1])
    assert (owner_and_name, branch) == (repository, "main")
    icon = (ROOT / "/".join(path)).read_text("utf-8")
    size = re.search(r'width="(\d+)" height="(\d+)"', icon)
    assert size and size[1] == size[2] and int(size[1]) <= 400


def test_what_people_need_is_packed_and_what_developers_need_is_not() -> None:
    lines = (ROOT / ".comfyignore").read_text("utf-8").splitlines()
    ignored = [line for line in lines if line and not line.startswith("#")]

    def packed(name: str) -> bool:
        return not any(name.startswith(entry) if entry.endswith("/") else fnmatch(name, entry) for entry in ignored)

    for name in ("wan_core/model/wan_model.py", "nodes/__init__.py", "demo/weights/x.safetensors",
                 "locales/zh/nodeDefs.json",
                 "web/docs/SkyReelsV2Sampler.md", "example_workflows/x.json", "requirements.txt"):  # fmt: skip
        assert packed(name), name
    for name in (".github/workflows/tests.yml", "tests/test_dev.py", "tools/svg.py", "dev.py", "constraints-dev.txt"):
        assert not packed(name), name
