"""`dev.py demo --comfyui`: a template run by a real host, and what is said when it cannot be."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partialmethod
from pathlib import Path

import pytest

import dev
from tests.comfy.host import REPO, HostInstall, PlainHost
from tests.comfy.videos import probe
from tools.host import HostError
from tools.host import HostInstall as Install
from tools.host_demo import WIDGETS, changes_of, demo_names, main, parse, run_demo, start, why_not, workflow_file
from tools.node_schemas import FROZEN, read
from tools.workflow_prompt import load_workflow


def test_a_template_becomes_a_video_and_a_contact_sheet(install: HostInstall, tmp_path: Path) -> None:
    changes = {"steps": 2, "frames": 9, "prompt": "a green star standing still on a white background"}
    video, sheet = run_demo(install, workflow_file("text_to_video"), changes, tmp_path / "out")
    facts = probe(video)
    assert (facts.width, facts.height, facts.frames) == (64, 64, 9)
    picture = probe(sheet)
    assert (picture.width, picture.height) == (4 * 256 + 3 * 2, 3 * 256 + 2 * 2)


def test_a_python_without_the_packages_of_comfyui_is_named(
    install: HostInstall, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(bare)], check=True)
    python = dev.program(bare, "python")
    monkeypatch.setenv("SKYREELS_HOSTS", str(install.folder))
    monkeypatch.setenv("SKYREELS_HOST_PYTHONS", str(python))
    assert main(["--comfyui", str(install.folder), "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert said.startswith("demo: ComfyUI ") and str(python) in said and "no package torch" in said
    assert "COMFYUI_PYTHON" in said and len(said.splitlines()) == 1
    assert not (tmp_path / "out").exists()


OPTIONAL = "WARNING: No module named 'triton'\nModuleNotFoundError: No module named 'flash_attn'\n"
UNLOADED = "Cannot import /c/custom_nodes/{} module for custom nodes: No module named 'av'\nTo see the GUI go to: ..."


@pytest.mark.parametrize(
    ("log", "package"),
    [
        (OPTIONAL + "ModuleNotFoundError: No module named 'av.video'", "av.video"),
        ("ModuleNotFoundError: No module named 'torch'\nFatal Python error: _enter_buffered_busy\n\nThread", "torch"),
        (OPTIONAL + "OSError: address already in use", None),
        (OPTIONAL + "Starting server", None),
        (OPTIONAL + UNLOADED.format("comfyui-skyreels-v2"), "av"),
        (OPTIONAL + UNLOADED.format("another-pack"), None),
    ],
)
def test_only_a_package_whose_absence_ended_the_server_or_the_pack_is_blamed(log: str, package: str | None) -> None:
    said = why_not(Install(Path("ComfyUI"), Path("python"), "0.0"), log, "ended")
    assert said == "ended" if package is None else f"no package {package}: " in said


def test_a_server_that_starts_slowly_is_not_said_to_lack_a_package(
    install: HostInstall, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = PlainHost(install)
    monkeypatch.setattr(PlainHost, "start", partialmethod(PlainHost.start, timeout=0.5))
    try:
        with pytest.raises(HostError, match=r"^ComfyUI .* did not answer in 0\.5 s"):
            start(host)
    finally:
        host.stop()


def test_what_dev_py_passes_on_is_what_the_demo_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []
    monkeypatch.setattr(dev, "one_host", lambda folder: {"HOST": str(folder)})
    monkeypatch.setattr(dev, "run", lambda command, variables: ran.append([str(part) for part in command]) or 0)
    dev.run_command(*dev.command_line().parse_known_args(["demo", "--comfyui", str(tmp_path), "--seed", "3"]), Path())
    options = parse(ran[0][ran[0].index("tools.host_demo") + 1 :])
    assert options.comfyui == tmp_path and options.seed == 3


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--workflow", "nonsense"], "text_to_video_async"),
        (["--seed", "-1"], "seed is -1"),
        (["--frames", "0"], "frames is 0"),
    ],
)
def test_a_wrong_flag_is_one_sentence_and_starts_nothing(
    flags: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--comfyui", "nowhere", *flags]) == 1
    said = capsys.readouterr()
    assert said.out == "" and words in said.err and len(said.err.splitlines()) == 1


@pytest.mark.parametrize("name", demo_names())
def test_the_flags_reach_a_widget_of_every_template(name: str) -> None:
    asked = parse(["--comfyui", "x", "--prompt", "a blue star", "--frames", "41", "--seed", "7"])
    nodes, frozen = load_workflow(workflow_file(name))["nodes"], read(FROZEN)
    widgets = {
        entry["name"] for node in nodes for entry in frozen.get(node["type"], {}).get("inputs", ()) if entry["widget"]
    }
    for flag, names in WIDGETS.items():
        if (name, flag) != ("extend_video", "frames"):  # its length is that of the given video and new_frames
            assert widgets & set(names), flag
    assert changes_of(asked) == {
        "prompt": "a blue star", "script": "a blue star", "frames": 41, "total_frames": 41, "seed": 7,
    }  # fmt: skip


def test_the_templates_are_those_that_need_no_download() -> None:
    assert workflow_file("07 Demo Loop.json") == workflow_file("loop")
    assert len(demo_names()) == len(list((REPO / "example_workflows").glob("* Demo *.json")))


def test_a_folder_that_is_no_comfyui_is_refused_and_another_is_prepared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMFYUI_PYTHON", sys.executable)
    monkeypatch.setenv("COMFYUI_PATH", "")
    with pytest.raises(dev.DevError, match=r"--comfyui is .*not a ComfyUI folder"):
        dev.one_host(tmp_path)
    (tmp_path / "comfy").mkdir()
    for name in ("main.py", "requirements.txt"):
        (tmp_path / name).touch()
    wanted = {"SKYREELS_HOSTS": str(tmp_path.resolve()), "SKYREELS_HOST_PYTHONS": sys.executable}
    assert dev.one_host(tmp_path) == wanted
    assert dev.command_line().parse_known_args(["demo", "--seed", "3", f"--comfyui={tmp_path}"])[0].comfyui == tmp_path
    assert dev.command_line().parse_known_args(["demo", "--seed", "3"])[0].comfyui is None
    assert os.pathsep not in wanted["SKYREELS_HOSTS"]
