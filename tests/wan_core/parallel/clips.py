"""Forward passes and clips that one process and several make: as a module, what they are; as a program, one of several.

python clips.py RANK PROCESSES FOLDER
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

REPO = Path(__file__).resolve().parents[3]
if __name__ == "__main__":
    sys.path.insert(0, str(REPO))

from tests.tiny import random_wan  # noqa: E402
from wan_core.errors import InputError  # noqa: E402
from wan_core.long.rolling import RollingCalls, Window, block_noise, roll_out  # noqa: E402
from wan_core.model.config import WanConfig  # noqa: E402
from wan_core.model.wan_model import WanModel  # noqa: E402
from wan_core.parallel.shards import kept_bytes, shard_blocks  # noqa: E402
from wan_core.parallel.team import ProcessTeam  # noqa: E402
from wan_core.parallel.traffic import Call, sent_bytes  # noqa: E402
from wan_core.sampling.cached_calls import CachedCalls, CausalCalls  # noqa: E402
from wan_core.sampling.denoise import model_denoise  # noqa: E402
from wan_core.sampling.known import KnownFrames  # noqa: E402
from wan_core.sampling.loop import sample  # noqa: E402
from wan_core.sampling.noise import fresh_noise  # noqa: E402
from wan_core.sampling.run import ForcingOptions, plan_run  # noqa: E402
from wan_core.sampling.sigmas import exact_timesteps, flow_sigmas, warped_sigmas  # noqa: E402

HEADS = {"divide": 12, "do not divide": 5}  # among two and three processes
TEXT = 24


def config(heads: int, **changes: Any) -> WanConfig:
    sizes = {"dim": 8 * heads, "ffn_dim": 80, "freq_dim": 32, "text_dim": TEXT, "num_heads": heads, "num_layers": 2}
    return WanConfig(**{"inject_sample_info": True, **sizes, **changes})


def randn(*shape: int, seed: int = 3) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class Makes:
    """What is made with models that a team shares, and the most bytes that a cache of this process held."""

    def __init__(self, team: ProcessTeam | None, heads: int, sharded: bool = False):
        self.team, self.heads, self.kept, self.models, self.sharded = team, heads, 0, {}, sharded

    def model(self, **changes: Any) -> WanModel:
        key = str(changes)
        if key not in self.models:
            self.models[key] = random_wan(config(self.heads, **changes))
            self.models[key].team = self.team
            if self.sharded:
                shard_blocks(self.models[key])
        return self.models[key]

    def forward(self, frames: int, height: int, width: int, batch: int = 1, levels: bool = True, **inputs: Any):
        t = torch.linspace(990, 20, frames).expand(batch, -1) if levels else torch.full((batch,), 700.0)
        with torch.no_grad():
            x = randn(batch, 16, frames, height, width)
            return self.model()(x, t, randn(batch, 8, TEXT, seed=4), **inputs)

    def image(self) -> torch.Tensor:
        model = self.model(model_type="i2v", in_dim=36, inject_sample_info=False)
        with torch.no_grad():
            x, t = randn(1, 36, 3, 6, 10), torch.tensor([[900.0, 500.0, 20.0]])
            return model(x, t, randn(1, 8, TEXT, seed=4), clip_fea=randn(1, 257, 1280, seed=5))

    def with_gradient(self) -> torch.Tensor:
        """Where autograd looks after memory, nothing is written over."""
        return self.model()(randn(1, 16, 3, 4, 6), torch.full((1,), 500.0), randn(1, 8, TEXT, seed=4))

    def clip(
        self, frames: int, size: tuple[int, int] = (6, 10), steps: int = 3, cfg: float = 1.0, fps: int = 24,
        cached: bool = False, causal: bool = False, known: tuple[int, ...] = (), options: ForcingOptions | None = None,
    ) -> torch.Tensor:  # fmt: skip
        options = options or ForcingOptions()
        mask = torch.zeros(frames, dtype=torch.bool)
        mask[list(known)] = True
        run = plan_run(options, flow_sigmas(steps), frames, mask)  # which may ask for a few frames more
        noise, model = randn(1, 16, run.num_frames, *size), self.model()
        given = KnownFrames(randn(*noise.shape, seed=6), run.known, randn(*noise.shape, seed=7)) if known else None
        block = options.causal_block_size if causal else 0
        with torch.no_grad(), CausalCalls(model, model.config.num_layers, max(block, 1)) as calls:

            def velocity(x: torch.Tensor, t: torch.Tensor, context: torch.Tensor, row: Any) -> torch.Tensor:
                if not cached:
                    return model(x, t, context, fps=fps, causal_block_size=block)
                made = each_alone(calls, (x, t, context), row, fps=fps)
                self.note(calls)
                return made

            denoise = model_denoise(velocity, randn(1, 8, TEXT, seed=4), randn(1, 8, TEXT, seed=5), cfg)
            fresh = fresh_noise(noise.shape, 3, steps) if options.solver == "lcm" else None
            return sample(denoise, noise, run, given, fresh_noise=fresh)[:, :, :frames]

    def rolling(self, block: int, blocks: int, window: Window, cfg: float = 1.0, known: int = 0) -> torch.Tensor:
        model, sigmas, size = self.model(), warped_sigmas((1000, 500), 5.0), (6, 10)
        parts = [randn(1, 16, known, *size, seed=8)] if known else []
        noises = [block_noise((1, 16, block, *size), 5, 2, known + n * block, "lcm") for n in range(blocks)]
        with torch.no_grad(), RollingCalls(model, model.config.num_layers, window) as calls:

            def velocity(x: torch.Tensor, t: torch.Tensor, context: torch.Tensor, row: Any) -> torch.Tensor:
                made = each_alone(calls, (x, t, context), row)
                self.note(calls)
                return made

            texts = randn(1, 8, TEXT, seed=4), randn(1, 8, TEXT, seed=5)
            denoise = model_denoise(velocity, *texts, cfg, timesteps=exact_timesteps)
            made = list(roll_out(denoise, noises, sigmas, window, "lcm", list(parts)))
        return torch.cat([*parts, *made], dim=2)

    def note(self, calls: CachedCalls) -> None:
        self.kept = max(self.kept, calls.num_bytes)


def each_alone(calls: Any, inputs: tuple[torch.Tensor, ...], row: Any, **named: Any) -> torch.Tensor:
    """Call with one condition after the other: each has keys and values of its own."""
    alone = zip(*(each.split(1) for each in inputs), strict=True)
    return torch.cat([calls(x, t, row, key, context=text, **named) for key, (x, t, text) in enumerate(alone)])


ASYNC = {"ar_step": 2, "causal_block_size": 2}
FORWARDS: dict[str, Callable[[Makes], torch.Tensor]] = {
    "a level for each of 5 frames of 15 tokens": lambda make: make.forward(5, 6, 10),
    "7 frames of 1 token": lambda make: make.forward(7, 2, 2),
    "more processes than tokens": lambda make: make.forward(1, 2, 2),
    "two tokens": lambda make: make.forward(2, 2, 2),
    "one level": lambda make: make.forward(5, 6, 10, levels=False),
    "two clips of odd size at 16 fps": lambda make: make.forward(3, 5, 7, batch=2, fps=16),
    "block-causal": lambda make: make.forward(7, 6, 10, causal_block_size=2),
    "block-causal, two clips": lambda make: make.forward(6, 6, 10, batch=2, causal_block_size=3),
    "in pieces": lambda make: make.forward(5, 6, 10, pieces=4),
    "causal in pieces": lambda make: make.forward(5, 6, 10, causal_block_size=2, pieces=3),
    "references": lambda make: make.forward(
        3, 6, 10, levels=False, references=(randn(1, 16, 1, 4, 6, seed=9), randn(1, 16, 2, 6, 6, seed=10))
    ),
    "an image": Makes.image,
    "with a gradient": Makes.with_gradient,
}  # fmt: skip
CLIPS: dict[str, Callable[[Makes], torch.Tensor]] = {
    "sync": lambda make: make.clip(5),
    "sync, guided, 16 fps": lambda make: make.clip(3, cfg=5.0, fps=16),
    "async": lambda make: make.clip(7, options=ForcingOptions(**ASYNC)),
    "async, guided, lcm": lambda make: make.clip(5, cfg=4.0, options=ForcingOptions("lcm", **ASYNC)),
    "key frames": lambda make: make.clip(7, known=(0, 3, 6), options=ForcingOptions(**ASYNC)),
    "moving window": lambda make: make.clip(10, options=ForcingOptions(window_frames=4, **ASYNC)),
    "causal": lambda make: make.clip(7, causal=True, options=ForcingOptions(**ASYNC)),
}
CACHED: dict[str, Callable[[Makes], torch.Tensor]] = {
    "causal with a cache": lambda make: make.clip(8, causal=True, cached=True, options=ForcingOptions(**ASYNC)),
    "causal with a cache, guided, known frames": lambda make: make.clip(
        9, causal=True, cached=True, cfg=4.0, known=(0, 1, 2, 3, 4, 5),
        options=ForcingOptions(ar_step=0, causal_block_size=3),
    ),
    "rolling": lambda make: make.rolling(3, 4, Window(7, 2)),
    "rolling, guided, from an image": lambda make: make.rolling(2, 3, Window(5, 1), cfg=3.0, known=1),
}  # fmt: skip
ALL = {**FORWARDS, **CLIPS, **CACHED}


# forward passes whose bytes are counted: frames, rows, columns, clips, latent frames of a block
SENT = {
    "5 x 3 x 5, one clip": (5, 3, 5, 1, 0),
    "3 x 3 x 4, two clips": (3, 3, 4, 2, 0),
    "blocks of 2 x 3 x 5": (6, 3, 5, 1, 2),
}


# those that are made with weights, too, of which every process keeps a part
SHARDED = (
    "a level for each of 5 frames of 15 tokens", "two clips of odd size at 16 fps", "causal in pieces", "references",
    "an image", "sync, guided, 16 fps", "async", "causal with a cache, guided, known frames", "rolling",
)  # fmt: skip


@dataclass
class Made:
    """What was made, the most bytes of caches in this process, and the bytes that it sent and that were told."""

    tensor: torch.Tensor
    kept: int
    sent: int = 0
    told: int = 0


def made_by(team: ProcessTeam | None) -> dict[Any, Any]:
    """Everything, with either number of heads."""
    made: dict[Any, Any] = {}
    for heads, number in HEADS.items():
        make = Makes(team, number)
        for name, case in ALL.items():
            make.kept = 0
            made[heads, name] = Made(case(make).detach(), make.kept)
        make.kept = 0
        try:
            made[heads, "a budget"] = Made(make.rolling(3, 4, Window(7, 2, 0.4)), make.kept)
        except InputError as error:
            made[heads, "a budget"] = str(error)
        if team is not None:
            for name, (frames, rows, columns, batch, block) in SENT.items():
                with counted() as sent:
                    x = make.forward(frames, 2 * rows, 2 * columns, batch, causal_block_size=block)
                call = Call(config(number), frames * rows * columns, batch, 4, block * rows * columns)
                made[heads, name] = Made(x, 0, sent[0], sent_bytes(call, team.rank, team.size))
            made[heads, "refused"] = is_refused(make)
            shards = Makes(team, number, sharded=True)
            for name in SHARDED:
                made[heads, "sharded", name] = Made(ALL[name](shards).detach(), 0)
            for key, model in shards.models.items():
                made[heads, "weights", key] = [kept_bytes(model.blocks), kept_bytes(make.models[key].blocks)]
    return made


@contextmanager
def counted() -> Iterator[list[int]]:
    """Count the bytes that torch.distributed is given to send to others."""
    sent, before = [0], (dist.all_to_all_single, dist.all_gather, dist.P2POp)
    rank, size = dist.get_rank(), dist.get_world_size()

    def all_to_all(output: torch.Tensor, given: torch.Tensor, came: Any, went: list[int], **named: Any) -> Any:
        sent[0] += (sum(went) - went[rank]) * given.element_size()
        return before[0](output, given, came, went, **named)

    def all_gather(output: Any, given: torch.Tensor, **named: Any) -> Any:
        sent[0] += given.nbytes * (size - 1)
        return before[1](output, given, **named)

    def operation(kind: Any, tensor: torch.Tensor, *args: Any) -> Any:
        sent[0] += tensor.nbytes if kind is dist.isend else 0
        return before[2](kind, tensor, *args)

    dist.all_to_all_single, dist.all_gather, dist.P2POp = all_to_all, all_gather, operation
    try:
        yield sent
    finally:
        dist.all_to_all_single, dist.all_gather, dist.P2POp = before


def is_refused(make: Makes) -> bool:
    """Whether a host's patch after each block is refused in every process, before any meets the others."""
    try:
        make.forward(3, 4, 4, transformer_options={"patches": {"double_block": [lambda args: args]}})
    except InputError as error:
        return "remove that node" in str(error)
    return False


def main() -> None:
    rank, size, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=size)
    made = made_by(ProcessTeam())
    # as plain values: here the class is that of a program, which nobody else knows
    torch.save(
        {key: vars(each) if isinstance(each, Made) else each for key, each in made.items()}, folder / f"{rank}.pt"
    )
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
