"""GPU Cluster in a real server: the demo template with two workers, one of them killed, a stop, and unloading.

With Ray: in the host's Python, or in a folder named by SKYREELS_RAY (`pip install --target FOLDER ray`).
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import tools.host
from demo.measure import psnr
from tests.comfy.host import REPO, ExecutionFailed, Host, HostInstall, host_environment
from tests.comfy.inside.ray_workers import prepared
from tests.comfy.test_demo import frames_of, node_of, shipped
from tests.waiting import wait_until

pytestmark = pytest.mark.newest_host


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of this server have in their environment, and nobody else."""
    return prepared(tmp_path_factory.mktemp("workers"), REPO)


@pytest.fixture(scope="module")
def server(install: HostInstall, workers: Path) -> Iterator[Host]:
    """A server that finds Ray."""
    path = os.pathsep.join([str(workers), *filter(None, [os.environ.get("SKYREELS_RAY")])])
    found = [str(install.python), "-c", "import ray"]
    if subprocess.run(found, env={**os.environ, "PYTHONPATH": path}, capture_output=True, check=False).returncode:
        pytest.skip("Ray is not installed: pip install --target FOLDER ray, and SKYREELS_RAY=FOLDER")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tools.host, "host_environment", lambda: {**host_environment(), "PYTHONPATH": path})
        with Host(install) as server:
            yield server


def spread(server: Host) -> dict[str, dict[str, Any]]:
    """The demo template with the node between model and sampler."""
    prompt = shipped("Demo Text to Video", server, total_frames=17)
    inputs = prompt[node_of(prompt, "SkyReelsV2Sampler")]["inputs"]
    prompt["cluster"] = {
        "class_type": "SkyReelsV2GPUCluster",
        "inputs": {"model": inputs["model"], "workers": 2, "address": "", "weights": "whole"},
    }
    inputs["model"] = ["cluster", 0]
    return prompt


def made(server: Host, prompt: dict[str, dict[str, Any]], seed: int) -> torch.Tensor:
    prompt[node_of(prompt, "SkyReelsV2Sampler")]["inputs"]["seed"] = seed
    return frames_of(server, prompt, [node_of(prompt, "SkyReelsV2VAEDecode"), 0])


def actors(workers: Path) -> list[int]:
    """The processes that are actors of this server."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            ours = str(workers).encode() in (folder / "environ").read_bytes()
            if ours and (folder / "cmdline").read_bytes().startswith(b"ray::Bootstrap"):
                found.append(int(folder.name))
        except (OSError, ValueError):
            continue
    return found


@pytest.fixture(scope="module")
def alone(server: Host) -> dict[int, torch.Tensor]:
    """What the template makes without the node, by seed."""
    return {seed: made(server, shipped("Demo Text to Video", server, total_frames=17), seed) for seed in (1, 2, 3)}


def test_the_demo_template_makes_the_same_video(server: Host, workers: Path, alone: dict[int, torch.Tensor]) -> None:
    assert psnr(alone[1], alone[2]) < 40  # another seed is another video
    assert psnr(made(server, spread(server), 1), alone[1]) > 80
    assert len(actors(workers)) == 2


def test_with_a_worker_killed_while_it_computes(server: Host, workers: Path, alone: dict[int, torch.Tensor]) -> None:
    before, offset = actors(workers), server.log_size
    prompt = spread(server)
    prompt[node_of(prompt, "SkyReelsV2Sampler")]["inputs"]["seed"] = 2
    killed = []

    def kill() -> None:
        if not killed and "%|" in server.log_from(offset):  # a progress bar: steps have been made
            os.kill(before[0], signal.SIGKILL)
            killed.append(before[0])

    prompt["dump"] = {
        "class_type": "SkyReelsV2TestDump",
        "inputs": {"value": [node_of(prompt, "SkyReelsV2VAEDecode"), 0], "name": "frames"},
    }
    from safetensors.torch import load_file

    files = [path for paths in server.run(prompt, timeout=300, waiting=kill).outputs.values() for path in paths]
    video = load_file(next(path for path in files if path.suffix == ".safetensors"))["tensor"]
    assert killed and "lost a worker" in server.log_from(offset)
    assert psnr(video, alone[2]) > 80
    assert not set(before) & set(actors(workers)) and len(actors(workers)) == 2


def test_after_a_stop_the_next_prompt_runs(server: Host, workers: Path, alone: dict[int, torch.Tensor]) -> None:
    offset, stopped = server.log_size, []

    def stop() -> None:
        if not stopped and "%|" in server.log_from(offset):
            server.interrupt()
            stopped.append(True)

    prompt = spread(server)
    prompt[node_of(prompt, "SkyReelsV2Sampler")]["inputs"].update(seed=9, steps=60)
    with pytest.raises(ExecutionFailed):
        server.run(prompt, timeout=300, waiting=stop)
    assert stopped
    assert psnr(made(server, spread(server), 3), alone[3]) > 80


def test_unloading_ends_the_workers(server: Host, workers: Path) -> None:
    assert len(actors(workers)) == 2
    server.post("/free", {"unload_models": True})
    wait_until(lambda: not actors(workers))
