"""The ways to a long video with the embedded models, each as a source of a video whose prompt changes three times.

`demo.score_methods` measures what comes out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from demo.generate import LATENT_SHAPE, Settings, make_latents
from demo.models import Models
from wan_core.long.moving_window import MovingWindow, WindowTask, plan_moving_window
from wan_core.long.plan import Plan, Wanted
from wan_core.long.rolling import RollingCalls, RollingRow, Window, block_noise, roll_out, split_known
from wan_core.long.rolling_video import CHANGES, RollingTask, RollingVideo, cut_at, cuts_of, plan_rolling
from wan_core.long.rollout import Rollout, Segments, Task, seeded
from wan_core.long.segments import plan_segments
from wan_core.long.sources import Source
from wan_core.model.geometry import WAN21
from wan_core.sampling.denoise import model_denoise
from wan_core.sampling.loop import sample
from wan_core.sampling.run import ForcingOptions, Row
from wan_core.sampling.sigmas import flow_sigmas

WINDOW, OVERLAP = 37, 17  # video frames: what the embedded model was trained on, and a segment carries over
BLOCK = 5  # latent frames
SIGHT = Window(10)  # latent frames of a rolling chunk's window
DIRECTIONS = (("to the right", "right"), ("up", "up"), ("to the left", "left"), ("down", "down"))


@dataclass(frozen=True)
class Way:
    """A method and what is chosen of it.

    Attributes:
        name: for the table.
        make: `(models, prompts, plan's frames, seed, settings) -> source`.
    """

    name: str
    make: Callable[[Models, list[str], int, int, Settings], Source]


def quarter(first: int, frames: int) -> int:
    """Return which of the four prompts a latent frame has."""
    return min(first * len(DIRECTIONS) // WAN21.latent_frames(frames), len(DIRECTIONS) - 1)


def conditions_of(plan: Plan) -> tuple[int, ...]:
    """Return the number of the prompt of every place: a quarter of the video each."""
    return tuple(quarter(first, plan.total_frames) for first, _ in plan.places)


def in_segments(models: Models, prompts: list[str], frames: int, seed: int, settings: Settings) -> Source:
    """Return the source of a video in segments."""
    plan = plan_segments(Wanted(frames, WINDOW, OVERLAP, steps=settings.steps))

    def segment(task: Task) -> Tensor:
        return make_latents(models, [prompts[task.condition]], task.noise, settings, task.known)

    noise = seeded((seed,) * len(plan.segments))
    return Segments(Rollout(plan, (1, *LATENT_SHAPE), noise, conditions=conditions_of(plan)), segment)


def by_window(models: Models, prompts: list[str], frames: int, seed: int, settings: Settings) -> Source:
    """Return the source of a video by a moving window."""
    plan = plan_moving_window(Wanted(frames, WINDOW, causal_block_size=BLOCK, ar_step=0, steps=settings.steps))
    embedded = models.embed(["", *prompts])

    def window(task: WindowTask) -> tuple[Tensor, Tensor]:
        weights = {number: weight[None, None, :, None, None] for number, weight in task.weights.items()}

        def denoise(x: Tensor, levels: Tensor, row: Row) -> Tensor:
            shown = slice(row.start, row.end)
            answers = {
                number: model_denoise(velocity, embedded[[number + 1]], embedded[:1], settings.guidance)(x, levels, row)
                for number, weight in weights.items()
                if bool(weight[:, :, row.runs[0][0] : row.busy_end].any())
            }
            made = [answer * weights[number][:, :, shown] for number, answer in answers.items()]
            return torch.stack(made).sum(dim=0)

        def velocity(x: Tensor, t: Tensor, context: Tensor, _row: Row) -> Tensor:
            return models.dit(x, t, context, fps=settings.fps)

        left: list[Tensor] = []
        made = sample(
            denoise, task.noise, task.run, task.known, fresh_noise=task.fresh, begun=task.begun, left=left.append
        )
        return made, left[0]

    sigmas = flow_sigmas(settings.steps, settings.shift)
    return MovingWindow(
        plan, (1, *LATENT_SHAPE), ForcingOptions(), sigmas, (seed,), window, conditions=conditions_of(plan)
    )  # fmt: skip


def rolling(at_change: str) -> Callable[[Models, list[str], int, int, Settings], Source]:
    """Return what makes the source of a rolling video with one of the choices at a change of prompt."""

    def make(models: Models, prompts: list[str], frames: int, seed: int, settings: Settings) -> Source:
        plan = plan_rolling(Wanted(frames, steps=settings.steps), SIGHT, BLOCK)
        conditions = conditions_of(plan)
        plan = cut_at(plan, SIGHT, cuts_of(plan, conditions))
        embedded = models.embed(["", *prompts])
        sigmas = flow_sigmas(settings.steps, settings.shift)

        def chunk(task: RollingTask) -> Tensor:
            sizes = [*split_known(task.sink, BLOCK), *split_known(task.known.shape[2] - task.sink, BLOCK)]
            number = next(iter(task.weights))
            froms = [task.made_from[end - 1] for end in torch.tensor(sizes, dtype=torch.int64).cumsum(0).tolist()]
            with RollingCalls(models.dit, len(models.dit.blocks), SIGHT) as calls:

                def velocity(x: Tensor, t: Tensor, _context: Tensor, row: RollingRow) -> Tensor:
                    own = froms[row.block] if row.block < len(froms) and froms[row.block] >= 0 else number
                    asked, plain = x.chunk(2)
                    return torch.cat(
                        [
                            calls(asked, t[:1], row, "prompt", context=embedded[[own + 1]], fps=settings.fps),
                            calls(plain, t[:1], row, "none", context=embedded[:1], fps=settings.fps),
                        ]
                    )  # fmt: skip

                denoise = model_denoise(velocity, embedded[:1], embedded[:1], settings.guidance)
                shape = (1, LATENT_SHAPE[0], BLOCK, *LATENT_SHAPE[1:])
                noise = (
                    block_noise(shape, task.seed, settings.steps, task.first + at, "unipc")
                    for at in range(0, task.new, BLOCK)
                )
                known = task.known.split(sizes, dim=2) if sizes else ()
                jump = (len(split_known(task.sink, BLOCK)), task.position)
                made = list(roll_out(denoise, noise, sigmas, SIGHT, "unipc", known, jump=jump))
            return torch.cat(made, dim=2)[:, :, : task.new]

        return RollingVideo(
            plan, (1, *LATENT_SHAPE), SIGHT, (seed,), chunk, {}, conditions, at_change=at_change
        )  # fmt: skip

    return make


WAYS = (
    Way("segments", in_segments),
    Way("moving window", by_window),
    *(Way(f"rolling, {how}", rolling(how)) for how in CHANGES),
)
