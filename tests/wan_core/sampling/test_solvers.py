"""The coefficient tables against diffusers' scheduler objects, one object per frame as the release uses them."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FlowMatchLCMScheduler, UniPCMultistepScheduler
from hypothesis import given, settings
from hypothesis import strategies as st

from wan_core.errors import ScheduleError
from wan_core.long.rolling import block_noise
from wan_core.sampling.loop import sample
from wan_core.sampling.run import ForcingOptions, plan_run
from wan_core.sampling.sigmas import flow_sigmas, warped_sigmas
from wan_core.sampling.solvers import SOLVERS, Solver, SolverState, adds_noise, check_solver, make_solver, tables

SHAPE = (2, 3, 4, 2, 2)  # four frames
OF_THE_ODE = [name for name in SOLVERS if not adds_noise(name)]


def velocities(steps: int) -> torch.Tensor:
    return torch.randn(steps, *SHAPE, generator=torch.Generator().manual_seed(steps), dtype=torch.float64)


def fresh(steps: int) -> torch.Tensor:
    return torch.randn(steps - 1, *SHAPE, generator=torch.Generator().manual_seed(99), dtype=torch.float64)


def solved(name: str, sigmas: torch.Tensor, starts: list[int]) -> torch.Tensor:
    """Run every frame from its own first row (rising) on, so that frames are at different steps in one call."""
    steps = len(sigmas) - 1
    x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    state = SolverState(make_solver(name, sigmas), x, fresh(steps) if adds_noise(name) else None)
    at = torch.arange(len(starts))
    for row in range(steps + max(starts)):
        index = row - torch.tensor(starts)
        busy = at[(index >= 0) & (index < steps)]
        if not len(busy):
            continue
        frames = slice(int(busy[0]), int(busy[-1]) + 1)
        index = index[frames]
        velocity = velocities(steps)[index, :, :, at[frames]].movedim(0, 2)
        x0 = x[:, :, frames] - sigmas[index].double()[:, None, None] * velocity
        state.step(x, x0, index, frames)
    return x


def by_objects(scheduler_of_steps, sigmas: torch.Tensor) -> torch.Tensor:
    """The release's way: a scheduler per frame, whose samples are views of the clip."""
    steps = len(sigmas) - 1
    x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for frame in range(SHAPE[2]):
        scheduler = scheduler_of_steps()
        for step in range(steps):
            velocity = velocities(steps)[step][:, :, frame]
            x[:, :, frame] = scheduler.step(velocity, scheduler.timesteps[step], x[:, :, frame], return_dict=False)[0]
    return x


def unipc(sigmas: torch.Tensor) -> UniPCMultistepScheduler:
    scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=1.0)
    scheduler.set_timesteps(len(sigmas) - 1)
    scheduler.sigmas = sigmas.clone()
    return scheduler


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 12, 30])
@pytest.mark.parametrize("shift", [1.0, 5.0, 8.0])
def test_unipc_equals_a_scheduler_object_per_frame(steps, shift):
    sigmas = flow_sigmas(steps, shift)
    expected = by_objects(lambda: unipc(sigmas), sigmas)
    got = solved("unipc", sigmas, [0, 0, 1, 3])
    assert ((got - expected).abs().max() / expected.abs().max()) < 1e-5


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 12, 30])
def test_plain_unipc_equals_a_scheduler_whose_samples_are_its_own(steps):
    sigmas = flow_sigmas(steps, 5.0)
    scheduler = unipc(sigmas)
    x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for step in range(steps):
        x = scheduler.step(velocities(steps)[step], scheduler.timesteps[step], x, return_dict=False)[0]
    got = solved("unipc_plain", sigmas, [0, 0, 0, 0])
    assert ((got - x).abs().max() / x.abs().max()) < 1e-5


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_euler_equals_diffusers_euler(steps):
    sigmas = flow_sigmas(steps, 5.0)

    def scheduler() -> FlowMatchEulerDiscreteScheduler:
        scheduler = FlowMatchEulerDiscreteScheduler()
        scheduler.set_timesteps(sigmas=sigmas[:-1].tolist())
        return scheduler

    expected = by_objects(scheduler, sigmas)
    torch.testing.assert_close(solved("euler", sigmas, [0, 0, 1, 2]), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_lcm_equals_diffusers_lcm(steps, monkeypatch):
    sigmas = warped_sigmas([1000, 750, 500, 250][:steps], 5.0)
    drawn = iter([noise[:, :, frame].float() for frame in range(SHAPE[2]) for noise in [*fresh(steps), fresh(2)[0]]])
    module = "diffusers.schedulers.scheduling_flow_match_lcm.randn_tensor"
    monkeypatch.setattr(module, lambda *args, **kwargs: next(drawn))

    def scheduler() -> FlowMatchLCMScheduler:
        scheduler = FlowMatchLCMScheduler()
        scheduler.set_timesteps(sigmas=sigmas[:-1].tolist())
        return scheduler

    expected = by_objects(scheduler, sigmas)
    torch.testing.assert_close(solved("lcm", sigmas, [0, 0, 1, 2]), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("given", [None, torch.zeros(2, *SHAPE)])
def test_lcm_without_its_noise_is_refused(given):
    seen = "there is none" if given is None else r"some of the shape \[2, 2, 3, 4, 2, 2\]"
    with pytest.raises(ScheduleError, match=r"fresh noise of the shape \[3, 2, 3, 4, 2, 2\] between .* " + seen):
        SolverState(make_solver("lcm", flow_sigmas(4)), torch.zeros(SHAPE), given)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(list(SOLVERS)), st.integers(1, 20), st.floats(0.5, 12), st.booleans())
def test_a_constant_prediction_is_reached_exactly(name, steps, shift, from_one):
    sigmas = flow_sigmas(steps, shift)
    if from_one:
        sigmas[0] = 1.0  # ComfyUI's own schedulers begin there
    solver = make_solver(name, sigmas)
    assert solver.corrector.isfinite().all() and solver.predictor.isfinite().all()
    x, target = torch.randn(1, 2, 3, 2, 2), torch.full((1, 2, 3, 2, 2), 0.7)
    state = SolverState(solver, x, torch.randn(steps - 1, *x.shape) if adds_noise(name) else None)
    for step in range(steps):
        state.step(x, target, torch.full((3,), step), slice(0, 3))
    torch.testing.assert_close(x, target)


@pytest.mark.parametrize("name", OF_THE_ODE)
def test_more_steps_come_nearer_to_the_true_flow(name):
    """The velocity of a Gaussian of width s at the origin is known, and so is where its flow ends."""
    width = 0.5

    def error(steps: int) -> float:
        sigmas = flow_sigmas(steps, 1.0).double()
        x = torch.ones(1, 1, 1, 1, 1, dtype=torch.float64) * 2
        state = SolverState(make_solver(name, sigmas), x)
        for step in range(steps):
            sigma = sigmas[step]
            alpha = 1 - sigma
            x0 = x * alpha * width**2 / (alpha**2 * width**2 + sigma**2)
            state.step(x, x0, torch.tensor([step]), slice(0, 1))
        first = sigmas[0]
        start = ((1 - first) ** 2 * width**2 + first**2).sqrt()
        return abs(x.item() - 2 * width / start.item())

    assert error(64) < error(16) / 2 < error(4)


@pytest.mark.parametrize("name", SOLVERS)
def test_tables_are_in_single_precision_whatever_is_usual(name):
    expected, usual = make_solver(name, flow_sigmas(4, 5.0)), torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        made = make_solver(name, flow_sigmas(4, 5.0))
    finally:
        torch.set_default_dtype(usual)
    parts = [part for part in vars(made).values() if isinstance(part, torch.Tensor)]
    assert len(parts) >= 2 and {part.dtype for part in parts} == {torch.float32}
    assert all(torch.equal(part, vars(expected)[at]) for at, part in vars(made).items() if part is not None)


def test_an_unknown_solver_is_refused():
    with pytest.raises(ScheduleError, match='solver is "heun"'):
        make_solver("heun", flow_sigmas(4))


def test_a_solver_is_one_function_and_one_entry_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restarting from x0 and fresh noise of half the amount: it adds noise, and nobody else has to know its name."""

    def half_fresh(sigmas: list[float]) -> Solver:
        rest = [(later / earlier / 2, 1 - later / 2 - later / earlier / 2) for earlier, later in pairwise(sigmas)]
        return tables([(*pair, 0.0) for pair in rest], renoise=[later / 2 for later in sigmas[1:]])

    monkeypatch.setitem(SOLVERS, "half_fresh", half_fresh)
    check_solver("half_fresh")
    assert adds_noise("half_fresh")
    clip, frames = torch.randn(1, 2, 6, 2, 2), 6
    run = plan_run(ForcingOptions("half_fresh", ar_step=2, causal_block_size=2), flow_sigmas(5), frames)
    fresh = torch.randn(4, *clip.shape)
    made = sample(lambda x, s, row: clip[:, :, row.start : row.end], torch.randn(clip.shape), run, fresh_noise=fresh)
    torch.testing.assert_close(made, clip)
    assert block_noise((1, 2, 2, 2, 2), 1, 5, 0, "half_fresh").fresh is not None
