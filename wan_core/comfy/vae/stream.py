"""Decoding a latent video piece by piece: the causal VAE's memory is carried from one piece to the next.

The frames are those of decoding everything at once, to the bit, but only one piece is in memory; the memory of a
decoder that waits (between two segments of a long video) can be parked on the CPU.

Where the device's memory ends, the piece that failed and those behind it are decoded in tiles, each of which carries a
memory of its own: the picture then differs a little where tiles meet, as with any tiled decoding.

A Wan VAE turns the first latent frame into one video frame and every later one into four. Newer hosts decode later
frames in pairs, and give other values for single ones, so an odd frame waits here for the next piece.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import comfy.ldm.wan.vae
import comfy.ldm.wan.vae2_2
import comfy.model_management
import torch

from ...finite import VAE_ADVICE, check_finite
from ...video.tiles import Tile, cut
from ...words import words
from ..model.checks import check_vae
from ..node_text import tell
from ..sampling.memory_ladder import OutOfMemory, is_out_of_memory

# Latent frames after which nothing of a frame is left in the memory: 2 for each causal convolution, at the rate it runs
# at: 11 convolutions at the latent rate, 7 at twice and 14 at four times of it, and those of the two upsamplings.
MEMORY_FRAMES = 40
FRAMES_AT_ONCE = 2  # after the first: core's decoder is wrong with single ones
TILES = (512, 256, 128)  # pixels of a tile
OVERLAP_SHARE = 4  # a quarter of a tile lies over the next one
CPU = torch.device("cpu")


def decode_wan21(model: Any, z: torch.Tensor, memory: list[Any]) -> torch.Tensor:
    """Return the pictures [1, 3, n, H, W] of latent frames in the middle of a video."""
    return torch.cat(model.decoder(z, feat_cache=memory, feat_idx=[0]), dim=2)


def decode_wan22(model: Any, z: torch.Tensor, memory: list[Any]) -> torch.Tensor:
    """Return the pictures [1, 3, n, H, W] of latent frames in the middle of a video; this one takes single frames."""
    made = []
    for frame in z.split(1, dim=2):
        begins = memory[0] is None
        made.append(model.decoder(frame, feat_cache=memory, feat_idx=[0], first_chunk=begins))
    return comfy.ldm.wan.vae2_2.unpatchify(torch.cat(made, dim=2), patch_size=2)


def parts_of(model: Any) -> tuple[int, Callable[..., torch.Tensor]]:
    """Return how many layers of a Wan VAE's decoder remember something, and what calls it."""
    if isinstance(model, comfy.ldm.wan.vae2_2.WanVAE):
        return comfy.ldm.wan.vae2_2.count_conv3d(model.decoder), decode_wan22
    return comfy.ldm.wan.vae.count_cache_layers(model.decoder), decode_wan21


class StreamingDecoder:
    """The decoder of a Wan VAE in the middle of a video.

    Args:
        vae: a VAE of a Wan model.

    Raises:
        InputError: the VAE is of another kind.
    """

    def __init__(self, vae: Any):
        self.geometry = check_vae(vae, streamed=True)
        self.vae = vae
        self.model = vae.first_stage_model
        self.layers, self.call = parts_of(self.model)
        self.memories: list[list[Any]] = [[None] * self.layers]  # of each tile
        self.tile: int | None = None  # pixels of a tile at most, each way; None while whole frames fit
        self.waiting: torch.Tensor | None = None
        self.decoded: torch.Tensor | None = None  # the last latent frames: what tiles begin their memory with

    def push(self, samples: torch.Tensor, final: bool = False) -> torch.Tensor:
        """Decode the next piece.

        Args:
            samples: latent frames [1, 16, f, H / 8, W / 8] that follow those pushed before.
            final: no piece follows, so nothing is held back.

        Returns:
            Video frames [n, H, W, 3] in 0..1 on the CPU; n is 4 for each latent frame decoded, 1 for the very first.

        Raises:
            OutOfMemory: the smallest tiles do not fit either.
            NotFiniteError: the samples or the pictures hold NaN or infinity.
        """
        check_finite(samples, words("The latents to decode"), words("check the sampler that made them"))
        if self.waiting is not None:
            samples = torch.cat((self.waiting, samples.to(self.waiting)), dim=2)
        chunks, self.waiting = self.split(samples, self.decoded is None, final)
        if not chunks:
            return torch.zeros(0, *self.geometry.pixels(*samples.shape[-2:]), 3)
        frames = self.fitting(chunks)
        known = () if self.decoded is None else (self.decoded,)
        # an odd number of them, as were decoded: so a decoder that begins with them meets the same pairs
        self.decoded = torch.cat((*known, *(chunk.cpu() for chunk in chunks)), dim=2)[
            :, :, -MEMORY_FRAMES - 1 :
        ].clone()
        return frames

    def split(
        self, samples: torch.Tensor, begins: bool, final: bool = False
    ) -> tuple[list[torch.Tensor], torch.Tensor | None]:
        """Return the chunks that can be decoded now, and what has to wait; `begins`: the video begins with them."""
        first = 1 if begins else 0
        chunks = [samples[:, :, :1]] if first and samples.shape[2] else []
        at, frames = first, samples.shape[2]
        while at < frames and (final or at + FRAMES_AT_ONCE <= frames):
            chunks.append(samples[:, :, at : at + FRAMES_AT_ONCE])
            at += FRAMES_AT_ONCE
        return chunks, samples[:, :, at:] if at < frames else None

    def fitting(self, chunks: list[torch.Tensor]) -> torch.Tensor:
        """Return the frames [n, H, W, 3] of chunks, decoded whole, or in tiles where memory asks for it."""
        before: list[torch.Tensor] = []
        while True:
            try:
                return self.decode(before, chunks)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
            # outside of the except block: the error's traceback holds the tensors of the call
            self.use_smaller_tiles(chunks[0].shape[-2:])
            before = [] if self.decoded is None else self.split(self.decoded, begins=True)[0]

    def use_smaller_tiles(self, size: Sequence[int]) -> None:
        """Begin anew with smaller tiles of a latent picture of this size; `Raises: OutOfMemory` if there are none."""
        height, width = self.geometry.pixels(*size)
        smaller = [tile for tile in TILES if tile < (self.tile or max(height, width))]
        if not smaller:
            raise OutOfMemory(
                "Out of memory while decoding frames of {width}x{height} pixels, even in the smallest tiles: lower "
                "width and height, or close other programs.",
                width=width,
                height=height,
            )
        self.tile = smaller[0]
        self.memories = [[None] * self.layers for _ in self.tiles(size)]
        comfy.model_management.soft_empty_cache()
        line = words(
            "Out of memory while decoding frames of {width}x{height} pixels. Retrying in tiles of {tile} pixels "
            "(slower).",
            width=width,
            height=height,
            tile=self.tile,
        )
        tell("memory", line, logging.WARNING)

    def tiles(self, size: Sequence[int]) -> list[Tile]:
        """Return the tiles of a latent picture of this size."""
        rows, columns = size
        tile = self.tile // self.geometry.spatial if self.tile else max(rows, columns)
        return cut(rows, columns, tile, tile // OVERLAP_SHARE)

    def decode(self, before: list[torch.Tensor], chunks: list[torch.Tensor]) -> torch.Tensor:
        """Return the frames of chunks, tile by tile; `before`: what tiles have to see first, to begin their memory."""
        (rows, columns), scale = chunks[0].shape[-2:], self.geometry.spatial
        tiles = self.tiles((rows, columns))
        one = tiles[0].of(torch.cat(chunks, dim=2)).shape
        needed = self.vae.memory_used_decode(one, self.vae.vae_dtype)
        comfy.model_management.load_models_gpu([self.vae.patcher], memory_required=needed)
        if len(tiles) == 1:
            return self.run(0, before, chunks)
        blended = weights = torch.zeros(0)
        for number, tile in enumerate(tiles):
            frames = self.run(number, [tile.of(chunk) for chunk in before], [tile.of(chunk) for chunk in chunks])
            self.memories[number] = moved(self.memories[number], CPU)
            if not number:
                blended = torch.zeros(len(frames), 3, *self.geometry.pixels(rows, columns))
                weights = torch.zeros(self.geometry.pixels(rows, columns))
            weight = tile.weights(scale)
            tile.of(weights, scale).add_(weight)
            tile.of(blended, scale).add_(frames.movedim(-1, 1) * weight)
        return blended.div_(weights).movedim(1, -1)

    def run(self, number: int, before: list[torch.Tensor], chunks: list[torch.Tensor]) -> torch.Tensor:
        """Return the frames [n, h, w, 3] of chunks of one tile, and keep in mind what the next ones need."""
        memory = self.memories[number] = moved(self.memories[number], self.vae.device)
        for chunk in before:
            self.decode_chunk(chunk, memory)
        return torch.cat([self.decode_chunk(chunk, memory) for chunk in chunks])

    def decode_chunk(self, chunk: torch.Tensor, memory: list[Any]) -> torch.Tensor:
        """Decode one chunk [1, 16, 1 or 2, h, w] to frames [n, H, W, 3]; the memory is changed in place."""
        comfy.model_management.throw_exception_if_processing_interrupted()
        z = self.model.conv2(chunk.to(device=self.vae.device, dtype=self.vae.vae_dtype))
        video = self.call(self.model, z, memory)
        check_finite(video, words("What the VAE made of the latents"), VAE_ADVICE)  # before its range is cut off
        video = self.vae.process_output(video.float().cpu())
        return video[0].movedim(0, -1)

    @property
    def history(self) -> torch.Tensor:
        """What a new decoder warms up with: the last latent frames pushed [1, 16, f, H / 8, W / 8], on the CPU."""
        known = [frames.cpu() for frames in (self.decoded, self.waiting) if frames is not None]
        return torch.cat(known, dim=2)

    def park(self) -> None:
        """Move what the decoder remembers to the CPU, to leave the device to the transformer."""
        self.memories = [moved(memory, CPU) for memory in self.memories]

    def warm_up(self, samples: torch.Tensor) -> None:
        """Bring a new decoder into the state it had after a video, from the last latent frames of it.

        Args:
            samples: its `history`: the last frames decoded, an odd number of them or all, and one that waits; with
                MEMORY_FRAMES + 1 or more the frames that follow equal those of the undisturbed decoder to the bit.
        """
        self.push(samples)


def moved(memory: list[Any], device: torch.device) -> list[Any]:
    """Return the decoder's memory on a device; entries that are no tensor (none yet, a marker) stay as they are."""
    return [entry.to(device) if isinstance(entry, torch.Tensor) else entry for entry in memory]
