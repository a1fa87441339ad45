"""Nodes that make a video longer than the model's window, from nothing or from a video."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from comfy_api.latest import io

from ..wan_core.comfy.host_flags import file_texts, handed_on
from ..wan_core.comfy.language import say
from ..wan_core.comfy.loading.own_transformer import on_own_transformer
from ..wan_core.comfy.long.inputs import Inputs, check_model, prompts_of
from ..wan_core.comfy.long.long_video import Job, make_long_video
from ..wan_core.comfy.long.made_video import MadeVideo
from ..wan_core.comfy.long.source_video import read_source
from ..wan_core.comfy.model.checks import check_vae, model_geometry
from ..wan_core.comfy.node_text import node_event, node_text
from ..wan_core.comfy.vae.latents import SIZES
from ..wan_core.long.jobs import check_name
from ..wan_core.long.key_frames import GivenImages, read_key_frames
from ..wan_core.long.methods import Method
from ..wan_core.long.plan import ROLLING
from ..wan_core.long.settings import LongVideoSettings, PlannedVideo, extended_frames, stand_in_for_a_video
from ..wan_core.sampling.run import ForcingOptions
from ..wan_core.words import Words, words
from .aliases import ALIASES
from .inputs import (
    FORCING,
    forcing_inputs,
    negative_input,
    negative_of,
    pixels_of,
    seed_and_cfg,
    shown_first,
    size_input,
    steps_and_shift,
)
from .long_inputs import (
    FILE_RATE,
    Script,
    image_inputs,
    job_inputs,
    key_times_input,
    length_inputs,
    loop_input,
    quality_inputs,
    video_outputs,
)
from .method import chosen_method, method_input

AS_THE_VIDEO = "as the video"
GROWING = "skyreels_v2.growing"  # the event that web/js/panel.js names


def finish(inputs: Inputs, video: PlannedVideo, job_name: str, keep_gb: float, hidden: Any) -> io.NodeOutput:
    """Make the video, or go on with it, and hand it out."""
    texts = file_texts(hidden.prompt, hidden.extra_pnginfo)
    made = make_long_video(inputs, video, Job(job_name, texts, keep_gb, node_text("segments"), node_event(GROWING)))
    return io.NodeOutput(MadeVideo(made.path, made.noted), {"samples": handed_on(made.latents)}, say(made.text))


def check_early(model: Any, vae: Any, settings: LongVideoSettings, job_name: str, need: Words) -> None:
    """Refuse what no prompt and no video could mend, before these are read; `Raises: SkyReelsError`."""
    check_name(job_name)
    check_vae(vae, settings.geometry, streamed=True)
    check_model(model, settings, need)


def for_method(model: Any, method: Method) -> Any:
    """Return a MODEL that can do what the method asks for: rolling needs the cache of our transformer."""
    return on_own_transformer(model) if method.name == ROLLING else model


class SkyReelsV2LongVideo(io.ComfyNode):
    """A video of any length."""

    @classmethod
    @shown_first("total_frames", "seed", "cfg", "method")
    def define_schema(cls) -> io.Schema:
        """Name the inputs and outputs."""
        steps, shift = steps_and_shift()
        seed, cfg = seed_and_cfg()
        return io.Schema(
            node_id="SkyReelsV2LongVideo",
            display_name="SkyReels-V2 Long Video",
            search_aliases=ALIASES["SkyReelsV2LongVideo"],
            category="SkyReels-V2",
            description="Makes a video of any length, segment by segment, in the memory that one segment needs. "
            "Finished segments are kept in output/skyreels_v2_jobs, so a stopped run resumes when it is "
            "queued again.",
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
            inputs=[
                io.Model.Input("model", tooltip="A SkyReels-V2-DF model."),
                io.Vae.Input("vae", tooltip="The Wan 2.1 VAE; for a quick draft its tiny twin, lighttaew2_1."),
                io.Conditioning.Input("positive", optional=True, tooltip="The encoded prompt; or connect a script."),
                negative_input(),
                Script.Input("script", optional=True, tooltip="Prompts that change over time, in place of positive."),
                *image_inputs(),
                size_input(),
                *length_inputs(),
                seed,
                steps,
                cfg,
                shift,
                *forcing_inputs(FILE_RATE),
                *quality_inputs(),
                loop_input(),
                key_times_input(),
                *job_inputs(),
                method_input(),
            ],
            outputs=video_outputs(),
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        vae: Any,
        job_name: str,
        keep_gb: float,
        key_times: str,
        size: dict[str, Any] | None = None,
        positive: Any = None,
        negative: Any = None,
        script: Any = None,
        start_image: Any = None,
        end_image: Any = None,
        key_images: Any = None,
        method: dict[str, Any] | None = None,
        **settings: Any,
    ) -> io.NodeOutput:
        """Make the video, or go on with it."""
        width, height = pixels_of(size)
        forcing = ForcingOptions(**{name: settings.pop(name) for name in FORCING})
        how = chosen_method(method)
        model = for_method(model, how)
        geometry = model_geometry(model.model)
        chosen = LongVideoSettings(
            **settings, width=width, height=height, forcing=forcing, geometry=geometry, method=how
        )
        key_frames = read_key_frames(key_times, key_images, forcing.fps, words("key_times"))
        video = chosen.planned(GivenImages(start_image, end_image, key_images, key_frames))
        check_early(model, vae, chosen, job_name, words("Long Video"))
        inputs = Inputs(model, vae, prompts_of(positive, script, video), negative_of(negative, chosen.cfg))
        return finish(inputs, video, job_name, keep_gb, cls.hidden)


class SkyReelsV2ExtendVideo(io.ComfyNode):
    """A video that goes on."""

    @classmethod
    @shown_first("size", "new_frames", "seed", "steps", "cfg", "method")
    def define_schema(cls) -> io.Schema:
        """Name the inputs and outputs."""
        steps, shift = steps_and_shift()
        seed, cfg = seed_and_cfg()
        return io.Schema(
            node_id="SkyReelsV2ExtendVideo",
            display_name="SkyReels-V2 Extend Video",
            search_aliases=ALIASES["SkyReelsV2ExtendVideo"],
            category="SkyReels-V2",
            description="Continues a video of any length from its end. The model sees only its last frames; the "
            "output is the whole video at its own frame rate, with the original sound. A stopped run "
            "resumes when it is queued again.",
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
            inputs=[
                io.Model.Input("model", tooltip="A SkyReels-V2-DF model."),
                io.Vae.Input("vae", tooltip="The Wan 2.1 VAE; for a quick draft its tiny twin, lighttaew2_1."),
                io.Video.Input("video", tooltip="The video to extend, of any length."),
                io.Conditioning.Input("positive", optional=True, tooltip="The encoded prompt; or connect a script."),
                negative_input(),
                Script.Input(
                    "script",
                    optional=True,
                    tooltip="Prompts that change over time, in place of positive; 0s is where the model begins to see "
                    "the video: overlap_history frames before its end.",
                ),
                io.Image.Input("end_image", optional=True, tooltip="The last frame of the whole video."),
                io.Combo.Input(
                    "size",
                    options=[AS_THE_VIDEO, *SIZES],
                    default=AS_THE_VIDEO,
                    tooltip="Size of the result; the video is scaled and cropped about its centre to it. As the video: "
                    "its own size, cut to multiples of 16 pixels.",
                ),
                io.Int.Input("new_frames", default=80, min=1, max=1_000_000, tooltip="Video frames to add at the end."),
                *length_inputs()[1:],
                seed,
                steps,
                cfg,
                shift,
                *(entry for entry in forcing_inputs() if entry.id != "fps"),
                *quality_inputs(),
                *job_inputs(),
                method_input(),
            ],
            outputs=video_outputs(),
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        vae: Any,
        video: Any,
        size: str,
        new_frames: int,
        job_name: str,
        keep_gb: float,
        positive: Any = None,
        negative: Any = None,
        script: Any = None,
        end_image: Any = None,
        method: dict[str, Any] | None = None,
        **settings: Any,
    ) -> io.NodeOutput:
        """Go on from the video."""
        forcing = ForcingOptions(**{name: settings.pop(name) for name in FORCING if name != "fps"})
        how = chosen_method(method)
        model = for_method(model, how)
        geometry = model_geometry(model.model)
        total = extended_frames(settings["overlap_history"], new_frames, geometry)
        chosen = LongVideoSettings(**settings, total_frames=total, forcing=forcing, geometry=geometry, method=how)
        overlap = settings["overlap_history"]
        early = chosen.planned(GivenImages(stand_in_for_a_video(overlap, geometry), end_image))
        check_early(model, vae, chosen, job_name, words("Extend Video"))
        source = read_source(video, overlap, geometry)
        width, height = SIZES.get(size) or source.size
        forcing, total = replace(forcing, fps=source.model_fps), len(source.tail) + new_frames
        chosen = replace(chosen, total_frames=total, width=width, height=height, forcing=forcing)
        extended = chosen.planned(GivenImages(source.tail, end_image), early)
        prompts = prompts_of(positive, script, extended, float(source.rate))
        inputs = Inputs(model, vae, prompts, negative_of(negative, chosen.cfg), source)
        return finish(inputs, extended, job_name, keep_gb, cls.hidden)
