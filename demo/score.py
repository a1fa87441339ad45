"""`python dev.py score`: how well the embedded models do what they are asked, measured on pixels (see demo.measure).

Prompts are drawn from the grammar and noise from seeds that nothing was tuned on. The wanted values are those that the
project set before the models were trained; the table shows what was reached, whatever it is.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from demo.captions import LANGUAGES, Words, caption, parse
from demo.files import WEIGHTS
from demo.generate import Settings, make_clips
from demo.measure import Seen, look, psnr, steps_of
from demo.models import Models, load_models
from demo.processor import has_bfloat16
from demo.shapes import Clips, draw_clips, render
from demo.train_dit import compile_blocks
from demo.train_text import draw_words
from demo.vae import decode, encode
from wan_core.errors import SkyReelsError

FRAMES = 37
FPS = 24
BATCH = 25
TEXT_SEED = 5_000_000  # of prompts and noise; training draws its clips and captions from other seeds
PICTURE_SEED = 6_000_000
VAE_CLIPS = 32
LONGEST_STEP = 5.0  # pixels from frame to frame; the fastest clip makes 2.9
SYNC = Settings(fps=FPS)
MODES = {
    "sync": SYNC,
    "async (ar_step 5, block 5)": replace(SYNC, ar_step=5, causal_block_size=5),
    "block-causal (block 5)": replace(SYNC, causal_block_size=5, causal_attention=True),
}
WANTED = {"colour": 0.95, "shape": 0.85, "motion": 0.85}
ROUNDING = 1e-6
WANTED_SPREAD = 0.05  # between the modes
WANTED_START, WANTED_END = 25.0, 22.0  # dB


@dataclass(frozen=True)
class Line:
    """One line of the table: what was measured, what was reached, what was wanted (None: only shown)."""

    name: str
    reached: float
    wanted: float | None = None
    unit: str = ""
    at_most: bool = False

    @property
    def verdict(self) -> str:
        """Say "yes", "no", or nothing where nothing was wanted."""
        if self.wanted is None:
            return ""
        good = self.reached <= self.wanted + ROUNDING if self.at_most else self.reached >= self.wanted - ROUNDING
        return "yes" if good else "no"

    def text(self) -> str:
        """Return the line of a Markdown table."""

        def shown(value: float | None) -> str:
            if value is None:
                return ""
            return f"{value:.1f} {self.unit}" if self.unit else f"{value:.0%}"

        sign = "" if self.wanted is None else ("at most " if self.at_most else "at least ")
        return f"| {self.name} | {shown(self.reached)} | {sign}{shown(self.wanted)} | {self.verdict} |"


def share(values: list[bool]) -> float:
    """Return the share that is true."""
    return sum(values) / max(len(values), 1)


def prompts_of(language: str, count: int, first_seed: int) -> tuple[list[str], list[int]]:
    """Return prompts in freely chosen wordings, and a seed for each."""
    seeds = [first_seed + number for number in range(count)]
    texts = []
    for seed in seeds:
        choice = random.Random(seed)
        texts.append(caption(draw_words(choice), language, choice))
    return texts, seeds


def batched(
    models: Models,
    texts: list[str],
    seeds: list[int],
    settings: Settings,
    bar: tqdm,
    start: Tensor | None = None,
    end: Tensor | None = None,
) -> Tensor:
    """Make clips some at a time; start and end are pictures [B, 64, 64, 3]."""
    parts = []
    for first in range(0, len(texts), BATCH):
        rows = slice(first, first + BATCH)
        begin, last = (None if pictures is None else pictures[rows] for pictures in (start, end))
        parts.append(make_clips(models, texts[rows], seeds[rows], FRAMES, settings, begin, last))
        bar.update(len(texts[rows]))
    return torch.cat(parts)


def right(seen: list[Seen], words: list[Words], kind: str) -> float:
    """Return the share of clips that show what was said; what a prompt leaves open is not judged."""
    return share([look.says(kind) == said[kind] for look, said in zip(seen, words, strict=True) if kind in said])


def text_lines(models: Models, count: int, half: bool, bar: tqdm) -> list[Line]:
    """Score how prompts are followed, in each language and mode."""
    lines, by_mode = [], {}
    for mode, usual in MODES.items():
        settings = replace(usual, half=half)
        found: list[tuple[str, list[Seen], list[Words]]] = []
        for number, language in enumerate(LANGUAGES):
            texts, seeds = prompts_of(language, count, TEXT_SEED + 1000 * number)
            seen = [look(pixels, FPS) for pixels in batched(models, texts, seeds, settings, bar)]
            found.append((language, seen, [parse(text) for text in texts]))
        for kind, wanted in WANTED.items():
            for language, seen, words in found:
                lines.append(Line(f"text, {mode}, {language}: {kind} right", right(seen, words, kind), wanted))
        everything = [(look, said) for _, seen, words in found for look, said in zip(seen, words, strict=True)]
        looks, said = [list(column) for column in zip(*everything, strict=True)]
        lines.append(Line(f"text, {mode}: background right, where it is named", right(looks, said, "background")))
        by_mode[mode] = {kind: right(looks, said, kind) for kind in WANTED}
    for kind in WANTED:
        values = [scores[kind] for scores in by_mode.values()]
        apart = 100 * (max(values) - min(values))
        lines.append(Line(f"between the modes: {kind}", apart, 100 * WANTED_SPREAD, "points", at_most=True))
    return lines


def drawn(count: int) -> tuple[Clips, list[str], list[int]]:
    """Return unseen clips at the scored frame rate, their captions in both languages by turns, and seeds."""
    clips = draw_clips(count, PICTURE_SEED)
    clips = replace(clips, fps=torch.full((count,), FPS))
    texts = [caption(clips.words(row), LANGUAGES[row % 2], random.Random(PICTURE_SEED + row)) for row in range(count)]
    return clips, texts, [PICTURE_SEED + row for row in range(count)]


def picture_lines(models: Models, count: int, half: bool, bar: tqdm) -> list[Line]:
    """Score image to video, and start and end image."""
    clips, texts, seeds = drawn(count)
    settings, truth = replace(SYNC, half=half), render(clips, FRAMES)
    start, end = truth[:, 0], truth[:, -1]
    begun = batched(models, texts, seeds, settings, bar, start=start)
    bridged = batched(models, texts, seeds, settings, bar, start=start, end=end)
    words = [clips.words(row) for row in range(count)]
    lines = [
        Line("image to video: first frame", mean_psnr(begun[:, 0], start), WANTED_START, "dB"),
        Line("image to video: goes on from there", share([goes_on(made, 0, 3) for made in begun]), 0.9),
    ]
    seen = [look(made, FPS) for made in begun]
    lines += [Line(f"image to video: {kind} right", right(seen, words, kind)) for kind in WANTED]
    lines += [
        Line("start and end: first frame", mean_psnr(bridged[:, 0], start), WANTED_START, "dB"),
        Line("start and end: last frame", mean_psnr(bridged[:, -1], end), WANTED_END, "dB"),
        Line("start and end: no jump at the end", share([goes_on(made, -3, None) for made in bridged]), 0.9),
        Line("start and end: no jump anywhere", share([goes_on(made, 0, None) for made in bridged])),
    ]
    return lines


def goes_on(pixels: Tensor, first: int, behind: int | None) -> bool:
    """Say whether the shape is there, and makes no step that is longer than its motion allows, in some frames."""
    centres = look(pixels, FPS).centres[first:behind]
    return bool(centres.isfinite().all()) and bool((steps_of(centres).norm(dim=1) < LONGEST_STEP).all())


def mean_psnr(made: Tensor, wanted: Tensor) -> float:
    """Return the mean PSNR in dB of pictures [B, 64, 64, 3]."""
    return sum(psnr(a, b) for a, b in zip(made, wanted, strict=True)) / len(made)


@torch.inference_mode()
def vae_lines(models: Models) -> list[Line]:
    """Score the VAE alone, and the measure on real clips after it: the ceiling of everything else."""
    clips, _, _ = drawn(VAE_CLIPS)
    truth = render(clips, FRAMES)
    made = torch.cat([decode(models.vae, encode(models.vae, part)) for part in truth.split(8)])
    words = [clips.words(row) for row in range(len(clips))]
    seen = [look(pixels, FPS) for pixels in made]
    lines = [Line("VAE: round trip of clips", mean_psnr(made, truth), None, "dB")]
    return lines + [Line(f"VAE: {kind} right after it", right(seen, words, kind)) for kind in WANTED]


def score(models: Models, count: int, pictures: int, half: bool = False) -> list[Line]:
    """Return the whole table, for so many prompts a language and mode, and so many clips with pictures."""
    total = count * len(LANGUAGES) * len(MODES) + 2 * pictures
    with tqdm(total=total, desc="scoring", unit="clip") as bar:
        return [*vae_lines(models), *text_lines(models, count, half, bar), *picture_lines(models, pictures, half, bar)]


def main(arguments: list[str] | None = None) -> int:
    """Score, print the table, write it as JSON, and return the exit code."""
    parser = argparse.ArgumentParser(prog="dev.py score", description="Score the embedded models on pixels.")
    parser.add_argument("--quick", action="store_true", help="a tenth of the clips, for a first look")
    parser.add_argument("--prompts", type=int, default=100, help="for each language and mode (default: 100)")
    parser.add_argument("--pictures", type=int, default=50, help="clips with start and end pictures (default: 50)")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="folder of the three models")
    parser.add_argument(
        "--half", action="store_true", help="sample in bfloat16, on processors that have instructions for it"
    )
    parser.add_argument("--compile", action="store_true", help="compile the transformer first; it needs a C++ compiler")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    options = parser.parse_args(arguments)
    if options.half and not has_bfloat16():
        parser.error("--half computes in bfloat16, but this processor has no instructions for it: leave --half out")
    count, pictures = (10, 8) if options.quick else (options.prompts, options.pictures)
    started = time.monotonic()
    try:
        models = load_models(options.weights)
        if options.compile:
            compile_blocks(models.dit)
        lines = score(models, count, pictures, options.half)
    except SkyReelsError as error:
        print(f"score: {error}", file=sys.stderr)
        return 1
    print("| what | reached | wanted | kept |\n| --- | --- | --- | --- |")
    print("\n".join(line.text() for line in lines))
    seconds = time.monotonic() - started
    print(f"\n{count} prompts per language and mode, {pictures} clips with pictures; {seconds:.0f} s")
    if options.json:
        rows = [
            {"what": line.name, "reached": round(line.reached, 4), "unit": line.unit, "wanted": line.wanted}
            | ({"at_most": True} if line.at_most else {})
            for line in lines
        ]
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
