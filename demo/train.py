"""`python -m demo.train`: train the embedded models from nothing - text encoder, VAE, transformer - on CPU or GPU.

What is finished is kept in the folder; `--resume` goes on from there, with the same data as an unbroken run.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from demo.dit import load_dit, save_dit
from demo.files import DIT_FILE, TEXT_FILE, VAE_FILE
from demo.pool import make_pool
from demo.text import load_text_encoder, save_text_encoder
from demo.train_dit import HELD_OUT_SEED, train_dit
from demo.train_text import train_text
from demo.train_vae import fresh_vae, train_decoder, train_encoder
from demo.training import Plan
from demo.vae import load_vae, save_vae

MODELS = ("text", "encoder", "decoder", "dit")
SHARES = {"text": 0.008, "encoder": 0.012, "decoder": 0.061, "dit": 0.919}  # of the minutes
POOL_SEED = 8 * 10**6
HELD_OUT_CLIPS = 32
LEARNING_RATE = 1e-3


def train_models(options: argparse.Namespace) -> None:
    """Train what was asked for, in the order in which one needs the other."""
    folder: Path = options.folder
    folder.mkdir(parents=True, exist_ok=True)

    def plan(name: str) -> Plan:
        return Plan(
            name,
            folder,
            options.minutes * (1.0 if options.only else SHARES[name]),
            options.rate or LEARNING_RATE,
            device=options.device,
            seed=options.seed,
            resume=options.resume,
        )

    def encoder() -> None:
        begun = load_vae(options.begin) if options.begin else fresh_vae(options.seed)
        save_vae(train_encoder(plan("encoder"), begun), folder / VAE_FILE)

    def decoder() -> None:
        save_vae(train_decoder(plan("decoder"), load_vae(folder / VAE_FILE)), folder / VAE_FILE)

    def dit() -> None:
        text = load_text_encoder(folder / TEXT_FILE)
        pool = make_pool(options.clips, options.seed * 10**7 + POOL_SEED)
        checked = make_pool(HELD_OUT_CLIPS, HELD_OUT_SEED)
        begun = load_dit(options.begin) if options.begin else None
        model = train_dit(plan("dit"), text, pool, checked, options.compile, begun, options.first_step)
        save_dit(model, folder / DIT_FILE)

    steps: dict[str, Callable[[], None]] = {
        "text": lambda: save_text_encoder(train_text(plan("text")), folder / TEXT_FILE),
        "encoder": encoder,
        "decoder": decoder,
        "dit": dit,
    }
    for name in MODELS:
        if options.only in (None, name):
            steps[name]()


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m demo.train", description="Train the embedded models from nothing.")
    usual = "cuda" if torch.cuda.is_available() else "cpu"
    add = parser.add_argument
    add("--minutes", type=float, default=508, help="for all that is trained (default: 508)")
    add("--folder", type=Path, default=Path("demo_training"), help="for checkpoints and results")
    add("--resume", action="store_true", help="go on from the folder's checkpoints")
    add("--begin", type=Path, help="with --only encoder or dit: a file to begin with instead of random weights")
    add("--rate", type=float, help="learning rate; go lower with --begin (default: the recipe's)")
    add("--device", default=usual, choices=("cpu", "cuda"), help=f"(default here: {usual})")
    add("--only", choices=MODELS, help="one model; it needs the files of those before it")
    add("--seed", type=int, default=0, help="of weights and data (default: 0)")
    add("--threads", type=int, default=0, help="CPU threads (default: torch's choice)")
    add(
        "--first-step",
        type=int,
        default=0,
        help="with --begin: step of the transformer's recipe to begin at (default: 0)",
    )
    add("--clips", type=int, default=8000, help="clips that the transformer learns from (default: 8000)")
    add("--compile", action="store_true", help="compile the transformer: less than half the time a step")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Train and return the exit code."""
    options = parse(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    train_models(options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
