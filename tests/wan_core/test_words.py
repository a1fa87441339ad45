"""A sentence keeps its values apart from its words, so that it can be said in another language."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from wan_core import words as module
from wan_core.errors import InputError
from wan_core.words import Words, catalogue, counted, joined, lines, words

CHINESE = {
    "{count} steps, {rest}": "{rest}，{count} 步",
    "{number} frames": "{number} 帧",
    "{file}: {error}": "文件 {file}：{error}",
    "too large: {size:.1f}": "过大：{size:.1f}",
    ", ": "、",
}


def test_values_are_said_in_the_same_language_as_the_sentence_around_them() -> None:
    sentence = words("{count} steps, {rest}", count=3, rest=counted(5, "frames"))
    assert str(sentence) == "3 steps, 5 frames"
    assert sentence.say(CHINESE) == "5 帧，3 步"
    assert sentence.say({}) == sentence.say({"other": "x"}) == str(sentence)


def test_an_error_inside_an_error_is_said_too() -> None:
    inner = InputError("too large: {size:.1f}", size=2.0)
    outer = InputError("{file}: {error}", file="a.mp4", error=inner)
    assert str(outer) == "a.mp4: too large: 2.0" and outer.words.say(CHINESE) == "文件 a.mp4：过大：2.0"


def test_braces_of_values_and_of_sentences_without_values_stay() -> None:
    assert str(words("{path} is missing", path="{odd}.mp4")) == "{odd}.mp4 is missing"
    assert str(InputError("write it like {this}")) == "write it like {this}"


def test_one_thing_is_singular_and_lists_have_the_languages_own_separator() -> None:
    assert [str(counted(number, "segments")) for number in (0, 1, 2)] == ["0 segments", "1 segment", "2 segments"]
    assert joined([1, counted(2, "frames")]).say(CHINESE) == "1、2 帧"
    assert str(lines("a", words("b"))) == "a\nb"


def test_a_variety_of_a_language_falls_back_to_the_language_and_the_unknown_to_english(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "zh").mkdir()
    (tmp_path / "zh" / module.CATALOGUE).write_text(json.dumps(CHINESE), "utf-8")
    monkeypatch.setattr(module, "LOCALES", tmp_path)
    catalogue.cache_clear()
    try:
        assert catalogue("zh") == catalogue("zh-TW") == CHINESE
        for name in ("en", "fr", "", "../zh", "/", "zh/.."):
            assert catalogue(name) == {}
    finally:
        catalogue.cache_clear()


def test_words_can_be_compared() -> None:
    assert words("a {x}", x=1) == Words("a {x}", {"x": 1}) != words("a {x}", x=2)
