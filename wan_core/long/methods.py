"""How a long video is made: the choice of a method with its own settings, and the plan that follows from it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import torch

from ..errors import InputError, check_choice
from ..sampling.sigmas import flow_sigmas, parse_timesteps, warped_sigmas
from ..words import Words, joined, words
from .moving_window import plan_moving_window
from .plan import METHODS, MOVING_WINDOW, ROLLING, SEGMENTS, Plan, Wanted
from .rolling import Window
from .rolling_video import CHANGES, RECACHE, plan_rolling
from .segments import plan_segments


@dataclass(frozen=True)
class Method:
    """A method and, but for its name, the settings of rolling.

    Attributes:
        name: one of METHODS.
        chunk_frames: latent frames that are made together.
        window_frames: latent frames that a chunk sees, itself and the sink included.
        sink_frames: latent frames at the beginning that stay in the window.
        timesteps: what a few-step model was distilled with, before its shift; "" = steps, shift and solver as for
            other models.
        timesteps_shift: their shift towards high noise.
        at_prompt_change: one of `rolling_video.CHANGES`.
        kv_budget: the share of a finished frame's keys and values that is kept.
    """

    name: str = SEGMENTS
    chunk_frames: int = 3
    window_frames: int = 21
    sink_frames: int = 0
    timesteps: str = "1000, 750, 500, 250"
    timesteps_shift: float = 5.0
    at_prompt_change: str = RECACHE
    kv_budget: float = 1.0

    @property
    def window(self) -> Window:
        """What a chunk sees."""
        return Window(self.window_frames, self.sink_frames, self.kv_budget)

    @property
    def few_steps(self) -> bool:
        """Whether a few-step model is run with its own timesteps."""
        return self.name == ROLLING and bool(self.timesteps.strip())

    def check(self) -> None:
        """Refuse a name that no method has, and a choice that no change of prompt has; `Raises: InputError`."""
        check_choice("method", self.name, METHODS)
        check_choice("at_prompt_change", self.at_prompt_change, CHANGES)

    def refuse(self, **asked: bool) -> None:
        """Refuse what the method cannot do; `Raises: InputError`.

        Args:
            asked: whether it is asked for, by name: loop, drift_control, carry_over, end_image, key_images.
        """
        cannot = {
            SEGMENTS: (),
            MOVING_WINDOW: ("loop", "drift_control", "carry_over"),
            ROLLING: ("loop", "drift_control", "carry_over", "end_image", "key_images"),
        }
        names = [name for name in cannot[self.name] if asked.get(name)]
        if names:
            able = MOVING_WINDOW if set(names) <= {"end_image", "key_images"} else SEGMENTS
            raise InputError(
                'The method "{method}" has no {names}: set it back to its default or disconnect it, or choose the '
                'method "{able}".',
                method=self.name,
                names=joined(names, " and no "),
                able=able,
            )

    def sigmas(self, steps: int, shift: float) -> torch.Tensor:
        """Return the noise schedule [steps + 1]; the arguments are of models that are not distilled."""
        if self.few_steps:
            return warped_sigmas(parse_timesteps(self.timesteps), self.timesteps_shift)
        return flow_sigmas(steps, shift)

    def solver(self, chosen: str) -> str:
        """Return the solver; `chosen`: for models that are not distilled."""
        return "lcm" if self.few_steps else chosen

    def plan(self, wanted: Wanted) -> Plan:
        """Return the plan of a video; `Raises: InputError, ScheduleError` for a method or settings without one."""
        self.check()
        if self.name == ROLLING:
            steps = len(self.sigmas(wanted.steps, 1.0)) - 1
            return plan_rolling(replace(wanted, steps=steps), self.window, self.chunk_frames)
        return plan_moving_window(wanted) if self.name == MOVING_WINDOW else plan_segments(wanted)

    def identity(self) -> dict[str, Any]:
        """Return what tells a job of this method from others; nothing for segments, as in older jobs."""
        if self.name == SEGMENTS:
            return {}
        if self.name != ROLLING:
            return {"method": self.name}
        own = asdict(self)
        if self.kv_budget == 1:  # came later: jobs that know nothing of it go on
            del own["kv_budget"]
        return {"method": own.pop("name"), **own}

    def about(self, plan: Plan, cfg: float) -> list[Words]:
        """Return what a person should know of the plan beside its numbers."""
        if self.name == MOVING_WINDOW:
            return [
                words(
                    "Moving window: each block of {block} latent frames lags {lag} steps behind the one before it. A "
                    "new prompt starts with the first block in its time; earlier blocks keep theirs.",
                    block=plan.causal_block_size,
                    lag=plan.ar_step,
                )
            ]
        if self.name == ROLLING:
            shown = [
                words(
                    "Rolling: chunks of {chunk} latent frames; base_num_frames, overlap_history, ar_step and "
                    "causal_block_size are not read.",
                    chunk=plan.causal_block_size,
                )
            ]
            if self.few_steps and cfg != 1:
                shown.append(words("cfg is {cfg:g}, but models distilled to a few steps need cfg 1.", cfg=cfg))
            return shown
        return []


def method_of(values: dict[str, Any]) -> Method:
    """Return the method with those of its settings that are among some values, by name."""
    names = {field.name for field in fields(Method)}
    return Method(**{name: value for name, value in values.items() if name in names})
