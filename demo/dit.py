"""The tiny diffusion-forcing transformer: its size and its file. The architecture is wan_core's WanModel as it is."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from demo.text import TEXT_DIM, TEXT_TOKENS
from wan_core.checkpoint.reader import load_checkpoint
from wan_core.model.config import WanConfig
from wan_core.model.initial_weights import init_weights
from wan_core.model.wan_model import WanModel

CONFIG = WanConfig(
    dim=256,
    ffn_dim=768,
    num_heads=4,
    num_layers=6,
    freq_dim=128,
    text_dim=TEXT_DIM,
    text_len=TEXT_TOKENS,
    inject_sample_info=True,
)


def fresh_dit(config: WanConfig = CONFIG) -> WanModel:
    """Return a transformer as training begins: random weights and a head of zeros."""
    model = WanModel(config)
    init_weights(model)
    return model


def save_dit(model: WanModel, path: Path, dtype: torch.dtype = torch.float16) -> None:
    """Write the transformer with the released models' key names; the metadata names the heads, which no shape tells."""
    tensors = {name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors, path, metadata={"format": "pt", "num_heads": str(model.config.num_heads)})


def load_dit(path: Path) -> WanModel:
    """Read a transformer, in float32, ready for use.

    Raises:
        CheckpointError: the file is missing, damaged or no Wan transformer.
    """
    stored, config, _ = load_checkpoint(path)
    model = WanModel(config)
    model.load_state_dict({name: tensor.float() for name, tensor in stored.items()})
    return model.eval().requires_grad_(False)
