"""Set-up of tests that run in a host's own process: comfy on the CPU, the pack as `skyreels_v2`.

Started by ../test_inside.py with SKYREELS_HOST_FOLDER and SKYREELS_MODELS set; not collected by the outer run.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

REPO = Path(__file__).resolve().parents[3]
TESTS = REPO / "tests" / "comfy"


def load_module(name: str, file: Path) -> ModuleType:
    """Import a file, or a package by its __init__.py, under a name of our choice."""
    is_package = file.name == "__init__.py"
    locations = [str(file.parent)] if is_package else None
    spec = importlib.util.spec_from_file_location(name, file, submodule_search_locations=locations)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def sibling(name: str) -> ModuleType:
    """Import a module of tests/comfy that imports its neighbours: as part of a package that no host has."""
    package = sys.modules.setdefault("written", ModuleType("written"))
    package.__path__ = [str(TESTS)]
    return importlib.import_module(f"written.{name}")


def start_comfy() -> None:
    """Make comfy importable and bind it to a device and to a models folder; once, before any test file is read.

    The device is the CPU unless SKYREELS_TEST_DEVICE is "cuda".
    """
    host_folder = os.environ["SKYREELS_HOST_FOLDER"]
    load_module("launch_host", REPO / "tools" / "launch_host.py").bridge_wheels()
    sys.path.insert(0, host_folder)
    import comfy.cli_args

    # comfy parses no command line unless told to; its settings are read when the next modules are imported
    device = os.environ.get("SKYREELS_TEST_DEVICE", "cpu")
    comfy.cli_args.args.cpu = device == "cpu"
    comfy.cli_args.args.base_directory = os.environ["SKYREELS_BASE"]
    import comfy.model_management
    import torch

    assert comfy.model_management.get_torch_device().type == device
    torch.set_num_threads(1)  # tiny tensors are slower on more, by far where the machine is busy


start_comfy()
sys.path.insert(0, str(Path(__file__).resolve().parent))  # for long_scene
for name in ("measures", "waiting"):
    load_module(name, REPO / "tests" / f"{name}.py")  # a host has a folder `tests`, too

# tests of what the oldest supported host has not
NEWER = {"test_multigpu.py": "comfy.multigpu"}
collect_ignore = [file for file, needed in NEWER.items() if importlib.util.find_spec(needed) is None]


@pytest.fixture(scope="session")
def models() -> Path:
    """The models folder with the tiny files."""
    return Path(os.environ["SKYREELS_BASE"]) / "models"


@pytest.fixture(scope="session")
def pack() -> ModuleType:
    """The pack, imported as a host does it but under the name `skyreels_v2`."""
    if not (REPO / "__init__.py").is_file():
        pytest.skip("the pack has no __init__.py yet")
    return load_module("skyreels_v2", REPO / "__init__.py")


@pytest.fixture(scope="session")
def memory_budget() -> Any:
    """The class of a memory with a limit; see benchmarks/counted.py."""
    return load_module("counted", REPO / "benchmarks" / "counted.py").AllocationCounter


@pytest.fixture(scope="session")
def pack_nodes(pack: ModuleType) -> dict[str, Any]:
    """Node id -> node class of the pack."""

    async def collect() -> list[Any]:
        entry = pack.comfy_entrypoint()
        extension = await entry if asyncio.iscoroutine(entry) else entry
        return await extension.get_node_list()

    return {node.GET_SCHEMA().node_id: node for node in asyncio.run(collect())}


@pytest.fixture(scope="session")
def tiny_clip() -> Any:
    """The CLIP of the test nodes, width 4096."""
    return load_module("tiny_clip", TESTS / "host_nodes" / "tiny_clip.py").build_tiny_clip(4096)


@pytest.fixture(scope="module")
def bridge(pack: ModuleType) -> ModuleType:
    """The module that makes long videos."""
    assert pack
    return importlib.import_module("skyreels_v2.wan_core.comfy.long.long_video")


@pytest.fixture
def output_folder(tmp_path: Path) -> Iterator[Path]:
    """A host's output folder that is the test's own."""
    import folder_paths

    before = folder_paths.get_output_directory()
    folder_paths.set_output_directory(str(tmp_path))
    yield tmp_path
    folder_paths.set_output_directory(before)


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Each text that a node was given, and the node; from a server that only takes notes."""
    texts: list[tuple[str, str]] = []
    connected = SimpleNamespace(send_progress_text=lambda text, node: texts.append((text, node)))
    server = SimpleNamespace(PromptServer=SimpleNamespace(instance=connected))
    monkeypatch.setitem(sys.modules, "server", server)  # the whole server is not loaded here
    return texts


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, float]]:
    """Bytes that each loading of models asks for beside the weights: at best, and at least."""
    import comfy.model_management

    seen: list[tuple[float, float]] = []
    load = comfy.model_management.load_models_gpu

    def spied(models: Any, memory_required: float = 0, minimum_memory_required: float = 0, **kwargs: Any) -> Any:
        seen.append((memory_required, minimum_memory_required))
        return load(models, memory_required, minimum_memory_required=minimum_memory_required, **kwargs)

    monkeypatch.setattr(comfy.model_management, "load_models_gpu", spied)
    return seen


@pytest.fixture(scope="module")
def vae(models: Path) -> Any:
    """The tiny VAE."""
    import comfy.sd
    import comfy.utils

    return comfy.sd.VAE(sd=comfy.utils.load_torch_file(str(models / "vae" / "tiny_wan_vae.safetensors")))


@pytest.fixture
def model(bridge: ModuleType, models: Path) -> Any:
    """The tiny DF model."""
    loader = importlib.import_module("skyreels_v2.wan_core.comfy.loading.loader")
    return loader.load_model(models / "diffusion_models" / "tiny_df.safetensors")


@pytest.fixture(scope="module")
def given(bridge: ModuleType) -> ModuleType:
    """The module of a long video's given images."""
    return importlib.import_module("skyreels_v2.wan_core.long.key_frames")
