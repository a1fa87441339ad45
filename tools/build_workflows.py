"""Write example_workflows/*.json: the graphs in ComfyUI's own file format, laid out in columns.

Run `python -m tools.build_workflows` after a node changes; a test compares the files with what this makes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from tools.long_workflows import long_workflows
from tools.model_workflows import model_workflows
from tools.templates import FOLDER, ORDER, name_of
from tools.workflow_graph import EMBEDDED, RELEASED, Graph, Kit, Node, Picture, Socket, finish, sampler, text_encode


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
    encode, latent = graph.column(text_encode(clip.prompt, kit.demo), kit.empty_latent(clip.frames))
    known = latent
    if clip.pins:
        images = kit.place_images(graph, list(clip.pins))
        key_frames = Node("SkyReelsV2KeyFrames", (330, 150), {"key_frames": ""}, [("latent", "LATENT")])
        known, denoise = graph.column(key_frames, sampler_node(kit, clip))
        graph.link(*models["vae"], known, "vae")
        graph.link(latent, "latent", known, "latent")
        for pin, image in zip(clip.pins, images, strict=True):
            graph.link(image, "IMAGE", known, pin)
    else:
        (denoise,) = graph.column(sampler_node(kit, clip))
    join(graph, models, encode, known, denoise)
    return graph


def join(graph: Graph, models: dict[str, Socket], encode: int, latent: int, denoise: int) -> None:
    """Link a sampler with models, text and latent, and add what decodes and saves the video."""
    graph.link(*models["clip"], encode, "clip")
    graph.link(*models["model"], denoise, "model")
    graph.link(encode, "positive", denoise, "positive")
    graph.link(encode, "negative", denoise, "negative")
    graph.link(latent, "latent", denoise, "latent")
    finish(graph, models["vae"], (denoise, "latent"))


def rolling_graph(kit: Kit, clip: Clip, setting: str, chinese: str) -> Graph:
    """Build a graph that rolls; its model is not distilled, so it has an ordinary schedule and guidance."""
    graph = Graph()
    models = kit.place(graph, setting, chinese)
    encode, latent = graph.column(text_encode(clip.prompt, kit.demo), kit.empty_latent(clip.frames))
    schedule = {"steps": kit.steps, "shift": clip.shift, "timesteps": ""}
    rolling = {
        "seed": 42, "timesteps": "1000, 750, 500, 250", "shift": clip.shift, "cfg": clip.cfg,
        "chunk_frames": clip.block, "window_frames": 2 * clip.block, "sink_frames": 0, "solver": "unipc", "fps": 24,
    }  # fmt: skip
    sigmas, denoise = graph.column(
        Node("SkyReelsV2Sigmas", (330, 110), schedule, [("sigmas", "SIGMAS")]),
        Node("SkyReelsV2RollingSampler", (330, 360), rolling, [("latent", "LATENT")]),
    )
    graph.link(sigmas, "sigmas", denoise, "sigmas")
    join(graph, models, encode, latent, denoise)
    return graph


def sampler_node(kit: Kit, clip: Clip) -> Node:
    """Return the sampler."""
    values = {"ar_step": clip.ar_step, "causal_block_size": clip.block, "window_frames": clip.window}
    return sampler(kit.steps, clip.cfg, clip.shift, **values)


def workflows() -> dict[str, Graph]:
    """Return every example workflow by file name, in the order of the template browser."""
    graphs = {**clip_workflows(), **long_workflows(), **model_workflows()}
    return {name_of(title): graphs[title] for title in ORDER}


def clip_workflows() -> dict[str, Graph]:
    """Return the graphs of clips of one window by title."""
    swan = (
        "A graceful white swan with a curved neck and delicate feathers swims in a serene lake at dawn, its reflection "
        "in the still water, mist rising, soft golden light."
    )
    walk = "The camera moves slowly forward while the scene comes to life, natural motion, soft light."
    both_ends = ("start_image", "end_image")
    demo = "25 steps, cfg 4, shift 5, 64x64 pixels, 37 frames (1.5 s)."
    demo_zh = "25 步，CFG 4，噪声偏移 5，64x64 像素，37 帧（1.5 秒）。"
    return {
        "Text to Video": video_graph(
            RELEASED, Clip(swan),
            "Text to video: steps 30, cfg 6, shift 8. 97 frames are 4 s at 24 fps.",
            "文生视频：步数 30，CFG 6，噪声偏移 8。97 帧 = 24 fps 下 4 秒。",
        ),
        "Text to Video Async": video_graph(
            RELEASED, Clip(swan, ar_step=5, block=5),
            "Asynchronous diffusion forcing: blocks of 5 latent frames, each 5 steps behind the one before. 30 steps "
            "become 50 model calls for 97 frames.",
            "异步扩散强迫：每块 5 个潜帧，每块比前一块落后 5 步；97 帧时 30 步变为 50 次模型调用。",
        ),
        "Moving Window": video_graph(
            RELEASED, Clip(swan, 257, ar_step=6, block=5, window=25),
            "A video of 257 frames (10.7 s) without seams, in the memory of 97: a window of 25 latent frames moves "
            "along as blocks of 5 are finished. 30 steps become 102 model calls. Any length will do.",
            "257 帧（10.7 秒）的视频，没有接缝，显存只需 97 帧的量：25 个潜帧的窗口随着每块 5 个潜帧的完成向前移动。"
            "30 步变为 102 次模型调用。长度不限。",
        ),
        "Image to Video": video_graph(
            RELEASED, Clip(walk, pins=both_ends[:1], cfg=5.0, shift=5.0),
            "Image to video: steps 30, cfg 5, shift 5. addnoise_condition 20 lets the first frame blend with the rest.",
            "图生视频：步数 30，CFG 5，噪声偏移 5。已知帧噪声 20 让首帧与后续画面自然衔接。",
        ),
        "Start End Frames": video_graph(
            RELEASED, Clip(walk, pins=both_ends, cfg=5.0, shift=5.0),
            "First and last frame: the video between two pictures. steps 30, cfg 5, shift 5.",
            "首尾帧：在两张图片之间生成视频。步数 30，CFG 5，噪声偏移 5。",
        ),
        "Demo Text to Video": video_graph(
            EMBEDDED, Clip("a red circle moving to the right on a black background", 37, (), 4.0, 5.0), demo, demo_zh
        ),
        "Demo Text to Video Async": video_graph(
            EMBEDDED, Clip("一个蓝色的星星在白色背景上向上移动", 37, (), 4.0, 5.0, 5, 5),
            f"Blocks of 5 latent frames, each 5 steps behind the one before. {demo}",
            f"每块 5 个潜帧，每块比前一块落后 5 步。{demo_zh}",
        ),
        "Demo Moving Window": video_graph(
            EMBEDDED, Clip("a green triangle moving up on a grey background", 117, (), 4.0, 5.0, 13, 5, 10),
            "A window of 10 latent frames moves along as blocks of 5 are finished, each 13 steps behind the one "
            "before. 25 steps, cfg 4, shift 5, 64x64 pixels, 117 frames (4.9 s).",
            "10 个潜帧的窗口随着每块 5 个潜帧的完成向前移动，每块比前一块落后 13 步。"
            "25 步，CFG 4，噪声偏移 5，64x64 像素，117 帧（4.9 秒）。",
        ),
        "Demo Image to Video": video_graph(
            replace(EMBEDDED, picture=Picture("cyan", "black")),
            Clip("a cyan square moving to the right on a black background", 37, both_ends[:1], 4.0, 5.0),
            f"The first frame is drawn by ComfyUI's own nodes. {demo}", f"首帧由 ComfyUI 自带节点绘制。{demo_zh}",
        ),
        "Demo Start End Frames": video_graph(
            replace(EMBEDDED, picture=Picture("blue", "white")),
            Clip("a blue square moving to the right on a white background", 37, both_ends, 4.0, 5.0),
            f"First and last frame are drawn by ComfyUI's own nodes. {demo}",
            f"首帧和尾帧由 ComfyUI 自带节点绘制。{demo_zh}",
        ),
        "Demo Rolling": rolling_graph(
            EMBEDDED, Clip("a purple circle moving to the left on a white background", 77, (), 4.0, 5.0, block=5),
            "Chunks of 5 latent frames in a window of 10, 25 steps, cfg 4, shift 5, 64x64 pixels, 77 frames (3.2 s). "
            "Any length takes the memory of one window; colours drift after some seconds, since this model was "
            "trained for short clips. A distilled model (Self Forcing, ...) needs no SIGMAS: timesteps 1000, 750, 500, "
            "250, solver lcm, cfg 1, chunks of 3, a window of 21.",
            "每块 5 个潜帧，窗口 10 个潜帧，25 步，CFG 4，噪声偏移 5，64x64 像素，77 帧（3.2 秒）。"
            "无论多长，显存只取决于窗口；这个模型只用短片段训练过，几秒之后颜色会漂移。"
            "蒸馏模型（Self Forcing 等）无需连接 SIGMAS："
            "time步数 1000, 750, 500, 250，求解器 lcm，CFG 1，每块 3 帧，窗口 21 帧。",
        ),
    }  # fmt: skip


def text_of(name: str, graph: Graph) -> str:
    """Return a workflow as the text of its file."""
    return json.dumps(graph.to_json(name), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for file_name, built in workflows().items():
        (FOLDER / f"{file_name}.json").write_text(text_of(file_name, built), encoding="utf-8")
        print(file_name)
