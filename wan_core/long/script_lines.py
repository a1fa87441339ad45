"""One line of a prompt script: its number in a list, its time and its prompt; or why it can't be read.

    line  = {bullet} [item] [head] prompt
    item  = [scene | shot | 镜头 ...] number ["." | ")" | ":" ...] | "第" number (段 | 镜 ...)      1.  Scene 2:
    head  = {open | mark | from | at ...} span {close | mark} [":" | "|" | "-" ...]               span: see `times`
    open, close = brackets and quotes of any kind;  mark = * _ ` # | of Markdown

Numbers without a unit are seconds, and are a time only as a range before a colon or in brackets. A line that looks as
if it had a time and has none of these forms is refused, with the nearest one: no mark of a time is left in a prompt.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import InputError
from .time_words import DASHES, DIGITS, LETTERS, Span, fold
from .times import read_number, read_span, read_word, skip_spaces

OPEN, CLOSE = "([{<【〔〖《「『〈\"“'‘", ")]}>】〕〗》」』〉\"”'’"
MARKS = "*_`#|"
BULLETS = "-*+•·●○◦▪■□◆◇▶►➤➢✓✔★☆>#|"
COLONS = ":|="
SEPARATORS = COLONS + ",;、"
HEAD_WORDS = ("from", "at", "between", "during", "time", "t=", "@", "从", "自", "在", "于", "时间")
TAIL_WORDS = ("的时候", "期间", "之间", "时", "内", "间", "处", "mark")
ITEM_WORDS = ("scene", "shot", "segment", "part", "clip", "step", "prompt", "镜头", "场景", "片段", "分镜")
ITEM_ENDS = ("段", "镜", "幕", "个镜头", "个场景", "个片段", "场", "节")
NO_SPANS = ("for", "next", "last", "final", "持续", "最后", "接下来", "随后")  # lengths of time, not places in it
SHAPES = (9 * 60 + 16, 2 * 60 + 35, 2 * 60 + 39, 2 * 60 + 40)  # 9:16 and the like are shapes of pictures
HALF_DAYS = ("am", "pm", "a.m", "p.m", "o'clock")
LONGEST_HEAD = 256  # characters of a line in which its time ends
STEPS = 8  # most brackets and marks on each side of a time
NEAR = 28  # characters after a number in which a time would have its colon
MOST_ITEM = 9999
SHOWN = 60  # characters of a line that a message shows
CIRCLED = {chr(0x2460 + number): number + 1 for number in range(20)}


@dataclass(frozen=True)
class Line:
    """A line of a script.

    Attributes:
        text: the whole line.
        prompt: what is left of it without its time, and without its bullet or number in a list.
        span: its time, or None.
        label: the time as it is written.
        item: its number in a list, or None.
        numbered: whether the number may be a time as well, "2: ..."
        bullet: whether it begins with a bullet.
        firm: whether it is a time whatever the other lines hold; "90s neon" is one only among lines such as "80s neon".
    """

    text: str
    prompt: str
    span: Span | None = None
    label: str = ""
    item: int | None = None
    numbered: bool = False
    bullet: bool = False
    firm: bool = True


def read_line(line: str) -> Line:
    """Read a line that has no spaces around it; `Raises: InputError`."""
    text = fold(line[:LONGEST_HEAD])
    begin = skip_bullets(text)
    item, after, marked = read_item(text, begin)
    numbered = item is not None and text[begin].isdecimal() and ":" in text[begin:after]
    found = Head(line, text, after).read() if item is not None else None
    if found is None and not marked:
        found = Head(line, text, begin).read()
    if found is None and begin:
        found = Head(line, text, 0).read()  # "*0s-4s* a cat" and the like
    if found is None:
        prompt = line[after if marked else begin :]
        return Line(line, prompt, item=item if marked else None, numbered=numbered, bullet=begin > 0)
    span, label, prompt, firm = found
    return Line(line, prompt, span, label, item, bullet=begin > 0, firm=firm)


def skip_bullets(text: str) -> int:
    """Return the place after the bullets that a line begins with; plain signs are bullets before a space only."""
    at = 0
    for _ in range(STEPS):
        if at >= len(text) or text[at] not in BULLETS:
            break
        after = skip_spaces(text, at + 1)
        if after == at + 1 and text[at] in "-+*#|" and text[at : at + 2] != "##":
            break
        at = after
    return at


def read_item(text: str, at: int) -> tuple[int | None, int, bool]:
    """Return a line's number in a list, where what follows begins, and whether a mark or a name makes it a number."""
    if text[at : at + 1] in CIRCLED:
        return CIRCLED[text[at]], skip_spaces(text, at + 1), True
    ordinal, bracket = text.startswith("第", at), text.startswith(("(", "["), at)
    strong = next((place for place in range(at, at + 3) if text[place : place + 1] not in tuple(MARKS)), at)
    named = read_word(text, strong, ITEM_WORDS)
    named = named if named > strong else at
    begin = skip_spaces(text, max(named, at + (ordinal or bracket)))
    begin += text.startswith("#", begin)
    number, end = read_number(text, begin)
    if number is None or number > MOST_ITEM or number % 1:
        return None, at, False
    if ordinal and (end := read_word(text, begin := end, ITEM_ENDS)) == begin:
        return None, at, False
    mark = text[end : end + 1]
    if not ordinal and named == at and mark not in ((")", "]") if bracket else (".", ")", "、", ":")):
        return None, at, False
    if not ordinal and named == at and mark in (".", ":") and text[end + 1 : end + 2] in DIGITS:
        return None, at, False
    place = skip_spaces(text, end)
    for _ in range(2):
        if place < len(text) and text[place] in ".):-]、,|":
            place = skip_spaces(text, place + 1)
    return int(number), place, place > skip_spaces(text, end) or ordinal or (named > at and place >= len(text))


class Head:
    """What reads the time at the beginning of a line.

    Args:
        line: the line.
        text: it, folded.
        at: where the time would begin.
    """

    def __init__(self, line: str, text: str, at: int):
        self.line, self.text, self.at = line, text, at
        self.opened = self.closed = self.marks = self.marks_after = 0
        self.quoted = False

    def read(self) -> tuple[Span, str, str, bool] | None:
        """Return the time, as it is written too, the prompt, and whether it is firm; None for a line without one.

        Raises:
            InputError: it looks as if there were a time.
        """
        begin = self.skip_openers()
        length = read_word(self.text, begin, NO_SPANS)
        span, end = read_span(self.text, skip_spaces(self.text, length))
        if span is None:
            return None
        after, separator = self.skip_closers(end)
        colon = (separator != "" and separator in COLONS) or self.is_enclosed or after >= len(self.text)
        if length > begin:
            if not (colon and span.has_unit):
                return None
            raise self.refusal(span, after)
        if span.dash and span.end is None and not colon and self.text[end - 1] in DASHES:
            return self.read_dashed(span, end, after)
        verdict = self.judge(span, end, separator, colon)
        if verdict is None:
            return None
        if verdict == "refuse":
            raise self.refusal(span, after)
        if verdict == "unclear":  # 0:4, 0%: what is meant can't be known
            rest = self.line[end:].lstrip("0123456789:：%-–—~～ " + CLOSE)
            raise unreadable(self.line, f"0s-4s: {rest[:NEAR] or '...'}")
        return span, self.line[begin:end].strip(), self.prompt(after), verdict == "firm"

    @property
    def is_enclosed(self) -> bool:
        """Whether brackets or marks stand on both sides of the time."""
        return 0 < self.opened <= self.closed or 0 < self.marks <= self.marks_after

    def skip_openers(self) -> int:
        """Return where the time itself begins, after brackets, marks and words."""
        at = self.at
        for _ in range(STEPS):
            at = skip_spaces(self.text, at)
            letter = self.text[at : at + 1]
            if letter and letter in OPEN:
                self.opened, self.quoted, at = self.opened + 1, self.quoted or letter in '"“', at + 1
            elif letter and letter in MARKS:
                self.marks, at = self.marks + 1, at + 1
            elif (after := read_word(self.text, at, HEAD_WORDS)) > at:
                at = after + self.text.startswith(":", after)
            else:
                break
        return at

    def skip_closers(self, at: int) -> tuple[int, str]:
        """Return where the prompt begins, after brackets, marks and a separator, and the separator."""
        at = read_word(self.text, at, TAIL_WORDS)
        separator = ""
        for _ in range(STEPS):
            place = skip_spaces(self.text, at)
            letter = self.text[place : place + 1]
            if letter and letter in CLOSE and self.closed < self.opened:
                self.closed += 1
            elif letter and letter in MARKS and (letter != "|" or separator):
                self.marks_after += 1
            elif self.text.startswith("=>", place) and not separator:
                place, separator = place + 1, ":"
            elif letter and letter in SEPARATORS and not separator:
                separator = letter
            elif letter and letter in DASHES and letter != "." and not separator:
                while self.text[place + 1 : place + 2] in DASHES:
                    place += 1
                separator = ":" if self.text[place] == ">" else "-"
            else:
                break
            at = place + 1
        return skip_spaces(self.text, at), separator

    def read_dashed(self, span: Span, end: int, after: int) -> tuple[Span, str, str, bool] | None:
        """Read "4s - a dog": a single time and a dash before its prompt, but no "90s-style" and no "80s - a decade"."""
        (time,) = span.times
        glued = self.text[end : end + 1] in LETTERS
        if time.decade or not time.unit or (glued and time.amount) or time.last in ("m", "h", "f"):
            if time.unit and not time.amount:
                raise self.refusal(span, after)
            return None
        label = self.line[self.at : end].rstrip("->~. –—−－～→")
        return Span(time, None, False), label, self.prompt(after), True

    def judge(self, span: Span, end: int, separator: str, colon: bool) -> str | None:
        """Say whether a span that was read is a time: "firm", "loose" (if other lines are too), None or "refuse"."""
        times = span.times
        if any(time.amount == float("inf") for time in times):
            return "unclear"
        if span.start is not None and span.end is not None:
            if span.has_unit or colon:
                return "firm"
            return "refuse" if span.start.amount == 0 else None
        if span.dash:
            if colon or (span.has_unit and separator):
                return "firm"
            return "refuse" if span.has_unit and self.text.startswith("-", self.at) else None
        (time,) = times
        if not time.unit:
            return self.judge_number(time.amount, end, separator, colon)
        if time.clock and not colon:
            shape = time.amount in SHAPES and not separator
            after = skip_spaces(self.text, end)
            return None if shape or read_word(self.text, after, HALF_DAYS) > after else "firm"
        if colon or self.text.startswith("第", skip_spaces(self.text, self.at)):
            return "firm"
        if time.last in ("m", "h", "f") and not (time.amount == 0 and separator):
            return None
        return "loose" if time.decade and not separator else "firm"

    def judge_number(self, amount: float, end: int, separator: str, colon: bool) -> str | None:
        """Say what a number without a unit is: no time but in 0:4, 0% and the like, which are refused."""
        after = end
        while self.text[after : after + 1] in DIGITS | {":", "%"}:
            after += 1
        run = self.text[end:after]
        if "%" in run or (run and run[-1] != ":"):
            dash = self.text[after : after + 1] in DASHES and self.text[after + 1 : after + 2] in DIGITS
            closed = self.opened and self.text[after : after + 1] in tuple(CLOSE)
            return "unclear" if dash or closed or amount == 0 or run[-1] == ":" else None
        return "refuse" if colon and separator and separator in COLONS else None

    def prompt(self, at: int) -> str:
        """Return the prompt from some place on, without the ends of brackets, marks and quotes that began before it."""
        prompt = self.line[at:].strip()
        if self.quoted and prompt[:1] in ('"', "“") and prompt.rstrip(",，")[-1:] in ('"', "”"):
            return prompt.rstrip(",，")[1:-1].strip()
        if self.opened > self.closed and prompt[-1:] and fold(prompt[-1]) in CLOSE:
            prompt = prompt[:-1].rstrip()
        if self.line.startswith("|") and prompt.endswith("|"):
            prompt = prompt[:-1].rstrip()
        if self.marks > self.marks_after:
            prompt = prompt.removesuffix("*").removesuffix("*").rstrip()
        return prompt

    def refusal(self, span: Span, after: int) -> InputError:
        """Return what is said of a line that looks as if it had a time."""
        prompt = self.line[after:].strip() or "..."
        if not span.has_unit and not span.dash:
            return unclear_number(self.line, span.times[0].amount, prompt)
        return unreadable(self.line, f"{span}: {prompt[:NEAR]}")


def unreadable(line: str, nearest: str) -> InputError:
    """Return what is said of a line that looks as if it had a time."""
    return InputError(
        "The line {line!r} looks as if it began with a time, but it can't be read: write it like {nearest!r}.",
        line=line[:SHOWN],
        nearest=nearest,
    )


def unclear_number(line: str, number: float, prompt: str) -> InputError:
    """Return what is said of a line that begins with a number and a colon."""
    return InputError(
        "The line {line!r} begins with a number that may count seconds, video frames or lines: write {seconds!r}, "
        "{frames!r} or {item!r}.",
        line=line[:SHOWN],
        seconds=f"{number:g}s: {prompt[:NEAR]}",
        frames=f"{number:g}f: {prompt[:NEAR]}",
        item=f"{number:g}. {prompt[:NEAR]}",
    )
