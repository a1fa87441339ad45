"""The errors this pack raises on purpose: one sentence with the value seen, the value wanted and what to do.

With the words that such sentences share.
"""

from __future__ import annotations

PACK = "skyreels_v2"


def counted(number: int, things: str) -> str:
    """Return a number of things in words, such as "3 segments" or "1 segment"; `things`: their regular plural."""
    return f"{number} {things.removesuffix('s') if number == 1 else things}"


class SkyReelsError(ValueError):
    """Base of every error that a user of the pack can cause and fix."""

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
