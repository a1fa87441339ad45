"""What only shows something must not end a run by failing: previews, progress bars, callbacks."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import comfy.model_management


class Harmless:
    """What only shows something to the person who waits: where it fails, that is logged once and the run goes on.

    Args:
        show: a preview, a progress bar, a callback; it may still interrupt the run, as the host's bar does.
    """

    def __init__(self, show: Callable[..., Any]):
        self.show, self.failed = show, False

    def __call__(self, *args: Any) -> Any:
        """Return what `show` gives, or None where it fails."""
        try:
            return self.show(*args)
        except comfy.model_management.InterruptProcessingException:
            raise
        except Exception:
            if not self.failed:
                logging.exception("SkyReels-V2: a preview or progress display failed; the run continues without it.")
            self.failed = True
            return None
