"""Write example_workflows/*.json: the graphs in ComfyUI's own file format, laid out in columns.

Run `python tools/build_workflows.py` after a node changes; a test compares the files with what this makes.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent.parent / "example_workflows"
TITLE_HEIGHT = 30
GAP = 40
HUB = "https://huggingface.co"
TRANSFORMER = "Wan2_1-SkyReels-V2-DF-1_3B-540P_fp32.safetensors"
TEXT_ENCODER = "umt5_xxl_fp8_e4m3fn_scaled.safetensors"
VAE = "wan_2.1_vae.safetensors"
MODEL_URLS = {
    TRANSFORMER: f"{HUB}/Kijai/WanVideo_comfy/resolve/main/Skyreels/{TRANSFORMER}",
    TEXT_ENCODER: f"{HUB}/Comfy-Org/Wan_2.1_ComfyUI_repackaged/resolve/main/split_files/text_encoders/{TEXT_ENCODER}",
    VAE: f"{HUB}/Comfy-Org/Wan_2.1_ComfyUI_repackaged/resolve/main/split_files/vae/{VAE}",
}
FOLDERS = {TRANSFORMER: "diffusion_models", TEXT_ENCODER: "text_encoders", VAE: "vae"}
NEGATIVE_PROMPT = (
    "色调艳丽，过曝，静态，细节模糊不清，字幕，风格，作品，画作，画面，静止，整体发灰，最差质量，低质量，JPEG压缩残留，丑陋的，残缺的，"
    "多余的手指，画得不好的手部，画得不好的脸部，畸形的，毁容的，形态畸形的肢体，手指融合，静止不动的画面，杂乱的背景，三条腿，背景人很多，倒着走"
)


@dataclass
class Node:
    """A node of the graph: `inputs` and `outputs` are (name, type) of its sockets, without widgets."""

    type: str
    size: tuple[int, int]
    inputs: list[tuple[str, str]] = field(default_factory=list)
    outputs: list[tuple[str, str]] = field(default_factory=list)
    widgets: list[Any] = field(default_factory=list)
    title: str | None = None
    model: str | None = None
    color: str | None = None


class Graph:
    """Nodes placed column by column, and links between named sockets."""

    def __init__(self) -> None:
        self.nodes: list[dict[str, Any]] = []
        self.links: list[list[Any]] = []
        self.x = 0

    def column(self, *nodes: Node) -> list[int]:
        """Place nodes below one another, right of what is there; returns their ids."""
        y, ids = 0, []
        for node in nodes:
            ids.append(self.place(node, y))
            y += node.size[1] + TITLE_HEIGHT + GAP
        self.x += max(node.size[0] for node in nodes) + GAP
        return ids

    def place(self, node: Node, y: int) -> int:
        """Add one node; returns its id."""
        number = len(self.nodes) + 1
        properties: dict[str, Any] = {"Node name for S&R": node.type}
        if node.model is not None:
            url, folder = MODEL_URLS[node.model], FOLDERS[node.model]
            properties["models"] = [{"name": node.model, "url": url, "directory": folder}]
        entry: dict[str, Any] = {
            "id": number,
            "type": node.type,
            "pos": [self.x, y],
            "size": list(node.size),
            "flags": {},
            "order": number - 1,
            "mode": 0,
            "inputs": [{"name": name, "type": kind, "link": None} for name, kind in node.inputs],
            "outputs": [{"name": name, "type": kind, "links": []} for name, kind in node.outputs],
            "properties": properties,
            "widgets_values": node.widgets,
        }
        if node.title is not None:
            entry["title"] = node.title
        if node.color is not None:
            entry.update(color=node.color, bgcolor=node.color)
        self.nodes.append(entry)
        return number

    def link(self, source: int, output: str, target: int, name: str) -> None:
        """Connect an output with an input, both by name."""
        outputs, inputs = self.nodes[source - 1]["outputs"], self.nodes[target - 1]["inputs"]
        out_slot = next(index for index, socket in enumerate(outputs) if socket["name"] == output)
        in_slot = next(index for index, socket in enumerate(inputs) if socket["name"] == name)
        number = len(self.links) + 1
        outputs[out_slot]["links"].append(number)
        inputs[in_slot]["link"] = number
        self.links.append([number, source, out_slot, target, in_slot, outputs[out_slot]["type"]])

    def to_json(self, name: str) -> dict[str, Any]:
        """Return the file's content."""
        return {
            "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"comfyui-skyreels-v2/{name}")),
            "revision": 0,
            "last_node_id": len(self.nodes),
            "last_link_id": len(self.links),
            "nodes": self.nodes,
            "links": self.links,
            "groups": [],
            "config": {},
            "extra": {"ds": {"scale": 0.6, "offset": [130, 200]}},
            "version": 0.4,
        }


def note(text: str, height: int) -> Node:
    """Return a note."""
    return Node("MarkdownNote", (430, height), widgets=[text], title="Read me / 说明", color="#2a3648")


def files_note(setting: str, chinese: str) -> str:
    """Return the note on files and settings."""
    lines = "\n".join(f"- `models/{FOLDERS[name]}/`: [{name}]({url})" for name, url in MODEL_URLS.items())
    return (
        f"## Files\n{lines}\n\nDF-14B goes into the same folder; for DF-14B-720P choose a 720P size and 121 frames.\n\n"
        f"## Settings\n{setting}\n\n## 文件\n上面三个文件放入 `models/` 下对应的文件夹。"
        "DF-14B 用法相同；DF-14B-720P 请选 720P 尺寸和 121 帧。\n\n"
        f"## 设置\n{chinese}\n"
    )


def load_image(title: str) -> Node:
    """Return an image loader."""
    return Node(
        "LoadImage", (330, 330), outputs=[("IMAGE", "IMAGE"), ("MASK", "MASK")], widgets=["example.png", "image"],
        title=title,
    )  # fmt: skip


def loaders() -> list[Node]:
    """Return the three loaders."""
    return [
        Node(
            "SkyReelsV2ModelLoader", (430, 110), outputs=[("model", "MODEL"), ("info", "STRING")],
            widgets=[TRANSFORMER, "default"], model=TRANSFORMER,
        ),
        Node(
            "CLIPLoader", (430, 110), outputs=[("CLIP", "CLIP")], widgets=[TEXT_ENCODER, "wan", "default"],
            model=TEXT_ENCODER,
        ),
        Node("VAELoader", (430, 60), outputs=[("VAE", "VAE")], widgets=[VAE], model=VAE),
    ]  # fmt: skip


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
    }  # fmt: skip


def text_of(name: str, graph: Graph) -> str:
    """Return a workflow as the text of its file."""
    return json.dumps(graph.to_json(name), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for file_name, built in workflows().items():
        (FOLDER / f"{file_name}.json").write_text(text_of(file_name, built), encoding="utf-8")
        print(file_name)
