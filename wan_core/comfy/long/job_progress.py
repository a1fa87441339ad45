"""Progress of a long job for the person who waits: bar, preview, which segment it is, and how long it will take."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import comfy.utils
import latent_preview
import torch

from ...long.plan import Plan, Segment
from ...words import Words, words
from ..harmless import Harmless


class JobProgress:
    """The display of one run; none of its parts can end the run by failing.

    Args:
        plan: the whole video.
        patcher: the MODEL that is sampled; it decides about the preview.
        say: takes the line; see `node_text.node_text`.
    """

    def __init__(self, plan: Plan, patcher: Any, say: Callable[[Words], None]):
        self.plan, self.say = plan, Harmless(say)
        self.show = Harmless(comfy.utils.ProgressBar(plan.rows).update_absolute)
        previewer = Harmless(latent_preview.get_previewer)(patcher.load_device, patcher.model.latent_format)
        self.preview = None if previewer is None else Harmless(previewer.decode_latent_to_preview_image)
        self.started: float | None = None
        self.done_before = 0  # rows that this run did not have to make
        self.done = 0

    def begin(self, segment: Segment) -> Callable[[int, torch.Tensor, torch.Tensor, int], None]:
        """Announce a segment and return the guider's callback for it: the bar runs over the whole job."""
        rows_done = sum(earlier.rows for earlier in self.plan.segments[: segment.index])
        if self.started is None:
            self.started, self.done_before = time.monotonic(), rows_done
        self.done = rows_done
        self.tell(segment)

        def report(step: int, x0: torch.Tensor, _x: torch.Tensor, total: int) -> None:
            image = self.preview("JPEG", x0) if self.preview else None
            self.done = rows_done + round((step + 1) / total * segment.rows)  # not every call is reported
            self.show(self.done, self.plan.rows, image)
            self.tell(segment)

        return report

    def tell(self, segment: Segment) -> None:
        """Say which segment is in work, and the time left once it can be told."""
        line = words("Segment {number} of {count}", number=segment.index + 1, count=len(self.plan.segments))
        made = self.done - self.done_before
        if made and self.started is not None:
            left = (time.monotonic() - self.started) / made * (self.plan.rows - self.done)
            line = words("{segment}, about {time} left", segment=line, time=in_words(left))
        self.say(line)


def in_words(seconds: float) -> Words:
    """Return a time as a person says it: 45 s, 12 min, 3 h 20 min."""
    if seconds < 90:
        return words("{seconds:.0f} s", seconds=seconds)
    minutes = round(seconds / 60)
    if minutes < 90:
        return words("{minutes} min", minutes=minutes)
    return words("{hours} h {minutes} min", hours=minutes // 60, minutes=minutes % 60)
