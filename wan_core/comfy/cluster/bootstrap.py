"""What an actor begins with: it finds ComfyUI and this pack on its machine and hands over to `worker`.

Ray sends this class to the actor as it stands, so it imports nothing of ours and nothing of ComfyUI at the top.
"""

from __future__ import annotations

import importlib
import importlib.util
import platform
import sys
from pathlib import Path
from typing import Any


class Bootstrap:
    """An actor, from its first moment to its end.

    On a machine that has ComfyUI in another folder, that folder is on the PYTHONPATH of `ray start`.

    Args:
        host: ComfyUI's folder on the machine that asks.
        pack: this pack's folder there.
        package: the name that the pack is imported under, so that what is sent is found.
        flags: ComfyUI's command line, as plain values.
    """

    def __init__(self, host: str, pack: str, package: str, flags: dict[str, Any]):
        folder = Path(host)
        if not folder.is_dir():
            found = importlib.util.find_spec("comfy")
            if found is None or not found.submodule_search_locations:
                raise FileNotFoundError(f"{platform.node()} has no ComfyUI in {folder}, nor on PYTHONPATH")
            folder = Path(next(iter(found.submodule_search_locations))).parent
        root = Path(pack) if Path(pack).is_dir() else folder / "custom_nodes" / Path(pack).name
        if not root.is_dir():
            raise FileNotFoundError(f"{platform.node()} has no {root}")
        sys.path.insert(0, str(folder))
        options = importlib.import_module("comfy.cli_args")
        fast = {options.PerformanceFeature(name) for name in flags["fast"]}
        # Ray shows an actor its own GPU alone
        vars(options.args).update({**flags, "fast": fast, "cuda_device": None})
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
