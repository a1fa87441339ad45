"""What is said to a person: an English sentence with places for values, and how another language says it.

A sentence is written once, in English, where it is meant: `words("{count} frames", count=3)`. What carries it keeps
sentence and values apart, so that it can be said in the language of whoever reads it. A catalogue is a dictionary from
English sentences to those of one language; what it lacks is said in English.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

Catalogue = Mapping[str, str]
ENGLISH: Catalogue = {}
LOCALES = Path(__file__).resolve().parent.parent / "locales"
CATALOGUE = "messages.json"  # in the folder of a language


@dataclass(frozen=True)
class Words:
    """A sentence or a part of one.

    Attributes:
        template: in English, as for `str.format`; braces are doubled only where there are values.
        values: by the names of their places; those that are Words or errors of ours are said in the same language.
    """

    template: str
    values: Mapping[str, Any] = field(default_factory=dict)

    def say(self, catalogue: Catalogue = ENGLISH) -> str:
        """Return the sentence in the language of a catalogue."""
        template = catalogue.get(self.template, self.template)
        spoken = {name: said(value, catalogue) for name, value in self.values.items()}
        return template.format(**spoken) if spoken else template

    def __str__(self) -> str:
        """Return the English sentence."""
        return self.say()


@dataclass(frozen=True)
class Joined:
    """Parts in a row, with what stands between them: a list, or the lines of a text."""

    parts: tuple[Any, ...]
    separator: str = ", "

    def say(self, catalogue: Catalogue = ENGLISH) -> str:
        """Return the parts in the language of a catalogue, which may have a separator of its own."""
        separator = catalogue.get(self.separator, self.separator)
        return separator.join(str(said(part, catalogue)) for part in self.parts)

    def __str__(self) -> str:
        """Return the English text."""
        return self.say()


def words(template: str, /, **values: Any) -> Words:
    """Return a sentence, or a part of one, with its values."""
    return Words(template, values)


def joined(parts: Iterable[Any], separator: str = ", ") -> Joined:
    """Return parts in a row."""
    return Joined(tuple(parts), separator)


def lines(*parts: Any) -> Joined:
    """Return a text of several lines."""
    return Joined(parts, "\n")


def counted(number: int, things: str) -> Words:
    """Return a number of things, such as "3 segments" or "1 segment"; `things`: their regular plural."""
    return Words("{number} " + (things.removesuffix("s") if number == 1 else things), {"number": number})


def said(value: Any, catalogue: Catalogue) -> Any:
    """Return a value in the language of a catalogue where it is words, as it is where it is not."""
    value = getattr(value, "words", value)  # of an error
    return value.say(catalogue) if isinstance(value, Words | Joined) else value


@lru_cache(16)
def catalogue(language: str) -> Catalogue:
    """Return the catalogue of a language such as "zh"; of "zh-TW" that of "zh" where it has none of its own."""
    for name in (language, language.partition("-")[0]):
        file = LOCALES / name / CATALOGUE
        if name.isidentifier() and file.is_file():
            found: dict[str, str] = json.loads(file.read_text("utf-8"))
            return found
    return ENGLISH
