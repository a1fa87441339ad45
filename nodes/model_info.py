"""Nodes about a MODEL that is already loaded: what it is, and the frame rate that another loader dropped."""

from __future__ import annotations

from typing import Any

import folder_paths
from comfy_api.latest import io, ui

from ..wan_core.checkpoint.variants import MODES
from ..wan_core.comfy.language import say
from ..wan_core.comfy.loading.frame_rate import attach_frame_rate
from ..wan_core.comfy.loading.model_info import AUTO, VARIANTS, model_info
from .aliases import ALIASES
from .loaders import model_files


class SkyReelsV2ModelInfo(io.ComfyNode):
    """Which released model a MODEL is, and its authors' settings as outputs."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Name the inputs and outputs."""
        return io.Schema(
            node_id="SkyReelsV2ModelInfo",
            display_name="SkyReels-V2 Model Info",
            search_aliases=ALIASES["SkyReelsV2ModelInfo"],
            category="SkyReels-V2",
            description="Says which SkyReels-V2 model this is and gives its authors' settings as outputs, to be linked "
            "to the inputs of the same names on the latent, sampler, plan and long video nodes.",
            is_output_node=True,
            inputs=[
                io.Model.Input("model", tooltip="Any Wan 2.1 model: ours, Load Diffusion Model's, a GGUF loader's."),
                io.Combo.Input(
                    "variant",
                    options=list(VARIANTS),
                    default=AUTO,
                    tooltip="auto: told by the marker in the file, the name of file or folder, or the model's shape. "
                    "Choose it where that is not enough: DF-14B and T2V-14B look the same.",
                ),
                io.Combo.Input(
                    "mode",
                    options=list(MODES),
                    default=AUTO,
                    tooltip="What the settings are for. auto: image to video with an I2V model, else text to video. "
                    "async: blocks of frames one after the other, DF models only.",
                ),
            ],
            outputs=[
                io.String.Output("info", display_name="info", tooltip="Model, file and settings, as text."),
                io.Int.Output("width", display_name="width", tooltip="Pixels, landscape; with size set to custom."),
                io.Int.Output("height", display_name="height", tooltip="Pixels, landscape; with size set to custom."),
                io.Int.Output(
                    "base_num_frames",
                    display_name="base_num_frames",
                    tooltip="Video frames of one window; also the frames of a short video.",
                ),
                io.Int.Output("steps", display_name="steps", tooltip="Denoising steps of a frame."),
                io.Float.Output("shift", display_name="shift", tooltip="Shift of the noise schedule."),
                io.Float.Output("cfg", display_name="cfg", tooltip="Guidance towards the prompt."),
                io.Int.Output("fps", display_name="fps", tooltip="Frames per second the model was trained on."),
                io.Int.Output("ar_step", display_name="ar_step", tooltip="0, or 5 in async mode."),
                io.Int.Output(
                    "causal_block_size",
                    display_name="causal_block_size",
                    tooltip="1, or 5 latent frames in async mode.",
                ),
            ],
        )

    @classmethod
    def execute(cls, model: Any, variant: str, mode: str) -> io.NodeOutput:
        """Look at the model."""
        found, settings = model_info(model, variant, mode)
        text = say(found)
        return io.NodeOutput(
            text,
            settings.width,
            settings.height,
            settings.base_num_frames,
            settings.steps,
            settings.shift,
            settings.guidance,
            settings.fps,
            settings.ar_step,
            settings.causal_block_size,
            ui=ui.PreviewText(text),
        )


class SkyReelsV2AttachFPS(io.ComfyNode):
    """The frame-rate weights for a MODEL whose loader dropped them."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Name the inputs and outputs."""
        return io.Schema(
            node_id="SkyReelsV2AttachFPS",
            display_name="SkyReels-V2 Attach FPS Weights",
            search_aliases=ALIASES["SkyReelsV2AttachFPS"],
            category="SkyReels-V2",
            description="Gives a DF-1.3B model from Load Diffusion Model or a GGUF loader the frame-rate weights that "
            "those loaders drop. SkyReels-V2 Model Loader keeps them and needs no such node.",
            inputs=[
                io.Model.Input("model", tooltip="DF-1.3B, from Load Diffusion Model or a GGUF loader."),
                io.Combo.Input(
                    "model_name",
                    options=[AUTO, *model_files()],
                    default=AUTO,
                    tooltip="File with the frame-rate weights, in models/diffusion_models. auto: the file the model "
                    "was loaded from, where it says so; after a GGUF loader choose the safetensors file of DF-1.3B.",
                ),
                io.Int.Input(
                    "fps",
                    default=24,
                    min=1,
                    max=120,
                    tooltip="Frames per second the model aims at: 16 has weights of its own, anything else counts as "
                    "24. The sampler's own fps does nothing here.",
                ),
            ],
            outputs=[io.Model.Output("model", display_name="model", tooltip="The model with the frame rate added.")],
        )

    @classmethod
    def execute(cls, model: Any, model_name: str, fps: int) -> io.NodeOutput:
        """Add the frame rate."""
        path = None if model_name == AUTO else folder_paths.get_full_path_or_raise("diffusion_models", model_name)
        return io.NodeOutput(attach_frame_rate(model, path, fps))
