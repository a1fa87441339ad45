"""Training of the tiny VAE: errors of pixels and of their differences, and latents held near zero mean and unit spread.

It begins with single pictures and goes on to longer and longer clips. Two things decide whether it works. The shape is
a tenth of the picture, so its pixels count more: otherwise the VAE paints backgrounds and one grey shape. And the
causal layers look back over many latent frames, so the last stage has to be as long as that: otherwise a clip falls
apart behind the length that was trained on.

A little noise on the latents takes the place of the sampled posterior: the decoder learns to shrug off what a sampler
leaves over. In the end mean and spread are folded to those of the released VAE, which ComfyUI takes for granted.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from diffusers import AutoencoderKLWan
from torch import Tensor, nn
from torch.nn import functional

from demo.shapes import draw_clips, render
from demo.training import Plan, half_precision, train
from demo.vae import (
    LATENT_CHANNELS,
    decode_latents,
    encode_moments,
    fold_scale,
    initialise,
    latent_scale,
    tiny_vae,
)

# from which step on: batches that take turns, each of so many clips of so many frames
Stages = tuple[tuple[int, tuple[tuple[int, int], ...]], ...]
STAGES: Stages = (
    (0, ((16, 1),)),
    (400, ((12, 1), (3, 5), (3, 9), (3, 5))),
    (2500, ((12, 1), (1, 37), (3, 9), (1, 21), (12, 1), (1, 37), (3, 9), (1, 73))),
)
DECODER_STAGES: Stages = ((0, ((1, 145), (1, 97), (1, 145), (3, 9))),)
STEPS_PER_DRAW = 16
END_IMAGE_EVERY = 8  # steps: one of these has a last latent frame of the last picture alone, as an end image is encoded
END_IMAGE_TURN = 1
LATENT_NOISE = 0.08
SHAPE_WEIGHT = 8.0  # a pixel that is no background counts one more than this
SHAPE_DIFFERENCE = 0.2  # from the background, of -1..1, at which a pixel is none
SQUARE_WEIGHT = 4.0
MOMENT_WEIGHT = 0.005
DIFFERENCE_WEIGHT = 0.5
LOG_VARIANCE = -4.6  # of the posterior that the file states: about the noise above
HELD_OUT_SEED = 10**6
HELD_OUT_CLIPS = 8
HELD_OUT_FRAMES = 73
DECODER_FRAMES = 145  # of held-out clips; it looks back over no more
DECODER_SEED = 50
FOLD_CLIPS = 128
FOLD_FRAMES = 37


class ClipPool:
    """Fresh clips for every step, drawn some at a time."""

    def __init__(self, seed: int, stages: Stages):
        self.seed, self.stages = seed, stages
        self.drawn: dict[int, tuple[int, Tensor]] = {}  # turn -> number of the draw, and its pixels

    def pixels_of(self, step: int) -> Tensor:
        """Return [B, 3, N, 64, 64], -1..1, of the stage that the step belongs to."""
        _, turns = next(stage for stage in reversed(self.stages) if step >= stage[0])
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


def vae_loss(vae: AutoencoderKLWan, pixels: Tensor, end_image: bool = False) -> Tensor:
    """Return the loss of clips [B, 3, 4 * (F - 1) + 1, H, W], -1..1; `end_image`: the last picture is encoded alone."""
    latents = encode_moments(vae, pixels)[:, :LATENT_CHANNELS].float()
    spread, mean = torch.std_mean(latents, dim=(0, 2, 3, 4))
    if end_image:
        alone = encode_moments(vae, pixels[:, :, -1:])[:, :LATENT_CHANNELS].float()
        latents = torch.cat((latents[:, :, :-1], alone), dim=2)
    seen = decode_latents(vae, latents + LATENT_NOISE * torch.randn_like(latents)).float()
    return picture_loss(seen, pixels) + MOMENT_WEIGHT * (mean.square() + (spread - 1).square()).mean()


def picture_loss(seen: Tensor, pixels: Tensor) -> Tensor:
    """Return the loss of pixels and of their differences, [B, 3, N, H, W], -1..1."""
    error = seen - pixels
    loss = (weights_of(pixels) * (error.abs() + SQUARE_WEIGHT * error.square())).mean()
    for made, wanted in zip(differences(seen), differences(pixels), strict=True):
        if made.numel():  # a single picture has no differences in time
            loss = loss + DIFFERENCE_WEIGHT * functional.l1_loss(made, wanted)
    return loss


def decoder_loss(vae: AutoencoderKLWan, pixels: Tensor) -> Tensor:
    """Return the loss of a finished VAE's decoder; the latents, of the released VAE's scale, are left as they are."""
    with torch.no_grad():
        latents = encode_moments(vae, pixels)[:, :LATENT_CHANNELS].float()
    noise = LATENT_NOISE * latent_scale(vae, latents)[1] * torch.randn_like(latents)
    return picture_loss(decode_latents(vae, latents + noise).float(), pixels)


@torch.no_grad()
def psnr_loss(vae: nn.Module, pixels: Tensor) -> float:
    """Return minus the mean PSNR in dB of the round trip of clips [B, 3, N, H, W], -1..1."""
    made = decode_latents(vae, encode_moments(vae, pixels)[:, :LATENT_CHANNELS]).clamp(-1, 1)
    error = (made - pixels).div(2).square().mean(dim=(1, 2, 3, 4))
    return float(10 * error.log10().mean())


def train_vae(plan: Plan, begun: AutoencoderKLWan | None = None) -> AutoencoderKLWan:
    """Train the VAE and fold its latents to the released VAE's scale.

    Args:
        plan: budget and settings.
        begun: begin with this one, at the last stage, instead of a fresh one; changed in place.
    """
    torch.manual_seed(plan.seed)
    if begun is None:
        vae = tiny_vae()
        initialise(vae)
    else:
        vae = begun.requires_grad_(True).train()
        mean, spread = (tensor.flatten() for tensor in latent_scale(vae, torch.zeros(LATENT_CHANNELS)))
        fold_scale(vae, mean, spread, (torch.zeros_like(mean), torch.ones_like(spread)))
    first = 0 if begun is None else STAGES[-1][0]
    for parameter in vae.parameters():
        if parameter.ndim == 5:  # the layout in which CPUs run these convolutions fastest
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last_3d)
    vae.to(plan.device)
    pool = ClipPool(plan.seed, STAGES)

    def loss_of(step: int) -> Tensor:
        step += first
        torch.manual_seed(plan.seed * 10**7 + step)
        pixels = pool.pixels_of(step).to(plan.device).contiguous(memory_format=torch.channels_last_3d)
        end_image = pixels.shape[2] > 1 and step % END_IMAGE_EVERY == END_IMAGE_TURN
        with half_precision(plan.device):
            return vae_loss(vae, pixels, end_image)

    return folded(train(vae, plan, loss_of, held_out_score(HELD_OUT_FRAMES, plan.device)).cpu(), plan.seed)


def train_decoder(plan: Plan, vae: AutoencoderKLWan) -> AutoencoderKLWan:
    """Train the decoder alone on clips as long as it looks back over, or go on, so that it may run for ever.

    The encoder forgets in time, the decoder does not: behind the length it was trained on it looks at frames where it
    had only ever seen the nothing before a clip, and colours turn.

    Args:
        plan: budget and settings.
        vae: a finished one, changed in place; its latents stay what they are.
    """
    torch.manual_seed(plan.seed)
    vae.train()
    for part in (vae.decoder, vae.post_quant_conv):
        part.requires_grad_(True)
    for parameter in vae.parameters():
        if parameter.ndim == 5:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last_3d)
    vae.to(plan.device)
    pool = ClipPool(plan.seed + DECODER_SEED, DECODER_STAGES)

    def loss_of(step: int) -> Tensor:
        torch.manual_seed(plan.seed * 10**7 + step)
        pixels = pool.pixels_of(step).to(plan.device).contiguous(memory_format=torch.channels_last_3d)
        with half_precision(plan.device):
            return decoder_loss(vae, pixels)

    return train(vae, plan, loss_of, held_out_score(DECODER_FRAMES, plan.device)).cpu()


def held_out_score(frames: int, device: str) -> Callable[[nn.Module], float]:
    """Return the score of a VAE on clips of so many frames that it was not trained on: minus the PSNR in dB."""
    clips = render(draw_clips(HELD_OUT_CLIPS, HELD_OUT_SEED), frames).permute(0, 4, 1, 2, 3) * 2 - 1
    clips = clips.to(device)
    return lambda module: psnr_loss(module, clips)


@torch.no_grad()
def folded(vae: AutoencoderKLWan, seed: int) -> AutoencoderKLWan:
    """Measure the latents' mean and spread over a set of clips and fold them to the released VAE's."""
    quant = vae.quant_conv  # nothing reads the log variances in training
    quant.weight[LATENT_CHANNELS:] = 0
    quant.bias[LATENT_CHANNELS:] = LOG_VARIANCE
    clips = draw_clips(FOLD_CLIPS, seed * 10**7 + 5 * 10**6)
    parts = []
    for first in range(0, FOLD_CLIPS, 8):
        pixels = render(clips[slice(first, first + 8)], FOLD_FRAMES).permute(0, 4, 1, 2, 3) * 2 - 1
        parts.append(encode_moments(vae, pixels)[:, :LATENT_CHANNELS])
    spread, mean = torch.std_mean(torch.cat(parts), dim=(0, 2, 3, 4))
    fold_scale(vae, mean, spread)
    return vae
