"""A group of actors that compute forward passes together, as the host sees it: one call, whatever happens to them.

When an actor dies, the group is built anew, what it had cached is computed again, and the call is repeated, once. The
actors belong to this process: they end with it, and with the MODEL.
"""

from __future__ import annotations

import logging
import math
import sys
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import comfy.cli_args
import comfy.model_management
import torch

from ...errors import InputError
from ...words import words
from ..node_text import tell
from . import bootstrap
from .messages import Call, Refused, Stopped, Weights
from .ray_host import connected, gpus, ray_module

POLL = 0.1  # seconds between two looks at whether the user has stopped the run
START = 180.0  # seconds until all actors have imported ComfyUI
PATIENCE = 20.0  # seconds that the others have when one has failed or all were asked to stop
PACKAGE = __name__.partition(".wan_core.")[0]


def host_flags() -> dict[str, Any]:
    """Return ComfyUI's command line in plain values, which any process can read."""
    given = vars(comfy.cli_args.args)
    plain = {name: value for name, value in given.items() if type(value) in (str, int, float, bool, type(None))}
    return {**plain, "fast": [each.value for each in given.get("fast") or ()]}


class ActorsLost(Exception):
    """An actor has died, or does not answer after another has failed."""


@dataclass(frozen=True)
class Place:
    """Where a group computes.

    Attributes:
        address: of a Ray cluster; see `ray_host.connected`.
        workers: actors; 0 is one for every GPU of the cluster.
        sharded: whether each keeps a part of the weights only.
    """

    address: str = ""
    workers: int = 0
    sharded: bool = False

    def count(self, ray: Any) -> tuple[int, bool]:
        """Return how many actors there are to be, and whether each has a GPU; `Raises: InputError` for too many."""
        available = gpus(ray)
        wanted = self.workers or available
        if wanted < 1:
            raise InputError("The Ray cluster has no GPU: set workers to the number of processes to use on its CPUs.")
        if 0 < available < wanted:
            raise InputError(
                "workers is {workers}, but the Ray cluster has {available} GPUs: set workers to {available} or less.",
                workers=wanted,
                available=available,
            )
        return wanted, available > 0


class Group:
    """Actors that hold one MODEL's weights; they are started when first needed.

    Args:
        place: where.
    """

    every: ClassVar[weakref.WeakSet[Group]] = weakref.WeakSet()  # of this process: they share the GPUs

    def __init__(self, place: Place):
        Group.every.add(self)
        self.place = place
        self.actors: list[Any] = []
        self.weights: Weights | None = None
        self.kept: dict[str, list[Call]] = {}  # by cache, the calls that have added to it

    def hold(self, weights: Weights) -> None:
        """Have the actors load weights, unless they hold them."""
        if self.actors and self.weights is not None and self.weights.version == weights.version:
            return
        self.weights = weights
        self.kept.clear()
        self.steadily(lambda: self.ask("hold", weights))

    def run(self, call: Call) -> torch.Tensor:
        """Return the velocity of a forward pass.

        Raises:
            InputError: what an actor says cannot be done.
            InterruptProcessingException: the user has stopped the run.
            the host's out-of-memory error: memory has ended in an actor.
        """
        velocity = self.steadily(lambda: self.ask("run", call)[0])
        if call.cache is not None and call.cache.keeps:
            self.kept.setdefault(call.cache.key, []).append(call)
        return velocity

    def forget(self, key: str) -> None:
        """Have the actors forget a cache."""
        self.kept.pop(key, None)
        for actor in self.actors:
            actor.do.remote("forget", key)

    def spare(self) -> int:
        """Return the bytes that are free in the actor with the least room, once its weights are loaded."""
        return min(self.steadily(lambda: self.ask("spare")))

    def steadily(self, asked: Callable[[], Any]) -> Any:
        """Return what is asked of the actors, which are started, and once more started where one is lost."""
        try:
            self.start()
            return asked()
        except ActorsLost as error:
            self.close()
            line = words("The GPU cluster lost a worker. Starting the workers again and repeating the call.")
            tell("cluster", line, logging.WARNING)
            logging.warning("SkyReels-V2: %s", error)
        try:
            self.start()
            return asked()
        except ActorsLost as error:
            self.close()
            raise InputError(
                "The GPU cluster lost a worker twice in one call ({reason}): look at `ray status`, and queue again.",
                reason=str(error),
            ) from None

    def start(self) -> None:
        """Start the actors, have them meet and bring them to where the last ones were."""
        if self.actors:
            return
        ray = connected(self.place.address)
        count, on_gpus = self.place.count(ray)
        self.make_room(count, int(ray.cluster_resources().get("GPU" if on_gpus else "CPU", 0)))
        ray.cloudpickle.register_pickle_by_value(bootstrap)  # an actor has no pack before it
        actor = ray.remote(concurrency_groups={"control": 1})(bootstrap.Bootstrap).options(
            num_cpus=0 if on_gpus else 1, num_gpus=1 if on_gpus else 0, scheduling_strategy="SPREAD"
        )  # fmt: skip
        host = Path(comfy.cli_args.__file__).resolve().parents[1]
        pack = Path(sys.modules[PACKAGE].__path__[0]).resolve()
        self.actors = [actor.remote(str(host), str(pack), PACKAGE, host_flags()) for _ in range(count)]
        self.answers([actor.do.remote("process") for actor in self.actors], START)
        address = self.answers([self.actors[0].do.remote("meet")])[0]
        joined = [actor.do.remote("join", rank, count, address) for rank, actor in enumerate(self.actors)]
        machines = self.answers(joined)
        logging.info("SkyReels-V2: %d workers on %s", count, ", ".join(sorted(set(machines))))
        if self.weights is not None:
            self.ask("hold", self.weights)
        for calls in self.kept.values():
            for call in calls:
                self.ask("run", call)

    def make_room(self, count: int, places: int) -> None:
        """End other MODELs' actors if there is no room for both."""
        others = [group for group in Group.every if group is not self and group.actors]
        if sum(len(group.actors) for group in others) + count > places:
            for group in others:
                group.close()

    def ask(self, name: str, *args: Any) -> list[Any]:
        """Return what a method returns in every actor."""
        ray = ray_module()
        sent = [ray.put(each) for each in args]  # once, however many actors read it
        return self.answers([actor.do.remote(name, *sent) for actor in self.actors])

    def answers(self, asked: list[Any], seconds: float = math.inf) -> list[Any]:
        """Wait for answers, so long at most, and for the user; see `run`. `Raises: ActorsLost`."""
        ray, waiting, end = ray_module(), list(asked), time.monotonic() + seconds
        while waiting:
            if time.monotonic() > end:
                self.close()
                raise InputError(
                    "Of {count} GPU Cluster workers {missing} haven't started in {seconds:.0f} s. Something else may "
                    "use the GPUs (`ray status` shows it): end it, or set workers to fewer.",
                    count=len(asked),
                    missing=len(waiting),
                    seconds=seconds,
                )
            done, waiting = ray.wait(waiting, timeout=POLL)
            if comfy.model_management.processing_interrupted():
                self.stop(waiting)
                comfy.model_management.throw_exception_if_processing_interrupted()
            failed = next((error for error in map(self.error_of, done) if error is not None), None)
            if failed is not None:
                self.fail(failed, waiting)
        return [ray.get(each) for each in asked]

    def error_of(self, answer: Any) -> Exception | None:
        """Return the error of an answer that has come."""
        ray = ray_module()
        try:
            ray.get(answer)
        except ray.exceptions.RayTaskError as error:
            return error.cause if isinstance(error.cause, Exception) else error
        except ray.exceptions.RayError as error:
            return ActorsLost(str(error).splitlines()[0])
        return None

    def fail(self, error: Exception, waiting: list[Any]) -> None:
        """Raise what an error means, once the others have ended, too."""
        ray = ray_module()
        done, hanging = ray.wait(waiting, num_returns=len(waiting), timeout=PATIENCE) if waiting else ([], [])
        errors = [error, *filter(None, map(self.error_of, done))]
        for each in errors:  # that of a survivor, who has lost a connection, comes before that of the dead
            if isinstance(each, MemoryError):
                self.close()
                raise comfy.model_management.OOM_EXCEPTION(str(each))
            if isinstance(each, Refused):
                raise InputError("The GPU cluster says: {reason}", reason=each.args[0])
        lost = next((each for each in errors if isinstance(each, ActorsLost)), None)
        if lost is not None or hanging or self.any_dead():
            raise lost or ActorsLost(str(error).splitlines()[0] if str(error) else type(error).__name__)
        raise error

    def any_dead(self) -> bool:
        """Say whether an actor does not answer."""
        ray = ray_module()
        asked = [actor.do.remote("spare") for actor in self.actors]
        done, hanging = ray.wait(asked, num_returns=len(asked), timeout=PATIENCE)
        return bool(hanging) or any(self.error_of(each) is not None for each in done)

    def stop(self, waiting: list[Any]) -> None:
        """Have the actors end what they compute; those that do not are ended."""
        ray = ray_module()
        if not waiting:
            return
        for actor in self.actors:
            actor.interrupt.options(concurrency_group="control").remote()
        done, hanging = ray.wait(waiting, num_returns=len(waiting), timeout=PATIENCE)
        errors = [self.error_of(each) for each in done]
        if hanging or any(error is not None and not isinstance(error, Stopped) for error in errors):
            self.close()

    def close(self) -> None:
        """End the actors; they are started again when they are needed."""
        actors, self.actors = self.actors, []
        if not actors:
            return
        ray = ray_module()
        if ray.is_initialized():
            for actor in actors:
                ray.kill(actor)
