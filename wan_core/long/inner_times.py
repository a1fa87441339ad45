"""Times inside a prompt, where they would be read as words: refused, with the line that they should begin."""

from __future__ import annotations

from ..errors import InputError
from .line_head import CLOSE, NEAR, OPEN, SHOWN
from .script_lines import Line
from .time_words import DIGITS, LETTERS, Span, fold
from .times import read_number, read_span, skip_spaces

MOST_NUMBERS = 1000  # before units, dashes and colons in the prompts of a script
MOST_TRIED = 100  # numbers in a prompt that may begin where the range of their line ends
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
    refuse_closing_time(line)
    refuse_next_range(line)
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
            raise inside(line, span, prompt[end:].lstrip(AROUND))
        at = numbers.find(" 0", max(end, at + 1))
    return count


def refuse_closing_time(line: Line) -> None:
    """Refuse a time that a prompt ends with: "a cat @4s", "a cat at 4s", "a cat 0s-4s"; `Raises: InputError`."""
    text = fold(line.prompt.rstrip(" .。"))
    begin = max(0, len(text) - NEAR)
    for at in range(begin, len(text)):
        if text[at] not in DIGITS or (at > 0 and text[at - 1] in DIGITS | LETTERS | {".", ":", "-"}):
            continue
        span, end = read_span(text, at)
        if span is None or end < len(text) or not span.has_unit or any(time.decade for time in span.times):
            continue
        before = text[begin:at].rstrip()
        starts = span.dash and span.start is not None and span.start.amount == 0
        placed = before.endswith(("@", "::", "|")) or (before.endswith((" at", " from")) and span.times[0].last != "f")
        if starts or (placed and not span.times[0].clock):
            raise inside(line, span, line.prompt[:at].rstrip(" @:|"))


def refuse_next_range(line: Line) -> None:
    """Refuse a second range in a line that begins where its own ends: "0-4s a cat, then 4-8s a dog"."""
    ending = line.span.end if line.span is not None else None
    if ending is None or not ending.unit:
        return
    text, tried = fold(line.prompt), 0
    for at, letter in enumerate(text):
        if letter not in DIGITS or (at > 0 and text[at - 1] in DIGITS | LETTERS | {".", ":"}):
            continue
        span, end = read_span(text, at)
        begins = span.start if span is not None and span.end is not None else None
        if span is not None and begins is not None and (begins.amount, begins.unit) == (ending.amount, ending.unit):
            raise inside(line, span, line.prompt[end:].lstrip(AROUND))
        tried += 1
        if tried == MOST_TRIED:
            break


def inside(line: Line, span: Span, prompt: str) -> InputError:
    """Return what is said of a time inside a line."""
    return InputError(
        "There is a time in the middle of the line {line!r}: start a new line with it, like {nearest!r}.",
        line=line.text[:SHOWN],
        nearest=f"{span if span.dash else span.times[0]}: {prompt[:NEAR] or '...'}",
    )


def is_inner_time(text: str, at: int, end: int, span: Span, clocks: bool) -> bool:
    """Say whether a span inside a prompt is a time: it has a unit, and a colon or brackets set it off."""
    if not span.has_unit or any(time.decade and not span.dash for time in span.times):
        return False
    place = skip_spaces(text, end)
    after, before = text[place : place + 1], text[at - 1 : at]
    bracketed = before != "" and before in OPEN + ">" and after != "" and after in CLOSE + "<"  # <b>0s-4s</b>
    if span.dash:
        return bracketed or after == ":"
    (time,) = span.times
    if time.clock:
        return clocks or (bracketed and before == "[")
    return time.last in ("s", "ms") and (after == ":" or bracketed)
