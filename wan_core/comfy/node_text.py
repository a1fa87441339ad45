"""Lines for the person who waits: in ComfyUI's log and on the node that is being run."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable


def tell(line: str, level: int = logging.INFO) -> None:
    """Write a line into ComfyUI's log and onto the node that is being run."""
    logging.log(level, "SkyReels-V2: %s", line)
    node_text()(line)


def node_text() -> Callable[[str], None]:
    """Return what shows a line on the node that is being run; without a server the line goes nowhere."""
    # looked up, not imported: where only comfy is in use there is no server, and a line must not end a run
    prompt_server = getattr(sys.modules.get("server"), "PromptServer", None)
    execution = sys.modules.get("comfy_execution.utils")
    server = getattr(prompt_server, "instance", None)
    context = None if execution is None else execution.get_executing_context()
    if context is None or server is None:
        return lambda line: None
    shown = ""

    def say(line: str) -> None:
        nonlocal shown
        if line != shown:
            shown = line
            server.send_progress_text(line, context.node_id)

    return say
