"""Training of the tiny VAE: an encoder that computes fixed linear latents, and a decoder that turns them into video.

The two need nothing of each other, since `demo.latents` says what the latents are. Every step takes fresh clips: single
pictures first, then longer and longer ones. The decoder ends on clips as long as it looks back over, so that it may run
for ever: behind the length it was trained on it looks at frames where it had only ever seen the nothing before a clip,
and colours turn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from diffusers import AutoencoderKLWan
from torch import Tensor
from torch.nn import functional

from demo.latents import LATENT_CHANNELS, alone, linear_latents
from demo.shapes import draw_clips, render
from demo.training import Plan, half_precision, stage_at, train
from demo.vae import decode_scaled, encode_scaled, initialise, latent_scale, tiny_vae


@dataclass(frozen=True)
class Stage:
    """A part of the training.

    Attributes:
        first_step: from which step on.
        turns: batches that take turns, each of so many clips of so many frames.
    """

    first_step: int
    turns: tuple[tuple[int, int], ...]


ENCODER_STAGES = (Stage(0, ((16, 1), (4, 5), (3, 9), (1, 37))),)
DECODER_STAGES = (
    Stage(0, ((16, 1),)),
    Stage(300, ((12, 1), (3, 5), (3, 9), (3, 5))),
    Stage(1500, ((12, 1), (1, 37), (3, 9), (1, 21), (12, 1), (1, 37), (3, 9), (1, 73))),
    Stage(2600, ((1, 145), (3, 9), (1, 97), (12, 1))),
)
STEPS_PER_DRAW = 16
ALONE_EVERY = 8  # steps: in one of these the last latent frame is that of a picture alone, as an end image is encoded
ALONE_TURN = 1
LATENT_NOISE = 0.1  # of the latents' spread: the transformer's are not exact
SHAPE_WEIGHT = 8.0  # a pixel that is no background counts one more than this
SHAPE_DIFFERENCE = 0.2  # from the background, of -1..1, at which a pixel is none
SQUARE_WEIGHT = 4.0
DIFFERENCE_WEIGHT = 0.5
HELD_OUT_SEED = 10**6
HELD_OUT_CLIPS = 8
HELD_OUT_FRAMES = 73
DECODER_SEED = 50


class ClipPool:
    """Fresh clips for every step, drawn some at a time."""

    def __init__(self, seed: int, stages: tuple[Stage, ...]):
        self.seed, self.stages = seed, stages
        self.drawn: dict[int, tuple[int, Tensor]] = {}  # turn -> number of the draw, and its pixels

    def pixels_of(self, step: int) -> Tensor:
        """Return [B, 3, N, 64, 64], -1..1, of the stage that the step belongs to."""
        turns = stage_at(self.stages, step).turns
        turn = step % len(turns)
        batch, frames = turns[turn]
        number, row = divmod(step, STEPS_PER_DRAW)
        row //= len(turns)
        if turn not in self.drawn or self.drawn[turn][0] != number:
            clips = draw_clips(STEPS_PER_DRAW // len(turns) * batch, self.seed * 10**7 + 100 * number + turn)
            self.drawn[turn] = number, render(clips, frames)
        picked = self.drawn[turn][1][row * batch : (row + 1) * batch]
        return picked.permute(0, 4, 1, 2, 3) * 2 - 1


def differences(pixels: Tensor) -> tuple[Tensor, ...]:
    """Return the differences of neighbouring pixels in time, height and width."""
    return pixels.diff(dim=2), pixels.diff(dim=3), pixels.diff(dim=4)


def weights_of(pixels: Tensor) -> Tensor:
    """Return how much each pixel [B, 3, N, H, W] counts, [B, 1, N, H, W]; backgrounds are plain: the median."""
    back = pixels.flatten(2).median(dim=2).values[:, :, None, None, None]
    return 1 + SHAPE_WEIGHT * ((pixels - back).abs().amax(dim=1, keepdim=True) > SHAPE_DIFFERENCE)


def picture_loss(seen: Tensor, pixels: Tensor) -> Tensor:
    """Return the loss of pixels and of their differences, [B, 3, N, H, W], -1..1."""
    error = seen - pixels
    loss = (weights_of(pixels) * (error.abs() + SQUARE_WEIGHT * error.square())).mean()
    for made, wanted in zip(differences(seen), differences(pixels), strict=True):
        if made.numel():  # a single picture has no differences in time
            loss = loss + DIFFERENCE_WEIGHT * functional.l1_loss(made, wanted)
    return loss


def encoder_loss(vae: AutoencoderKLWan, pixels: Tensor) -> Tensor:
    """Return the loss of the latents of clips [B, 3, N, H, W], -1..1, in the transformer's scale."""
    return functional.mse_loss(encode_scaled(vae, pixels), latents_of(pixels))


def decoder_loss(vae: AutoencoderKLWan, pixels: Tensor, ends_alone: bool = False) -> Tensor:
    """Return the loss of clips [B, 3, N, H, W], -1..1; `ends_alone`: as if the last picture were encoded alone."""
    latents = latents_of(pixels)
    if ends_alone:
        latents[:, :, -1] = alone(latents[:, :, -1])
    noisy = latents + LATENT_NOISE * torch.randn_like(latents)
    return picture_loss(decode_scaled(vae, noisy), pixels)


def latents_of(pixels: Tensor) -> Tensor:
    """Return the latents [B, 16, F, H / 8, W / 8], in the transformer's scale, of clips [B, 3, N, H, W], -1..1."""
    return linear_latents(pixels.permute(0, 2, 3, 4, 1) / 2 + 0.5)


@torch.no_grad()
def psnr_loss(vae: AutoencoderKLWan, pixels: Tensor) -> float:
    """Return minus the mean PSNR in dB of decoded clips [B, 3, N, H, W], -1..1."""
    error = (decode_scaled(vae, latents_of(pixels)).clamp(-1, 1) - pixels).div(2).square().mean(dim=(1, 2, 3, 4))
    return float(10 * error.log10().mean())


def fresh_vae(seed: int) -> AutoencoderKLWan:
    """Return a VAE as training begins; its posterior states the noise that the decoder is trained with."""
    torch.manual_seed(seed)
    vae = tiny_vae()
    initialise(vae)
    spread = latent_scale(vae, torch.zeros(()))[1].flatten()
    with torch.no_grad():
        vae.quant_conv.weight[LATENT_CHANNELS:] = 0
        vae.quant_conv.bias[LATENT_CHANNELS:] = 2 * (LATENT_NOISE * spread).log()
    return vae.requires_grad_(False)


def train_encoder(plan: Plan, vae: AutoencoderKLWan) -> AutoencoderKLWan:
    """Train a VAE's encoder, in place, to compute the linear latents."""
    vae.encoder.requires_grad_(True)
    vae.quant_conv.requires_grad_(True)
    pool = ClipPool(plan.seed, ENCODER_STAGES)
    held_out = held_out_clips(plan.device)

    @torch.no_grad()
    def score(module: AutoencoderKLWan) -> float:
        return float(encoder_loss(module, held_out))

    return train_half(plan, vae, pool, lambda pixels, step: encoder_loss(vae, pixels), score)


def train_decoder(plan: Plan, vae: AutoencoderKLWan) -> AutoencoderKLWan:
    """Train a VAE's decoder, in place, on the linear latents; its encoder is not asked."""
    vae.decoder.requires_grad_(True)
    vae.post_quant_conv.requires_grad_(True)
    pool = ClipPool(plan.seed + DECODER_SEED, DECODER_STAGES)
    held_out = held_out_clips(plan.device)

    def loss_of(pixels: Tensor, step: int) -> Tensor:
        return decoder_loss(vae, pixels, pixels.shape[2] > 1 and step % ALONE_EVERY == ALONE_TURN)

    return train_half(plan, vae, pool, loss_of, lambda module: psnr_loss(module, held_out))


def train_half(
    plan: Plan,
    vae: AutoencoderKLWan,
    pool: ClipPool,
    loss_of: Callable[[Tensor, int], Tensor],
    score: Callable[[AutoencoderKLWan], float],
) -> AutoencoderKLWan:
    """Train what asks for gradients, or go on, and return the VAE without them."""
    vae.train()
    for parameter in vae.parameters():
        if parameter.ndim == 5:  # the layout in which CPUs run these convolutions fastest
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last_3d)
    vae.to(plan.device)

    def loss_on(step: int) -> Tensor:
        torch.manual_seed(plan.seed * 10**7 + step)
        pixels = pool.pixels_of(step).to(plan.device).contiguous(memory_format=torch.channels_last_3d)
        with half_precision(plan.device):
            return loss_of(pixels, step)

    return train(vae, plan, loss_on, score).cpu().eval().requires_grad_(False)


def held_out_clips(device: str) -> Tensor:
    """Return clips [HELD_OUT_CLIPS, 3, HELD_OUT_FRAMES, 64, 64], -1..1, that nothing is trained on."""
    clips = render(draw_clips(HELD_OUT_CLIPS, HELD_OUT_SEED), HELD_OUT_FRAMES)
    return (clips.permute(0, 4, 1, 2, 3) * 2 - 1).to(device)
