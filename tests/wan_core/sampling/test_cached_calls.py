"""Causal attention with a cache of finished blocks: the same video, and only the blocks at work are computed."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from tests.measures import relative_error
from tests.tiny import CountedWan
from wan_core.errors import ScheduleError
from wan_core.model.attention import block_causal, scaled_dot_product
from wan_core.model.config import WanConfig
from wan_core.model.kv_cache import LayerCache, gathered
from wan_core.sampling.cached_calls import CausalCalls, frames_at_work
from wan_core.sampling.known import KnownFrames
from wan_core.sampling.loop import sample
from wan_core.sampling.run import ForcingOptions, Row, plan_run
from wan_core.sampling.sigmas import flow_sigmas, timesteps_of

CONFIG = WanConfig(dim=48, ffn_dim=80, freq_dim=32, text_dim=24, num_heads=2, num_layers=2, inject_sample_info=True)


@pytest.fixture(scope="module")
def model() -> CountedWan:
    return CountedWan(CONFIG)


def randn(*shape: int, seed: int = 3) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@dataclass
class Made:
    """What a run made, how many frames it computed, and the most bytes that it kept after a row."""

    video: torch.Tensor
    frames: int
    bytes_after_rows: list[int]


def make(model, frames, steps, ar_step, block, cached, known=(), cfg=1.0, cfg_from_row=0, batch=1) -> Made:
    """Sample a clip; with guidance from a row on, as a node with a range for CFG does it."""
    noise, positive, negative = randn(batch, 16, frames, 4, 4), randn(batch, 8, 24, seed=4), randn(batch, 8, 24, seed=5)
    mask = torch.zeros(frames, dtype=torch.bool)
    mask[list(known)] = True
    given = KnownFrames(randn(*noise.shape, seed=6), mask, randn(*noise.shape, seed=7)) if known else None
    options = ForcingOptions(ar_step=ar_step, causal_block_size=block)
    model.frames, kept = 0, []
    with CausalCalls(model, CONFIG.num_layers, block) as run:

        def velocity(x, t, row, name, context):
            if cached:
                return run(x, t, row, name, context=context)
            return model(x, t, context, causal_block_size=block)

        def denoise(x: torch.Tensor, levels: torch.Tensor, row: Row) -> torch.Tensor:
            t = timesteps_of(levels).expand(len(x), -1)
            v = velocity(x, t, row, "cond", positive)
            if cfg != 1 and row.index >= cfg_from_row:
                unguided = velocity(x, t, row, "uncond", negative)
                v = unguided + cfg * (v - unguided)
            kept.append(run.num_bytes)
            return x - v * levels[:, None, None]

        video = sample(denoise, noise, plan_run(options, flow_sigmas(steps), frames, mask), given)
    return Made(video, model.frames, kept)


@settings(max_examples=25, deadline=None)
@given(
    blocks=st.integers(1, 4), block=st.integers(1, 3), steps=st.integers(1, 4), ar_step=st.integers(0, 5),
    known=st.sets(st.integers(0, 11), max_size=5), cfg=st.sampled_from([1.0, 4.0]), cfg_from_row=st.integers(0, 4),
)  # fmt: skip
def test_the_video_with_the_cache_is_that_without(blocks, block, steps, ar_step, known, cfg, cfg_from_row):
    model, frames = CountedWan(CONFIG), blocks * block
    known = {frame for frame in known if frame < frames}
    if len(known) == frames:
        known = set()
    a, b = (make(model, frames, steps, ar_step, block, cached, known, cfg, cfg_from_row) for cached in (True, False))
    assert relative_error(a.video, b.video) < 1e-4
    assert a.frames <= b.frames


def test_a_last_block_may_be_short_when_all_frames_go_together(model):
    a, b = (make(model, 7, 3, 0, 3, cached, known=(0, 1, 2, 3)) for cached in (True, False))
    assert relative_error(a.video, b.video) < 1e-4
    assert (a.frames, b.frames) == (3 + 3 * 4, 3 * 7)


def test_two_clips_at_once_equal_the_uncached_two(model):
    a, b = (make(model, 6, 3, 2, 2, cached, batch=2) for cached in (True, False))
    assert relative_error(a.video, b.video) < 1e-4


def test_every_block_is_computed_once_a_step_and_once_finished(model):
    block, steps = 5, 30
    a, b = (make(model, 25, steps, 5, block, cached) for cached in (True, False))
    assert relative_error(a.video, b.video) < 1e-4
    assert b.frames == 50 * 25  # 50 rows of five blocks
    assert a.frames == (5 * steps + 4) * block  # nobody looks back at the last block


def test_a_call_that_failed_half_way_can_be_made_again(monkeypatch):
    whole = make(CountedWan(CONFIG), 8, 3, 2, 2, True)
    model, failures = CountedWan(CONFIG), 0
    last = model.model.blocks[-1].ffn

    def fail_at_first(module, inputs):  # when every layer has kept its part of what has just been finished
        nonlocal failures
        failures += 1
        if failures % 2:
            raise MemoryError

    last.register_forward_pre_hook(fail_at_first)
    call = CausalCalls.__call__

    def twice(self, *args, **kwargs):
        with pytest.raises(MemoryError):
            call(self, *args, **kwargs)
        return call(self, *args, **kwargs)

    monkeypatch.setattr(CausalCalls, "__call__", twice)
    again = make(model, 8, 3, 2, 2, True)
    assert relative_error(again.video, whole.video) < 1e-5
    assert again.frames == 2 * whole.frames
    assert again.bytes_after_rows == whole.bytes_after_rows


@pytest.mark.parametrize(("ar_step", "known"), [(1, 0), (2, 0), (2, 3), (5, 4)])
def test_the_most_frames_at_work_are_foretold(monkeypatch, ar_step, known):
    model, computed = CountedWan(CONFIG), []
    forward = model.model.forward
    monkeypatch.setattr(model.model, "forward", lambda x, *a, **k: computed.append(x.shape[2]) or forward(x, *a, **k))
    make(model, 10, 4, ar_step, 2, True, known=range(known))
    mask = torch.arange(10) < known
    run = plan_run(ForcingOptions(ar_step=ar_step, causal_block_size=2), flow_sigmas(4), 10, mask)
    assert frames_at_work(run.rows, 2) == max(computed)


def test_a_cache_can_move_in_the_middle_of_a_run(monkeypatch):
    whole = make(CountedWan(CONFIG), 8, 3, 2, 2, True)
    call, devices = CausalCalls.__call__, []

    def moving(self, x, t, row, *args, **kwargs):
        if row.index == 6:
            self.move(torch.device("cpu"))
        devices.append({part.device for cache in self.caches.values() for part in cache.parts})
        return call(self, x, t, row, *args, **kwargs)

    monkeypatch.setattr(CausalCalls, "__call__", moving)
    assert relative_error(make(CountedWan(CONFIG), 8, 3, 2, 2, True).video, whole.video) < 1e-6
    assert devices[5:7] == [{None}, {torch.device("cpu")}]


def test_known_blocks_are_computed_once(model):
    made = make(model, 10, 4, 0, 2, True, known=(0, 1, 2, 3))
    assert made.frames == 4 + 4 * 6


def test_cond_and_uncond_have_their_own_keys_and_values(model):
    one, two = make(model, 6, 3, 3, 2, True), make(model, 6, 3, 3, 2, True, cfg=4.0)
    token_bytes = 2 * CONFIG.dim * 4  # keys and values in float32
    per_frame = CONFIG.num_layers * 4 * token_bytes  # four tokens
    assert max(one.bytes_after_rows) == 4 * per_frame
    assert max(two.bytes_after_rows) == 8 * per_frame


def test_keys_and_values_may_lie_on_another_device():
    run = CausalCalls(CountedWan(CONFIG), CONFIG.num_layers, 2, device=torch.device("meta"))
    run(randn(1, 16, 4, 4, 4), torch.zeros(1, 4), At(0, 2, 4), context=randn(1, 8, 24))
    assert {block.device.type for part in run.caches[None].parts for block in part.blocks} == {"meta"}


@pytest.mark.parametrize("batch", [1, 2])
def test_what_is_gathered_is_what_torch_would_join(batch):
    parts = [randn(batch, length, 6, seed=length) for length in (4, 4, 3, 7)]
    assert torch.equal(gathered(parts), torch.cat(parts, dim=1))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no second device")
def test_a_cache_in_main_memory_gives_the_bits_of_one_on_the_device():
    layers = [LayerCache(device) for device in (None, torch.device("cpu"))]
    for number in range(3):
        x = randn(2, 12, 6, seed=number).cuda()
        for layer in layers:
            layer.keys.new_blocks = 2
        near, far = (layer.keys.extend(x, 4) for layer in layers)
        assert near.shape[1] == 12 + 8 * number and torch.equal(near, far)
    assert {block.device.type for block in layers[1].keys.blocks} == {"cpu"}


def test_nothing_is_kept_when_a_run_ends_in_an_error(model):
    run = CausalCalls(model, CONFIG.num_layers, 2)
    with pytest.raises(KeyboardInterrupt), run:
        run(randn(1, 16, 4, 4, 4), torch.zeros(1, 4), At(0, 2, 4), context=randn(1, 8, 24))
        assert run.num_bytes > 0
        raise KeyboardInterrupt
    assert run.num_bytes == 0


@dataclass
class At:
    """A row of a schedule, as far as the cache asks for it."""

    start: int
    finished: int
    busy_end: int


@pytest.mark.parametrize("sink", [0, 1])
def test_rolling_on_for_ever_costs_the_same_for_every_block(model, sink):
    """Block after block, one step each: after the window is full neither memory nor work grows."""
    block, window, context = 2, 3, randn(1, 8, 24)
    sizes, frames, looked_at = [], [], []
    run = CausalCalls(model, CONFIG.num_layers, block, sink_blocks=sink)
    for number in range(9):
        first = number * block
        start = max(first - (window - 1) * block, 0)
        for finished in (first, first + block):  # one step, then once finished for those that follow
            before = model.frames
            x = randn(1, 16, first + block - start, 4, 4, seed=number)
            out = run(x, torch.zeros(1, x.shape[2]), At(start, finished, first + block), context=context)
            assert out.isfinite().all()
            frames.append(model.frames - before)
        sizes.append(run.num_bytes)
        looked_at.append(len(run.caches[None].parts[0].blocks))
    assert set(frames) == {block}
    assert looked_at == [min(n, window + (sink if n > window else 0)) for n in range(1, 10)]
    assert len(set(sizes[window + sink - 1 :])) == 1


def test_what_has_left_the_window_is_not_seen_but_the_sink_is(model):
    block, context = 2, randn(1, 8, 24)

    def last_block(sink: int, seed: int) -> torch.Tensor:
        run = CausalCalls(model, CONFIG.num_layers, block, sink_blocks=sink)
        for number in range(4):
            x = randn(1, 16, block, 4, 4, seed=seed if number == 0 else number + 10)
            start, first = number * block if number == 0 else (number - 1) * block, number * block
            video = torch.cat((torch.zeros(1, 16, first - start, 4, 4), x), dim=2)
            out = run(video, torch.zeros(1, video.shape[2]), At(start, first + block, first + block), context=context)
        return out[:, :, -block:]

    # through the block between them the last one still knows of the first: compare how much
    forgotten = (last_block(0, 1) - last_block(0, 2)).abs().max()
    remembered = (last_block(1, 1) - last_block(1, 2)).abs().max()
    assert remembered > forgotten


def test_a_block_size_below_one_is_refused(model):
    with pytest.raises(ScheduleError, match="causal_block_size is 0"):
        CausalCalls(model, 2, 0)


class LargestTensor(TorchDispatchMode):
    """Notes how many values the largest tensor has that any operation makes."""

    def __init__(self):
        super().__init__()
        self.values = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, torch.Tensor):
                self.values = max(self.values, tensor.untyped_storage().nbytes() // tensor.element_size())
        return result


def test_fifty_thousand_tokens_need_no_tensor_of_tokens_by_tokens():
    config = WanConfig(dim=8, ffn_dim=16, freq_dim=8, text_dim=8, num_heads=1, num_layers=1)
    frames, height, width, block = 25, 80, 100, 1
    tokens = frames * (height // 2) * (width // 2)
    assert tokens == 50_000
    model = CountedWan(config)
    with LargestTensor() as largest:
        out = model(
            randn(1, 16, frames, height, width), torch.zeros(1, frames), randn(1, 4, 8), causal_block_size=block
        )
    assert out.isfinite().all()
    assert largest.values <= tokens * 64  # the patches: 16 channels of 2 x 2; tokens by tokens would be 50,000 each


def test_the_check_of_the_largest_tensor_sees_one_of_tokens_by_tokens():
    q = randn(1, 200, 8)
    with LargestTensor() as lean:
        block_causal(scaled_dot_product, q, q, q, 1, 50)
    with LargestTensor() as dense:
        torch.softmax(q @ q.transpose(1, 2), dim=-1) @ q
    assert lean.values < 200 * 200 <= dense.values


@pytest.mark.parametrize(("cached_tokens", "block"), [(0, 4), (4, 4), (8, 2), (6, 3)])
def test_queries_behind_cached_keys_see_what_a_mask_would_show_them(cached_tokens, block):
    length, width = 12, 16
    q, k, v = (randn(2, length, width, seed=seed) for seed in (1, 2, 3))
    got = block_causal(scaled_dot_product, q[:, cached_tokens:], k, v, 2, block)
    number = torch.arange(length) // block
    mask = number[:, None] >= number[None, :]
    heads = (tensor.unflatten(-1, (2, -1)).transpose(1, 2) for tensor in (q, k, v))
    expected = torch.nn.functional.scaled_dot_product_attention(*heads, attn_mask=mask)
    torch.testing.assert_close(got, expected.transpose(1, 2).flatten(2)[:, cached_tokens:])


def test_the_bytes_of_a_cache_are_those_of_its_tensors(model):
    run = CausalCalls(model, CONFIG.num_layers, 2)
    run(randn(1, 16, 4, 4, 4), torch.zeros(1, 4), At(0, 2, 4), context=randn(1, 8, 24))
    tokens_kept, values_per_token = 2 * 4, 2 * CONFIG.dim
    assert run.num_bytes == CONFIG.num_layers * prod((tokens_kept, values_per_token, 4))
