"""Nodes that prepare the latent video: its size and length, and the frames that are known."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..wan_core.comfy.vae.frames import pin_frames
from ..wan_core.comfy.vae.latents import empty_latent
from ..wan_core.long.key_frames import GivenImages, read_key_frames
from ..wan_core.model.geometry import WAN21
from ..wan_core.words import words
from .aliases import ALIASES
from .inputs import pixels_of, shown_first, size_input


class SkyReelsV2EmptyLatent(io.ComfyNode):
    """An empty latent video."""

    @classmethod
    @shown_first("frames")
    def define_schema(cls) -> io.Schema:
        """Name the inputs and outputs."""
        return io.Schema(
            node_id="SkyReelsV2EmptyLatent",
            display_name="SkyReels-V2 Empty Latent",
            search_aliases=ALIASES["SkyReelsV2EmptyLatent"],
            category="SkyReels-V2",
            description="An empty latent video. 540P models: 97 frames (4 s at 24 fps) at 960x544. 720P models: 121 "
            "frames (5 s) at 1280x720.",
            inputs=[
                size_input(),
                io.Int.Input(
                    "frames",
                    default=97,
                    min=1,
                    max=8193,
                    step=WAN21.temporal,
                    tooltip="Length in video frames, a multiple of 4 plus 1: 97 for 540P models, 121 for 720P models "
                    "(what they were trained on).",
                ),
                io.Int.Input("batch_size", default=1, min=1, max=64, tooltip="How many videos at once."),
            ],
            outputs=[io.Latent.Output("latent", display_name="latent", tooltip="Empty latent video.")],
        )

    @classmethod
    def execute(cls, frames: int, batch_size: int, size: dict[str, Any] | None = None) -> io.NodeOutput:
        """Make the latent."""
        return io.NodeOutput(empty_latent(*pixels_of(size), frames, batch_size))


class SkyReelsV2KeyFrames(io.ComfyNode):
    """Images as known frames of a latent video."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Name the inputs and outputs."""
        return io.Schema(
            node_id="SkyReelsV2KeyFrames",
            display_name="SkyReels-V2 Start/End/Key Frames",
            search_aliases=ALIASES["SkyReelsV2KeyFrames"],
            category="SkyReels-V2",
            description="Pins images in time: the sampler keeps these frames and makes the others around them. Connect "
            "any of start, end and key images; several of these nodes can follow one another.",
            inputs=[
                io.Vae.Input("vae", tooltip="The Wan 2.1 VAE."),
                io.Latent.Input("latent", tooltip="The latent video to pin frames in; it gives size and length."),
                io.Image.Input(
                    "start_image",
                    optional=True,
                    tooltip="The first frame; or several images, the beginning of a video to go on from (a multiple of "
                    "4 plus 1 is used). Scaled and cropped about the centre.",
                ),
                io.Image.Input("end_image", optional=True, tooltip="The last frame."),
                io.Image.Input(
                    "key_images", optional=True, tooltip="Images for frames in between, one for each key frame."
                ),
                io.String.Input(
                    "key_frames",
                    default="",
                    optional=True,
                    tooltip="Where each key image lies: video frames like 24, 48, counted from 0 (-1 is the last), or "
                    "times like 1s, 2.5s. Four video frames share one latent frame.",
                ),
                io.Int.Input(
                    "fps",
                    default=24,
                    min=1,
                    max=120,
                    optional=True,  # so prompts that were written down before it was there still run
                    tooltip="Frames per second, used where key_frames gives times.",
                ),
            ],
            outputs=[
                io.Latent.Output(
                    "latent", display_name="latent", tooltip="The latent video with these frames pinned (noise_mask 0)."
                )
            ],
        )

    @classmethod
    def execute(
        cls,
        vae: Any,
        latent: dict[str, Any],
        start_image: Any = None,
        end_image: Any = None,
        key_images: Any = None,
        key_frames: str = "",
        fps: int = 24,
    ) -> io.NodeOutput:
        """Pin the frames."""
        frames = read_key_frames(key_frames, key_images, fps, words("key_frames"))
        return io.NodeOutput(pin_frames(vae, latent, GivenImages(start_image, end_image, key_images, frames)))
