"""A script of prompts as text, and which segment of a plan gets which of them.

Either one prompt per line, one line per segment (a single line is for all), or time ranges that cover the video:

    0s-4s: a cat sleeps on a window sill
    4s-1m10s: it wakes up and stretches,
        and looks out into the rain
    1m10s-: it jumps down

A line without a time goes on with the prompt above it. Each segment gets the prompt that holds most of its new frames.
A prompt may begin with the seed of its segments: `4s-: [seed 7] it wakes up`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

from ..errors import InputError
from ..words import counted
from .segments import Plan, Segment

TIME = r"(?:(\d+)\s*m)?\s*(?:(\d+(?:\.\d+)?)\s*s?)?"
RANGE = re.compile(rf"{TIME}\s*[-–]\s*{TIME}\s*[:：]\s*(.*)", re.IGNORECASE)
# a slip, not a prompt such as "90s-style neon"
ALMOST_RANGE = re.compile(r"\d+(\.\d+)?\s*[sm](\d+(\.\d+)?s)?\s*([:：]|([-–]|to\b)\s*\d)", re.IGNORECASE)
SEED = re.compile(r"\[\s*(?:seed|种子)\b\s*[:：=]?\s*([^\]]*?)\s*\]\s*", re.IGNORECASE)
MOST_SEED = 2**64 - 1


@dataclass(frozen=True)
class Script:
    """Prompts and where they go.

    Attributes:
        prompts: in the order of the text.
        conditions: for every segment the number of its prompt, as `Rollout.conditions` wants it.
        seeds: of every prompt, None where the script names none.
    """

    prompts: tuple[str, ...]
    conditions: tuple[int, ...]
    seeds: tuple[int | None, ...]

    def segment_seeds(self, seed: int) -> tuple[int, ...]:
        """Return the seed of every segment; `seed`: for prompts that name none."""
        own = [self.seeds[number] for number in self.conditions]
        return tuple(seed if one is None else one for one in own)


@dataclass(frozen=True)
class Cue:
    """A prompt with its time range, in video frames (whole or not); end None = to the end of the video."""

    label: str
    start: float
    end: float | None
    prompt: str


def parse_script(text: str, plan: Plan, fps: float) -> Script:
    """Read a script and give every segment of a plan its prompt.

    Args:
        text: the script, see above.
        plan: the segments.
        fps: frames per second, for the times.

    Returns:
        The prompts and their segments.

    Raises:
        InputError: no prompt, as many prompts as do not fit the segments, or times that overlap, leave a gap, lie
            behind the end or leave a prompt without a segment; a seed that is no number or not in front.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise InputError("The prompt script is empty: write one prompt, or one per segment or time range.")
    for line in lines:
        if (match := SEED.match(line)) and RANGE.fullmatch(line[match.end() :]):
            raise InputError(
                "The line {line!r} has its seed before its time: write it after the colon.", line=line[:60]
            )
    if not any(RANGE.fullmatch(line) or ALMOST_RANGE.match(line) for line in lines):
        return one_per_line(lines, len(plan.segments))
    cues = read_cues(lines, fps)
    check_cues(cues, plan.total_frames, fps)
    conditions = tuple(best_cue(segment, cues) for segment in plan.segments)
    for number, cue in enumerate(cues):
        if number not in conditions:
            raise InputError(
                "No segment lies mostly in {range!r}, so its prompt would never be used: make the range longer, "
                "or the segments shorter (each finishes up to {longest} video frames).",
                range=cue.label,
                longest=max(s.num_frames for s in plan.segments),
            )
    return with_seeds([cue.prompt for cue in cues], conditions)


def one_per_line(lines: list[str], segments: int) -> Script:
    """Give every segment its line, or all of them the only one; `Raises: InputError`."""
    if len(lines) == 1:
        return with_seeds(lines, (0,) * segments)
    if len(lines) != segments:
        raise InputError(
            "There are {count} prompts, one per line, but the video has {segments}: write one for each or "
            "one for all, or time ranges such as '0s-4s: ...'.",
            count=len(lines),
            segments=counted(segments, "segments"),
        )
    return with_seeds(lines, tuple(range(segments)))


def with_seeds(texts: list[str], conditions: tuple[int, ...]) -> Script:
    """Take the seeds off the prompts that begin with one; `Raises: InputError`."""
    seeds, prompts = zip(*(split_seed(text) for text in texts), strict=True)
    return Script(prompts, conditions, seeds)


def split_seed(text: str) -> tuple[int | None, str]:
    """Return the seed that a prompt begins with, or None, and the rest; `Raises: InputError`."""
    match = SEED.match(text)
    seed, prompt = (None, text) if match is None else (match[1], text[match.end() :])
    if seed is not None and not (re.fullmatch(r"[0-9]{1,20}", seed) and int(seed) <= MOST_SEED):
        raise InputError(
            "The seed of {text!r} is {seed!r}, but it has to be 0 to {most}: write it like [seed 7].",
            text=text[:60],
            seed=seed,
            most=MOST_SEED,
        )
    if SEED.search(prompt):
        raise InputError("A seed stands inside {text!r}: write it once, right before the prompt.", text=text[:60])
    if not prompt:
        raise InputError("There is no prompt after {text!r}: write one.", text=text[:60])
    return None if seed is None else int(seed), prompt


def read_cues(lines: list[str], fps: float) -> list[Cue]:
    """Read lines with time ranges and their continuations; `Raises: InputError`."""
    cues: list[Cue] = []
    for line in lines:
        match = RANGE.fullmatch(line)
        if match is None:
            if not cues or ALMOST_RANGE.match(line):
                raise InputError(
                    "The line {line!r} has no time range: begin it like '0s-4s: ' or '4s-: '.", line=line[:60]
                )
            cues[-1] = Cue(cues[-1].label, cues[-1].start, cues[-1].end, f"{cues[-1].prompt} {line}".strip())
            continue
        first, last = frames_of(match[1], match[2], fps), frames_of(match[3], match[4], fps)
        cues.append(Cue(re.split("[:：]", line)[0].strip(), 0.0 if first is None else first, last, match[5]))
    return cues


def check_cues(cues: list[Cue], total_frames: int, fps: float) -> None:
    """Refuse times that do not cover the video once; a frame more or less is none of it; `Raises: InputError`."""
    for cue in cues:
        if not cue.prompt:
            raise InputError("The range {range!r} has no prompt: write one after the colon.", range=cue.label)
        if cue.end is not None and cue.end <= cue.start:
            raise InputError(
                "The range {range!r} ends before it begins: write the earlier time first.", range=cue.label
            )
    if cues[0].start > 1:
        raise InputError(
            "The script begins with {first!r}, but the video begins at 0s: begin the first range there.",
            first=cues[0].label,
        )
    for cue, later in pairwise(cues):
        if cue.end is None:
            raise InputError(
                "The range {range!r} has no end, but {later!r} follows: give it one.",
                range=cue.label,
                later=later.label,
            )
        if later.start < cue.end - 1:
            raise InputError(
                "{range!r} and {later!r} overlap: begin the later where the earlier ends.",
                range=cue.label,
                later=later.label,
            )
        if later.start > cue.end + 1:
            raise InputError("There is a gap between {range!r} and {later!r}: begin the later where the earlier ends.",
                      range=cue.label,
                      later=later.label)  # fmt: skip
    last = cues[-1]
    late = next((cue for cue in cues if cue.start >= total_frames or (cue.end or 0) > total_frames + 1), None)
    seconds = f"{total_frames / fps:.2f}".rstrip("0").rstrip(".")
    if late is not None:
        raise InputError(
            "The range {range!r} runs past the end of the video at {seconds}s ({total_frames} frames at "
            "{fps:g} fps): shorten it, or make more frames.",
            range=late.label,
            seconds=seconds,
            total_frames=total_frames,
            fps=fps,
        )
    if last.end is not None and last.end < total_frames - 1:
        raise InputError(
            "The script ends with {range!r}, but the video ends at {seconds}s: leave the last end open, as in '4s-: '.",
            range=last.label,
            seconds=seconds,
        )


def frames_of(minutes: str | None, seconds: str | None, fps: float) -> float | None:
    """Return a time in frames, None where none is written."""
    if minutes is None and seconds is None:
        return None
    return (int(minutes or 0) * 60 + float(seconds or 0)) * fps


def best_cue(segment: Segment, cues: list[Cue]) -> int:
    """Return the number of the cue that holds most of a segment's new frames, the earlier of two equal ones."""
    first, behind = segment.frames
    shares = [min(behind, behind if cue.end is None else cue.end) - max(first, cue.start) for cue in cues]
    return shares.index(max(shares))
