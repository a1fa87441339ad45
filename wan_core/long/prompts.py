"""The prompts of a long video as CONDITIONING: which segment gets which, its seed, and how one follows another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

from ..errors import InputError
from ..words import Words, words
from .rollout import Task


class PromptScript(NamedTuple):
    """What a script node hands on.

    Attributes:
        clip: the text encoder.
        text: the script; see `wan_core.long.script`.
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
        conditions: number of the prompt of every place (`Plan.places`); empty = the first for all.
        seeds: of every place; empty = the seed of the settings for all.
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

    def about_blend(self) -> Words | None:
        """Return what blending takes, as text for a person; None where nothing blends."""
        changes = sum(now != before for before, now in pairwise(self.conditions))
        if not self.blend or not changes:
            return None
        return words(
            "Prompt changes: {changes}, each over {blend} latent frames. Both prompts are computed there, so a model "
            "call takes up to twice the time.",
            changes=changes,
            blend=self.blend,
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
        raise InputError(
            "The input {empty} is empty, but every prompt needs text: write it, or disconnect the input.", empty=empty
        )
    return "\n".join(lines.values())
