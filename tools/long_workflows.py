"""The graphs of long videos: prompts that change, a video that goes on, first and last frame, a loop."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from tools.node_inputs import size_values
from tools.workflow_graph import (
    EMBEDDED,
    RELEASED,
    SAMPLING,
    Graph,
    Kit,
    Node,
    Picture,
    negative,
    save_video,
    text_encode,
)

SWAN = (
    "0s-10s: A graceful white swan with a curved neck swims in a serene lake at dawn, mist rising, soft golden light.\n"
    "10s-20s: The swan spreads its wings and takes off from the lake, water drops sparkling in the morning sun.\n"
    "20s-: The swan flies high over a wide green valley with a winding river, clouds around it, clear daylight."
)
WALK = "The camera moves slowly forward while the scene comes to life, natural motion, soft light."
WAVES = "Gentle waves roll over a sandy beach again and again, clear water, warm evening light, the camera is still."

STAR = "a yellow star moving to the left on a grey background"
SQUARE = "a green square moving to the right on a white background"
SHAPES = (
    "0s-1.5s: a red circle moving to the right on a black background\n"
    "1.5s-3.2s: a red circle moving up on a black background\n"
    "3.2s-: a red circle standing still on a black background"
)

OUTPUTS = [("video", "VIDEO"), ("latent", "LATENT"), ("plan", "STRING")]


@dataclass(frozen=True)
class LongSettings:
    """The widgets of a long video that differ from graph to graph; `total_frames` are the new ones of an extension."""

    kit: Kit
    total_frames: int
    job_name: str
    cfg: float = 6.0
    shift: float = 8.0
    loop: bool = False

    def values(self) -> dict[str, Any]:
        """Return the widgets that making and extending have in common."""
        window, overlap = self.kit.window
        return {
            **SAMPLING, "base_num_frames": window, "overlap_history": overlap, "steps": self.kit.steps,
            "cfg": self.cfg, "shift": self.shift, "carry_over": "latents", "drift_control": 0.0, "codec": "h264",
            "crf": 18, "job_name": self.job_name, "keep_gb": 0.0,
        }  # fmt: skip

    def long_node(self) -> Node:
        """Return the Long Video node."""
        kind = "SkyReelsV2LongVideo"
        own = {**size_values(kind, self.kit.size), "total_frames": self.total_frames, "loop": self.loop}
        return Node(kind, (360, 810), {**self.values(), **own, "key_times": ""}, OUTPUTS)

    def extend_node(self) -> Node:
        """Return the Extend Video node."""
        values = {**self.values(), "size": "as the video", "new_frames": self.total_frames}
        del values["fps"]  # the video has its own
        return Node("SkyReelsV2ExtendVideo", (360, 680), values, OUTPUTS)


def finish(graph: Graph, video: int) -> None:
    """Add what shows the plan and saves the file, each in a column of its own: both grow."""
    (save,) = graph.column(save_video())
    (plan,) = graph.column(Node("PreviewAny", (480, 300), title="Plan / 规划"))
    graph.link(video, "video", save, "video")
    graph.link(video, "plan", plan, "source")


def long_graph(
    prompt: str,
    settings: LongSettings,
    setting: str,
    chinese: str,
    images: tuple[str, ...] = (),
    scripted: bool = False,
) -> Graph:
    """Build the graph of a long video.

    Args:
        prompt: the prompt, or the script of prompts.
        settings: models and widgets.
        setting: what the note says about the settings, in English.
        chinese: the same in Chinese.
        images: inputs that get an image: "start_image", "end_image".
        scripted: whether the prompt is a script.
    """
    graph = Graph()
    models = settings.kit.place(graph, setting, chinese)
    if scripted:
        values = {"script": prompt, "blend": 0.0, "negative_prompt": negative(settings.kit.demo)}
        outputs = [("script", "SKYREELS_V2_SCRIPT"), ("negative", "CONDITIONING")]
        (text,) = graph.column(Node("SkyReelsV2PromptScript", (430, 420), values, outputs))
    else:
        (text,) = graph.column(text_encode(prompt, settings.kit.demo))
    loaded = settings.kit.place_images(graph, list(images))
    (video,) = graph.column(settings.long_node())
    graph.link(*models["clip"], text, "clip")
    graph.link(*models["model"], video, "model")
    graph.link(*models["vae"], video, "vae")
    for name in ("script" if scripted else "positive", "negative"):
        graph.link(text, name, video, name)
    for name, image in zip(images, loaded, strict=True):
        graph.link(image, "IMAGE", video, name)
    finish(graph, video)
    return graph


def extend_graph(prompt: str, settings: LongSettings, setting: str, chinese: str, begin: int = 0) -> Graph:
    """Build the graph that extends a video.

    Args:
        prompt: the prompt.
        settings: models and widgets.
        setting: what the note says about the settings, in English.
        chinese: the same in Chinese.
        begin: frames of the video to extend, which the models make first; 0 = it is a file.
    """
    graph = Graph()
    models = settings.kit.place(graph, setting, chinese)
    if begin:
        (encode,) = graph.column(text_encode(prompt, settings.kit.demo))
        (source,) = graph.column(replace(settings, total_frames=begin, job_name="beginning").long_node())
        graph.link(*models["model"], source, "model")
        graph.link(*models["vae"], source, "vae")
        graph.link(encode, "positive", source, "positive")
        graph.link(encode, "negative", source, "negative")
    else:
        load = Node("LoadVideo", (430, 330), {"file": "your_video.mp4"}, [("VIDEO", "VIDEO")])
        encode, source = graph.column(text_encode(prompt, settings.kit.demo), load)
    (video,) = graph.column(settings.extend_node())
    graph.link(*models["clip"], encode, "clip")
    graph.link(*models["model"], video, "model")
    graph.link(*models["vae"], video, "vae")
    graph.link(source, "video" if begin else "VIDEO", video, "video")
    graph.link(encode, "positive", video, "positive")
    graph.link(encode, "negative", video, "negative")
    finish(graph, video)
    return graph


def long_workflows() -> dict[str, Graph]:
    """Return the example workflows of long videos by title."""
    both_ends = ("start_image", "end_image")
    return {
        "Long Video": long_graph(
            SWAN, LongSettings(RELEASED, 737, "swan"),
            "30 s of video (737 frames) with three prompts. Each segment of 97 frames takes over 17 from the one "
            "before. A run that was stopped goes on where it was when it is queued again with the same settings.",
            "30 秒视频（737 帧），三段提示词。每段 97 帧，承接上一段的 17 帧。"
            "中断后以相同设置再次运行，会从已完成的片段继续。",
            scripted=True,
        ),
        "Extend Video": extend_graph(
            WALK, LongSettings(RELEASED, 160, "extended", 5.0, 5.0),
            "Extends a video: its last 17 frames go into the model; the result is the whole video. cfg 5, shift 5.",
            "续写视频：模型只读取最后 17 帧，输出为完整视频。CFG 5，噪声偏移 5。",
        ),
        "Long Start End Frames": long_graph(
            WALK, LongSettings(RELEASED, 177, "start_end", 5.0, 5.0),
            "First and last frame of a video of two segments (177 frames, 7 s). cfg 5, shift 5.",
            "两段视频（177 帧，7 秒）的首帧与尾帧。CFG 5，噪声偏移 5。", both_ends,
        ),
        "Loop": long_graph(
            WAVES, LongSettings(RELEASED, 161, "loop", loop=True),
            "A video whose end leads back to its start: play it round and round. loop is on.",
            "首尾相接的循环视频：开启 loop。",
        ),
        "Demo Long Video": long_graph(
            SHAPES, LongSettings(EMBEDDED, 117, "demo_long", 4.0, 5.0),
            "Five segments of 37 frames, of which 17 are taken over, and three prompts. 64x64 pixels.",
            "五段，每段 37 帧（其中承接 17 帧），三段提示词。64x64 像素。", scripted=True,
        ),
        "Demo Extend Video": extend_graph(
            STAR, LongSettings(EMBEDDED, 40, "demo_extended", 4.0, 5.0),
            "A video of 37 frames is made first, then 40 frames are added to it. 64x64 pixels.",
            "先生成 37 帧视频，再续写 40 帧。64x64 像素。", 37,
        ),
        "Demo Long Start End Frames": long_graph(
            SQUARE,
            LongSettings(
                replace(EMBEDDED, picture=Picture("green", "white", (30, 14))), 57, "demo_start_end", 4.0, 5.0
            ),
            "First and last frame of a video of two segments, drawn by ComfyUI's own nodes. 64x64 pixels.",
            "两段视频的首帧与尾帧，由 ComfyUI 自带节点绘制。64x64 像素。", both_ends,
        ),
        "Demo Loop": long_graph(
            "a yellow circle moving in a circle on a black background",
            LongSettings(replace(EMBEDDED, window=(37, 5)), 65, "demo_loop", 4.0, 5.0, loop=True),
            "A video whose end leads back to its start: 64 frames, twice around. 64x64 pixels.",
            "首尾相接的循环视频：64 帧，正好绕两圈。64x64 像素。",
        ),
    }  # fmt: skip
