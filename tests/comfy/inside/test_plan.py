"""The Plan node against what Long Video and Extend Video then do, in the host's process."""

from __future__ import annotations

import importlib
import re
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from long_scene import inputs, make, settings

pytestmark = pytest.mark.usefixtures("output_folder")

ASYNC = {"ar_step": 1, "causal_block_size": 2}
NAMES = ("total_frames", "base_num_frames", "overlap_history", "steps", "shift", "cfg", "loop")


def planned(pack_nodes: dict[str, Any], chosen: Any, **more: Any) -> tuple[str, torch.Tensor]:
    """The outputs of the node for the settings of a video."""
    names = ("ar_step", "causal_block_size", "causal_attention", "fps")
    values = {name: getattr(chosen, name) for name in NAMES} | {name: getattr(chosen.forcing, name) for name in names}
    return pack_nodes["SkyReelsV2Plan"].execute(size=size_of(chosen), **{**values, **more}).result


def size_of(chosen: Any) -> dict[str, Any]:
    """The size of a video's settings as the host hands it to a node."""
    return {"size": "custom", "width": chosen.width, "height": chosen.height}


@pytest.mark.parametrize("cfg", [1.0, 2.0])
@pytest.mark.parametrize("forcing", [{}, ASYNC], ids=["sync", "async"])
def test_it_is_the_plan_of_the_video_that_is_made(
    pack_nodes: dict[str, Any], bridge: ModuleType, given: ModuleType, model: Any, vae: Any, cfg: float,
    forcing: dict[str, Any],
) -> None:  # fmt: skip
    chosen = settings(bridge, cfg=cfg, forcing=forcing)
    pictures = torch.rand(9, 32, 32, 3, generator=torch.Generator().manual_seed(0))
    keys = {"key_images": pictures[:1], "key_times": "1s"}
    images = given.GivenImages(pictures, pictures[:1], pictures[:1], (24,))
    text, picture = planned(pack_nodes, chosen, start_image=pictures, end_image=pictures[:1], **keys)
    made = make(bridge, inputs(bridge, model, vae), chosen, images=images)
    assert str(made.text).splitlines()[: len(text.splitlines())] == text.splitlines()
    plain, plain_picture = planned(pack_nodes, chosen)
    assert forcing == {} or plain != text
    assert (picture == 0.85).all(-1).sum() > (plain_picture == 0.85).all(-1).sum(), "given frames are light grey"


def test_of_an_extension_it_is_the_plan_of_the_extended_video(
    pack_nodes: dict[str, Any], bridge: ModuleType, given: ModuleType, model: Any, vae: Any
) -> None:
    pictures = torch.rand(5, 32, 32, 3, generator=torch.Generator().manual_seed(0))
    chosen = settings(bridge, total_frames=5 + 30, forcing=ASYNC)
    made = make(bridge, inputs(bridge, model, vae), chosen, images=given.GivenImages(pictures, pictures[:1]))
    text, _ = planned(pack_nodes, chosen, total_frames=999, new_frames=30, end_image=pictures[:1])
    assert str(made.text).splitlines()[: len(text.splitlines())] == text.splitlines()
    answer = importlib.import_module("skyreels_v2.nodes.live_plan").answer
    shown = {name: getattr(chosen, name) for name in NAMES} | ASYNC
    calls = text_of_calls(planned(pack_nodes, chosen, new_frames=30)[0])
    assert f", {calls}," in answer(shown | {"new_frames": 30})["text"]
    assert f", {calls}," not in answer(shown)["text"], "the frames of the given video need no rows"


@pytest.mark.parametrize(("method", "ar_step"), [("segments", 5), ("moving window", 13)])
def test_a_step_cache_on_the_way_to_the_model_is_planned_with(method: str, ar_step: int) -> None:
    answer = importlib.import_module("skyreels_v2.nodes.live_plan").answer
    shown = {"total_frames": 257, "base_num_frames": 97, "overlap_history": 17, "steps": 50, "shift": 8.0}
    shown |= {"ar_step": ar_step, "causal_block_size": 5, "method": method}

    def times_fewer(**given: Any) -> float:
        found = re.search(r"Step Cache: about ([\d.]+) times fewer", answer(shown | {"step_cache": given})["text"])
        return float(found[1]) if found else 0.0

    presets = [times_fewer(preset=preset, threshold=0) for preset in ("lossless-like", "balanced", "fast")]
    assert 1.5 < presets[0] < presets[1] < presets[2] < 10
    assert times_fewer(threshold=0.1) == presets[0], "a node from before there were presets"
    assert times_fewer(threshold=0) == times_fewer() == 0
    assert not answer(shown | {"step_cache": {"preset": "quick"}})["ok"]
    assert not answer(shown | {"step_cache": {"threshold": -1}})["ok"]
    for odd in (None, 3, [], {"preset": 7}, {"threshold": "many"}, {"threshold": []}):
        assert "times fewer" not in answer(shown | {"step_cache": odd})["text"]


def text_of_calls(plan: str) -> str:
    (calls,) = set(re.findall(r"\d+ model calls", plan))
    return calls


@pytest.fixture
def planners(pack: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The name of each planner, as often as it is called."""
    methods, called = importlib.import_module("skyreels_v2.wan_core.long.methods"), list[str]()

    def noting(name: str) -> Any:
        plan = getattr(methods, name)
        return lambda *given: (called.append(name), plan(*given))[1]

    for name in ("plan_segments", "plan_moving_window", "plan_rolling"):
        monkeypatch.setattr(methods, name, noting(name))
    return called


SIZE = {"size": "custom", "width": 32, "height": 32}
VALUES = {
    "base_num_frames": 21, "overlap_history": 5, "seed": 1, "steps": 2, "cfg": 1.0, "shift": 5.0, "solver": "euler",
    "ar_step": 0, "causal_block_size": 2, "causal_attention": False, "addnoise_condition": 20, "carry_over": "latents",
    "drift_control": 0.0, "codec": "ffv1", "crf": 18,
}  # fmt: skip
ROLLING = {"method": "rolling", "chunk_frames": 2, "window_frames": 6, "sink_frames": 0, "timesteps": "1000, 500"}


@pytest.mark.parametrize(
    ("method", "planner"),
    [
        ({"method": "segments"}, "plan_segments"),
        ({"method": "moving window"}, "plan_moving_window"),
        ({**ROLLING, "timesteps_shift": 5.0, "at_prompt_change": "recache"}, "plan_rolling"),
    ],
    ids=lambda each: each["method"] if isinstance(each, dict) else "",
)
def test_a_run_is_planned_once(
    pack_nodes: dict[str, Any], tiny_clip: Any, model: Any, vae: Any, planners: list[str], method: dict[str, Any],
    planner: str,
) -> None:  # fmt: skip
    lines = "0s-1s: a red ball\n1s-: a blue cube"
    script, negative = pack_nodes["SkyReelsV2PromptScript"].execute(tiny_clip, lines).args
    given = {"model": model, "vae": vae, "script": script, "negative": negative, "method": method} | VALUES
    job = {"job_name": "once", "keep_gb": 0.0}
    node = pack_nodes["SkyReelsV2LongVideo"]
    node.hidden = SimpleNamespace(prompt=None, extra_pnginfo=None)
    picture = torch.rand(1, 32, 32, 3)
    with torch.inference_mode():
        made = node.execute(
            **given, **job, size=SIZE, total_frames=46, fps=24, loop=False, key_times="", start_image=picture
        ).args
    assert planners == [planner] and made[1]["samples"].isfinite().all()


def test_an_extension_is_planned_once_and_again_only_where_the_video_is_too_short(
    pack_nodes: dict[str, Any], tiny_clip: Any, model: Any, vae: Any, planners: list[str]
) -> None:
    latest = importlib.import_module("comfy_api.latest")
    positive, negative = pack_nodes["SkyReelsV2TextEncode"].execute(tiny_clip, "a red ball", "").args[:2]
    node = pack_nodes["SkyReelsV2ExtendVideo"]
    node.hidden = SimpleNamespace(prompt=None, extra_pnginfo=None)
    for frames, times in ((9, 1), (3, 2)):
        planners.clear()
        parts = latest.Types.VideoComponents(images=torch.rand(frames, 32, 32, 3), audio=None, frame_rate=24)
        video = latest.InputImpl.VideoFromComponents(parts)
        with torch.inference_mode():
            node.execute(
                model=model, vae=vae, video=video, size="as the video", new_frames=8, positive=positive,
                negative=negative, job_name="once", keep_gb=0.0, **VALUES,
            )  # fmt: skip
        assert planners == ["plan_segments"] * times


def test_a_plan_is_shown_from_one_plan(pack_nodes: dict[str, Any], bridge: ModuleType, planners: list[str]) -> None:
    chosen = settings(bridge)
    planned(pack_nodes, chosen, start_image=torch.rand(1, 32, 32, 3))
    assert planners == ["plan_segments"]
    answer = importlib.import_module("skyreels_v2.nodes.live_plan").answer
    assert answer({name: getattr(chosen, name) for name in NAMES})["ok"]
    assert planners == ["plan_segments"] * 2


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"new_frames": 8, "loop": True}, "new_frames is 8, .* has no loop: "),
        ({"new_frames": 8, "start_image": torch.rand(1, 32, 32, 3)}, "has no start_image: "),
        (
            {"new_frames": 8, "loop": True, "key_images": torch.rand(1, 32, 32, 3), "key_times": "1"},
            "has no loop and no key_images: ",
        ),
        ({"total_frames": 45, "loop": True, "end_image": torch.rand(1, 32, 32, 3)}, "A loop ends on its own first"),
        ({"key_images": torch.rand(1, 32, 32, 3)}, "key_times names 0 frames, but there are 1 key images"),
        ({"start_image": torch.rand(0, 32, 32, 3)}, "holds 0 images"),
    ],
    ids=["loop", "start", "keys", "end of a loop", "no time", "no image"],
)
def test_what_cannot_be_made_cannot_be_planned(
    pack_nodes: dict[str, Any], bridge: ModuleType, wrong: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        planned(pack_nodes, settings(bridge), **wrong)


def test_a_prompt_of_before_it_knew_cfg_images_and_extensions_still_runs(
    pack_nodes: dict[str, Any], bridge: ModuleType
) -> None:
    node, chosen = pack_nodes["SkyReelsV2Plan"], settings(bridge, cfg=6.0)
    required = [entry.id for entry in node.GET_SCHEMA().inputs if not entry.optional]
    values = {name: getattr(chosen, name, None) for name in NAMES if name in required}
    old = node.execute(size=size_of(chosen), **values, ar_step=0, causal_block_size=1, causal_attention=False).result
    assert (
        set(required) == {"size", "ar_step", "causal_block_size", "causal_attention", *values} and "cfg" not in values
    )
    assert old[0] == planned(pack_nodes, chosen)[0]
