"""`python dev.py demo`: a prompt in, an mp4 and a contact sheet out, by wan_core alone, with the embedded models.

It goes the way of the real thing: text tokens, seeded noise, a diffusion-forcing schedule, the sampler, the VAE, a
file; a video longer than one window is made in segments, each of which goes on from the one before it.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, field
from pathlib import Path

import av
import torch
from torch import Tensor
from tqdm import tqdm

from demo.files import WEIGHTS
from demo.generate import LATENT_SHAPE, Settings, make_clips, make_latents
from demo.models import Models, load_models
from demo.shapes import SIZE
from demo.sheet import contact_sheet
from demo.vae import decode, encode
from wan_core.errors import InputError, SkyReelsError
from wan_core.long.plan import Plan, Wanted
from wan_core.long.rollout import Rollout, Segments, Task, known_clip, seeded
from wan_core.long.segments import plan_segments
from wan_core.long.sources import roll_out
from wan_core.video.writer import save_png, write_video

WINDOW = 37  # video frames of a segment: 10 latent frames, two blocks of 5
OVERLAP = 17  # video frames carried over
SHEET_FRAMES = 12
SHEET_COLUMNS = 4
EXAMPLES = (
    "a red circle moving to the right on a black background",
    "一个蓝色的正方形在白色背景上向左移动",
    "a green triangle moving up on a white background",
    "一个黄色的星星在黑色背景上绕圈移动",
    "a purple square bouncing off the walls on a grey background",
    "一个青色的圆形在黑色背景上来回弹跳",
    "a yellow triangle moving in a circle on a grey background",
    "一个红色的星星在白色背景上向下移动",
)
EXAMPLE_FRAMES = 8  # of every example, on the sheet


@dataclass(frozen=True)
class DemoSettings:
    """What to make.

    Attributes:
        prompt: the text.
        frames: video frames, 1 or more.
        seed: of the noise, 0 or more.
        sampling: how to sample.
        start: picture [64, 64, 3], 0..1, or None.
        end: the same for the last frame.
    """

    prompt: str = EXAMPLES[0]
    frames: int = 37
    seed: int = 0
    sampling: Settings = field(default_factory=Settings)
    start: Tensor | None = None
    end: Tensor | None = None

    def plan(self) -> Plan:
        """Return the segments.

        Raises:
            SkyReelsError: a number out of range.
        """
        if self.seed < 0:
            raise InputError(f"seed is {self.seed}, but it has to be 0 or more")
        how = self.sampling
        return plan_segments(
            Wanted(self.frames, WINDOW, OVERLAP, how.causal_block_size, how.ar_step, how.steps, how.causal_attention)
        )


def read_picture(path: Path) -> Tensor:
    """Return a picture file as [64, 64, 3], 0..1.

    Raises:
        InputError: the file is no picture.
    """
    try:
        with av.open(str(path)) as container:
            frame = next(container.decode(video=0))
    except (av.FFmpegError, StopIteration, OSError) as error:
        raise InputError(f"{path} cannot be read as a picture ({error}): give a PNG or JPEG file") from error
    pixels = frame.reformat(width=SIZE, height=SIZE, format="rgb24").to_ndarray()
    return torch.from_numpy(pixels).float() / 255


def known_latents(models: Models, settings: DemoSettings, plan: Plan) -> dict[int, Tensor]:
    """Return the latents [1, 16, 1, 8, 8] of the given pictures by their place in the video."""
    known: dict[int, Tensor] = {}
    for index, picture in ((0, settings.start), (plan.latent_frames - 1, settings.end)):
        if picture is not None:
            known |= known_clip(index, encode(models.vae, picture[None, None]))
    return known


@torch.inference_mode()
def make_frames(models: Models, settings: DemoSettings) -> Tensor:
    """Make the video, with a progress bar; pixels [frames, 64, 64, 3], 0..1."""
    plan = settings.plan()
    rollout = Rollout(
        plan, (1, *LATENT_SHAPE), seeded((settings.seed,) * len(plan.segments)), known_latents(models, settings, plan)
    )
    with tqdm(total=plan.rows, desc="sampling", unit="row") as bar:

        def sample_segment(task: Task) -> Tensor:
            return make_latents(
                models, [settings.prompt], task.noise, settings.sampling, task.known, lambda row: advance(bar)
            )

        latents = torch.cat([finished.latents for finished in roll_out(Segments(rollout, sample_segment))], dim=2)
    print("decoding ...", flush=True)
    return decode(models.vae, latents)[0, : settings.frames]


def advance(bar: tqdm) -> None:
    """Move a progress bar on by one."""
    bar.update()


def enlarged(pixels: Tensor, scale: int) -> Tensor:
    """Return pixels [F, H, W, 3] with every one drawn as a square of scale x scale."""
    return pixels.repeat_interleave(scale, dim=1).repeat_interleave(scale, dim=2)


def evenly(pixels: Tensor, count: int) -> Tensor:
    """Return some frames, evenly spread, the first and the last among them."""
    return pixels[torch.linspace(0, len(pixels) - 1, min(count, len(pixels))).round().long()]


def make_video(models: Models, settings: DemoSettings, folder: Path, scale: int = 4) -> tuple[Path, Path]:
    """Make a video and its contact sheet.

    Args:
        models: the models.
        settings: what to make.
        folder: where the files go; made when missing.
        scale: how many times larger than 64 x 64 the video is shown.

    Returns:
        The mp4 file and the PNG file.

    Raises:
        SkyReelsError: a setting that cannot be used, before any work.
    """
    pixels = enlarged(make_frames(models, settings), scale)
    video, sheet = (folder / f"demo_seed{settings.seed}{ending}" for ending in (".mp4", ".png"))
    write_video(video, pixels, settings.sampling.fps)
    save_png(sheet, contact_sheet(evenly(pixels, SHEET_FRAMES), SHEET_COLUMNS))
    return video, sheet


def make_sheet(models: Models, settings: DemoSettings, path: Path, scale: int = 2) -> Path:
    """Make the contact sheet of the example prompts, one row each, and return its file."""
    seeds = [settings.seed + number for number in range(len(EXAMPLES))]
    with tqdm(total=settings.sampling.steps, desc="sampling", unit="row") as bar:
        clips = make_clips(
            models, list(EXAMPLES), seeds, settings.frames, settings.sampling, progress=lambda row: advance(bar)
        )
    tiles = torch.cat([enlarged(evenly(pixels, EXAMPLE_FRAMES), scale) for pixels in clips])
    save_png(path, contact_sheet(tiles, EXAMPLE_FRAMES))
    return path


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    usual, how = DemoSettings(), Settings()
    parser = argparse.ArgumentParser(
        prog="dev.py demo",
        description="Make a small video on the CPU with the embedded models: a shape that moves.",
        epilog="With --comfyui PATH an example workflow runs in that ComfyUI instead: --comfyui PATH --help.",
    )
    add = parser.add_argument
    add("--prompt", default=usual.prompt, help=f"English or Chinese, for example {EXAMPLES[1]}")
    add("--frames", type=int, default=usual.frames, help="video frames, any number (default: 37)")
    add("--seed", type=int, default=usual.seed, help="seed of the noise (default: 0)")
    add("--start", type=Path, help="picture file for the first frame, 64 x 64")
    add("--end", type=Path, help="picture file for the last frame")
    add("--steps", type=int, default=how.steps, help=f"denoising steps of a frame (default: {how.steps})")
    add("--guidance", type=float, default=how.guidance, help=f"hold on the prompt (default: {how.guidance:g})")
    add("--fps", type=int, default=how.fps, choices=(16, 24), help="frames per second (default: 24)")
    add("--ar-step", type=int, default=0, help="steps a block lags behind the one before (default: 0, no lag)")
    add("--causal-block-size", type=int, default=1, help="latent frames of a block (default: 1)")
    add("--causal-attention", action="store_true", help="frames do not see the blocks behind theirs")
    add("--scale", type=int, default=4, help="enlargement of the 64 x 64 pixels in the files (default: 4)")
    add("--sheet", action="store_true", help="instead make a sheet of eight prompts, one row each")
    add("--weights", type=Path, default=WEIGHTS, help="folder of the models")
    add("--out", type=Path, default=Path("demo_output"), help="folder for the files")
    return parser.parse_args(arguments)


def settings_of(options: argparse.Namespace) -> DemoSettings:
    """Return what the command line asks for; `Raises: SkyReelsError`."""
    if options.scale < 1:
        raise InputError(f"scale is {options.scale}, but it has to be 1 or more: 4 shows 256 x 256 pixels")
    how = Settings(
        steps=options.steps,
        guidance=options.guidance,
        fps=options.fps,
        ar_step=options.ar_step,
        causal_block_size=options.causal_block_size,
        causal_attention=options.causal_attention,
    )
    start, end = (None if path is None else read_picture(path) for path in (options.start, options.end))
    settings = DemoSettings(options.prompt, options.frames, options.seed, how, start, end)
    settings.plan()  # refuses what cannot be, before the models are read
    return settings


def main(arguments: list[str] | None = None) -> int:
    """Run the demo and return its exit code."""
    options = parse(arguments)
    try:
        settings = settings_of(options)
        models = load_models(options.weights)
        if options.sheet:
            print(f"contact sheet: {make_sheet(models, settings, options.out / 'sheet.png').resolve()}")
            return 0
        video, sheet = make_video(models, settings, options.out, options.scale)
    except SkyReelsError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    print(f"video: {video.resolve()}\ncontact sheet: {sheet.resolve()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
