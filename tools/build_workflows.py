"""Write example_workflows/*.json: the graphs in ComfyUI's own file format, laid out in columns.

Run `python -m tools.build_workflows` after a node changes; a test compares the files with what this makes.
"""

from __future__ import annotations

import json
from pathlib import Path

from tools.long_workflows import long_workflows
from tools.workflow_graph import NEGATIVE_PROMPT, Graph, Node, files_note, load_image, loaders, note

FOLDER = Path(__file__).resolve().parent.parent / "example_workflows"


def video_graph(
    prompt: str,
    pins: list[str],
    cfg: float,
    shift: float,
    ar_step: int,
    block: int,
    setting: str,
    chinese: str,
) -> Graph:
    """Build a graph from checkpoint to video.

    Args:
        prompt: the prompt.
        pins: inputs of the key-frame node that get an image: "start_image", "end_image".
        cfg: guidance scale.
        shift: shift of the noise schedule.
        ar_step: steps that a block lags behind.
        block: latent frames of a block.
        setting: what the note says about the settings, in English.
        chinese: the same in Chinese.
    """
    graph = Graph()
    model, clip, vae, _ = graph.column(*loaders(), note(files_note(setting, chinese), 400))
    text = Node(
        "SkyReelsV2TextEncode", (430, 420), [("clip", "CLIP")],
        [("positive", "CONDITIONING"), ("negative", "CONDITIONING")], [prompt, NEGATIVE_PROMPT],
    )  # fmt: skip
    empty = Node(
        "SkyReelsV2EmptyLatent", (430, 160), outputs=[("latent", "LATENT")],
        widgets=["540P landscape (960x544)", 960, 544, 97, 1],
    )  # fmt: skip
    encode, latent = graph.column(text, empty)
    latent_output = latent
    if pins:
        titles = {"start_image": "First frame / 首帧", "end_image": "Last frame / 尾帧"}
        images = graph.column(*[load_image(titles[pin]) for pin in pins])
        key_frames = Node(
            "SkyReelsV2KeyFrames", (330, 150),
            [("vae", "VAE"), ("latent", "LATENT"), ("start_image", "IMAGE"), ("end_image", "IMAGE"),
             ("key_images", "IMAGE")],
            [("latent", "LATENT")], [""],
        )  # fmt: skip
        sampler_column = [key_frames, sampler_node(cfg, shift, ar_step, block)]
        latent_output, sampler = graph.column(*sampler_column)
        graph.link(vae, "VAE", latent_output, "vae")
        graph.link(latent, "latent", latent_output, "latent")
        for pin, image in zip(pins, images, strict=True):
            graph.link(image, "IMAGE", latent_output, pin)
    else:
        (sampler,) = graph.column(sampler_node(cfg, shift, ar_step, block))
    decode, create = graph.column(
        Node(
            "SkyReelsV2VAEDecode", (280, 80), [("samples", "LATENT"), ("vae", "VAE")], [("images", "IMAGE")], ["auto"]
        ),
        Node("CreateVideo", (280, 80), [("images", "IMAGE"), ("audio", "AUDIO")], [("VIDEO", "VIDEO")], [24]),
    )
    (save,) = graph.column(
        Node("SaveVideo", (620, 480), [("video", "VIDEO")], widgets=["video/SkyReels-V2", "auto", "auto"])
    )
    graph.link(clip, "CLIP", encode, "clip")
    graph.link(model, "model", sampler, "model")
    graph.link(encode, "positive", sampler, "positive")
    graph.link(encode, "negative", sampler, "negative")
    graph.link(latent_output, "latent", sampler, "latent")
    graph.link(sampler, "latent", decode, "samples")
    graph.link(vae, "VAE", decode, "vae")
    graph.link(decode, "images", create, "images")
    graph.link(create, "VIDEO", save, "video")
    return graph


def sampler_node(cfg: float, shift: float, ar_step: int, block: int) -> Node:
    """Return the sampler."""
    return Node(
        "SkyReelsV2Sampler", (330, 350),
        [("model", "MODEL"), ("positive", "CONDITIONING"), ("negative", "CONDITIONING"), ("latent", "LATENT")],
        [("latent", "LATENT")],
        [42, "fixed", 30, cfg, shift, "unipc", 24, ar_step, block, False, 20],
    )  # fmt: skip


def workflows() -> dict[str, Graph]:
    """Return every example workflow by file name."""
    swan = (
        "A graceful white swan with a curved neck and delicate feathers swims in a serene lake at dawn, its reflection "
        "in the still water, mist rising, soft golden light."
    )
    walk = "The camera moves slowly forward while the scene comes to life, natural motion, soft light."
    return {
        "skyreels_v2_text_to_video": video_graph(
            swan, [], 6.0, 8.0, 0, 1,
            "Text to video: steps 30, cfg 6, shift 8. 97 frames are 4 s at 24 fps.",
            "文生视频：steps 30，cfg 6，shift 8。97 帧 = 24 fps 下 4 秒。",
        ),
        "skyreels_v2_text_to_video_async": video_graph(
            swan, [], 6.0, 8.0, 5, 5,
            "Asynchronous diffusion forcing: blocks of 5 latent frames, each 5 steps behind the one before. 30 steps "
            "become 50 model calls for 97 frames.",
            "异步扩散强迫：每块 5 个潜帧，每块比前一块落后 5 步；97 帧时 30 步变为 50 次模型调用。",
        ),
        "skyreels_v2_image_to_video": video_graph(
            walk, ["start_image"], 5.0, 5.0, 0, 1,
            "Image to video: steps 30, cfg 5, shift 5. addnoise_condition 20 lets the first frame blend with the rest.",
            "图生视频：steps 30，cfg 5，shift 5。addnoise_condition 20 让首帧与后续画面自然衔接。",
        ),
        "skyreels_v2_start_end_frames": video_graph(
            walk, ["start_image", "end_image"], 5.0, 5.0, 0, 1,
            "First and last frame: the video between two pictures. steps 30, cfg 5, shift 5.",
            "首尾帧：在两张图片之间生成视频。steps 30，cfg 5，shift 5。",
        ),
        **long_workflows(),
    }  # fmt: skip


def text_of(name: str, graph: Graph) -> str:
    """Return a workflow as the text of its file."""
    return json.dumps(graph.to_json(name), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for file_name, built in workflows().items():
        (FOLDER / f"{file_name}.json").write_text(text_of(file_name, built), encoding="utf-8")
        print(file_name)
