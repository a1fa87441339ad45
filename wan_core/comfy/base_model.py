"""SkyReels-V2 among ComfyUI's models: what it is called, how it is built and what its conditioning carries.

The configs derive from core's Wan 2.1 ones, so latent format, sampling settings, LoRA key map, previews and memory
estimate are core's; only the transformer is ours.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import comfy.conds
import comfy.model_base
import comfy.supported_models
import torch

from ..config import WanConfig
from .transformer import HostWanModel


class SkyReelsV2(comfy.model_base.WAN21):
    """Core's Wan 2.1 model around our transformer."""

    def __init__(self, model_config: Any, image_to_video: bool = False, device: Any = None):
        # past WAN21's own __init__, which would build core's transformer
        super(comfy.model_base.WAN21, self).__init__(
            model_config, comfy.model_base.ModelType.FLOW, device=device, unet_model=HostWanModel
        )
        self.image_to_video = image_to_video

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
    return kind({"image_model": "wan2.1", **asdict(config)})
