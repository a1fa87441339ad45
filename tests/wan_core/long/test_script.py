"""Prompt scripts: which segment gets which prompt, and every script that cannot be followed."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wan_core.errors import InputError
from wan_core.long.plan import Wanted
from wan_core.long.script import parse_script
from wan_core.long.segments import plan_segments

PLAN = plan_segments(Wanted(257, 97, 17))  # 10.7 s at 24 fps; segments of 97, 80 and 80 frames


def test_a_single_time_lasts_until_the_next():
    text = "\ufeff0s: a cat\r\n4s: a dog\r\n0:07.4 - a bird"
    script = parse_script(text, PLAN, 24)
    assert script.prompts == ("a cat", "a dog", "a bird") and script.conditions == (0, 1, 2)
    assert parse_script("0f: a cat\n97f: a dog\n177f: a bird", PLAN, 24) == script


@pytest.mark.parametrize(
    "text",
    [
        "1. a cat\n2. a dog\n3. a bird",
        "- a cat\n- a dog\n- a bird",
        "Scene 1: a cat\nScene 2: a dog\nScene 3: a bird",
        "1: a cat\n2: a dog\n3: a bird",
        "1. 0s-4s: a cat\n2. 4s-7.4s: a dog\n3. 7.4s-: a bird",
        "1\n00:00:00,000 --> 00:00:04,000\na cat\n\n2\n00:00:04,000 --> 00:00:07,400\na dog\n\n3\n0:07.4-end\na bird",
        "Scene 1\n(0-4s)\na cat\nScene 2\n(4-7.4s)\na dog\nScene 3\n(7.4s-end)\na bird",
        "0s a cat\n4s a dog\n7.4s a bird",
        "- 4s: a cat\n4s-7.4s: a dog\n7.4s-: a bird",
        "// three animals\n0-4s: a {cat}\n4-7.4s: a dog /* or\n not */\n7.4s-: a bird",
    ],
)
def test_lists_subtitles_and_comments_leave_nothing_in_the_prompts(text):
    script = parse_script(text, PLAN, 24)
    assert script.prompts == ("a cat", "a dog", "a bird") and script.conditions == (0, 1, 2)


def test_numbers_that_do_not_count_the_lines_belong_to_the_prompts():
    texts = ("2. a cat\n3. a dog\n1. a bird", "- a cat\na dog\na bird", "101 dalmatians\n2 cats\n1 bird")
    assert all(parse_script(text, PLAN, 24).prompts == tuple(text.split("\n")) for text in texts)


def test_a_decade_is_a_time_only_among_single_times():
    plan = plan_segments(Wanted(1457, 97, 17))
    assert parse_script("0s a\n20s b\n40s c", plan, 24).prompts == ("a", "b", "c")
    assert parse_script("0s-20s: a\n20s-: b\n90s neon", plan, 24).prompts == ("a", "b 90s neon")


def test_one_line_is_for_all_segments():
    script = parse_script("\n  a cat: 3-year-old, at 4s of age \n", PLAN, 24)
    assert script.prompts == ("a cat: 3-year-old, at 4s of age",) and script.conditions == (0, 0, 0)


def test_a_prompt_may_begin_with_a_decade():
    assert parse_script("90s-style neon\n80s - a decade\n2 cats", PLAN, 24).conditions == (0, 1, 2)
    assert parse_script("0s-4s: a\n90s-style neon\n4s-: b", PLAN, 24).prompts[0] == "a 90s-style neon"


def test_lines_go_to_segments_in_order():
    script = parse_script("a cat\n\na dog\r\na bird", PLAN, 24)
    assert script.prompts == ("a cat", "a dog", "a bird") and script.conditions == (0, 1, 2)


@pytest.mark.parametrize(
    "text",
    [
        "0s-4s: a cat\n4s-7.4s: a dog\n7.4s-: a bird",
        "0s - 4s : a cat\n 4s–0m7.4s： a dog\n0m7.4s-0m10.7s: a bird",
        "0-4: a cat\n4-7.4: a dog\n7.4-10.7: a bird",
        "-4S: a\n  cat\n4s-7.4s:\na dog\n7.4s-: a bird",
    ],
)
def test_time_ranges_go_to_the_segments_that_they_hold(text):
    script = parse_script(text, PLAN, 24)
    assert script.prompts == ("a cat", "a dog", "a bird") and script.conditions == (0, 1, 2)


def test_a_segment_gets_the_prompt_that_holds_most_of_it():
    assert parse_script("0s-5.6s: a cat\n5.6s-: a dog", PLAN, 24).conditions == (0, 1, 1)
    assert parse_script("0s-5.8s: a cat\n5.8s-: a dog", PLAN, 24).conditions == (0, 0, 1)
    assert parse_script("0s-5.8s: a cat: 2 eyes\n5.8s-: a dog", PLAN, 24).prompts[0] == "a cat: 2 eyes"


def test_a_minute_follows_its_script():
    plan = plan_segments(Wanted(1457, 97, 17))
    script = parse_script("0s-20s: a\n20s-40s: b\n40s-1m0.7s: c", plan, 24)
    changes = [plan.segments[script.conditions.index(number)].frames[0] / 24 for number in (1, 2)]
    assert all(abs(at - wanted) < 80 / 24 / 2 + 0.1 for at, wanted in zip(changes, (20, 40), strict=True))


@pytest.mark.parametrize(
    "text",
    [
        "a cat\n[seed 7] a dog\n a bird",
        "0s-4s: a cat\n4s-7.4s: [Seed: 7]a dog\n7.4s-: a bird",
        "0s-4s: a cat\n4s-7.4s:\n  [seed = 7]\n a dog\n7.4s-: a bird",
        "a cat\n[种子 7] a dog\na bird",
    ],
)
def test_a_prompt_may_begin_with_the_seed_of_its_segments(text):
    script = parse_script(text, PLAN, 24)
    assert script.prompts == ("a cat", "a dog", "a bird") and script.seeds == (None, 7, None)
    assert script.place_seeds(3) == (3, 7, 3)


def test_a_seed_of_zero_or_for_all_segments_counts_and_brackets_are_no_seed():
    assert parse_script("[seed 0] a cat", PLAN, 24).place_seeds(3) == (0, 0, 0)
    assert parse_script(f"[seed {2**64 - 1}] a cat", PLAN, 24).seeds == (2**64 - 1,)
    assert parse_script("a [seedling] in [soft light]", PLAN, 24).seeds == (None,)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[seed -1] a cat", "The seed of '[seed -1] a cat' is '-1', but it has to be 0 to 18446744073709551615"),
        ("[seed] a cat", "The seed of '[seed] a cat' is ''"),
        ("[seed 1.5] a cat", "is '1.5'"),
        (f"[seed {2**64}] a cat", f"is '{2**64}'"),
        ("a cat [seed 7]", "There is a seed in the middle of 'a cat [seed 7]': write it once, right before the prompt"),
        ("[seed 1] [seed 2] a cat", "There is a seed in the middle of '[seed 1] [seed 2] a cat'"),
        ("0s-4s: a\n[seed 7] 4s-: b", "The line '[seed 7] 4s-: b' has its seed before its time"),
        ("[seed 7] 0s-: b", "The line '[seed 7] 0s-: b' has its seed before its time"),
        ("[seed 7]", "There is no prompt after '[seed 7]'"),
        ("0s-: [seed 7]", "There is no prompt after '[seed 7]'"),
    ],
)
def test_seeds_that_cannot_be_followed_are_refused_in_one_sentence(text, message):
    with pytest.raises(InputError, match=re.escape(message)) as refusal:
        parse_script(text, PLAN, 24)
    assert not re.search(r"\. [A-Z]|\n", str(refusal.value))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "script is empty"),
        (" \n\n", "script is empty"),
        ("a\nb", "There are 2 prompts, one per line, but the video has 3 segments: write one for each or one for all"),
        ("0s-4s: a\n3s-: b", "'0s-4s' and '3s-' overlap"),
        ("0s-4s: a\n5s-: b", "gap between '0s-4s' and '5s-'"),
        ("4s-8s: b\n0s-4s: a", "begins with '4s-8s', but the video begins at 0s"),
        ("0s-4s: a\n4s-12s: b", "'4s-12s' runs past the end of the video at 10.71s (257 frames at 24 fps)"),
        ("0s-4s: a\n4s-10.7s: b\n10.72s-: c", "'10.72s-' runs past the end"),
        ("0s-4s: a\n4s-8s: b", "ends with '4s-8s', but the video ends at 10.71s: leave the last end open"),
        ("0s-: a\n4s-: b", "'0s-' has no end, but '4s-' follows"),
        ("0s-4s:\n4s-: b", "'0s-4s' has no prompt"),
        ("4s-4s: a", "'4s-4s' ends before it begins"),
        ("a cat\n4s-: b", "The line 'a cat' has no time range"),
        ("0s-4s: a\n4s to 8s: b", "The script ends with '4s to 8s'"),
        ("0s-4s a\n4s-8s b", "The script ends with '4s-8s'"),
        ("0s: a\n12s: b", "'12s' runs past the end"),
        ("0s: a\n0s: b", "'0s' ends before it begins"),
        ("2s: a\n4s: b", "begins with '2s', but the video begins at 0s"),
        ("0: a\n4: b", "begins with a number that may count seconds, video frames or lines: write '0s: a', '0f: a' or"),
        ("a cat\n2: a dog", "The line '2: a dog' begins with a number"),
        ("0s-4s: a\n2: b", "The line '2: b' has no time range"),
        (
            "0s-4s: a 4s-8s: b",
            "There is a time in the middle of the line '0s-4s: a 4s-8s: b': start a new line with it, like '4s-8s: b'",
        ),
        ("0:00 a cat 0:04 a dog", "There is a time in the middle of the line"),
        ("9" * 5000 + "s-: a", "looks as if it began with a time, but it can't be read: write it like '0s-4s: "),
        ("0s-4s: a\n4s-4.5s: b\n4.5s-: c", "No segment lies mostly in '4s-4.5s'"),
    ],
)
def test_scripts_that_cannot_be_followed_are_refused_in_one_sentence(text, message):
    with pytest.raises(InputError, match=re.escape(message)) as refusal:
        parse_script(text, PLAN, 24)
    assert not re.search(r"\. [A-Z]|\n", str(refusal.value))


@given(st.text(alphabet="0123456789sm-: .ab\n[]ed", max_size=60))
def test_any_text_is_read_or_refused(text):
    try:
        script = parse_script(text, PLAN, 24)
    except InputError:
        return
    assert len(script.conditions) == 3 and set(script.conditions) == set(range(len(script.prompts)))
    assert all(script.prompts)
