"""What a long video refuses in the host's process, and what a full disk or a second run means for it."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import folder_paths
import pytest
import torch
from long_scene import frames_of, inputs, make, settings

pytestmark = pytest.mark.usefixtures("output_folder")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"overlap_history": 21}, "leaves no room for new frames"),
        ({"loop": True, "total_frames": 44}, "Use 45"),
    ],
)
def test_settings_that_cannot_work_are_refused_first(
    bridge: ModuleType, model: Any, vae: Any, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        make(bridge, inputs(bridge, model, vae), settings(bridge, **changes))


@pytest.mark.parametrize("name", ["start", "end", "keys"])
def test_a_batch_of_no_images_is_refused_first(
    bridge: ModuleType, given: ModuleType, model: Any, vae: Any, output_folder: Path, name: str
) -> None:
    images = given.GivenImages(**{name: torch.rand(0, 32, 32, 3)})
    with pytest.raises(ValueError, match="holds 0 images"):
        make(bridge, inputs(bridge, model, vae), settings(bridge), images=images)
    assert not any(output_folder.iterdir())


def test_a_loop_to_an_end_image_is_refused_first(bridge: ModuleType, model: Any, vae: Any) -> None:
    given = importlib.import_module("skyreels_v2.wan_core.long.key_frames")
    images = given.GivenImages(end=torch.rand(1, 32, 32, 3))
    with pytest.raises(ValueError, match="disconnect it or turn loop off"):
        make(bridge, inputs(bridge, model, vae), settings(bridge, loop=True, total_frames=45), images=images)


def test_a_key_image_for_the_frame_that_a_loop_does_not_write_is_refused_first(
    bridge: ModuleType, model: Any, vae: Any
) -> None:
    given = importlib.import_module("skyreels_v2.wan_core.long.key_frames")
    images = given.GivenImages(keys=torch.rand(1, 32, 32, 3), key_frames=(44,))
    with pytest.raises(ValueError, match="for frame 44, but the video has 44 frames: use 0 to 43, or -1 to -44"):
        make(bridge, inputs(bridge, model, vae), settings(bridge, loop=True, total_frames=45), images=images)


@pytest.mark.parametrize("size", [(0, 32), (40, 32), (32, -16)])
def test_a_size_that_the_model_cannot_make_is_refused(bridge: ModuleType, size: tuple[int, int]) -> None:
    with pytest.raises(
        ValueError, match=f"The size is {size[0]}x{size[1]} pixels, but width and height have to be multiples of 16"
    ):
        settings(bridge, width=size[0], height=size[1])


def test_a_second_run_of_a_job_is_refused_while_the_first_one_works(
    bridge: ModuleType, model: Any, vae: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = []
    sample = bridge.JobSampling.segment

    def meddling(self: Any, task: Any) -> torch.Tensor:
        if not refused:
            with pytest.raises(ValueError, match="is being worked on by") as refusal:
                make(bridge, inputs(bridge, model, vae), settings(bridge))
            refused.append(refusal)
        return sample(self, task)

    monkeypatch.setattr(bridge.JobSampling, "segment", meddling)
    made = make(bridge, inputs(bridge, model, vae), settings(bridge))
    assert refused and len(frames_of(made.path)) == 46


@pytest.mark.parametrize("codec", ["h264", "png"])
def test_a_disk_that_is_full_or_read_only_is_said_and_the_job_goes_on_later(
    bridge: ModuleType, model: Any, vae: Any, output_folder: Path, codec: str
) -> None:
    """On a disk of its own that is really full, not with an error made up for the test."""
    chosen = settings(bridge, codec=codec)
    expected = frames_of(make(bridge, inputs(bridge, model, vae), chosen, "undisturbed").path)
    disk = output_folder / "skyreels_v2_jobs" / "disk"
    disk.mkdir()
    if (
        os.name != "posix"
        or os.geteuid()
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1M", "tmpfs", disk]).returncode
    ):
        pytest.skip("needs the right to mount a tmpfs")
    folder_paths.set_output_directory(str(disk))
    try:
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(1_000_000))
        with pytest.raises(ValueError, match=r"The disk is full under .*start the same job again"):
            make(bridge, inputs(bridge, model, vae), chosen)
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        with pytest.raises(ValueError, match="Nothing can be written to"):
            make(bridge, inputs(bridge, model, vae), chosen)
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
        ballast.unlink()
        assert (frames_of(make(bridge, inputs(bridge, model, vae), chosen).path) == expected).all()
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_name_with_folders_is_refused(bridge: ModuleType, model: Any, vae: Any, output_folder: Path) -> None:
    with pytest.raises(ValueError, match="name"):
        make(bridge, inputs(bridge, model, vae), settings(bridge), "../elsewhere")
    assert list(output_folder.rglob("*elsewhere*")) == []


def frames_at(given: ModuleType, times: str, keys: torch.Tensor) -> tuple[int, ...]:
    return given.read_key_frames(times, keys, 24, given.words("key_times"))


@pytest.mark.parametrize(
    ("keys", "times", "words"),
    [
        (1, "2s 3s", "key_times names 2 frames, but there are 1 key images"),
        (1, "soon", "key_times holds 'soon'"),
        (1, "2.5", "key_times holds '2.5'"),
        (1, "9s", "frame 216, but the video has 46 frames: use 0 to 45"),
        (2, "21 22", "Two images are given for one place"),
        (1, "-1", "Two images are given for one place, frame -1 and the end"),
    ],
)
def test_key_images_without_a_place_are_refused(given: ModuleType, keys: int, times: str, words: str) -> None:
    pictures = torch.rand(keys, 32, 32, 3)
    with pytest.raises(ValueError, match=words):
        given.GivenImages(None, pictures[:1], pictures, frames_at(given, times, pictures)).placed(46)


@pytest.mark.parametrize(
    ("values", "ok", "words"),
    [
        ({"total_frames": 737, "fps": 24, "size": "540P landscape (960x544)"}, True, "9 segments, 540 model calls"),
        ({"total_frames": 737, "cfg": 1.0, "size.width": 64, "size.height": 64}, True, "270 model calls"),
        ({"total_frames": 257, "loop": True, "fps": 24}, True, "256 video frames = 10.7 s"),
        (
            {"total_frames": 257, "size.width": 64, "size.height": 64, "linked": ["total_frames"]},
            True,
            "total_frames: linked, so",
        ),
        ({"overlap_history": 97, "linked": ["overlap_history", "vae"]}, True, "no room for new frames"),
        ({"new_frames": 80, "overlap_history": 17}, True, "1 segment, 60 model calls, 97 video frames"),
        (
            {"new_frames": 0, "total_frames": 257, "overlap_history": 17},
            True,
            "3 segments, 180 model calls, 257 video frames",
        ),
        ({"new_frames": 80, "overlap_history": 17, "loop": True}, False, "Extend Video has no loop"),
        ({"overlap_history": 97}, False, "overlap_history is 97"),
        ({"codec": "h264", "crf": 60}, False, "crf is 60"),
        ({"total_frames": "1,5"}, True, ""),
        ({"size": ["12", 0]}, True, ""),
    ],
)
def test_the_front_end_is_told_the_plan_or_why_there_is_none(
    pack: ModuleType, values: dict[str, Any], ok: bool, words: str
) -> None:
    answer = importlib.import_module("skyreels_v2.nodes.live_plan").answer(values)
    assert answer["ok"] is ok
    assert words in answer["text"] if words else not answer["text"]


def for_settings(values: dict[str, Any]) -> dict[str, Any]:
    """Put diffusion-forcing settings where LongVideoSettings has them."""
    forcing = {name: value for name, value in values.items() if name in ("fps", "solver", "addnoise_condition")}
    others = {name: value for name, value in values.items() if name not in forcing}
    return others | ({"forcing": forcing} if forcing else {})


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"overlap_history": 97}, "overlap_history is 97"),
        ({"crf": 60}, "crf is 60"),
        ({"crf": 60, "overlap_history": 97}, "overlap_history is 97"),
        ({"shift": 0.0}, "shift is 0.0"),
        ({"drift_control": 2.0}, "drift_control is 2.0"),
        ({"addnoise_condition": 2000}, "addnoise_condition is 2000"),
        ({"solver": "magic"}, 'The solver is "magic"'),
        ({"fps": 0}, "fps is 0"),
    ],
)
def test_the_live_plan_refuses_in_the_very_sentence_of_the_node_and_of_the_run(
    pack_nodes: dict[str, Any], bridge: ModuleType, model: Any, vae: Any, wrong: dict[str, Any], words: str
) -> None:
    node = pack_nodes["SkyReelsV2LongVideo"]
    values = {entry.id: getattr(entry, "default", None) for entry in node.GET_SCHEMA().inputs}
    values = {name: value for name, value in values.items() if value is not None} | wrong
    with pytest.raises(ValueError, match="|".join(wrong)) as refused:
        node.execute(model=model, vae=vae, negative=None, size={"size": "540P landscape (960x544)"}, **values)
    said = {text for text in [str(refused.value)] if not text.startswith("The input ")}  # what only a link can bring
    with pytest.raises(ValueError, match=words) as refused:
        make(bridge, inputs(bridge, model, vae), settings(bridge, base_num_frames=97, **for_settings(wrong)))
    said.add(str(refused.value))
    answer = importlib.import_module("skyreels_v2.nodes.live_plan").answer(values)
    assert not answer["ok"] and {answer["text"]} == said


@pytest.mark.parametrize(
    ("wrong", "connected"),
    [
        *(({"job_name": name}, []) for name in ("a/b", "", "..", "a\\b", "con", "what?", " ", "a:b")),
        ({"size": "custom", "size.width": 100, "size.height": 64}, []),
        ({"key_times": "soon"}, ["key_images"]),
        ({"key_times": "2s 3s"}, []),
        ({"key_times": "99s"}, ["key_images"]),
        ({"key_times": "21 22"}, ["key_images"]),
        ({"key_times": "0"}, ["key_images", "start_image"]),
        ({"key_times": "256"}, ["key_images", "end_image"]),
        ({"loop": True}, ["end_image"]),
        ({"total_frames": 4}, ["start_image", "end_image"]),
        ({"total_frames": 1}, ["start_image"]),
    ],
    ids=str,
)
def test_the_live_plan_refuses_what_the_run_refuses_for_names_times_and_connected_images(
    pack_nodes: dict[str, Any],
    model: Any,
    vae: Any,
    monkeypatch: pytest.MonkeyPatch,
    wrong: dict[str, Any],
    connected: list[str],
) -> None:
    node = pack_nodes["SkyReelsV2LongVideo"]
    monkeypatch.setattr(node, "hidden", SimpleNamespace(prompt=None, extra_pnginfo=None), raising=False)
    values = {entry.id: getattr(entry, "default", None) for entry in node.GET_SCHEMA().inputs}
    values = {name: value for name, value in values.items() if value is not None} | wrong
    words = [word for word in wrong.get("key_times", "").split() if word]
    images = {name: torch.zeros(max(1, len(words)) if name == "key_images" else 1, 32, 32, 3) for name in connected}
    prompt = [[torch.zeros(1, 4, 4096), {}]]
    size = {name.removeprefix("size."): value for name, value in wrong.items() if name.startswith("size")}
    given = {name: value for name, value in (values | images).items() if not name.startswith("size")}
    with pytest.raises(ValueError, match=r"\.$") as refused:
        node.execute(
            model=model,
            vae=vae,
            positive=prompt,
            negative=prompt,
            size=size or {"size": "540P landscape (960x544)"},
            **given,
        )
    live = importlib.import_module("skyreels_v2.nodes.live_plan").answer
    assert live(values | {"connected": connected}) == {"ok": False, "text": str(refused.value)}


def test_the_live_plan_refuses_nothing_that_is_not_known_before_the_run(pack: ModuleType) -> None:
    answer = importlib.import_module("skyreels_v2.nodes.live_plan").answer
    values = {"total_frames": 257, "job_name": "fine", "key_times": "2s 4s", "loop": False}
    assert answer(values)["ok"], "which inputs are connected is not told"
    assert answer(values | {"connected": ["key_images", "start_image", "end_image", "vae"]})["ok"]
    assert answer(values | {"job_name": "a/b", "linked": ["job_name"]})["ok"]
    assert answer(values | {"total_frames": float("inf")}) == {"ok": True, "text": ""}
    extension = {"new_frames": 80, "overlap_history": 17, "job_name": "fine"}
    assert answer(extension | {"connected": ["end_image", "video"]})["ok"]
    for name in ("start_image", "key_images"):
        assert f"Extend Video has no {name}" in answer(extension | {"connected": [name]})["text"]


def test_the_front_end_is_not_told_what_hangs_on_a_link(pack: ModuleType) -> None:
    answer = importlib.import_module("skyreels_v2.nodes.live_plan").answer
    values = {"total_frames": 257, "size.width": 64, "size.height": 64, "fps": 16}
    assert "= 16.1 s" in answer(values)["text"] and " MB" in answer(values)["text"]
    assert " MB" not in answer(values | {"linked": ["size"]})["text"].replace("MB on disk", "")
    extended = answer({"new_frames": 80, "overlap_history": 17})["text"]
    assert "97 video frames = 4.0 s at 24 fps" in extended, "the rate is that of a video that is not known yet"


SAID = [  # one for every sentence that the live plan can say
    {"total_frames": 737, "size.width": 960, "size.height": 544, "fps": 24},
    {"total_frames": 737, "size.width": 960, "size.height": 544, "linked": ["steps", "fps"]},
    {"new_frames": 80, "overlap_history": 17},
    {"new_frames": 80, "overlap_history": 17, "loop": True},
    {"total_frames": 257, "loop": True},
    *({name: -1} for name in ("total_frames", "base_num_frames", "overlap_history", "causal_block_size", "ar_step")),
    {"steps": 0},
    {"overlap_history": 97},
    {"overlap_history": 97, "base_num_frames": 1},
    {"overlap_history": 49, "total_frames": 161, "loop": True},
    {"total_frames": 161, "loop": True, "causal_attention": True},
    {"total_frames": 162, "loop": True},
    {"codec": "cinepak"},
    {"crf": 60},
    {"job_name": "a/b"},
    {"size.width": 100, "size.height": 64},
    {"shift": 0.0},
    {"solver": "euler_a"},
    {"addnoise_condition": 2000},
    {"drift_control": 2.0},
    {"fps": 0},
    {"key_times": "1 2", "connected": []},
    {"key_times": "x1"},
    {"key_times": "999"},
    {"key_times": "21 22"},
    {"key_times": "256", "connected": ["key_images", "end_image"]},
    {"total_frames": 1, "connected": ["start_image"]},
    {"loop": True, "connected": ["end_image"]},
    {"new_frames": 80, "overlap_history": 17, "connected": ["start_image"]},
    {"new_frames": 80, "overlap_history": 17, "connected": ["key_images"]},
]


@pytest.mark.parametrize("values", SAID, ids=str)
def test_all_that_the_live_plan_says_is_said_in_chinese_where_the_front_end_is(
    pack: ModuleType, values: dict[str, Any]
) -> None:
    answer = importlib.import_module("skyreels_v2.nodes.live_plan").answer
    english, chinese = answer(values), answer(values | {"language": "zh"})
    assert chinese == answer(values | {"language": "zh-TW"}), "which has no words of its own"
    assert english["ok"] is chinese["ok"] and english == answer(values | {"language": "fr"})
    lines = chinese["text"].splitlines()
    assert len(lines) == len(english["text"].splitlines())
    for line in lines:
        kept = "SkyReels-V2|token|fps|PyAV|MB|[a-z]+_[a-z_]+|steps|loop|codec|crf|4k|cinepak|h264|hevc|av1|prores|ffv1"
        names = rf"\b({kept}|png|16 bit|shift|solver|euler|unipc|lcm|a/b|x1|\d+x\d+)\b"
        left = re.sub(names, "", line)
        assert re.search(r"[\u4e00-\u9fff]", line) and not re.search(r"[A-Za-z]", left), line
    texts = [entry["text"].replace("SkyReels-V2", "") for entry in (english, chinese)]
    numbers = [sorted(re.findall(r"\d+(?:\.\d+)?", text)) for text in texts]
    assert numbers[0] == numbers[1]
