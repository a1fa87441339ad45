"""Training of the tiny transformer by diffusion forcing: rectified flow with a noise level for every latent frame.

It begins mostly with single pictures, in small batches: what a caption says about colour, shape and background is
learned from them, outlines take the most steps, and a picture costs a tenth of a clip. Then come windows of many
lengths, some from the middle of a clip, where the first latent frame is an ordinary one, as in a long video made in
segments; some whose known frames show another motion than the caption, as where a prompt changes; some that change
their pace to be where a given end wants them; a share of block-causal attention; a share without text, for guidance.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from demo.captions import LANGUAGES, caption
from demo.dit import fresh_dit
from demo.latents import alone
from demo.noise_levels import draw_levels
from demo.pool import CLIP_LATENTS, Pool
from demo.text import TextEncoder, tokenize
from demo.training import Plan, half_precision, stage_at, train
from wan_core.model.wan_model import WanModel

# latent frames of a window and of a causal block (0: attention both ways); few enough that a compiled model is compiled
# for each
CASES = ((1, 0), (3, 0), (10, 0), (10, 5), (10, 1))
LONGEST = 10
MIDDLE_SHARE = 0.25  # of windows that do not begin where a clip begins
NO_TEXT_SHARE = 0.1
WORDINGS = 8  # captions of a clip
# of clips with known frames behind the start: the first of a row is encoded as a single picture, as an image is that is
# given for an end, and the start that a loop leads back to
STILL_SHARE = 0.75
HELD_OUT_SEED = 10**6
ROWS_SEED = 5 * 10**8
HELD_OUT_DRAWS = 6
TIMESTEPS = 1000


@dataclass(frozen=True)
class Stage:
    """A part of the training.

    Attributes:
        first_step: from which step on.
        latent_frames: of all clips of a step together.
        shares: of the steps that get each of CASES.
    """

    first_step: int
    latent_frames: int
    shares: tuple[float, ...]


STAGES = (
    Stage(0, 32, (0.8, 0.1, 0.06, 0.03, 0.01)),
    Stage(7_000, 80, (0.2, 0.15, 0.4, 0.18, 0.07)),
    Stage(11_000, 80, (0.1, 0.1, 0.6, 0.13, 0.07)),
    Stage(18_000, 80, (0.15, 0.05, 0.6, 0.13, 0.07)),
    Stage(33_000, 80, (0.12, 0.04, 0.45, 0.33, 0.06)),
    Stage(45_000, 80, (0.11, 0.03, 0.33, 0.47, 0.06)),
    Stage(54_000, 80, (0.08, 0.03, 0.41, 0.43, 0.05)),
)


class Prompts:
    """Captions of clips through the text encoder, in changing words; what was encoded once is kept."""

    def __init__(self, encoder: TextEncoder, device: str):
        self.encoder, self.device = encoder.to(device), device
        self.kept: dict[str, Tensor] = {}

    @torch.no_grad()
    def __call__(self, texts: list[str]) -> Tensor:
        """Return the tokens [B, TEXT_TOKENS, TEXT_DIM] of texts."""
        new = sorted(set(texts) - self.kept.keys())
        if new:
            with half_precision(self.device):
                tokens = self.encoder(torch.cat([tokenize(text) for text in new]).to(self.device)).float()
            self.kept.update(zip(new, tokens, strict=True))
        return torch.stack([self.kept[text] for text in texts])

    def of_clips(self, pool: Pool, rows: Tensor, seed: int, silent: Tensor) -> Tensor:
        """Return the tokens of captions in either language; some are empty, and those of `silent` [B] are."""
        choice = random.Random(f"captions {seed}")
        texts = []
        for row, no_text in zip(rows.tolist(), silent.tolist(), strict=True):
            wording = random.Random(f"{row} {choice.randrange(WORDINGS)}")
            text = caption(pool.clips.words(row), wording.choice(LANGUAGES), wording)
            texts.append("" if choice.random() < NO_TEXT_SHARE or no_text else text)
        return self(texts)


def forcing_loss(
    model: nn.Module,
    clean: Tensor,
    context: Tensor,
    fps: Tensor,
    causal: int,
    generator: torch.Generator,
    former: Tensor,
    led: Tensor,
) -> Tensor:
    """Return the squared error of the velocity over all frames that have to be made.

    Args:
        model: the transformer.
        clean: latents [B, 16, F, 8, 8]; some of the known frames behind the start are replaced by single pictures.
        context: text tokens [B, TEXT_TOKENS, TEXT_DIM].
        fps: int64 [B].
        causal: latent frames of a causal block, 0 for attention both ways.
        generator: of levels and noise, on the CPU.
        former: int64 [B], frames at the start that show another motion than the text says, and so are known.
        led: int64 [B, 2], changes of pace that only a known end explains, see draw_levels.
    """
    levels, made = draw_levels(len(clean), clean.shape[2], generator, former, led)
    first_known = ~made[:, 1:] & made[:, :-1]  # behind a frame that is made
    pictured = functional.pad(first_known, (1, 0)) & (torch.rand(len(clean), 1, generator=generator) < STILL_SHARE)
    clean = torch.where(pictured[:, None, :, None, None].to(clean.device), alone(clean), clean)
    noise = torch.randn(clean.shape, generator=generator).to(clean.device)
    levels, made = levels.to(clean.device), made.to(clean.device)
    noisy = torch.lerp(clean, noise, levels[:, None, :, None, None])
    with half_precision(clean.device.type):
        velocity = model(noisy, levels * TIMESTEPS, context, fps=fps, causal_block_size=causal)
    error = (velocity.float() - (noise - clean)).square().mean(dim=(1, 3, 4))  # [B, F]
    return (error * made).sum() / made.sum().clamp(min=1)


def compile_blocks(model: WanModel) -> None:
    """Compile the blocks in place, once for each case: on a CPU a step then takes less than half the time."""
    torch._dynamo.config.cache_size_limit = 8 * len(CASES)
    for block in model.blocks:
        block.compile(dynamic=False)


def train_dit(
    plan: Plan,
    encoder: TextEncoder,
    pool: Pool,
    checked: Pool,
    compiled: bool,
    model: WanModel | None = None,
    first: int = 0,
) -> WanModel:
    """Train the transformer from nothing, or go on.

    Args:
        plan: budget and settings.
        encoder: the trained text encoder.
        pool: clips to learn from.
        checked: clips held out.
        compiled: whether to compile the blocks; it needs a C++ compiler.
        model: begin with this one instead of a fresh one.
        first: step of the recipe to begin at.
    """
    torch.manual_seed(plan.seed)
    model = (model or fresh_dit()).requires_grad_(True).train().to(plan.device)
    if compiled:
        compile_blocks(model)
    prompts = Prompts(encoder, plan.device)

    def loss_on(module: nn.Module, source: Pool, case: tuple[int, int], rows: Tensor, seed: int) -> Tensor:
        frames, causal = case
        generator = torch.Generator().manual_seed(seed)
        choice = random.Random(f"window {seed}")
        start = choice.randint(1, CLIP_LATENTS - frames) if choice.random() < MIDDLE_SHARE else 0
        if frames == 1:  # a picture, of any frame
            shown = torch.randint(CLIP_LATENTS, (len(rows),), generator=generator)
            clean = alone(source.latents[rows, :, shown, None].float()).to(plan.device)
            former = torch.zeros_like(rows)
        else:
            clean = source.latents[rows, :, start : start + frames].float().to(plan.device)
            former = (source.former[rows] - start).clamp(min=0)
        changes = source.surges[rows]
        led = torch.where(changes.any(dim=1, keepdim=True) & (frames > 1), changes - start, 0)
        silent = former >= frames  # nothing is seen of what the caption says
        context, fps = prompts.of_clips(source, rows, seed, silent), source.clips.fps[rows].to(plan.device)
        return forcing_loss(module, clean, context, fps, causal, generator, former.masked_fill(silent, 0), led)

    def loss_of(step: int) -> Tensor:
        step += first
        seed = plan.seed * 10**7 + step
        stage = stage_at(STAGES, step)
        case = random.Random(f"case {seed}").choices(CASES, stage.shares)[0]
        count = stage.latent_frames // case[0]
        chances = pool.chances(causal=bool(case[1]))
        rows = chances.multinomial(count, replacement=True, generator=torch.Generator().manual_seed(ROWS_SEED + seed))
        return loss_on(model, pool, case, rows, seed)

    @torch.no_grad()
    def score(module: nn.Module) -> float:
        rows = torch.arange(len(checked.clips))
        seeds = range(HELD_OUT_SEED, HELD_OUT_SEED + HELD_OUT_DRAWS)
        losses = [float(loss_on(module, checked, (LONGEST, 0), rows, seed)) for seed in seeds]
        return sum(losses) / len(losses)

    return train(model, plan, loss_of, score).cpu()
