"""What an actor begins with: it finds ComfyUI and this pack on its machine and hands over to `worker`.

Ray sends this class to the actor as it stands, so it imports nothing of ours and nothing of ComfyUI at the top.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import pickle
import sys
from pathlib import Path
from typing import Any

HOST_VARIABLE = "SKYREELS_COMFYUI"  # where ComfyUI is on a machine that has it in another folder
PACK_VARIABLE = "SKYREELS_PACK"


class Bootstrap:
    """An actor, from its first moment to its end.

    Args:
        host: ComfyUI's folder on the machine that asks.
        pack: this pack's folder there.
        package: the name that the pack is imported under, so that what is sent is found.
        flags: ComfyUI's command line, pickled.
    """

    def __init__(self, host: str, pack: str, package: str, flags: bytes):
        folder = Path(os.environ.get(HOST_VARIABLE, host))
        root = Path(os.environ.get(PACK_VARIABLE, pack))
        for path, name in ((folder, "ComfyUI"), (root, "this node pack")):
            if not path.is_dir():
                raise FileNotFoundError(f"{os.uname().nodename} has no {name} in {path}")
        sys.path.insert(0, str(folder))
        args = importlib.import_module("comfy.cli_args").args
        given = {**pickle.loads(flags), "cuda_device": None}  # Ray shows an actor its own GPU alone
        vars(args).update(given)
        spec = importlib.util.spec_from_file_location(
            package, root / "__init__.py", submodule_search_locations=[str(root)]
        )
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[package] = module
        spec.loader.exec_module(module)
        self.worker = importlib.import_module(f"{package}.wan_core.comfy.cluster.worker").Worker()

    def do(self, name: str, *args: Any) -> Any:
        """Return what a method of the worker returns."""
        return self.worker.do(name, *args)

    def interrupt(self) -> None:
        """Have the call that is being computed end before its next block."""
        self.worker.interrupt()
