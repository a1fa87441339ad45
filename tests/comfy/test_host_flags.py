"""A server started with a flag of precision: the video of one without, as near as half precision lets it be.

Every other server test runs with --cpu. ComfyUI refuses --lowvram and --novram beside it: what they do to a model is
tried in inside/test_neighbours.py.
"""

from __future__ import annotations

import torch

from tests.comfy.host import Host, HostInstall
from tests.comfy.scene import Scene, tensors


def videos(host: Host) -> dict[str, torch.Tensor]:
    """Sample with a LoRA, a batch of two, in step and out of step."""
    scene = Scene(batch_size=2)
    scene.model = scene.add("SkyReelsV2LoraLoader", model=scene.model, lora_name="tiny_lora.safetensors", strength=0.5)
    scene.dump("sync", scene.sample(steps=2))
    scene.dump("async", scene.sample(steps=2, ar_step=1, causal_block_size=2, causal_attention=True))
    return tensors(host, scene)


def test_force_fp16_computes_in_half_precision_and_makes_nearly_the_same_video(
    host: Host, install: HostInstall
) -> None:
    expected = videos(host)
    with Host(install, ("--force-fp16",)) as server:
        for source in host.models.rglob("*.safetensors"):
            (server.models / source.relative_to(host.models)).write_bytes(source.read_bytes())
        got = videos(server)
        log = server.log
    assert "torch.float16" in log and "torch.float16" not in host.log
    for name, tensor in got.items():
        error = float((tensor - expected[name]).norm() / expected[name].norm())
        assert tensor.shape == (2, 16, 3, 8, 8)
        assert 1e-6 < error < 0.05, (name, error)
