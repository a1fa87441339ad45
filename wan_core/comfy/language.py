"""In which language a run speaks: that of the front end which queued it; the log stays English.

web/js/language.js tells the server each client's language. An error of ours is put into words when it is shown, so one
that rises through a node of somebody else is in the reader's language too.
"""

from __future__ import annotations

import logging
import sys
from collections import OrderedDict, deque
from contextlib import suppress
from typing import Any

from ..errors import SkyReelsError
from ..words import ENGLISH, Catalogue, Joined, Words, catalogue

MOST_CLIENTS = 1000  # browser tabs whose language is kept in mind
RECENT = 50  # sentences that the log may still repeat


class Readers:
    """Who reads in which language, and what was said to them lately."""

    def __init__(self) -> None:
        self.languages: OrderedDict[str, str] = OrderedDict()  # by client, the newest last
        self.said: deque[tuple[str, str]] = deque(maxlen=RECENT)  # in another language, and in English

    def remember(self, client: str, language: str) -> None:
        """Keep in mind which language a client's front end has."""
        self.languages[client] = language
        self.languages.move_to_end(client)
        if len(self.languages) > MOST_CLIENTS:
            self.languages.popitem(last=False)

    def catalogue(self) -> Catalogue:
        """Return the catalogue of whoever queued what runs now; English without a server or a front end."""
        # looked up, not imported: where only comfy is in use there is no server
        prompt_server = getattr(sys.modules.get("server"), "PromptServer", None)
        client = getattr(getattr(prompt_server, "instance", None), "client_id", None)
        return catalogue(self.languages.get(client, "en")) if client else ENGLISH

    def say(self, text: Words | Joined) -> str:
        """Return a text in the language of whoever queued what runs now."""
        spoken, english = text.say(self.catalogue()), str(text)
        if spoken != english and (spoken, english) not in self.said:
            self.said.append((spoken, english))
        return spoken


class EnglishLog(logging.Filter):
    """Puts English in the place of what was said in another language: core logs errors as it shows them."""

    def __init__(self, readers: Readers):
        super().__init__()
        self.readers = readers

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the record's text; let every record pass."""
        said = sorted(self.readers.said, key=lambda pair: -len(pair[0]))  # a sentence before those that stand in it
        with suppress(TypeError, ValueError):  # a record whose arguments don't fit is the logger's to complain about
            text = record.getMessage() if said else ""
            for spoken, english in said:
                if spoken in text:
                    record.msg, record.args = text.replace(spoken, english), ()
                    text = record.msg
        return True


READERS = Readers()


def speak_the_readers_language() -> None:
    """Let errors of this pack speak the language of whoever queued the run, and the log English."""
    SkyReelsError.speak = staticmethod(READERS.say)
    root, english = logging.getLogger(), EnglishLog(READERS)
    for each in (root, *root.handlers):  # a logger's own filter doesn't see what comes from the loggers below it
        each.addFilter(english)


def say(text: Any) -> str:
    """Return a text for the person who queued what runs now: Words in their language, anything else as it is."""
    return READERS.say(text) if isinstance(text, Words | Joined) else str(text)
