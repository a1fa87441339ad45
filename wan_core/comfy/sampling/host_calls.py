"""A cache of finished blocks as the transformer meets it: conditions come in one batch, in any number and order."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from ...errors import InputError
from ...sampling.cached_calls import CachedCalls
from ...sampling.run import Row
from ..model.transformer import WANTED_FRAMES, by_condition


class HostCachedCalls:
    """The calls of a run with a cache; each condition in a batch has keys and values of its own.

    Args:
        calls: called as `calls(x, t, row, condition, ...)`.
        needed: whether the run cannot go on without the cache.
    """

    def __init__(self, calls: CachedCalls, needed: bool = False):
        self.calls: Any = calls
        self.needed = needed
        self.row: Any = None  # set before each call of the guider

    def takes(self, x: torch.Tensor, options: dict[str, Any]) -> bool:
        """Say whether a call shows all frames of the row, in parts that can be told apart.

        Raises:
            InputError: it does not, and there is no way to go on without the cache.
        """
        parts = len(options.get("uuids", ()))
        told_apart = self.row is not None and parts > 0 and x.shape[0] % parts == 0
        if self.needed:
            if not told_apart:
                raise InputError(
                    "A node called the model directly instead of through the guider, so the cache can't tell the "
                    "prompts apart. Remove nodes that patch the model call."
                )
            return True
        whole = told_apart and x.shape[2] == self.row.end - self.row.start
        return whole and not any(options.get(name) for name in ("patches", "patches_replace"))

    def __call__(self, x: torch.Tensor, t: torch.Tensor, options: dict[str, Any], **inputs: Any) -> torch.Tensor:
        """Return the velocity [conditions * B, C, f, H, W].

        Args:
            x: noisy latents [conditions * B, C, f, H, W].
            t: timesteps [conditions * B, f].
            options: transformer_options of the call.
            inputs: `model`, the transformer that was called, and what it is handed (context, fps, ...).
        """
        parts, row = len(options["uuids"]), self.row
        if isinstance(row, Row) and WANTED_FRAMES in options:  # the step cache forecasts the blocks after
            start, end = row.runs[0][0], min(row.busy_end, row.start + options[WANTED_FRAMES])
            row = replace(row, runs=((start, end),))
        cut = {name: by_condition(value, parts, len(x)) for name, value in inputs.items()}
        return torch.cat([
            self.calls(
                video, times, row, uuid, transformer_options=options,
                **{name: values[number] for name, values in cut.items()},
            )
            for number, (uuid, video, times) in enumerate(
                zip(options["uuids"], x.chunk(parts), t.chunk(parts), strict=True)
            )
        ])  # fmt: skip
