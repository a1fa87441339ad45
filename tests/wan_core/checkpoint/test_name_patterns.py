"""Patterns for module names: what Python's own regular expressions say, without the time that these may take."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wan_core.checkpoint.lora_settings import LoraSettings
from wan_core.checkpoint.name_patterns import LONGEST, MOST_PATTERNS, NamePatterns, PatternError

STEPS = st.sampled_from(["a", "b", "1", r"\.", r"\d", r"\w", ".", "_"])
PATTERNS = st.recursive(
    st.builds("".join, st.lists(st.builds(str.__add__, STEPS, st.sampled_from(["", "", "*", "+", "?"])), max_size=4)),
    lambda inner: st.builds("({}|{}){}".format, inner, inner, inner),
    max_leaves=4,
)
NAMES = st.text("ab1._", max_size=7)


def first_by_python(table: dict[str, int], name: str) -> int:
    """PEFT's rule."""
    found = (value for text, value in table.items() if re.fullmatch(rf"(.*\.)?({text})", name))
    return next(found, -1)


@settings(max_examples=150)
@given(st.lists(PATTERNS.filter(lambda text: len(text) <= LONGEST), max_size=4, unique=True), NAMES, st.booleans())
def test_a_table_says_what_pythons_regular_expressions_say(texts: list[str], name: str, whole: bool) -> None:
    # a name without escapes means its dots; as a pattern they would stand for any letter
    texts = [text for text in texts if "." not in text.replace("\\.", "") or not re.fullmatch(r"[\w.\\/-]*", text)]
    table = {f"^{text}$" if whole else text: place for place, text in enumerate(texts)}
    if whole:  # an alternative outside of brackets would go beyond the ^
        table = {text: place for text, place in table.items() if "|" not in text}
    assert NamePatterns.of(table).find(name, -1) == first_by_python(table, name)


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("self_attn.q", "blocks.0.self_attn.q", True),
        ("attn.q", "blocks.0.self_attn.q", False),
        (r"blocks\.1\.ffn\.0", "blocks.1.ffn.0", True),
        (r"blocks\.\d+\.self_attn\.(q|k|v)", "blocks.17.self_attn.k", True),
        (r"blocks\.\d+\.self_attn\.(?:q|k|v)", "blocks.17.self_attn.o", False),
        (".*attn.*", "blocks.0.cross_attn.q", True),
        ("^blocks.*q$", "blocks.0.cross_attn.q", True),
        ("^cross_attn.*$", "blocks.0.cross_attn.q", False),
    ],
)
def test_what_people_write_means_what_peft_makes_of_it(pattern: str, name: str, fits: bool) -> None:
    assert (NamePatterns.of({pattern: 1}).find(name, 0) == 1) is fits is (first_by_python({pattern: 1}, name) == 1)


def test_the_first_entry_counts_be_it_a_name_or_a_pattern() -> None:
    assert NamePatterns.of({"q": 1, ".*q": 2, "attn.q": 3}).find("attn.q", 0) == 1
    assert NamePatterns.of({".*q": 2, "q": 1}).find("attn.q", 0) == 2


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("(", "not closed"), ("a)", "left over"), ("(a+)+", "a group is repeated"), ("(a|a)*b", "a group is repeated"),
        ("a{3}", "'{' is not supported"), ("[ab]", "'\\[' is not supported"), ("(?=a)", r"'\?' is not supported"),
        (r"\s", r"\\s is not supported"), ("((((((a))))))", "nest deeper"), (".*" * LONGEST, "longer than"),
    ],
)  # fmt: skip
def test_what_is_not_read_is_named_with_the_reason(pattern: str, why: str) -> None:
    with pytest.raises(PatternError, match=why) as refused:
        NamePatterns.of({pattern: 1})
    assert refused.value.pattern == pattern[:LONGEST]


def test_a_table_has_so_many_patterns_and_any_number_of_names() -> None:
    names = {f"blocks.{number}.ffn.0": number for number in range(4000)}
    assert NamePatterns.of(names).find("x.blocks.3999.ffn.0", -1) == 3999
    with pytest.raises(PatternError, match=f"at most {MOST_PATTERNS} patterns"):
        NamePatterns.of({f"a{number}.*": number for number in range(MOST_PATTERNS + 1)})


@pytest.mark.parametrize("unit", ["q?", ".*", "(q|q)", r"\w*q"])
def test_twice_the_pattern_and_the_name_take_no_more_than_eight_times_the_work(unit: str) -> None:
    """A pattern for which Python's own engine needs twice the time for each letter more."""

    class Counted(str):
        steps = 0

        def __getitem__(self, at: object) -> str:
            Counted.steps += 1
            return str.__getitem__(self, at)  # type: ignore[index]

    def work(length: int) -> int:
        Counted.steps = 0
        NamePatterns.of({unit * (length // 5) + "x": 1}).find(Counted("q" * length), 0)
        return Counted.steps

    assert 0 < work(80) <= 8 * work(40) < 80**3


def test_the_settings_of_a_file_cannot_hold_up_the_loader() -> None:
    settings_ = LoraSettings("adapter_config.json", {"rank_pattern": {"(q|q|q)" * 10 + "x": 4}, "r": 8})
    assert settings_.rank("blocks.0." + "q" * 90) == 8
