"""GPU Cluster: actors of a real Ray cluster compute what one process computes, and nothing of them is left behind.

Two Ray nodes on one machine, an actor on each. Without Ray these tests are skipped: install it with
`pip install "ray[default]"` into the host's Python, or put a folder that has it on PYTHONPATH.
"""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import comfy.hooks
import comfy.model_management
import comfy.samplers
import pytest
import torch
from measures import relative_error
from sampling_scene import module

HAS_RAY = importlib.util.find_spec("ray") is not None
with_ray = pytest.mark.skipif(
    not HAS_RAY, reason='Ray is not installed: pip install "ray[default]" in the host\'s Python, and run again'
)
SIGMAS = torch.tensor([0.999, 0.9, 0.6, 0.3, 0.0])
ASYNC = {"ar_step": 2, "causal_block_size": 2}
CAUSAL = {**ASYNC, "causal_attention": True}
RUNS: dict[str, dict[str, Any]] = {
    "in step": {"frames": 5},
    "async": ASYNC,
    "known frames": {**ASYNC, "known": 1},
    "causal": CAUSAL,
    "causal with known frames": {**CAUSAL, "known": 2},
    "moving window": {**ASYNC, "window_frames": 4, "frames": 8},
}
SAME = 1e-5


# what `conftest.py` does for torchvision in this process, in those that Ray starts as workers
BRIDGE = """
import sys
if any("default_worker.py" in each for each in sys.orig_argv):
    sys.path.insert(0, {tools!r})
    import launch_host
    launch_host.bridge_wheels()
    sys.path.remove({tools!r})
"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A cluster of two Ray nodes with a place for one actor each."""
    import ray
    from ray.cluster_utils import Cluster

    folder = tmp_path_factory.mktemp("workers")
    tools = str(Path(__file__).resolve().parents[3] / "tools")
    (folder / "sitecustomize.py").write_text(BRIDGE.format(tools=tools), encoding="utf-8")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "num_gpus": 0, "include_dashboard": False}
    )  # fmt: skip
    cluster.add_node(num_cpus=1, num_gpus=0)
    yield cluster.address
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture
def checkpoint(models: Path) -> Path:
    return models / "diffusion_models" / "tiny_df.safetensors"


def loaded(checkpoint: Path, weight_dtype: str = "default") -> Any:
    return module("comfy.loading.loader").load_model(checkpoint, weight_dtype)


@pytest.fixture(scope="module")
def spread(pack: ModuleType, models: Path, address: str) -> Iterator[Callable[..., Any]]:
    """Wraps a MODEL as the node does; the actors of the one before end."""
    made: list[Any] = []

    def wrapped(model: Any, workers: int = 2) -> Any:
        unload()
        made.append(module("comfy.cluster.remote").clustered(model, module("comfy.cluster.group").Place(address, workers)))
        return made[-1]

    yield wrapped
    unload()


@pytest.fixture(scope="module")
def cluster(spread: Callable[..., Any], models: Path) -> Any:
    return spread(loaded(models / "diffusion_models" / "tiny_df.safetensors"))


def unload() -> None:
    comfy.model_management.unload_all_models()


def actors(address: str) -> list[Any]:
    """The actors that live."""
    from ray.util.state import list_actors

    return [each for each in list_actors(address=address) if each.state != "DEAD"]


def group_of(model: Any) -> Any:
    return model.model.diffusion_model.group


def alive(model: Any) -> list[int]:
    """The processes of a group that live."""
    import ray

    found = []
    for actor in group_of(model).actors:
        found.append(ray.get(actor.do.remote("process")))
    return found


def conditioning(seed: int, **held: Any) -> list[Any]:
    return [[torch.randn(1, 12, 4096, generator=torch.Generator().manual_seed(seed)) * 0.3, held]]


def sample(
    model: Any, sampler: Any = None, known: int = 0, frames: int = 6, positive: Any = None, **options: Any
) -> torch.Tensor:
    bridge = module("comfy.sampling.sampler")
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(positive or conditioning(1), conditioning(2))
    guider.set_cfg(4.0)
    noise = torch.randn((1, 16, frames, 4, 6), generator=torch.Generator().manual_seed(7))
    mask = torch.ones(1, 1, *noise.shape[2:])
    mask[:, :, :known] = 0
    sampler = sampler or bridge.DiffusionForcingSampler(bridge.ForcingOptions(**options))
    with torch.inference_mode():
        return guider.sample(
            noise, noise.flip(2), sampler, SIGMAS, disable_pbar=True, seed=3, denoise_mask=mask if known else None
        )


@with_ray
@pytest.mark.parametrize("name", RUNS)
def test_actors_make_what_one_process_makes(checkpoint: Path, cluster: Any, name: str) -> None:
    one = sample(loaded(checkpoint), **RUNS[name])
    assert relative_error(sample(cluster, **RUNS[name]), one) < SAME
    assert len(group_of(cluster).actors) == 2
    assert not group_of(cluster).kept  # what was cached is forgotten with the run


@with_ray
def test_cores_sampler(checkpoint: Path, cluster: Any) -> None:
    euler = comfy.samplers.ksampler("euler")
    assert relative_error(sample(cluster, euler), sample(loaded(checkpoint), euler)) < SAME
