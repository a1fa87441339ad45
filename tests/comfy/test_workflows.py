"""Every example workflow, on every host: known nodes, shipped settings, and with tiny files a video at the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.comfy.host import REPO, Host, PromptRefused
from tests.comfy.scene import video_of
from tests.comfy.videos import CLIP_FRAMES, probe
from tests.comfy.workflows import load_workflow, shrink, to_prompt
from tools.templates import DEMO, ORDER, title_of

WORKFLOWS = sorted((REPO / "example_workflows").glob("*.json"))
FRAMES = 17
TWINS = {DEMO + title for title in ORDER if DEMO + title in ORDER} - {"Demo Text to Video"}

# a demo whose graph has a twin with released models differs from it in the models alone, and its prompt is compared in
# every host (test_frontend.py)
every_workflow = pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=pytest.mark.newest_host if title_of(path.stem) in TWINS else []) for path in WORKFLOWS],
    ids=lambda path: path.stem,
)
with_files = pytest.mark.parametrize(
    "path", [path for path in WORKFLOWS if " Demo " not in path.stem], ids=lambda path: path.stem
)


@pytest.fixture(scope="session")
def object_info(host: Host) -> dict[str, Any]:
    """What the server says about every node."""
    return host.object_info()


@every_workflow
def test_a_workflow_runs_from_checkpoint_to_video_with_tiny_files(
    host: Host, object_info: dict[str, Any], path: Path
) -> None:
    prompt = shrink(to_prompt(load_workflow(path), object_info), frames=FRAMES)
    facts = probe(video_of(host.run(prompt)))
    assert (facts.width, facts.height, facts.frames) == (64, 64, frames_of(prompt))
    assert float(facts.fps) == 24


def frames_of(prompt: dict[str, Any]) -> int:
    """Return how many video frames a prompt asks for."""
    asked = {node["class_type"]: node["inputs"] for node in prompt.values()}
    long = asked.get("SkyReelsV2LongVideo")
    made = long["total_frames"] - long["loop"] if long else FRAMES  # a loop's last frame would be its first again
    if "SkyReelsV2ExtendVideo" not in asked:
        return made
    begin = made if long else CLIP_FRAMES
    return begin + asked["SkyReelsV2ExtendVideo"]["new_frames"]


@with_files
def test_the_only_thing_wrong_with_a_shipped_workflow_is_that_the_models_are_missing(
    host: Host, object_info: dict[str, Any], path: Path
) -> None:
    prompt = to_prompt(load_workflow(path), object_info)
    with pytest.raises(PromptRefused) as refused:
        host.queue(prompt)
    for node, problems in refused.value.node_errors.items():
        for problem in problems["errors"]:
            name = problem["extra_info"].get("input_name", "")
            file_input = name in ("model_name", "unet_name", "clip_name", "vae_name", "image", "file", "lora_name")
            assert file_input, f"{prompt[node]['class_type']}: {problem}"


@with_files
def test_a_workflow_says_which_files_go_where(path: Path) -> None:
    notes = [
        str(node["widgets_values"][0])
        for node in load_workflow(path)["nodes"]
        if node["type"] in ("Note", "MarkdownNote")
    ]
    text = "\n".join(notes)
    for folder in ("diffusion_models", "text_encoders", "vae"):
        assert folder in text, f"no note names models/{folder}"
