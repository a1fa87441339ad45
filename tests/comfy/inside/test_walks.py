"""The walks of docs/architecture.md, followed while the nodes run: every step is called, in the order of the page."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

import pytest
import torch

ROOT = Path(__file__).resolve().parents[3]
PAGES = {name: (ROOT / "docs" / name).read_text("utf-8") for name in ("architecture.md", "architecture.zh-CN.md")}
STEP = re.compile(r"`([\w.]+)`\s?[(（]`((?:nodes|wan_core)/[\w/]+\.py)`")
MOST = 8  # hand-overs of a walk

pytestmark = pytest.mark.usefixtures("output_folder")


def walks(page: str) -> list[list[tuple[str, str]]]:
    """The steps of every walk, each a function and its file."""
    text = re.search(r"### (?:Five walks|五条路线)\n([\s\S]*?)\n### ", PAGES[page])
    assert text is not None
    return [STEP.findall(part) for part in re.split(r"\n\n(?=\*\*)", text[1])[1:]]


def lines_of(steps: set[tuple[str, str]]) -> dict[tuple[str, int], tuple[str, str]]:
    """Where each function begins: its file and the line of its first decorator, or of its name."""
    found: dict[tuple[str, int], tuple[str, str]] = {}
    for file in {file for _, file in steps}:
        for node in ast.walk(ast.parse((ROOT / file).read_text("utf-8"))):
            for each in getattr(node, "body", ()) if isinstance(node, ast.Module | ast.ClassDef) else ():
                if isinstance(each, ast.FunctionDef):
                    name = f"{node.name}.{each.name}" if isinstance(node, ast.ClassDef) else each.name
                    first = min([each.lineno, *(mark.lineno for mark in each.decorator_list)])
                    found[str(ROOT / file), first] = (name, file)
    assert steps <= set(found.values()), steps - set(found.values())
    return found


def calls_of(run: Callable[[], Any], steps: set[tuple[str, str]]) -> list[tuple[str, str]]:
    """Those of some functions that a run calls, in order."""
    places, called = lines_of(steps), list[tuple[str, str]]()

    def look(frame: FrameType, event: str, _value: Any) -> None:
        if event == "call":
            step = places.get((frame.f_code.co_filename, frame.f_code.co_firstlineno))
            if step in steps:
                called.append(step)

    before = sys.getprofile()
    sys.setprofile(look)
    try:
        run()
    finally:
        sys.setprofile(before)
    return called


def test_both_pages_have_the_same_walks_of_at_most_eight_hand_overs() -> None:
    english, chinese = (walks(page) for page in PAGES)
    assert english == chinese and len(english) == 5
    assert all(2 <= len(steps) <= MOST + 1 for steps in english)


def test_each_step_of_a_walk_is_called_after_the_one_before_it(pack_nodes: dict[str, Any]) -> None:
    model, clip, vae = pack_nodes["SkyReelsV2DemoModels"].execute().args
    forcing = {
        "seed": 1, "steps": 2, "cfg": 2.0, "shift": 5.0, "solver": "euler", "fps": 24, "ar_step": 0,
        "causal_block_size": 1, "causal_attention": False, "addnoise_condition": 20,
    }  # fmt: skip
    kept = {"carry_over": "latents", "drift_control": 0.0, "codec": "ffv1", "crf": 18, "loop": False, "key_times": ""}
    size = {"size": "custom", "width": 64, "height": 64}
    long_video = pack_nodes["SkyReelsV2LongVideo"]
    long_video.hidden = SimpleNamespace(prompt=None, extra_pnginfo=None)

    def run() -> None:
        positive, negative = pack_nodes["SkyReelsV2TextEncode"].execute(clip, "a red circle", "").args[:2]
        given = {"model": model, "positive": positive, "negative": negative}
        made = pack_nodes["SkyReelsV2Sampler"].execute(
            latent={"samples": torch.zeros(1, 16, 3, 8, 8)}, window_frames=0, **given, **forcing
        )
        pack_nodes["SkyReelsV2VAEDecode"].execute(made.args[0], vae, "never")
        long_video.execute(
            vae=vae, size=size, total_frames=21, base_num_frames=13, overlap_history=5, job_name="walk", keep_gb=0.0,
            **given, **forcing, **kept,
        )  # fmt: skip

    pages = walks("architecture.md")
    with torch.inference_mode():
        called = calls_of(run, {step for steps in pages for step in steps})
    for steps in pages:
        at = -1
        for step in steps:
            assert step in called[at + 1 :], f"{step} is not called after {steps[: steps.index(step)]}"
            at = called.index(step, at + 1)
    assert called.count(("LongVideoSettings.planned", "wan_core/long/settings.py")) == 1
