"""Nodes that turn words into conditioning."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..wan_core.comfy.model.text import encode_prompt
from .aliases import ALIASES

NEGATIVE_PROMPT = (  # the one that the models' authors use for every video
    "色调艳丽，过曝，静态，细节模糊不清，字幕，风格，作品，画作，画面，静止，整体发灰，最差质量，低质量，JPEG压缩残留，丑陋的，残缺的，"
    "多余的手指，画得不好的手部，画得不好的脸部，畸形的，毁容的，形态畸形的肢体，手指融合，静止不动的画面，杂乱的背景，三条腿，背景人很多，倒着走"
)


def negative_prompt_input(optional: bool = False) -> Any:
    """Return the input of a negative prompt."""
    return io.String.Input(
        "negative_prompt",
        optional=optional,
        multiline=True,
        dynamic_prompts=True,
        default=NEGATIVE_PROMPT,
        tooltip="What the video should not show; used when cfg is above 1. The default is the authors' own: bad "
        "quality, stills, subtitles, malformed hands.",
    )


class SkyReelsV2TextEncode(io.ComfyNode):
    """Prompt and negative prompt in one node, with the authors' negative prompt as default."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Name the inputs and outputs."""
        return io.Schema(
            node_id="SkyReelsV2TextEncode",
            display_name="SkyReels-V2 Text Encode",
            search_aliases=ALIASES["SkyReelsV2TextEncode"],
            category="SkyReels-V2",
            description="Encodes prompt and negative prompt with umt5_xxl. CONDITIONING from any other node fits the "
            "samplers too.",
            inputs=[
                io.Clip.Input("clip", tooltip='umt5_xxl, loaded with CLIPLoader and type "wan".'),
                io.String.Input(
                    "prompt",
                    multiline=True,
                    dynamic_prompts=True,
                    tooltip="What the video shows: subject, what it does, place, light, camera. English or Chinese.",
                ),
                negative_prompt_input(),
            ],
            outputs=[
                io.Conditioning.Output("positive", display_name="positive", tooltip="The encoded prompt."),
                io.Conditioning.Output("negative", display_name="negative", tooltip="The encoded negative prompt."),
            ],
        )

    @classmethod
    def execute(cls, clip: Any, prompt: str, negative_prompt: str) -> io.NodeOutput:
        """Encode both prompts."""
        return io.NodeOutput(encode_prompt(clip, prompt), encode_prompt(clip, negative_prompt))
