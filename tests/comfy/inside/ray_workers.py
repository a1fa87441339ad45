"""What the workers of Ray need on a machine whose torchvision was not built for its torch; see tools/launch_host.py."""

from __future__ import annotations

from pathlib import Path

BRIDGE = """
import sys
if any("default_worker.py" in each for each in sys.orig_argv):
    sys.path.insert(0, {tools!r})
    import launch_host
    launch_host.bridge_wheels()
    sys.path.remove({tools!r})
"""


def prepared(folder: Path, repo: Path) -> Path:
    """Return a folder for PYTHONPATH, with which every worker imports what `launch_host` makes importable."""
    (folder / "sitecustomize.py").write_text(BRIDGE.format(tools=str(repo / "tools")), encoding="utf-8")
    return folder
