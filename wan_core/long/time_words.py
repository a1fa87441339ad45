"""The words and signs of the grammar in `times`, in both languages, and what is read with it."""

from __future__ import annotations

from dataclasses import dataclass

DIGITS = frozenset("0123456789")
MOST_DIGITS = 9  # of a number; one with more is past the end of every video
SPACES = 3  # that may stand between the parts of a time
HAN = {
    "零": 0,
    "〇": 0,
    "一": 1,
    "二": 2,
    "两": 2,
    "兩": 2,
    "三": 3,
    "四": 4,
    "五": 5,
    "六": 6,
    "七": 7,
    "八": 8,
    "九": 9,
}
TEN, HUNDRED, HALF = "十", "百", "半"
LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz")
LONGEST_WORD = 12

SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}  # in falling order: so the units of one time fall
UNITS = {
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours", "小时"), "h"),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes", "分钟", "分", "′", "'"), "m"),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds", "秒钟", "秒", "″"), "s"),
    **dict.fromkeys(("ms", "msec", "millisecond", "milliseconds", "毫秒"), "ms"),
    **dict.fromkeys(("f", "fr", "frame", "frames", "帧", "幀"), "f"),
}
DASH_WORDS = ("to", "till", "until", "thru", "through", "and", "到", "至")
END_WORDS = ("the end", "end", "结束", "结尾", "最后", "末尾", "片尾", "∞")
START_WORDS = ("the start", "start", "the beginning", "beginning", "begin", "开头", "开始", "片头", "起始")
LATER_WORDS = ("+", "onwards", "onward", "later", "以后", "之后", "后", "开始", "起")
BEFORE_WORDS = ("之前", "以前", "前")
UNTIL_WORDS = ("until", "till", "up to", "before", "直到", "到", "至")
FIRST_WORDS = ("the first", "first", "前")
DASHES = frozenset("->~.")

FOLD = {code: chr(code - 0xFEE0).lower() for code in range(0xFF01, 0xFF5F)}  # signs as wide as Chinese ones
FOLD |= {ord(letter.upper()): letter for letter in LETTERS}
FOLD |= {ord(dash): "-" for dash in "‐‑‒–—―−﹘﹣－─━"} | {ord(wave): "~" for wave in "～〜∼˜"}
FOLD |= {ord(arrow): ">" for arrow in "→⇒➜⟶➔⇨"} | {ord(dots): "~" for dots in "…⋯‥"}
FOLD |= {ord(colon): ":" for colon in "：∶﹕︰꞉"} | {
    ord(space): " " for space in "\t\u3000\u00a0\u2002\u2003\u2009\u202f"
}
FOLD |= {zero + digit: str(digit) for zero in (0x660, 0x6F0, 0x966, 0xE50) for digit in range(10)}  # of other scripts


@dataclass(frozen=True)
class Time:
    """A point in time, or a length of it.

    Attributes:
        amount: in its unit, inf for a number of too many digits.
        unit: "s" of seconds, "f" of video frames, "" where none is written.
        clock: whether it is written as 0:04.
        last: the last unit as in UNITS, or "".
        decade: whether it is written like 90s.
    """

    amount: float
    unit: str = ""
    clock: bool = False
    last: str = ""
    decade: bool = False

    def frames(self, fps: float, bare: str = "s") -> float:
        """Return it in video frames; `bare`: the unit of a number without one."""
        return self.amount * fps if (self.unit or bare) == "s" else self.amount

    def __str__(self) -> str:
        """Return it as the grammar's plainest form."""
        return f"{self.amount:g}{self.unit or 's'}"


@dataclass(frozen=True)
class Span:
    """A stretch of time as it is written.

    Attributes:
        start: None = not written, the start of the video.
        end: None = not written.
        dash: whether a dash or a word like it was read: without one it is a single time.
    """

    start: Time | None
    end: Time | None
    dash: bool

    @property
    def times(self) -> tuple[Time, ...]:
        """The times that are written."""
        return tuple(time for time in (self.start, self.end) if time is not None)

    @property
    def has_unit(self) -> bool:
        """Whether a time says what it counts."""
        return any(time.unit for time in self.times)

    def __str__(self) -> str:
        """Return it as the grammar's plainest form."""
        start, end = self.start or "0s", self.end or ""
        return f"{start}-{end}"


def fold(text: str) -> str:
    """Return a text of the same length in which what the grammar reads is written in one way."""
    return text.translate(FOLD)
