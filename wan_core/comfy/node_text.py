"""Lines for the person who waits: in ComfyUI's log and on the node that is being run."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from typing import Any

from ..words import Joined, Words
from .language import say


class NodeText:
    """What stands on a node while it runs: the last line of each speaker, in the order in which they first spoke.

    A node has one text; whoever wrote its own line there would wipe out those of the others.

    Args:
        show: puts a text onto the node.
    """

    def __init__(self, show: Callable[[str], None]):
        self.show = show
        self.lines: dict[str, str] = {}  # by speaker

    def say(self, speaker: str, line: Words | Joined) -> None:
        """Put a line in the place of the speaker's line before it, in the language of whoever queued the run."""
        spoken = say(line)
        if self.lines.get(speaker) != spoken:
            self.lines[speaker] = spoken
            with suppress(Exception):  # a line must not end a run
                self.show("\n".join(self.lines.values()))


# the host's context of the node that is being run, which is another object for each run, and the text of that run
running: ContextVar[tuple[Any, NodeText] | None] = ContextVar("running", default=None)


def tell(speaker: str, line: Words | Joined, level: int = logging.INFO) -> None:
    """Write a line into ComfyUI's log and, as a speaker's last one, onto the node that is being run."""
    logging.log(level, "SkyReels-V2: %s", line)
    node_text(speaker)(line)


def server_and_context() -> tuple[Any, Any] | None:
    """Return the running server and what it says of the node that is being run; None where there is neither."""
    # looked up, not imported: where only comfy is in use there is no server
    prompt_server = getattr(sys.modules.get("server"), "PromptServer", None)
    execution = sys.modules.get("comfy_execution.utils")
    server = getattr(prompt_server, "instance", None)
    context = None if execution is None else execution.get_executing_context()
    return None if context is None or server is None else (server, context)


def node_event(name: str) -> Callable[[dict[str, Any]], None]:
    """Return what sends an event about the node that is being run to the front end that queued it."""
    found = server_and_context()
    if found is None:
        return lambda data: None
    server, context = found

    def send(data: dict[str, Any]) -> None:
        with suppress(Exception):  # an event must not end a run
            server.send_sync(name, {"node": context.node_id, **data}, server.client_id)

    return send


def node_text(speaker: str) -> Callable[[Words | Joined], None]:
    """Return what shows a speaker's line on the node that is being run; without a server the line goes nowhere."""
    found = server_and_context()
    if found is None:
        return lambda line: None
    server, context = found
    known = running.get()
    if known is None or known[0] is not context:
        text = NodeText(lambda shown: server.send_progress_text(shown, context.node_id))
        running.set(known := (context, text))
    return partial(known[1].say, speaker)
