"""A few of the trials of tools/trials.py: runs that are disturbed at a random moment end in the same bits."""

from __future__ import annotations

import os
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import folder_paths
import pytest
from conftest import REPO, load_module

SAMPLED = ("async", "rolling")


@pytest.fixture(scope="module")
def tool(pack: ModuleType) -> ModuleType:
    assert pack
    return load_module("trials", REPO / "tools" / "trials.py")


@pytest.fixture(scope="module")
def trials(tool: ModuleType, pack_nodes: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    ways = load_module("same_latents", REPO / "tools" / "same_latents.py").Ways(pack_nodes)
    before = folder_paths.get_output_directory()
    yield tool.Trials(ways, tmp_path_factory.mktemp("trials"), SAMPLED)
    folder_paths.set_output_directory(before)


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("kind", ["interrupts", "clock"])  # short memory batches other calls: other last bits
def test_a_disturbed_run_ends_in_the_same_bits(tool: ModuleType, trials: Any, kind: str, number: int) -> None:
    trials.trial(number, tool.DISTURBED[kind])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.parametrize("number", range(len(SAMPLED), len(SAMPLED) + 3))
def test_a_killed_run_ends_in_the_same_video(tool: ModuleType, trials: Any, number: int) -> None:
    tool.killed(trials, number)
