"""dev.py finds hosts and knows when there is nothing to install; the lists of packages agree with each other."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

import dev


def make_host(folder: Path, version: str | None) -> Path:
    (folder / "comfy").mkdir(parents=True)
    (folder / "main.py").touch()
    (folder / "requirements.txt").write_text("torch\ntorchsde\nnumpy>=1.25\n# torch again\n", "utf-8")
    if version is not None:
        (folder / "comfyui_version.py").write_text(f'__version__ = "{version}"\n', "utf-8")
    return folder


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder with nothing in it, a pack elsewhere, and no variable set."""
    for name in ("COMFYUI_PATH", "COMFYUI_PYTHON"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setattr(dev, "ROOT", tmp_path / "pack")
    return tmp_path


def test_without_a_host_nothing_is_prepared_and_the_reason_is_said(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dev.host_variables() == {}
    assert "COMFYUI_PATH" in capsys.readouterr().out


def test_hosts_are_found_in_the_order_of_the_readme(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    older = make_host(home / "ComfyUI-0.8", "0.8.0")
    assert dev.find_hosts() == []
    usual = make_host(home / "ComfyUI", "0.18.1")
    assert dev.find_hosts() == [usual, older]
    around = make_host(home / "other", None)
    monkeypatch.setattr(dev, "ROOT", around / "custom_nodes" / "any name")
    assert dev.find_hosts() == [around]
    monkeypatch.setenv("COMFYUI_PATH", os.pathsep.join(map(str, (older, usual))))
    assert dev.find_hosts() == [older, usual]
    assert max(dev.find_hosts(), key=dev.host_version) == usual  # 0.18 is newer than 0.8, whatever the letters say


def test_a_wrong_path_or_python_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMFYUI_PATH", str(home / "nothing"))
    with pytest.raises(dev.DevError, match="nothing"):
        dev.find_hosts()
    monkeypatch.setenv("COMFYUI_PATH", str(make_host(home / "host", "0.8.0")))
    monkeypatch.setenv("COMFYUI_PYTHON", str(home / "no-python"))
    with pytest.raises(dev.DevError, match="no-python"):
        dev.host_variables()


def test_a_python_that_is_given_is_used_as_it_is(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = make_host(home / "ComfyUI", "0.18.1")
    monkeypatch.setenv("COMFYUI_PYTHON", sys.executable)
    assert dev.host_variables() == {"SKYREELS_HOSTS": str(host), "SKYREELS_HOST_PYTHON": sys.executable}


def test_packages_are_installed_once_and_again_only_when_the_pins_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[list[str]] = []
    monkeypatch.setattr(dev, "run", lambda command: calls.append([str(part) for part in command]) or 0)
    python = dev.program(tmp_path, "python")
    python.parent.mkdir()
    python.touch()
    for pins, installs_so_far in (("a==1", 1), ("a==1", 1), ("a==2", 2)):
        assert dev.prepare(tmp_path, [["a"]], pins) == python
        assert len(calls) == installs_so_far
    monkeypatch.setattr(dev, "run", lambda command: 1)
    for _ in range(2):  # a failed installation leaves no stamp behind
        with pytest.raises(dev.DevError, match="pip ended with code 1"):
            dev.prepare(tmp_path, [["a"]], "a==3")


def test_the_hosts_python_gets_our_torch_and_the_rest_of_its_requirements(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted: list[str] = []
    monkeypatch.setattr(dev, "prepare", lambda venv, installs, pins: wanted.extend(pins.splitlines()) or venv)
    dev.prepare_host_python(make_host(tmp_path / "host", None))
    assert wanted == [*dev.HOST_PINS, "torchsde", "numpy>=1.25", *dev.HOST_WITHOUT_DEPENDENCIES]


def packages(file: Path) -> list[str]:
    lines = (line.strip() for line in file.read_text("utf-8").splitlines())
    return [line for line in lines if line and not line.startswith(("#", "-"))]


def test_what_stands_twice_stands_alike() -> None:
    root = Path(dev.__file__).parent
    pins = packages(dev.REQUIREMENTS)
    assert all("==" in line for line in pins + packages(dev.CONSTRAINTS))
    assert {pin for pin in dev.HOST_PINS if not pin.startswith("torchvision")} <= set(pins)
    tomllib = pytest.importorskip("tomllib")
    project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["dependencies"] == packages(root / "requirements.txt")
    assert not any(line.startswith("torch") for line in project["dependencies"])


def test_every_command_that_the_usage_names_is_taken() -> None:
    assert tuple(re.findall(r"python dev\.py (\w+)", dev.USAGE)) == dev.COMMANDS
