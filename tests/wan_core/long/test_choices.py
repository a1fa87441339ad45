"""Choices in prompts against what ComfyUI's front end does with the same text, and their seed."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from wan_core.errors import InputError
from wan_core.long.choices import MOST_CHOICES, choose, without_comments
from wan_core.long.plan import Wanted
from wan_core.long.script import parse_script
from wan_core.long.segments import plan_segments


def all_of(text: str) -> set[str]:
    """All that a text may become, by the front end's own rules read literally: recursive, and slow for long texts."""
    found, at = {""}, 0

    def escaped() -> set[str]:
        nonlocal at
        at += 1
        sign = text[at - 1 : at]  # none at the end: "\\undefined" in JavaScript
        return {sign if sign in tuple("{}|") else "\\" + sign}

    def block() -> set[str]:
        nonlocal at
        options, option, depth = [], "", 0
        while at < len(text):
            sign = text[at]
            at += 1
            if sign == "\\":
                option += sign + text[at : at + 1]
                at += 1
                continue
            if sign == "}" and not depth:
                break
            depth += (sign == "{") - (sign == "}")
            if sign == "|" and not depth:
                options.append(option)
                option = ""
            else:
                option += sign
        return set().union(*(all_of(each) for each in (*options, option)))

    while at < len(text):
        sign = text[at]
        at += 1
        parts = escaped() if sign == "\\" else block() if sign == "{" else {sign}
        found = {before + part for before in found for part in parts}
    return found


@given(st.text(alphabet="ab{}|\\ ", max_size=24))
@settings(deadline=None)
def test_a_choice_is_one_that_the_front_end_could_make(text):
    assume("\\\\" not in text)  # the front end removes one for each level
    possible = all_of(text)
    assert {choose(text, seed) for seed in range(12)} <= possible


def test_all_options_come_up_about_equally_and_one_seed_always_gives_the_same():
    drawn = Counter(choose("a {red|green|blue} {ball|{big|small} cube}", seed) for seed in range(3000))
    assert len(drawn) == 9
    colours = Counter(text.split()[1] for text in drawn.elements())
    assert all(900 < count < 1100 for count in colours.values())
    assert choose("a {red|green|blue} ball", 7) == choose("a {red|green|blue} ball", 7)


def test_a_seed_means_the_same_in_every_version():
    assert [choose("{a|b|c|d}", seed) for seed in range(8)] == list("dbbaaadb")


def test_a_choice_stays_where_another_is_added_behind_it():
    for seed in range(20):
        assert choose("{a|b|c} {d|e}", seed).startswith(choose("{a|b|c}", seed))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a // b\nc", "a \nc"),
        ("a /* b\nc */ d", "a  d"),
        ("a /* b", "a /* b"),
        ("a /b/ c", "a /b/ c"),
        ("/**/a//", "a"),
        ("/* // */a", "a"),
        ("// /*\na*/", "\na*/"),
    ],
)
def test_comments_are_left_out_as_the_front_end_leaves_them_out(text, wanted):
    assert without_comments(text) == wanted


def test_braces_are_plain_after_a_backslash_and_without_an_end():
    assert choose(r"a \{b\|c\} d | e }", 0) == "a {b|c} d | e }"
    assert choose("a {b", 0) == "a b" and choose("a {", 0) == "a "
    with pytest.raises(InputError, match="braces"):
        choose("{" * (MOST_CHOICES + 1), 0)


def test_a_script_makes_its_choices_from_the_seed_of_the_video():
    plan = plan_segments(Wanted(257, 97, 17))
    text = "0s-4s: a {red|green|blue|grey} ball\n4s-: {[seed 5] |}a {cube|star}"
    scripts = [parse_script(text, plan, 24, seed) for seed in range(30)]
    assert len({script.prompts for script in scripts}) == 8
    assert {script.seeds[1] for script in scripts} == {None, 5}
    assert scripts[3] == parse_script(text, plan, 24, 3)
