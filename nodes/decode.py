"""Nodes that turn latents into pictures."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..wan_core.comfy.model.checks import check_vae
from ..wan_core.comfy.vae.frames import decode_video
from .aliases import ALIASES


class SkyReelsV2VAEDecode(io.ComfyNode):
    """Latent video to images."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Name the inputs and outputs."""
        return io.Schema(
            node_id="SkyReelsV2VAEDecode",
            display_name="SkyReels-V2 VAE Decode",
            search_aliases=ALIASES["SkyReelsV2VAEDecode"],
            category="SkyReels-V2",
            description="Decodes a latent video. Tiles are in space only: tiles in time would leave visible seams.",
            inputs=[
                io.Latent.Input("samples", lazy=True, tooltip="The latent video."),
                io.Vae.Input("vae", tooltip="The Wan 2.1 VAE; for a quick draft its tiny twin, lighttaew2_1."),
                io.Combo.Input(
                    "tiling",
                    options=["auto", "never", "always"],
                    default="auto",
                    tooltip="auto: tiles only when a whole frame doesn't fit in memory. never: whole frames first; "
                    "ComfyUI falls back to tiles if they don't fit. always: least memory, slower.",
                ),
            ],
            outputs=[io.Image.Output("images", display_name="images", tooltip="The frames of the video, in order.")],
        )

    @classmethod
    def check_lazy_status(cls, vae: Any, tiling: str, samples: Any = None) -> list[str]:
        """Refuse a VAE of another kind before the latent is sampled, and ask for it then."""
        check_vae(vae)
        return ["samples"] if samples is None else []

    @classmethod
    def execute(cls, samples: Any, vae: Any, tiling: str) -> io.NodeOutput:
        """Decode the video."""
        return io.NodeOutput(decode_video(vae, samples, tiling))
