"""From prompts to pixels with the embedded models: the pack's sampler, with guidance, over a batch of clips.

It makes one window; a longer video is several, see wan_core.long.rollout and demo.run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from demo.models import Models
from demo.vae import decode, encode
from wan_core.model.geometry import WAN21
from wan_core.sampling.denoise import model_denoise
from wan_core.sampling.known import KnownFrames
from wan_core.sampling.loop import sample
from wan_core.sampling.noise import seeded_noise
from wan_core.sampling.run import ForcingOptions, Row, plan_run
from wan_core.sampling.schedule import padded_frames
from wan_core.sampling.sigmas import flow_sigmas

LATENT_SHAPE = (16, 8, 8)  # channels, rows and columns of a clip's latents


@dataclass(frozen=True)
class Settings:
    """How to sample.

    Attributes:
        steps: denoising steps of a frame.
        guidance: scale of classifier-free guidance; 1 = none.
        shift: of the noise schedule.
        fps: frames per second, 16 or 24.
        ar_step: steps that a block lags behind the one before it; 0 = all frames together.
        causal_block_size: latent frames of a block.
        causal_attention: whether attention goes block by block.
        half: compute in bfloat16; only for processors that have instructions for it (`demo.processor`).
        window: latent frames that the model sees at once, moving along; None = all.
    """

    steps: int = 20
    guidance: float = 4.0
    shift: float = 5.0
    fps: int = 24
    ar_step: int = 0
    causal_block_size: int = 1
    causal_attention: bool = False
    half: bool = False
    window: int | None = None

    @property
    def block(self) -> int:
        """Latent frames that go together: windows are made up to whole blocks of them."""
        return self.causal_block_size if self.ar_step > 0 or self.causal_attention else 1


Progress = Callable[[Row], None]


@torch.inference_mode()
def make_latents(
    models: Models,
    texts: list[str],
    noise: Tensor,
    settings: Settings,
    known: KnownFrames | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """Sample clips.

    Args:
        models: the models.
        texts: B prompts.
        noise: unit normal [B, 16, F, 8, 8], F a whole number of blocks.
        settings: how.
        known: known frames.
        progress: called after every model call.

    Returns:
        Latents [B, 16, F, 8, 8] in the transformer's scale.

    Raises:
        ScheduleError: settings that make no schedule.
    """
    window = settings.window or 0
    options = ForcingOptions(ar_step=settings.ar_step, causal_block_size=settings.block, window_frames=window)
    sigmas = flow_sigmas(settings.steps, settings.shift)
    run = plan_run(options, sigmas, noise.shape[2], None if known is None else known.mask)
    causal = settings.causal_block_size if settings.causal_attention else 0

    def velocity(x: Tensor, t: Tensor, context: Tensor, row: Row) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=settings.half):
            answer: Tensor = models.dit(x, t, context, fps=settings.fps, causal_block_size=causal)
        return answer.float()

    def show(row: Row, x0: Tensor, x: Tensor) -> None:
        if progress is not None:
            progress(row)

    plain = None if settings.guidance == 1 else models.embed([""] * len(texts))
    denoise = model_denoise(velocity, models.embed(texts), plain, settings.guidance)
    return sample(denoise, noise, run, known, show)


def clip_noise(seeds: list[int], frames: int, stream: str = "noise") -> Tensor:
    """Return noise [B, 16, F, 8, 8], one seed for each clip."""
    channels, rows, columns = LATENT_SHAPE
    return torch.cat([seeded_noise((1, channels, frames, rows, columns), seed, stream) for seed in seeds])


def latent_count(frames: int, settings: Settings) -> int:
    """Return the latent frames that hold so many video frames, in whole blocks."""
    return padded_frames(WAN21.latent_of_frame(frames - 1) + 1, settings.block)


def pin_pictures(models: Models, noise: Tensor, pictures: dict[int, Tensor], seeds: list[int]) -> KnownFrames:
    """Make known frames of pictures, each encoded alone.

    Args:
        models: for the VAE.
        noise: of the clips [B, 16, F, 8, 8].
        pictures: latent frame -> pixels [B, 64, 64, 3], 0..1.
        seeds: of the clips, for the trace of noise on known frames.
    """
    latents, mask = torch.zeros_like(noise), torch.zeros(noise.shape[2], dtype=torch.bool)
    for index, pixels in pictures.items():
        latents[:, :, index] = encode(models.vae, pixels[:, None])[:, :, 0]
        mask[index] = True
    return KnownFrames(latents, mask, clip_noise(seeds, noise.shape[2], "condition"))


@torch.inference_mode()
def make_clips(
    models: Models,
    texts: list[str],
    seeds: list[int],
    frames: int,
    settings: Settings,
    start: Tensor | None = None,
    end: Tensor | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """Make clips of one window.

    Args:
        models: the models.
        texts: B prompts.
        seeds: B seeds.
        frames: video frames.
        settings: how.
        start: first pictures [B, 64, 64, 3], 0..1.
        end: last pictures.
        progress: called after every model call.

    Returns:
        Pixels [B, frames, 64, 64, 3], 0..1.
    """
    noise = clip_noise(seeds, latent_count(frames, settings))
    pictures = {} if start is None else {0: start}
    if end is not None:
        pictures[WAN21.latent_of_frame(frames - 1)] = end
    known = pin_pictures(models, noise, pictures, seeds) if pictures else None
    latents = make_latents(models, texts, noise, settings, known, progress)
    return decode(models.vae, latents[:, :, : WAN21.latent_of_frame(frames - 1) + 1])[:, :frames]
