"""What the step cache is compared with: the rules of FlowCache and MotionCache, on this pack's transformer.

Both leave out blocks of frames (MotionCache also places in them) that have not moved far since they were computed, and
give them the last residual of the whole stack of layers. Written anew from what their programs for SkyReels-V2 do, with
two differences, which are the same for both and for the step cache: frames see all others, as the released model does,
where theirs see only those before; and how far the time embeddings have moved is not bent by a polynomial, which was
fitted to another model: the threshold takes its place, and is tried at several values.

Sources: FlowCache (mikeallen39/FlowCache, 2025): the first five steps of a block and its last are computed, the others
when the relative distances of the modulations, added up, reach the threshold. MotionCache (ywlq/MotionCache): the same
for every token; after six updates a token's distance counts 0.6 to 1 times, by how much it differs from the last frame
within its frame; a place is computed in all frames of a block where more than half of them ask for it, and nothing is
where less than 40 % of the places are asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from einops import rearrange
from torch import Tensor

from wan_core.model.blocks import BlockInputs
from wan_core.model.clip_tokens import ClipTokens, Placed, SomeFrames
from wan_core.model.wan_model import WanModel
from wan_core.sampling.run import Row

FIRST_STEPS = 5  # of a block, computed by both
UNIFORM_UPDATES, LEAST_WEIGHT, ASKING, LEAST_SHARE = 6, 0.6, 0.5, 0.4  # of MotionCache


@dataclass
class Rival:
    """One run by a rival's rule, for one condition.

    Args:
        model: the transformer.
        threshold: of the added distances.
        block: latent frames of a block.
        motion: MotionCache's rule; otherwise FlowCache's.
    """

    model: WanModel
    threshold: float
    block: int
    motion: bool = False
    work: float = 0.0  # latent frames computed, each for the share of its tokens
    kept: ClipTokens | None = None
    residual: Tensor = field(default_factory=lambda: torch.zeros(0))  # [B, L, C]
    modulation: Tensor = field(default_factory=lambda: torch.zeros(0))  # of the row before [B, F, 6, C]
    added: Tensor = field(default_factory=lambda: torch.zeros(0))  # distances [F, tokens of a frame]
    weights: Tensor = field(default_factory=lambda: torch.zeros(0))  # [F, tokens of a frame]
    updates: dict[int, int] = field(default_factory=dict)  # block -> updates after its first steps
    closed: set[int] = field(default_factory=set)  # blocks that were computed once more when they were finished

    def __call__(self, x: Tensor, t: Tensor, context: Tensor, fps: int, row: Row) -> Tensor:
        """Return the velocity [B, C, F, H, W] for a row; `x`, `t` and `context` are those of the model."""
        model, (frames, rows, columns) = self.model, self.model.grid_of(x)
        places, tokens = rows * columns, model.embed_patches(x)
        e, modulation = model.embed_time(t, fps, x)
        if self.kept is None:
            self.kept = ClipTokens(len(model.blocks), frames)
            self.residual, self.modulation = torch.zeros_like(tokens), modulation
            self.added, self.weights = torch.zeros(frames, places), torch.ones(frames, places)
        moved = (modulation - self.modulation).abs().mean((0, 2, 3)) / self.modulation.abs().mean((0, 2, 3))
        self.modulation = modulation
        size = self.block if row.index else frames  # at first all together: there is nothing of the others to be seen
        for first in range(0, frames, size):
            there = slice(first, first + size)
            asked = self.asked(row, there, moved)
            if asked.any():
                self.compute(tokens, modulation, context, there, asked, (frames, rows, columns))
        return model.unpatchify(model.head(tokens + self.residual, e), (frames, rows, columns))

    def asked(self, row: Row, there: slice, moved: Tensor) -> Tensor:
        """Return which places of a block are computed, bool [tokens of a frame]."""
        step, every = row.steps[there.start], torch.ones(self.added.shape[1], dtype=torch.bool)
        if step is None:  # at rest: its keys and values once at first, and once when it is finished
            closes = row.finished > there.start and there.start not in self.closed
            if closes:
                self.closed.add(there.start)
            return every & (closes or row.index == 0)
        if step < FIRST_STEPS or step == row.num_steps - 1:
            self.added[there] = 0
            return every
        added = self.added[there] + moved[there][:, None] * self.weights[there]
        due = added >= self.threshold
        asked = due.float().mean(0) > ASKING
        if self.motion and 0 < asked.float().mean() < LEAST_SHARE:
            asked = ~every
        self.added[there] = torch.where(asked, 0.0, added)
        return asked

    def compute(
        self, tokens: Tensor, modulation: Tensor, context: Tensor, there: slice, asked: Tensor,
        grid: tuple[int, int, int],
    ) -> None:  # fmt: skip
        """Compute some places of a block of frames, and keep their residual, keys and values."""
        assert self.kept is not None
        frames = list(range(*there.indices(grid[0])))
        chosen, places = asked.nonzero().flatten(), len(asked)
        index = rearrange(SomeFrames(frames, self.kept).tokens(places, tokens.device), "(f p) -> f p", p=places)
        index = index[:, chosen].flatten()
        placed = Placed(index, grid[0] * places, [(slice(0, len(index)), grid[0] * places)])
        inputs = BlockInputs(
            modulation[:, frames], self.model.rotary_kernel.part(self.model.rotary(grid, tokens.device, None), index),
            self.model.embed_context(context, None), None, 0, placed=placed,
        )  # fmt: skip
        made = self.model.run_blocks(tokens[:, index], inputs, some=SomeFrames(frames, self.kept))
        self.residual[:, index] = made - tokens[:, index]
        self.work += len(frames) * len(chosen) / places
        if self.motion:
            self.weigh(tokens, there, places)

    def weigh(self, tokens: Tensor, there: slice, places: int) -> None:
        """Weigh the tokens of a block by how much they differ from the frame before, once it was updated often."""
        self.updates[there.start] = self.updates.get(there.start, 0) + 1
        if self.updates[there.start] <= FIRST_STEPS + UNIFORM_UPDATES:
            return
        out = rearrange(tokens + self.residual, "b (f p) c -> b f p c", p=places)
        now, before = out[:, there], out[:, max(there.start - 1, 0) : there.stop - 1]
        if there.start == 0:
            before = torch.cat((now[:, :1], before), dim=1)
        differs = (now - before).abs().mean((0, 3)) / before.abs().mean((0, 3))  # [f, p]
        if there.start == 0:
            differs[0] = differs[1]
        least, most = differs.amin(1, keepdim=True), differs.amax(1, keepdim=True)
        self.weights[there] = LEAST_WEIGHT + (1 - LEAST_WEIGHT) * (differs - least) / (most - least + 1e-8)
