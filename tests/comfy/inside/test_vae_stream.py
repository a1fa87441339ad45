"""Decoding in pieces against decoding at once, with the tiny VAE, in the host's own process."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import comfy.sd
import comfy.utils
import pytest
import torch


@pytest.fixture(scope="module")
def vae(models: Path) -> Any:
    return comfy.sd.VAE(sd=comfy.utils.load_torch_file(str(models / "vae" / "tiny_wan_vae.safetensors")))


@pytest.fixture
def stream(pack: ModuleType) -> ModuleType:
    assert pack
    return importlib.import_module("skyreels_v2.wan_core.comfy.vae_stream")


def latents(frames: int) -> torch.Tensor:
    return torch.randn(1, 16, frames, 4, 6, generator=torch.Generator().manual_seed(frames))


@pytest.mark.parametrize("pieces", [(9,), (1, 8), (5, 4), (2, 2, 2, 3), (4, 1, 1, 4), (3, 3, 3, 1)])
def test_pieces_equal_the_whole_to_the_bit(stream: ModuleType, vae: Any, pieces: tuple[int, ...]) -> None:
    samples = latents(sum(pieces))
    with torch.inference_mode():
        whole = vae.decode(samples)[0].cpu()
        decoder = stream.StreamingDecoder(vae)
        out, at = [], 0
        for number, frames in enumerate(pieces):
            out.append(decoder.push(samples[:, :, at : at + frames], final=number == len(pieces) - 1))
            decoder.park()
            at += frames
    assert torch.equal(torch.cat(out), whole)
    segments = importlib.import_module("skyreels_v2.wan_core.segments")
    assert len(whole) == segments.video_frames(sum(pieces))


def test_a_decoder_warmed_up_with_the_last_frames_goes_on_to_the_bit(stream: ModuleType, vae: Any) -> None:
    samples = latents(61)
    split = 51
    with torch.inference_mode():
        undisturbed = stream.StreamingDecoder(vae)
        undisturbed.push(samples[:, :, :split])
        expected = undisturbed.push(samples[:, :, split:], final=True)
        again = stream.StreamingDecoder(vae)
        again.warm_up(samples[:, :, split - stream.MEMORY_FRAMES - 1 : split])
        assert torch.equal(again.push(samples[:, :, split:], final=True), expected)


def test_another_kind_of_vae_is_refused(stream: ModuleType) -> None:
    class Other:
        first_stage_model = torch.nn.Identity()

    with pytest.raises(ValueError, match=r"The VAE is Identity, but .* Wan 2.1 VAE: load wan_2.1_vae"):
        stream.StreamingDecoder(Other())
