"""What a clip is called, in English and in Chinese: a small grammar that makes captions and reads them back."""

from __future__ import annotations

import random
import re

Words = dict[str, str]  # "shape", "colour", "background", "motion" -> a name of demo.shapes

LANGUAGES = ("en", "zh")

# the first of a row is the usual wording
SHAPES: dict[str, dict[str, tuple[str, ...]]] = {
    "en": {
        "circle": ("circle", "ball", "disc"),
        "square": ("square", "box"),
        "triangle": ("triangle",),
        "star": ("star", "five-pointed star"),
    },
    "zh": {
        "circle": ("圆形", "圆球"),
        "square": ("正方形", "方块"),
        "triangle": ("三角形",),
        "star": ("星星", "五角星"),
    },
}
COLOURS: dict[str, dict[str, tuple[str, ...]]] = {
    "en": {name: (name,) for name in ("red", "green", "blue", "yellow", "purple", "cyan")},
    "zh": {
        "red": ("红色",),
        "green": ("绿色",),
        "blue": ("蓝色",),
        "yellow": ("黄色",),
        "purple": ("紫色",),
        "cyan": ("青色",),
    },
}
BACKGROUNDS: dict[str, dict[str, tuple[str, ...]]] = {
    "en": {"black": ("black",), "white": ("white",), "grey": ("grey", "gray")},
    "zh": {"black": ("黑色",), "white": ("白色",), "grey": ("灰色",)},
}
MOTIONS: dict[str, dict[str, tuple[str, ...]]] = {
    "en": {
        "still": ("standing still", "not moving", "at rest"),
        "left": ("moving to the left", "moving left", "going left"),
        "right": ("moving to the right", "moving right", "going right"),
        "up": ("moving up", "going up", "rising"),
        "down": ("moving down", "going down", "falling"),
        "bounce": ("bouncing off the walls", "bouncing around", "bouncing"),
        "orbit": ("moving in a circle", "going in circles", "going round and round"),
    },
    "zh": {
        "still": ("静止不动", "保持静止"),
        "left": ("向左移动", "往左移动"),
        "right": ("向右移动", "往右移动"),
        "up": ("向上移动", "往上移动"),
        "down": ("向下移动", "往下移动"),
        "bounce": ("来回弹跳", "四处弹跳"),
        "orbit": ("绕圈移动", "转圈移动"),
    },
}
VOCABULARY = {"motion": MOTIONS, "shape": SHAPES, "colour": COLOURS, "background": BACKGROUNDS}

SENTENCES: dict[str, tuple[str, ...]] = {
    "en": (
        "a {colour} {shape} {motion} on a {background} background",
        "a {colour} {shape} on a {background} background, {motion}",
        "{background} background, {colour} {shape} {motion}",
        "A {colour} {shape} is {motion}. The background is {background}.",
    ),
    "zh": (
        "一个{colour}的{shape}在{background}背景上{motion}",
        "{background}背景,{colour}{shape}{motion}",
        "{colour}的{shape}{motion},背景是{background}的。",
    ),
}
SHORT: dict[str, tuple[str, ...]] = {
    "en": ("a {colour} {shape} {motion}", "{colour} {shape}, {motion}"),
    "zh": ("一个{colour}的{shape}{motion}", "{colour}{shape}{motion}"),
}
USUAL_SHARE = 0.5  # of words in their usual form
SHORT_SHARE = 0.25  # of captions that leave the background open


def caption(words: Words, language: str, choice: random.Random | None = None) -> str:
    """Put a clip into words.

    Args:
        words: the clip's attributes.
        language: "en" or "zh".
        choice: chooses the wording; None takes the usual one.
    """
    if choice is None:
        usual = {kind: forms[language][words[kind]][0] for kind, forms in VOCABULARY.items()}
        return SENTENCES[language][0].format(**usual)
    chosen = {}
    for kind, forms in VOCABULARY.items():
        options = forms[language][words[kind]]
        chosen[kind] = options[0] if choice.random() < USUAL_SHARE else choice.choice(options)
    sentences = SHORT[language] if choice.random() < SHORT_SHARE else SENTENCES[language]
    return choice.choice(sentences).format(**chosen)


def parse(text: str) -> Words:
    """Read a caption back: the attributes that it names; others are left out.

    Motions are read first, so that "moving in a circle" does not make the shape a circle; the background before the
    colour, by the word beside it.
    """
    rest, found = text.lower(), {}
    for kind in ("motion", "background", "shape", "colour"):
        for _, forms in sorted(VOCABULARY[kind].items()):
            for name, options in forms.items():
                for form in sorted(options, key=len, reverse=True):
                    pattern = rf"\b{form}\b" if form.isascii() else form
                    if kind not in found and re.search(pattern, rest):
                        found[kind] = name
                        rest = re.sub(pattern, " ", rest, count=1)
    return found
