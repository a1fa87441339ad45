"""One sampling run through core's guider: what starts it, and its model calls with a noise level for every frame."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import comfy.conds
import comfy.samplers
import comfy.utils
import torch

from ...finite import FiniteWatch
from ...words import Words
from ..model.transformer import CACHED_CALLS
from .frame_noise import set_frame_sigmas
from .host_calls import HostCachedCalls
from .memory_ladder import MemoryLadder


@dataclass(frozen=True)
class Guidance:
    """What a run is guided by.

    Attributes:
        model: a MODEL (ModelPatcher) of Wan 2.1 kind.
        positive: CONDITIONING of the prompt.
        negative: CONDITIONING of the negative prompt; not computed at cfg 1, where it may be None.
        cfg: guidance scale.
    """

    model: Any
    positive: list[Any]
    negative: list[Any] | None
    cfg: float

    def run(
        self,
        sampler: comfy.samplers.Sampler,
        noise: torch.Tensor,
        sigmas: torch.Tensor,
        seed: int,
        latent: torch.Tensor | None = None,
        **given: Any,
    ) -> torch.Tensor:
        """Sample through core's CFGGuider.

        Args:
            sampler: what makes the latents.
            noise: unit normal [B, C, F, H, W].
            sigmas: [steps + 1], falling to 0.
            seed: seed of what else is drawn.
            latent: what the run begins from; None = nothing.
            given: core's own `denoise_mask` and `callback`.

        Returns:
            Latents [B, C, F, H, W] on the host's intermediate device.
        """
        guider = comfy.samplers.CFGGuider(self.model)
        named = {"positive": self.positive, "negative": self.negative}
        guider.inner_set_conds({name: conditioning for name, conditioning in named.items() if conditioning is not None})
        guider.set_cfg(self.cfg)
        return guider.sample(
            noise,
            torch.zeros_like(noise) if latent is None else latent,
            sampler,
            sigmas,
            disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
            seed=seed,
            **given,
        )


class GuidedCalls:
    """The model calls of one run through a guider, each with what memory there is.

    Args:
        guider: a CFGGuider or one derived from it, with the model loaded and its conds processed.
        extra_args: model_options and seed of this run.
        call_sigmas: one noise level for each call, and a 0 at the end [R + 1].
        latents: what a call looks like [B, C, f, H, W].
        cache: the cache of finished blocks, if there is one.
        part: what this run makes of a longer job, for sentences, such as "segment 2 of 5".
    """

    def __init__(
        self,
        guider: Any,
        extra_args: dict[str, Any],
        call_sigmas: torch.Tensor,
        latents: torch.Tensor,
        cache: HostCachedCalls | None = None,
        part: Words | None = None,
    ):
        self.guider, self.extra_args, self.cache = guider, extra_args, cache
        self.options = extra_args["model_options"].setdefault("transformer_options", {})
        # neighbours look their progress up in this list: it has to hold the sigmas that they will be called with
        self.options["sample_sigmas"] = call_sigmas
        self.ladder = MemoryLadder(guider, extra_args["model_options"], cache, latents)
        self.watch = FiniteWatch(len(call_sigmas) - 1, part)
        self.made, self.conds = 0, guider.conds

    def __call__(
        self, x: torch.Tensor, frame_sigmas: torch.Tensor, row: Any, sigma: float, where: Words
    ) -> torch.Tensor:
        """Return x0 [B, C, f, H, W] from the guider.

        Args:
            x: noisy latents [B, C, f, H, W].
            frame_sigmas: noise level of every frame, 0..1 [f].
            row: the call, for the cache.
            sigma: one noise level for the whole call, which core and neighbours see.
            where: names the call for a person.

        Raises:
            NotFiniteError: this answer or one of the last few is NaN or infinite; `finish` looks at the others.
        """
        set_frame_sigmas(self.guider.conds, frame_sigmas, x)
        if self.cache is not None:
            self.cache.row = row
        level = x.new_full((x.shape[0],), sigma)
        answer = self.ladder.call(lambda: self.guider(x, level, **self.extra_args), where)
        self.watch.see(self.made, answer)
        self.made += 1
        return answer

    def finish(self) -> None:
        """Look at the answers that were not looked at yet; `Raises: NotFiniteError`."""
        self.guider.conds = self.conds  # a call may have been shown a part of them
        self.watch.check()


@contextmanager
def in_use(cache: HostCachedCalls | None, options: dict[str, Any]) -> Iterator[None]:
    """Give the transformer a run's cache, by the run's transformer_options, and free it when the run ends."""
    if cache is None:
        yield
        return
    options[CACHED_CALLS] = cache
    with cache.calls:
        try:
            yield
        finally:
            options.pop(CACHED_CALLS, None)  # where memory was short it is gone already


def set_fps(conds: dict[str, list[dict[str, Any]] | None], fps: int) -> None:
    """Put the frame rate into every condition of a guider, in place."""
    rate = comfy.conds.CONDRegular(torch.tensor([fps], dtype=torch.long))
    for conditions in conds.values():
        for condition in conditions or ():
            condition["model_conds"] = {**condition["model_conds"], "fps": rate}
