"""What the workers of Ray need on a machine whose torchvision was not built for its torch; see tools/launch_host.py."""

from __future__ import annotations

from pathlib import Path

BRIDGE = """
import sys
if any(each.endswith({programs!r}) for each in sys.orig_argv):
    sys.path.insert(0, {tools!r})
    import launch_host
    launch_host.bridge_wheels()
    sys.path.remove({tools!r})
"""


def prepared(folder: Path, repo: Path, *programs: str) -> Path:
    """Return a folder for PYTHONPATH, with which every worker imports what `launch_host` makes importable.

    Args:
        folder: it.
        repo: ours.
        programs: files that do so, too, such as ComfyUI's main.py.
    """
    text = BRIDGE.format(tools=str(repo / "tools"), programs=("default_worker.py", *programs))
    (folder / "sitecustomize.py").write_text(text, encoding="utf-8")
    return folder
