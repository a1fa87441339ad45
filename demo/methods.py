"""The ways to a long video with the embedded models, and `python dev.py score --methods`: how prompts are heard.

A minute has four prompts that change the direction of one shape. For each change it is measured on pixels whether the
new direction is seen in the second after it, after how many video frames, and how far the shape jumps.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from demo.files import WEIGHTS
from demo.generate import LATENT_SHAPE, Settings, make_latents
from demo.measure import look, steps_of
from demo.models import Models, load_models
from demo.sheet import contact_sheet
from demo.vae import latent_scale
from wan_core.errors import SkyReelsError
from wan_core.long.moving_window import MovingWindow, WindowTask, plan_moving_window
from wan_core.long.plan import Plan, Wanted
from wan_core.long.rolling import RollingCalls, RollingRow, Window, block_noise, roll_out, split_known
from wan_core.long.rolling_video import CHANGES, RollingTask, RollingVideo, cut_at, cuts_of, plan_rolling
from wan_core.long.rollout import Rollout, Segments, Task, seeded
from wan_core.long.segments import plan_segments
from wan_core.long.sources import Source
from wan_core.long.sources import roll_out as make_all
from wan_core.model.geometry import WAN21
from wan_core.sampling.denoise import model_denoise
from wan_core.sampling.loop import sample
from wan_core.sampling.run import ForcingOptions, Row
from wan_core.sampling.sigmas import flow_sigmas
from wan_core.video.writer import save_png

FPS = 24
MINUTE = 1457  # video frames
WINDOW, OVERLAP = 37, 17  # video frames: what the embedded model was trained on, and a segment carries over
BLOCK = 5  # latent frames
SIGHT = Window(10)  # latent frames of a rolling chunk's window
SEED = 9_000_000
SECOND = 24  # video frames after a change in which its direction has to be seen
LOOKED_AT = 10  # video frames that tell a direction
SCENES = (
    ("a red circle", "black"),
    ("a blue square", "white"),
    ("a yellow star", "grey"),
)
DIRECTIONS = (("to the right", "right"), ("up", "up"), ("to the left", "left"), ("down", "down"))
SHEET_FRAMES = 40


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


@torch.inference_mode()
def frames_of(models: Models, source: Source) -> Tensor:
    """Make a video and return its frames [N, 64, 64, 3], 0..1."""
    pieces = tqdm(make_all(source), total=len(source.plan.segments), unit="segment")
    latents = torch.cat([finished.latents for finished in pieces], dim=2)
    mean, spread = latent_scale(models.vae, latents)
    pixels = models.vae.decode(latents * spread + mean).sample[0]  # frame by frame, in constant memory
    return (pixels.permute(1, 2, 3, 0) / 2 + 0.5).clamp(0, 1)[: source.plan.total_frames]


def changes_of(plan: Plan) -> list[tuple[int, str]]:
    """Return the first video frame of every new prompt and its direction."""
    conditions = conditions_of(plan)
    return [
        (plan.place_frames[number][0], DIRECTIONS[conditions[number]][1])
        for number in range(1, len(conditions))
        if conditions[number] != conditions[number - 1]
    ]


def heard_after(pixels: Tensor, change: int, direction: str) -> int | None:
    """Return after how many video frames a new direction is seen, None if not in the second after the change."""
    for late in range(0, SECOND - LOOKED_AT + 1):
        if look(pixels[change + late : change + late + LOOKED_AT], FPS).motion == direction:
            return late
    return None


def jump_at(pixels: Tensor, change: int) -> float:
    """Return the largest step of the shape around a change, in pixels, less the usual one around it."""
    near = steps_of(look(pixels[change - 12 : change + 12], FPS).centres).norm(dim=1)
    return float(near[9:15].nan_to_num().max() - near.nanmedian())


def line_of(models: Models, way: Way, frames: int, scenes: tuple[tuple[str, str], ...], sheet: Path | None) -> str:
    """Score a way and return its line of the table."""
    settings = Settings(fps=FPS)
    late, jumps, tried, calls = [], [], 0, 0
    for number, (thing, background) in enumerate(scenes):
        prompts = [f"{thing} moving {direction} on a {background} background" for direction, _ in DIRECTIONS]
        source = way.make(models, prompts, frames, SEED + number, settings)
        pixels, calls = frames_of(models, source), source.plan.rows
        for change, direction in changes_of(source.plan):
            tried += 1
            seen = heard_after(pixels, change, direction)
            late += [] if seen is None else [seen]
            jumps.append(jump_at(pixels, change))
        if sheet is not None and number == 0:
            shown = torch.linspace(0, len(pixels) - 1, SHEET_FRAMES).long()
            save_png(
                sheet / f"methods_{way.name.replace(', ', '_').replace(' ', '_')}.png", contact_sheet(pixels[shown], 10)
            )
    mean = sum(late) / max(len(late), 1)
    return (
        f"| {way.name} | {calls} | {len(late)} of {tried} | {mean:.1f} | {sum(jumps) / len(jumps):.1f} / "
        f"{max(jumps):.1f} |"
    )


def main(arguments: list[str] | None = None) -> int:
    """Score, print the table and return the exit code."""
    parser = argparse.ArgumentParser(prog="dev.py score --methods", description="Score prompts over time by method.")
    parser.add_argument("--quick", action="store_true", help="some seconds in place of a minute, one scene")
    parser.add_argument("--scenes", type=int, default=len(SCENES), help="how many of the scenes, 1 to 3")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="folder of the three models")
    parser.add_argument("--sheet", type=Path, help="folder for contact sheets")
    options = parser.parse_args(arguments)
    started = time.monotonic()
    try:
        models = load_models(options.weights)
    except SkyReelsError as error:
        print(f"score: {error}", file=sys.stderr)
        return 1
    frames, scenes = (241, SCENES[:1]) if options.quick else (MINUTE, SCENES[: options.scenes])
    print(
        "| method | model calls | new direction seen in the second after its change | after, video frames | jump, px |"
    )
    print("|---|---|---|---|---|")
    for way in WAYS:
        print(line_of(models, way, frames, scenes, options.sheet), flush=True)
    print(f"\n{frames} video frames, {len(scenes)} scenes, {time.monotonic() - started:.0f} s")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
