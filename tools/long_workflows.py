"""The graphs of long videos: prompts that change, a video that goes on, first and last frame, a loop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tools.workflow_graph import NEGATIVE_PROMPT, Graph, Node, files_note, load_image, loaders, note

SWAN = (
    "0s-10s: A graceful white swan with a curved neck swims in a serene lake at dawn, mist rising, soft golden light.\n"
    "10s-20s: The swan spreads its wings and takes off from the lake, water drops sparkling in the morning sun.\n"
    "20s-: The swan flies high over a wide green valley with a winding river, clouds around it, clear daylight."
)
WALK = "The camera moves slowly forward while the scene comes to life, natural motion, soft light."
WAVES = "Gentle waves roll over a sandy beach again and again, clear water, warm evening light, the camera is still."

LONG_SOCKETS = [
    ("model", "MODEL"), ("vae", "VAE"), ("positive", "CONDITIONING"), ("negative", "CONDITIONING"),
    ("script", "SKYREELS_V2_SCRIPT"), ("start_image", "IMAGE"), ("end_image", "IMAGE"), ("key_images", "IMAGE"),
]  # fmt: skip
EXTEND_SOCKETS = [
    ("model", "MODEL"), ("vae", "VAE"), ("video", "VIDEO"), ("positive", "CONDITIONING"),
    ("negative", "CONDITIONING"), ("script", "SKYREELS_V2_SCRIPT"), ("end_image", "IMAGE"),
]  # fmt: skip
OUTPUTS = [("video", "VIDEO"), ("latent", "LATENT"), ("plan", "STRING")]


@dataclass(frozen=True)
class LongSettings:
    """The widgets of a long video that differ from graph to graph."""

    total_frames: int
    job_name: str
    cfg: float = 6.0
    shift: float = 8.0
    loop: bool = False
    size: str = "540P landscape (960x544)"

    def sampling(self) -> list[Any]:
        """Return the widgets from window to shift."""
        return [97, 17, 42, "fixed", 30, self.cfg, self.shift]

    def long_node(self) -> Node:
        """Return the Long Video node."""
        return Node(
            "SkyReelsV2LongVideo", (360, 900), LONG_SOCKETS, OUTPUTS,
            [self.size, 960, 544, self.total_frames, *self.sampling(), "unipc", 24, 0, 1, False, 20,
             "latents", 0.0, "h264", 18, self.loop, "", self.job_name, 50.0],
        )  # fmt: skip

    def extend_node(self) -> Node:
        """Return the Extend Video node; `total_frames` are the new ones."""
        return Node(
            "SkyReelsV2ExtendVideo", (360, 780), EXTEND_SOCKETS, OUTPUTS,
            ["as the video", self.total_frames, *self.sampling(), "unipc", 0, 1, False, 20,
             "latents", 0.0, "h264", 18, self.job_name, 50.0],
        )  # fmt: skip


def text_encode(prompt: str) -> Node:
    """Return the node for both prompts."""
    return Node(
        "SkyReelsV2TextEncode", (430, 420), [("clip", "CLIP")],
        [("positive", "CONDITIONING"), ("negative", "CONDITIONING")], [prompt, NEGATIVE_PROMPT],
    )  # fmt: skip


def finish(graph: Graph, video: int) -> None:
    """Add what shows the plan and saves the file."""
    save, plan = graph.column(
        Node("SaveVideo", (620, 480), [("video", "VIDEO")], widgets=["video/SkyReels-V2", "auto", "auto"]),
        Node("PreviewAny", (620, 260), [("source", "*")], title="Plan / 计划"),
    )
    graph.link(video, "video", save, "video")
    graph.link(video, "plan", plan, "source")


def long_graph(
    prompt: str,
    settings: LongSettings,
    setting: str,
    chinese: str,
    images: dict[str, str] | None = None,
    scripted: bool = False,
) -> Graph:
    """Build the graph of a long video.

    Args:
        prompt: the prompt, or the script of prompts.
        settings: the widgets.
        setting: what the note says about the settings, in English.
        chinese: the same in Chinese.
        images: titles of image loaders by the input they belong to.
        scripted: whether the prompt is a script.
    """
    graph = Graph()
    model, clip, vae, _ = graph.column(*loaders(), note(files_note(setting, chinese), 400))
    texts = [text_encode("" if scripted else prompt)]
    if scripted:
        texts.append(
            Node(
                "SkyReelsV2PromptScript", (430, 240), [("clip", "CLIP")], [("script", "SKYREELS_V2_SCRIPT")], [prompt]
            )
        )
    encode, *script = graph.column(*texts)
    loaded = graph.column(*[load_image(title) for title in images.values()]) if images else []
    (video,) = graph.column(settings.long_node())
    graph.link(clip, "CLIP", encode, "clip")
    graph.link(model, "model", video, "model")
    graph.link(vae, "VAE", video, "vae")
    if script:
        graph.link(clip, "CLIP", script[0], "clip")
        graph.link(script[0], "script", video, "script")
    else:
        graph.link(encode, "positive", video, "positive")
    graph.link(encode, "negative", video, "negative")
    for name, image in zip(images or {}, loaded, strict=True):
        graph.link(image, "IMAGE", video, name)
    finish(graph, video)
    return graph


def extend_graph(prompt: str, settings: LongSettings, setting: str, chinese: str) -> Graph:
    """Build the graph that extends a video; the arguments are those of `long_graph`."""
    graph = Graph()
    model, clip, vae, _ = graph.column(*loaders(), note(files_note(setting, chinese), 400))
    load = Node("LoadVideo", (430, 330), outputs=[("VIDEO", "VIDEO")], widgets=["your_video.mp4", "image"])
    encode, source = graph.column(text_encode(prompt), load)
    (video,) = graph.column(settings.extend_node())
    graph.link(clip, "CLIP", encode, "clip")
    graph.link(model, "model", video, "model")
    graph.link(vae, "VAE", video, "vae")
    graph.link(source, "VIDEO", video, "video")
    graph.link(encode, "positive", video, "positive")
    graph.link(encode, "negative", video, "negative")
    finish(graph, video)
    return graph


def long_workflows() -> dict[str, Graph]:
    """Return the example workflows of long videos by file name."""
    return {
        "skyreels_v2_long_video": long_graph(
            SWAN, LongSettings(737, "swan"),
            "30 s of video (737 frames) with three prompts. Each segment of 97 frames takes over 17 from the one "
            "before. A run that was stopped goes on where it was when it is queued again with the same settings.",
            "30 秒视频（737 帧），三段提示词。每段 97 帧，承接上一段的 17 帧。"
            "中断后以相同设置再次运行，会从已完成的片段继续。",
            scripted=True,
        ),
        "skyreels_v2_extend_video": extend_graph(
            WALK, LongSettings(160, "extended", 5.0, 5.0),
            "Extends a video: its last 17 frames go into the model; the result is the whole video. cfg 5, shift 5.",
            "续写视频：模型只读取最后 17 帧，输出为完整视频。cfg 5，shift 5。",
        ),
        "skyreels_v2_long_start_end_frames": long_graph(
            WALK, LongSettings(177, "start_end", 5.0, 5.0),
            "First and last frame of a video of two segments (177 frames, 7 s). cfg 5, shift 5.",
            "两段视频（177 帧，7 秒）的首帧与尾帧。cfg 5，shift 5。",
            {"start_image": "First frame / 首帧", "end_image": "Last frame / 尾帧"},
        ),
        "skyreels_v2_loop": long_graph(
            WAVES, LongSettings(161, "loop", loop=True),
            "A video whose end leads back to its start: play it round and round. loop is on.",
            "首尾相接的循环视频：开启 loop。",
        ),
    }  # fmt: skip
