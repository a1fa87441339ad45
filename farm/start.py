"""A ComfyUI that is started for the farm: a process of its own on a free port, which ends with whoever started it.

This travels to other machines as it stands, so it imports the standard library alone.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

LOG_BYTES = 3000  # of the log's end that are shown when it did not start
# ComfyUI in a process that ends when its standard input closes: no server outlives its actor, however that one ends
LAUNCH = """
import os, runpy, sys, threading

def watch():
    sys.stdin.buffer.read()
    os._exit(0)

threading.Thread(target=watch, daemon=True).start()
sys.argv = sys.argv[1:]
sys.path[0] = os.path.dirname(sys.argv[0])
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def python_of(folder: Path) -> str:
    """Return the Python that a ComfyUI folder brings, or else the one that runs this."""
    usual = [folder / venv / "bin" / "python" for venv in ("venv", ".venv")]
    usual += [folder / venv / "Scripts" / "python.exe" for venv in ("venv", ".venv")]
    usual.append(folder.parent / "python_embeded" / "python.exe")  # the portable build for Windows, spelled so
    return str(next(filter(Path.is_file, usual), sys.executable))


def environment() -> dict[str, str]:
    """Return the environment of a ComfyUI: this process's, without the one thread that Ray sets where nobody did."""
    kept = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1"}
    with suppress(OSError):  # Linux alone tells what a process began with
        if b"\0OMP_NUM_THREADS=" not in b"\0" + Path("/proc/self/environ").read_bytes():
            kept.pop("OMP_NUM_THREADS", None)
    return kept


class Server:
    """A ComfyUI server of our own.

    Args:
        folder: of ComfyUI.
        python: that runs it; "" for the folder's own.
        arguments: of its command line, besides those that two servers in one folder need to not disturb each other.

    Raises:
        FileNotFoundError: there is no ComfyUI.
    """

    def __init__(self, folder: str, python: str, arguments: list[str]):
        main = Path(folder).expanduser().resolve() / "main.py"
        if not main.is_file():
            raise FileNotFoundError(f"there is no ComfyUI in {folder}")
        self.scratch = Path(tempfile.mkdtemp(prefix="skyreels-farm-"))
        self.log = self.scratch / "comfyui.log"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        command = [
            python or python_of(main.parent), "-c", LAUNCH, str(main), "--port", str(self.port),
            "--disable-auto-launch", "--temp-directory", str(self.scratch), "--database-url", "sqlite:///:memory:",
            *arguments,
        ]  # fmt: skip
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, cwd=main.parent, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT,
                env=environment(),
            )  # fmt: skip

    def alive(self) -> bool:
        """Return whether the process is there."""
        return self.process.poll() is None

    def log_end(self) -> str:
        """Return the end of what it has printed."""
        return self.log.read_bytes()[-LOG_BYTES:].decode("utf-8", "replace").strip()

    def stop(self) -> None:
        """End the process and remove what it needed for itself."""
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.scratch, ignore_errors=True)
