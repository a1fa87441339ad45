"""Write example_workflows/*.json: the graphs in ComfyUI's own file format, laid out in columns.

Run `python -m tools.build_workflows` after a node changes; a test compares the files with what this makes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from tools.long_workflows import long_workflows
from tools.model_workflows import model_workflows
from tools.workflow_graph import EMBEDDED, RELEASED, Graph, Kit, Node, Socket, text_encode

FOLDER = Path(__file__).resolve().parent.parent / "example_workflows"


@dataclass(frozen=True)
class Clip:
    """A clip of one window.

    Attributes:
        prompt: the prompt.
        frames: video frames.
        pins: inputs of the key-frame node that get an image: "start_image", "end_image".
        cfg: guidance scale.
        shift: shift of the noise schedule.
        ar_step: steps that a block lags behind.
        block: latent frames of a block.
        window: latent frames that the model sees at once, 0 = all.
    """

    prompt: str
    frames: int = 97
    pins: tuple[str, ...] = ()
    cfg: float = 6.0
    shift: float = 8.0
    ar_step: int = 0
    block: int = 1
    window: int = 0


def video_graph(kit: Kit, clip: Clip, setting: str, chinese: str) -> Graph:
    """Build a graph from models to video.

    Args:
        kit: the models.
        clip: what is made.
        setting: what the note says about the settings, in English.
        chinese: the same in Chinese.
    """
    graph = Graph()
    models = kit.place(graph, setting, chinese)
    empty = Node(
        "SkyReelsV2EmptyLatent", (430, 160), outputs=[("latent", "LATENT")], widgets=[*kit.size, clip.frames, 1]
    )
    encode, latent = graph.column(text_encode(clip.prompt, kit.demo), empty)
    latent_output = latent
    if clip.pins:
        images = kit.place_images(graph, list(clip.pins))
        key_frames = Node(
            "SkyReelsV2KeyFrames", (330, 150),
            [("vae", "VAE"), ("latent", "LATENT"), ("start_image", "IMAGE"), ("end_image", "IMAGE"),
             ("key_images", "IMAGE")],
            [("latent", "LATENT")], [""],
        )  # fmt: skip
        latent_output, sampler = graph.column(key_frames, sampler_node(kit, clip))
        graph.link(*models["vae"], latent_output, "vae")
        graph.link(latent, "latent", latent_output, "latent")
        for pin, image in zip(clip.pins, images, strict=True):
            graph.link(image, "IMAGE", latent_output, pin)
    else:
        (sampler,) = graph.column(sampler_node(kit, clip))
    finish(graph, models, encode, latent_output, sampler)
    return graph


def finish(graph: Graph, models: dict[str, Socket], encode: int, latent: int, sampler: int) -> None:
    """Link a sampler with models, text and latent, and add what decodes and saves the video."""
    decode, create = graph.column(
        Node(
            "SkyReelsV2VAEDecode", (280, 80), [("samples", "LATENT"), ("vae", "VAE")], [("images", "IMAGE")], ["auto"]
        ),
        Node("CreateVideo", (280, 80), [("images", "IMAGE"), ("audio", "AUDIO")], [("VIDEO", "VIDEO")], [24]),
    )
    (save,) = graph.column(
        Node("SaveVideo", (620, 480), [("video", "VIDEO")], widgets=["video/SkyReels-V2", "auto", "auto"])
    )
    graph.link(*models["clip"], encode, "clip")
    graph.link(*models["model"], sampler, "model")
    graph.link(encode, "positive", sampler, "positive")
    graph.link(encode, "negative", sampler, "negative")
    graph.link(latent, "latent", sampler, "latent")
    graph.link(sampler, "latent", decode, "samples")
    graph.link(*models["vae"], decode, "vae")
    graph.link(decode, "images", create, "images")
    graph.link(create, "VIDEO", save, "video")


def rolling_graph(kit: Kit, clip: Clip, setting: str, chinese: str) -> Graph:
    """Build a graph that rolls; its model is not distilled, so it has an ordinary schedule and guidance."""
    graph = Graph()
    models = kit.place(graph, setting, chinese)
    empty = Node(
        "SkyReelsV2EmptyLatent", (430, 160), outputs=[("latent", "LATENT")], widgets=[*kit.size, clip.frames, 1]
    )
    encode, latent = graph.column(text_encode(clip.prompt, kit.demo), empty)
    sigmas, sampler = graph.column(
        Node("SkyReelsV2Sigmas", (330, 110), outputs=[("sigmas", "SIGMAS")], widgets=[kit.steps, clip.shift, ""]),
        Node(
            "SkyReelsV2RollingSampler", (330, 360),
            [("model", "MODEL"), ("positive", "CONDITIONING"), ("negative", "CONDITIONING"), ("latent", "LATENT"),
             ("sigmas", "SIGMAS")],
            [("latent", "LATENT")],
            [42, "fixed", "1000, 750, 500, 250", clip.shift, clip.cfg, clip.block, 2 * clip.block, 0, "unipc", 24],
        ),
    )  # fmt: skip
    graph.link(sigmas, "sigmas", sampler, "sigmas")
    finish(graph, models, encode, latent, sampler)
    return graph


def sampler_node(kit: Kit, clip: Clip) -> Node:
    """Return the sampler."""
    return Node(
        "SkyReelsV2Sampler", (330, 376),
        [("model", "MODEL"), ("positive", "CONDITIONING"), ("negative", "CONDITIONING"), ("latent", "LATENT")],
        [("latent", "LATENT")],
        [42, "fixed", kit.steps, clip.cfg, clip.shift, "unipc", 24, clip.ar_step, clip.block, False, 20,
         clip.window],
    )  # fmt: skip


def workflows() -> dict[str, Graph]:
    """Return every example workflow by file name."""
    swan = (
        "A graceful white swan with a curved neck and delicate feathers swims in a serene lake at dawn, its reflection "
        "in the still water, mist rising, soft golden light."
    )
    walk = "The camera moves slowly forward while the scene comes to life, natural motion, soft light."
    both_ends = ("start_image", "end_image")
    square = "a red square moving to the right on a black background"
    demo = "25 steps, cfg 4, shift 5, 64x64 pixels, 37 frames (1.5 s)."
    demo_zh = "25 步，cfg 4，shift 5，64x64 像素，37 帧（1.5 秒）。"
    return {
        "skyreels_v2_text_to_video": video_graph(
            RELEASED, Clip(swan),
            "Text to video: steps 30, cfg 6, shift 8. 97 frames are 4 s at 24 fps.",
            "文生视频：steps 30，cfg 6，shift 8。97 帧 = 24 fps 下 4 秒。",
        ),
        "skyreels_v2_text_to_video_async": video_graph(
            RELEASED, Clip(swan, ar_step=5, block=5),
            "Asynchronous diffusion forcing: blocks of 5 latent frames, each 5 steps behind the one before. 30 steps "
            "become 50 model calls for 97 frames.",
            "异步扩散强迫：每块 5 个潜帧，每块比前一块落后 5 步；97 帧时 30 步变为 50 次模型调用。",
        ),
        "skyreels_v2_moving_window": video_graph(
            RELEASED, Clip(swan, 257, ar_step=6, block=5, window=25),
            "A video of 257 frames (10.7 s) without seams, in the memory of 97: a window of 25 latent frames moves "
            "along as blocks of 5 are finished. 30 steps become 102 model calls. Any length will do.",
            "257 帧（10.7 秒）的视频，没有接缝，显存只需 97 帧的量：25 个潜帧的窗口随着每块 5 个潜帧的完成向前移动。"
            "30 步变为 102 次模型调用。长度不限。",
        ),
        "skyreels_v2_image_to_video": video_graph(
            RELEASED, Clip(walk, pins=both_ends[:1], cfg=5.0, shift=5.0),
            "Image to video: steps 30, cfg 5, shift 5. addnoise_condition 20 lets the first frame blend with the rest.",
            "图生视频：steps 30，cfg 5，shift 5。addnoise_condition 20 让首帧与后续画面自然衔接。",
        ),
        "skyreels_v2_start_end_frames": video_graph(
            RELEASED, Clip(walk, pins=both_ends, cfg=5.0, shift=5.0),
            "First and last frame: the video between two pictures. steps 30, cfg 5, shift 5.",
            "首尾帧：在两张图片之间生成视频。steps 30，cfg 5，shift 5。",
        ),
        "skyreels_v2_demo_text_to_video": video_graph(
            EMBEDDED, Clip("a red circle moving to the right on a black background", 37, (), 4.0, 5.0), demo, demo_zh
        ),
        "skyreels_v2_demo_text_to_video_async": video_graph(
            EMBEDDED, Clip("一个蓝色的星星在白色背景上向上移动", 37, (), 4.0, 5.0, 5, 5),
            f"Blocks of 5 latent frames, each 5 steps behind the one before. {demo}",
            f"每块 5 个潜帧，每块比前一块落后 5 步。{demo_zh}",
        ),
        "skyreels_v2_demo_moving_window": video_graph(
            EMBEDDED, Clip("a red circle moving to the right on a black background", 117, (), 4.0, 5.0, 13, 5, 10),
            "A window of 10 latent frames moves along as blocks of 5 are finished, each 13 steps behind the one "
            "before. 25 steps, cfg 4, shift 5, 64x64 pixels, 117 frames (4.9 s).",
            "10 个潜帧的窗口随着每块 5 个潜帧的完成向前移动，每块比前一块落后 13 步。"
            "25 步，cfg 4，shift 5，64x64 像素，117 帧（4.9 秒）。",
        ),
        "skyreels_v2_demo_image_to_video": video_graph(
            EMBEDDED, Clip(square, 37, both_ends[:1], 4.0, 5.0),
            f"The first frame is drawn by ComfyUI's own nodes. {demo}", f"首帧由 ComfyUI 自带节点绘制。{demo_zh}",
        ),
        "skyreels_v2_demo_start_end_frames": video_graph(
            EMBEDDED, Clip(square, 37, both_ends, 4.0, 5.0),
            f"First and last frame are drawn by ComfyUI's own nodes. {demo}",
            f"首帧和尾帧由 ComfyUI 自带节点绘制。{demo_zh}",
        ),
        "skyreels_v2_demo_rolling": rolling_graph(
            EMBEDDED, Clip("a red circle moving to the right on a black background", 77, (), 4.0, 5.0, block=5),
            "Chunks of 5 latent frames in a window of 10, 25 steps, cfg 4, shift 5, 64x64 pixels, 77 frames (3.2 s). "
            "Any length takes the memory of one window; colours drift after some seconds, since this model was "
            "trained for short clips. A distilled model (Self Forcing, ...) needs no SIGMAS: timesteps 1000, 750, 500, "
            "250, solver lcm, cfg 1, chunks of 3, a window of 21.",
            "每块 5 个潜帧，窗口 10 个潜帧，25 步，cfg 4，shift 5，64x64 像素，77 帧（3.2 秒）。"
            "无论多长，显存只取决于窗口；这个模型只用短片段训练过，几秒之后颜色会漂移。"
            "蒸馏模型（Self Forcing 等）无需连接 SIGMAS："
            "timesteps 1000, 750, 500, 250，solver lcm，cfg 1，每块 3 帧，窗口 21 帧。",
        ),
        **long_workflows(),
        **model_workflows(),
    }  # fmt: skip


def text_of(name: str, graph: Graph) -> str:
    """Return a workflow as the text of its file."""
    return json.dumps(graph.to_json(name), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for file_name, built in workflows().items():
        (FOLDER / f"{file_name}.json").write_text(text_of(file_name, built), encoding="utf-8")
        print(file_name)
