"""A whole clip under causal attention, block after block: with the cache of finished blocks and without."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from wan_core.model.wan_model import WanModel
from wan_core.sampling.cached_calls import CausalCalls
from wan_core.sampling.denoise import model_denoise
from wan_core.sampling.loop import sample
from wan_core.sampling.run import ForcingOptions, Row, plan_run
from wan_core.sampling.sigmas import flow_sigmas

from .cases import Case, inputs
from .contenders import our_model


@dataclass(frozen=True)
class Clip:
    """Which clip: steps of a frame, and how many of them a block lags behind the one before it."""

    size: str = "small"
    steps: int = 30
    ar_step: int = 5
    dtype: str = "float32"
    device: str = "cpu"

    @property
    def case(self) -> Case:
        """Model and latents."""
        return Case(self.size, "block-causal", self.dtype, self.device)


@dataclass(frozen=True)
class ClipResult:
    """Block-forwards, seconds and agreement of the two ways; `error` is relative to the largest value."""

    title: str
    blocks_without: int
    blocks_with: int
    seconds_without: float
    seconds_with: float
    error: float
    cache_bytes: int

    @property
    def ratio(self) -> float:
        """Time with the cache over time without."""
        return self.seconds_with / self.seconds_without


class CountedModel:
    """A WanModel that counts how many causal blocks it computes; the latents stay in float32 whatever its dtype."""

    def __init__(self, model: WanModel):
        self.model = model
        self.blocks = 0

    def __call__(self, x: Tensor, t: Tensor, context: Tensor, causal_block_size: int, **inputs: object) -> Tensor:
        """Return the velocity."""
        self.blocks += -(-x.shape[2] // causal_block_size)
        velocity = self.model(x.to(context), t, context, causal_block_size=causal_block_size, **inputs)
        return velocity.to(x)


def run_clip(clip: Clip, model: CountedModel, cached: bool) -> tuple[Tensor, int]:
    """Return the clip's latents and the bytes that the cache held at the end."""
    case = clip.case
    given = inputs(case)
    options = ForcingOptions(ar_step=clip.ar_step, causal_block_size=case.block)
    run = plan_run(options, flow_sigmas(clip.steps), case.shape.latent[0])
    with CausalCalls(model, case.shape.config.num_layers, case.block) as calls, torch.no_grad():

        def velocity(x: Tensor, t: Tensor, context: Tensor, row: Row) -> Tensor:
            if cached:
                return calls(x, t, row, context=context)
            return model(x, t, context, causal_block_size=case.block)

        return sample(model_denoise(velocity, given.context), given.x.float(), run), calls.num_bytes


def measure_clip(clip: Clip, clock: Callable[[], float] = time.perf_counter) -> ClipResult:
    """Sample a clip both ways and compare."""
    model = our_model(clip.case)
    with torch.no_grad():
        model(*vars(inputs(clip.case)).values(), causal_block_size=clip.case.block)  # warm up
    seconds, counted, videos, cache_bytes = {}, {}, {}, 0
    for cached in (False, True):
        counted[cached] = CountedModel(model)
        begin = clock()
        videos[cached], cache_bytes = run_clip(clip, counted[cached], cached)
        seconds[cached] = clock() - begin
    error = (videos[True] - videos[False]).abs().max() / videos[False].abs().max()
    return ClipResult(
        f"{clip.case.shape.latent[0]} latent frames, {clip.steps} steps, ar_step {clip.ar_step}, block "
        f"{clip.case.block}; {clip.case.title}",
        counted[False].blocks,
        counted[True].blocks,
        seconds[False],
        seconds[True],
        error.item(),
        cache_bytes,
    )
