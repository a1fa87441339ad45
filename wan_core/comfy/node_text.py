"""Lines for the person who waits: in ComfyUI's log and on the node that is being run."""

from __future__ import annotations

import logging
from collections.abc import Callable


def tell(line: str, level: int = logging.INFO) -> None:
    """Write a line into ComfyUI's log and onto the node that is being run."""
    logging.log(level, "SkyReels-V2: %s", line)
    node_text()(line)


def node_text() -> Callable[[str], None]:
    """Return what shows a line on the node that is being run; without a server the line goes nowhere."""
    from comfy_execution.utils import get_executing_context  # not there when only comfy is imported
    from server import PromptServer

    context, server = get_executing_context(), getattr(PromptServer, "instance", None)
    if context is None or server is None:
        return lambda line: None
    shown = ""

    def say(line: str) -> None:
        nonlocal shown
        if line != shown:
            shown = line
            server.send_progress_text(line, context.node_id)

    return say
