"""The host of the tests: a ComfyUI server (tools/host.py) that has the tests' own nodes beside the pack."""

from __future__ import annotations

from pathlib import Path

from tools.host import (
    REPO,
    ExecutionFailed,
    Finished,
    PromptRefused,
    host_environment,
    run_in_host,
)
from tools.host import Host as PlainHost
from tools.hosts import HostInstall, find_hosts, why_no_host

__all__ = [
    "HERE",
    "PACK_FOLDER",
    "REPO",
    "TEST_NODES_FOLDER",
    "ExecutionFailed",
    "Finished",
    "Host",
    "HostInstall",
    "PlainHost",
    "PromptRefused",
    "find_hosts",
    "host_environment",
    "run_in_host",
    "why_no_host",
]

HERE = Path(__file__).resolve().parent
TEST_NODES_FOLDER = "skyreels_v2_test_nodes"
# dots and dashes, as a person's unzipped download has them: no import may depend on the folder's name
PACK_FOLDER = "comfyui-skyreels-v2.test"


class Host(PlainHost):
    """A server with the tests' own nodes."""

    def __init__(self, install: HostInstall, extra_arguments: tuple[str, ...] = ()) -> None:
        extra_nodes = {TEST_NODES_FOLDER: HERE / "host_nodes"}
        super().__init__(install, extra_arguments, pack_folder=PACK_FOLDER, extra_nodes=extra_nodes)
