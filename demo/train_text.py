"""Training of the tiny text encoder: it learns to say what a caption is about before the transformer listens to it.

Its first four tokens each answer for one attribute, through a linear reader that is thrown away afterwards; an
attribute that the caption leaves open has an answer of its own. So the transformer starts from text that is already
understood, which saves most of the training that text costs it.
"""

from __future__ import annotations

import random

import torch
from torch import Tensor, nn
from torch.nn import functional

from demo import shapes
from demo.captions import LANGUAGES, Words, caption, parse
from demo.text import TEXT_DIM, TextEncoder, tokenize
from demo.training import Plan, train

ANSWERS: dict[str, tuple[str, ...]] = {
    "shape": shapes.SHAPES,
    "colour": tuple(shapes.COLOURS),
    "background": tuple(shapes.BACKGROUNDS),
    "motion": shapes.MOTIONS,
}
CAPTIONS_PER_STEP = 64
FREE_SHARE = 0.15  # of captions that are only a few of the words, or none
HELD_OUT_SEED = 10**6
HELD_OUT_CAPTIONS = 256


class Reader(nn.Module):
    """The encoder and a linear answer for every attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = TextEncoder()
        self.answers = nn.ModuleList([nn.Linear(TEXT_DIM, len(names) + 1) for names in ANSWERS.values()])

    def forward(self, ids: Tensor) -> list[Tensor]:
        """Return the logits [B, answers + 1] of every attribute; the last answer is: not said."""
        tokens = self.encoder(ids)
        return [answer(tokens[:, number]) for number, answer in enumerate(self.answers)]


def draw_words(choice: random.Random) -> Words:
    """Draw the attributes of a clip."""
    return {kind: choice.choice(names) for kind, names in ANSWERS.items()}


def draw_caption(choice: random.Random) -> str:
    """Draw a caption; some are in loose words, as people write them."""
    text = caption(draw_words(choice), choice.choice(LANGUAGES), choice)
    if choice.random() < FREE_SHARE:
        # any stretch of a caption is a prompt too; what is cut through is not said
        start, end = sorted(choice.choices(range(len(text) + 1), k=2))
        text = text[start:end]
    return text


def answers_to(text: str) -> list[int]:
    """Return the number of the right answer for every attribute."""
    said = parse(text)
    return [names.index(said[kind]) if kind in said else len(names) for kind, names in ANSWERS.items()]


def batch(seed: int, count: int) -> tuple[Tensor, Tensor]:
    """Return captions as bytes [count, MAX_BYTES] and their answers [count, attributes]."""
    choice = random.Random(seed)
    texts = [draw_caption(choice) for _ in range(count)]
    return torch.cat([tokenize(text) for text in texts]), torch.tensor([answers_to(text) for text in texts])


def reading_loss(reader: Reader, ids: Tensor, answers: Tensor) -> Tensor:
    """Return the mean cross entropy of the answers."""
    losses = [functional.cross_entropy(said, answers[:, number]) for number, said in enumerate(reader(ids))]
    return torch.stack(losses).mean()


@torch.no_grad()
def wrong_share(reader: nn.Module, ids: Tensor, answers: Tensor) -> float:
    """Return the share of answers that are wrong."""
    said = torch.stack([logits.argmax(dim=1) for logits in reader(ids)], dim=1)
    return float((said != answers).float().mean())


def train_text(plan: Plan) -> TextEncoder:
    """Train the encoder from nothing, or go on, and return it without its reader."""
    torch.manual_seed(plan.seed)
    reader = Reader().to(plan.device)
    ids, answers = (tensor.to(plan.device) for tensor in batch(HELD_OUT_SEED, HELD_OUT_CAPTIONS))

    def loss_of(step: int) -> Tensor:
        drawn = batch(plan.seed * 10**7 + 2 * HELD_OUT_SEED + step, CAPTIONS_PER_STEP)
        return reading_loss(reader, *(tensor.to(plan.device) for tensor in drawn))

    trained = train(reader, plan, loss_of, lambda module: wrong_share(module, ids, answers))
    return trained.encoder.cpu()
