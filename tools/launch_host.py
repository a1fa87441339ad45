"""Start a ComfyUI checkout, or a script beside it, with a torch that its torchvision or torchaudio was not built for.

usage: launch_host.py COMFYUI_FOLDER SCRIPT [arguments of the script]

A registry's torchvision and torchaudio wheels belong to one build of torch. Beside another one torchvision fails to
register its operators and torchaudio refuses to load, though ComfyUI on a CPU needs only their Python parts. Where the
wheels match, `bridge_wheels` changes nothing.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import os
import runpy
import sys
import threading
import types
from typing import Any
from unittest import mock


def bridge_wheels() -> None:
    """Make `import torchvision` and `import torchaudio` work, with their compiled parts missing if need be."""
    _import_torchvision()
    try:
        importlib.import_module("torchaudio")
    except (ImportError, OSError, RuntimeError):
        for name in ("torchaudio", "torchaudio.functional", "torchaudio.transforms"):
            _put_stand_in(name)


def _import_torchvision() -> None:
    import torch

    register = torch.library.register_fake

    def register_unless_missing(op: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(op, str) and op.startswith("torchvision::"):
            return lambda function: function  # the operator does not exist, so it needs no fake
        return register(op, *args, **kwargs)

    try:
        importlib.import_module("torchvision")
    except (ImportError, OSError, RuntimeError):
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        with mock.patch.object(torch.library, "register_fake", register_unless_missing):
            importlib.import_module("torchvision")


class _StandIn(types.ModuleType):
    """A module whose every public name is a class that cannot be made: imports succeed, use does not."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)

        def refuse(*_args: Any, **_kwargs: Any) -> None:
            raise RuntimeError(f"{self.__name__}.{name} does not work beside this build of torch")

        return type(name, (), {"__init__": refuse})


def _put_stand_in(name: str) -> None:
    module = _StandIn(name)
    module.__spec__ = importlib.machinery.ModuleSpec(name, None, is_package=True)
    module.__path__ = []
    sys.modules[name] = module
    parent, _, child = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], child, module)


def end_with_stdin() -> None:
    """End this process when its standard input closes, so that killed tests leave no server behind."""

    def watch() -> None:
        sys.stdin.buffer.read()
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


def main(folder: str, script: str, arguments: list[str]) -> None:
    """Run `script` (a path, taken from `folder` if relative) as the main program with `folder` importable."""
    folder = os.path.abspath(folder)
    if os.environ.get("SKYREELS_END_WITH_STDIN"):
        end_with_stdin()
    if os.environ.get("SKYREELS_TEST_DEVICE", "cpu") == "cpu":  # for a GPU, ComfyUI sets torch up before its import
        bridge_wheels()
    os.chdir(folder)
    script = os.path.join(folder, script)
    sys.path[0] = folder  # in place of the folder of this file
    sys.argv = [script, *arguments]
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
