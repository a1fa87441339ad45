"""The hosts of a farm: one Ray actor for each ComfyUI, on the machine where that ComfyUI is or will be."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import farm
from wan_core.errors import InputError

from . import actor

RESTARTS = 3  # of an actor whose process died: by Ray, on its machine, or on another one that has the GPU


@dataclass(frozen=True)
class Places:
    """Which ComfyUIs there are to be.

    Attributes:
        at: "MACHINE:PORT" of those that run already; the machine by its address or name in the Ray cluster.
        folder: of the ComfyUI to start, the same on all machines; "" for none.
        python: that runs it; "" for the folder's own.
        arguments: of its command line.
        most: hosts to start at most; 0 for one a GPU, and one a machine in a cluster without GPUs.
    """

    at: tuple[str, ...] = ()
    folder: str = ""
    python: str = ""
    arguments: tuple[str, ...] = ()
    most: int = 0


def connected(address: str) -> Any:
    """Return Ray, connected to a cluster.

    Args:
        address: "host:port"; "" for the cluster that this machine is a part of, or else one of this machine alone.

    Raises:
        InputError: Ray is missing, or no cluster answers.
    """
    try:
        import ray
    except ImportError:
        raise InputError('The farm needs Ray: run `pip install "ray[default]"` on every machine.') from None
    try:
        ray.init(address=address or None, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"No Ray cluster answers at {address or 'this machine'} ({reason}): run `ray start --head` on the first "
            "machine and `ray start --address=HOST:6379` on the others."
        ) from None
    return ray


def actors(ray: Any, places: Places, client: str) -> list[Any]:
    """Return an actor for each host; Ray places them.

    Args:
        ray: connected.
        places: of the hosts.
        client: who queues their prompts.

    Raises:
        InputError: a machine is no part of the cluster.
    """
    ray.cloudpickle.register_pickle_by_value(farm)  # the other machines need not have it
    # `control` is answered while a prompt runs
    host = ray.remote(concurrency_groups={"control": 1}, max_restarts=RESTARTS, num_cpus=0)(actor.Host)
    nodes = [node for node in ray.nodes() if node["Alive"]]
    found = []
    for where in places.at:
        machine, _, port = where.rpartition(":")
        urls = [f"http://127.0.0.1:{port}", f"http://{machine}:{port}"]
        on_it = {"scheduling_strategy": pinned(ray, node_of(nodes, machine, where))}
        found.append(host.options(**on_it).remote({"urls": urls}, client))
    if places.folder:
        start = {"folder": places.folder, "python": places.python, "arguments": list(places.arguments)}
        gpus = int(ray.cluster_resources().get("GPU", 0))
        each = [{"num_gpus": 1, "scheduling_strategy": "SPREAD"}] * gpus
        each = each or [{"scheduling_strategy": pinned(ray, node["NodeID"])} for node in nodes]
        found += [host.options(**options).remote(start, client) for options in each[: places.most or None]]
    return found


def node_of(nodes: list[dict[str, Any]], machine: str, where: str) -> str:
    """Return the id of the node with an address or a name; `Raises: InputError`."""
    names = ("NodeManagerAddress", "NodeManagerHostname", "NodeName")
    for name in names:
        for node in nodes:
            if node[name] == machine:
                return str(node["NodeID"])
    known = ", ".join(sorted({node[name] for node in nodes for name in names[:2]}))
    raise InputError(f"{where} has to be MACHINE:PORT with a machine of the Ray cluster, one of {known}.")


def pinned(ray: Any, node: str) -> Any:
    """Return what keeps an actor on one node."""
    return ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node, soft=False)
