"""Servers started with the flags people start them with: the same video, or one that differs by its precision."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.comfy.host import Host, HostInstall
from tests.comfy.scene import Scene, tensors

FLAGS = (("--lowvram",), ("--novram",), ("--force-fp16",))


def videos(host: Host) -> dict[str, torch.Tensor]:
    """Sample with a LoRA, a batch of two, in step and out of step."""
    scene = Scene(batch_size=2)
    scene.model = scene.add("SkyReelsV2LoraLoader", model=scene.model, lora_name="tiny_lora.safetensors", strength=0.5)
    scene.dump("sync", scene.sample(steps=2))
    scene.dump("async", scene.sample(steps=2, ar_step=1, causal_block_size=2, causal_attention=True))
    return tensors(host, scene)


@pytest.fixture(scope="module")
def expected(host: Host) -> dict[str, torch.Tensor]:
    """What the server without extra flags (only --cpu) makes."""
    return videos(host)


@pytest.fixture(params=FLAGS, ids=" ".join)
def flagged(
    request: pytest.FixtureRequest, install: HostInstall, model_files: Path, vae_file: Path
) -> Iterator[Host]:
    """A server with more flags."""
    server = Host(install, request.param)
    for source in model_files.rglob("*.safetensors"):
        (server.models / source.relative_to(model_files)).write_bytes(source.read_bytes())
    with server:
        yield server


def test_a_server_with_flags_makes_the_video_of_one_without(
    flagged: Host, expected: dict[str, torch.Tensor], request: pytest.FixtureRequest
) -> None:
    got = videos(flagged)
    half = "--force-fp16" in request.node.callspec.id
    for name, tensor in got.items():
        error = float((tensor - expected[name]).norm() / expected[name].norm())
        assert tensor.shape == (2, 16, 3, 8, 8)
        assert 1e-6 < error < 0.05 if half else error < 1e-5, (name, error)
    assert ("torch.float16" in flagged.log) == half
