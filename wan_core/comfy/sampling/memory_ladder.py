"""What a run does when memory ends: it makes the model call that failed again, in less memory, and goes on so.

Every rung of the ladder gives the same video, only slower. A rung that was reached stays for the rest of the run and
no longer: the ladder belongs to one run. On the way down nothing but the call that failed is repeated. Models on core's
own transformer (GGUF loaders) have the rungs that need no transformer of ours.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import comfy.model_management
import comfy.patcher_extension
import torch

from ...errors import SkyReelsError
from ...words import Words, words
from ..model.checks import in_pixels, model_geometry
from ..model.multigpu import patchers_of, wait_for_threads
from ..model.transformer import CACHED_CALLS, PIECES, HostWanModel
from ..node_text import tell
from .host_calls import HostCachedCalls

WRAPPER_KEY = "skyreels_v2_unbatched"
PIECES_OF_TOKENS = (4, 16)
SHARES_OF_WEIGHTS = (0.5, 1.0)


class OutOfMemory(SkyReelsError, torch.cuda.OutOfMemoryError):
    """Memory ended, and nothing was left to try. The host knows its kind and frees what it holds."""


def is_out_of_memory(error: Exception) -> bool:
    """Say whether an error means that memory has ended, in the host's judgement."""
    kind = comfy.model_management.OOM_EXCEPTION
    if kind is Exception:  # a torch without an error of its own for it
        return False
    return comfy.model_management.is_oom(error)


class MemoryLadder:
    """The rungs of one sampling run.

    Args:
        guider: the guider, with the model loaded and its conds processed.
        model_options: the options of this sampling run (a copy that core makes for it).
        cache: the run's cache of finished blocks, if it has one.
        latents: what is sampled [B, C, F, H, W].
    """

    def __init__(
        self,
        guider: Any,
        model_options: dict[str, Any],
        cache: HostCachedCalls | None,
        latents: torch.Tensor,
    ):
        self.guider = guider
        self.model_options = model_options
        self.cache = cache
        self.device = latents.device
        self.size = tuple(latents.shape[2:])
        self.rungs = self.from_the_top()

    def call(self, model_call: Callable[[], torch.Tensor], where: Words) -> torch.Tensor:
        """Return what `model_call` gives, in as little memory as it takes; `where` names the call for a person.

        Raises:
            OutOfMemory: it does not fit on the last rung either.
        """
        while True:
            try:
                return model_call()
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
            # outside of the except block: the error's traceback holds the tensors of the call
            wait_for_threads(self.model_options)
            comfy.model_management.soft_empty_cache()
            done = next(self.rungs, None)
            if done is None:
                raise OutOfMemory(
                    "Out of memory in {where}: {clip} don't fit, even with every fallback. Lower width, height or "
                    "frames, choose a smaller weight_dtype like fp8_e4m3fn, or close other programs.",
                    where=where,
                    clip=in_pixels(self.size, model_geometry(self.guider.inner_model)),
                )
            line = words(
                "Out of memory in {where}. Retrying with {done} (slower, same result).", where=where, done=done
            )
            tell("memory", line, logging.WARNING)

    def from_the_top(self) -> Iterator[Words]:
        """Yield what was done, rung after rung; one that cannot help is passed over."""
        if self.unbatch():
            yield words("the prompt and the negative prompt computed one after the other")
        if isinstance(self.guider.inner_model.diffusion_model, HostWanModel):
            for pieces in PIECES_OF_TOKENS:
                self.options[PIECES] = pieces
                yield words("attention and feed-forward in {pieces} pieces", pieces=pieces)
        if self.cache is not None:
            if self.device.type == "cpu":
                if not self.cache.needed:
                    self.drop_cache()
                    yield words("no cache of finished blocks")
            elif self.cache.calls.device != torch.device("cpu"):
                self.cache.calls.move(torch.device("cpu"))
                yield words("the cache of finished blocks in main memory")
        for share in SHARES_OF_WEIGHTS:
            if self.offload(share):
                yield words("{share:.0%} of the loaded weights moved to main memory", share=share)

    @property
    def options(self) -> dict[str, Any]:
        """The transformer_options of the run."""
        return self.model_options["transformer_options"]

    @property
    def patchers(self) -> list[Any]:
        """The MODEL that is sampled with, and its copies on other devices."""
        return patchers_of(self.guider.model_patcher)

    def unbatch(self) -> bool:
        """Have each condition computed in a call of its own; False where there is one only, or the cache does it.

        Several devices share the conditions already, and would not if these came one after the other.
        """
        if len(self.patchers) > 1:
            return False
        comfy.patcher_extension.add_wrapper_with_key(
            comfy.patcher_extension.WrappersMP.CALC_COND_BATCH,
            WRAPPER_KEY,
            one_after_the_other,
            self.model_options,
            is_model_options=True,
        )
        prompts = sum(bool(conditions) for conditions in self.guider.conds.values())
        return prompts > 1 and getattr(self.guider, "cfg", None) != 1 and self.cache is None

    def drop_cache(self) -> None:
        """Free the cache of finished blocks: from now on every call computes all blocks."""
        assert self.cache is not None
        self.options.pop(CACHED_CALLS, None)
        self.cache.calls.caches.clear()
        self.cache = None

    def offload(self, share: float) -> bool:
        """Move models that this run does not use, and a share of its own weights, off the device."""
        if comfy.model_management.is_device_cpu(self.device):
            return False
        host = comfy.model_management
        used = [self.guider.inner_model, *(model.model for model in self.guider.loaded_models)]
        keep = [
            loaded
            for loaded in host.current_loaded_models
            if loaded.model is not None and any(loaded.model.model is model for model in used)
        ]
        helped = []
        for patcher in self.patchers:
            device = patcher.load_device
            free_before = host.get_free_memory(device)
            host.free_memory(1e30, device, keep)
            freed = patcher.partially_unload(patcher.offload_device, int(share * patcher.loaded_size()))
            host.soft_empty_cache()
            helped.append(freed > 0 or host.get_free_memory(device) > free_before)
        return any(helped)


def one_after_the_other(
    executor: Any, model: Any, conds: list[Any], x: torch.Tensor, timestep: torch.Tensor, options: dict[str, Any]
) -> list[torch.Tensor]:
    """Compute each of a guider's conds in a call of its own; a CALC_COND_BATCH wrapper.

    The others stay in the list as None: neighbours tell prompt and negative prompt by their places.
    """
    alone = [[cond if at == place else None for at in range(len(conds))] for place, cond in enumerate(conds)]
    return [executor(model, one, x, timestep, options)[place] for place, one in enumerate(alone)]
