"""The three embedded models, loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan
from torch import Tensor

from demo.dit import load_dit
from demo.files import DIT_FILE, TEXT_FILE, VAE_FILE, WEIGHTS
from demo.text import TextEncoder, load_text_encoder, tokenize
from demo.vae import load_vae
from wan_core.errors import CheckpointError
from wan_core.model.wan_model import WanModel


@dataclass(frozen=True)
class Models:
    """All that makes a video: text to tokens, noise and tokens to latents, latents to pixels."""

    text: TextEncoder
    dit: WanModel
    vae: AutoencoderKLWan

    @torch.no_grad()
    def embed(self, texts: list[str]) -> Tensor:
        """Return the tokens [B, TEXT_TOKENS, TEXT_DIM] of texts; "" is what guidance leads away from."""
        return self.text(torch.cat([tokenize(text) for text in texts]))


def load_models(folder: Path = WEIGHTS) -> Models:
    """Load the three models of a folder, in float32.

    Raises:
        CheckpointError: a file is missing.
    """
    for name in (TEXT_FILE, VAE_FILE, DIT_FILE):
        if not (folder / name).is_file():
            raise CheckpointError(
                f"{folder / name} is missing, but the demo needs the three files of that folder: get the whole "
                "repository, or train them with python -m demo.train"
            )
    return Models(load_text_encoder(folder / TEXT_FILE), load_dit(folder / DIT_FILE), load_vae(folder / VAE_FILE))
