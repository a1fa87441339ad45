"""dev.py finds hosts and knows when there is nothing to install; the lists of packages agree with each other."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

import dev
from tools import hosts


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
    for name in ("COMFYUI_PATH", "COMFYUI_PYTHON", "SKYREELS_HOSTS", "SKYREELS_HOST_PYTHONS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setattr(hosts, "ROOT", tmp_path / "pack")
    return tmp_path


def test_without_a_host_nothing_is_prepared_and_the_reason_is_said(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dev.host_variables() == {}
    assert "COMFYUI_PATH" in capsys.readouterr().out and "COMFYUI_PATH" in hosts.why_no_host()


def test_hosts_are_found_newest_first_and_each_version_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    older = make_host(home / "ComfyUI-0.9", "0.9.0")
    (home / "ComfyUI-notes").mkdir()
    assert hosts.host_folders() == [older]
    usual = make_host(home / "ComfyUI", "0.18.1")  # newer than 0.9, whatever the letters say
    make_host(home / "ComfyUI-copy", "0.18.1")
    assert hosts.host_folders() == [usual, older]
    around = make_host(home / "other", None)
    monkeypatch.setattr(hosts, "ROOT", around / "custom_nodes" / "any name")
    assert hosts.host_folders() == [around]
    monkeypatch.setenv("COMFYUI_PATH", os.pathsep.join(map(str, (older, usual, older))))
    assert hosts.host_folders() == [older, usual]


def test_a_wrong_path_or_python_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMFYUI_PATH", str(home / "nothing"))
    with pytest.raises(hosts.NoHostError, match="nothing"):
        hosts.host_folders()
    monkeypatch.setenv("COMFYUI_PATH", str(make_host(home / "host", "0.18.1")))
    monkeypatch.setenv("COMFYUI_PYTHON", str(home / "no-python"))
    with pytest.raises(hosts.NoHostError, match="no-python"):
        dev.host_variables()


def test_a_python_that_is_given_is_used_as_it_is(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = make_host(home / "ComfyUI", "0.18.1")
    assert hosts.find_hosts() == [] and "but no Python" in hosts.why_no_host()
    monkeypatch.setenv("COMFYUI_PYTHON", sys.executable)
    assert dev.host_variables() == {"SKYREELS_HOSTS": str(host), "SKYREELS_HOST_PYTHONS": sys.executable}


def test_each_host_gets_a_python_of_its_own_and_another_process_finds_the_same(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [make_host(home / name, version) for name, version in (("ComfyUI", "0.33.0"), ("ComfyUI-old", "0.18.1"))]
    made: list[Path] = []

    def prepare(venv: Path, *_installs: object) -> Path:
        python = dev.program(venv, "python")
        python.parent.mkdir(parents=True)
        python.touch()
        made.append(venv)
        return python

    monkeypatch.setattr(dev, "prepare", prepare)
    found = dev.host_variables()
    made.sort(reverse=True)  # they are made side by side
    assert [venv.name for venv in made] == [".venv-host-0.33.0", ".venv-host-0.18.1"]
    for name, value in found.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(hosts, "ROOT", home / "elsewhere")
    wanted = [
        hosts.HostInstall(folder, dev.program(venv, "python"), version)
        for folder, venv, version in zip(folders, made, ("0.33.0", "0.18.1"), strict=True)
    ]
    assert hosts.find_hosts() == wanted


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


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        ("test tests/demo -k a", "-m pytest tests/demo -k a"),
        ("demo --prompt a --help", "-m demo.run --prompt a --help"),
        ("demo --comfyui HOST --seed 3", "-m tools.host_demo --comfyui HOST --seed 3"),
        ("score --json x", "-m demo.score --json x"),
        ("score --long --json x", "-m demo.score_long --json x"),
        ("bench --gpu --help", "-m benchmarks.run --gpu --help"),
        ("bench --step-cache --quick", "-m benchmarks.step_cache --quick"),
        ("bench --count-memory", "-m benchmarks.gpu_memory"),
        ("fuzz --minutes 2.5 -k journal", "-m pytest tests/fuzz -s -o timeout=750 -k journal"),
        ("fuzz", "-m pytest tests/fuzz -s -o timeout=1200"),
        ("fuzz --cases 7 tests/comfy", "-m pytest tests/fuzz -s -o timeout=0 tests/comfy"),
    ],
)
def test_a_command_runs_its_program_with_the_arguments_that_it_does_not_know(
    home: Path, monkeypatch: pytest.MonkeyPatch, arguments: str, command: str
) -> None:
    ran: list[tuple[str, dict[str, str]]] = []
    monkeypatch.setattr(dev, "prepare", lambda *_: Path("python"))
    monkeypatch.setattr(
        dev, "run", lambda parts, variables=None: ran.append((" ".join(map(str, parts)), variables or {})) or 7
    )
    host = make_host(home / "host", "0.33.0")
    assert dev.main(arguments.replace("HOST", str(host)).split()) == 7
    assert ran[-1][0] == f"python {command}".replace("HOST", str(host))
    if "--cases" in arguments:
        assert ran[-1][1] == {dev.CASES: "7"}
    elif arguments.startswith("fuzz"):
        assert ran[-1][1] == {dev.MINUTES: "2.5" if "2.5" in arguments else "10.0"}


def test_what_is_no_command_is_refused_and_help_names_them_all(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(dev, "prepare", lambda *_: pytest.fail("nothing is installed for that"))
    for wrong in ([], ["tests"], ["lint", "wan_core"]):
        with pytest.raises(SystemExit) as stopped:
            dev.main(wrong)
        assert stopped.value.code == 2
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        dev.main(["--help"])
    shown = capsys.readouterr().out
    assert stopped.value.code == 0 and all(name in shown for name in ["test", "lint", "demo", "score", "bench", "fuzz"])
