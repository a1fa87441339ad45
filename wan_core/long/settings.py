"""What a person chooses for a long video, checked, and the plan that follows from it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch

from ..errors import InputError, check_choice
from ..finite import check_number
from ..model.geometry import WAN21, Geometry
from ..sampling.run import ForcingOptions
from ..sampling.solvers import check_solver
from ..video.codecs import find_codec
from ..video.writer import check_rate
from ..words import Joined, counted, lines, words
from .carry_over import CARRY_OVERS, USUAL
from .key_frames import GivenImages, known_frames
from .methods import Method
from .plan import ROLLING, Plan, Wanted
from .plan_text import estimate, table
from .prompts import Prompts
from .rolling_video import cut_at, cuts_of
from .rollout import check_amounts
from .schedule_picture import schedule_picture


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
        carry_over: how a segment hands on its end, one of `carry_over.CARRY_OVERS`.
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
    carry_over: str = USUAL
    drift_control: float = 0.0
    method: Method = field(default_factory=Method)
    loop: bool = False
    codec: str = "h264"
    crf: int = 18
    forcing: ForcingOptions = field(default_factory=ForcingOptions)
    geometry: Geometry = WAN21

    def __post_init__(self) -> None:
        self.geometry.check_size(self.width, self.height)

    def planned(self, images: GivenImages | None = None, before: PlannedVideo | None = None) -> PlannedVideo:
        """Return the plan of a video; refuses what no model or prompt could mend.

        Args:
            images: what it has to go through.
            before: an earlier answer, whose plan is taken where nothing that it follows from has changed.

        Raises:
            ScheduleError: frames, blocks, steps, shift and solver that do not go together.
            InputError: images that the video cannot have; a codec, a quality or a frame rate that cannot be written, or
                an amount out of its range.
        """
        images, forcing = images or GivenImages(), self.forcing
        wanted = Wanted(
            self.total_frames, self.base_num_frames, self.overlap_history, forcing.causal_block_size, forcing.ar_step,
            self.steps, forcing.causal_attention, (), self.loop, self.geometry,
        )  # fmt: skip
        wanted.check()
        self.check_method(images)
        clips = images.placed(wanted.shown_frames, self.geometry)
        known, last = known_frames(clips, self.geometry), wanted.latent_frames - 1
        if len(known) > last or any(at > last for at in known):
            raise InputError(
                "The given images fill {filled} of {frames} latent frames, which leaves nothing to make: ask for "
                "more frames or give fewer images.",
                filled=len(known),
                frames=last + 1,
            )
        wanted = replace(wanted, known=known)
        plan = before.plan if before is not None and before.wanted == wanted else self.method.plan(wanted)
        self.check_amounts()
        return PlannedVideo(self, images, clips, wanted, plan)

    @property
    def sigmas(self) -> torch.Tensor:
        """The noise schedule [steps + 1]."""
        return self.method.sigmas(self.steps, self.shift)

    def check_method(self, images: GivenImages) -> None:
        """Refuse settings and images that the method cannot have; `Raises: InputError`."""
        self.method.check()
        check_choice("carry_over", self.carry_over, CARRY_OVERS)
        self.method.refuse(
            loop=self.loop,
            drift_control=self.drift_control > 0,
            carry_over=self.carry_over != USUAL,
            end_image=images.end is not None,
            key_images=images.keys is not None,
        )
        if self.loop and images.end is not None:
            raise InputError(
                "A loop ends on its own first frame, but an end image is given: disconnect it or turn loop off."
            )

    def check_amounts(self) -> None:
        """Refuse amounts that no plan depends on; `Raises: InputError, ScheduleError`."""
        check_number(self.shift, "shift")
        check_number(self.cfg, "cfg")
        check_number(self.method.timesteps_shift, "timesteps_shift")
        self.method.sigmas(self.steps, self.shift)
        check_solver(self.forcing.solver)
        check_amounts(self.forcing.addnoise_condition, self.drift_control)
        check_rate(self.forcing.fps)
        find_codec(self.codec, self.crf)

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
class PlannedVideo:
    """A video that can be made: its settings and given images, and what follows from both, worked out once.

    Attributes:
        settings: what a person chose.
        images: what it has to go through.
        clips: the same [n, H, W, 3], by the latent frame that each begins at.
        wanted: what the plan follows from.
        plan: what it is made of.
    """

    settings: LongVideoSettings
    images: GivenImages
    clips: dict[int, torch.Tensor]
    wanted: Wanted
    plan: Plan

    def cut(self, prompts: Prompts) -> PlannedVideo:
        """Return the video with segments that begin where prompts change, if its method asks for that."""
        if self.plan.method != ROLLING or not prompts.conditions:
            return self
        cuts = cuts_of(self.plan, prompts.conditions, prompts.seeds, prompts.blend)
        return replace(self, plan=cut_at(self.plan, self.settings.method.window, cuts))

    def identity(self) -> dict[str, Any]:
        """Return what tells one job from another, the tensors and what comes from other nodes aside."""
        held = [at for at, clip in self.clips.items() if at and len(clip) > 1]
        # images that fill two latent frames: none did in jobs of older versions
        own = {"key_frames": list(self.images.key_frames), **({"held images": held} if held else {})}
        return self.settings.by_name() | own

    def picture(self) -> torch.Tensor:
        """Return the plan as a picture [1, H, W, 3]."""
        return schedule_picture(self.plan, self.settings.shift, tuple(self.wanted.known))[None]

    def describe(self) -> Joined:
        """Return the plan and what it needs as text for a person."""
        settings = self.settings
        needs = estimate(self.plan, settings.height, settings.width).text()
        return lines(table(self.plan, settings.guided), *settings.method.about(self.plan, settings.cfg), needs)

    def summary(self, sized: bool = True, rate_known: bool = True) -> Joined:
        """Return the plan in a few short lines; the arguments: whether size and frame rate are known."""
        plan, settings = self.plan, self.settings
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


def extended_frames(overlap_history: int, new_frames: int, geometry: Geometry = WAN21) -> int:
    """Return how many video frames an extension plans: those that the model sees of the given video, and the new."""
    return seen_frames(overlap_history, geometry) + new_frames


def seen_frames(overlap_history: int, geometry: Geometry) -> int:
    """Return the video frames in whole latent frames; of a number below 1, which the plan refuses by its name, one."""
    return geometry.whole_frames(max(overlap_history, 1))


def stand_in_for_a_video(overlap_history: int, geometry: Geometry = WAN21) -> torch.Tensor:
    """Return frames [n, 1, 1, 3] in place of the end of a video that is not there yet, to plan its extension."""
    return torch.zeros(1, 1, 1, 3).expand(seen_frames(overlap_history, geometry), 1, 1, 3)
