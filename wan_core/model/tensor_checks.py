"""What a forward pass refuses before it begins: tensors that do not fit the model, or one another."""

from __future__ import annotations

from torch import Tensor

from ..errors import InputError
from .config import WanConfig


def check_inputs(config: WanConfig, x: Tensor, t: Tensor, context: Tensor, references: bool) -> None:
    """Refuse tensors that do not fit the model, or one another; `Raises: InputError`."""
    if x.ndim != 5 or x.shape[1] != config.in_dim:
        raise InputError(
            "The latent video has the shape {shape}, but this model takes [batch, {channels}, frames, "
            "height, width]: connect a latent made for this model.",
            shape=list(x.shape),
            channels=config.in_dim,
        )
    if context.shape[-1] != config.text_dim:
        raise InputError(
            "The text conditioning is {width} wide, but this model takes {wanted}: use the umt5-xxl text "
            "encoder (CLIP type wan).",
            width=context.shape[-1],
            wanted=config.text_dim,
        )
    if t.ndim == 2 and t.shape[1] not in (1, x.shape[2]):
        raise InputError(
            "There are timesteps for {given} latent frames, but the video has {frames}: give one timestep "
            "per frame, or one for all.",
            given=t.shape[1],
            frames=x.shape[2],
        )
    if references and t.ndim == 2 and t.shape[1] != 1:
        raise InputError(
            "There are timesteps for {given} latent frames, but with references the clip has one noise "
            "level: give one timestep for all.",
            given=t.shape[1],
        )
