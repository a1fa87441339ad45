"""Prompts that change over a video without seams: each model call is computed with those of the frames that it shows.

A CONDITIONING entry is marked with the number of its prompt; before a call, those that count nowhere in it are taken
out, and where several count each gets a mask in time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import torch

from ...long.rolling import RollingRow
from ...long.rolling_video import RollingTask

PROMPT = "skyreels_prompt"  # the key of an entry's options
Conds = dict[str, list[dict[str, Any]] | None]


def marked(positives: Sequence[list[Any]], numbers: Sequence[int]) -> list[Any]:
    """Return the CONDITIONING of some prompts as one, each entry marked with the number of its prompt."""
    return [[tensor, {**options, PROMPT: n}] for n in numbers for tensor, options in positives[n]]


def of_prompts(conds: Conds, numbers: Sequence[int]) -> Conds:
    """Return a guider's conditions without those that are marked with another prompt than these."""
    return {
        name: conditions and [each for each in conditions if each.get(PROMPT, numbers[0]) in numbers]
        for name, conditions in conds.items()
    }


def of_frames(
    conds: Conds, weights: Mapping[int, torch.Tensor], shown: slice, work: slice, like: torch.Tensor
) -> Conds:
    """Return a guider's conditions for one call, with masks where several prompts count.

    Args:
        conds: all of them, processed.
        weights: number of the prompt -> how much it counts in every frame of the run [F].
        shown: the frames that the call shows.
        work: those of them that it denoises: a prompt that counts in none of these is left out.
        like: what is sampled [B, C, f, H, W].
    """
    numbers = [number for number, weight in weights.items() if bool(weight[work].any())]
    found = of_prompts(conds, numbers)
    if len(numbers) < 2:
        return found
    height, width = like.shape[-2:]
    masks = {n: weights[n][shown].to(like).view(1, -1, 1, 1).expand(1, -1, height, width) for n in numbers}
    return {
        name: conditions and [masked(each, masks) for each in conditions] for name, conditions in found.items()
    }  # fmt: skip


def masked(condition: dict[str, Any], masks: Mapping[int, torch.Tensor]) -> dict[str, Any]:
    """Return a condition with the mask of its prompt, one without a prompt as it is."""
    return {**condition, "mask": masks[condition[PROMPT]], "mask_strength": 1.0} if PROMPT in condition else condition


def instead(conds: Conds, numbers: Sequence[int], prompt: int) -> Conds:
    """Return the conditions of some prompts with what another prompt says, under the names of their own caches."""
    own, other = of_prompts(conds, numbers), of_prompts(conds, [prompt])
    swapped: Conds = {}
    for name, conditions in own.items():
        said = [each for each in other[name] or () if PROMPT in each]
        places = [each for each in conditions or () if PROMPT in each]
        if not said or not places:
            swapped[name] = conditions
            continue
        kept = [each for each in conditions or () if PROMPT not in each]
        swapped[name] = kept + [
            {**said[at % len(said)], "uuid": place["uuid"]} for at, place in enumerate(places)
        ]  # fmt: skip
    return swapped


class ChunkPrompts:
    """The conditions of each model call of a segment: what its chunk is made from.

    Args:
        conds: a guider's conditions, processed.
        task: the segment.
        known_blocks: sizes of the blocks of its known frames.
    """

    def __init__(self, conds: Conds, task: RollingTask, known_blocks: list[int]):
        self.conds, self.task = conds, task
        ends = list(accumulate(known_blocks))
        self.made_from = [task.made_from[end - 1] for end in ends]  # of every known block
        self.first = task.position + sum(known_blocks) - task.sink  # position of the first new frame

    def of(self, row: RollingRow, like: torch.Tensor) -> Conds:
        """Return the conditions of one call: every prompt of the segment, since no cache may miss one.

        Args:
            row: the call.
            like: what is sampled [B, C, f, H, W].
        """
        weights = self.task.weights
        if row.block < len(self.made_from):
            number = self.made_from[row.block]
            numbers = list(weights)
            own = of_prompts(self.conds, numbers)
            return own if number < 0 or numbers == [number] else instead(self.conds, numbers, number)
        begin = row.first - self.first
        last = next(iter(weights.values())).new_tensor([1.0])
        padded = {n: torch.cat((weight, last.expand(like.shape[2]) * weight[-1])) for n, weight in weights.items()}
        return of_frames(self.conds, padded, slice(begin, begin + like.shape[2]), slice(None), like)
