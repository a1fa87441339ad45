"""The tiny VAE runs whole clips at once and gives what diffusers gives piece by piece; its file is a Wan VAE's."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKLWan
from safetensors.torch import load_file

from demo.latents import LATENT_CHANNELS
from demo.vae import decode_latents, encode_moments, initialise, load_vae, save_vae, tiny_vae


@pytest.fixture(scope="module")
def vae() -> AutoencoderKLWan:
    torch.manual_seed(0)
    made = tiny_vae()
    initialise(made)
    return made.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    return torch.rand(1, 3, 13, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_encoding_at_once_is_encoding_in_pieces(vae: AutoencoderKLWan, pixels: torch.Tensor) -> None:
    torch.testing.assert_close(
        encode_moments(vae, pixels), vae.encode(pixels).latent_dist.parameters, rtol=1e-3, atol=1e-4
    )


def test_decoding_at_once_is_decoding_in_pieces(vae: AutoencoderKLWan) -> None:
    latents = torch.randn(1, LATENT_CHANNELS, 4, 4, 4, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(
        decode_latents(vae, latents).clamp(-1, 1), vae.decode(latents).sample, rtol=1e-3, atol=1e-3
    )


def test_a_file_is_read_back_and_has_the_released_names(vae: AutoencoderKLWan, tmp_path: Path) -> None:
    save_vae(vae, tmp_path / "vae.safetensors", torch.float32)
    read = load_vae(tmp_path / "vae.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(vae.state_dict().values(), read.state_dict().values(), strict=True))
    names = load_file(tmp_path / "vae.safetensors").keys()
    for name in (
        "conv1.weight",
        "conv2.weight",
        "encoder.conv1.weight",
        "encoder.downsamples.0.residual.2.weight",
        "encoder.middle.1.to_qkv.weight",
        "decoder.upsamples.3.resample.1.weight",
        "decoder.upsamples.3.time_conv.weight",
        "decoder.head.0.gamma",
        "decoder.head.2.weight",
    ):
        assert name in names
