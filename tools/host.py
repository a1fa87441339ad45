"""A running ComfyUI server with this pack in it: found, started in a folder of its own, talked to over HTTP, stopped.

For tests, for `dev.py demo --comfyui` and for the tools that need a real host. Nothing here knows about the pack's
nodes; the only packages needed are the standard library's.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.hosts import HostInstall

REPO = Path(__file__).resolve().parents[1]
LAUNCHER = Path(__file__).resolve().parent / "launch_host.py"
PACK_FOLDER = "comfyui-skyreels-v2"
MODEL_FOLDERS = ("checkpoints", "clip_vision", "diffusion_models", "loras", "text_encoders", "vae")
NEVER_COPIED = shutil.ignore_patterns(
    ".git", ".venv*", ".frontend*", "venv", "__pycache__", "*.pyc", ".*_cache", "node_modules"
)

DEVICE_FLAGS: dict[str, tuple[str, ...]] = {"cpu": ("--cpu",), "cuda": ()}


def host_device() -> str:
    """Return where hosts compute: "cuda" where SKYREELS_TEST_DEVICE says so, else "cpu"."""
    device = os.environ.get("SKYREELS_TEST_DEVICE", "cpu")
    if device not in DEVICE_FLAGS:
        raise HostError(f"SKYREELS_TEST_DEVICE is {device}: set it to one of {', '.join(DEVICE_FLAGS)}")
    return device


class HostError(Exception):
    """A host did not start, did not answer, or died; the message holds the end of its log."""


class HostEnded(HostError):
    """A host's process ended while it started; the message holds the end of its log."""


def host_environment() -> dict[str, str]:
    """Return the environment of a host process: two threads unless told, UTF-8, none of the caller's import paths."""
    dropped = ("PYTHONPATH", "PYTEST_", "COV_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    return {"OMP_NUM_THREADS": "2", **kept, "PYTHONUTF8": "1", "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}


def run_in_host(install: HostInstall, script: Path, *arguments: object, timeout: float = 300) -> str:
    """Run a script of ours with the host importable and return what it printed.

    Raises:
        HostError: it failed; the message is its output.
    """
    command = [install.python, LAUNCHER, install.folder, script, *arguments]
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env=host_environment(),
        timeout=timeout,
    )
    if done.returncode != 0:
        raise HostError(f"{script.name} failed in {install.folder}:\n{done.stdout}\n{done.stderr}")
    return done.stdout


def copy_pack(target: Path) -> None:
    """Copy the repository as a person would receive it: what git tracks or would track, no environments."""
    listing = None
    if (REPO / ".git").exists() and shutil.which("git"):
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--exclude=.venv*"]
        listing = subprocess.run(command, cwd=REPO, capture_output=True, text=True, encoding="utf-8", check=False)
    if listing is None or listing.returncode != 0:
        shutil.copytree(REPO, target, ignore=NEVER_COPIED)
        return
    for name in filter(None, listing.stdout.split("\0")):
        source = REPO / name
        if source.is_file() and "__pycache__" not in source.parts:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / name)


class PromptRefused(HostError):
    """The server did not accept a prompt; `node_errors` says what is wrong in which node."""

    def __init__(self, answer: dict[str, Any]) -> None:
        self.error = answer.get("error")
        self.node_errors: dict[str, Any] = answer.get("node_errors") or {}
        super().__init__(json.dumps(answer, indent=1, ensure_ascii=False))


class ExecutionFailed(HostError):
    """A node raised an error while the prompt ran."""

    def __init__(self, details: dict[str, Any]) -> None:
        self.details = details
        self.message: str = str(details.get("exception_message", details)).strip()
        self.exception_type: str = str(details.get("exception_type", ""))
        self.node_type: str = str(details.get("node_type", ""))
        trace = "".join((details.get("traceback") or [])[-4:])
        super().__init__(f"{self.node_type}: {self.exception_type}: {self.message}\n{trace}")


@dataclass(frozen=True)
class Finished:
    """What a finished prompt left: files per output node, and the nodes that came from the server's cache."""

    outputs: dict[str, list[Path]]
    cached: frozenset[str]
    seconds: float

    def file(self, node: object) -> Path:
        """Return the one file written by a node (its id, or a Ref)."""
        (path,) = self.outputs[str(getattr(node, "node", node))]
        return path


class Host:
    """One server in a temporary base directory. Use as a context manager: leaving it ends the process.

    Args:
        install: the ComfyUI and its Python.
        extra_arguments: of ComfyUI's command line.
        put_pack: what puts the pack into a folder; the repository's files unless given.
        pack_folder: the name of that folder in custom_nodes.
        extra_nodes: more node packs: folder name and where it is copied from.
    """

    def __init__(
        self,
        install: HostInstall,
        extra_arguments: tuple[str, ...] = (),
        put_pack: Callable[[Path], None] = copy_pack,
        pack_folder: str = PACK_FOLDER,
        extra_nodes: Mapping[str, Path] | None = None,
    ) -> None:
        self.install = install
        self.version = install.version
        self.base = Path(tempfile.mkdtemp(prefix="skyreels-host-"))
        for name in ("custom_nodes", "input", "output", "user", "temp", *(f"models/{name}" for name in MODEL_FOLDERS)):
            (self.base / name).mkdir(parents=True)
        put_pack(self.base / "custom_nodes" / pack_folder)
        for name, source in (extra_nodes or {}).items():
            shutil.copytree(source, self.base / "custom_nodes" / name, ignore=NEVER_COPIED)
        self.log_file = self.base / "server.log"
        self.start_seconds = 0.0
        self._extra_arguments = extra_arguments
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def models(self) -> Path:
        """The folder that holds diffusion_models, vae, loras, ..."""
        return self.base / "models"

    @property
    def log(self) -> str:
        """The end of what the server has printed so far."""
        return self.log_from(max(0, self.log_size - 20000))

    @property
    def log_size(self) -> int:
        """Bytes printed so far."""
        return self.log_file.stat().st_size if self.log_file.exists() else 0

    def log_from(self, offset: int) -> str:
        """Return what was printed after the first `offset` bytes."""
        return self.log_file.read_bytes()[offset:].decode(errors="replace") if self.log_file.exists() else ""

    def __enter__(self) -> Host:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()

    def start(self, timeout: float = 180) -> None:
        """Start the server and return when it answers.

        Raises:
            HostEnded: its process ended; the message holds its log.
            HostError: it did not answer in `timeout` seconds; the message says so and holds its log.
        """
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        # the database of 0.18 lies in the checkout unless told otherwise, and two servers cannot share it
        arguments = [
            *DEVICE_FLAGS[host_device()], "--port", port,
            "--base-directory", self.base, "--user-directory", self.base / "user",
            "--database-url", "sqlite:///:memory:", "--disable-auto-launch", "--disable-api-nodes",
            "--preview-method", "latent2rgb", *self._extra_arguments,
        ]  # fmt: skip
        command = [self.install.python, LAUNCHER, self.install.folder, "main.py", *arguments]
        started = time.monotonic()
        with self.log_file.open("wb") as log:
            self._process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.PIPE,  # never written to: it closes when the caller ends, however it ends
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**host_environment(), "SKYREELS_END_WITH_STDIN": "1"},
            )
        while time.monotonic() - started < timeout:
            if self._process.poll() is not None:
                raise HostEnded(f"ComfyUI {self.version} ended with {self._process.returncode}:\n{self.log}")
            try:
                self.get("/system_stats")
            except OSError:
                time.sleep(0.2)
                continue
            self.start_seconds = time.monotonic() - started
            return
        raise HostError(f"ComfyUI {self.version} did not answer in {timeout:g} s:\n{self.log}")

    def stop(self) -> None:
        """End the server's process and delete its folder (kept when SKYREELS_KEEP_HOST is set)."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(timeout=15)
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
        self._process = None
        if os.environ.get("SKYREELS_KEEP_HOST"):
            print(f"kept {self.base}", file=sys.stderr)
        else:
            shutil.rmtree(self.base, ignore_errors=True)

    def processor_seconds(self) -> float:
        """Return the processor time that the server has spent; 0 where the system doesn't say."""
        status = Path(f"/proc/{self._process.pid}/stat") if self._process is not None else Path()
        if not status.is_file():
            return 0.0
        user, system = status.read_text().rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def resident_bytes(self) -> int:
        """Return the memory that the server has; 0 where the system doesn't say."""
        status = Path(f"/proc/{self._process.pid}/statm") if self._process is not None else Path()
        return int(status.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if status.is_file() else 0

    def get(self, path: str, timeout: float = 60) -> Any:
        """Return the JSON answer of GET `path`."""
        return self._ask(urllib.request.Request(self.url + path), timeout)

    def post(self, path: str, body: dict[str, Any] | None = None, timeout: float = 60) -> Any:
        """Return the JSON answer of POST `path` (None when it has no body)."""
        data = json.dumps(body or {}).encode()
        headers = {"Content-Type": "application/json"}
        return self._ask(urllib.request.Request(self.url + path, data=data, headers=headers), timeout)

    def _ask(self, request: urllib.request.Request, timeout: float) -> Any:
        # a proxy of the machine's environment must not see requests to the own machine
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=timeout) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            text = error.read()
            if error.code == 400 and request.full_url.endswith("/prompt"):
                raise PromptRefused(json.loads(text)) from None
            raise HostError(f"{request.full_url} answered {error.code}: {text[:2000]!r}") from None
        return json.loads(text) if text else None

    def object_info(self) -> dict[str, Any]:
        """Return the description of every node, by node id."""
        return self.get("/object_info")

    def queue(self, prompt: dict[str, Any], client: str = "skyreels") -> str:
        """Queue an API prompt for a client and return its id.

        Raises:
            PromptRefused: a node's inputs do not validate.
        """
        # with a client's name the history also lists files of nodes that came from the cache
        answer = self.post("/prompt", {"prompt": prompt, "client_id": client})
        if answer["node_errors"]:  # one branch is bad and another runs: here that is an error too
            raise PromptRefused(answer)
        return answer["prompt_id"]

    def wait(self, prompt_id: str, timeout: float = 120, waiting: Callable[[], None] | None = None) -> dict[str, Any]:
        """Return the history entry of a prompt once it has ended, well or not; `waiting` is called now and then."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            entry = self.get(f"/history/{prompt_id}").get(prompt_id)
            if entry is not None:
                return entry
            if self._process is not None and self._process.poll() is not None:
                raise HostError(f"ComfyUI {self.version} died while a prompt ran:\n{self.log}")
            if waiting is not None:
                waiting()
            time.sleep(0.05)
        self.interrupt()
        raise HostError(f"the prompt did not end in {timeout:.0f} s:\n{self.log}")

    def run(self, prompt: dict[str, Any], timeout: float = 120, waiting: Callable[[], None] | None = None) -> Finished:
        """Queue a prompt, wait for its end and return its files; `waiting` is called now and then.

        Raises:
            PromptRefused: the prompt does not validate.
            ExecutionFailed: a node raised an error, or the run was interrupted.
        """
        started = time.monotonic()
        entry = self.wait(self.queue(prompt), timeout, waiting)
        messages = dict(entry["status"]["messages"])
        for name in ("execution_error", "execution_interrupted"):
            if name in messages:
                raise ExecutionFailed(messages[name])
        if entry["status"]["status_str"] != "success":
            raise HostError(f"the prompt ended with {entry['status']}")
        outputs = {node: list(self._files(values)) for node, values in entry["outputs"].items()}
        cached = frozenset(messages.get("execution_cached", {}).get("nodes", ()))
        return Finished(outputs, cached, time.monotonic() - started)

    def _files(self, values: dict[str, Any]) -> Iterator[Path]:
        for items in values.values():
            for item in items:
                if isinstance(item, dict) and "filename" in item:
                    yield self.base / item["type"] / item["subfolder"] / item["filename"]

    def interrupt(self) -> None:
        """Ask the server to stop what it is doing."""
        self.post("/interrupt")
