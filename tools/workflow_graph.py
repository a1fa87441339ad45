"""A workflow in ComfyUI's own file format: nodes in columns, links by name, the loaders and notes of all graphs."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Any

TITLE_HEIGHT = 30
GAP = 40
HUB = "https://huggingface.co"
TRANSFORMER = "Wan2_1-SkyReels-V2-DF-1_3B-540P_fp32.safetensors"
TEXT_ENCODER = "umt5_xxl_fp8_e4m3fn_scaled.safetensors"
VAE = "wan_2.1_vae.safetensors"
T2V_MODEL = "Wan2_1-SkyReels-V2-T2V-14B-720P_fp8_e4m3fn.safetensors"
I2V_MODEL = "Wan2_1-SkyReels-V2-I2V-14B-540P_fp8_e4m3fn.safetensors"
CLIP_VISION = "clip_vision_h.safetensors"
MODEL_URLS = {
    **{
        name: f"{HUB}/Kijai/WanVideo_comfy/resolve/main/Skyreels/{name}" for name in (TRANSFORMER, T2V_MODEL, I2V_MODEL)
    },
    CLIP_VISION: f"{HUB}/Comfy-Org/Wan_2.1_ComfyUI_repackaged/resolve/main/split_files/clip_vision/{CLIP_VISION}",
    TEXT_ENCODER: f"{HUB}/Comfy-Org/Wan_2.1_ComfyUI_repackaged/resolve/main/split_files/text_encoders/{TEXT_ENCODER}",
    VAE: f"{HUB}/Comfy-Org/Wan_2.1_ComfyUI_repackaged/resolve/main/split_files/vae/{VAE}",
}
FOLDERS = {
    **dict.fromkeys((TRANSFORMER, T2V_MODEL, I2V_MODEL), "diffusion_models"),
    TEXT_ENCODER: "text_encoders",
    VAE: "vae",
    CLIP_VISION: "clip_vision",
}
NEGATIVE_PROMPT = (
    "色调艳丽，过曝，静态，细节模糊不清，字幕，风格，作品，画作，画面，静止，整体发灰，最差质量，低质量，JPEG压缩残留，丑陋的，残缺的，"
    "多余的手指，画得不好的手部，画得不好的脸部，畸形的，毁容的，形态畸形的肢体，手指融合，静止不动的画面，杂乱的背景，三条腿，背景人很多，倒着走"
)


TITLES = {"start_image": "First frame / 首帧", "end_image": "Last frame / 尾帧"}
SQUARE, TOP = 24, 22  # pixels: size of the embedded models' square, as they have learned it; its place from the top

Socket = tuple[int, str]  # a node and the name of its output


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


def file_lines(*names: str) -> str:
    """Return a list of files, each with its folder and where it is to be had."""
    return "\n".join(f"- `models/{FOLDERS[name]}/`: [{name}]({MODEL_URLS[name]})" for name in names)


def files_note(setting: str, chinese: str) -> str:
    """Return the note on files and settings."""
    return (
        f"## Files\n{file_lines(TRANSFORMER, TEXT_ENCODER, VAE)}\n\n"
        "DF-14B goes into the same folder; for DF-14B-720P choose a 720P size and 121 frames.\n\n"
        f"## Settings\n{setting}\n\n## 文件\n上面三个文件放入 `models/` 下对应的文件夹。"
        "DF-14B 用法相同；DF-14B-720P 请选 720P 尺寸和 121 帧。\n\n"
        f"## 设置\n{chinese}\n"
    )


def plain_note(setting: str, chinese: str) -> str:
    """Return the note of a graph that needs no files."""
    return (
        f"## No download\nThis graph runs with the tiny models that come with the pack, on any computer.\n\n"
        f"## Settings\n{setting}\n\n"
        f"## 无需下载\n本工作流使用随包附带的小模型，任何电脑都能运行。\n\n## 设置\n{chinese}\n"
    )


@dataclass(frozen=True)
class Kit:
    """What a graph runs with.

    Attributes:
        demo: whether it is the embedded models, else released files.
        size: widgets of a size: preset, width, height.
        window: widgets: video frames of the window and of the overlap.
        steps: denoising steps.
        squares: pixels from the left of the embedded models' square in the first and in the last frame; 2 short of a
            multiple of 4, as TOP is: so its centre is on the grid that the models have learned (demo.shapes.GRID).
    """

    demo: bool
    size: tuple[str, int, int]
    window: tuple[int, int]
    steps: int
    squares: tuple[int, int] = (6, 14)

    def place(self, graph: Graph, setting: str, chinese: str) -> dict[str, Socket]:
        """Place models and note as the first column; return where model, clip and vae come out."""
        if self.demo:
            outputs = [("model", "MODEL"), ("clip", "CLIP"), ("vae", "VAE")]
            models, _ = graph.column(
                Node("SkyReelsV2DemoModels", (430, 80), outputs=outputs), note(plain_note(setting, chinese), 400)
            )
            return {name: (models, name) for name, _ in outputs}
        model, clip, vae, _ = graph.column(*loaders(), note(files_note(setting, chinese), 400))
        return {"model": (model, "model"), "clip": (clip, "CLIP"), "vae": (vae, "VAE")}

    def place_images(self, graph: Graph, names: list[str]) -> list[int]:
        """Place what the given images come from, one for each of `start_image`, `end_image`; return the nodes."""
        if not names:
            return []
        if not self.demo:
            return graph.column(*[load_image(TITLES[name]) for name in names])
        black, red = graph.column(
            Node("EmptyImage", (280, 130), outputs=[("IMAGE", "IMAGE")], widgets=[64, 64, 1, 0x101014]),
            Node("EmptyImage", (280, 130), outputs=[("IMAGE", "IMAGE")], widgets=[SQUARE, SQUARE, 1, 0xDE2C2C]),
        )
        sockets = [("destination", "IMAGE"), ("source", "IMAGE"), ("mask", "MASK")]
        pictures = graph.column(
            *[
                Node(
                    "ImageCompositeMasked", (280, 150), sockets, [("IMAGE", "IMAGE")], [left, TOP, False],
                    title=TITLES[name],
                )
                for name, left in zip(TITLES, self.squares, strict=True)
                if name in names
            ]
        )  # fmt: skip
        for picture in pictures:
            graph.link(black, "IMAGE", picture, "destination")
            graph.link(red, "IMAGE", picture, "source")
        return pictures


RELEASED = Kit(False, ("540P landscape (960x544)", 960, 544), (97, 17), 30)
EMBEDDED = Kit(True, ("custom", 64, 64), (37, 17), 25)


def load_image(title: str) -> Node:
    """Return an image loader."""
    return Node(
        "LoadImage", (330, 330), outputs=[("IMAGE", "IMAGE"), ("MASK", "MASK")], widgets=["example.png", "image"],
        title=title,
    )  # fmt: skip


def loaders(transformer: str = TRANSFORMER) -> list[Node]:
    """Return the three loaders; `transformer` is a key of MODEL_URLS."""
    return [
        Node(
            "SkyReelsV2ModelLoader", (430, 110), outputs=[("model", "MODEL"), ("info", "STRING")],
            widgets=[transformer, "default"], model=transformer,
        ),
        Node(
            "CLIPLoader", (430, 110), outputs=[("CLIP", "CLIP")], widgets=[TEXT_ENCODER, "wan", "default"],
            model=TEXT_ENCODER,
        ),
        Node("VAELoader", (430, 60), outputs=[("VAE", "VAE")], widgets=[VAE], model=VAE),
    ]  # fmt: skip


def text_encode(prompt: str, demo: bool) -> Node:
    """Return the node for both prompts; the embedded models know no negative one but the empty text."""
    return Node(
        "SkyReelsV2TextEncode", (430, 420), [("clip", "CLIP")],
        [("positive", "CONDITIONING"), ("negative", "CONDITIONING")], [prompt, "" if demo else NEGATIVE_PROMPT],
    )  # fmt: skip
