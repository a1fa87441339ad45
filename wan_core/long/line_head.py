"""The time at the beginning of a line of a prompt script; or why it can't be read. Its grammar is in `script_lines`."""

from __future__ import annotations

from ..errors import InputError
from .time_words import DASHES, DIGITS, END_WORDS, LETTERS, START_WORDS, Span, fold
from .times import read_number, read_span, read_unit, read_word, skip_spaces

OPEN, CLOSE = "([{<【〔〖《「『〈\"“'‘", ")]}>】〕〗》」』〉\"”'’"
MARKS = "*_`#|"
COLONS = ":|="
SEPARATORS = COLONS + ",;、"
HEAD_WORDS = ("from", "at the", "at", "between", "during", "time", "t=", "@", "从", "自", "在", "于", "时间")
TAIL_WORDS = ("的时候", "期间", "之间", "时", "内", "间", "处")
MARK = ("mark",)  # the 4 second mark: also somebody's name, so only before a colon or comma
NO_SPANS = ("for", "next", "last", "final", "持续", "最后", "接下来", "随后")  # lengths of time, not places in it
SHAPES = (9 * 60 + 16, 2 * 60 + 35, 2 * 60 + 39, 2 * 60 + 40)  # 9:16 and the like are shapes of pictures
ORDINALS = ("st", "nd", "rd", "th")
HALF_DAYS = ("am", "pm", "a.m", "p.m", "o'clock")
STEPS = 8  # most brackets and marks on each side of a time
NEAR = 28  # characters after a number in which a time would have its colon
SHOWN = 60  # characters of a line that a message shows


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
            self.refuse_lone_end(begin)
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
        if verdict == "firm" and separator != ":" and not span.dash:
            self.refuse_more(span, end, after)
        if verdict is None:
            return None
        if verdict == "refuse":
            raise self.refusal(span, after)
        if verdict == "unclear":  # 0:4, 0%: what is meant can't be known
            colon_at = self.text.find(":", end, end + NEAR)
            rest = self.line[max(end, colon_at + 1) :].lstrip("0123456789%-–—~～, " + CLOSE)
            raise unreadable(self.line, f"0s-4s: {rest[:NEAR] or '...'}")
        return span, self.line[begin:end].strip(), self.prompt(after), verdict == "firm"

    def refuse_lone_end(self, begin: int) -> None:
        """Refuse a line such as "Start: a cat", whose place in the video is a word alone; `Raises: InputError`."""
        for known, nearest in ((START_WORDS, "0s"), (END_WORDS, "4s-")):
            word = read_word(self.text, begin, known)
            place = skip_spaces(self.text, word)
            if word > begin and self.text.startswith(":", place):
                raise unreadable(self.line, f"{nearest}: {self.line[place + 1 :].strip()[:NEAR] or '...'}")

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
        place = skip_spaces(self.text, at)
        mark = skip_spaces(self.text, read_word(self.text, place, MARK))
        if mark > place and self.text[mark : mark + 1] in (":", ","):
            at = mark
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
            elif letter in (".", ")") and self.text[place + 1 : place + 2] == " " and not separator:
                separator = ","
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

    def refuse_more(self, span: Span, end: int, after: int) -> None:
        """Refuse a single time that is a part of something else: 0s|4s, 0:00;12, 5s of rain; `Raises: InputError`."""
        rest, place = read_span(self.text, after)
        if rest is not None and rest.has_unit:
            raise self.refusal(Span(span.start, rest.times[0], True), self.skip_closers(place)[0])
        frames = span.times[0].clock and self.text.startswith(";", end) and self.text[end + 1 : end + 2] in DIGITS
        if frames or self.text.startswith("of ", after):
            rest_of_line = self.line[end:].lstrip("0123456789; ")
            raise unreadable(self.line, f"{span.times[0]}: {rest_of_line[:NEAR] or '...'}")

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
            ended = (
                span.start is not None and self.text[end - 1] not in DASHES and span.start.last not in ("m", "h", "f")
            )
            return "refuse" if span.has_unit and (ended or self.text.startswith("-", self.at)) else None
        (time,) = times
        if not time.unit:
            return self.judge_number(time.amount, end, separator, colon)
        if time.clock and not colon:
            shape = time.amount in SHAPES and not separator
            after = skip_spaces(self.text, end)
            return None if shape or read_word(self.text, after, HALF_DAYS) > after else "firm"
        if not colon and "'" in self.text[self.at : end]:
            return None  # 5'10" tall
        if colon or self.text.startswith("第", skip_spaces(self.text, self.at)):
            return "firm"
        if time.last in ("m", "h", "f") and not (time.amount == 0 and separator):
            return None
        return "loose" if time.decade and not separator else "firm"

    def judge_number(self, amount: float, end: int, separator: str, colon: bool) -> str | None:
        """Say what a number without a unit is: no time but in 0:4, 0%, (0,4) and the like, which are refused."""
        if self.is_counted(end):
            return "unclear"
        after = end
        while self.text[after : after + 1] in DIGITS | {":", "%"}:
            after += 1
        run = self.text[end:after]
        if "%" in run or (run and run[-1] != ":"):
            dash = self.text[after : after + 1] in DASHES and self.text[after + 1 : after + 2] in DIGITS
            closed = self.opened and self.text[after : after + 1] in tuple(CLOSE)
            return "unclear" if dash or closed or amount == 0 or run[-1] == ":" else None
        return "refuse" if colon and separator and separator in COLONS else None

    def is_counted(self, end: int) -> bool:
        """Say whether a number is one of two in brackets, an ordinal before a unit, or has inches for seconds."""
        sign, digit = self.text[end : end + 1], self.text[end + 1 : end + 2]
        if self.opened and sign == "," and skip_spaces(self.text, end + 1) < len(self.text):
            number, place = read_number(self.text, skip_spaces(self.text, end + 1))
            return number is not None and self.text[place : place + 1] in tuple(CLOSE)
        if sign == '"' and not self.quoted:
            return digit in DASHES and self.text[end + 2 : end + 3] in DIGITS
        unit, place = read_unit(self.text, read_word(self.text, end, ORDINALS))
        return bool(unit) and self.text.startswith(":", skip_spaces(self.text, place))

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
