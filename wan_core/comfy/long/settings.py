"""What a long video is made from: settings, models, prompts, given images. Everything is checked here, before work."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from itertools import chain
from typing import Any

import torch

from ...errors import InputError
from ...finite import check_number
from ...long.key_frames import check_counts, placed, read_frames
from ...long.methods import Method
from ...long.plan import ROLLING, Plan, Wanted
from ...long.plan_text import estimate, table
from ...long.prompts import Prompts, PromptScript
from ...long.rolling_video import cuts_of
from ...long.rollout import check_amounts, known_clip
from ...long.schedule_picture import schedule_picture
from ...long.script import parse_script
from ...model.geometry import WAN21, Geometry
from ...sampling.run import ForcingOptions
from ...sampling.solvers import check_solver
from ...video.codecs import find_codec
from ...video.writer import check_rate
from ...words import Joined, Words, counted, lines, words
from ..model.checks import check_long_model, check_rolling_model
from ..model.origin import check_forcing
from ..model.text import encode_prompt
from ..sampling.conditioning import check_conditioning, refuse_beside_the_clip, refuse_block_patches
from ..sampling.guided import Guidance
from ..sampling.rolling import check_guidance
from ..vae.frames import check_not_empty, encode_images
from .identity import conditioning_settings, conditioning_tensors, model_identity, vae_identity
from .source_video import SourceVideo


@dataclass(frozen=True)
class LongVideoSettings:
    """What a person chooses for a long video.

    Attributes:
        total_frames: video frames wanted.
        width: pixels.
        height: pixels.
        base_num_frames: video frames of the model's window.
        overlap_history: video frames that a segment takes over from the one before.
        seed: seed of all noise; every segment has noise of its own.
        steps: denoising steps of a frame.
        cfg: guidance scale.
        shift: shift of the noise schedule.
        carry_over: "latents", or "frames" to decode and encode the overlap as the authors' program does.
        drift_control: 0 to 1, how far a segment is matched to the statistics of the first.
        method: how the latents are made.
        loop: whether the end leads back to the start; `total_frames` then counts the first frame at either end.
        codec: of the file, one of `codecs.available_codecs()`.
        crf: quality of the file, 0 (best) to 51 (worst).
        forcing: the diffusion-forcing settings; its fps is the rate of the file too, but where a video is extended.
        geometry: of the model.
    """

    total_frames: int = 257
    width: int = 960
    height: int = 544
    base_num_frames: int = 97
    overlap_history: int = 17
    seed: int = 0
    steps: int = 30
    cfg: float = 6.0
    shift: float = 8.0
    carry_over: str = "latents"
    drift_control: float = 0.0
    method: Method = field(default_factory=Method)
    loop: bool = False
    codec: str = "h264"
    crf: int = 18
    forcing: ForcingOptions = field(default_factory=ForcingOptions)
    geometry: Geometry = WAN21

    def __post_init__(self) -> None:
        self.geometry.check_size(self.width, self.height)

    def plan(self, known: tuple[int, ...] = (), cuts: tuple[int, ...] = ()) -> Plan:
        """Return the plan.

        Args:
            known: given latent frames.
            cuts: latent frames at which a segment of a rolling video begins.

        Raises:
            ScheduleError: settings that cannot be planned.
            InputError: a method that there is not.
        """
        forcing = self.forcing
        wanted = Wanted(
            self.total_frames, self.base_num_frames, self.overlap_history, forcing.causal_block_size, forcing.ar_step,
            self.steps, forcing.causal_attention, known, self.loop, self.geometry,
        )  # fmt: skip
        return self.method.plan(wanted, cuts)

    @property
    def sigmas(self) -> torch.Tensor:
        """The noise schedule [steps + 1]."""
        return self.method.sigmas(self.steps, self.shift)

    def check(self) -> Plan:
        """Refuse what no model, prompt or image could mend.

        Returns:
            The plan where no image is given.

        Raises:
            ScheduleError: frames, blocks, steps, shift and solver that do not go together.
            InputError: a codec, a quality or a frame rate that cannot be written, or an amount out of its range.
        """
        plan = self.plan()
        check_number(self.shift, "shift")
        check_number(self.cfg, "cfg")
        check_number(self.method.timesteps_shift, "timesteps_shift")
        self.method.sigmas(self.steps, self.shift)
        self.method.refuse(
            loop=self.loop, drift_control=self.drift_control > 0, carry_over=self.carry_over != "latents"
        )
        check_solver(self.forcing.solver)
        check_amounts(self.forcing.addnoise_condition, self.drift_control)
        check_rate(self.forcing.fps)
        find_codec(self.codec, self.crf)
        return plan

    @property
    def guided(self) -> bool:
        """Whether the negative prompt is computed as well."""
        return self.cfg != 1

    @property
    def suffix(self) -> str:
        """The ending of the file's name. `Raises: InputError` for a codec or quality that cannot be written."""
        return find_codec(self.codec, self.crf).suffix

    def by_name(self) -> dict[str, Any]:
        """Return every setting by its name, the diffusion-forcing ones among them: what tells one job from another."""
        plain = {key: value for key, value in asdict(self).items() if key not in ("forcing", "geometry", "method")}
        plain |= self.method.identity()
        if self.loop:
            plain["loop"] = "to the second latent frame"  # jobs of a version that led to the first one are others
        forcing = asdict(self.forcing)
        del forcing["window_frames"]  # segments have none
        return plain | forcing


@dataclass(frozen=True)
class GivenImages:
    """Images that a long video has to go through.

    Attributes:
        start: the first frame or frames [n, H, W, 3], or None.
        end: the last frame [1, H, W, 3], or None.
        keys: images for the frames between [n, H, W, 3], or None.
        key_frames: the video frame of each of them, below 0 from the end.
    """

    start: torch.Tensor | None = None
    end: torch.Tensor | None = None
    keys: torch.Tensor | None = None
    key_frames: tuple[int, ...] = ()

    def check(self, loop: bool, method: Method | None = None) -> None:
        """Refuse images that do not go together with a loop, or that a method cannot reach; `Raises: InputError`."""
        if method is not None:
            method.refuse(end_image=self.end is not None, key_images=self.keys is not None)
        if loop and self.end is not None:
            raise InputError(
                "A loop ends on its own first frame, but an end image is given: disconnect it or turn loop off."
            )

    def placed(self, total_frames: int, geometry: Geometry = WAN21) -> dict[int, torch.Tensor]:
        """Return clips [n, H, W, 3] by the latent frame that each begins at.

        Raises:
            InputError: an input of no images, two images for one latent frame, one outside the video, or nothing left
                to make.
        """
        check_not_empty(start_image=self.start, end_image=self.end, key_images=self.keys)
        last = geometry.latent_of_frame(total_frames - 1)
        clips = dict(placed(total_frames, self.start, self.end, self.keys, self.key_frames, geometry))
        filled = sum(geometry.latent_frames(len(clip)) for clip in clips.values())
        if filled > last or any(at + geometry.latent_frames(len(clip)) > last + 1 for at, clip in clips.items()):
            raise InputError(
                "The given images fill {filled} of {frames} latent frames, which leaves nothing to make: ask for "
                "more frames or give fewer images.",
                filled=filled,
                frames=last + 1,
            )
        return clips


@dataclass(frozen=True)
class Inputs:
    """What comes from other nodes.

    Attributes:
        model: a MODEL.
        vae: a VAE of Wan 2.1 kind.
        prompts: CONDITIONING of all prompts, and where they go.
        negative: CONDITIONING.
        images: given images.
        source: a video that is extended; its tail is the start of `images`.
    """

    model: Any
    vae: Any
    prompts: Prompts
    negative: list[Any]
    images: GivenImages = field(default_factory=GivenImages)
    source: SourceVideo | None = None

    def check(self, settings: LongVideoSettings) -> None:
        """Refuse inputs that do not go together, before any work; `Raises: InputError`."""
        self.images.check(settings.loop, settings.method)
        if settings.method.name == ROLLING:
            for positive in self.prompts.positives:
                check_guidance(Guidance(self.model, positive, self.negative, settings.cfg))
        else:
            check_long_model(self.model.model, settings.forcing.causal_attention)
        for positive in self.prompts.positives:
            check_conditioning(self.model.model, positive, "positive")
        check_conditioning(self.model.model, self.negative, "negative")
        in_segments = words("a long video is made in segments: remove the node")
        given = {"positive": [*chain(*self.prompts.positives)], "negative": self.negative}
        refuse_beside_the_clip({name: [held for _, held in each] for name, each in given.items()}, in_segments)
        refuse_block_patches(self.model.model_options.get("transformer_options", {}), in_segments)

    def plan(self, settings: LongVideoSettings, known: tuple[int, ...]) -> Plan:
        """Return the plan; `known`: given latent frames. `Raises: SkyReelsError` for what cannot be planned."""
        plan, prompts = settings.plan(known), self.prompts
        if plan.method == ROLLING and prompts.conditions:
            plan = settings.plan(known, cuts_of(plan, prompts.conditions, prompts.seeds, prompts.blend))
        return plan

    def identity(self) -> dict[str, Any]:
        """Return what decides about the result beside settings and tensors."""
        options = [conditioning_settings(each) for each in (*self.prompts.positives, self.negative)]
        return {
            **self.prompts.identity(),
            "model": model_identity(self.model),
            "vae": vae_identity(self.vae),
            "key_frames": list(self.images.key_frames),
            "video": self.source.digest if self.source else "",
            # no names where there is nothing to say: as in older jobs
            **({"sound": True} if self.source and self.source.sound else {}),
            **({"conditioning options": options} if any(map(any, options)) else {}),
        }

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return every given tensor by name, for the journal."""
        found = conditioning_tensors("negative", self.negative)
        for number, positive in enumerate(self.prompts.positives):
            found |= conditioning_tensors(f"positive {number}", positive)
        images = {"start_image": self.images.start, "end_image": self.images.end, "key_images": self.images.keys}
        return found | {name: image for name, image in images.items() if image is not None}


def check_model(model: Any, settings: LongVideoSettings, need: Words) -> None:
    """Refuse a MODEL that cannot make a long video by its method, before prompts are read; `Raises: SkyReelsError`.

    Args:
        model: a MODEL.
        settings: what a person chose.
        need: what is asked of it, such as the node.
    """
    if settings.method.name == ROLLING:
        check_rolling_model(model.model)
        check_forcing(model, words("the method rolling"), causal_too=True)
    else:
        check_long_model(model.model, settings.forcing.causal_attention)
        check_forcing(model, need)


def known_frames(clips: dict[int, torch.Tensor], geometry: Geometry = WAN21) -> tuple[int, ...]:
    """Return the latent frames that placed clips fill."""
    return tuple(sorted(at + n for at, clip in clips.items() for n in range(geometry.latent_frames(len(clip)))))


def held_images(clips: dict[int, torch.Tensor]) -> dict[str, Any]:
    """Return what tells a job with images that fill two latent frames from one of a version where none did."""
    held = [at for at, clip in clips.items() if at and len(clip) > 1]
    return {"held images": held} if held else {}


def encode_clips(
    vae: Any, clips: dict[int, torch.Tensor], settings: LongVideoSettings, frames: int
) -> dict[int, torch.Tensor]:
    """Return the given latent frames [1, C, 1, h, w] by their number in a video of `frames` latent frames."""
    like = torch.zeros(1, *settings.geometry.latent_shape(frames, settings.height, settings.width))
    known: dict[int, torch.Tensor] = {}
    for at, clip in clips.items():
        known |= known_clip(at, encode_images(vae, clip, like).cpu())
    return known


def frames_at(text: str, images: torch.Tensor | None, fps: float) -> tuple[int, ...]:
    """Return the video frame of every key image, below 0 from the end.

    Args:
        text: key_times, see `long.key_frames`.
        images: [n, H, W, 3] or None.
        fps: frames per second.

    Raises:
        InputError: what is no time, or not one time for each image.
    """
    frames = read_frames(text, fps, words("key_times"))
    check_counts(len(frames), 0 if images is None else len(images), words("key_times"))
    return frames


def prompts_of(
    positive: list[Any] | None,
    script: PromptScript | None,
    settings: LongVideoSettings,
    rate: float | None = None,
    known: tuple[int, ...] = (),
) -> Prompts:
    """Return the prompts of a long video, encoded.

    Args:
        positive: one CONDITIONING for the whole video, or None.
        script: what a script node gave, or None.
        settings: they give the segments, the frame rate and the seed.
        rate: frames per second of the file where that is not what the model is told, as of a video that is extended.
        known: given latent frames: the chunks of a rolling video follow those at its start.

    Raises:
        InputError: neither or both are given, or the script does not fit the video.
    """
    if (positive is None) == (script is None):
        seen = words("Neither positive nor script is connected")
        if positive is not None:
            seen = words("Both positive and script are connected")
        raise InputError("{seen}, but exactly one says what the video shows: connect one of them.", seen=seen)
    if script is None:
        return Prompts([positive])
    script, fps = PromptScript(*script), rate or settings.forcing.fps
    parsed = parse_script(script.text, settings.plan(known), fps, settings.seed)
    seeds = parsed.place_seeds(settings.seed) if any(seed is not None for seed in parsed.seeds) else ()
    frames = script.blend * fps / settings.geometry.temporal
    blend = max(1, round(frames)) if frames > 0 and len(parsed.prompts) > 1 else 0
    return Prompts([encode_prompt(script.clip, prompt) for prompt in parsed.prompts], parsed.conditions, seeds, blend)


def show_plan(settings: LongVideoSettings, images: GivenImages) -> tuple[Joined, torch.Tensor]:
    """Return the plan as a table and as a picture [1, H, W, 3]; `Raises: SkyReelsError` for what cannot be planned."""
    images.check(settings.loop, settings.method)
    known = known_frames(images.placed(settings.plan().total_frames, settings.geometry), settings.geometry)
    plan = settings.plan(known)
    return describe(plan, settings), schedule_picture(plan, settings.shift, known)[None]


def extended_frames(overlap_history: int, new_frames: int, geometry: Geometry = WAN21) -> int:
    """Return how many video frames an extension plans: those that the model sees of the given video, and the new."""
    return seen_frames(overlap_history, geometry) + new_frames


def seen_frames(overlap_history: int, geometry: Geometry) -> int:
    """Return the video frames in whole latent frames; of a number below 1, which the plan refuses by its name, one."""
    return geometry.whole_frames(max(overlap_history, 1))


def stand_in_for_a_video(overlap_history: int, geometry: Geometry = WAN21) -> torch.Tensor:
    """Return frames [n, 1, 1, 3] in place of the end of a video that is not there yet, to plan its extension."""
    return torch.zeros(1, 1, 1, 3).expand(seen_frames(overlap_history, geometry), 1, 1, 3)


def describe(plan: Plan, settings: LongVideoSettings) -> Joined:
    """Return a plan and what it needs as text for a person."""
    needs = estimate(plan, settings.height, settings.width).text()
    return lines(table(plan, settings.guided), *settings.method.about(plan, settings.cfg), needs)


def summary(
    settings: LongVideoSettings, sized: bool = True, rate_known: bool = True, known: tuple[int, ...] = ()
) -> Joined:
    """Return a plan in a few short lines.

    Args:
        settings: what a person chose.
        sized: whether the size is known.
        rate_known: whether the frame rate is known.
        known: given latent frames.
    """
    plan = settings.plan(known)
    rate = "" if rate_known else words(" at {fps} fps", fps=settings.forcing.fps)
    shown = [
        words(
            "{segments}, {calls}, {frames} video frames = {seconds:.1f} s{rate}",
            segments=counted(len(plan.segments), "segments"),
            calls=counted(plan.calls(settings.guided), "model calls"),
            frames=plan.total_frames,
            seconds=plan.total_frames / settings.forcing.fps,
            rate=rate,
        )
    ]
    if sized:
        needs = estimate(plan, settings.height, settings.width)
        held, kept = (needs.sampling + needs.pixels) / 1e6, needs.journal / 1e6
        shown.append(
            words(
                "{tokens} tokens at once; {held:.0f} MB of latents and decoded frames, in addition to the model",
                tokens=needs.tokens,
                held=held,
            )
        )
        shown.append(words("{kept:.0f} MB on disk for resuming, in addition to the video", kept=kept))
    return lines(*shown)
