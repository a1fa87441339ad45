"""The errors this pack raises on purpose: one sentence with the value seen, the value wanted and what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from .words import Words

PACK = "skyreels_v2"


class SkyReelsError(ValueError):
    """Base of every error that a user of the pack can cause and fix.

    Args:
        template: the sentence in English, with the names of its values in braces; see `words.Words`.
        values: by name.
    """

    speak: ClassVar[Callable[[Words], str]] = str  # ComfyUI's bridge puts the reader's language here

    def __init__(self, template: str, /, **values: Any):
        self.words = Words(template, values)
        super().__init__(template)

    def __str__(self) -> str:
        """Return the sentence in the language of whoever reads it: English unless the host knows better."""
        return SkyReelsError.speak(self.words)

    def __init_subclass__(cls) -> None:
        # ComfyUI imports a pack under the path of its folder, and its logs and error windows show an error's module
        # before its name: let that be the pack's name
        if not all(part.isidentifier() for part in cls.__module__.split(".")):
            cls.__module__ = PACK


class CheckpointError(SkyReelsError):
    """A model file cannot be used: missing, damaged, or no Wan diffusion transformer."""


class ScheduleError(SkyReelsError):
    """The denoising schedule asked for (steps, ar_step, causal_block_size, frames) cannot be made."""


class InputError(SkyReelsError):
    """A tensor or setting given to the model or a node has a value that cannot be used."""


def check_choice(what: str, given: str, known: Iterable[str]) -> None:
    """Refuse what is none of the choices of an input, `what`; `Raises: InputError`."""
    if given not in known:
        raise InputError(
            '{what} is "{given}", but it has to be one of {known}: choose one of them.',
            what=what,
            given=given,
            known=", ".join(known),
        )
