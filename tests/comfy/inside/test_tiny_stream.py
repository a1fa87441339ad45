"""Decoding in pieces with a tiny VAE against decoding at once, and a long video whose pictures it makes."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

import comfy.sd
import comfy.taesd.taehv
import long_scene
import pytest
import torch


@pytest.fixture(scope="module")
def vae() -> Any:
    """A tiny VAE with random weights, large enough for every place that it remembers to matter."""
    generator = torch.Generator().manual_seed(3)
    state = comfy.taesd.taehv.TAEHV(latent_channels=16, latent_format=None).state_dict()
    return comfy.sd.VAE(sd={
        name: torch.randn(value.shape, generator=generator) * (1.4 / max(value[0].numel(), 1)) ** 0.5
        for name, value in state.items()
    })  # fmt: skip


@pytest.fixture(scope="module")
def tiny(pack: ModuleType) -> ModuleType:
    return importlib.import_module(f"{pack.__name__}.wan_core.comfy.vae.tiny_stream")


def latents(frames: int) -> torch.Tensor:
    return torch.randn(1, 16, frames, 2, 3, generator=torch.Generator().manual_seed(frames))


def pushed(decoder: Any, samples: torch.Tensor, pieces: tuple[int, ...]) -> torch.Tensor:
    with torch.inference_mode():
        return torch.cat([decoder.push(piece) for piece in samples.split(pieces, dim=2)])


@pytest.mark.parametrize("pieces", [(13,), (1, 12), (5, 4, 4), (1,) * 13, (10, 3)])
def test_pieces_equal_the_whole_to_the_bit(tiny: ModuleType, vae: Any, pieces: tuple[int, ...]) -> None:
    samples = latents(sum(pieces))
    with torch.inference_mode():
        whole = vae.decode(samples)[0].float().cpu().clamp(0, 1)
    assert float(whole.std()) > 0.1
    assert torch.equal(pushed(tiny.streaming_decoder(vae), samples, pieces), whole)


def test_a_decoder_reaches_back_no_further_than_it_keeps(tiny: ModuleType, vae: Any) -> None:
    samples, decoder = latents(24), tiny.streaming_decoder(vae)
    assert isinstance(decoder, tiny.TinyStreamingDecoder) and decoder.reach == 8
    pushed(decoder, samples[:, :, :20], (20,))
    wanted, shorter, again = decoder.history.clone(), tiny.streaming_decoder(vae), tiny.streaming_decoder(vae)
    expected = pushed(decoder, samples[:, :, 20:], (4,))
    again.warm_up(wanted)
    assert torch.equal(pushed(again, samples[:, :, 20:], (4,)), expected)
    shorter.warm_up(wanted[:, :, 1:])
    assert not torch.equal(pushed(shorter, samples[:, :, 20:], (4,)), expected)


def test_pictures_that_are_not_finite_are_refused(tiny: ModuleType, vae: Any) -> None:
    with pytest.raises(Exception, match="holds NaN or infinite values"):
        tiny.streaming_decoder(vae).push(torch.full((1, 16, 1, 2, 3), torch.nan))


@pytest.mark.usefixtures("output_folder")
def test_a_stopped_long_video_of_a_tiny_vae_goes_on_and_ends_in_the_same_frames(
    bridge: ModuleType, model: Any, vae: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, chosen = long_scene.inputs(bridge, model, vae), long_scene.settings(bridge)
    whole = long_scene.frames_of(long_scene.make(bridge, given, chosen, "tiny whole").path)
    assert len(whole) == chosen.total_frames
    with monkeypatch.context() as patched:
        long_scene.stop_in_segment(bridge, patched, 1)
        with pytest.raises(long_scene.Stopped):
            long_scene.make(bridge, given, chosen, "tiny stopped")
    assert (long_scene.frames_of(long_scene.make(bridge, given, chosen, "tiny stopped").path) == whole).all()
