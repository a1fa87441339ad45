"""Decoding in pieces against decoding at once, with the tiny VAE, in the host's own process."""

from __future__ import annotations

import importlib
import itertools
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


@pytest.fixture(scope="module")
def stream(pack: ModuleType) -> ModuleType:
    assert pack
    return importlib.import_module("skyreels_v2.wan_core.comfy.vae.stream")


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
    geometry = importlib.import_module("skyreels_v2.wan_core.model.geometry").WAN21
    assert len(whole) == geometry.video_frames(sum(pieces))


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


def short_of_memory(monkeypatch: pytest.MonkeyPatch, vae: Any, most: int, calls: int = 0) -> list[tuple[int, ...]]:
    """Let the decoder run out of memory above `most` latent pixels of a frame, behind so many calls; list its sizes."""
    decoder, sizes = vae.first_stage_model.decoder, []
    forward = decoder.forward

    def limited(z: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        sizes.append(tuple(z.shape[-2:]))
        if len(sizes) > calls and z.shape[-2] * z.shape[-1] > most:
            raise torch.cuda.OutOfMemoryError("out of memory")
        return forward(z, *args, **kwargs)

    monkeypatch.setattr(decoder, "forward", limited)
    return sizes


def in_pieces(stream: ModuleType, vae: Any, samples: torch.Tensor, pieces: tuple[int, ...]) -> list[torch.Tensor]:
    with torch.inference_mode():
        decoder, made = stream.StreamingDecoder(vae), []
        for number, piece in enumerate(samples.split(pieces, dim=2)):
            made.append(decoder.push(piece, final=number == len(pieces) - 1))
            decoder.park()
    return made


@pytest.mark.parametrize("calls", [1, 2, 3, 4])
def test_where_memory_ends_it_goes_on_in_tiles_that_know_what_was_before(
    stream: ModuleType, vae: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, calls: int
) -> None:
    samples = torch.randn(1, 16, 9, 4, 24, generator=torch.Generator().manual_seed(9))
    whole = in_pieces(stream, vae, samples, (5, 4))
    with monkeypatch.context() as patch:
        sizes = short_of_memory(patch, vae, 4 * 16)
        tiled = in_pieces(stream, vae, samples, (5, 4))
    assert sizes[0] == (4, 24) and set(sizes[1:]) == {(4, 16)}
    with monkeypatch.context() as patch:
        short_of_memory(patch, vae, 4 * 16, calls)
        late = in_pieces(stream, vae, samples, (5, 4))
    assert [len(frames) for frames in late] == [len(frames) for frames in whole] == [17, 16]
    second = calls >= 3  # where memory ended
    assert torch.equal(late[0], whole[0] if second else tiled[0]) and torch.equal(late[1], tiled[1])
    assert "Retrying in tiles of 128 pixels (slower)" in caplog.text


def test_tiles_show_the_picture(stream: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    file = Path(__file__).parents[3] / "demo" / "weights" / "vae.safetensors"
    vae = comfy.sd.VAE(sd=comfy.utils.load_torch_file(str(file)))
    place = torch.linspace(0, 6, 192)
    picture = torch.stack([torch.sin(place[:160, None] + place + shift) for shift in range(3)], dim=-1) / 2 + 0.5
    with torch.inference_mode():
        samples = vae.encode(picture.expand(9, -1, -1, -1))
    whole = torch.cat(in_pieces(stream, vae, samples, (2, 1)))
    short_of_memory(monkeypatch, vae, 16 * 16)
    tiled = torch.cat(in_pieces(stream, vae, samples, (2, 1)))
    assert tiled.shape == whole.shape == (9, 160, 192, 3)
    with torch.inference_mode():
        cores = vae.decode_tiled(samples, tile_x=16, tile_y=16, overlap=4, tile_t=99, overlap_t=1)[0].cpu()
    ours, theirs = ((frames - whole).square().mean().sqrt() for frames in (tiled, cores))
    assert ours <= 1.1 * theirs < 0.1


def test_where_no_tile_fits_it_says_so(stream: ModuleType, vae: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = short_of_memory(monkeypatch, vae, 0)
    with pytest.raises(torch.cuda.OutOfMemoryError, match="frames of 320x192 pixels, even in the smallest"):
        in_pieces(stream, vae, torch.zeros(1, 16, 3, 24, 40), (3,))
    assert sizes == [(24, 40), (24, 32), (16, 16)]


@pytest.mark.parametrize("size", [16, 32, 64])
@pytest.mark.parametrize(("rows", "columns"), [(1, 90), (16, 17), (34, 60), (45, 80), (63, 64), (65, 29), (90, 128)])
def test_tiles_cover_the_picture_and_blend(stream: ModuleType, rows: int, columns: int, size: int) -> None:
    tiles = importlib.import_module("skyreels_v2.wan_core.video.tiles")
    found, sums = tiles.cut(rows, columns, size, size // 4), torch.zeros(2 * rows, 2 * columns)
    for tile in found:
        weights = tile.weights(2)
        assert (weights > 0).all() and (weights <= 1).all() and max(weights.shape) <= 2 * size
        tile.of(sums, 2).add_(weights)
    assert (sums > 0).all()
    assert len(found) > 1 or torch.equal(sums, torch.ones_like(sums))
    for span, other in itertools.pairwise(tiles.spans(rows, size, size // 4)):
        assert size // 4 <= span.end - other.begin == span.behind == other.before


def test_another_kind_of_vae_is_refused(stream: ModuleType) -> None:
    class Other:
        first_stage_model = torch.nn.Identity()

    with pytest.raises(ValueError, match=r"The VAE is Identity, but .* the Wan 2\.1 VAE .*: load wan_2\.1_vae"):
        stream.StreamingDecoder(Other())
