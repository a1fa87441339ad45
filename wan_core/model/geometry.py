"""How pixels and frames become latents and tokens; everything that counts either asks a Geometry.

A model for the latents of another VAE is one more entry of GEOMETRIES.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import InputError


@dataclass(frozen=True)
class Geometry:
    """What a VAE makes of a video, and the transformer of that.

    Attributes:
        name: of the models that have it.
        vae_file: usual name of the VAE's file.
        latent_format: ComfyUI's name for how the latents are scaled and previewed.
        channels: of a latent frame.
        spatial: pixels per latent pixel, each way.
        temporal: video frames per latent frame after the first, which stands alone.
        patch: latent frames, rows and columns of a token.
    """

    name: str
    vae_file: str
    latent_format: str
    channels: int
    spatial: int
    temporal: int
    patch: tuple[int, int, int] = (1, 2, 2)

    @property
    def multiple(self) -> int:
        """Pixels of a token, each way: width and height are multiples of it."""
        return self.spatial * self.patch[1]

    def latent_frames(self, frames: int) -> int:
        """Return how many whole latent frames there are in `frames` video frames: one, and one for every `temporal`."""
        return (frames - 1) // self.temporal + 1

    def video_frames(self, latents: int) -> int:
        """Return how many video frames `latents` latent frames decode to."""
        return (latents - 1) * self.temporal + 1

    def whole_frames(self, frames: int) -> int:
        """Return how many of `frames` video frames whole latent frames hold: 4k + 1."""
        return self.video_frames(self.latent_frames(frames))

    def latent_of_frame(self, frame: int) -> int:
        """Return the latent frame that holds video frame `frame` (0-based)."""
        return -(-frame // self.temporal)

    def first_frame(self, latent: int) -> int:
        """Return the first video frame of a latent frame."""
        return max(self.video_frames(latent), 0)

    def latent_shape(self, latents: int, height: int, width: int) -> tuple[int, int, int, int]:
        """Return the shape [C, F, h, w] of `latents` latent frames of so many pixels."""
        return self.channels, latents, height // self.spatial, width // self.spatial

    def pixels(self, rows: int, columns: int) -> tuple[int, int]:
        """Return height and width of a latent picture."""
        return rows * self.spatial, columns * self.spatial

    def check_size(self, width: int, height: int) -> None:
        """Refuse pixels that make no whole tokens; `Raises: InputError`."""
        wanted = self.multiple
        if any(size < 1 or size % wanted for size in (width, height)):
            raise InputError(
                "The size is {width}x{height} pixels, but width and height have to be multiples of {multiple}: "
                "{near_width}x{near_height} is the nearest.",
                width=width,
                height=height,
                multiple=wanted,
                near_width=max(round(width / wanted), 1) * wanted,
                near_height=max(round(height / wanted), 1) * wanted,
            )

    def like(self, shape: tuple[int, ...], other: Geometry) -> tuple[int, ...]:
        """Return the shape [B, C, F, h, w] of the video whose latents have `shape` in another geometry."""
        batch, _, latents, rows, columns = shape
        height, width = other.pixels(rows, columns)
        self.check_size(width, height)
        return batch, *self.latent_shape(self.latent_frames(other.video_frames(latents)), height, width)


WAN21 = Geometry("Wan 2.1", "wan_2.1_vae", "Wan21", channels=16, spatial=8, temporal=4)
GEOMETRIES = {each.channels: each for each in (WAN21,)}


def geometry_of(channels: int) -> Geometry:
    """Return the geometry of latents with so many channels; `Raises: InputError` where none is known."""
    if channels not in GEOMETRIES:
        raise InputError(
            "The latents have {channels} channels, but SkyReels-V2 and Wan 2.1 have {wanted}: choose other files.",
            channels=channels,
            wanted=WAN21.channels,
        )
    return GEOMETRIES[channels]
