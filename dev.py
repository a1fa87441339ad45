#!/usr/bin/env python3
"""The developer's one command: `python dev.py test`, `python dev.py lint`; `python dev.py --help` lists the others.

Each makes .venv beside this file, installs the pinned packages of requirements-dev.txt into it and runs there; the
next call finds a stamp and starts at once. For each ComfyUI found, `test` also prepares .venv-host-VERSION, a Python
that can run it. Needs nothing but Python 3.10 or newer; ComfyUI never runs this file.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from tools.browser import browser_path
from tools.front_ends import FOLDER as FRONT_END
from tools.front_ends import NEWEST, PACKAGE, VARIABLE, static_folder
from tools.hosts import (
    HOW_TO_RUN,
    HostInstall,
    NoHostError,
    given_python,
    host_folders,
    host_venv,
    host_version,
    is_host,
    program,
    variables,
)

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
REQUIREMENTS = ROOT / "requirements-dev.txt"
CONSTRAINTS = ROOT / "constraints-dev.txt"
STAMP = ".skyreels-pins"

# torchaudio's newest release names an older torch; ComfyUI only needs it to be importable, so its wish is not asked
HOST_WITHOUT_DEPENDENCIES = ("torchaudio==2.11.0",)
HOST_PINS = ("torch==2.13.0", "torchvision==0.28.0", "pytest==9.2.0", "pytest-timeout==2.4.0")
NOT_FROM_THE_HOST = {"torch", "torchvision", "torchaudio"}

# the parts of the pack that the import rules are about
PACKAGES = ("nodes", "wan_core", "farm", "demo", "benchmarks")

MINUTES, CASES = "SKYREELS_FUZZ_MINUTES", "SKYREELS_FUZZ_CASES"  # of each fuzz test; see tests/fuzz/budget.py
SCORES = {"long": "demo.score_long", "methods": "demo.score_methods"}  # by flag
BENCHMARKS = {"step_cache": "benchmarks.step_cache", "count_memory": "benchmarks.gpu_memory"}


class DevError(Exception):
    """Something a developer can fix; the message is one sentence."""


def command_line() -> argparse.ArgumentParser:
    """Return what reads the arguments; those that a command does not know itself go to what it runs."""
    parser = argparse.ArgumentParser(prog="python dev.py", description="The developer's one command.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")

    def command(name: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=text, add_help=False, allow_abbrev=False)

    command("test", "run the tests, with every ComfyUI found; arguments go to pytest")
    command("lint", "run ruff, mypy and the import rules")
    demo = command("demo", "make a small video with no ComfyUI; `demo --help` lists the flags")
    demo.add_argument("--comfyui", type=Path, help="a ComfyUI in which an example workflow runs instead")
    score = command("score", "score the embedded models on pixels; --long: over a minute; --methods: by method")
    score.add_argument("--long", action="store_true")
    score.add_argument("--methods", action="store_true")
    bench = command("bench", "measure speed and memory side by side; --step-cache, --count-memory: those two alone")
    bench.add_argument("--step-cache", action="store_true")
    bench.add_argument("--count-memory", action="store_true")
    fuzz = command("fuzz", "damage files and job folders for --minutes or --cases N each; arguments go to pytest")
    budget = fuzz.add_mutually_exclusive_group()
    budget.add_argument("--minutes", type=float, default=10.0)
    budget.add_argument("--cases", type=int)
    return parser


def main(arguments: list[str]) -> int:
    """Run the command that the arguments name, pass it the rest, and return its exit code."""
    parser = command_line()
    known, rest = parser.parse_known_args(arguments)
    if known.command == "lint" and rest:
        parser.error(f"lint takes no arguments: {' '.join(rest)}")
    try:
        pins = REQUIREMENTS.read_text("utf-8") + CONSTRAINTS.read_text("utf-8")
        return run_command(known, rest, prepare(VENV, [["-r", str(REQUIREMENTS)]], pins))
    except (DevError, NoHostError) as error:
        print(f"dev.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def run_command(known: argparse.Namespace, rest: list[str], python: Path) -> int:
    """Run a command with the Python of .venv."""
    if known.command == "lint":
        return lint(python)
    if known.command == "test":
        hosts = host_variables()
        variables = hosts | (front_end_variable() if hosts else {})
        # a thread for each process: the tensors of the tests are tiny, and slower on more
        variables["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS", "1")
        return run([python, "-m", "pytest", *rest], variables)
    if known.command == "fuzz":
        limit = "timeout=0" if known.cases else f"timeout={known.minutes * 60 + 600:.0f}"
        budget = {CASES: str(known.cases)} if known.cases else {MINUTES: str(known.minutes)}
        return run([python, "-m", "pytest", "tests/fuzz", "-s", "-o", limit, *rest], budget)
    if known.command == "demo":
        if known.comfyui is None:
            return run([python, "-m", "demo.run", *rest])
        return run([python, "-m", "tools.host_demo", "--comfyui", known.comfyui, *rest], one_host(known.comfyui))
    if known.command == "score":
        module = next((module for flag, module in SCORES.items() if getattr(known, flag)), "demo.score")
        return run([python, "-m", module, *rest])
    module = next((module for flag, module in BENCHMARKS.items() if getattr(known, flag)), "benchmarks.run")
    return run([python, "-m", module, *rest], host_variables())


def run(command: Sequence[str | Path], variables: dict[str, str] | None = None, cwd: Path = ROOT) -> int:
    """Run a command with its output on the terminal and return its exit code."""
    sys.stdout.flush()
    environment = {**os.environ, "PYTHONUTF8": "1", **(variables or {})}
    return subprocess.run([str(part) for part in command], cwd=cwd, env=environment, check=False).returncode


def prepare(venv: Path, installs: list[list[str]], pins: str) -> Path:
    """Make the virtual environment hold what is pinned; quick when its stamp says that it already does.

    Args:
        venv: its folder, made when missing; an environment made by hand is kept and brought up to date.
        installs: argument lists for `pip install`, run in order.
        pins: the text that the stamp stands for; another text means another installation.

    Returns:
        The environment's Python.
    """
    python = program(venv, "python")
    stamp = venv / STAMP
    wanted = hashlib.sha256(pins.encode()).hexdigest()
    if python.exists() and stamp.exists() and stamp.read_text("ascii").strip() == wanted:
        return python
    if not python.exists():
        print(f"making {venv.name} ...")
        if run([sys.executable, "-m", "venv", "--clear", venv]) != 0:
            raise DevError(
                f"Python's venv module could not make {venv.name}; its output above says why "
                "(on Debian and Ubuntu: install python3-venv, then run this again)"
            )
    print(f"installing the pinned packages into {venv.name}; the first time this takes some minutes ...")
    stamp.unlink(missing_ok=True)
    for arguments in installs:
        code = run([python, "-m", "pip", "install", "--disable-pip-version-check", "--no-input", *arguments])
        if code != 0:
            raise DevError(
                f"pip ended with code {code} while installing into {venv.name}; its output above says why: "
                "mend that (often the network or the disk) and run the same command again"
            )
    stamp.write_text(wanted + "\n", "ascii")
    return python


def host_variables() -> dict[str, str]:
    """Find the ComfyUI hosts, prepare a Python for each, and return what tools/hosts.py needs to know."""
    hosts = host_folders()
    if not hosts:
        print(HOW_TO_RUN)
    return prepared(hosts) if hosts else {}


def front_end_variable() -> dict[str, str]:
    """Unpack the newest front end, unless the environment names one, and return where it is; {} without a browser."""
    if browser_path() is None:
        return {}
    if not os.environ.get(VARIABLE) and not FRONT_END.exists():
        print(f"unpacking the front end {NEWEST} into {FRONT_END.name} ...")
        unpacked = Path(tempfile.mkdtemp(dir=ROOT, prefix=".frontend-new-"))
        wanted = ["--no-deps", "--target", str(unpacked), f"{PACKAGE}=={NEWEST}"]
        if run([program(VENV, "python"), "-m", "pip", "install", "--disable-pip-version-check", *wanted]) != 0:
            shutil.rmtree(unpacked, ignore_errors=True)
            raise DevError(
                f"pip could not get {PACKAGE} {NEWEST}; its output above says why. Fix that and run this again, or "
                f"set {VARIABLE} to the `static` folder of a front end"
            )
        unpacked.rename(FRONT_END)
    return {VARIABLE: os.environ.get(VARIABLE) or str(static_folder(FRONT_END))}


def one_host(folder: Path) -> dict[str, str]:
    """Prepare a Python for one ComfyUI, and return what tools/hosts.py needs to know."""
    host = folder.expanduser()
    if not is_host(host):
        raise DevError(f"--comfyui is {folder}, which is not a ComfyUI folder (no main.py and comfy/ in it)")
    return prepared([host.resolve()])


def prepared(hosts: list[Path]) -> dict[str, str]:
    """Return hosts and a Python for each, COMFYUI_PYTHON or one made here, as environment variables."""
    given = given_python()
    with ThreadPoolExecutor() as pool:  # each waits for a pip of its own
        pythons = [given] * len(hosts) if given else list(pool.map(prepare_host_python, hosts))
    found = zip(hosts, pythons, strict=True)
    return variables([HostInstall(host, python, host_version(host)) for host, python in found])


def prepare_host_python(host: Path) -> Path:
    """Make a virtual environment that runs this ComfyUI: its requirements, with our torch in place of the newest."""
    lines = (host / "requirements.txt").read_text("utf-8").splitlines()
    wanted = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    kept = [line for line in wanted if re.split(r"[^\w.-]", line, maxsplit=1)[0].lower() not in NOT_FROM_THE_HOST]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "requirements.txt"
        file.write_text("\n".join([*HOST_PINS, *kept]) + "\n", "utf-8")
        installs = [["-r", str(file)], ["--no-deps", *HOST_WITHOUT_DEPENDENCIES]]
        return prepare(host_venv(host), installs, "\n".join([*HOST_PINS, *kept, *HOST_WITHOUT_DEPENDENCIES]))


def lint(python: Path) -> int:
    """Run every check, whatever the others say, and return 0 when all are content."""
    failed = [
        name
        for name, check in (("ruff", check_style), ("mypy", check_types), ("import-linter", check_imports))
        if check(python) != 0
    ]
    print(f"lint: {', '.join(failed)} found something" if failed else "lint: all checks passed")
    return 1 if failed else 0


def check_style(python: Path) -> int:
    """Run ruff on everything."""
    found = run([python, "-m", "ruff", "check", "."])
    unformatted = run([python, "-m", "ruff", "format", "--check", "."])
    return found or unformatted


def check_types(python: Path) -> int:
    """Run mypy on all that is not a test."""
    plain = run([python, "-m", "mypy", "wan_core", "farm", "demo", "benchmarks", "tools", "dev.py"])
    with named_copy() as folder:
        where = {"MYPYPATH": os.pathsep.join((str(folder), str(ROOT)))}
        config = ("--config-file", ROOT / "pyproject.toml")
        nodes = run([python, "-m", "mypy", *config, "-p", "skyreels_v2.nodes"], where, folder)
    return plain or nodes


def check_imports(python: Path) -> int:
    """Run import-linter."""
    linter = program(python.parent.parent, "lint-imports")
    with named_copy() as folder:
        return run([linter, "--config", ROOT / "pyproject.toml", "--no-cache", "--no-logo"], cwd=folder)


@contextmanager
def named_copy() -> Iterator[Path]:
    """Give a folder with a copy of the pack of a fixed name: its own folder may have any, and imports are relative."""
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "skyreels_v2"
        package.mkdir()
        shutil.copy(ROOT / "__init__.py", package)
        for source in (path for name in PACKAGES for path in (ROOT / name).rglob("*.py")):
            target = package / source.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
        yield Path(folder)


if __name__ == "__main__":
    if sys.version_info < (3, 10):  # noqa: UP036 - said here in words, not by a traceback
        sys.exit(f"dev.py: this is Python {sys.version.split()[0]}, and 3.10 or newer is needed")
    sys.exit(main(sys.argv[1:]))
