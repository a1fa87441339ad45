"""The text on a node that is being run: one for all who have something to say, and never the end of a run."""

from __future__ import annotations

import importlib
import logging
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


def test_the_line_is_in_the_language_of_whoever_queued_the_run_and_the_log_in_english(
    node_text: ModuleType,
    shown: list[tuple[str, str]],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    language = importlib.import_module("skyreels_v2.wan_core.comfy.language")
    words = importlib.import_module("skyreels_v2.wan_core.words").words
    where = words("model call {call} of {calls}", call=2, calls=9)
    line = words(
        "Out of memory in {where}. Retrying with {done} (slower, same result).",
        where=where,
        done=words("no cache of finished blocks"),
    )
    monkeypatch.setattr(language, "READERS", readers := language.Readers())
    for client, name in {"tab 1": "zh", "tab 2": "zh-TW", "tab 3": "fr"}.items():
        readers.remember(client, name)
    with caplog.at_level("INFO"):
        for client in ("tab 1", "tab 2", "tab 3", "a script", None):
            monkeypatch.setattr(sys.modules["server"].PromptServer.instance, "client_id", client, raising=False)
            with CurrentNodeContext("a prompt", "7"):
                node_text.tell("memory", line)
    chinese = "第 2 次模型调用（共 9 次）时内存或显存不足。改用以下方式重试：不再缓存已完成的块（较慢，结果相同）。"
    assert [text for text, _ in shown] == [chinese, chinese, str(line), str(line), str(line)]
    assert caplog.messages == [f"SkyReels-V2: {line}"] * 5


def test_the_log_repeats_in_english_what_was_said_in_chinese(pack: ModuleType) -> None:
    language = importlib.import_module("skyreels_v2.wan_core.comfy.language")
    readers = language.Readers()
    readers.said.extend([("太小", "too small"), ("错误：太小。", "The value is too small.")])
    log = language.EnglishLog(readers)
    for message, arguments in (
        ("!!! 错误：太小。", ()),
        ("%s 错误：太小。", ("!!!",)),
        ("%s", ("!!! 错误：太小。",)),
    ):
        record = logging.makeLogRecord({"msg": message, "args": arguments})
        assert log.filter(record) and record.getMessage() == "!!! The value is too small."
    assert log.filter(logging.makeLogRecord({"msg": "%d apples", "args": ("no number",)}))
    untouched = logging.makeLogRecord({"msg": "%d apples", "args": (3,)})
    assert log.filter(untouched) and untouched.args == (3,)


@pytest.mark.usefixtures("output_folder")
def test_a_long_video_shows_its_segment_and_what_the_step_cache_did(
    bridge: ModuleType, node_text: ModuleType, model: Any, vae: Any, shown: list[tuple[str, str]]
) -> None:
    step_cached = importlib.import_module("skyreels_v2.wan_core.comfy.sampling.step_cache").step_cached
    chosen = settings(bridge, steps=8)
    given = inputs(bridge, step_cached(model, 1000.0), vae)
    with CurrentNodeContext("a prompt", "7"), torch.inference_mode():
        bridge.make_long_video(given, chosen.planned(), bridge.Job("text", say=node_text.node_text("segments")))
    last = shown[-1][0].splitlines()
    assert last[0].startswith("Segment 3 of 3") and "latent frames" in last[1] and len(last) == 2
    beside = {text.splitlines()[0].split(",")[0] for text, _ in shown if "latent frames" in text}
    assert beside == {"Segment 1 of 3", "Segment 2 of 3", "Segment 3 of 3"}
