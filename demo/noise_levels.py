"""The noise levels that the transformer is trained on: one for every latent frame, in all patterns that samplers use.

A clip has one level; or an independent one for every frame (diffusion forcing as published); or stairs of blocks, as
asynchronous sampling makes them; or known frames - a start, an end, key frames - that hold no noise or a trace of it.

Source: Chen et al. 2024, Diffusion Forcing; Chen et al. 2025, SkyReels-V2 (non-decreasing levels); Esser et al. 2024
(the shift).
"""

from __future__ import annotations

import torch
from torch import Tensor

SHIFT = 3.0  # above 1 more of the training is at high noise, where motion and layout are decided
PATTERNS = ("one", "free", "stairs", "known")
PATTERN_SHARES = (0.34, 0.16, 0.22, 0.28)
LARGEST_BLOCK = 5  # latent frames of a stair
STAIR_HEIGHT = (0.03, 0.6)  # rise from block to block, before the shift
KNOWN_LEVEL = 0.02  # the authors' addnoise_condition of 20 timesteps
STAIRS_BEHIND_KNOWN = 0.35  # share of clips with known frames whose other frames stand in stairs
KNOWN_KINDS = 8  # 0 to 2: a start of one frame; 3 to 6: a start of any length; 7: key frames
STARTS_AND_ENDS = (2, 5, 6)  # those of the kinds that have an end
LONGEST_END = 3  # known latent frames at the end: of a loop
TIGHT_SHARE = 0.6  # of clips that change their pace: all else is known, since a loop leaves little more room than that
TIGHT_SLACK = 1  # latent frames that are made on either side of the change, at most
SIGMA_MAX = 0.999  # of a frame that has not begun


def shifted(u: Tensor, shift: float = SHIFT) -> Tensor:
    """Return the noise levels of evenly spread numbers 0..1."""
    return shift * u / (1 + (shift - 1) * u)


def draw_levels(
    count: int,
    frames: int,
    generator: torch.Generator,
    former: Tensor | None = None,
    led: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Draw the levels of a batch.

    Args:
        count: clips.
        frames: latent frames of each.
        generator: on the CPU.
        former: int64 [count], frames at the start that are known in any case; fewer than `frames`.
        led: int64 [count, 2], where the pace of a clip changes: the first latent frame, and the first behind it. Start
            and end of such a clip are known in any case; 0, 0 where there is no change, as with one frame.

    Returns:
        Levels [count, frames], 0..0.999, and bool [count, frames]: True where a frame has to be made.
    """
    pattern = torch.multinomial(torch.tensor(PATTERN_SHARES), count, replacement=True, generator=generator)
    u = torch.rand(count, 1, generator=generator).expand(count, frames).clone()
    free = pattern == PATTERNS.index("free")
    u[free] = torch.rand(int(free.sum()), frames, generator=generator)
    known = torch.zeros(count, frames, dtype=torch.bool)
    former = torch.zeros(count, dtype=torch.long) if former is None else former
    led = torch.zeros(count, 2, dtype=torch.long) if led is None else led
    held = (pattern == PATTERNS.index("known")) | (former > 0) | led.any(dim=1)
    stairs = pattern == PATTERNS.index("stairs")
    for row in held.nonzero()[:, 0].tolist():
        first, change = int(former[row]), led[row].tolist()
        if first:
            known[row] = torch.arange(frames) < first
        elif any(change) and bool(torch.rand((), generator=generator) < TIGHT_SHARE):
            known[row] = all_but(change, frames, generator)
        else:
            known[row] = known_frames(frames, generator, any(change))
        stairs[row] = bool(torch.rand((), generator=generator) < STAIRS_BEHIND_KNOWN)
    for row in stairs.nonzero()[:, 0].tolist():
        u[row] = stairs_of(known[row], generator)
    levels = shifted(u.clamp(0, 1)).clamp(max=SIGMA_MAX)
    trace = KNOWN_LEVEL * torch.randint(2, (count, 1), generator=generator)
    levels = torch.where(known, trace, levels)
    return levels, ~known & (levels > 0)


def stairs_of(known: Tensor, generator: torch.Generator) -> Tensor:
    """Return non-decreasing numbers [frames], some below 0 (finished) or above 1 (not begun).

    Args:
        known: bool [frames]; the first block begins behind those at the start. Not all of them are.
        generator: on the CPU.
    """
    block = int(torch.randint(1, LARGEST_BLOCK + 1, (), generator=generator))
    low, high = STAIR_HEIGHT
    rise, where, start = torch.rand(3, generator=generator).tolist()
    rise = low + (high - low) * rise**2
    leading = int(known.long().cumprod(0).sum())
    number = torch.div(torch.arange(len(known)) - leading, block, rounding_mode="floor")
    # one block with a frame to make lies between finished and not begun; so one frame at least is always being made
    blocks = number[~known].unique()
    return start + rise * (number - blocks[int(where * len(blocks))])


def known_frames(frames: int, generator: torch.Generator, both: bool = False) -> Tensor:
    """Return which frames are known, bool [frames]: never all.

    They are a start (an image, or the frames carried over), with or without an end (an image, or a loop's start), or
    key frames.

    Args:
        frames: latent frames of the clip, 1 or more.
        generator: on the CPU.
        both: whether it is a start and an end in any case; with 2 frames or more.
    """
    known = torch.zeros(frames, dtype=torch.bool)
    kinds = STARTS_AND_ENDS if both else tuple(range(KNOWN_KINDS))
    kind = kinds[int(torch.randint(len(kinds), (), generator=generator))]
    prefix = 1 if kind < 3 else int(torch.randint(1, max(frames // 2, 1) + 1, (), generator=generator))
    if kind < 7:
        known[:prefix] = True
    if kind in STARTS_AND_ENDS:
        known[-int(torch.randint(1, LONGEST_END + 1, (), generator=generator)) :] = True
    if kind == 7:
        known = torch.rand(frames, generator=generator) < 0.3
    if bool(known.all()):
        known[prefix if prefix < frames else -1] = False
    return known


def all_but(change: list[int], frames: int, generator: torch.Generator) -> Tensor:
    """Return which frames are known, bool [frames], where all are but a change of pace: not all, but the first.

    Args:
        change: the first latent frame of the change, and the first behind it; either may lie outside of the clip.
        frames: latent frames of the clip, 2 or more.
        generator: on the CPU.
    """
    before, behind = torch.randint(TIGHT_SLACK + 1, (2,), generator=generator).tolist()
    first = min(max(change[0] - before, 1), max(frames - 2, 1))
    last = max(min(change[1] + behind, frames - 1), first + 1)
    place = torch.arange(frames)
    return (place < first) | (place >= last)
