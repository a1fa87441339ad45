"""`python dev.py demo`: a prompt in, an mp4 and a contact sheet out, by wan_core alone.

It goes the way of the real thing: text tokens, seeded noise, a diffusion-forcing schedule, the sampler, the VAE, a
file. Only the models are tiny stand-ins with random weights (see tiny.py).
"""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from demo.tiny import CONFIG, decode, embed_prompt, tiny_transformer, tiny_vae
from wan_core.errors import InputError, SkyReelsError
from wan_core.forcing import ForcingSchedule, forcing_schedule, padded_frames
from wan_core.noise import seeded_noise
from wan_core.sampler import Row, sample
from wan_core.sampling import flow_sigmas, timesteps_of
from wan_core.video import contact_sheet, save_png, write_video

FPS = 24
SHIFT = 8.0
SHEET_FRAMES = 12
SHEET_COLUMNS = 4
RANDOM_WEIGHTS = (
    "The demo's models have random weights until a trained tiny model is embedded: "
    "the video shows that every part runs, not what SkyReels-V2 can paint."
)


@dataclass(frozen=True)
class DemoSettings:
    """What to make.

    Attributes:
        prompt: the text.
        frames: video frames, 1 or more.
        seed: of the noise, 0 or more.
        steps: denoising steps of a frame.
        ar_step: steps that a block lags behind the one before it; 0 = all frames together.
        causal_block_size: latent frames of a block.
        width: pixels, a multiple of 16.
        height: pixels, a multiple of 16.
    """

    prompt: str = "a red circle moving to the right"
    frames: int = 25
    seed: int = 0
    steps: int = 20
    ar_step: int = 0
    causal_block_size: int = 1
    width: int = 160
    height: int = 96

    @property
    def latent_frames(self) -> int:
        """Latent frames that hold all video frames: the first holds one, the others four each."""
        return math.ceil((self.frames - 1) / 4) + 1

    def schedule(self) -> ForcingSchedule:
        """Return the schedule, with the latent frames filled up to whole blocks where blocks take turns.

        Raises:
            SkyReelsError: a number out of range.
        """
        if self.frames < 1:
            raise InputError(f"frames is {self.frames}, but a video needs at least 1: try 25")
        if self.seed < 0:
            raise InputError(f"seed is {self.seed}, but it has to be 0 or more")
        count = self.latent_frames
        if self.ar_step > 0 and self.causal_block_size > 0:
            count = padded_frames(count, self.causal_block_size)
        return forcing_schedule(count, self.steps, self.ar_step, self.causal_block_size)


@torch.inference_mode()
def make_latents(settings: DemoSettings) -> Tensor:
    """Sample the clip [1, 16, latent frames, height / 8, width / 8], with a progress bar."""
    schedule = settings.schedule()
    model, context = tiny_transformer(), embed_prompt(settings.prompt)
    shape = (1, CONFIG.in_dim, schedule.num_frames, settings.height // 8, settings.width // 8)

    def denoise(x: Tensor, frame_sigmas: Tensor, row: Row) -> Tensor:
        velocity = model(x, timesteps_of(frame_sigmas)[None], context, fps=FPS)
        return x - frame_sigmas[:, None, None] * velocity

    with tqdm(total=schedule.num_rows, desc="sampling", unit="row") as bar:

        def show_progress(row: Row, x0: Tensor, x: Tensor) -> None:
            bar.update()

        latents = sample(
            denoise,
            seeded_noise(shape, settings.seed, "noise"),
            flow_sigmas(settings.steps, SHIFT),
            schedule,
            callback=show_progress,
        )
    return latents[:, :, : settings.latent_frames]


@torch.inference_mode()
def make_video(settings: DemoSettings, folder: Path) -> tuple[Path, Path]:
    """Make a video and its contact sheet.

    Args:
        settings: what to make.
        folder: where the files go; made when missing.

    Returns:
        The mp4 file and the PNG file.

    Raises:
        SkyReelsError: a setting that cannot be used, before any work.
    """
    latents = make_latents(settings)
    print("decoding ...", flush=True)
    pixels = decode(tiny_vae(), latents)[: settings.frames]
    video, sheet = (folder / f"demo_seed{settings.seed}{ending}" for ending in (".mp4", ".png"))
    write_video(video, pixels, FPS)
    shown = torch.linspace(0, len(pixels) - 1, min(SHEET_FRAMES, len(pixels))).round().long()
    save_png(sheet, contact_sheet(pixels[shown], SHEET_COLUMNS))
    return video, sheet


def parse(arguments: list[str] | None = None) -> tuple[DemoSettings, Path]:
    """Read the command line: the settings, and the folder for the files."""
    usual = DemoSettings()
    parser = argparse.ArgumentParser(prog="dev.py demo", description=f"Make a small video on the CPU. {RANDOM_WEIGHTS}")
    parser.add_argument("--prompt", default=usual.prompt, help="what to show")
    parser.add_argument("--frames", type=int, default=usual.frames, help="video frames at 24 per second (default: 25)")
    parser.add_argument("--seed", type=int, default=usual.seed, help="seed of the noise (default: 0)")
    parser.add_argument("--steps", type=int, default=usual.steps, help="denoising steps of a frame (default: 20)")
    parser.add_argument(
        "--ar-step", type=int, default=usual.ar_step, help="steps a block lags behind the one before (default: 0, sync)"
    )
    parser.add_argument(
        "--causal-block-size", type=int, default=usual.causal_block_size, help="latent frames of a block (default: 1)"
    )
    parser.add_argument("--out", type=Path, default=Path("demo_output"), help="folder for the files")
    chosen = vars(parser.parse_args(arguments))
    folder = chosen.pop("out")
    return DemoSettings(**chosen), folder


def main(arguments: list[str] | None = None) -> int:
    """Run the demo and return its exit code."""
    settings, folder = parse(arguments)
    print(RANDOM_WEIGHTS)
    try:
        video, sheet = make_video(settings, folder)
    except SkyReelsError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    print(f"video: {video.resolve()}\ncontact sheet: {sheet.resolve()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
