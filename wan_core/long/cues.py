"""The prompts of a script that have times: from its lines to stretches of video frames, and from these to segments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from ..errors import InputError
from .line_head import SHOWN
from .script_lines import Line


@dataclass(frozen=True)
class Cue:
    """A prompt with its time range, in video frames (whole or not).

    Attributes:
        label: the time as it is written.
        start: its first frame.
        end: one past its last; None = to the end of the video.
        prompt: the text.
        lone: whether only its start is written: it ends where the next one begins.
    """

    label: str
    start: float
    end: float | None
    prompt: str
    lone: bool


def read_cues(lines: Sequence[Line], fps: float) -> list[Cue]:
    """Read lines with times and their continuations; `Raises: InputError`."""
    cues: list[Cue] = []
    for line, following in zip(lines, (*lines[1:], None), strict=True):
        if line.span is not None:
            cues.append(read_cue(line, fps, first=not cues))
        elif following is not None and following.span is not None and is_number(line):
            continue  # of a subtitle, or a heading
        elif not cues or line.numbered:
            raise InputError(
                "The line {line!r} has no time range: begin it like '0s-4s: ' or '4s-: '.", line=line.text[:SHOWN]
            )
        else:
            prompt = f"{cues[-1].prompt} {line.text}".strip()
            cues[-1] = replace(cues[-1], prompt=prompt)
    return [
        replace(cue, end=later.start) if cue.lone and later is not None else cue
        for cue, later in zip(cues, (*cues[1:], None), strict=True)
    ]


def read_cue(line: Line, fps: float, first: bool) -> Cue:
    """Return a line with a time as a cue; the first of a script may say "- 4s: " for the first four seconds."""
    assert line.span is not None
    start, end = (None if time is None else time.frames(fps) for time in (line.span.start, line.span.end))
    lone = not line.span.dash
    if first and lone and line.bullet and start and line.text[0] in "-–":
        start, end, lone = None, start, False
    return Cue(line.label, start or 0.0, end, line.prompt, lone)


def is_number(line: Line) -> bool:
    """Say whether a line is nothing but a number, as of a subtitle, or a heading such as "Scene 2"."""
    return not line.text.strip("0123456789") or (line.item is not None and not line.prompt)


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
    late = next(
        (cue for cue in cues if cue.start >= total_frames or (not cue.lone and (cue.end or 0) > total_frames + 1)), None
    )
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


def best_cues(places: Sequence[tuple[int, int]], cues: Sequence[Cue]) -> tuple[int, ...]:
    """Return for every place the number of the cue that holds most of its video frames, the earlier of two equal ones.

    Both are in the order of time, so each cue is looked at in the places that it touches, and in no other.

    Args:
        places: video frames (first, end) of every part of the video that has one prompt.
        cues: the prompts with their times.
    """
    found, begin = [], 0
    for first, end in places:
        while begin + 1 < len(cues) and (cues[begin].end or end) <= first:
            begin += 1
        shares, at = [], begin
        while at < len(cues) and (at == begin or cues[at].start < end):
            cue = cues[at]
            shares.append(min(end, end if cue.end is None else cue.end) - max(first, cue.start))
            at += 1
        found.append(begin + shares.index(max(shares)))
    return tuple(found)
