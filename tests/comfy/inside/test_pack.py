"""The pack as a package inside the host's process."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any


def test_the_pack_can_be_imported_under_a_name_of_the_hosts_choice(pack: ModuleType) -> None:
    assert pack.__name__ == "skyreels_v2"
    # an empty mapping would hide the V3 nodes from the host
    assert not hasattr(pack, "NODE_CLASS_MAPPINGS")


def test_importing_the_pack_alone_loads_neither_torch_nor_comfy(pack: ModuleType) -> None:
    code = (
        "import importlib.util, sys; name = 'some_x_pack'; "
        f"spec = importlib.util.spec_from_file_location(name, {pack.__file__!r}); "
        "module = importlib.util.module_from_spec(spec); sys.modules[name] = module; spec.loader.exec_module(module); "
        "print([name for name in ('torch', 'comfy', 'safetensors', 'einops') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(pack.__file__).anchor)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_every_node_id_is_in_the_packs_own_namespace(pack_nodes: dict[str, Any]) -> None:
    assert pack_nodes and all(re.fullmatch(r"SkyReelsV2[A-Z]\w+", name) for name in pack_nodes)


def test_no_module_of_the_pack_was_imported_twice_or_under_a_bare_name(pack_nodes: dict[str, Any]) -> None:
    assert pack_nodes
    bare = [name for name in sys.modules if name.split(".")[0] == "wan_core"]
    assert bare == []
