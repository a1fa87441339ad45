"""What becomes of an API prompt before the host looks at it."""

from __future__ import annotations

import copy
import importlib
from types import ModuleType
from typing import Any

import pytest

LATENT, PRESET = "SkyReelsV2EmptyLatent", "540P landscape (960x544)"


@pytest.fixture(scope="module")
def moved(pack: ModuleType) -> ModuleType:
    """nodes/moved_inputs.py."""
    return importlib.import_module("skyreels_v2.nodes.moved_inputs")


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (
            {"size": "custom", "width": 64, "height": ["7", 2], "frames": 9},
            {"size": "custom", "frames": 9, "size.width": 64, "size.height": ["7", 2]},
        ),
        ({"size": PRESET, "width": 64, "height": ["7", 2], "frames": 9}, {"size": PRESET, "frames": 9}),
        (
            {"size": "custom", "size.width": 64, "size.height": 48},
            {"size": "custom", "size.width": 64, "size.height": 48},
        ),
        ({"size": "custom", "size.width": 64, "width": 32}, {"size": "custom", "size.width": 64}),
        ({"size": ["7", 0], "width": 64}, {"size": ["7", 0]}),
        ({"frames": 9}, {"frames": 9}),
    ],
    ids=["custom", "preset", "today's", "both", "a size that is linked", "no size"],
)
def test_inputs_that_moved_are_put_where_they_are_now(
    moved: ModuleType, given: dict[str, Any], wanted: dict[str, Any]
) -> None:
    other = {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64}}
    request = {"prompt": {"1": {"class_type": LATENT, "inputs": given}, "2": copy.deepcopy(other)}, "client_id": "me"}
    found = moved.migrate(request)
    assert found["prompt"]["1"]["inputs"] == wanted
    assert found["prompt"]["2"] == other and found["client_id"] == "me"


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"prompt": None},
        {"prompt": []},
        {"prompt": {"1": 7, "2": {}, "3": {"class_type": [LATENT]}, "4": {"class_type": LATENT, "inputs": [1]}}},
    ],
)
def test_what_is_no_prompt_is_left_to_the_host(moved: ModuleType, request_: dict[str, Any]) -> None:
    assert moved.migrate(copy.deepcopy(request_)) == request_
