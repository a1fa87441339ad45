"""Nodes around a long video: its script of prompts, its plan, and the jobs that lie on the disk."""

from __future__ import annotations

import time
from typing import Any

from comfy_api.latest import io, ui

from ..wan_core.comfy.language import say
from ..wan_core.comfy.long.long_video import jobs_root
from ..wan_core.comfy.model.text import encode_prompt
from ..wan_core.errors import InputError
from ..wan_core.long.jobs import show_jobs
from ..wan_core.long.key_frames import GivenImages, read_key_frames
from ..wan_core.long.prompts import PromptScript, script_of_prompts
from ..wan_core.long.settings import LongVideoSettings, extended_frames, stand_in_for_a_video
from ..wan_core.sampling.run import ForcingOptions
from ..wan_core.words import joined, words
from .aliases import ALIASES
from .conditioning import NEGATIVE_PROMPT, negative_prompt_input
from .inputs import FORCING, forcing_inputs, pixels_of, seed_and_cfg, shown_first, size_input, steps_and_shift
from .long_inputs import FILE_RATE, Script, image_inputs, key_times_input, length_inputs, loop_input
from .method import chosen_method, method_input

MOST_PROMPTS = 50


def blend_input() -> Any:
    """Return the input of how one prompt follows another."""
    return io.Float.Input(
        "blend",
        optional=True,  # so prompts that were written down before it was there still run
        default=0.0,
        min=0.0,
        max=60.0,
        step=0.25,
        tooltip="Seconds over which a new prompt takes over from the one before. 0: at once. Both prompts are computed "
        "there, which takes up to twice the time.",
    )


def script_outputs() -> list[Any]:
    """Return the outputs of both nodes that make scripts: all the prompts that a long video needs."""
    return [
        Script.Output("script", display_name="script", tooltip="For SkyReels-V2 Long Video."),
        io.Conditioning.Output("negative", display_name="negative", tooltip="The encoded negative prompt."),
    ]


class SkyReelsV2PromptScript(io.ComfyNode):
    """Prompts for the parts of a long video."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Name the inputs and outputs."""
        return io.Schema(
            node_id="SkyReelsV2PromptScript",
            display_name="SkyReels-V2 Prompt Script",
            search_aliases=ALIASES["SkyReelsV2PromptScript"],
            category="SkyReels-V2",
            description="Prompts that change over a long video: one line per segment, or time ranges like 0s-4s: ...",
            inputs=[
                io.Clip.Input("clip", tooltip='umt5_xxl, loaded with CLIPLoader and type "wan".'),
                io.String.Input(
                    "script",
                    multiline=True,
                    default="0s-4s: a white swan swims on a lake at dawn\n4s-: the swan takes off and flies away",
                    tooltip="One prompt per line and segment (a single line is for all), or times: 0s-4s: "
                    "first prompt, next line 4s-: second prompt. Clocks (0:04) and frames (0f-96f) are read too. A "
                    "segment gets the prompt that holds most of it. [seed 7] in front of a prompt gives its segments a "
                    "seed of their own. Choices in braces are made by the seed of the video.",
                ),
                blend_input(),
                negative_prompt_input(optional=True),  # as blend
            ],
            outputs=script_outputs(),
        )

    @classmethod
    def execute(
        cls, clip: Any, script: str, blend: float = 0.0, negative_prompt: str = NEGATIVE_PROMPT
    ) -> io.NodeOutput:
        """Hand on encoder and text, since which segment gets which prompt depends on the plan; encode the negative."""
        return io.NodeOutput(PromptScript(clip, script, blend), encode_prompt(clip, negative_prompt))


class SkyReelsV2PromptList(io.ComfyNode):
    """Prompts for the parts of a long video, each from an input of its own."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Name the inputs and outputs."""
        prompt = io.String.Input("prompt", tooltip="A prompt; it may begin with a time range (0s-4s: ...) or a seed.")
        names = [f"prompt_{number}" for number in range(1, MOST_PROMPTS + 1)]
        return io.Schema(
            node_id="SkyReelsV2PromptList",
            display_name="SkyReels-V2 Prompt List",
            search_aliases=ALIASES["SkyReelsV2PromptList"],
            category="SkyReels-V2",
            description="Prompts that change over a long video, each from a node of its own. Connecting one adds the "
            "next input.",
            inputs=[
                io.Clip.Input("clip", tooltip='umt5_xxl, loaded with CLIPLoader and type "wan".'),
                io.Autogrow.Input(
                    "prompts",
                    template=io.Autogrow.TemplateNames(prompt, names, min=2),
                    tooltip="One text per segment, in order, or each with its time range as in SkyReels-V2 Prompt "
                    "Script.",
                ),
                blend_input(),
                negative_prompt_input(optional=True),  # as blend
            ],
            outputs=script_outputs(),
        )

    @classmethod
    def execute(
        cls, clip: Any, prompts: dict[str, str], blend: float = 0.0, negative_prompt: str = NEGATIVE_PROMPT
    ) -> io.NodeOutput:
        """Hand on encoder and text, and the negative prompt encoded."""
        return io.NodeOutput(
            PromptScript(clip, script_of_prompts(prompts), blend), encode_prompt(clip, negative_prompt)
        )


class SkyReelsV2Plan(io.ComfyNode):
    """What a long video will be made of, before an hour is spent on it."""

    @classmethod
    @shown_first(*(entry.id for entry in length_inputs()), "steps", "method")
    def define_schema(cls) -> io.Schema:
        """Name the inputs and outputs."""
        steps, shift = steps_and_shift()
        _seed, cfg = seed_and_cfg()
        forcing = {entry.id: entry for entry in forcing_inputs(FILE_RATE)}
        new_frames = io.Int.Input(
            "new_frames",
            default=0,
            min=0,
            max=1_000_000,
            tooltip="Above 0: plans SkyReels-V2 Extend Video with this many new video frames and ignores total_frames.",
        )
        later = [cfg, forcing["fps"], new_frames, key_times_input()]
        for entry in later:
            entry.optional = True  # so prompts that were written down before they were there still run
        return io.Schema(
            node_id="SkyReelsV2Plan",
            display_name="SkyReels-V2 Plan",
            search_aliases=ALIASES["SkyReelsV2Plan"],
            category="SkyReels-V2",
            description="Shows what the settings will do: a table of the segments, and a picture of the noise "
            "(latent frames across, model calls down; bright = noise, dark = finished, light grey = "
            "known).",
            inputs=[
                size_input(),
                *length_inputs(),
                steps,
                shift,
                *(forcing[name] for name in FORCING[2:5]),
                loop_input(),
                *later,
                *image_inputs(),
                method_input(),
            ],
            outputs=[
                io.String.Output("plan", display_name="plan", tooltip="Segments, rows and model calls, as a table."),
                io.Image.Output("picture", display_name="picture", tooltip="The noise schedule of the whole video."),
            ],
        )

    @classmethod
    def execute(
        cls,
        size: dict[str, Any] | None = None,
        new_frames: int = 0,
        key_times: str = "",
        start_image: Any = None,
        end_image: Any = None,
        key_images: Any = None,
        method: dict[str, Any] | None = None,
        **settings: Any,
    ) -> io.NodeOutput:
        """Make the plan."""
        width, height = pixels_of(size)
        forcing = ForcingOptions(**{name: settings.pop(name) for name in FORCING[1:5] if name in settings})
        if new_frames:
            refuse_what_no_extension_has(new_frames, settings["loop"], start_image, key_images)
            settings["total_frames"] = extended_frames(settings["overlap_history"], new_frames)
            start_image = stand_in_for_a_video(settings["overlap_history"])
        key_frames = read_key_frames(key_times, key_images, forcing.fps, words("key_times"))
        images = GivenImages(start_image, end_image, key_images, key_frames)
        chosen = LongVideoSettings(
            **settings, width=width, height=height, forcing=forcing, method=chosen_method(method)
        )
        video = chosen.planned(images)
        return io.NodeOutput(say(video.describe()), video.picture())


def refuse_what_no_extension_has(new_frames: int, loop: bool, start_image: Any = None, key_images: Any = None) -> None:
    """Refuse inputs of a plan that only a video which begins with nothing can have; `Raises: InputError`."""
    given = (
        (words("loop"), loop),
        (words("start_image"), start_image is not None),
        (words("key_images"), key_images is not None),
    )
    names = [name for name, there in given if there]
    if names:
        raise InputError(
            "new_frames is {new_frames}, which plans an extension of a video, but Extend Video has no {names}: set "
            "new_frames to 0, or do without.",
            new_frames=new_frames,
            names=joined(names, " and no "),
        )


class SkyReelsV2Jobs(io.ComfyNode):
    """The jobs of long videos that lie on the disk."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Name the inputs and outputs."""
        return io.Schema(
            node_id="SkyReelsV2Jobs",
            display_name="SkyReels-V2 Jobs",
            search_aliases=ALIASES["SkyReelsV2Jobs"],
            category="SkyReels-V2",
            description="Lists the long videos kept in output/skyreels_v2_jobs, and removes one of them.",
            is_output_node=True,
            hidden=[io.Hidden.prompt, io.Hidden.unique_id],
            inputs=[
                io.String.Input(
                    "remove", default="", tooltip="Name of a job's folder, as the list shows it. Empty: only list."
                ),
            ],
            outputs=[
                io.String.Output("jobs", display_name="jobs", tooltip="The jobs, the longest untouched first."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, **_inputs: Any) -> float:
        """Say that the list is new each time."""
        return time.time()

    @classmethod
    def execute(cls, remove: str) -> io.NodeOutput:
        """Remove what is named, and list the rest; a name that the workflow worked out itself removes nothing."""
        inputs = ((cls.hidden.prompt or {}).get(cls.hidden.unique_id) or {}).get("inputs", {})
        typed = not isinstance(inputs.get("remove"), list)
        text = say(show_jobs(jobs_root(), remove.strip() if typed else ""))
        if remove.strip() and not typed:
            text = f"{say(words('Nothing was removed: type the name on the node instead of connecting it.'))}\n{text}"
        return io.NodeOutput(text, ui=ui.PreviewText(text))
