"""The prompts of a long video as CONDITIONING: which segment gets which, its seed, and how one follows another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

from ..errors import InputError
from ..rollout import Task
from ..script import parse_script
from ..segments import TEMPORAL, Plan
from .text import encode_prompt


class PromptScript(NamedTuple):
    """What a script node hands on.

    Attributes:
        clip: the text encoder.
        text: the script; see `wan_core.script`.
        blend: seconds over which a new prompt takes over; 0 = at once.
    """

    clip: Any
    text: str
    blend: float = 0.0


@dataclass(frozen=True)
class Prompts:
    """All prompts of a long video.

    Attributes:
        positives: one CONDITIONING for each prompt.
        conditions: number of the prompt of every segment; empty = the first for all.
        seeds: of every segment; empty = the seed of the settings for all.
        blend: latent frames over which a new prompt takes over; 0 = at once.
    """

    positives: list[Any]
    conditions: tuple[int, ...] = ()
    seeds: tuple[int, ...] = ()
    blend: int = 0

    def identity(self) -> dict[str, Any]:
        """Return what decides about the result beside the tensors.

        What is not used has no name here: so jobs of versions that did not know it are found again.
        """
        used = {"seeds": list(self.seeds), "blend": self.blend}
        return {"conditions": list(self.conditions), **{name: value for name, value in used.items() if value}}

    def positive(self, task: Task) -> list[Any]:
        """Return the CONDITIONING of a segment; where prompts blend, one with a mask in time for each.

        The host predicts with each entry and takes their mean, weighted by the masks: frame by frame here, since they
        are the same over the whole picture.
        """
        if not task.weights:
            return self.positives[task.condition]
        rows, columns = task.noise.shape[3:]
        return [
            [tensor, {**options, "mask": weights.view(1, -1, 1, 1).expand(1, -1, rows, columns), "mask_strength": 1.0}]
            for number, weights in task.weights.items()
            for tensor, options in self.positives[number]
        ]

    def about_blend(self) -> str:
        """Return what blending takes, as text for a person; "" where nothing blends."""
        changes = sum(now != before for before, now in pairwise(self.conditions))
        if not self.blend or not changes:
            return ""
        return (
            f"{changes} changes of prompt, each over {self.blend} latent frames: there both prompts are computed, "
            "so a model call takes up to twice the time."
        )


def script_of_prompts(prompts: Mapping[str, str]) -> str:
    """Return prompts from inputs of their own as one script, a line each.

    Args:
        prompts: name of the input -> text, which may begin with a time range and a seed.

    Raises:
        InputError: an input without text: the ones behind it would move to other segments.
    """
    lines = {name: " ".join(text.split()) for name, text in prompts.items()}
    empty = next((name for name, line in lines.items() if not line), None)
    if empty is not None:
        raise InputError(f"The input {empty} is empty, but every prompt needs text: write it, or disconnect the input.")
    return "\n".join(lines.values())


def prompts_of(positive: list[Any] | None, script: PromptScript | None, plan: Plan, fps: int, seed: int) -> Prompts:
    """Return the prompts of a long video, encoded.

    Args:
        positive: one CONDITIONING for the whole video, or None.
        script: what a script node gave, or None.
        plan: the segments.
        fps: frames per second of the video.
        seed: of segments to which the script gives none.

    Raises:
        InputError: neither or both are given, or the script does not fit the video.
    """
    if (positive is None) == (script is None):
        seen = "Neither positive nor script is" if positive is None else "Both positive and script are"
        raise InputError(f"{seen} connected, but exactly one says what the video shows: connect one of them.")
    if script is None:
        return Prompts([positive])
    script = PromptScript(*script)
    parsed = parse_script(script.text, plan, fps)
    seeds = parsed.segment_seeds(seed) if any(seed is not None for seed in parsed.seeds) else ()
    blend = max(1, round(script.blend * fps / TEMPORAL)) if script.blend > 0 and len(parsed.prompts) > 1 else 0
    return Prompts([encode_prompt(script.clip, prompt) for prompt in parsed.prompts], parsed.conditions, seeds, blend)
