"""The embedded demo models as ComfyUI's own objects: MODEL, CLIP and VAE.

The text encoder reads bytes and is no model that ComfyUI knows, so its tokenizer and module are given the few methods
that comfy.sd.CLIP calls. Every node that takes a CLIP then takes this one.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import comfy.latent_formats
import comfy.sd
import comfy.utils
import torch
from comfy.supported_models_base import ClipTarget
from torch import Tensor, nn

from ...errors import CheckpointError
from ..model.text import UMT5
from .loader import load_model

Tokenize = Callable[[str], Tensor]


class ByteTokenizer:
    """What comfy.sd.CLIP asks of a tokenizer; the tokens go under the name of Wan's, as samplers look for it."""

    def __init__(self, tokenize: Tokenize):
        self.tokenize = tokenize

    def tokenize_with_weights(self, text: str, return_word_ids: bool = False, **options: Any) -> dict[str, Any]:
        """Return the text's bytes as one batch of (byte, weight); the weight is always 1."""
        return {UMT5: [[(byte, 1.0) for byte in self.tokenize(text)[0].tolist()]]}

    def untokenize(self, token_weight_pair: list[tuple[int, float]]) -> list[Any]:
        """Return every token with its character, as far as a single byte is one."""
        return [(pair, chr(pair[0])) for pair in token_weight_pair]

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: there is no vocabulary to save."""
        return {}


class ByteTextModel(nn.Module):
    """What comfy.sd.CLIP asks of a text model, around a module that turns bytes [B, L] into tokens [B, N, C]."""

    def __init__(self, encoder: nn.Module):
        super().__init__()
        self.encoder = encoder
        self.dtypes = {torch.float32}

    def encode_token_weights(self, token_weight_pairs: dict[str, Any]) -> tuple[Tensor, None]:
        """Return tokens [B, N, C] and no pooled output."""
        ids = torch.tensor([[byte for byte, *_ in batch] for batch in token_weight_pairs[UMT5]])
        with torch.no_grad():
            return self.encoder(ids), None

    def set_clip_options(self, options: dict[str, Any]) -> None:
        """Take no options: there are no layers to stop at, and the encoder stays on the CPU."""

    def reset_clip_options(self) -> None:
        """Forget no options."""

    def load_sd(self, sd: dict[str, Tensor]) -> Any:
        """Load weights and return the missing and the unexpected keys."""
        return self.encoder.load_state_dict(sd, strict=False)


def demo_clip(encoder: nn.Module, tokenize: Tokenize) -> Any:
    """Return a CLIP.

    Args:
        encoder: turns bytes int64 [B, L] into tokens [B, N, C]; float32 on the CPU, where it stays: it is tiny.
        tokenize: turns a text into its bytes, int64 [1, L].
    """
    cpu = torch.device("cpu")
    target = ClipTarget(lambda **_: ByteTokenizer(tokenize), lambda **_: ByteTextModel(encoder))
    places = {"load_device": cpu, "offload_device": cpu, "initial_device": cpu, "dtype": torch.float32}
    return comfy.sd.CLIP(target, model_options=places, disable_dynamic=True)


def load_vae(path: Path) -> Any:
    """Return a VAE of Wan 2.1 kind from its file."""
    return comfy.sd.VAE(sd=comfy.utils.load_torch_file(str(path)))


class DemoLatents(comfy.latent_formats.Wan21):
    """The latents of the embedded VAE: scaled as Wan's, with other colours in a preview.

    Args:
        preview_factors: red, green and blue of each latent channel.
    """

    latent_rgb_factors_bias = (0.0, 0.0, 0.0)

    def __init__(self, preview_factors: list[list[float]]):
        super().__init__()
        self.latent_rgb_factors = preview_factors
        self.taesd_decoder_name = None  # the tiny VAEs for Wan's latents would show nothing of these


def load_transformer(path: str, preview_factors: list[list[float]], disable_dynamic: bool = False) -> Any:
    """Return the embedded transformer as a MODEL whose previews show its colours; arguments as `load_model`'s."""
    patcher = load_model(path, disable_dynamic=disable_dynamic)
    patcher.model.latent_format = DemoLatents(preview_factors)
    patcher.cached_patcher_init = (load_transformer, (path, preview_factors))
    return patcher


def load_demo_models(
    transformer: Path, vae: Path, encoder: nn.Module, tokenize: Tokenize, preview_factors: list[list[float]]
) -> tuple[Any, Any, Any]:
    """Load the embedded models.

    Args:
        transformer: its file.
        vae: its file.
        encoder: see `demo_clip`.
        tokenize: see `demo_clip`.
        preview_factors: see `DemoLatents`.

    Returns:
        MODEL, CLIP and VAE.

    Raises:
        CheckpointError: a file is missing.
    """
    for path in (transformer, vae):
        if not path.is_file():
            raise CheckpointError(
                "{path} is missing, but it is part of this node pack: install the pack again, or train the "
                "models with python -m demo.train",
                path=path,
            )
    return load_transformer(str(transformer), preview_factors), demo_clip(encoder, tokenize), load_vae(vae)
