"""The transformer's training clips as latents: drawn, rendered and turned into latents once, kept in half precision."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from demo.latents import linear_latents
from demo.shapes import FPS, MOTIONS, Clips, draw_clips, render, with_surges, with_turns

CLIP_LATENTS = 12  # latent frames of a clip
CLIP_FRAMES = 4 * (CLIP_LATENTS - 1) + 1
CLIPS_PER_CALL = 16
# how often a motion is learned from, against the others: the harder, the more often
MOTION_CHANCES = {"still": 0.5, "left": 1.0, "right": 1.0, "up": 1.0, "down": 1.0, "bounce": 0.75, "orbit": 2.0}
SURGE_SHARE = 0.4  # of the straight motions that change their pace
TURN_SHARE = 1 / 4  # of the motions that have another before them, straight or still both


@dataclass(frozen=True)
class Pool:
    """Clips and their latents, half precision [B, 16, CLIP_LATENTS, 8, 8], in the transformer's scale.

    Attributes:
        clips: what they show.
        latents: of the clips.
    """

    clips: Clips
    latents: Tensor

    @property
    def former(self) -> Tensor:
        """Latent frames at a clip's start that show another motion than its caption says, int64 [B]."""
        turns = self.clips.turn[:, 2] * self.clips.fps / 4
        return torch.where(turns >= 0, turns.round() + 1, 0.0).long()

    @property
    def surging(self) -> Tensor:
        """Clips that change their pace: what only a given end asks for; bool [B]."""
        return self.clips.surge[:, 0] != 0

    def chances(self, surges: bool) -> Tensor:
        """Return how often the clips are to be drawn, float [B], with those that change their pace or without."""
        chances = torch.tensor([MOTION_CHANCES[motion] for motion in MOTIONS])[self.clips.motion]
        return chances if surges else chances.masked_fill(self.surging, 0)


def make_pool(count: int, seed: int, turn_share: float = TURN_SHARE) -> Pool:
    """Draw clips and compute their latents.

    Args:
        count: number of clips.
        seed: of the clips.
        turn_share: of the straight or still clips that begin with another such motion.
    """
    clips = with_surges(draw_clips(count, seed), SURGE_SHARE, CLIP_FRAMES / max(FPS), seed)
    clips = with_turns(clips, turn_share, seed)
    parts = [
        linear_latents(render(clips[slice(first, first + CLIPS_PER_CALL)], CLIP_FRAMES)).half()
        for first in tqdm(range(0, count, CLIPS_PER_CALL), desc="drawing", unit="batch", mininterval=5)
    ]
    return Pool(clips, torch.cat(parts))
