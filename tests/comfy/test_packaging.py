"""What the registry gets: nothing of the development, everything of the pack, and it runs in a clean ComfyUI."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.comfy.host import REPO, HostInstall, PlainHost
from tests.comfy.scene import video_of
from tests.comfy.videos import probe
from tools.host_demo import start
from tools.templates import template
from tools.workflow_prompt import changed, load_workflow, to_prompt

pytestmark = pytest.mark.newest_host

DEVELOPMENT = {".ci", ".github", "benchmarks", "tests", "tools", "dev.py", "requirements-dev.txt"}
NEEDED = (
    "__init__.py",
    "demo/weights",
    "example_workflows",
    "farm",
    "locales",
    "nodes",
    "subgraphs",
    "wan_core",
    "web",
)
IMPORTABLE = {"av", "einops", "filelock", "numpy", "safetensors"}  # requirements.txt
OPTIONAL = {"ray"}  # of GPU Cluster and the farm alone, which ask for it in words
OURS = {"farm", "wan_core"}  # as the farm imports them, which runs from the checkout
COMFYUI = {"comfy", "comfy_api", "comfy_execution", "folder_paths", "latent_preview", "server"}
OF_THE_HOST = {*COMFYUI, "aiohttp", "torch", "tqdm"}  # the last three are in ComfyUI's requirements.txt


def listed(*options: str) -> set[str]:
    """What git lists of the repository's files."""
    if not (REPO / ".git").exists() or shutil.which("git") is None:
        pytest.skip("the package is made from what git tracks, and this is no git checkout")
    done = subprocess.run(["git", "ls-files", "-z", *options], cwd=REPO, capture_output=True, check=True)
    return set(filter(None, done.stdout.decode("utf-8").split("\0")))


@pytest.fixture(scope="module")
def names() -> list[str]:
    """The files that `comfy node pack` takes: tracked, and not named in .comfyignore, whose syntax is git's."""
    return sorted(listed() - listed("--cached", "--ignored", "--exclude-from=.comfyignore"))


@pytest.fixture(scope="module")
def package(names: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The zip file."""
    path = tmp_path_factory.mktemp("package") / "node.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name in names:
            file.write(REPO / name, name)
    return path


def test_the_package_has_all_of_the_pack_and_nothing_of_its_development(names: list[str]) -> None:
    assert {name.split("/")[0] for name in names} & DEVELOPMENT == set()
    for part in NEEDED:
        tracked = listed(part)
        assert tracked and tracked <= set(names), part


def test_the_nodes_import_nothing_that_neither_the_host_nor_the_requirements_bring(names: list[str]) -> None:
    wanted: set[str] = set()
    for name in names:
        if name.endswith(".py") and name.startswith(("nodes/", "wan_core/", "farm/", "__init__")):
            for item in ast.walk(ast.parse((REPO / name).read_text("utf-8"))):
                if isinstance(item, ast.Import):
                    wanted |= {alias.name.split(".")[0] for alias in item.names}
                elif isinstance(item, ast.ImportFrom) and item.level == 0:
                    wanted.add(str(item.module).split(".")[0])
    assert wanted - set(sys.stdlib_module_names) <= IMPORTABLE | OPTIONAL | OURS | OF_THE_HOST
    required = (REPO / "requirements.txt").read_text("utf-8").splitlines()
    assert {line.split(">=")[0] for line in required if not line.startswith("#")} == IMPORTABLE


def test_the_unpacked_package_runs_a_demo_template_in_a_clean_host(install: HostInstall, package: Path) -> None:
    def unpack(folder: Path) -> None:
        with zipfile.ZipFile(package) as file:
            file.extractall(folder)

    host = PlainHost(install, put_pack=unpack)
    try:
        info = start(host)
        workflow = load_workflow(template("Demo Text to Video"))
        finished = host.run(changed(to_prompt(workflow, info), steps=2, frames=9), timeout=600)
        facts = probe(video_of(finished))
    finally:
        host.stop()
    assert (facts.width, facts.height, facts.frames) == (64, 64, 9)
