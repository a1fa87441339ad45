"""`python -m benchmarks.kv_budget`: what a rolling video loses when a share of its keys and values is kept.

Videos of the embedded model are rolled out with all keys and values of the window. Then the next chunk is made several
times from the same finished frames and the same noise: with all of them, with a budget, and with a shorter window. What
matters is how near a chunk comes to the first one, and at how much memory.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from demo.generate import LATENT_SHAPE, Settings
from demo.measure import psnr
from demo.models import Models, load_models
from demo.score import prompts_of
from demo.vae import decode
from wan_core.long.rolling import RollingCalls, RollingRow, Window, block_noise, roll_out
from wan_core.model.geometry import WAN21
from wan_core.sampling.denoise import model_denoise
from wan_core.sampling.sigmas import flow_sigmas

from .machine import this_machine
from .report import write_files
from .step_cache import FIRST_SEED, RESULTS

CHUNK = 5  # latent frames
SIGHT = 20
HOW = Settings()
AFTER = (4, 5, 6)  # chunks that are finished when the measured one begins
WINDOWS = {
    f"all of {SIGHT} latent frames": Window(SIGHT),
    **{f"kv_budget {share:g}": Window(SIGHT, 0, share) for share in (0.5, 0.25, 0.125)},
    **{f"a window of {frames}": Window(frames) for frames in (15, 10)},
}


@dataclass(frozen=True)
class Line:
    """One line of the table.

    Attributes:
        way: what the chunks saw.
        memory: of keys and values, as a share of those of all frames.
        decibels: PSNR of every chunk's pixels, after each number of finished chunks.
    """

    way: str
    memory: float
    decibels: tuple[tuple[float, ...], ...]

    def text(self) -> str:
        """Return the line of a Markdown table."""
        every = [each for chunks in self.decibels for each in chunks]
        means = " | ".join(f"{sum(chunks) / len(chunks):.1f}" for chunks in self.decibels)
        return f"| {self.way} | {self.memory:.0%} | {means} | {sum(every) / len(every):.1f} | {min(every):.1f} |"


@torch.inference_mode()
def rolled(
    models: Models, texts: list[str], window: Window, chunks: int, known: Sequence[Tensor] = (), seed: int = FIRST_SEED
) -> tuple[Tensor, int]:
    """Return new latents [B, 16, chunks * CHUNK, 8, 8] behind known chunks, and the bytes of keys and values."""
    sigmas, asked = flow_sigmas(HOW.steps, HOW.shift), models.embed(texts)
    plain = models.embed([""]).expand_as(asked)
    with RollingCalls(models.dit, len(models.dit.blocks), window) as calls:

        def velocity(x: Tensor, t: Tensor, context: Tensor, row: RollingRow) -> Tensor:
            parts = zip(*(each.chunk(2) for each in (x, t, context)), strict=True)
            return torch.cat([
                calls(video, times, row, key, context=text, fps=HOW.fps)
                for key, (video, times, text) in enumerate(parts)
            ])  # fmt: skip

        shape = (len(texts), LATENT_SHAPE[0], CHUNK, *LATENT_SHAPE[1:])
        noise = (block_noise(shape, seed, HOW.steps, (len(known) + at) * CHUNK, "unipc") for at in range(chunks))
        denoise = model_denoise(velocity, asked, plain, HOW.guidance)
        made = list(roll_out(denoise, noise, sigmas, window, "unipc", known))
        return torch.cat(made, dim=2), calls.num_bytes


def measure(models: Models, clips: int) -> list[Line]:
    """Make the chunks in every way."""
    texts = prompts_of("en", clips, FIRST_SEED)[0]
    video, _ = rolled(models, texts, Window(SIGHT), max(AFTER))
    chunks, lines = video.split(CHUNK, dim=2), list[Line]()
    whole: dict[int, tuple[Tensor, int]] = {}
    for way, window in WINDOWS.items():
        near, held = [], []
        for count in AFTER:
            made, size = rolled(models, texts, window, 1, chunks[:count], FIRST_SEED + 1)
            pixels = decode(models.vae, torch.cat((chunks[count - 1], made), dim=2))[:, -CHUNK * WAN21.temporal :]
            wanted, all_bytes = whole.setdefault(count, (pixels, size))
            near.append(tuple(psnr(one, other) for one, other in zip(pixels, wanted, strict=True)))
            held.append(size / all_bytes)
        lines.append(Line(way, sum(held) / len(held), tuple(near)))
        print(lines[-1].text(), flush=True)
    return lines


def page(lines: list[Line]) -> str:
    """Return the table as Markdown."""
    after = " | ".join(f"after {count}" for count in AFTER)
    clips, counts = len(lines[0].decibels[0]), " and ".join((", ".join(map(str, AFTER[:-1])), str(AFTER[-1])))
    return "\n".join([
        "# Benchmark: a budget for keys and values",
        "",
        this_machine().words(),
        "",
        f"The embedded model, rolling: chunks of {CHUNK} latent frames, {HOW.steps} steps, guidance {HOW.guidance:g}; "
        f"{clips} videos. The chunk after {counts} finished ones, all made with the whole window of {SIGHT}. "
        "Memory: of keys and values. PSNR: of the chunk's pixels against the one that saw all, in dB.",
        "",
        f"| the chunk sees | memory | {after} | PSNR, mean | PSNR, least |",
        "|---|---|" + "---|" * (len(AFTER) + 2),
        *(line.text() for line in lines),
        "",
    ])  # fmt: skip


def main() -> None:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=16)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads that compute")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    lines = measure(load_models(), given.clips)
    write_files(RESULTS, "kv-budget", page(lines), {
        "machine": this_machine().values(), "lines": [asdict(line) for line in lines],
    })  # fmt: skip


if __name__ == "__main__":
    main()
