"""Widget values of a saved workflow, read by the frontend's rules; tests/comfy compares with the frontend itself."""

from __future__ import annotations

from typing import Any

import pytest

from tools.workflow_prompt import WorkflowError, knows, to_prompt

CODEC = [
    {"key": "auto", "inputs": {"required": {}}},
    {"key": "h264", "inputs": {"required": {"crf": ["FLOAT", {"default": 23.0}]}}},
]
FORMAT = [
    {"key": "auto", "inputs": {"required": {"codec": ["COMFY_DYNAMICCOMBO_V3", {"options": CODEC}]}}},
    {"key": "gif", "inputs": {"required": {}}},
]
SPECS: dict[str, dict[str, Any]] = {
    "required": {
        "video": ["VIDEO", {}],
        "prefix": ["STRING", {"default": "ComfyUI"}],
        "format": ["COMFY_DYNAMICCOMBO_V3", {"options": FORMAT}],
    },
    "optional": {"bit_depth": ["INT", {"default": 8}], "text": ["STRING", {"forceInput": True}]},
}
SEEDED: dict[str, dict[str, Any]] = {
    "required": {
        "image": [["a.png", "b.png"], {"image_upload": True}],
        "seed": ["INT", {"default": 0, "control_after_generate": True}],
        "noise_seed": ["INT", {}],
        "plain": ["INT", {"default": 3}],
        "either": ["FLOAT,INT", {"widgetType": "FLOAT", "default": 25.0}],
    },
    "optional": {"last": ["BOOLEAN", {}]},
}


def read(specs: dict[str, Any], **saved: Any) -> dict[str, Any]:
    workflow = {"nodes": [{"id": 1, "type": "N", "inputs": [], **saved}], "links": []}
    return to_prompt(workflow, {"N": {"input": specs}})["1"]["inputs"]


@pytest.mark.parametrize(
    ("values", "seen"),
    [
        ([], {"prefix": "ComfyUI", "format": "auto", "format.codec": "auto", "bit_depth": 8}),
        (["x", "auto", "auto"], {"prefix": "x", "format": "auto", "format.codec": "auto", "bit_depth": 8}),
        (["x", "gif", 10], {"prefix": "x", "format": "gif", "bit_depth": 10}),
        (
            ["x", "auto", "h264", 19.0, 10, "left over"],
            {"prefix": "x", "format": "auto", "format.codec": "h264", "format.codec.crf": 19.0, "bit_depth": 10},
        ),
    ],
)
def test_a_list_of_values_is_read_in_the_order_of_the_widgets(values: list[Any], seen: dict[str, Any]) -> None:
    assert read(SPECS, widgets_values=values) == seen


def test_what_follows_a_seed_and_the_upload_button_are_no_inputs() -> None:
    values = ["b.png", 7, "fixed", 8, "randomize", 9, 16.0, "image", True]
    assert read(SEEDED, widgets_values=values) == {
        "image": "b.png", "seed": 7, "noise_seed": 8, "plain": 9, "either": 16.0, "last": True,
    }  # fmt: skip
    assert read(SEEDED) == {
        "image": "a.png", "seed": 0, "noise_seed": 0, "plain": 3, "either": 25.0, "last": False,
    }  # fmt: skip


def test_values_with_names_are_right_when_the_inputs_have_changed_places() -> None:
    turned = {**SPECS, "required": dict(reversed(SPECS["required"].items()))}
    named = {"prefix": "x", "format": "auto", "format.codec": "h264", "gone": 1}
    seen = {"prefix": "x", "format": "auto", "format.codec": "h264", "format.codec.crf": 23.0, "bit_depth": 8}
    assert read(turned, widgets_values=["x", "auto", "h264"], widgets_values_named=named) == seen


def test_links_go_to_inputs_that_grow_or_that_a_choice_brings_and_to_no_others() -> None:
    grown = {"input": {"required": {"text": ["STRING", {}]}}}
    specs = {
        "required": {
            "few": ["COMFY_AUTOGROW_V3", {"template": {**grown, "names": ["one", "two"]}}],
            "many": ["COMFY_AUTOGROW_V3", {"template": {**grown, "prefix": "text", "max": 3}}],
            **SPECS["required"],
        }
    }
    known = ("few.two", "many.text0", "many.text2", "video", "format.codec", "format.codec.crf")
    assert all(knows(specs, name) for name in known)
    assert not any(knows(specs, name) for name in ("few.three", "many.text3", "format.size", "video.x", "nonsense"))
    slots = [{"name": "nonsense", "link": 1}]
    with pytest.raises(WorkflowError, match="no input nonsense"):
        to_prompt(
            {"nodes": [{"id": 1, "type": "N", "inputs": slots}], "links": [[1, 1, 0, 1, 0, "*"]]},
            {"N": {"input": specs}},
        )
