"""Ray as the host uses it: asked for in words where it is missing, and started or joined once for the process."""

from __future__ import annotations

import logging
from typing import Any

from ...errors import InputError


def ray_module() -> Any:
    """Return Ray; `Raises: InputError` where it is not installed."""
    try:
        import ray
    except ImportError:
        raise InputError(
            'GPU Cluster needs Ray, which is not installed: run `pip install "ray[default]"` with the Python that runs '
            "ComfyUI, on every machine, and restart ComfyUI."
        ) from None
    return ray


def connected(address: str) -> Any:
    """Return Ray, connected to a cluster.

    Args:
        address: "host:port" of a cluster that this machine is a part of already, "auto" for the one there is, "" to
            start one that ends with this process.

    Raises:
        InputError: Ray is missing, the machine isn't part of the cluster, or this process has joined another one.
    """
    ray, address = ray_module(), address.strip()
    if ray.is_initialized():
        joined = ray.get_runtime_context().gcs_address
        if address not in ("", "auto", joined):
            raise InputError(
                "address is {address}, but this ComfyUI has joined the Ray cluster {joined}: use that one, or restart "
                "ComfyUI.",
                address=address,
                joined=joined,
            )
        return ray
    if address not in ("", "auto") and address not in clusters_here(ray):
        raise InputError(
            "address is {address}, but this machine isn't a part of that Ray cluster, and a workflow may not connect "
            "it to one: run `ray start --address=HOST:6379` on the machine of ComfyUI first.",
            address=address,
        )
    try:
        ray.init(
            address=address or "local", include_dashboard=False if not address else None, log_to_driver=False,
            logging_level=logging.ERROR, configure_logging=False,
        )  # fmt: skip
    except (ConnectionError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        raise InputError(
            "No Ray cluster answers at {address} ({reason}): run `ray start --head` on the first machine and "
            "`ray start --address=HOST:6379` on the others, or leave address empty to use this machine alone.",
            address=address or "local",
            reason=str(error).splitlines()[0] if str(error) else type(error).__name__,
        ) from None
    return ray


def clusters_here(ray: Any) -> set[str]:
    """Return the addresses of the clusters that this machine is a part of, as its own processes tell."""
    return set(ray._private.services.find_gcs_addresses())


def gpus(ray: Any) -> int:
    """Return how many GPUs the cluster has."""
    return int(ray.cluster_resources().get("GPU", 0))
