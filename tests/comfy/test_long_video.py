"""Long video in a running server: plan, script, going on after an interruption, jobs, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tests.comfy.graph import Ref
from tests.comfy.host import ExecutionFailed, Host
from tests.comfy.scene import SETTINGS, Scene, video_of
from tests.comfy.videos import CLIP, CLIP_FRAMES, probe
from tests.waiting import wait_until

LONG = {
    **SETTINGS, "size": "custom", "width": 64, "height": 64, "total_frames": 45, "base_num_frames": 21,
    "overlap_history": 5, "steps": 2, "carry_over": "latents", "drift_control": 0.0, "codec": "h264", "crf": 18,
    "loop": False, "key_times": "", "job_name": "test", "keep_gb": 0.0,
}  # fmt: skip
NOT_FOR_EXTENDING = ("size", "width", "height", "total_frames", "fps", "loop", "key_times")


def long_video(scene: Scene, **changes: Any) -> Ref:
    """Add the long-video node; its prompt is the scene's unless a script is given."""
    given = {"model": scene.model, "vae": scene.vae, "negative": scene.negative, **LONG, **changes}
    if "script" not in changes:
        given["positive"] = scene.positive
    return scene.add("SkyReelsV2LongVideo", **given)


def extended(scene: Scene, **changes: Any) -> Ref:
    """Add the node that extends the clip in the input folder."""
    given = {name: value for name, value in LONG.items() if name not in NOT_FOR_EXTENDING}
    video = scene.add("LoadVideo", file=CLIP)
    return scene.add(
        "SkyReelsV2ExtendVideo", model=scene.model, vae=scene.vae, negative=scene.negative, positive=scene.positive,
        video=video, **{**given, "size": "as the video", "new_frames": 20, **changes},
    )  # fmt: skip


def saved(host: Host, scene: Scene, video: Ref) -> Path:
    """Save a VIDEO as core does, and return its file."""
    scene.add("SaveVideo", video=video, filename_prefix="long", format="auto", codec="auto")
    return video_of(host.run(scene.prompt, timeout=300))


def text_of(host: Host, scene: Scene, text: Ref) -> str:
    """Return what a STRING output said."""
    scene.add("SkyReelsV2TestText", value=text, name="text")
    files = [path for path in host.run(scene.prompt, timeout=300).outputs.values() for path in path]
    return next(path for path in files if path.suffix == ".txt").read_text("utf-8")


def pixels(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def test_a_script_of_three_prompts_makes_another_video_than_one(host: Host) -> None:
    one, three = Scene(), Scene()
    plain = saved(host, one, long_video(one, job_name="one"))
    script = three.add("SkyReelsV2PromptScript", clip=three.clip, script="a red ball\na blue cube\na green star")
    changed = saved(host, three, long_video(three, script=script, job_name="three"))
    assert probe(plain) == probe(changed)
    assert (probe(plain).width, probe(plain).frames, probe(plain).fps) == (64, 45, 24)
    assert (pixels(plain) != pixels(changed)).any()


def test_a_list_of_prompts_is_a_script_and_a_blend_and_a_seed_change_the_video(host: Host) -> None:
    def made(name: str, node: str, **given: Any) -> np.ndarray:
        scene = Scene()
        script = scene.add(node, clip=scene.clip, **given)
        return pixels(saved(host, scene, long_video(scene, script=script, job_name=name, codec="ffv1")))

    texts = ("a red ball", "[seed 7] a blue cube", "a green star")
    listed = {f"prompts.prompt_{number}": text for number, text in enumerate(texts, 1)}
    script = made("script", "SkyReelsV2PromptScript", script="\n".join(texts))
    assert (made("list", "SkyReelsV2PromptList", **listed) == script).all()
    first = slice(0, 17)  # all that the first segment finishes and the decoder can show
    blended = made("blended", "SkyReelsV2PromptList", **listed, blend=0.5)
    assert (blended[first] == script[first]).all() and (blended != script).any()
    unseeded = made("unseeded", "SkyReelsV2PromptScript", script="\n".join(texts).replace("[seed 7] ", ""))
    assert (unseeded[first] == script[first]).all() and (unseeded != script).any()


def test_frames_are_kept_as_pictures_beside_a_video_that_plays(host: Host) -> None:
    scene = Scene()
    facts = probe(saved(host, scene, long_video(scene, job_name="pictures", codec="png")))
    assert (facts.width, facts.frames, facts.fps) == (64, 45, 24)
    (folder,) = (host.base / "output" / "skyreels_v2_jobs").glob("pictures-*/frames")
    assert sorted(path.name for path in folder.iterdir()) == [f"frame_{number:06}.png" for number in range(45)]
    assert b"tEXtprompt\0" in (folder / "frame_000000.png").read_bytes()


def test_the_workflow_is_in_the_job_s_own_file_and_in_the_saved_one(host: Host) -> None:
    scene = Scene()
    copy = saved(host, scene, long_video(scene, job_name="metadata"))
    (own,) = (host.base / "output" / "skyreels_v2_jobs").glob("metadata-*/metadata-*.mp4")
    for path in (own, copy):
        with av.open(str(path)) as container:
            assert "SkyReelsV2LongVideo" in container.metadata["prompt"], path


def test_an_interrupted_video_goes_on_behind_its_last_finished_segment(host: Host) -> None:
    slow = {"total_frames": 77, "steps": 12, "job_name": "interrupted"}
    whole = Scene()
    expected = pixels(saved(host, whole, long_video(whole, **{**slow, "job_name": "whole"})))
    scene = Scene()
    video = long_video(scene, **slow)
    scene.add("SaveVideo", video=video, filename_prefix="long", format="auto", codec="auto")
    identity = host.queue(scene.prompt)
    records = host.base / "output" / "skyreels_v2_jobs"
    wait_until(lambda: list(records.glob("interrupted-*/segment-0001.json")), 120, every=0.02)
    host.interrupt()
    host.wait(identity, timeout=120)
    kept = len(list(records.glob("interrupted-*/segment-*.json")))
    assert 2 <= kept < 5, "the run was over before it could be interrupted"
    again = Scene()
    going_on = long_video(again, **slow)
    assert f"Resumes after segment {kept}" in text_of(host, again, going_on[2])
    final = Scene()
    assert (pixels(saved(host, final, long_video(final, **slow))) == expected).all()


def test_the_plan_is_a_table_and_a_picture(host: Host) -> None:
    scene = Scene()
    names = ("size", "width", "height", "total_frames", "base_num_frames", "overlap_history", "steps", "shift")
    plan = scene.add(
        "SkyReelsV2Plan", **{name: LONG[name] for name in names}, ar_step=0, causal_block_size=1,
        causal_attention=False, loop=False,
    )  # fmt: skip
    scene.add("SaveImage", images=plan[1], filename_prefix="plan")
    text = text_of(host, scene, plan[0])
    for part in ("45 video frames in 3 segments", "12 model calls", "96 tokens in the longest window"):
        assert part in text


def test_a_video_is_extended_at_its_own_size(host: Host) -> None:
    scene = Scene()
    facts = probe(saved(host, scene, extended(scene, job_name="extended")))
    assert (facts.width, facts.height, facts.frames, facts.fps) == (64, 64, CLIP_FRAMES + 20, 24)


def test_jobs_are_listed_and_removed(host: Host) -> None:
    scene = Scene()
    saved(host, scene, long_video(scene, job_name="listed", total_frames=21))
    (folder,) = (host.base / "output" / "skyreels_v2_jobs").glob("listed-*")
    listing = Scene()
    assert f"{folder.name}  finished" in text_of(host, listing, listing.add("SkyReelsV2Jobs", remove=""))
    for said in (f"{folder.name} was removed.", "There is no job"):  # queued again with the name still in its place
        removing = Scene()
        text = text_of(host, removing, removing.add("SkyReelsV2Jobs", remove=folder.name))
        assert said in text and f"{folder.name}  finished" not in text
        assert not folder.exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"overlap_history": 21}, ("overlap_history is 21", "lower overlap_history to 17")),
        ({"job_name": "../../elsewhere"}, ("'../../elsewhere'", "without folders")),
        ({"crf": 60}, ("crf is 60", "51")),
        ({"loop": True, "total_frames": 44}, ("44 video frames", "Use 45")),
        ({"key_times": "2s"}, ("key_times names 1 frames, but there are 0 key images",)),
        ({"script": "0s-9s: a\n9s-: b"}, ("'0s-9s'", "past the end")),
        ({"script": "a\nb"}, ("2 prompts", "3 segments")),
        ({"script": ""}, ("script is empty",)),
        ({"script": "a\n[seed x] b\nc"}, ("'x'", "0 to 18446744073709551615")),
    ],
)
def test_what_cannot_work_is_refused_before_the_first_step(
    host: Host, changes: dict[str, Any], words: tuple[str, ...]
) -> None:
    scene = Scene()
    if "script" in changes:
        changes = {"script": scene.add("SkyReelsV2PromptScript", clip=scene.clip, script=changes["script"])}
    video = long_video(scene, **changes)
    scene.add("SaveVideo", video=video, filename_prefix="long", format="auto", codec="auto")
    with pytest.raises(ExecutionFailed) as failed:
        host.run(scene.prompt)
    assert all(word in str(failed.value) for word in words), str(failed.value)
    assert not list(host.base.glob("**/*elsewhere*"))


def test_a_broken_video_is_refused_by_name(host: Host) -> None:
    whole = (host.base / "input" / CLIP).read_bytes()
    (host.base / "input" / "broken.mp4").write_bytes(whole[: len(whole) // 2])
    scene = Scene()
    video = extended(scene)
    for node in scene.prompt.values():
        if node["class_type"] == "LoadVideo":
            node["inputs"]["file"] = "broken.mp4"
    scene.add("SaveVideo", video=video, filename_prefix="long", format="auto", codec="auto")
    with pytest.raises(ExecutionFailed, match=r"broken\.mp4"):
        host.run(scene.prompt)
