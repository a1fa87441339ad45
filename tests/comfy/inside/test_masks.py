"""Noise masks as nodes of many packs make them, in the two samplers: understood, or refused before work."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from sampling_scene import conditioning

SHAPE = (1, 16, 5, 4, 4)
SAMPLER = {
    "steps": 2, "shift": 8.0, "solver": "unipc", "ar_step": 0, "causal_block_size": 1, "causal_attention": False,
    "addnoise_condition": 0,
}  # fmt: skip
ROLLING = {
    "timesteps": "1000, 500", "shift": 5.0, "chunk_frames": 1, "window_frames": 3, "sink_frames": 0, "solver": "lcm",
}  # fmt: skip
NODES = {"SkyReelsV2Sampler": SAMPLER, "SkyReelsV2RollingSampler": ROLLING}
every_sampler = pytest.mark.parametrize("node", NODES)


def made(pack_nodes: dict[str, Any], model: Any, node: str, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What a sampler makes of a latent under a mask, and the latent."""
    samples = torch.randn(SHAPE, generator=torch.Generator().manual_seed(5))
    given = {"model": model, "positive": conditioning(1), "negative": conditioning(2), "seed": 1, "cfg": 1.0, "fps": 24}
    latent = {"samples": samples, "noise_mask": mask}
    with torch.inference_mode():
        out = pack_nodes[node].execute(**given, latent=latent, **NODES[node]).args[0]
    return out["samples"], samples


def first_known(frames: int = SHAPE[2]) -> torch.Tensor:
    mask = torch.ones(1, 1, frames, 4, 4)
    mask[:, :, 0] = 0
    return mask


@every_sampler
@pytest.mark.parametrize(
    "same",
    [
        lambda mask: mask.bool(),
        lambda mask: mask.to(torch.uint8),
        lambda mask: mask.long(),
        lambda mask: mask.half(),
        lambda mask: mask[0, 0],
        lambda mask: mask.movedim(2, 0)[:, 0],
        lambda mask: mask.expand(1, 16, 5, 4, 4),
        lambda mask: mask.repeat_interleave(8, -1).repeat_interleave(8, -2),
    ],
    ids=["bool", "bytes", "integers", "half", "frames alone", "frames first", "channels", "in pixels"],
)
def test_a_mask_means_the_same_in_every_form(pack_nodes: dict[str, Any], model: Any, node: str, same: Any) -> None:
    wanted, given = made(pack_nodes, model, node, first_known())
    got, _ = made(pack_nodes, model, node, same(first_known()))
    assert torch.equal(got, wanted)
    torch.testing.assert_close(got[:, :, 0], given[:, :, 0], rtol=1e-5, atol=1e-5)
    assert all(not torch.equal(got[:, :, at], given[:, :, at]) for at in range(1, SHAPE[2]))


@every_sampler
@pytest.mark.parametrize(
    ("mask", "says"),
    [
        (first_known(17), "has 17 latent frames, but the latent has 5"),
        (first_known(4), "has 4 latent frames, but the latent has 5"),
        (first_known().to(torch.uint8) * 255, "is 255 on latent frame 1"),
        (first_known().to(torch.complex64), "values outside 0 to 1"),
        (first_known() * 0.5, "is 0.5 on latent frame 1"),
    ],
    ids=["of video frames", "shorter", "bytes to 255", "complex", "halves"],
)
def test_a_mask_that_core_would_stretch_or_mistake_is_refused(
    pack_nodes: dict[str, Any], model: Any, node: str, mask: torch.Tensor, says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        made(pack_nodes, model, node, mask)
