"""Which states of finished segments a job keeps: the newest to go on from, and a few to repair it from.

A state of the moving window can be larger than the video of its segment, so not all of them stay.
"""

from __future__ import annotations

NEWEST = 2  # should the newest be damaged, the one before it is gone on from
LANDMARK = 8  # of every so many segments one state stays, so that a damaged part costs no more than these


def is_kept(segment: int, newest: int) -> bool:
    """Say whether the state of a segment is kept once that of the newest one is on the disk; both count from 0."""
    return segment > newest - NEWEST or (segment + 1) % LANDMARK == 0


def most_kept(segments: int) -> int:
    """Return how many states of a job of so many segments are on the disk at most, when its last one is finished."""
    return sum(is_kept(segment, segments - 1) for segment in range(segments))
