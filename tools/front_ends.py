"""The front ends that the pack is tried in: the one that a ComfyUI pins, and the newest one of the package index.

Standard library only: dev.py asks here before anything is installed.
"""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "comfyui-frontend-package"
NEWEST = "1.58.1"  # of the package index; raise it when the index has a newer one
VARIABLE = "SKYREELS_FRONTEND_ROOT"  # the `static` folder of an unpacked front end, in place of NEWEST
FOLDER = ROOT / f".frontend-{NEWEST}"  # where dev.py unpacks it


def static_folder(unpacked: Path) -> Path:
    """Return the folder of the package that a server takes as --front-end-root."""
    return unpacked / PACKAGE.replace("-", "_") / "static"


def newest_front_end() -> Path | None:
    """Return the `static` folder of the newest front end: the one of SKYREELS_FRONTEND_ROOT, else dev.py's, if any."""
    given = os.environ.get(VARIABLE)
    folder = Path(given).expanduser() if given else static_folder(FOLDER)
    return folder if (folder / "index.html").is_file() else None
