"""Who reads in Chinese is answered in Chinese, everybody else and the log in English: over HTTP, in a real host."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.comfy.host import Host
from tests.comfy.scene import Scene

pytestmark = pytest.mark.newest_host

READERS = {"chinese tab": "zh", "taiwanese tab": "zh-TW", "french tab": "fr"}
HAN = re.compile(r"[\u4e00-\u9fff]")


@pytest.fixture(scope="module")
def read(host: Host) -> Host:
    """The host, told of the tabs of three readers."""
    for client, language in READERS.items():
        assert host.post("/skyreels_v2/language", {"client": client, "language": language}) == {}
    return host


def result(host: Host, scene: Scene, client: str) -> dict[str, Any]:
    return host.wait(host.queue(scene.prompt, client), timeout=200)


def refusal(host: Host, scene: Scene, client: str) -> tuple[str, str]:
    """What a client is told of a prompt that fails, and what the server has printed by then."""
    printed = host.log_size
    messages = dict(result(host, scene, client)["status"]["messages"])
    return messages["execution_error"]["exception_message"].strip(), host.log_from(printed)


def of_our_node() -> Scene:
    scene = Scene(text_width=512)
    scene.dump("never", scene.sample())
    return scene


def inside_of_cores_node() -> Scene:
    scene = Scene()
    sigmas = scene.add("SkyReelsV2Sigmas", steps=3, shift=8.0)
    sampler = scene.select(ar_step=1, window_frames=2, causal_block_size=1)
    scene.dump("never", scene.core_sample(sampler, sigmas))
    return scene


@pytest.mark.parametrize(
    ("make", "english", "chinese"),
    [
        (
            of_our_node,
            "The positive conditioning is 512 wide, but this model takes 4096: load umt5_xxl with CLIPLoader",
            "正向条件的宽度是 512，但这个模型需要 4096：请用“加载CLIP”（CLIPLoader）加载 umt5_xxl",
        ),
        (
            inside_of_cores_node,
            "ar_step is 1, but with 3 steps and a window of 2 latent frames it has to be at least 2: raise ar_step",
            "块间滞后步数（ar_step）是 1，但步数为 3、窗口为 2 个潜帧时至少要为 2：请把它提高到 2",
        ),
    ],
    ids=["our node", "our sampler in core's node"],
)
def test_a_refusal_is_in_the_readers_language_and_in_the_log_in_english(
    read: Host, make: Any, english: str, chinese: str
) -> None:
    for client, words in (
        ("chinese tab", chinese),
        ("an API script", english),
        ("taiwanese tab", chinese),
        ("french tab", english),
    ):
        told, printed = refusal(read, make(), client)
        assert told.startswith(words), client
        assert printed.count(english) >= 2, "core logs the error, and its traceback"
        assert not HAN.search(printed)


def described(read: Host, client: str, total_frames: int) -> tuple[str, str]:
    """What a client is shown of a plan and of the jobs."""
    scene = Scene()
    plan = scene.add(
        "SkyReelsV2Plan",
        size="custom",
        **{"size.width": 64, "size.height": 64},
        total_frames=total_frames,  # another each time: nothing comes from the cache
        base_num_frames=97,
        overlap_history=17,
        steps=30,
        shift=8.0,
        ar_step=0,
        causal_block_size=1,
        causal_attention=False,
        loop=False,
    )
    nodes = (scene.add("PreviewAny", source=plan), scene.add("SkyReelsV2Jobs", remove="nothing"))
    outputs = result(read, scene, client)["outputs"]
    shown, jobs = ("".join(outputs[node.node]["text"]) for node in nodes)
    return shown, jobs


def test_plan_and_jobs_are_described_in_the_readers_language(read: Host) -> None:
    plan, jobs = described(read, "chinese tab", 257)
    assert "共 257 个视频帧，3 段；90 行，180 次模型调用" in plan and "沿用" in plan and "新增" in plan
    assert jobs.startswith("没有任务 'nothing'：请从列表中选择，或留空。\n") and " 个任务，共 " in jobs
    plan, jobs = described(read, "an API script", 261)
    assert "261 video frames in 4 segments; " in plan and "There is no job 'nothing'" in jobs
    assert not HAN.search(plan + jobs)


def test_the_live_plan_answers_in_the_language_that_is_asked_for(read: Host) -> None:
    values = {"total_frames": 737, "size.width": 960, "size.height": 544, "fps": 24}
    said = {
        language: read.post("/skyreels_v2/plan", values | {"language": language})["text"]
        for language in ("en", "zh", "zh-TW", "fr")
    }
    assert said["zh"].startswith("9 段，540 次模型调用，737 个视频帧 = 30.7 秒")
    assert said["zh"] == said["zh-TW"] and said["en"] == said["fr"] and not HAN.search(said["en"])
