"""Times as people write them, read by one scanner: for prompt scripts, key_times and key_frames.

The grammar, over a text whose wide letters, dashes and colons are folded to plain ones (`fold`):

    span   = time DASH time | time DASH [END] | [START] DASH time | time [LATER | BEFORE] | (UNTIL | FIRST) time
    time   = [第] clock | [第] number unit [half] {number unit} [number] | unit number | number
    clock  = digits ":" dd [":" dd] [("." | ",") digits]         0:04, 01:02:03, 00:00:04,500
    number = digits ["." digits] | Chinese numerals               4, 4.5, 十二, 半
    unit   = ms | s, sec, seconds, 秒 | m, min, 分 | h, 小时 | f, frames, 帧    (units of one time fall: 1m10s)
    DASH   = one or more of - – — ~ ～ > → . … | to | till | until | through | and | 到 | 至
    END    = end | the end | 结束 | 结尾 | 最后 ...      START = start | beginning | 开头 | 开始 ...
    LATER  = + | onwards | later | 后 | 之后 | 起 ...     BEFORE = 前 | 之前      UNTIL = until | before | 直到

Every rule looks a bounded number of characters ahead and goes back to at most one place, so reading takes time in
proportion to the text whatever it holds. No pattern of `re` runs over what a person wrote.
"""

from __future__ import annotations

from .time_words import (
    BEFORE_WORDS,
    DASH_WORDS,
    DASHES,
    DIGITS,
    END_WORDS,
    FIRST_WORDS,
    HALF,
    HAN,
    HUNDRED,
    LATER_WORDS,
    LETTERS,
    LONGEST_WORD,
    MOST_DIGITS,
    SECONDS,
    SPACES,
    START_WORDS,
    TEN,
    UNITS,
    UNTIL_WORDS,
    Span,
    Time,
)


def skip_spaces(text: str, at: int, most: int = SPACES) -> int:
    """Return the place after a few spaces."""
    end = min(len(text), at + most)
    while at < end and text[at] == " ":
        at += 1
    return at


def read_word(text: str, at: int, known: tuple[str, ...]) -> int:
    """Return the place after one of some words, or `at` where none stands there whole."""
    if not text.startswith(known, at):
        return at
    for word in known:
        if text.startswith(word, at):
            end = at + len(word)
            if word[-1] not in LETTERS or end >= len(text) or text[end] not in LETTERS:
                return end
    return at


def read_number(text: str, at: int) -> tuple[float | None, int]:
    """Return a number and the place after it; None where there is none."""
    end = at
    while end < len(text) and text[end] in DIGITS:
        end += 1
    if end == at:
        return read_han(text, at)
    whole = end
    if end + 1 < len(text) and text[end] == "." and text[end + 1] in DIGITS:
        end += 1
        while end < len(text) and text[end] in DIGITS:
            end += 1
    return (float("inf") if whole - at > MOST_DIGITS else float(text[at : min(end, whole + MOST_DIGITS)])), end


def read_han(text: str, at: int) -> tuple[float | None, int]:
    """Return a number below 1000 in Chinese numerals and the place after it; None where there is none."""
    total, digit, end = 0, -1, at
    while end < len(text) and end - at < LONGEST_WORD:
        letter = text[end]
        if letter in HAN:
            digit = HAN[letter] if digit < 1 else 10 * digit + HAN[letter]
        elif letter in (TEN, HUNDRED):
            total, digit = total + (digit if digit >= 0 else 1) * (10 if letter == TEN else 100), 0
        else:
            break
        end += 1
    if end == at:
        return (0.5, at + 1) if text.startswith(HALF, at) else (None, at)
    return float(total + max(digit, 0)), end


def read_unit(text: str, at: int) -> tuple[str, int]:
    """Return a unit as in SECONDS, or "f", and the place after it; "" and `at` where there is none."""
    begin = skip_spaces(text, at)
    end = begin
    while end < len(text) and text[end] in LETTERS and end - begin < LONGEST_WORD:
        end += 1
    if end > begin:
        unit = UNITS.get(text[begin:end], "")
        return (unit, end) if unit else ("", at)
    for length in (2, 1):
        unit = UNITS.get(text[begin : begin + length], "")
        if unit:
            return unit, begin + length
    return "", at


def read_clock(text: str, at: int) -> tuple[Time | None, int]:
    """Return a time such as 0:04 or 00:00:04,500 and the place after it; None where there is none."""
    groups, end = [], at
    while end < len(text) and text[end] in DIGITS and end - at <= 2:
        end += 1
    if end == at or end - at > 3 or not two_digits(text, end):
        return None, at
    groups.append(int(text[at:end]))
    while two_digits(text, end):
        groups.append(int(text[end + 1 : end + 3]))
        end += 3
    if len(groups) > 3 or any(group > 59 for group in groups[1:]):
        return None, at
    amount = float(sum(group * 60**place for place, group in enumerate(reversed(groups))))
    if end + 1 < len(text) and text[end] in ".," and text[end + 1] in DIGITS:
        after = end + 1
        while after < len(text) and text[after] in DIGITS and after - end <= MOST_DIGITS:
            after += 1
        if text[end] == "." or after - end == 4:
            amount, end = amount + float("0." + text[end + 1 : after]), after
    return Time(amount, "s", clock=True), end


def two_digits(text: str, at: int) -> bool:
    """Say whether a colon and exactly two digits stand there."""
    if at + 2 >= len(text) or text[at] != ":" or text[at + 1] not in DIGITS or text[at + 2] not in DIGITS:
        return False
    return at + 3 >= len(text) or text[at + 3] not in DIGITS


def read_time(text: str, at: int) -> tuple[Time | None, int]:
    """Return a time and the place after it; None and `at` where there is none.

    Args:
        text: folded.
        at: where it begins.
    """
    begin = at + 1 if text.startswith("第", at) else at
    before, begin = read_unit_before(text, begin)
    clock, end = read_clock(text, begin)
    if clock is not None:
        return clock, end
    number, end = read_number(text, begin)
    if number is None:
        return None, at
    unit, after = read_unit(text, end)
    if not unit:
        kind = "" if not before else "f" if before == "f" else "s"
        return Time(number * SECONDS.get(before, 1.0), kind, last=before), end
    if unit == "f":
        return Time(number, "f", last="f"), after
    decade = text[end:after] == "s" and number % 10 == 0 and (20 <= number <= 90 or 1000 <= number < 3000)
    return read_more_units(text, after, number, unit, decade)


def read_unit_before(text: str, at: int) -> tuple[str, int]:
    """Return a unit that stands before its number, as in "frames 0-96" or "f12", and where the number begins."""
    if text[at : at + 1] in DIGITS:
        return "", at
    unit, end = read_unit(text, at)
    end = skip_spaces(text, end, 1)
    if end < len(text) and text[end] in "#=:":
        end = skip_spaces(text, end + 1, 1)
    if unit and end < len(text) and text[end] in DIGITS:
        return unit, end
    return "", at


def read_more_units(text: str, at: int, number: float, unit: str, decade: bool) -> tuple[Time, int]:
    """Return a time whose first number and unit are read, with what follows: 1m10s, 1m10, 一分半."""
    ranks = list(SECONDS)
    total = number * SECONDS[unit]
    for _ in ranks:
        if text.startswith(HALF, at):
            return Time(total + SECONDS[unit] / 2, "s", last=unit), at + 1
        begin = skip_spaces(text, at, 1)
        number_after, end = read_number(text, begin)
        if number_after is None:
            break
        following, after = read_unit(text, end)
        if not following and unit == "m" and text.startswith('"', end):  # 0'04"
            following, after = "s", end + 1
        if not following and unit in "hm" and closes_time(text, begin, at, end):
            following, after = ranks[ranks.index(unit) + 1], end
        if following not in SECONDS or ranks.index(following) <= ranks.index(unit):
            break
        total, unit, at, decade = total + number_after * SECONDS[following], following, after, False
    return Time(total, "s", last=unit, decade=decade), at


def closes_time(text: str, begin: int, at: int, end: int) -> bool:
    """Say whether a number without a unit belongs to the minutes before it: 1m10, or 1m 10 before a dash or colon."""
    after = skip_spaces(text, end)
    glued = begin == at and (end >= len(text) or text[end] not in LETTERS)
    return glued or after >= len(text) or text[after] in "-~:)]"


def read_dash(text: str, at: int) -> int:
    """Return the place after what joins the ends of a span, or `at`."""
    begin = skip_spaces(text, at)
    end = begin + text.startswith("=>", begin)
    while end < len(text) and text[end] in DASHES and end - begin < LONGEST_WORD:
        end += 1
    if text[begin:end] not in ("", "."):
        return end
    end = read_word(text, begin, DASH_WORDS)
    return end if end > begin else at


def read_span(text: str, at: int) -> tuple[Span | None, int]:
    """Return a stretch of time and the place after it; None and `at` where there is none.

    Args:
        text: folded.
        at: where it begins.
    """
    for known, begins in ((FIRST_WORDS, True), (UNTIL_WORDS, True), (START_WORDS, False)):
        after = read_word(text, at, known)
        if after > at:
            after = after if begins else read_dash(text, after)
            end, after = read_time(text, skip_spaces(text, after))
            return (Span(None, end, True), after) if end is not None else (None, at)
    if text.startswith("-", at):
        end, after = read_time(text, skip_spaces(text, at + 1))
        return (Span(None, end, True), after) if end is not None else (None, at)
    start, after = read_time(text, at)
    if start is None:
        return None, at
    for known, before in ((LATER_WORDS, False), (BEFORE_WORDS, True)):
        place = skip_spaces(text, after)
        if (place := read_word(text, place, known)) > skip_spaces(text, after):
            return (Span(None, start, True) if before else Span(start, None, False)), place
    return read_rest(text, after, start)


def read_rest(text: str, at: int, start: Time) -> tuple[Span, int]:
    """Return a span whose start is read."""
    dash = read_dash(text, at)
    if dash == at:
        return Span(start, None, False), at
    begin = skip_spaces(text, dash)
    after = read_word(text, begin, END_WORDS)
    if after > begin:
        return Span(start, None, True), after
    end, after = read_time(text, begin)
    if end is None:
        if text[skip_spaces(text, at)] not in DASHES:  # "4s to" needs its end
            return Span(start, None, False), at
        return Span(start, None, True), dash
    return Span(*with_units(start, end), True), after


def with_units(start: Time, end: Time) -> tuple[Time, Time]:
    """Return both ends of a span with the unit that only one of them has: 0-4s, 1-2m, 0s-4."""
    if not start.unit and end.unit and not end.clock:
        factor = SECONDS.get(end.last, 1.0)
        if end.unit == "f" or start.amount * factor > end.amount:  # 30-1m is from 30 seconds on
            factor = 1.0
        start = Time(start.amount * factor, end.unit, last=end.last)
    elif not start.unit and end.clock:
        start = Time(start.amount, "s")
    elif start.unit and not end.unit:
        end = Time(end.amount, start.unit, last="s" if start.unit == "s" else "f")
    return start, end
