"""A run that is made part by part, each from what the one before left: the same video as in one piece, to the bit."""

from __future__ import annotations

import gc

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wan_core.sampling.known import KnownFrames
from wan_core.sampling.loop import sample
from wan_core.sampling.run import ForcingOptions, plan_rows, plan_run
from wan_core.sampling.sigmas import flow_sigmas
from wan_core.sampling.solvers import SOLVERS, adds_noise

SHAPE = (1, 2, 1, 2, 2)


def denoise(x: torch.Tensor, frame_sigmas: torch.Tensor, _row: object) -> torch.Tensor:
    """Look at all visible frames, their levels and their places, as a model does."""
    places = torch.arange(x.shape[2], dtype=x.dtype)
    mixed = x.mean(dim=2, keepdim=True) + 0.1 * places[:, None, None]
    return torch.tanh(x * (1 - frame_sigmas[:, None, None]) + 0.5 * mixed)


def random(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@st.composite
def moving_windows(draw):
    block, blocks, window = draw(st.integers(1, 3)), draw(st.integers(3, 9)), draw(st.integers(1, 3))
    steps = draw(st.integers(1, 7))
    ar_step = -(-steps // window) + draw(st.integers(0, 2))
    frames = blocks * block
    known = torch.zeros(frames, dtype=torch.bool)
    for at in draw(st.lists(st.integers(0, frames - 1), max_size=4)):
        known[at] = True
    known[: draw(st.integers(0, frames - 1))] = True
    solver = draw(st.sampled_from(list(SOLVERS)))
    options = ForcingOptions(solver, 24, ar_step, block, window_frames=window * block)
    return options, steps, known, draw(st.lists(st.integers(1, 200), max_size=4))


@settings(max_examples=150, deadline=None)
@given(moving_windows())
def test_parts_give_what_the_whole_gives(clip):
    options, steps, known, cuts = clip
    if known.all():
        known[-1] = False
    frames, sigmas = len(known), flow_sigmas(steps, 3.0)
    noise, latents, added = (random(1, 2, frames, 2, 2, seed=seed) for seed in (1, 2, 3))
    fresh = random(steps - 1, 1, 2, frames, 2, 2, seed=4) if adds_noise(options.solver) else None
    given = KnownFrames(latents, known, added)
    whole = sample(denoise, noise, plan_run(options, sigmas, frames, known), given, fresh_noise=fresh)

    rows = options.stairs(known, steps).num_rows
    ends = sorted({*(cut % rows for cut in cuts), rows} - {0})
    made, begun, behind = latents.clone(), None, 0
    for begin, end in zip([0, *ends], ends, strict=False):
        first, run = plan_rows(options, sigmas, known, range(begin, end))
        seen = slice(first, first + run.num_frames)
        if begun is not None:  # of what was left, what the window still sees
            begun = begun[:, :, :, first - behind :]
        parts = KnownFrames(latents[:, :, seen], known[seen], added[:, :, seen])
        new = None if fresh is None else fresh[:, :, :, seen]
        left: list[torch.Tensor] = []
        made[:, :, seen] = sample(
            denoise, noise[:, :, seen], run, parts, fresh_noise=new, begun=begun, left=left.append
        )
        begun, behind = left[0], first
    assert torch.equal(made, whole)


def test_the_rows_of_a_part_cost_no_more_in_a_long_video() -> None:
    options = ForcingOptions(ar_step=6, causal_block_size=5, window_frames=25)
    known = torch.zeros(1_000_000, dtype=torch.bool)
    first, run = plan_rows(options, flow_sigmas(30), known, range(600_000, 600_030))
    assert run.num_frames <= 25 + 5 * 6 and first > 499_000
    assert sum(row.end - row.start for row in run.rows) == 30 * 25


@pytest.mark.parametrize("row", [0, 7, 40])
def test_a_part_sees_what_the_whole_run_sees(row: int) -> None:
    options = ForcingOptions(ar_step=6, causal_block_size=5, window_frames=25)
    whole = plan_run(options, flow_sigmas(30), 60)
    first, part = plan_rows(options, flow_sigmas(30), torch.zeros(60, dtype=torch.bool), range(row, row + 1))
    (one,), other = part.rows, whole.rows[row]
    assert (one.start + first, one.end + first, one.sigmas) == (other.start, other.end, other.sigmas)
    assert one.steps == other.steps


def held_bytes(frames: int) -> list[int]:
    """Return the bytes of all latents that live after each row of a clip, those of the caller aside."""
    odd = (3, 7)  # no other test's latents have this height and width
    noise = torch.zeros(1, 2, frames, *odd)
    known = torch.arange(frames) == frames - 1
    given, fresh = KnownFrames(noise, known, noise), torch.zeros(4, 1, 2, frames, *odd)
    mine, counted = {tensor.untyped_storage().data_ptr() for tensor in (noise, fresh)}, []

    def count(*_: object) -> None:
        alive = [each for each in gc.get_objects() if type(each) is torch.Tensor and tuple(each.shape[-2:]) == odd]
        storages = {each.untyped_storage().data_ptr(): each.untyped_storage().nbytes() for each in alive}
        counted.append(sum(size for where, size in storages.items() if where not in mine))

    options = ForcingOptions("lcm", ar_step=2, causal_block_size=2, window_frames=6)
    sample(denoise, noise, plan_run(options, flow_sigmas(5), frames, known), given, count, fresh)
    return counted


def test_finished_frames_of_a_moving_window_and_those_to_come_take_their_own_room_and_no_more() -> None:
    short, long = 20, 120
    frame = 2 * 3 * 7 * 4  # bytes
    grown = max(held_bytes(long)) - max(held_bytes(short))
    assert grown == (long - short) * frame  # the clip itself; with all frames at hand it was six times as much


def test_the_window_works_on_a_device_while_the_clip_stays_where_its_noise_is() -> None:
    noise, options = torch.zeros(1, 2, 20, 2, 2), ForcingOptions(ar_step=3, causal_block_size=2, window_frames=4)
    run, places = plan_run(options, flow_sigmas(5), 20), set()

    def placed(x: torch.Tensor, frame_sigmas: torch.Tensor, _row: object) -> torch.Tensor:
        places.add((x.device.type, frame_sigmas.device.type, x.shape[2]))
        return x

    with pytest.raises(NotImplementedError, match="Cannot copy out of meta tensor"):  # the first finished frames
        sample(placed, noise, run, device=torch.device("meta"))
    assert places == {("meta", "meta", 4)}
