"""The node that brings in the embedded demo models: every example workflow runs with them, without a download."""

from __future__ import annotations

from comfy_api.latest import io

from ..demo.files import DIT_FILE, TEXT_FILE, VAE_FILE, WEIGHTS
from ..demo.latents import preview_factors
from ..demo.text import load_text_encoder, tokenize
from ..wan_core.comfy.loading.demo_models import load_demo_models
from .aliases import ALIASES


class SkyReelsV2DemoModels(io.ComfyNode):
    """The three tiny models of the pack."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Name the outputs."""
        return io.Schema(
            node_id="SkyReelsV2DemoModels",
            display_name="SkyReels-V2 Demo Models",
            search_aliases=ALIASES["SkyReelsV2DemoModels"],
            category="SkyReels-V2",
            description="Tiny models that come with this pack: a diffusion-forcing transformer, its text encoder and "
            "its VAE. They make 64x64 videos of one moving shape, on any computer, from prompts such as: a red circle "
            "moving to the right on a black background. Use them to try a workflow before you download gigabytes.",
            inputs=[],
            outputs=[
                io.Model.Output("model", display_name="model", tooltip="Diffusion-forcing transformer for 64x64."),
                io.Clip.Output("clip", display_name="clip", tooltip="Text encoder, English and Chinese."),
                io.Vae.Output("vae", display_name="vae", tooltip="Wan 2.1 VAE a twelfth as wide as the released one."),
            ],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        """Load the files."""
        encoder = load_text_encoder(WEIGHTS / TEXT_FILE)
        files = WEIGHTS / DIT_FILE, WEIGHTS / VAE_FILE
        return io.NodeOutput(*load_demo_models(*files, encoder, tokenize, preview_factors()))
