"""The nodes in the host against the files that speak of them: locales/en and tests/node_ids.json."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

REPO = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def schemas() -> ModuleType:
    """tools/node_schemas.py, without making the repository importable."""
    spec = importlib.util.spec_from_file_location("node_schemas", REPO / "tools" / "node_schemas.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_nothing_that_saved_workflows_rely_on_has_gone(schemas: ModuleType, pack_nodes: dict[str, Any]) -> None:
    assert schemas.breaks(schemas.read(schemas.FROZEN), schemas.contracts(pack_nodes.values())) == []


def test_everything_new_is_frozen(schemas: ModuleType, pack_nodes: dict[str, Any]) -> None:
    current = schemas.contracts(pack_nodes.values())
    assert schemas.breaks(current, schemas.read(schemas.FROZEN)) == [], "run python -m tools.build_locales"


def test_the_english_texts_are_those_of_the_nodes(schemas: ModuleType, pack_nodes: dict[str, Any]) -> None:
    assert schemas.read(schemas.ENGLISH) == schemas.texts(pack_nodes.values()), "run python -m tools.build_locales"


MOST = 8  # widgets that a node shows; the rest is advanced
HAN = re.compile(r"[\u4e00-\u9fff]")


def shown_widgets(entry: Any) -> list[str]:
    """The widgets that an input shows at most, before anybody asks for the advanced ones."""
    if getattr(entry, "advanced", None) or getattr(entry, "force_input", None):
        return []
    options = [option for option in getattr(entry, "options", None) or () if hasattr(option, "inputs")]
    if options:  # a choice, and what the choice with the most inputs brings
        brought = [[each.id for each in option.inputs if not getattr(each, "advanced", None)] for option in options]
        return [entry.id, *max(brought, key=len)]
    control = ["control_after_generate"] if getattr(entry, "control_after_generate", None) else []
    return [entry.id, *control] if hasattr(entry, "socketless") else []


def test_a_node_shows_what_a_first_video_needs_and_eight_widgets_at_most(pack_nodes: dict[str, Any]) -> None:
    shown = {
        node: [name for entry in found.GET_SCHEMA().inputs for name in shown_widgets(entry)]
        for node, found in pack_nodes.items()
    }
    assert {node: names for node, names in shown.items() if len(names) > MOST} == {}
    custom = ["size", "width", "height"]
    assert shown["SkyReelsV2LongVideo"] == [*custom, "total_frames", "seed", "control_after_generate", "cfg", "method"]
    assert shown["SkyReelsV2Sampler"] == ["seed", "control_after_generate", "steps", "cfg", "shift"]
    assert shown["SkyReelsV2EmptyLatent"] == [*custom, "frames"]


def test_positive_stands_above_negative_on_every_node(pack_nodes: dict[str, Any]) -> None:
    """A host lists required inputs before optional ones."""
    for node, found in pack_nodes.items():
        info = found.GET_NODE_INFO_V1()
        names = [*info["input"].get("required", {}), *info["input"].get("optional", {})]
        if "negative" in names:
            assert names.index("positive") < names.index("negative"), node


def test_every_node_is_found_by_other_words_in_both_languages(pack_nodes: dict[str, Any]) -> None:
    for node, found in pack_nodes.items():
        aliases = found.GET_NODE_INFO_V1()["search_aliases"]
        assert len(set(aliases)) == len(aliases) and found.GET_SCHEMA().display_name not in aliases, node
        chinese = [bool(HAN.search(words)) for words in aliases]
        assert any(chinese) and not all(chinese), node
    everything = {words for found in pack_nodes.values() for words in found.GET_SCHEMA().search_aliases}
    assert everything >= {
        "text to video",
        "image to video",
        "i2v",
        "first frame",
        "文生视频",
        "图生视频",
        "首帧",
        "首尾帧",
    }
