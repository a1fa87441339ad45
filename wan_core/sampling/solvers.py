"""Solvers of the probability-flow ODE as coefficient tables, so that every frame can be at a step of its own.

All frames share one sigma table, so a step of a linear multistep solver is the same few numbers for every frame that
makes it: the update of a whole clip is one gather of coefficients and a handful of multiply-adds, with no object per
frame and nothing read back from the device.

Sources: Zhao et al. 2023, UniPC (order 2, B(h) = expm1(h), data prediction) as used for flow matching by the
SkyReels-V2 release; Euler as in Karras et al. 2022; consistency sampling as in Song et al. 2023 and Luo et al. 2023
(LCM), with flow matching's noising: x0 is predicted, and fresh noise brings it to the next level.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch

from ..errors import ScheduleError
from ..words import words

LAST_ALPHA = 1e-12  # at sigma 1 nothing of the video is left: the limit of the formulas is taken here


@dataclass(frozen=True)
class Solver:
    """Coefficients for every step, float32.

    A step corrects the sample once the model has seen it, then predicts the next one:

        corrected = c0 * sample + c1 * last_sample + c2 * x0 + c3 * x0[-1] + c4 * x0[-2]
        next      = p0 * corrected + p1 * x0 + p2 * x0[-1] + renoise * fresh noise

    Attributes:
        corrector: [steps, 5]; (1, 0, 0, 0, 0) leaves the sample as it is.
        predictor: [steps, 3].
        renoise: [steps], how much fresh noise is added after a step; None for the solvers of the ODE, which add none.
    """

    corrector: torch.Tensor
    predictor: torch.Tensor
    renoise: torch.Tensor | None = None


def check_solver(name: str) -> None:
    """Refuse a name that no solver has; `Raises: ScheduleError`."""
    if name not in SOLVERS:
        raise ScheduleError(
            'The solver is "{name}", but it has to be one of {solvers}: choose one of them.',
            name=name,
            solvers=", ".join(SOLVERS),
        )


def make_solver(name: str, sigmas: torch.Tensor) -> Solver:
    """Compute the tables of a solver, in float64 on the CPU.

    Args:
        name: one of SOLVERS.
        sigmas: [steps + 1], falling to 0.

    Returns:
        The tables.

    Raises:
        ScheduleError: no such solver.
    """
    check_solver(name)
    return SOLVERS[name](sigmas.cpu().double().tolist())  # in this order: not every device has float64


def adds_noise(name: str) -> bool:
    """Say whether a solver adds fresh noise between its steps, so that some has to be drawn for it."""
    return SOLVERS[name]([1.0, 0.5, 0.0]).renoise is not None


def tables(
    predictor: Sequence[Sequence[float]],
    corrector: Sequence[Sequence[float]] | None = None,
    renoise: Sequence[float] | None = None,
) -> Solver:
    """Return a solver of these coefficients, a row for each step; without a corrector samples stay as they are."""
    corrector = corrector or [UNCHANGED] * len(predictor)
    added = None if renoise is None else torch.tensor(renoise, dtype=torch.float32)
    return Solver(torch.tensor(corrector, dtype=torch.float32), torch.tensor(predictor, dtype=torch.float32), added)


def euler(sigmas: list[float]) -> Solver:
    """Return Euler's tables: a straight line towards x0."""
    left = [later / earlier for earlier, later in pairwise(sigmas)]
    return tables([(rest, 1 - rest, 0.0) for rest in left])


def lcm(sigmas: list[float]) -> Solver:
    """Return the tables of consistency sampling: x0, brought to the next level by fresh noise."""
    return tables([(0.0, 1 - sigma, 0.0) for sigma in sigmas[1:]], renoise=sigmas[1:])


def unipc(sigmas: list[float]) -> Solver:
    """Return UniPC's tables as the diffusion-forcing program of the release and diffusers make them."""
    steps = range(len(sigmas) - 1)
    corrector = [UNCHANGED, *(unipc_corrector(sigmas, step) for step in steps[1:])]
    return tables([unipc_predictor(sigmas, step) for step in steps], corrector)


def unipc_plain(sigmas: list[float]) -> Solver:
    """Return UniPC's tables as the release's T2V and I2V programs make them: step 1 corrects from the last sample."""
    made = unipc(sigmas)
    if len(sigmas) > 2:
        made.corrector[1, :2] = made.corrector[1, :2].flip(0)
    return made


UNCHANGED = (1.0, 0.0, 0.0, 0.0, 0.0)


def log_snr(sigma: float) -> float:
    """Return lambda = log(alpha / sigma) with alpha = 1 - sigma, finite at sigma 1."""
    return math.log(max(1 - sigma, LAST_ALPHA)) - math.log(sigma)


def unipc_predictor(sigmas: list[float], step: int) -> tuple[float, float, float]:
    """Return the coefficients of sample, x0 and x0[-1] for the step from sigmas[step] to sigmas[step + 1]."""
    if sigmas[step + 1] == 0:
        return 0.0, 1.0, 0.0  # h is infinite: all that is left is x0
    now, then = log_snr(sigmas[step]), log_snr(sigmas[step + 1])
    h = then - now
    base = -(1 - sigmas[step + 1]) * math.expm1(-h)
    ahead = 0.0
    if step > 0:  # the first step is of first order, and so is the last, which ended above
        ratio = (log_snr(sigmas[step - 1]) - now) / h
        ahead = 0.5 * base / ratio  # the weight of (x0[-1] - x0)
    return sigmas[step + 1] / sigmas[step], base - ahead, ahead


def unipc_corrector(sigmas: list[float], step: int) -> tuple[float, float, float, float, float]:
    """Return the coefficients that make the sample at sigmas[step] again, now that its x0 is known.

    They belong to sample, last sample, x0, x0[-1] and x0[-2].

    At step 1 the release corrects from the sample itself: its scheduler remembers the first sample as a view of the
    latents, which the step has overwritten by then. diffusers' pipeline does the same, and the settings people know
    were found with it, so it is kept. The T2V and I2V programs do not have it: see `unipc_plain`.
    """
    before, now = log_snr(sigmas[step - 1]), log_snr(sigmas[step])
    h = now - before
    base = -(1 - sigmas[step]) * math.expm1(-h)
    rest = sigmas[step] / sigmas[step - 1]
    if step == 1:
        return rest, 0.0, 0.5 * base, 0.5 * base, 0.0
    ratio = (log_snr(sigmas[step - 2]) - before) / h
    # the two order conditions [[1, 1], [ratio, 1]] rho = (b1, b2), solved by hand
    hh, phi1 = -h, math.expm1(-h)
    phi2 = phi1 / hh - 1
    b1, b2 = phi2 / phi1, (phi2 / hh - 0.5) * 2 / phi1
    rho_past = (b1 - b2) / (1 - ratio)
    rho_new = b1 - rho_past
    past, new = base * rho_past / ratio, base * rho_new
    return 0.0, rest, new, base - past - new, past


SOLVERS: dict[str, Callable[[list[float]], Solver]] = {
    "unipc": unipc,
    "euler": euler,
    "unipc_plain": unipc_plain,
    "lcm": lcm,
}


class SolverState:
    """The samples and predictions that one run has to remember; it dies with the run.

    Args:
        solver: the tables.
        like: the latent video [B, C, F, H, W] that is solved; gives shape, dtype and device.
        fresh_noise: unit normal [steps - 1, B, C, F, H, W], what "lcm" adds after each step but the last; other
            solvers need none.

    Raises:
        ScheduleError: fresh noise of another shape, or none where the solver adds some.
    """

    def __init__(self, solver: Solver, like: torch.Tensor, fresh_noise: torch.Tensor | None = None):
        self.renoise: torch.Tensor | None = None
        self.fresh_noise = like.new_zeros(0)
        steps = len(solver.predictor)
        if solver.renoise is not None and steps > 1:  # the only step of one ends at x0
            wanted = [steps - 1, *like.shape]
            if fresh_noise is None or list(fresh_noise.shape) != wanted:
                given = words("none")
                if fresh_noise is not None:
                    given = words("some of the shape {shape}", shape=list(fresh_noise.shape))
                raise ScheduleError(
                    "This solver adds fresh noise of the shape {wanted} between its steps, but there is {given}: "
                    "draw it with the noise of the run.",
                    wanted=wanted,
                    given=given,
                )
            self.renoise = solver.renoise.to(like)
            self.fresh_noise = fresh_noise.to(like)
        self.frame_numbers = torch.arange(like.shape[2], device=like.device)
        self.corrector = solver.corrector.to(like)
        self.predictor = solver.predictor.to(like)
        self.last_sample = torch.zeros_like(like)
        self.x0_1 = torch.zeros_like(like)  # the prediction of the step before
        self.x0_2 = torch.zeros_like(like)  # and of the one before that

    @property
    def memory(self) -> tuple[torch.Tensor, ...]:
        """What is remembered of every frame, three tensors [B, C, F, H, W]."""
        return self.last_sample, self.x0_1, self.x0_2

    def recall(self, memory: torch.Tensor) -> None:
        """Go on from what was remembered of the first frames [3, B, C, f, H, W]."""
        for mine, given in zip(self.memory, memory, strict=True):
            mine[:, :, : given.shape[2]] = given.to(mine)

    def move_on(self, gone: int, new: int, fresh_noise: torch.Tensor | None) -> None:
        """Forget the first frames and take up others after the last.

        Args:
            gone: how many are forgotten.
            new: how many are taken up.
            fresh_noise: as the solver is made with, of the frames that there are now.
        """
        self.last_sample, self.x0_1, self.x0_2 = (
            torch.cat((kept[:, :, gone:], torch.zeros_like(kept[:, :, :1]).expand(-1, -1, new, -1, -1)), dim=2)
            for kept in self.memory
        )
        self.frame_numbers = torch.arange(self.x0_1.shape[2], device=self.x0_1.device)
        if self.renoise is not None and fresh_noise is not None:
            self.fresh_noise = fresh_noise

    def step(self, sample: torch.Tensor, x0: torch.Tensor, index: torch.Tensor, frames: slice) -> None:
        """Move frames one step on, in place.

        Args:
            sample: the latent video [B, C, F, H, W]; `frames` of it are changed.
            x0: the model's prediction for these frames [B, C, f, H, W].
            index: int64 [f], the step (0-based) that each of them makes.
            frames: which frames; every one of them makes a step.
        """
        c0, c1, c2, c3, c4 = per_frame(self.corrector[index])
        p0, p1, p2 = per_frame(self.predictor[index])
        now, last = sample[:, :, frames], self.last_sample[:, :, frames]
        x0_1, x0_2 = self.x0_1[:, :, frames], self.x0_2[:, :, frames]
        corrected = c0 * now + c1 * last + c2 * x0 + c3 * x0_1 + c4 * x0_2
        now.copy_(p0 * corrected + p1 * x0 + p2 * x0_1)
        if self.renoise is not None:
            (amount,) = per_frame(self.renoise[index][:, None])
            rows = index.clamp(max=len(self.fresh_noise) - 1)  # the amount after the last step is 0
            fresh = self.fresh_noise[rows, :, :, self.frame_numbers[frames]]  # [f, B, C, H, W]
            now.add_(amount * fresh.movedim(0, 2))
        last.copy_(corrected)
        x0_2.copy_(x0_1)
        x0_1.copy_(x0)


def per_frame(coefficients: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Split [f, n] coefficients into n tensors [f, 1, 1] that meet the frames of [B, C, f, H, W]."""
    return coefficients[:, :, None, None].unbind(1)
