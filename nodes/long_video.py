"""Nodes for videos longer than the model's window: the video, its script of prompts, and its plan."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import InputImpl, io

from ..wan_core.comfy.latents import SIZES
from ..wan_core.comfy.long_video import Inputs, LongVideoSettings, make_long_video, positives_of, show_plan
from ..wan_core.comfy.sampler import ForcingOptions
from .sampling import forcing_inputs, steps_and_shift

Script = io.Custom("SKYREELS_V2_SCRIPT")
FORCING = ("solver", "fps", "ar_step", "causal_block_size", "causal_attention", "addnoise_condition")


def length_inputs() -> list[Any]:
    """Return the inputs that the plan of a long video depends on."""
    return [
        io.Int.Input(
            "total_frames",
            default=257,
            min=1,
            max=1_000_000,
            tooltip="Length in video frames: 257, 377, 737, 1457 are 10, 15, 30, 60 s at 24 fps.",
        ),
        io.Int.Input(
            "base_num_frames",
            default=97,
            min=5,
            max=8193,
            step=4,
            tooltip="Video frames that the model sees at once: 97 for 540P models, 121 for 720P models.",
        ),
        io.Int.Input(
            "overlap_history",
            default=17,
            min=1,
            max=8193,
            step=4,
            tooltip="Video frames that a segment takes over from the one before: 17, or 37 for more coherence.",
        ),
    ]


def loop_input() -> Any:
    """Return the input of the seamless loop."""
    return io.Boolean.Input(
        "loop",
        default=False,
        tooltip="The end leads back to the start: the video can be played round and round.",
    )


class SkyReelsV2PromptScript(io.ComfyNode):
    """Prompts for the parts of a long video."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Name the inputs and outputs."""
        return io.Schema(
            node_id="SkyReelsV2PromptScript",
            display_name="SkyReels-V2 Prompt Script",
            category="SkyReels-V2",
            description="Prompts that change over a long video: one line per segment, or time ranges like 0s-4s: ...",
            inputs=[
                io.Clip.Input("clip", tooltip='umt5_xxl, loaded with CLIPLoader and type "wan".'),
                io.String.Input(
                    "script",
                    multiline=True,
                    default="0s-4s: a white swan swims on a lake at dawn\n4s-: the swan takes off and flies away",
                    tooltip="One prompt per line and segment (a single line is for all), or time ranges: 0s-4s: "
                    "first prompt, next line 4s-: second prompt. A segment gets the prompt that holds most of it.",
                ),
            ],
            outputs=[Script.Output("script", display_name="script", tooltip="For SkyReels-V2 Long Video.")],
        )

    @classmethod
    def execute(cls, clip: Any, script: str) -> io.NodeOutput:
        """Hand on encoder and text: which segment gets which prompt depends on the plan."""
        return io.NodeOutput((clip, script))


class SkyReelsV2Plan(io.ComfyNode):
    """What a long video will be made of, before an hour is spent on it."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Name the inputs and outputs."""
        steps, shift = steps_and_shift()
        forcing = [entry for entry in forcing_inputs() if entry.id in FORCING[2:5]]
        return io.Schema(
            node_id="SkyReelsV2Plan",
            display_name="SkyReels-V2 Plan",
            category="SkyReels-V2",
            description="Shows what settings mean: the segments as a table, and a picture of the noise (latent frames "
            "across, model calls down; bright = noise, dark = finished, grey = taken over).",
            inputs=[*length_inputs(), steps, shift, *forcing, loop_input()],
            outputs=[
                io.String.Output("plan", display_name="plan", tooltip="Segments, rows and model calls, as a table."),
                io.Image.Output("picture", display_name="picture", tooltip="The noise schedule of the whole video."),
            ],
        )

    @classmethod
    def execute(cls, shift: float, **settings: Any) -> io.NodeOutput:
        """Make the plan."""
        forcing = ForcingOptions(**{name: settings.pop(name) for name in FORCING[2:5]})
        return io.NodeOutput(*show_plan(LongVideoSettings(**settings, shift=shift, forcing=forcing)))


class SkyReelsV2LongVideo(io.ComfyNode):
    """A video of any length."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Name the inputs and outputs."""
        steps, shift = steps_and_shift()
        return io.Schema(
            node_id="SkyReelsV2LongVideo",
            display_name="SkyReels-V2 Long Video",
            category="SkyReels-V2",
            description="Makes a video of any length, segment by segment, in the memory of one. Finished segments are "
            "kept in output/skyreels_v2_jobs: a run that was stopped goes on there when it is queued again.",
            inputs=[
                io.Model.Input("model", tooltip="A SkyReels-V2-DF model."),
                io.Vae.Input("vae", tooltip="The Wan 2.1 VAE."),
                io.Conditioning.Input("positive", optional=True, tooltip="The encoded prompt; or connect a script."),
                io.Conditioning.Input("negative", tooltip="The encoded negative prompt; not used at cfg 1."),
                Script.Input("script", optional=True, tooltip="Prompts that change over time, in place of positive."),
                io.Image.Input(
                    "start_image", optional=True, tooltip="The first frame, or several: the beginning of a video."
                ),
                io.Image.Input("end_image", optional=True, tooltip="The last frame of the whole video."),
                io.Combo.Input(
                    "size", options=[*SIZES, "custom"], default=next(iter(SIZES)), tooltip="Size of the video."
                ),
                io.Int.Input("width", default=960, min=16, max=8192, step=16, tooltip="Pixels, with size custom."),
                io.Int.Input("height", default=544, min=16, max=8192, step=16, tooltip="Pixels, with size custom."),
                *length_inputs(),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=True,
                    tooltip="Seed of all noise. Keep it fixed to go on with a stopped run.",
                ),
                steps,
                io.Float.Input(
                    "cfg",
                    default=6.0,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    round=0.01,
                    tooltip="Guidance: 6; 5 with images.",
                ),
                shift,
                *forcing_inputs(),
                io.Combo.Input(
                    "carry_over",
                    options=["latents", "frames"],
                    default="latents",
                    tooltip="How the overlap is handed on. latents: as they are. frames: decoded and encoded again, as "
                    "the authors' program does; colours drift more.",
                ),
                io.Float.Input(
                    "drift_control",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="How far a segment is brought to the brightness and contrast of the first. 0: not.",
                ),
                loop_input(),
                io.Int.Input(
                    "crf",
                    default=18,
                    min=0,
                    max=51,
                    tooltip="Quality of the H.264 file: 0 lossless, 18 looks the same.",
                ),
                io.String.Input(
                    "job_name", default="long_video", tooltip="Begins the name of the job's folder; no folders in it."
                ),
            ],
            outputs=[
                io.Video.Output("video", display_name="video", tooltip="The whole video, a file; for SaveVideo."),
                io.Latent.Output("latent", display_name="latent", tooltip="Latents of the last segment."),
                io.String.Output("plan", display_name="plan", tooltip="The plan, and what an earlier run had done."),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        vae: Any,
        negative: Any,
        size: str,
        width: int,
        height: int,
        job_name: str,
        positive: Any = None,
        script: Any = None,
        start_image: Any = None,
        end_image: Any = None,
        **settings: Any,
    ) -> io.NodeOutput:
        """Make the video, or go on with it."""
        width, height = SIZES.get(size, (width, height))
        forcing = ForcingOptions(**{name: settings.pop(name) for name in FORCING})
        chosen = LongVideoSettings(**settings, width=width, height=height, forcing=forcing)
        positives, conditions = positives_of(positive, script, chosen)
        inputs = Inputs(model, vae, positives, negative, conditions, start_image, end_image)
        made = make_long_video(inputs, chosen, job_name)
        return io.NodeOutput(InputImpl.VideoFromFile(str(made.path)), {"samples": made.latents}, made.text)
