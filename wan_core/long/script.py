"""A script of prompts as text, and which segment of a plan gets which of them.

Either one prompt per line, one line per segment (a single line is for all), or times that cover the video:

    0s-4s: a cat sleeps on a window sill
    4s-1m10s: it wakes up and stretches,
        and looks out into the rain
    1m10s-: it jumps down

A line without a time goes on with the prompt above it. Each segment gets the prompt that holds most of its new frames;
where a video is made without seams, each block or chunk of latent frames does.
A single time, `4s: ...`, is where its prompt begins; it lasts until the next one. How times are written is in `times`,
what else a line may hold in `script_lines`. A prompt may begin with the seed of its segments, `4s-: [seed 7] it wakes
up`, and hold choices, `a {red|blue} ball` (see `choices`).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..errors import InputError
from ..words import Words, counted, words
from .choices import choose
from .cues import best_cues, check_cues, read_cues
from .inner_times import refuse_inner_times
from .line_head import SHOWN, unclear_number
from .plan import MOVING_WINDOW, ROLLING, SEGMENTS, Plan
from .script_lines import Line, read_line
from .time_words import LETTERS, SPACES, fold
from .times import skip_spaces

MOST_SEED = 2**64 - 1
MOST_CHARACTERS = 200_000
MOST_LINES = 4_000
SEED_WORDS = ("seed", "种子")
LONGEST_SEED = 64  # characters between the brackets
INVISIBLE = "\ufeff\u200b\u2060\u200e\u200f\u202a\u202b\u202c\u202d\u202e"  # marks that no reader sees


@dataclass(frozen=True)
class Script:
    """Prompts and where they go.

    Attributes:
        prompts: in the order of the text.
        conditions: for every place (`Plan.places`) the number of its prompt.
        seeds: of every prompt, None where the script names none.
    """

    prompts: tuple[str, ...]
    conditions: tuple[int, ...]
    seeds: tuple[int | None, ...]

    def place_seeds(self, seed: int) -> tuple[int, ...]:
        """Return the seed of every place; `seed`: for prompts that name none."""
        own = [self.seeds[number] for number in self.conditions]
        return tuple(seed if one is None else one for one in own)


def parse_script(text: str, plan: Plan, fps: float, seed: int = 0) -> Script:
    """Read a script and give every place of a plan its prompt.

    Args:
        text: the script, see above.
        plan: the segments.
        fps: frames per second, for the times.
        seed: for the choices in it.

    Returns:
        The prompts and their places.

    Raises:
        InputError: no prompt, as many prompts as do not fit the segments, or times that can't be read, overlap, leave a
            gap, run past the end or leave a prompt without a segment; a seed that is no number or not in front.
    """
    lines = read_lines(text, seed)
    if not any(line.span for line in lines):
        return one_per_line(lines, plan)
    cues = read_cues(lines, fps)
    check_cues(cues, plan.total_frames, fps)
    places = plan.place_frames
    conditions = best_cues(places, cues)
    used = set(conditions)
    unused = next((cue for number, cue in enumerate(cues) if number not in used), None)
    if unused is not None:
        raise InputError(
            "No {place} lies mostly in {range!r}, so its prompt would never be used: make the range longer, "
            "or the {places} shorter (each has up to {longest} video frames).",
            place=place_name(plan, 1),
            places=place_name(plan, 2),
            range=unused.label,
            longest=max(end - first for first, end in places),
        )
    return with_seeds([cue.prompt for cue in cues], conditions)


def read_lines(text: str, seed: int = 0) -> list[Line]:
    """Return the lines of a script that are not empty, their choices made; `Raises: InputError`."""
    if len(text) > MOST_CHARACTERS:
        raise InputError(
            "The prompt script has {length} characters, but at most {most} are read: shorten it.",
            length=len(text),
            most=MOST_CHARACTERS,
        )
    for mark in INVISIBLE:
        text = text.replace(mark, "")
    written = [line for line in map(str.strip, choose(text, seed).splitlines()) if line]
    if not written:
        raise InputError("The prompt script is empty: write one prompt, or one per segment or time range.")
    if len(written) > MOST_LINES:
        raise InputError(
            "The prompt script has {length} lines, but at most {most} are read: shorten it.",
            length=len(written),
            most=MOST_LINES,
        )
    lines = [read_line(line) for line in written]
    for line in lines:
        _value, rest = find_seed(line.text)
        if rest and read_line(line.text[rest:]).span is not None:
            raise InputError(
                "The line {line!r} has its seed before its time: write it after the colon.", line=line.text[:SHOWN]
            )
    lone = any(line.span and line.firm and not line.span.dash for line in lines)
    lines = [line if line.firm or lone else Line(line.text, line.text) for line in lines]
    count = 0
    for line in lines:
        count = refuse_inner_times(line, count)
    return lines


def place_name(plan: Plan, count: int) -> Words:
    """Return what a part of a video that has one prompt is called, one of them or several."""
    names = {
        SEGMENTS: (words("segment"), words("segments")),
        MOVING_WINDOW: (words("block"), words("blocks")),
        ROLLING: (words("chunk"), words("chunks")),
    }
    return names[plan.method][count > 1]


def one_per_line(lines: Sequence[Line], plan: Plan) -> Script:
    """Give every segment its line, or all of them the only one; `Raises: InputError`."""
    texts, segments, places = without_numbers(lines), len(plan.segments), plan.places
    if len(texts) == 1:
        return with_seeds(texts, (0,) * len(places))
    if len(texts) != segments:
        raise InputError(
            "There are {count} prompts, one per line, but the video has {segments}: write one for each or "
            "one for all, or time ranges such as '0s-4s: ...'.",
            count=len(texts),
            segments=counted(segments, "segments"),
        )
    ends = [segment.latents[1] for segment in plan.segments]
    return with_seeds(texts, tuple(bisect_right(ends, first) for first, _ in places))


def without_numbers(lines: Sequence[Line]) -> list[str]:
    """Return prompts without the bullets that all of them have, or their numbers, if these count from 1.

    Raises:
        InputError: a number and a colon that are not in such a list: "24: a dog" may be a time.
    """
    if [line.item for line in lines] == list(range(1, len(lines) + 1)):
        return [line.prompt for line in lines]
    for line in lines:
        if line.numbered and line.item is not None:
            raise unclear_number(line.text, line.item, line.prompt)
    if all(line.bullet and line.item is None for line in lines):
        return [line.prompt for line in lines]
    return [line.text for line in lines]


def with_seeds(texts: list[str], conditions: tuple[int, ...]) -> Script:
    """Take the seeds off the prompts that begin with one; `Raises: InputError`."""
    seeds, prompts = zip(*(split_seed(text) for text in texts), strict=True)
    return Script(prompts, conditions, seeds)


def split_seed(text: str) -> tuple[int | None, str]:
    """Return the seed that a prompt begins with, or None, and the rest; `Raises: InputError`."""
    seed, begin = find_seed(text)
    prompt = text[begin:]
    if begin and not (seed.isascii() and seed.isdecimal() and len(seed) <= 20 and int(seed) <= MOST_SEED):
        raise InputError(
            "The seed of {text!r} is {seed!r}, but it has to be 0 to {most}: write it like [seed 7].",
            text=text[:SHOWN],
            seed=seed,
            most=MOST_SEED,
        )
    if any(find_seed(prompt, at)[1] for at in seed_places(prompt)):
        raise InputError(
            "There is a seed in the middle of {text!r}: write it once, right before the prompt.", text=text[:SHOWN]
        )
    if not prompt:
        raise InputError("There is no prompt after {text!r}: write one.", text=text[:SHOWN])
    return int(seed) if begin else None, prompt


def seed_places(text: str) -> Iterator[int]:
    """Yield where a bracket stands before a word for a seed."""
    if not any(word in text.lower() for word in SEED_WORDS):
        return
    folded = fold(text)
    for word in SEED_WORDS:
        at = folded.find(word)
        while at >= 0:
            before = at - 1
            while before > at - SPACES and folded[before : before + 1] == " ":
                before -= 1
            if before >= 0:
                yield before
            at = folded.find(word, at + 1)


def find_seed(text: str, at: int = 0) -> tuple[str, int]:
    """Return what stands in "[seed ...]" at some place, and where the text after it begins; "" and 0 for no seed."""
    if text[at : at + 1] not in ("[", "【", "［"):
        return "", 0
    folded = fold(text[at : at + LONGEST_SEED])
    begin = skip_spaces(folded, 1)
    word = next((word for word in SEED_WORDS if folded.startswith(word, begin)), None)
    if word is None or folded[begin + len(word) : begin + len(word) + 1] in LETTERS:
        return "", 0
    begin = skip_spaces(folded, begin + len(word))
    begin += folded[begin : begin + 1] in (":", "=")
    ends = [place for mark in "]】" if (place := folded.find(mark, begin)) >= 0]
    end = min(ends, default=len(folded))
    after = at + end + 1
    while after < len(text) and text[after].isspace():
        after += 1
    return folded[begin:end].strip(), after
