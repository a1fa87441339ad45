"""The errors this pack raises on purpose: one sentence with the value seen, the value wanted and what to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from .words import Words


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


class CheckpointError(SkyReelsError):
    """A model file cannot be used: missing, damaged, or no Wan diffusion transformer."""


class ScheduleError(SkyReelsError):
    """The denoising schedule asked for (steps, ar_step, causal_block_size, frames) cannot be made."""


class InputError(SkyReelsError):
    """A tensor or setting given to the model or a node has a value that cannot be used."""
