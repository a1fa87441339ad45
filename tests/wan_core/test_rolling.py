"""Rolling generation: the same video as a whole clip while the window holds it, and the same cost for ever after."""

from __future__ import annotations

import itertools

import pytest
import torch

from wan_core.config import WanConfig
from wan_core.errors import ScheduleError
from wan_core.forcing import forcing_schedule
from wan_core.kv_cache import CausalRun
from wan_core.model import WanModel
from wan_core.rolling import Window, roll_out
from wan_core.sampler import sample
from wan_core.sampling import flow_sigmas, timesteps_of

CONFIG = WanConfig(dim=48, ffn_dim=80, freq_dim=32, text_dim=24, num_heads=2, num_layers=2)
BLOCK, STEPS = 2, 4


@pytest.fixture(scope="module")
def model() -> WanModel:
    generator = torch.Generator().manual_seed(2)
    model = WanModel(CONFIG).eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.15)
        if "norm" in name and name.endswith("weight"):
            parameter += 1
    return model


CONTEXT = torch.randn(1, 8, 24, generator=torch.Generator().manual_seed(4))


def noise(blocks: int) -> torch.Tensor:
    return torch.randn(1, 16, blocks * BLOCK, 4, 4, generator=torch.Generator().manual_seed(3))


def rolled(model, blocks: int, window: Window, watch=lambda run: None) -> torch.Tensor:
    parts = []
    with torch.no_grad(), CausalRun(model, CONFIG.num_layers, BLOCK, sink_blocks=window.sink_blocks) as run:
        for made in roll_out(run, noise(blocks).split(BLOCK, dim=2), flow_sigmas(STEPS), window, context=CONTEXT):
            parts.append(made)
            watch(run)
    return torch.cat(parts, dim=2)


def relative_error(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a - b).abs().max() / b.abs().max()).item()


def test_a_window_that_holds_the_video_gives_the_clip_of_the_schedule_block_after_block(model):
    frames = 4 * BLOCK

    def denoise(x, levels, row):
        velocity = model(x, timesteps_of(levels)[None], CONTEXT, causal_block_size=BLOCK)
        return x - velocity * levels[:, None, None]

    with torch.no_grad():
        whole = sample(denoise, noise(4), flow_sigmas(STEPS), forcing_schedule(frames, STEPS, STEPS, BLOCK), "euler")
    assert relative_error(rolled(model, 4, Window(4)), whole) < 1e-4


@pytest.mark.parametrize("sink", [0, 1])
def test_work_and_memory_of_a_block_do_not_grow(model, sink):
    frames: list[int] = []

    class Counted:
        def __call__(self, x, *args, **kwargs):
            frames.append(x.shape[2])
            return model(x, *args, **kwargs)

    sizes: list[int] = []
    per_block: list[int] = []

    def watch(run):
        sizes.append(run.num_bytes)
        per_block.append(sum(frames))
        frames.clear()

    out = rolled(Counted(), 8, Window(3, sink), watch)
    assert out.isfinite().all() and out.shape[2] == 8 * BLOCK
    assert per_block == [STEPS * BLOCK] + [(STEPS + 1) * BLOCK] * 7  # the block before is computed once when finished
    assert len(set(sizes[2 + sink :])) == 1 and sizes[0] == 0
    assert max(sizes) == sizes[-1]


def test_a_window_forgets_what_has_left_it(model):
    short, long = rolled(model, 5, Window(2)), rolled(model, 5, Window(5))
    assert torch.allclose(short[:, :, : 2 * BLOCK], long[:, :, : 2 * BLOCK], atol=1e-5)
    assert relative_error(short[:, :, -BLOCK:], long[:, :, -BLOCK:]) > 1e-4


def test_a_sink_is_seen_from_any_distance(model):
    without, with_sink = rolled(model, 5, Window(2)), rolled(model, 5, Window(2, 1))
    assert relative_error(without[:, :, -BLOCK:], with_sink[:, :, -BLOCK:]) > 1e-4


def test_a_block_alone_sees_nothing_before_it(model):
    alone = rolled(model, 3, Window(1))
    first = torch.cat([rolled_from(model, number) for number in range(3)], dim=2)
    assert relative_error(alone, first) < 1e-4


def rolled_from(model, number: int) -> torch.Tensor:
    """The block of this number, made as if it were the first: without others its place in time does not matter."""
    part = noise(3)[:, :, number * BLOCK : (number + 1) * BLOCK]
    with torch.no_grad(), CausalRun(model, CONFIG.num_layers, BLOCK) as run:
        return next(roll_out(run, [part], flow_sigmas(STEPS), Window(1), context=CONTEXT))


def test_noise_may_be_endless(model):
    endless = (noise(1) for _ in itertools.count())
    with torch.no_grad(), CausalRun(model, CONFIG.num_layers, BLOCK) as run:
        blocks = roll_out(run, endless, flow_sigmas(2), Window(2), context=CONTEXT)
        assert all(next(blocks).shape == (1, 16, BLOCK, 4, 4) for _ in range(3))


@pytest.mark.parametrize(("blocks", "sink"), [(0, 0), (2, -1), (1, 1)])
def test_a_window_without_blocks_is_refused(blocks, sink):
    with pytest.raises(ScheduleError, match=f"window is {blocks} blocks and {sink} sink blocks"):
        Window(blocks, sink)
