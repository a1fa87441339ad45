"""`python dev.py score --long`: how well a minute of video holds together, measured on pixels (see demo.measure).

A minute is 72 segments with the embedded models, so a seam that jumps, a colour that drifts or a prompt that is not
heard shows 71 times over. Every way to carry frames over from segment to segment is scored on the same seeds.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from demo.files import WEIGHTS
from demo.generate import LATENT_SHAPE, Settings, clip_noise, make_latents
from demo.measure import foreground, look, psnr, steps_of
from demo.models import Models, load_models
from demo.run import OVERLAP, WINDOW
from demo.shapes import draw_clips, render
from demo.sheet import contact_sheet
from demo.vae import decode, encode, latent_scale
from wan_core.errors import SkyReelsError
from wan_core.long.carry_over import CARRY_OVERS, Pixels
from wan_core.long.plan import Plan, Wanted
from wan_core.long.rollout import Rollout, Segments, Task, known_clip, seeded
from wan_core.long.segments import plan_segments
from wan_core.long.sources import roll_out
from wan_core.model.geometry import WAN21
from wan_core.sampling.schedule import least_ar_step, padded_frames
from wan_core.video.writer import save_png

MINUTE = 1457  # video frames at 24 per second
NEW = WINDOW - OVERLAP  # video frames that a segment adds
LOOP_OVERLAP = 5  # video frames; both ends of a loop's last segment are known, so few leave it room
# of loops: all straight motions go once around in 32 frames, so one of 64 closes by itself and in one of 72 the shape
# has to make up for a quarter of the way
LOOP_FRAMES = (64, 72)
FPS = 24
SEED = 7_000_000
PROMPTS = (
    "a red circle moving to the right on a black background",
    "一个蓝色的正方形在白色背景上向上移动",
    "a yellow star moving to the left on a grey background",
)
CHANGES = (
    ("a green circle moving to the right on a black background", "right"),
    ("a green circle moving up on a black background", "up"),
    ("a green circle moving to the left on a black background", "left"),
)
SHEET_FRAMES = 36
HEAD = "| carried over | mean step error at seams / inside, px | largest | colour drift, of 255 | still what it was |"


@dataclass(frozen=True)
class Way:
    """One way to carry frames over from a segment to the next, or to make the video in one go."""

    name: str
    carry_over: str = "latents"
    drift_control: float = 0.0
    moving: bool = False


WAYS = (
    Way("latents"),
    Way("latents, drift_control 1", drift_control=1.0),
    Way("frames (decoded, encoded)", "frames"),
    Way("no segments: a moving window", moving=True),
)
MOVING_BLOCK = 5  # latent frames


@dataclass(frozen=True)
class Minute:
    """A long video: its frames [N, 64, 64, 3], 0..1, and the first frame of every segment but the first."""

    pixels: Tensor
    seams: list[int]


@torch.inference_mode()
def make(
    models: Models,
    prompts: list[str],
    plan: Plan,
    seed: int,
    settings: Settings,
    way: Way = WAYS[0],
    known: dict[int, Tensor] | None = None,
) -> Minute:
    """Make a long video, in segments.

    Args:
        models: the models.
        prompts: one for all segments, or one for each.
        plan: the segments.
        seed: of the noise.
        settings: how to sample.
        way: how frames are carried over.
        known: given latent frames.
    """
    conditions = tuple(range(len(prompts))) if len(prompts) > 1 else ()
    rollout = Rollout(
        plan, (1, *LATENT_SHAPE), seeded((seed,) * len(plan.segments)), known or {}, conditions,
        drift_control=way.drift_control,
    )  # fmt: skip

    def sample_segment(task: Task) -> Tensor:
        return make_latents(models, [prompts[task.condition]], task.noise, settings, task.known)

    pixels = Pixels(partial(decode, models.vae), partial(encode, models.vae))

    segments = roll_out(Segments(rollout, sample_segment, CARRY_OVERS[way.carry_over](pixels)))
    latents = torch.cat([finished.latents for finished in tqdm(segments, total=len(plan.segments), unit="seg")], dim=2)
    return minute_of(models, latents, plan)


def minute_of(models: Models, latents: Tensor, plan: Plan) -> Minute:
    """Decode the latents [1, 16, F, 8, 8] of a long video."""
    mean, spread = latent_scale(models.vae, latents)
    pixels = models.vae.decode(latents * spread + mean).sample[0]  # frame by frame, in constant memory
    pixels = (pixels.permute(1, 2, 3, 0) / 2 + 0.5).clamp(0, 1)[: plan.total_frames]
    return Minute(pixels, [segment.frames[0] for segment in plan.segments[1:]])


@torch.inference_mode()
def make_moving(models: Models, prompt: str, plan: Plan, seed: int, settings: Settings) -> Minute:
    """Make the frames of a plan in one go, by a window as long as a segment's; the arguments are those of `make`."""
    window = WAN21.latent_of_frame(WINDOW - 1) + 1
    lag = least_ar_step(window, settings.steps, MOVING_BLOCK)
    settings = replace(settings, ar_step=lag, causal_block_size=MOVING_BLOCK, window=window)
    noise = clip_noise([seed], padded_frames(plan.latent_frames, MOVING_BLOCK))
    return minute_of(models, make_latents(models, [prompt], noise, settings), plan)


def step_errors(minute: Minute) -> tuple[Tensor, Tensor]:
    """Return how far each step of the shape is from the usual one of its second, in pixels: at seams, and inside."""
    steps = steps_of(look(minute.pixels, FPS).centres)  # [N - 1, 2]; step n leads to frame n + 1
    windows = torch.nn.functional.pad(steps.T[None], (12, 12), mode="replicate")[0].unfold(1, 25, 1)
    errors = (steps - windows.nanmedian(dim=2).values.T).norm(dim=1)
    at_seam = torch.zeros(len(errors), dtype=torch.bool)
    at_seam[[seam - 1 for seam in minute.seams]] = True
    return errors[at_seam], errors[~at_seam]


def colour_of(pixels: Tensor) -> Tensor:
    """Return the shape's mean colour [3], 0..255, over frames."""
    cover = foreground(pixels)[0] > 0.9
    return pixels[cover].mean(dim=0) * 255


def seam_lines(
    models: Models, plan: Plan, prompts: tuple[str, ...], settings: Settings, sheet: Path | None
) -> list[str]:
    """Score seams and drift of a minute for every way to carry frames over."""
    lines = []
    for way in WAYS:
        inside, seams, drifts, right = [], [], [], 0
        for number, prompt in enumerate(prompts):
            if way.moving:
                minute = make_moving(models, prompt, plan, SEED + number, settings)
            else:
                minute = make(models, [prompt], plan, SEED + number, settings, way)
            at_seam, elsewhere = step_errors(minute)
            seams.append(at_seam)
            inside.append(elsewhere)
            drifts.append(float((colour_of(minute.pixels[:WINDOW]) - colour_of(minute.pixels[-WINDOW:])).norm()))
            first, last = look(minute.pixels[:WINDOW], FPS), look(minute.pixels[-WINDOW:], FPS)
            right += all(first.says(kind) == last.says(kind) for kind in ("colour", "shape", "motion"))
            if sheet is not None and number == 0:
                shown = torch.linspace(0, len(minute.pixels) - 1, SHEET_FRAMES).long()
                save_png(sheet / f"minute_{way.name.split()[0].strip(',')}.png", contact_sheet(minute.pixels[shown], 9))
        seam, other = torch.cat(seams), torch.cat(inside)
        lines.append(
            f"| {way.name} | {seam.nanmean():.2f} / {other.nanmean():.2f} | {finite(seam).max():.2f} / "
            f"{finite(other).max():.2f} | {sum(drifts) / len(drifts):.1f} | {right} of {len(prompts)} |"
        )
    return lines


def finite(values: Tensor) -> Tensor:
    """Return the values that are numbers: a frame without a shape has no place."""
    return values[values.isfinite()]


def change_line(models: Models, settings: Settings) -> str:
    """Score whether a new prompt is heard within its segment."""
    plan = plan_segments(Wanted(WINDOW + 5 * NEW, WINDOW, OVERLAP, steps=settings.steps))
    prompts = [CHANGES[segment.index // 2][0] for segment in plan.segments]
    heard = tried = 0
    for number in range(4):
        minute = make(models, prompts, plan, SEED + 100 + number, settings)
        for segment in plan.segments[2::2]:
            seen = look(minute.pixels[segment.frames[0] + 8 : segment.frames[1]], FPS)
            heard += seen.motion == CHANGES[segment.index // 2][1]
            tried += 1
    return f"| a changed prompt is followed in its own segment | {heard} of {tried} |"


def end_and_loop_lines(models: Models, settings: Settings) -> list[str]:
    """Score whether an end image is reached over two segments, and whether a loop closes."""
    plan = plan_segments(Wanted(WINDOW + NEW, WINDOW, OVERLAP, steps=settings.steps))
    clips = draw_clips(8, SEED)
    truth = render(clips, plan.total_frames)
    reached = []
    for row in range(len(clips)):
        words = clips.words(row)
        prompt = f"a {words['colour']} {words['shape']} on a {words['background']} background"
        ends = {0: truth[row, :1], plan.latent_frames - 1: truth[row, -1:]}
        known: dict[int, Tensor] = {}
        for at, picture in ends.items():
            known |= known_clip(at, encode(models.vae, picture[None]))
        reached.append(psnr(make(models, [prompt], plan, SEED + row, settings, known=known).pixels[-1], truth[row, -1]))
    return [
        f"| end image over two segments: last frame, mean and worst of 8 | {sum(reached) / len(reached):.1f} dB, "
        f"{min(reached):.1f} dB |",
        *(loop_line(models, settings, frames) for frames in LOOP_FRAMES),
    ]


def loop_line(models: Models, settings: Settings, frames: int) -> str:
    """Score whether loops close: steps of the shape around the seam, where the video is played round and round."""
    plan = plan_segments(Wanted(frames + 1, WINDOW, LOOP_OVERLAP, steps=settings.steps, loop=True))
    closing, largest, usual = [], [], []
    for number, prompt in enumerate(PROMPTS):
        made = make(models, [prompt], plan, SEED + number, settings).pixels
        steps = steps_of(look(torch.cat((made[-WINDOW:], made[:WINDOW])), FPS).centres).norm(dim=1)
        closing.append(float(steps[WINDOW - 1]))
        largest.append(float(finite(steps).max()))
        usual.append(float(steps.nanmedian()))
    return (
        f"| loop of {frames} frames: step from the last to the first, largest near it, usual | {show(closing)}; "
        f"{show(largest)}; {show(usual)} px |"
    )


def show(values: list[float]) -> str:
    """Return numbers with one digit."""
    return ", ".join(f"{value:.1f}" for value in values)


def main(arguments: list[str] | None = None) -> int:
    """Score, print the tables and return the exit code."""
    parser = argparse.ArgumentParser(prog="dev.py score --long", description="Score long videos on pixels.")
    parser.add_argument("--quick", action="store_true", help="some seconds in place of a minute, one prompt")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="folder of the three models")
    parser.add_argument("--sheet", type=Path, help="folder for contact sheets")
    options = parser.parse_args(arguments)
    started = time.monotonic()
    settings = Settings(fps=FPS)
    try:
        models = load_models(options.weights)
    except SkyReelsError as error:
        print(f"score: {error}", file=sys.stderr)
        return 1
    frames, prompts = (WINDOW + 12 * NEW, PROMPTS[:1]) if options.quick else (MINUTE, PROMPTS)
    plan = plan_segments(Wanted(frames, WINDOW, OVERLAP, steps=settings.steps))
    seams = seam_lines(models, plan, prompts, settings, options.sheet)
    others = [change_line(models, settings), *end_and_loop_lines(models, settings)]
    print(f"\n{frames} frames in {len(plan.segments)} segments, {len(prompts)} prompts\n")
    print(f"{HEAD}\n| --- | --- | --- | --- | --- |\n" + "\n".join(seams))
    print("\n| what | reached |\n| --- | --- |\n" + "\n".join(others))
    print(f"\n{time.monotonic() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
