"""MultiGPU CFG Split, core's node that computes the conditions of a MODEL on several devices at once.

Core gives every further device a copy of the MODEL and a thread. What belongs to a run (caches, a ladder of memory) is
shared by the threads, each condition in one of them at a time; what belongs to a model is asked of the one called.
"""

from __future__ import annotations

from typing import Any

COPIES = "multigpu"  # core's key of the copies, which hosts without the node have not
POOL = "multigpu_thread_pool"  # core's key in the options of a sampling run


def patchers_of(patcher: Any) -> list[Any]:
    """Return a MODEL and its copies on other devices."""
    return [patcher, *patcher.get_additional_models_with_key(COPIES)]


def wait_for_threads(model_options: dict[str, Any]) -> None:
    """Wait until no thread of a sampling run is at work, and throw away what they have to say.

    When one device fails, core goes without the others' results: the next model call would take them for its own.
    """
    pool = model_options.get(POOL)
    if pool is None:
        return
    end = object()
    for device in pool.devices:
        pool.submit(device, lambda: end)
        while pool.get_result(device)[0] is not end:
            pass
