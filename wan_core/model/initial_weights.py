"""The weights that training begins with."""

from __future__ import annotations

from torch import nn

from .blocks import Head, WanAttentionBlock
from .wan_model import WanModel


def zero_(layer: nn.Module) -> None:
    """Set a layer's weight and bias to zero, so that it adds nothing until it is trained."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


def init_weights(model: WanModel) -> None:
    """Initialise for training: Xavier projections, small embeddings, and a head that starts at zero.

    Source: `init_weights` of the SkyReels-V2 transformer.
    """
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
        if isinstance(module, WanAttentionBlock | Head):
            nn.init.normal_(module.modulation, std=model.config.dim**-0.5)
    nn.init.xavier_uniform_(model.patch_embedding.weight.flatten(1))
    embeddings = [*model.text_embedding.modules(), *model.time_embedding.modules()]
    if model.config.inject_sample_info:
        nn.init.normal_(model.fps_embedding.weight, std=0.02)
        embeddings += [model.fps_projection[0]]
        zero_(model.fps_projection[2])
    for module in embeddings:
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.02)
    zero_(model.head.head)
