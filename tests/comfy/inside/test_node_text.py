"""The text on a node that is being run: one for all who have something to say, and never the end of a run."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from comfy_execution.utils import CurrentNodeContext
from long_scene import inputs, settings


@pytest.fixture
def node_text(pack: ModuleType) -> ModuleType:
    return importlib.import_module("skyreels_v2.wan_core.comfy.node_text")


def test_everyone_keeps_the_last_line_of_their_own(node_text: ModuleType, shown: list[tuple[str, str]]) -> None:
    with CurrentNodeContext("a prompt", "7"):
        say = node_text.node_text("segments")
        say("1 of 2")
        node_text.tell("memory", "less of it")
        say("2 of 2")
        say("2 of 2")
        node_text.tell("memory", "much less of it")
    texts = ["1 of 2", "1 of 2\nless of it", "2 of 2\nless of it", "2 of 2\nmuch less of it"]
    assert shown == [(text, "7") for text in texts]


def test_another_run_of_the_node_begins_with_nothing(node_text: ModuleType, shown: list[tuple[str, str]]) -> None:
    for line in ("one run", "another"):
        with CurrentNodeContext("a prompt", "7"):
            node_text.tell("memory", line)
    with CurrentNodeContext("a prompt", "8"):
        node_text.tell("step cache", "another node")
    assert shown == [("one run", "7"), ("another", "7"), ("another node", "8")]


def test_a_node_inside_of_another_does_not_write_onto_it(node_text: ModuleType, shown: list[tuple[str, str]]) -> None:
    with CurrentNodeContext("a prompt", "7"):
        say = node_text.node_text("segments")
        say("1 of 2")
        with CurrentNodeContext("a prompt", "8"):
            node_text.tell("memory", "less of it")
        say("2 of 2")
    assert shown == [("1 of 2", "7"), ("less of it", "8"), ("2 of 2", "7")]


def test_without_a_server_or_a_node_the_line_is_only_logged(
    node_text: ModuleType,
    shown: list[tuple[str, str]],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with caplog.at_level("INFO"):
        node_text.tell("memory", "outside of any node")
        monkeypatch.delitem(sys.modules, "server")
        with CurrentNodeContext("a prompt", "7"):
            node_text.tell("memory", "without a server")
    assert "server" not in sys.modules and not shown
    assert caplog.messages == ["SkyReels-V2: outside of any node", "SkyReels-V2: without a server"]


@pytest.mark.parametrize("instance", [SimpleNamespace(), SimpleNamespace(send_progress_text=lambda text: None), None])
def test_a_server_that_cannot_show_it_ends_no_run(
    node_text: ModuleType, shown: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch, instance: Any
) -> None:
    monkeypatch.setattr(sys.modules["server"].PromptServer, "instance", instance)
    with CurrentNodeContext("a prompt", "7"):
        node_text.tell("memory", "a line")


@pytest.mark.usefixtures("output_folder")
def test_a_long_video_shows_its_segment_and_what_the_step_cache_did(
    bridge: ModuleType, node_text: ModuleType, model: Any, vae: Any, shown: list[tuple[str, str]]
) -> None:
    step_cached = importlib.import_module("skyreels_v2.wan_core.comfy.step_cache").step_cached
    chosen = settings(bridge, steps=8)
    given = inputs(bridge, step_cached(model, 1000.0), vae)
    with CurrentNodeContext("a prompt", "7"), torch.inference_mode():
        bridge.make_long_video(given, chosen, bridge.Job("text", say=node_text.node_text("segments")))
    last = shown[-1][0].splitlines()
    assert last[0].startswith("Segment 3 of 3") and "block-forwards reused" in last[1] and len(last) == 2
    beside = {text.splitlines()[0].split(",")[0] for text, _ in shown if "reused" in text}
    assert beside == {"Segment 1 of 3", "Segment 2 of 3", "Segment 3 of 3"}
