"""Times inside a prompt, where they would be read as words: refused, with the line that they should begin."""

from __future__ import annotations

from ..errors import InputError
from .script_lines import CLOSE, NEAR, OPEN, SHOWN, Line
from .time_words import DIGITS, LETTERS, Span, fold
from .times import read_number, read_span, skip_spaces

MOST_NUMBERS = 1000  # before units, dashes and colons in the prompts of a script
FOLLOWS = frozenset("smhf秒分小毫帧幀半-~>.:tua到至'′″")  # what a number in a time may have after it
PLAIN = {code: fold(chr(code)) for code in range(0x10000) if fold(chr(code)) in DIGITS | LETTERS | {".", ":"}}
PLAIN = {code: "0" if sign in DIGITS else "a" for code, sign in PLAIN.items()}  # a number after an "a" is a part of it
SIGNS = {code for code in range(0x10000) if fold(chr(code)) in f":{CLOSE}"}  # one of them comes after every time


class Others(dict[int, str]):
    """A table for `str.translate` in which every letter that is not named becomes a space."""

    def __missing__(self, code: int) -> str:
        """Return a space."""
        return " "


AROUND = f" :：{CLOSE}）］"
NUMBERS = Others(PLAIN)
ENDS = Others(dict.fromkeys(SIGNS, ":"))


def refuse_inner_times(line: Line, count: int) -> int:
    """Refuse a time inside a prompt: it would stay there, and its prompt would begin too early.

    Args:
        line: it; where its own time is a single clock, one inside its prompt is a time as well.
        count: of the numbers that were looked at in the lines before.

    Returns:
        The count with those of this line.

    Raises:
        InputError: there is such a time, or there are so many numbers that telling them apart would take long.
    """
    prompt = line.prompt
    ends = prompt.translate(ENDS)
    sign = ends.find(":")
    if sign < 0:
        return count
    text, numbers = fold(prompt), " " + prompt.translate(NUMBERS)
    clocks = line.span is not None and not line.span.dash and line.span.times[0].clock
    at = numbers.find(" 0")
    while at >= 0:
        if sign < at and (sign := ends.find(":", at)) < 0:
            break
        span, end = None, max(at + 1, sign - NEAR)
        if sign - at <= NEAR:
            end = read_number(text, at)[1]
            if text[(place := skip_spaces(text, end)) : place + 1] in FOLLOWS:
                count += 1
                span, end = read_span(text, at)
        if count > MOST_NUMBERS:
            raise InputError(
                "The prompts hold more than {most} numbers that may be times: shorten the script.",
                most=MOST_NUMBERS,
            )
        if span is not None and is_inner_time(text, at, end, span, clocks):
            raise InputError(
                "There is a time in the middle of the line {line!r}: start a new line with it, like {nearest!r}.",
                line=line.text[:SHOWN],
                nearest=f"{span if span.dash else span.times[0]}: {prompt[end:].lstrip(AROUND)[:NEAR] or '...'}",
            )
        at = numbers.find(" 0", max(end, at + 1))
    return count


def is_inner_time(text: str, at: int, end: int, span: Span, clocks: bool) -> bool:
    """Say whether a span inside a prompt is a time: it has a unit, and a colon or brackets set it off."""
    if not span.has_unit or any(time.decade and not span.dash for time in span.times):
        return False
    place = skip_spaces(text, end)
    after, before = text[place : place + 1], text[at - 1 : at]
    bracketed = before != "" and before in OPEN and after != "" and after in CLOSE
    if span.dash:
        return bracketed or after == ":"
    (time,) = span.times
    if time.clock:
        return clocks or (bracketed and before == "[")
    return time.last in ("s", "ms") and (after == ":" or bracketed)
