"""`python dev.py score --methods`: how the ways to a long video follow a prompt that changes, measured on pixels.

A minute has four prompts, each of which gives one shape a new direction. For each change it is measured whether the
direction is seen within the block where the prompt's time begins, after how many video frames, and how far the shape
jumps; and for each minute what its seams, its drift and its making cost. Every minute is kept when it is made, so that
an interrupted run resumes, and more scenes can be added to a file.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from demo.files import WEIGHTS
from demo.generate import Settings
from demo.measure import look, steps_of
from demo.methods import BLOCK, DIRECTIONS, WAYS, Way, conditions_of
from demo.models import Models, load_models
from demo.score_long import FPS, MINUTE, Minute, colour_of, finite, minute_of, step_errors
from demo.sheet import contact_sheet
from wan_core.errors import SkyReelsError
from wan_core.long.plan import Plan
from wan_core.long.sources import Source, roll_out
from wan_core.model.geometry import WAN21
from wan_core.video.writer import save_png

SEED = 9_000_000
SECOND = 24  # video frames after a change in which its direction has to be seen
LOOKED_AT = 10  # video frames that tell a direction
WHOLE_BLOCK = BLOCK * WAN21.temporal  # video frames
EDGE = 37  # video frames at either end whose colours are compared
SCENES = (
    ("a red circle", "black"),
    ("a blue square", "white"),
    ("a yellow star", "grey"),
    ("a green square", "black"),
    ("a red star", "white"),
    ("a blue circle", "grey"),
)
QUICK = 241  # video frames
SHOWN = 16  # frames of a minute in the picture
HEAD = (
    "| method | model calls | seconds | followed in its block | in the second after | after, video frames | "
    "jump at the change, px, mean / largest | step error at seams / inside, px | colour drift, of 255 |\n"
    "|---|---|---|---|---|---|---|---|---|"
)


@dataclass(frozen=True)
class Scored:
    """What was measured of one video.

    Attributes:
        way: the method.
        scene: number of the scene.
        frames: of the video.
        calls: of the model.
        seconds: to make its latents.
        late: of every change, after how many video frames its direction is seen; None if not in the second after it.
        jumps: of every change, see `jump_at`.
        seams: mean error of a step that leads over a seam, in pixels; see `score_long.step_errors`.
        inside: of the other steps.
        drift: distance of the shape's colours at the beginning and at the end, 0..255.
    """

    way: str
    scene: int
    frames: int
    calls: int
    seconds: float
    late: list[int | None]
    jumps: list[float]
    seams: float
    inside: float
    drift: float


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


def in_block(late: int | None) -> bool:
    """Say whether a direction was seen within the block where its prompt's time begins."""
    return late is not None and late + LOOKED_AT <= WHOLE_BLOCK


def jump_at(pixels: Tensor, change: int) -> float:
    """Return the largest step of the shape around a change, in pixels, less the usual one around it."""
    near = steps_of(look(pixels[change - 12 : change + 12], FPS).centres).norm(dim=1)
    return float(near[9:15].nan_to_num().max() - near.nanmedian())


@torch.inference_mode()
def made(models: Models, source: Source) -> tuple[Minute, float]:
    """Make a video; return it and the seconds that its latents took."""
    started = time.monotonic()
    pieces = tqdm(roll_out(source), total=len(source.plan.segments), unit="segment")
    latents = torch.cat([finished.latents for finished in pieces], dim=2)
    seconds = time.monotonic() - started
    return minute_of(models, latents, source.plan), seconds


def score(models: Models, way: Way, frames: int, scene: int) -> tuple[Scored, Tensor]:
    """Make a video and measure it; return its pixels [N, 64, 64, 3] too."""
    thing, background = SCENES[scene]
    prompts = [f"{thing} moving {direction} on a {background} background" for direction, _ in DIRECTIONS]
    source = way.make(models, prompts, frames, SEED + scene, Settings(fps=FPS))
    minute, seconds = made(models, source)
    pixels, changes = minute.pixels, changes_of(source.plan)
    seams, inside = (finite(errors) for errors in step_errors(minute))
    colours = [colour_of(part) for part in (pixels[:EDGE], pixels[-EDGE:])]
    return Scored(
        way.name, scene, frames, source.plan.rows, round(seconds, 1),
        [heard_after(pixels, change, direction) for change, direction in changes],
        [round(jump_at(pixels, change), 2) for change, _ in changes],
        round(float(seams.mean()), 3), round(float(inside.mean()), 3),
        round(float((colours[0] - colours[1]).norm()), 2),
    ), pixels  # fmt: skip


def line_of(way: str, scores: list[Scored]) -> str:
    """Return a method's line of the table."""
    late = [each for scored in scores for each in scored.late]
    jumps = [each for scored in scores for each in scored.jumps]
    heard = [each for each in late if each is not None]

    def mean(values: Iterable[float]) -> float:
        found = list(values)
        return sum(found) / max(len(found), 1)

    return (
        f"| {way} | {scores[0].calls} | {mean(each.seconds for each in scores):.0f} | "
        f"{sum(map(in_block, late))} of {len(late)} | {len(heard)} of {len(late)} | {mean(heard):.1f} | "
        f"{mean(jumps):.1f} / {max(jumps):.1f} | {mean(each.seams for each in scores):.2f} / "
        f"{mean(each.inside for each in scores):.2f} | {mean(each.drift for each in scores):.1f} |"
    )


def table(scores: list[Scored]) -> str:
    """Return all that was measured as a table."""
    lines = [HEAD]
    for way in WAYS:
        if mine := [each for each in scores if each.way == way.name]:
            lines.append(line_of(way.name, mine))
    return "\n".join(lines)


def page(scores: list[Scored]) -> str:
    """Return all that was measured as a page; every line says of how many scenes it is."""
    about = (
        "# Prompts over time, by method\n\n"
        "`python dev.py score --methods --keep benchmarks/results/methods-minute.json`: minutes of video with the\n"
        "embedded model, four prompts that change the direction of one shape (right, up, left, down), 20 steps,\n"
        "cfg 4. A block is 20 video frames. A direction counts as seen where ten video frames show it. 5 pixels would\n"
        "be a jump.\n\n"
    )
    each = {way.name: sum(scored.way == way.name for scored in scores) for way in WAYS}
    made = ", ".join(f"{name} {count}" for name, count in each.items() if count)
    return f"{about}{table(scores)}\n\n{scores[0].frames} video frames; scenes: {made}.\n"


def kept(path: Path | None) -> list[Scored]:
    """Return what an earlier run measured."""
    if path is None or not path.exists():
        return []
    found: list[dict[str, Any]] = json.loads(path.read_text("utf-8"))
    return [Scored(**each) for each in found]


def main(arguments: list[str] | None = None) -> int:
    """Score, print the table and return the exit code."""
    parser = argparse.ArgumentParser(prog="dev.py score --methods", description="Score prompts over time by method.")
    parser.add_argument("--quick", action="store_true", help="some seconds in place of a minute, one scene")
    parser.add_argument("--scenes", type=int, default=3, help=f"how many of the scenes, 1 to {len(SCENES)}")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="folder of the three models")
    parser.add_argument("--keep", type=Path, help="JSON file to add to; results already in it are skipped")
    parser.add_argument("--strips", type=Path, help="folder for a row of frames of each method, of the first scene")
    options = parser.parse_args(arguments)
    try:
        models = load_models(options.weights)
    except SkyReelsError as error:
        print(f"score: {error}", file=sys.stderr)
        return 1
    frames, scenes = (QUICK, 1) if options.quick else (MINUTE, options.scenes)
    scores = [each for each in kept(options.keep) if each.frames == frames]
    for scene in range(scenes):
        for way in WAYS:
            if any((each.way, each.scene) == (way.name, scene) for each in scores):
                continue
            scored, pixels = score(models, way, frames, scene)
            scores.append(scored)
            if options.strips is not None and scene == 0:
                shown = ((torch.arange(SHOWN) + 0.5) * len(pixels) / SHOWN).long()
                save_png(options.strips / f"{WAYS.index(way)}.png", contact_sheet(pixels[shown], SHOWN))
            if options.keep is not None:
                options.keep.write_text(json.dumps([asdict(each) for each in scores], indent=1) + "\n", "utf-8")
                options.keep.with_suffix(".md").write_text(page(scores), "utf-8")
            print(line_of(way.name, [scored]), file=sys.stderr, flush=True)
    print(f"{table(scores)}\n\n{frames} video frames, {scenes} scenes")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
