"""Rolling generation against full attention with a mask, and the cost of a block however long the video is."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from tests.measures import relative_error
from tests.tiny import random_wan
from wan_core.errors import InputError, ScheduleError
from wan_core.long.rolling import (
    RollingCalls,
    RollingRow,
    Window,
    all_call_sigmas,
    block_noise,
    roll_out,
    split_known,
)
from wan_core.model.config import WanConfig
from wan_core.model.wan_model import WanModel
from wan_core.sampling.denoise import model_denoise
from wan_core.sampling.noise import noise_of_frames
from wan_core.sampling.sigmas import exact_timesteps, flow_sigmas, warped_sigmas

CONFIG = WanConfig(dim=48, ffn_dim=80, freq_dim=32, text_dim=24, num_heads=2, num_layers=3)
BLOCK, STEPS, SEED = 3, 4, 5
SIGMAS = warped_sigmas((1000, 750, 500, 250), 5.0)
CONTEXT = torch.randn(1, 7, 24, generator=torch.Generator().manual_seed(4))
FRAME = (1, 16, 1, 4, 4)
FRAME_TOKENS = 4


@pytest.fixture(scope="module")
def model() -> WanModel:
    return random_wan(CONFIG)


def noises(blocks: int, block: int = BLOCK, first: int = 0, solver: str = "lcm"):
    shape = (1, 16, block, 4, 4)
    for number in range(blocks):
        yield block_noise(shape, SEED, STEPS, first + number * block, solver)


def rolled(
    model, blocks: int, window: Window, watch=lambda run: None, block: int = BLOCK, known=(), solver: str = "lcm"
) -> torch.Tensor:
    parts = list(known)
    first = sum(part.shape[2] for part in known)
    with torch.no_grad(), RollingCalls(model, CONFIG.num_layers, window) as run:
        denoise = plain_denoise(run)
        for made in roll_out(denoise, noises(blocks, block, first, solver), SIGMAS, window, solver, known):
            parts.append(made)
            watch(run)
    return torch.cat(parts, dim=2)


def plain_denoise(calls):
    return model_denoise(
        lambda x, t, context, row: calls(x, t, row, context=context), CONTEXT, timesteps=exact_timesteps
    )


class MaskedModel:
    """The same weights over all frames at once, with a dense mask in every self attention: no cache, no blocks.

    Every finished frame stands in the sequence clean, at timestep 0, and sees what it saw when it was finished.
    """

    def __init__(self, window: Window):
        self.window = window
        self.mask: torch.Tensor | None = None
        self.others = torch.zeros(0, 0, dtype=torch.bool)  # [L, L]: keys of a finished block, outside of the sink
        self.model = random_wan(CONFIG, self.attention)

    def attention(self, q, k, v, heads, transformer_options=None):
        q, k, v = (tensor.unflatten(-1, (heads, -1)).transpose(1, 2) for tensor in (q, k, v))
        over_video = k.shape[2] == q.shape[2]  # cross attention looks at the text
        mask = self.mask & (~self.others | self.longest(v)) if over_video else None
        out = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return out.transpose(1, 2).flatten(2)

    def longest(self, values):
        """Bool [B, N, 1, L]: the tokens that have, in their head and frame, one of the longest values."""
        lengths = values.square().sum(-1).unflatten(2, (-1, FRAME_TOKENS))
        count = max(round(self.window.kv_budget * FRAME_TOKENS), 1)
        least = lengths.sort(dim=-1, descending=True).values[..., count - 1 : count]
        return (lengths >= least).flatten(2).unsqueeze(2)


def sees(sizes: list[int], window: Window) -> torch.Tensor:
    """Bool [F, F]: which frame may look at which, written down from the meaning of window and sink."""
    block_of = [number for number, size in enumerate(sizes) for _ in range(size)]
    ends = list(itertools.accumulate(sizes))
    frames = len(block_of)
    allowed = torch.zeros(frames, frames, dtype=torch.bool)
    for looking, seen in itertools.product(range(frames), repeat=2):
        end = ends[block_of[looking]]
        inside = end - (window.frames - window.sink_frames) <= seen < end
        allowed[looking, seen] = inside or (seen < window.sink_frames and seen < end)
    return allowed


def by_brute_force(blocks: int, window: Window, block: int = BLOCK, known=()) -> torch.Tensor:
    """The few-step loop of Self Forcing written out, every call over the whole video so far with a dense mask."""
    masked = MaskedModel(window)
    video = torch.cat(known, dim=2) if known else torch.zeros(1, 16, 0, 4, 4)
    sizes = [part.shape[2] for part in known]
    for _ in range(blocks):
        first = video.shape[2]
        sizes.append(block)
        allowed = sees(sizes, window)
        block_of = torch.tensor([number for number, size in enumerate(sizes) for _ in range(size)])
        others = (block_of[:, None] != block_of) & (torch.arange(len(block_of)) >= window.sink_frames)
        masked.mask, masked.others = (
            frames.repeat_interleave(FRAME_TOKENS, 0).repeat_interleave(FRAME_TOKENS, 1) for frames in (allowed, others)
        )
        x = noise_of_frames((1, 16, block, 4, 4), SEED, first)
        for step in range(STEPS):
            sigma, following = SIGMAS[step], SIGMAS[step + 1]
            t = torch.cat((torch.zeros(first), (1000 * sigma).expand(block)))[None]
            with torch.no_grad():
                velocity = masked.model(torch.cat((video, x), dim=2), t, CONTEXT)[:, :, first:]
            x = x - sigma * velocity
            if step < STEPS - 1:
                fresh = noise_of_frames((1, 16, block, 4, 4), SEED, first, step + 1)
                x = (1 - following) * x + following * fresh
        video = torch.cat((video, x), dim=2)
    return video


@pytest.mark.parametrize(
    ("blocks", "window", "block"),
    [
        (4, Window(12), 3), (5, Window(100), 3), (6, Window(6), 3), (6, Window(7), 3), (6, Window(3), 3),
        (7, Window(12, 3), 3), (6, Window(7, 1), 3), (6, Window(7, 4), 3), (9, Window(4), 1), (9, Window(4, 2), 1),
        (5, Window(12, 0, 0.5), 3), (6, Window(7, 1, 0.25), 3), (6, Window(7, 4, 0.7), 3), (9, Window(4, 2, 0.01), 1),
    ],
)  # fmt: skip
def test_the_video_is_that_of_masked_attention_over_all_frames(model, blocks, window, block):
    assert relative_error(rolled(model, blocks, window, block=block), by_brute_force(blocks, window, block)) < 1e-4


@pytest.mark.parametrize(("sink", "budget", "frames"), [(0, 0.5, 3.5), (1, 0.25, 1 + 6 / 4), (3, 0.5, 3 + 4 / 2)])
def test_a_budget_takes_its_share_of_the_cache_and_leaves_the_sink_whole(model, sink, budget, frames):
    held: dict[Window, list[int]] = {Window(10, sink): [], Window(10, sink, budget): []}
    for window, sizes in held.items():
        rolled(model, 6, window, lambda run, sizes=sizes: sizes.append(run.num_bytes))
    whole, part = held.values()
    a_frame = whole[-1] / 7  # what a window of 10 sees beside a block of 3
    assert [max(whole), max(part)] == [7 * a_frame, frames * a_frame]
    assert all(window.cached(18) * a_frame >= max(sizes) for window, sizes in held.items())


@pytest.mark.parametrize("budget", [0.0, -0.5, 1.01, float("nan")])
def test_a_budget_that_is_no_share_is_refused(budget):
    with pytest.raises(ScheduleError, match=r"kv_budget is .*set it above 0"):
        Window(7, 1, budget).check(3)


@pytest.mark.parametrize("frames", [1, 3, 4, 8])
def test_known_frames_are_seen_clean_from_the_first_block_on(model, frames):
    clean = torch.randn(1, 16, frames, 4, 4, generator=torch.Generator().manual_seed(8))
    known = clean.split(split_known(frames, BLOCK), dim=2)
    window = Window(7, 1)
    made = rolled(model, 4, window, known=known)
    assert torch.equal(made[:, :, :frames], clean)
    assert relative_error(made, by_brute_force(4, window, known=known)) < 1e-4


def test_what_is_over_of_known_frames_is_the_first_block():
    assert [split_known(frames, 3) for frames in (0, 1, 3, 4, 8)] == [[], [1], [3], [1, 3], [2, 3, 3]]


class Cost(TorchDispatchMode):
    """The largest tensor, and the work of attention: query tokens times the tokens that they look at."""

    def __init__(self):
        super().__init__()
        self.largest, self.pairs = 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, torch.Tensor):
                self.largest = max(self.largest, tensor.untyped_storage().nbytes())
        if "scaled_dot_product" in str(func):
            self.pairs += args[0].shape[-2] * args[1].shape[-2]
        return result


@pytest.mark.parametrize(("window", "full_after"), [(Window(9), 3), (Window(12, 3), 4), (Window(7, 1), 3)])
def test_work_and_memory_of_a_block_are_constant_once_the_window_is_full(model, window, full_after):
    cached, pairs, largest = [], [], []
    with Cost() as cost:

        def watch(run):
            cached.append(run.num_bytes)
            pairs.append(cost.pairs)
            largest.append(cost.largest)
            cost.pairs = cost.largest = 0

        rolled(model, 14, window, watch)
    per_frame = CONFIG.num_layers * FRAME_TOKENS * 2 * CONFIG.dim * 4  # keys and values in float32
    assert set(cached[full_after:]) == {(window.frames - BLOCK) * per_frame}
    assert len(set(pairs[full_after:])) == 1 and pairs[0] < pairs[full_after]
    assert len(set(largest[full_after:])) == 1
    assert max(cached) == cached[-1] and max(pairs) == pairs[-1] and max(largest) == largest[-1]


def test_a_block_is_computed_once_a_step_and_once_finished(model):
    calls: list[int] = []

    def counted(x, *args, **kwargs):
        calls.append(x.shape[2])
        return model(x, *args, **kwargs)

    rolled(counted, 5, Window(9))
    assert calls == [BLOCK] * (5 * STEPS + 4)  # nobody looks back at the last block


def test_a_longer_video_begins_as_a_shorter_one(model):
    long, short = rolled(model, 5, Window(6)), rolled(model, 3, Window(6))
    torch.testing.assert_close(long[:, :, : short.shape[2]], short)


@pytest.mark.parametrize("solver", ["unipc", "euler"])
def test_models_that_are_not_distilled_roll_with_the_solvers_of_the_ode(model, solver):
    a, b = (rolled(model, 3, Window(6), solver=name) for name in (solver, "lcm"))
    assert a.isfinite().all() and relative_error(a, b) > 1e-2


def test_noise_may_be_endless(model):
    endless = (block_noise((1, 16, BLOCK, 4, 4), SEED, STEPS, n * BLOCK, "lcm") for n in itertools.count())
    window = Window(6)
    with torch.no_grad(), RollingCalls(model, CONFIG.num_layers, window) as run:
        blocks = roll_out(plain_denoise(run), endless, SIGMAS, window)
        assert all(next(blocks).shape == (1, 16, BLOCK, 4, 4) for _ in range(4))
        assert run.num_bytes > 0
    assert run.num_bytes == 0


def test_the_callback_sees_every_step_of_every_block(model):
    seen: list[RollingRow] = []
    window = Window(6)
    with torch.no_grad(), RollingCalls(model, CONFIG.num_layers, window) as run:
        denoise = plain_denoise(run)
        list(roll_out(denoise, noises(2), SIGMAS, window, callback=lambda row, x0: seen.append(row)))
    assert [(row.block, row.step) for row in seen] == list(itertools.product(range(2), range(STEPS)))


@pytest.mark.parametrize(("known", "new"), [(0, 1), (0, 5), (2, 3), (1, 400)])
def test_one_sigma_falls_from_call_to_call(known, new):
    levels = all_call_sigmas(flow_sigmas(STEPS, 5.0).tolist(), known, new)
    assert len(levels) == known + new * (STEPS + 1) - 1
    assert all(later < earlier for earlier, later in itertools.pairwise(torch.tensor(levels).tolist()))
    assert levels[0] <= 1 and levels[-1] > 0


def test_a_model_call_that_was_left_out_is_noticed(model):
    window = Window(6)
    with torch.no_grad(), RollingCalls(model, CONFIG.num_layers, window) as run:
        denoise = plain_denoise(run)

        def lazy(x, levels, row):
            return x if row.keep else denoise(x, levels, row)

        with pytest.raises(InputError, match="holds 0 latent frames, but 3 are finished"):
            list(roll_out(lazy, noises(2), SIGMAS, window))


def test_a_model_that_is_shown_other_frames_is_noticed(model):
    run = RollingCalls(model, CONFIG.num_layers, Window(6))
    row = RollingRow(0, 3, 0, False, 0, 0)
    with pytest.raises(InputError, match="shown 2 latent frames of a chunk of 3"):
        run(torch.zeros(1, 16, 2, 4, 4), torch.zeros(1, 2), row, context=CONTEXT)


@pytest.mark.parametrize(
    ("window", "block", "words"),
    [
        (Window(2), 3, "window_frames is 2 latent frames, but the window has to hold a chunk of 3: raise it to 3"),
        (Window(5, 3), 3, "a chunk of 3 and 3 sink frames: raise it to 6"),
        (Window(5, -1), 3, "sink_frames is -1"),
        (Window(5), 0, "chunk is 0"),
    ],
)
def test_a_window_that_cannot_work_is_refused(window, block, words):
    with pytest.raises(ScheduleError, match=words):
        window.check(block)
