"""One line of a prompt script: its number in a list, its time and its prompt; or why it can't be read.

    line  = {bullet} [item] [head] prompt
    item  = [scene | shot | 镜头 ...] number ["/" number] ["." | ")" | ":" ...] | "第" number (段 | 镜 ...)  1.  Shot 2:
    head  = {open | mark | from | at ...} span {close | mark} [":" | "|" | "-" ...]               span: see `times`
    open, close = brackets and quotes of any kind;  mark = * _ ` # | of Markdown

Numbers without a unit are seconds, and are a time only as a range before a colon or in brackets. A line that looks as
if it had a time and has none of these forms is refused, with the nearest one: no mark of a time is left in a prompt.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, replace

from .line_head import MARKS, STEPS, Head
from .time_words import DIGITS, Span, fold
from .times import read_number, read_word, skip_spaces

BULLETS = "-*+•·●○◦▪■□◆◇▶►➤➢✓✔★☆>#|"
ITEM_WORDS = (
    "scene", "shot", "segment", "part", "clip", "step", "prompt", "chapter", "act", "take", "section", "beat",
    "sequence", "镜头", "场景", "片段", "分镜", "画面", "段落", "提示词", "章节",
)  # fmt: skip
ITEM_ENDS = ("段", "镜", "幕", "个镜头", "个场景", "个片段", "场", "节")
LONGEST_HEAD = 256  # characters of a line in which its time ends
MOST_ITEM = 9999
ORNAMENTS = ("So", "Sk", "Mn", "Cf")  # emoji and their parts
PLAIN = "\u2000"  # letters and signs of languages lie before it
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
    if (ornaments := skip_ornaments(text, begin)) > begin:
        inner = read_line(line[ornaments:])
        if inner.span is not None or inner.item is not None:
            return replace(inner, text=line)
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


def skip_ornaments(text: str, at: int) -> int:
    """Return the place after the emoji that a line begins with; a prompt without a time keeps them."""
    begin = at
    while at < len(text) and text[at] > PLAIN and unicodedata.category(text[at]) in ORNAMENTS:
        at += 1
    return skip_spaces(text, at) if at > begin else at


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
    if text.startswith("/", end) and text[end + 1 : end + 2] in DIGITS:  # 1/3
        end = read_number(text, end + 1)[1]
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
