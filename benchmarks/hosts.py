"""The ComfyUI that is measured beside us, and the packages it needs."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Host:
    """A ComfyUI.

    Attributes:
        folder: its checkout.
        packages: the site-packages of a Python that can run it, of the same version as ours.
    """

    folder: Path
    packages: Path

    def make_importable(self) -> None:
        """Let `import comfy` find it; its packages come last, so that all contenders share one torch."""
        for path in (str(self.folder), str(self.packages)):
            if path not in sys.path:
                sys.path.append(path)

    @property
    def version(self) -> str:
        """The version it calls itself."""
        text = (self.folder / "comfyui_version.py").read_text("utf-8")
        return text.partition('__version__ = "')[2].partition('"')[0]


def host_of_environment() -> Host | None:
    """Return the first ComfyUI that `dev.py` has found, None where there is none."""
    folders = os.environ.get("SKYREELS_HOSTS", "")
    python = os.environ.get("SKYREELS_HOST_PYTHONS", "").split(os.pathsep)[0]
    if not folders or not python:
        return None
    ask = "import sys, sysconfig; print(sys.version_info[:2]); print(sysconfig.get_paths()['purelib'])"
    answer = subprocess.run([python, "-c", ask], stdout=subprocess.PIPE, check=True).stdout
    version, packages = answer.decode("utf-8").splitlines()
    if version != str(sys.version_info[:2]):
        print(f"ComfyUI is left out: its Python is {version}, this one {sys.version_info[:2]}")
        return None
    return Host(Path(folders.split(os.pathsep)[0]), Path(packages))
