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
# causal attention has to begin a circle before it sees how the circle goes on
CAUSAL_CHANCES = {**MOTION_CHANCES, "orbit": 4.0}
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
    def surges(self) -> Tensor:
        """Where clips change their pace, which only a given end asks for, int64 [B, 2].

        The first latent frame of the change, and the first behind it; 0, 0 where there is none.
        """
        far, begins, lasts = self.clips.surge.unbind(dim=1)
        beat = self.clips.fps / 4
        change = torch.stack(((begins * beat).floor() + 1, ((begins + lasts) * beat).ceil()), dim=1)
        return change.masked_fill((far == 0)[:, None], 0).long()

    def chances(self, causal: bool) -> Tensor:
        """Return how often the clips are to be drawn, float [B].

        Args:
            causal: for causal attention, which does not see the end that asks for a change of pace: without those.
        """
        chances = torch.tensor([(CAUSAL_CHANCES if causal else MOTION_CHANCES)[name] for name in MOTIONS])
        chances = chances[self.clips.motion]
        return chances.masked_fill(self.surges.any(dim=1), 0) if causal else chances


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
