"""SkyReels-V2 among ComfyUI's models: what it is called, how it is built and what its conditioning carries.

The configs derive from core's Wan 2.1 ones, so latent format, sampling settings, LoRA key map and previews are core's;
the transformer is ours, and how much memory it takes.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import comfy.conds
import comfy.latent_formats
import comfy.model_base
import comfy.model_management
import comfy.supported_models
import torch

from ...model.config import WanConfig
from ...model.forward_memory import forward_bytes
from .transformer import HostWanModel


def builds_no_scores() -> bool:
    """Say whether the host's attention builds no L x L tensor, by the measure of core's own estimate."""
    management = comfy.model_management
    return bool(management.xformers_enabled() or management.pytorch_attention_flash_attention())


class SkyReelsV2(comfy.model_base.WAN21):
    """Core's Wan 2.1 model around our transformer."""

    def __init__(self, model_config: Any, image_to_video: bool = False, device: Any = None):
        # past WAN21's own __init__, which would build core's transformer
        super(comfy.model_base.WAN21, self).__init__(
            model_config, comfy.model_base.ModelType.FLOW, device=device, unet_model=HostWanModel
        )
        self.image_to_video = image_to_video

    def memory_required(self, input_shape: Any, cond_shapes: Any = {}) -> float:  # noqa: B006 (core's signature)
        """Return the bytes to keep free for a call on latents of a shape [B, C, F, H, W].

        What core keeps free for its own Wan is 1.5 to 2 times as much, and would push as many weights out.
        """
        of_core = super().memory_required(input_shape, cond_shapes)
        if len(input_shape) != 5 or not builds_no_scores():
            return of_core
        dtype = self.get_dtype_inference()
        batch, _, *latent = input_shape
        value_bytes = comfy.model_management.dtype_size(dtype)
        return min(of_core, forward_bytes(self.diffusion_model.config, batch, tuple(latent), value_bytes))

    def extra_conds(self, **kwargs: Any) -> dict[str, Any]:
        """Add the frame rate (frames per second) to what core's Wan model hands to the transformer."""
        out = super().extra_conds(**kwargs)
        fps = kwargs.get("fps")
        if fps is not None:
            out["fps"] = comfy.conds.CONDRegular(torch.tensor([round(fps)], dtype=torch.long))
        return out


# Neighbours (NAG nodes) look for core's class names inside the config's name.
class SkyReelsV2_WAN21_T2V(comfy.supported_models.WAN21_T2V):
    """Text-to-video and diffusion-forcing models."""

    def get_model(self, state_dict: dict[str, Any], prefix: str = "", device: Any = None) -> SkyReelsV2:
        """Return the model without weights."""
        return SkyReelsV2(self, device=device)


class SkyReelsV2_WAN21_I2V(comfy.supported_models.WAN21_I2V):
    """Image-to-video models: 36 input channels and CLIP vision tokens."""

    def get_model(self, state_dict: dict[str, Any], prefix: str = "", device: Any = None) -> SkyReelsV2:
        """Return the model without weights."""
        return SkyReelsV2(self, image_to_video=True, device=device)


def model_config(config: WanConfig) -> comfy.supported_models.WAN21_T2V:
    """Return ComfyUI's model config for a WanConfig."""
    kind = SkyReelsV2_WAN21_T2V if config.model_type == "t2v" else SkyReelsV2_WAN21_I2V
    made = kind({"image_model": "wan2.1", **asdict(config)})
    made.latent_format = getattr(comfy.latent_formats, config.geometry.latent_format)()
    return made
