"""Prompt scripts of every kind: read as they are meant or refused in words, in time in proportion to their length."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import strategies as st

from tests.fuzz.budget import fuzz
from wan_core.errors import InputError
from wan_core.long.key_frames import read_frames
from wan_core.long.plan import Wanted
from wan_core.long.script import MOST_CHARACTERS, parse_script
from wan_core.long.segments import plan_segments
from wan_core.words import words

PLAN = plan_segments(Wanted(257, 97, 17))  # 10.7 s at 24 fps; segments of 97, 80 and 80 frames
# a time in a prompt as nobody could mean anything else: written down again here, by other means
LEFT = re.compile(r"(?<![\w.:])\d{1,3}(\.\d)?\s?(s|sec|秒)\s?[-–~～到至]\s?\d{1,3}(\.\d)?\s?(s|sec|秒)\s?[:：]")

PIECES = [
    *"0123456789 \t\n\r-–—~～…→>.,:：;；、|=/\\%@#*_`'\"“”()[]{}<>【】（）《》smhf秒分帧第零一二十百半前后到至从",
    "0s", "4s", "7.4s", "10.7s", "0:00", "0:04", "00:00:04,000", "1m10s", "96f", "４秒", "四秒", "90s", "1e9", "9" * 30,
    "0s-4s: ", "4s-: ", "4s-7.4s：", "0-4秒：", "[0:00-0:04] ", "frames 0-96: ", " to ", "end", "start", "from ",
    "[seed 7] ", "[seed", "种子", "{a|b}", "//", "/*", "*/", "Scene 1: ", "镜头1", "第一段：", "1. ", "- ", "• ",
    "a cat", "一只猫", "the ", "\ufeff", "\u200b", "\u2028", "\ud800", "\x00", "٣", "²", "İ", "🦢", "next 4s: ",
]  # fmt: skip


def read(text: str) -> Any:
    """What a script means, or None where it is refused; nothing else may happen."""
    try:
        script = parse_script(text, PLAN, 24)
    except InputError as error:
        script = None
        assert str(error) and "\n" not in str(error)
    return script


def check(text: str) -> None:
    """A script is refused, or every segment has its prompt and no prompt holds a time."""
    script = read(text)
    if script is not None:
        assert len(script.conditions) == 3 and set(script.conditions) == set(range(len(script.prompts)))
        assert all(prompt.strip() for prompt in script.prompts)
        assert not any(LEFT.search(prompt) for prompt in script.prompts)


def test_scripts_of_pieces_of_scripts_are_read_or_refused() -> None:
    fuzz(check, st.lists(st.sampled_from(PIECES), max_size=40).map("".join))


def test_any_text_is_read_or_refused() -> None:
    fuzz(check, st.text(max_size=80))


def test_repetitions_are_read_or_refused() -> None:
    repeated = st.tuples(st.lists(st.sampled_from(PIECES), min_size=1, max_size=4), st.integers(1, 5000))
    fuzz(lambda drawn: check("".join(drawn[0]) * drawn[1]), repeated, 50)


def seconds(at: float) -> list[str]:
    """Notations of a time in seconds."""
    whole, part = divmod(round(at * 10), 10)
    clock = f"{whole // 60}:{whole % 60:02}"
    return [
        f"{at:g}s", f"{at:g} s", f"{at:g}sec", f"{at:g} seconds", f"{at:g}秒", f"第{at:g}秒", f"{at:g} 秒", f"{at:g}Ｓ",
        f"{clock}.{part}", f"0{clock}.{part}", f"00:0{clock}.{part}00", f"00:0{clock},{part}00", f"{whole}.{part}0s",
        f"0m{at:g}s", f"0分{at:g}秒", f"{round(at * 1000)}ms", f"{round(at * 24)}f", f"frame {round(at * 24)}",
        f"第{round(at * 24)}帧", f"{round(at * 24)} frames",
    ]  # fmt: skip


DASHES = ["-", " - ", "–", " – ", "—", "~", "～", " to ", "到", "至", " -> ", " → ", " --> ", "..", "…", " until "]
AROUND = [
    ("", ": "), ("", ":"), ("", "："), ("[", "] "), ("[", "]: "), ("(", ") "), ("（", "）"), ("【", "】"),
    ("**", ":** "), ("**[", "]** "), ("", " | "), ("`", "` "), ('"', '": '),
]  # fmt: skip
BEFORE = [
    "", "- ", "* ", "• ", "{n}. ", "{n}) ", "({n}) ", "{n}、", "Scene {n}: ",
    "Shot {n} ", "镜头{n} ", "第{n}段：", "> ", "## ",
]  # fmt: skip
ENDS = ["", "end", "the end", "结束"]


@st.composite
def scripts(draw: Any) -> str:
    """A script with one meaning in many spellings: three prompts, from 0, 4 and 7.4 seconds on."""
    dash, (opened, closed), before = (draw(st.sampled_from(each)) for each in (DASHES, AROUND, BEFORE))
    lone = draw(st.booleans())
    lines = []
    for number, (start, end) in enumerate(((0.0, 4.0), (4.0, 7.4), (7.4, None))):
        first = draw(st.sampled_from(seconds(start)))
        if lone:
            time_range = first
        elif end is None:
            time_range = f"{first}{dash}{draw(st.sampled_from(ENDS if dash.strip() in '-–—~～' else ENDS[1:]))}"
        else:
            time_range = f"{first}{dash}{draw(st.sampled_from(seconds(end)))}"
        prompt = ("a cat", "一只狗", "a bird, 2 wings")[number]
        lines.append(f"{before.replace('{n}', str(number + 1))}{opened}{time_range}{closed}{prompt}")
    return draw(st.sampled_from(("\n", "\r\n", "\n\n"))).join(lines)


def test_every_spelling_of_a_script_has_its_meaning() -> None:
    def check_meaning(text: str) -> None:
        script = read(text)
        assert script is not None and script.prompts == ("a cat", "一只狗", "a bird, 2 wings")
        assert script.conditions == (0, 1, 2)

    fuzz(check_meaning, scripts(), 300)


def test_key_times_are_read_or_refused() -> None:
    def check_times(drawn: tuple[str, float]) -> None:
        try:
            frames = read_frames(*drawn, words("key_times"))
        except InputError as error:
            assert "\n" not in str(error)
        else:
            assert all(isinstance(frame, int) for frame in frames)

    fuzz(check_times, st.tuples(st.lists(st.sampled_from(PIECES), max_size=30).map("".join), st.floats(0.1, 1e6)))


@st.composite
def key_times(draw: Any) -> tuple[str, tuple[int, ...]]:
    """A list of key times in some spelling, and the frames that it means."""
    wanted = draw(st.lists(st.tuples(st.sampled_from((1, -1)), st.integers(0, 500)), max_size=8))
    words = []
    for sign, frame in wanted:
        at = f"{frame / 24:.6f}"
        spelled = draw(st.sampled_from([f"{frame}", f"{at}s", f"{frame}f", f"{frame}帧", f"{at}秒", f"{at}seconds"]))
        words.append("-" * (sign < 0) + spelled)
    between = draw(st.sampled_from([", ", ",", "; ", "；", "、", " ", "，", "\n"]))
    return between.join(words), tuple(sign * frame for sign, frame in wanted)


def test_every_space_there_is_parts_key_times() -> None:
    spaces = [chr(code) for code in range(sys.maxunicode) if chr(code).isspace()]
    assert "\u2028" in spaces
    for space in spaces:
        assert read_frames(f"{space}24{space}2s{space}", 24, words("key_frames")) == (24, 48), ascii(space)
        assert read_frames(space, 24, words("key_frames")) == ()


def test_key_times_mean_the_same_in_every_spelling() -> None:
    def check_meaning(drawn: tuple[str, tuple[int, ...]]) -> None:
        assert read_frames(drawn[0], 24, words("key_frames")) == drawn[1]

    fuzz(check_meaning, key_times())


def work(call: Callable[[], Any]) -> int:
    """How many lines and calls of ours a call runs: its work, whatever the machine is doing besides."""
    count = 0

    def tracer(frame: Any, event: str, argument: Any) -> Any:
        nonlocal count
        count += 1
        return tracer if "wan_core" in frame.f_code.co_filename else None

    before = sys.gettrace()
    sys.settrace(tracer)
    try:
        call()
    finally:
        sys.settrace(before)
    return count


REPEATED = [
    "1", "1m", "1-", "1s-", "0s-4s", "[seed ", "[", "{", "{|", "//\n", "/*", "*/", "-", " ", "- ", "1 ", "1s ",
    "1:1:", "1:11:", "00:", "(1-2)", "(1s)x", "x 1-2) ", "x 4m) ", "第", "第一", "一分", "到", "to ", "the ", "1.",
    "1\n", "a\n", "0s: a\n", "**", "t=", "scene ", "a(4m) ", "：", "\\{", "[seed 7] ",
]  # fmt: skip


@pytest.mark.parametrize("before", ["", "a ", "0s-4s: a\n4s-: "], ids=["alone", "in a prompt", "after times"])
@pytest.mark.parametrize("piece", REPEATED)
def test_twice_the_text_is_at_most_twice_the_work(before: str, piece: str) -> None:
    once, twice = (work(partial(read, before + piece * count)) for count in (400, 800))
    assert twice < 2.2 * once + 500


@pytest.mark.parametrize("piece", REPEATED)
def test_a_hundred_kilobytes_take_bounded_work(piece: str) -> None:
    """50 ms on an idle machine; here in steps: a reader that goes back over the text takes 10^9 and more."""
    text = (piece * (100_000 // len(piece) + 1))[:100_000]
    assert work(lambda: read(text)) < 2_500_000


def test_more_than_anybody_writes_is_refused_at_once() -> None:
    assert read("a" * (MOST_CHARACTERS + 1)) is None and read("a\n" * 5000) is None
