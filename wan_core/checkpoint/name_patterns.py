r"""Tables of patterns for module names, as PEFT's `rank_pattern` and `alpha_pattern` are, read in linear time.

A stranger's file brings both the patterns and the names, and the regular expressions of Python can take for ever on
such a pair. So a pattern is scanned by hand, and matched by the set of places it can have come to in the name:

    pattern = ["^"] choice ["$"];  choice = sequence {"|" sequence};  sequence = {step | "(" ["?:"] choice ")"}
    step = character ["*" | "+" | "?"];  character = "." | "\d" | "\w" | "\" sign | letter, digit, "_", "-", "/"

Source: PEFT matches `(.*\.)?(pattern)$` against a name, and the first entry of the table that does so counts.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..words import Words, words

WORD = frozenset(string.ascii_letters + string.digits + "_")
PLAIN = WORD | frozenset("-/")
CLASSES: dict[str, Callable[[str], bool]] = {"d": str.isdecimal, "w": WORD.__contains__}
MOST_PATTERNS = 20  # of a table, plain names apart
LONGEST = 120  # of a pattern, and of a name that patterns are tried on
DEEPEST = 4

Places = frozenset[int]
Part = Callable[[str, Places], Places]


class PatternError(ValueError):
    """A pattern that is not read, and why."""

    def __init__(self, reason: Words, pattern: str = ""):
        super().__init__(str(reason))
        self.reason, self.pattern = reason, pattern


class Scanner:
    """Reads one pattern, left to right."""

    def __init__(self, text: str):
        self.text, self.at = text, 0

    def take(self, wanted: str) -> bool:
        """Step over `wanted` if it comes next."""
        found = self.text.startswith(wanted, self.at)
        self.at += len(wanted) * found
        return found

    def choice(self, depth: int = 0) -> Part:
        """Read alternatives."""
        if depth > DEEPEST:
            raise PatternError(words("brackets nest deeper than {most}", most=DEEPEST))
        ways = [self.sequence(depth)]
        while self.take("|"):
            ways.append(self.sequence(depth))
        return lambda name, places: frozenset().union(*(way(name, places) for way in ways))

    def sequence(self, depth: int) -> Part:
        """Read steps and groups, one after the other."""
        parts: list[Part] = []
        while self.at < len(self.text) and self.text[self.at] not in "|)$":
            parts.append(self.group(depth) if self.take("(") else self.step())

        def follow(name: str, places: Places) -> Places:
            for part in parts:
                places = part(name, places)
            return places

        return follow

    def group(self, depth: int) -> Part:
        """Read what stands in brackets; a repeated group is not read."""
        self.take("?:")
        inside = self.choice(depth + 1)
        if not self.take(")"):
            raise PatternError(words("a bracket is not closed"))
        if self.text[self.at : self.at + 1] in ("*", "+", "?", "{"):
            raise PatternError(words("a group is repeated"))
        return inside

    def step(self) -> Part:
        """Read one character and how often it comes."""
        fits = self.character()
        some, many = not self.take("?"), False
        if some and (self.take("*") or self.take("+")):
            some, many = self.text[self.at - 1] == "+", True

        def go(name: str, places: Places) -> Places:
            reached = set() if some else set(places)
            ahead = {at + 1 for at in places if at < len(name) and fits(name[at])}
            while ahead:
                reached |= ahead
                ahead = {at + 1 for at in ahead if at < len(name) and fits(name[at])} - reached if many else set()
            return frozenset(reached)

        return go

    def character(self) -> Callable[[str], bool]:
        """Read what stands for one character of the name."""
        sign = self.text[self.at]
        self.at += 1
        if sign == ".":
            return lambda _: True
        if sign == "\\" and self.at < len(self.text):
            sign = self.text[self.at]
            self.at += 1
            if sign in CLASSES:
                return CLASSES[sign]
            if sign not in WORD:
                return sign.__eq__
            raise PatternError(words("{sign} is not supported here", sign="\\" + sign))
        if sign in PLAIN:
            return sign.__eq__
        raise PatternError(words("{sign} is not supported here", sign=repr(sign)))


@dataclass(frozen=True)
class NamePatterns:
    """A table of patterns.

    Attributes:
        names: what is no pattern but a name, or the end of one -> (place in the table, value).
        patterns: (place in the table, whether only whole names count, matcher, value).
    """

    names: dict[str, tuple[int, Any]] = field(default_factory=dict)
    patterns: tuple[tuple[int, bool, Part, Any], ...] = ()

    @classmethod
    def of(cls, table: Mapping[str, Any]) -> NamePatterns:
        """Read a table; `Raises: PatternError` for the first pattern that is not read."""
        names: dict[str, tuple[int, Any]] = {}
        patterns: list[tuple[int, bool, Part, Any]] = []
        for place, (text, value) in enumerate(table.items()):
            plain = text.replace("\\.", ".")
            if all(sign in PLAIN or sign == "." for sign in plain):
                names.setdefault(plain, (place, value))
            else:
                patterns.append((place, *parsed(text, len(patterns)), value))
        return cls(names, tuple(patterns))

    def find(self, name: str, otherwise: Any) -> Any:
        """Return the value of the first entry that a name, or its end from a dot on, fits."""
        starts = frozenset({0, *(at + 1 for at, sign in enumerate(name) if sign == ".")})
        found = [self.names[name[at:]] for at in starts if name[at:] in self.names]
        if len(name) <= LONGEST:
            found += [
                (place, value)
                for place, whole, part, value in self.patterns
                if len(name) in part(name, frozenset({0}) if whole else starts)
            ]
        return min(found, key=lambda entry: entry[0])[1] if found else otherwise


def parsed(text: str, before: int = 0) -> tuple[bool, Part]:
    """Return whether a pattern is for whole names only, and its matcher; `before`: how many the table has before it.

    Raises:
        PatternError: it is not read, or is one too many.
    """
    scanner = Scanner(text)
    try:
        if before == MOST_PATTERNS:
            raise PatternError(words("at most {most} patterns are read", most=MOST_PATTERNS))
        if len(text) > LONGEST:
            raise PatternError(words("it is longer than {most} characters", most=LONGEST))
        whole, part = scanner.take("^"), scanner.choice()
        scanner.take("$")
        if scanner.at < len(text):
            raise PatternError(words("{rest!r} is left over", rest=text[scanner.at :]))
    except PatternError as error:
        raise PatternError(error.reason, text[:LONGEST]) from None
    return whole, part
