"""The server answers others, and can be interrupted, while a node of ours has as much to do as its inputs allow."""

from __future__ import annotations

import time

import pytest

from tests.comfy.host import ExecutionFailed, Host
from tools.answers import HEAVY, Hard

pytestmark = pytest.mark.newest_host
# nodes that would work for minutes and more; tools/answers.py measures all
ENDLESS = ("Sampler", "RollingSampler", "VAEDecode", "LongVideo", "LongVideo, moving window", "ExtendVideo")


def test_every_node_has_heavy_work(host: Host) -> None:
    nodes = {name.removeprefix("SkyReelsV2") for name in host.object_info() if name.startswith("SkyReelsV2")}
    nodes -= {name for name in nodes if name.startswith("Test")}
    assert nodes == {name.partition(",")[0] for name in HEAVY}


@pytest.mark.parametrize("name", ENDLESS)
def test_others_are_answered_and_the_node_is_interrupted(host: Host, name: str) -> None:
    """By the order of events: what is asked while it runs is answered while it runs, so the event loop is free."""
    job = Hard(0)
    job.add("PreviewAny", source=HEAVY[name][2](job))
    running = 0

    def waiting() -> None:
        nonlocal running
        running += bool(host.get("/queue")["queue_running"])
        if running == 20:
            host.interrupt()
        time.sleep(0.05)

    with pytest.raises(ExecutionFailed) as ended:
        host.run(job.prompt, timeout=250, waiting=waiting)
    assert "exception_message" not in ended.value.details, ended.value.message
    assert ended.value.node_type == "SkyReelsV2" + name.partition(",")[0]
