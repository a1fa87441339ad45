"""Where the ComfyUIs of this machine are, and the Python of each: the one place that looks for them.

Standard library only: dev.py asks here before anything is installed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOSTS, PYTHONS = "SKYREELS_HOSTS", "SKYREELS_HOST_PYTHONS"  # what dev.py found: two lists in the same order
GIVEN_HOSTS, GIVEN_PYTHON = "COMFYUI_PATH", "COMFYUI_PYTHON"  # what a person sets
HOW_TO_RUN = (
    "no ComfyUI found: to run the host tests, `git clone https://github.com/comfyanonymous/ComfyUI ~/ComfyUI`, then "
    "`python dev.py test` (or set COMFYUI_PATH to the folder of one)"
)
NO_PYTHON = (
    "there is a ComfyUI in {folder}, but no Python to run it: `COMFYUI_PYTHON=<python with ComfyUI's requirements> "
    "python dev.py test`, or let `python dev.py test` make one"
)


class NoHostError(Exception):
    """A folder or a Python that a person named is not there; the message is one sentence."""


@dataclass(frozen=True)
class HostInstall:
    """A ComfyUI folder and a Python that can run it."""

    folder: Path
    python: Path
    version: str


def is_host(folder: Path) -> bool:
    """Return whether a folder is a checkout of ComfyUI."""
    return (folder / "main.py").is_file() and (folder / "comfy").is_dir() and (folder / "requirements.txt").is_file()


def host_version(folder: Path) -> str:
    """Return what a ComfyUI calls its version, the folder's name where it does not say."""
    file = folder / "comfyui_version.py"
    found = re.search(r'__version__\s*=\s*"(\d[\d.]*)', file.read_text("utf-8")) if file.is_file() else None
    return found[1] if found else folder.name


def version_numbers(version: str) -> tuple[int, ...]:
    """Return a version as numbers that sort, () for a name."""
    return tuple(int(part) for part in version.split(".") if part.isdecimal())


def program(venv: Path, name: str) -> Path:
    """Return where a virtual environment keeps a program."""
    return venv / "Scripts" / f"{name}.exe" if os.name == "nt" else venv / "bin" / name


def host_venv(folder: Path) -> Path:
    """Return the virtual environment that dev.py makes for a ComfyUI: each version pins packages of its own."""
    return ROOT / f".venv-host-{host_version(folder)}"


def host_folders() -> list[Path]:
    """Return the ComfyUIs of this machine, each version once.

    In this order: those that dev.py found; else those of COMFYUI_PATH, as they stand there; else the one around the
    pack; else `~/ComfyUI*`, the newest first.

    Raises:
        NoHostError: COMFYUI_PATH names a folder that is not a ComfyUI.
    """
    found = [Path(name) for name in _listed(HOSTS)]
    if not found:
        found = [Path(name).expanduser() for name in _listed(GIVEN_HOSTS)]
        for folder in found:
            if not is_host(folder):
                raise NoHostError(f"{GIVEN_HOSTS} names {folder}, which isn't a ComfyUI folder (no main.py and comfy/)")
    if not found and ROOT.parent.name == "custom_nodes" and is_host(ROOT.parent.parent):
        found = [ROOT.parent.parent]
    if not found:
        usual = sorted(filter(is_host, Path.home().glob("ComfyUI*")))
        found = sorted(usual, key=lambda folder: version_numbers(host_version(folder)), reverse=True)
    each: dict[str, Path] = {}
    for folder in found:
        each.setdefault(host_version(folder), folder.resolve())
    return list(each.values())


def given_python() -> Path | None:
    """Return the Python of COMFYUI_PYTHON, None where it is not set; `Raises: NoHostError` where there is none."""
    given = os.environ.get(GIVEN_PYTHON)
    if not given:
        return None
    if not Path(given).expanduser().is_file():
        raise NoHostError(f"{GIVEN_PYTHON} is {given}, which isn't a file: set it to ComfyUI's own Python, or unset it")
    return Path(given).expanduser()


def find_hosts() -> list[HostInstall]:
    """Return every ComfyUI that can be run, in the order of `host_folders`; `Raises: NoHostError`."""
    folders = host_folders()
    prepared = _listed(PYTHONS)
    pythons = dict(zip(folders, map(Path, prepared), strict=True)) if len(prepared) == len(folders) else {}
    found = []
    for folder in folders:
        python = next(filter(Path.is_file, _pythons(folder, pythons.get(folder))), None)
        if python is not None:  # not resolved: a venv's python is a link, and following it leaves the venv
            found.append(HostInstall(folder, python.absolute(), host_version(folder)))
    return found


def variables(hosts: list[HostInstall]) -> dict[str, str]:
    """Return the environment variables by which another process of ours finds the same hosts."""
    folders, pythons = ([str(getattr(host, part)) for host in hosts] for part in ("folder", "python"))
    return {HOSTS: os.pathsep.join(folders), PYTHONS: os.pathsep.join(pythons)}


def why_no_host() -> str:
    """Return a sentence that says what is missing and how the host tests are run."""
    folders = host_folders()
    return NO_PYTHON.format(folder=folders[0]) if folders else HOW_TO_RUN


def _listed(variable: str) -> list[str]:
    return list(filter(None, os.environ.get(variable, "").split(os.pathsep)))


def _pythons(folder: Path, prepared: Path | None) -> Iterator[Path]:
    for python in (prepared, given_python()):
        if python is not None:
            yield python
    for venv in (host_venv(folder), folder / "venv", folder / ".venv"):
        yield program(venv, "python")
    yield folder.parent / "python_embeded" / "python.exe"  # the portable build for Windows, spelled so
