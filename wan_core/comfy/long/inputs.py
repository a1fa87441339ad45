"""What a long video is made from, apart from its settings: model, VAE and prompts, all checked here before any work."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch

from ...errors import InputError
from ...long.plan import ROLLING
from ...long.prompts import Prompts, PromptScript
from ...long.rollout import known_clip
from ...long.script import parse_script
from ...long.settings import LongVideoSettings, PlannedVideo
from ...words import Words, words
from ..model.checks import check_long_model, check_rolling_model
from ..model.origin import check_forcing
from ..model.text import encode_prompt
from ..sampling.conditioning import check_conditioning, refuse_beside_the_clip, refuse_block_patches
from ..sampling.guided import Guidance
from ..sampling.rolling import check_guidance
from ..vae.frames import encode_images
from .identity import conditioning_settings, conditioning_tensors, model_identity, vae_identity
from .source_video import SourceVideo


@dataclass(frozen=True)
class Inputs:
    """What comes from other nodes.

    Attributes:
        model: a MODEL.
        vae: a VAE of Wan 2.1 kind.
        prompts: CONDITIONING of all prompts, and where they go.
        negative: CONDITIONING.
        source: a video that is extended; its tail is given as start images.
    """

    model: Any
    vae: Any
    prompts: Prompts
    negative: list[Any]
    source: SourceVideo | None = None

    def check(self, settings: LongVideoSettings) -> None:
        """Refuse inputs that do not go together, before any work; `Raises: InputError`."""
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

    def identity(self) -> dict[str, Any]:
        """Return what the result depends on, apart from settings and tensors."""
        options = [conditioning_settings(each) for each in (*self.prompts.positives, self.negative)]
        return {
            **self.prompts.identity(),
            "model": model_identity(self.model),
            "vae": vae_identity(self.vae),
            "video": self.source.digest if self.source else "",
            # no names where there is nothing to say: as in older jobs
            **({"sound": True} if self.source and self.source.sound else {}),
            **({"conditioning options": options} if any(map(any, options)) else {}),
        }

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return every tensor by name, for the journal."""
        found = conditioning_tensors("negative", self.negative)
        for number, positive in enumerate(self.prompts.positives):
            found |= conditioning_tensors(f"positive {number}", positive)
        return found


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


def encode_clips(vae: Any, video: PlannedVideo) -> dict[int, torch.Tensor]:
    """Return the given latent frames [1, C, 1, h, w] of a video by their number."""
    settings, frames = video.settings, video.plan.latent_frames
    like = torch.zeros(1, *settings.geometry.latent_shape(frames, settings.height, settings.width))
    known: dict[int, torch.Tensor] = {}
    for at, clip in video.clips.items():
        known |= known_clip(at, encode_images(vae, clip, like).cpu())
    return known


def prompts_of(
    positive: list[Any] | None,
    script: PromptScript | None,
    video: PlannedVideo,
    rate: float | None = None,
) -> Prompts:
    """Return the prompts of a long video, encoded.

    Args:
        positive: one CONDITIONING for the whole video, or None.
        script: what a script node gave, or None.
        video: gives the segments, the frame rate and the seed.
        rate: frames per second of the file where that is not what the model is told, as of a video that is extended.

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
    settings, script = video.settings, PromptScript(*script)
    fps = rate or settings.forcing.fps
    parsed = parse_script(script.text, video.plan, fps, settings.seed)
    seeds = parsed.place_seeds(settings.seed) if any(seed is not None for seed in parsed.seeds) else ()
    frames = script.blend * fps / settings.geometry.temporal
    blend = max(1, round(frames)) if frames > 0 and len(parsed.prompts) > 1 else 0
    return Prompts([encode_prompt(script.clip, prompt) for prompt in parsed.prompts], parsed.conditions, seeds, blend)
