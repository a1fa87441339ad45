"""Every name of the host that the pack's source touches is there, and is called with arguments that it takes.

A name that a host removes, renames or gives other arguments is one line here, before anything runs.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from host_names import faults, uses

PACK = Path(__file__).resolve().parents[3]
SOURCES = [
    PACK / "__init__.py", *sorted((PACK / "nodes").glob("*.py")), *sorted((PACK / "wan_core" / "comfy").rglob("*.py")),
]  # fmt: skip


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(PACK)))
def test_this_host_has_every_name_that_a_file_touches(file: Path) -> None:
    wrong = [f"{file.name}:{use.line}: {fault}" for use in uses(file.read_text("utf-8")) for fault in faults(use)]
    assert not wrong, "\n".join(wrong)


def test_the_files_touch_the_host_in_many_places() -> None:
    touched = {use.name for file in SOURCES for use in uses(file.read_text("utf-8"))}
    assert len(touched) > 150
    assert {"comfy.samplers.CFGGuider.predict_noise", "comfy_api.latest.io.Schema", "folder_paths"} <= touched


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import comfy.nowhere", "comfy.nowhere is not there"),
        ("import comfy.utils\ncomfy.utils.load_torch_files('x')", "load_torch_files is not there"),
        ("import comfy.utils\nhow = comfy.utils\nhow.load_torch_file('x', safe=True)", "unexpected keyword"),
        ("import comfy.utils\ncomfy.utils.load_torch_file()", "missing a required argument"),
        ("from comfy_api.latest import io\nio.Int.Input('x', advance=True)", "unexpected keyword"),
        ("from comfy.samplers import CFGGuiders", "CFGGuiders is not there"),
        ("def f(guider):\n    guider.set_cfg(1.0, 2.0)", "too many positional"),
        ("def f(guider):\n    return guider.model_patcher.cloned()", "cloned is not there"),
        ("def f(executor):\n    return executor.class_obj.guider.condz", "condz is not there"),
    ],
)
def test_a_name_that_is_not_there_is_found(source: str, words: str) -> None:
    assert any(words in fault for use in uses(source) for fault in faults(use))


def test_what_objects_get_in_their_methods_is_there() -> None:
    source = "def f(guider):\n    return guider.conds, guider.model_patcher.backup, guider.inner_model.model_sampling"
    assert not [fault for use in uses(source) for fault in faults(use)]
