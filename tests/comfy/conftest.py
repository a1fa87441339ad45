"""Fixtures of the host tests: one server for each ComfyUI found, started when the first test asks for it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.comfy.front_end import FRONT_ENDS, FrontEnd
from tests.comfy.host import REPO, Host, HostInstall, find_hosts, why_no_host
from tests.comfy.inside_suites import InsideSuites, write_models, write_vae
from tests.comfy.videos import CLIP, CLIP_FPS, CLIP_FRAMES, write_picture
from tests.conftest import NOTES
from tools.hosts import version_numbers
from tools.workflow_prompt import load_workflow
from wan_core.video.writer import write_video

# these run inside the host's Python: test_inside.py starts them there
collect_ignore = ["inside", "host_nodes"]

SUITES = pytest.StashKey[InsideSuites]()
HOSTS: list[HostInstall | None] = [*find_hosts()] or [None]


def pytest_configure(config: pytest.Config) -> None:
    """Name the marks, and say why no host was found."""
    config.addinivalue_line("markers", "newest_host: says the same on every host, so the newest one suffices")
    config.addinivalue_line("markers", "two_front_ends: the pinned one with classic nodes, the newest with Nodes 2.0")
    config.addinivalue_line("markers", "whole_matrix: only with SKYREELS_WHOLE_MATRIX (tools/compatibility.py)")
    config.addinivalue_line("markers", "two_rows: of the whole matrix, two_front_ends of the newest host alone")
    if HOSTS == [None]:
        config.stash.setdefault(NOTES, []).append(f"The host tests were skipped: {why_no_host()}.")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what says nothing new, so that a run ends in time.

    Left out on older hosts: tests marked `newest_host`, and front ends that their users don't have. Left out
    everywhere: tests marked `whole_matrix`, and those marked `two_front_ends` in others. SKYREELS_WHOLE_MATRIX keeps
    them all, but those marked `two_rows` outside of their two.
    """
    numbers = {host.version: version_numbers(host.version) for host in HOSTS if host is not None}
    kept, left_out = [], []
    for item in items:
        given = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
        host, front_end = given.get("install"), given.get("front_end")
        marks = {mark.name for mark in item.iter_markers()}
        older = host is not None and numbers[host.version] < max(numbers.values())
        surplus = "whole_matrix" in marks or (older and "newest_host" in marks)
        mixed = front_end is not None and front_end.newest != front_end.nodes2
        if front_end is not None:
            surplus |= older and front_end.newest
            surplus |= "two_front_ends" in marks and mixed
        if os.environ.get("SKYREELS_WHOLE_MATRIX"):
            surplus = "two_rows" in marks and (older or mixed)
        (left_out if surplus else kept).append(item)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
    items[:] = kept


def pytest_runtestloop(session: pytest.Session) -> None:
    """Begin the suites of inside/, and put the tests that wait for them last."""
    waiting = [
        item for item in session.items if isinstance(item, pytest.Function) and "inside_suites" in item.fixturenames
    ]
    session.items.sort(key=lambda item: item in waiting)
    hosts = [item.callspec.params["install"] for item in waiting if item.callspec.params["install"] is not None]
    if hosts and not session.config.option.collectonly:
        folder = tempfile.TemporaryDirectory(prefix="inside-")
        session.config.stash[SUITES] = suites = InsideSuites(hosts, Path(folder.name))
        session.config.add_cleanup(folder.cleanup)
        session.config.add_cleanup(suites.stop)


@pytest.fixture(scope="session")
def inside_suites(pytestconfig: pytest.Config) -> InsideSuites:
    """The suites of inside/, which run since the tests began."""
    return pytestconfig.stash[SUITES]


@pytest.fixture(scope="session", params=HOSTS, ids=lambda install: install.version if install else "no-host")
def install(request: pytest.FixtureRequest) -> HostInstall:
    """A ComfyUI on this machine; the test runs once for each version found."""
    if request.param is None:
        pytest.skip(why_no_host())
    return request.param


@pytest.fixture(scope="session")
def model_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder laid out like ComfyUI's models folder, with tiny files."""
    folder = tmp_path_factory.mktemp("models")
    write_models(folder)
    return folder


@pytest.fixture(scope="session")
def vae_file(model_files: Path) -> Path:
    """The tiny video VAE, with the key names of the first host's own class."""
    return write_vae(next(install for install in HOSTS if install is not None), model_files)


@pytest.fixture(scope="session")
def host(install: HostInstall, model_files: Path, vae_file: Path, notes: list[str]) -> Iterator[Host]:
    """A running server of this version with the tiny files in its models folder."""
    server = Host(install)
    for source in model_files.rglob("*.safetensors"):
        target = server.models / source.relative_to(model_files)
        target.write_bytes(source.read_bytes())
    for seed, name in enumerate(("first.png", "last.png", "middle.png")):
        write_picture(server.base / "input" / name, 64, 64, seed)
    write_video(server.base / "input" / CLIP, torch.rand(CLIP_FRAMES, 64, 64, 3), CLIP_FPS)
    with server:
        notes.append(f"ComfyUI {server.version}: server ready after {server.start_seconds:.1f} s")
        yield server


@pytest.fixture(scope="session", params=FRONT_ENDS, ids=str)
def front_end(request: pytest.FixtureRequest) -> FrontEnd:
    """A front end and a style of its nodes; the test runs once for each."""
    return request.param


@pytest.fixture(scope="session")
def page(host: Host, front_end: FrontEnd) -> Iterator[Any]:
    """The front end of a running host, ready for a workflow; with what the test before left in it."""
    with ExitStack() as stack:
        with shipped_files(host):  # for the lists of files that it reads once
            page = stack.enter_context(front_end.opened(host))
        yield page


@contextmanager
def shipped_files(host: Host) -> Iterator[None]:
    """Empty files under the names that the workflows ship with: a missing file is red, and rightly so."""
    models = {
        host.models / model["directory"] / model["name"]
        for path in (REPO / "example_workflows").glob("*.json")
        for node in load_workflow(path)["nodes"]
        for model in node["properties"].get("models", ())
    }
    files = [*models, host.base / "input" / "example.png", host.base / "input" / "your_video.mp4"]
    for file in files:
        file.touch()
    yield
    for file in files:
        file.unlink()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Show the end of the server's log beside a failed test that used it."""
    report = yield
    server = getattr(item, "funcargs", {}).get("host")
    if report.when == "call" and report.failed and server is not None and server.log_file.exists():
        report.sections.append((f"log of ComfyUI {server.version}", server.log[-3000:]))
    return report
