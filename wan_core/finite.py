"""NaN and infinity, found where a value comes in and before anything is kept: no black frames pass for a video.

One pass reads a tensor once and allocates nothing of its size. A sampling run does not wait for its device: what the
model answered is looked at there, and the finding is read every few calls.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .errors import InputError, SkyReelsError
from .words import Words, joined, words

# the first byte that is no number any more, of either sign
NO_NUMBER_FROM = {torch.float8_e4m3fn: 0x7F, torch.float8_e5m2: 0x7C}
SIGN = 0x80
SHOWN = 3  # names in a sentence
VAE_ADVICE = words("the VAE's numbers overflow, as they can in fp16: start ComfyUI with --bf16-vae or --fp32-vae")
READ_EVERY = 8  # calls between two looks at what the device has noted


class NotFiniteError(SkyReelsError):
    """A value is NaN or infinite: what is made from it would be black frames or noise."""


def is_finite(tensor: Tensor) -> bool:
    """Say whether a tensor holds neither NaN nor infinity; one pass, which waits for the tensor's device."""
    if tensor.numel() == 0 or tensor.is_meta:
        return True
    if tensor.dtype in NO_NUMBER_FROM:
        first = NO_NUMBER_FROM[tensor.dtype]
        bytes_ = tensor.contiguous().view(torch.uint8)
        return int(bytes_.view(torch.int8).max()) < first and int(bytes_.max()) < SIGN + first
    return not tensor.is_floating_point() or tensor.element_size() < 2 or bool(_finite_flag(tensor))


def _finite_flag(tensor: Tensor) -> Tensor:
    """Return a bool tensor on the tensor's device; least and greatest show NaN and infinity and are quickly found."""
    least, most = torch.aminmax(tensor.detach())
    return torch.isfinite(least) & torch.isfinite(most)


def check_finite(tensor: Tensor, what: Words, advice: Words) -> Tensor:
    """Return a tensor without NaN and infinity.

    Args:
        tensor: any.
        what: names it, as the beginning of a sentence.
        advice: what a person can do about it.

    Raises:
        NotFiniteError: it holds one.
    """
    if not is_finite(tensor):
        raise NotFiniteError("{what} holds NaN or infinite values: {advice}.", what=what, advice=advice)
    return tensor


def check_all_finite(tensors: Mapping[str, Any], what: Words, advice: Words) -> None:
    """Refuse NaN and infinity in any of the tensors; `Raises: NotFiniteError`, which names the first of them."""
    bad = [name for name, tensor in tensors.items() if isinstance(tensor, Tensor) and not is_finite(tensor)]
    if bad:
        raise NotFiniteError(
            "{what} holds NaN or infinite values in {names}: {advice}.",
            what=what,
            names=joined([*bad[:SHOWN], *["..."] * (len(bad) > SHOWN)]),
            advice=advice,
        )


def check_number(number: float, name: str) -> None:
    """Refuse a setting that is NaN or infinite; `Raises: InputError`."""
    if not math.isfinite(number):
        raise InputError("{name} is {number}, but it has to be a finite number.", name=name, number=number)


def check_weights(weights: Mapping[str, Any], file: str) -> None:
    """Refuse a file with weights that are no numbers, at the cost of one pass; `Raises: NotFiniteError`."""
    check_all_finite(
        weights, words("{file}", file=file), words("the file is damaged or was converted wrongly, so download it again")
    )


class FiniteWatch:
    """Watches the model's answers during a sampling run.

    Args:
        steps: model calls of the run, for the sentence.
        where: the part of the job that this run makes, for the sentence, such as "segment 2 of 5"; None = all of it.
        every: calls between two readings of what the device has noted.
    """

    def __init__(self, steps: int, where: Words | None = None, every: int = READ_EVERY):
        self.steps, self.where, self.every = steps, where, every
        self.finite: list[tuple[int, Tensor]] = []  # step -> flag on the device, of calls that were not read yet

    def see(self, step: int, answer: Tensor) -> None:
        """Note a model's answer, and read the notes now and then.

        Args:
            step: number of the call, from 0.
            answer: on any device.

        Raises:
            NotFiniteError: this answer or one of the last few was not finite.
        """
        if answer.numel():
            self.finite.append((step, _finite_flag(answer)))
        if len(self.finite) >= self.every:
            self.check()

    def check(self) -> None:
        """Read all notes, which waits for the device; `Raises: NotFiniteError` that names the first bad step."""
        notes, self.finite = self.finite, []
        if not notes or bool(torch.stack([flag.to(notes[0][1].device) for _, flag in notes]).all()):
            return
        step = next(step for step, flag in notes if not flag)
        at = words("step {step} of {steps}", step=step + 1, steps=self.steps)
        if self.where is not None:
            at = words("{step} in {where}", step=at, where=self.where)
        raise NotFiniteError(
            "The model's answer is NaN or infinite from {at} on. Likely causes: fp16 that overflows (start ComfyUI "
            "with --bf16-unet, or load the model in another weight_dtype), a LoRA or patch that is too strong, or an "
            "attention backend that fails on this GPU. Change that and queue again.",
            at=at,
        )
