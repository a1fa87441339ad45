"""The training loop that the three tiny models share: AdamW, warm-up and cosine, a running average, checkpoints.

It knows no model: it is given a module, a function that returns the loss of a step, and one that returns a held-out
score. The budget is minutes, not steps, so that a laptop and a GPU both end with a fully decayed learning rate.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn
from tqdm import tqdm

from demo.processor import has_bfloat16

WARM_UP_STEPS = 100
LAST_RATE = 0.02  # of the learning rate, at the end
SAVE_SECONDS = 60.0
CHECK_STEPS = 500  # between held-out scores
GRADIENT_NORM = 1.0

Module = TypeVar("Module", bound=nn.Module)


class Stage(Protocol):
    """A part of a training; it knows its first step."""

    @property
    def first_step(self) -> int:
        """From which step on."""


SomeStage = TypeVar("SomeStage", bound=Stage)


def stage_at(stages: Sequence[SomeStage], step: int) -> SomeStage:
    """Return the stage that a step belongs to; the first begins at 0, each of the others behind the one before it."""
    return next(stage for stage in reversed(stages) if step >= stage.first_step)


@dataclass(frozen=True)
class Plan:
    """How long and how to train one model.

    Attributes:
        name: of the model; its checkpoint is `<name>.pt` in the folder.
        folder: where checkpoints go.
        minutes: budget, summed over all resumed runs.
        learning_rate: at its highest.
        device: "cpu" or "cuda".
        seed: of weights and data.
        resume: go on from the checkpoint if there is one.
        averaging: share of the running average that a step keeps, once it has warmed up.
        max_steps: stop here at the latest.
    """

    name: str
    folder: Path
    minutes: float
    learning_rate: float
    device: str = "cpu"
    seed: int = 0
    resume: bool = False
    averaging: float = 0.999
    max_steps: int = 10**9

    @property
    def checkpoint(self) -> Path:
        """The checkpoint's file."""
        return self.folder / f"{self.name}.pt"


class Average(Generic[Module]):
    """A running average of a module's weights: what is kept and judged."""

    def __init__(self, module: Module):
        self.module = deepcopy(module).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, module: nn.Module, step: int, share: float) -> None:
        """Move towards the module; early on by more, so that the random start is forgotten."""
        share = min(share, (step + 1) / (step + 10))
        for kept, new in zip(self.module.parameters(), module.parameters(), strict=True):
            kept.lerp_(new, 1 - share)


def half_precision(device: str) -> AbstractContextManager[None]:
    """Return bfloat16's autocast where that is quick: it needs no loss scaling. CPUs without its instructions crawl."""
    return torch.autocast(device, torch.bfloat16, enabled=device != "cpu" or has_bfloat16())


def rate(step: int, done: float) -> float:
    """Return the learning rate's factor: linear warm-up over steps, then a cosine over the share of the budget."""
    cosine = LAST_RATE + (1 - LAST_RATE) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
    return min(1.0, (step + 1) / WARM_UP_STEPS) * cosine


def train(module: Module, plan: Plan, loss_of: Callable[[int], Tensor], score: Callable[[Module], float]) -> Module:
    """Train until the budget is spent.

    Args:
        module: on the plan's device; its trainable parameters are changed in place.
        plan: budget and settings.
        loss_of: the loss of step i; it draws its data from `plan.seed` and i, so that a resumed run goes on.
        score: a held-out number for the progress bar (lower is better), given the averaged module.

    Returns:
        The averaged module.
    """
    trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
    decayed = [parameter for parameter in trainable if parameter.ndim > 1]
    others = [parameter for parameter in trainable if parameter.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=plan.learning_rate, betas=(0.9, 0.98), fused=True)
    average, step, spent = Average(module), 0, 0.0
    if plan.resume and plan.checkpoint.exists():
        step, spent = restore(plan.checkpoint, module, average, optimizer)
    budget, started = plan.minutes * 60, time.monotonic() - spent
    saved, held_out = spent, math.nan
    with tqdm(desc=plan.name, unit="step", initial=step, mininterval=5) as bar:
        while spent < budget and step < plan.max_steps:
            for group in optimizer.param_groups:
                group["lr"] = plan.learning_rate * rate(step, spent / budget)
            loss = loss_of(step)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(trainable, GRADIENT_NORM)
            optimizer.step()
            average.update(module, step, plan.averaging)
            step, spent = step + 1, time.monotonic() - started
            bar.update()
            if step % CHECK_STEPS == 0:
                held_out = score(average.module)
            if step % 20 == 0:
                bar.set_postfix(loss=f"{loss.item():.4f}", held_out=f"{held_out:.4f}", done=f"{spent / budget:.0%}")
            if spent - saved > SAVE_SECONDS:
                save(plan.checkpoint, module, average, optimizer, step, spent)
                saved = spent
    save(plan.checkpoint, module, average, optimizer, step, spent)
    print(f"{plan.name}: {step} steps in {spent / 60:.1f} minutes, held out {score(average.module):.4f}", flush=True)
    return average.module


def save(
    path: Path, module: nn.Module, average: Average, optimizer: torch.optim.Optimizer, step: int, spent: float
) -> None:
    """Write a checkpoint; the old one stays whole until the new one is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    state = {"module": module.state_dict(), "average": average.module.state_dict(), "step": step, "spent": spent}
    torch.save({**state, "optimizer": optimizer.state_dict()}, partial)
    partial.replace(path)


def restore(path: Path, module: nn.Module, average: Average, optimizer: torch.optim.Optimizer) -> tuple[int, float]:
    """Read a checkpoint; return the step to go on with and the seconds spent."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    module.load_state_dict(state["module"])
    average.module.load_state_dict(state["average"])
    optimizer.load_state_dict(state["optimizer"])
    return state["step"], state["spent"]
