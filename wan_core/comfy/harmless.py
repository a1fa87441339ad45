"""What only shows something must not end a run by failing: previews, progress bars, callbacks."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import comfy.model_management
from tqdm.auto import tqdm


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


class Progress:
    """What a person sees of a run's calls: a bar on the console, and what core's callback shows.

    Args:
        callback: core's (step, x0, x, total steps), or None.
        total: calls.
        disabled: no bar on the console.
    """

    def __init__(self, callback: Any, total: int, disabled: bool):
        self.show = None if callback is None else Harmless(callback)
        self.bar = tqdm(total=total, disable=disabled)

    def __enter__(self) -> Progress:
        self.bar.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.bar.__exit__(*error)

    def done(self, shown: Callable[[], tuple[Any, ...]]) -> None:
        """Count a call; `shown`: makes what the callback is given, where there is one."""
        self.bar.update()
        if self.show is not None:
            self.show(*shown())
