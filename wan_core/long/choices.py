r"""Choices in a text, `a {red|blue} ball`: as ComfyUI's front end makes them in Text Encode, but from a seed.

The front end draws anew each time a workflow is queued. A long video is resumed by its inputs, so here a seed draws:
the same script and seed give the same prompts, in every front end, over the API and after a restart.

    text = {plain | "\" any | choice}      choice = "{" [text {"|" text}] "}"
    comments, which are left out: // to the end of the line, and /* ... */

Source: the documentation of dynamic prompts of ComfyUI's front end. One pass, in time in proportion to the text.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from typing import Any

from ..errors import InputError

MOST_CHOICES = 2_000
LINE_ENDS = "\n\r\u2028\u2029"


def without_comments(text: str) -> str:
    """Return a text without `// ...` and `/* ... */`; a comment that never ends is none."""
    kept, begin, at = [], 0, text.find("/")
    never_ends = False
    line_ends = [place for place, letter in enumerate(text) if letter in LINE_ENDS] if at >= 0 else []
    while at >= 0:
        end = at
        if text.startswith("//", at):
            line = bisect_left(line_ends, at)
            end = line_ends[line] if line < len(line_ends) else len(text)
        elif text.startswith("/*", at) and not never_ends:
            end = text.find("*/", at + 2) + 2
            never_ends = end < 2
        if end > at:
            kept.append(text[begin:at])
            begin = end
        at = text.find("/", max(end, at + 1))
    return "".join((*kept, text[begin:]))


def choose(text: str, seed: int) -> str:
    """Return a text with its choices made.

    Args:
        text: it may hold choices within choices; braces and bars after a backslash are plain.
        seed: choice number n depends on it and on n alone, so the other choices stay where one is added behind them.

    Raises:
        InputError: there are more choices than anybody writes.
    """
    text = without_comments(text)
    if "{" not in text:
        return unescaped(text)
    if text.count("{") > MOST_CHOICES:
        raise InputError(
            "The prompt script has {count} braces, but at most {most} choices are made: shorten it.",
            count=text.count("{"),
            most=MOST_CHOICES,
        )
    pieces: list[Any] = []  # of the option that is read: strings, and the pieces of choices that are made
    outer: list[tuple[list[Any], list[list[Any]], int]] = []  # where each open choice stands, its options, its number
    begin = at = count = 0
    while at < len(text):
        sign = text[at]
        if sign == "\\":
            at += 2
            continue
        if sign == "{" or (outer and sign in "|}"):
            pieces.append(unescaped(text[begin:at]))
            begin = at + 1
            if sign == "{":
                outer.append((pieces, [], count))
                pieces, count = [], count + 1
            elif sign == "|":
                outer[-1][1].append(pieces)
                pieces = []
            else:
                pieces = closed(outer, pieces, seed)
        at += 1
    pieces.append(unescaped(text[begin:]))
    while outer:  # a brace that is never closed ends with the text
        pieces = closed(outer, pieces, seed)
    return flattened(pieces)


def closed(outer: list[tuple[list[Any], list[list[Any]], int]], pieces: list[Any], seed: int) -> list[Any]:
    """Make the innermost open choice, whose last option is `pieces`; return the pieces of what it stands in."""
    around, options, number = outer.pop()
    options.append(pieces)
    drawn = 0
    if len(options) > 1:
        drawn = int.from_bytes(hashlib.sha256(f"{seed} {number}".encode()).digest()[:8], "big") % len(options)
    around.append(options[drawn])
    return around


def flattened(pieces: list[Any]) -> str:
    """Return nested lists of strings as one string; no recursion, since choices may lie as deep as a text is long."""
    found, stack = [], [iter(pieces)]
    while stack:
        piece = next(stack[-1], None)
        if piece is None:
            stack.pop()
        elif isinstance(piece, str):
            found.append(piece)
        else:
            stack.append(iter(piece))
    return "".join(found)


def unescaped(text: str) -> str:
    """Return a text whose backslashes before braces and bars are gone."""
    if "\\" not in text:
        return text
    return text.replace("\\{", "{").replace("\\}", "}").replace("\\|", "|")
