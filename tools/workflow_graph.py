"""A workflow in ComfyUI's own file format: nodes in columns, links by name, the loaders and notes of all graphs."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Any

from demo.shapes import BACKGROUNDS, COLOURS
from tools.node_inputs import NOTE, in_order, origin, size_values, sockets, widget_sockets
from tools.workflow_files import (
    FOLDERS,
    MODEL_URLS,
    NEGATIVE_PROMPT,
    TEXT_ENCODER,
    TRANSFORMER,
    VAE,
    files_note,
    plain_note,
)

TITLE_HEIGHT, SLOT_HEIGHT, WIDGET_HEIGHT = 30, 24, 36
GAP = 40
TITLES = {"start_image": "First frame / 首帧", "end_image": "Last frame / 尾帧"}
SQUARE, TOP = 24, 22  # pixels: size of the embedded models' square, as they have learned it; its place from the top

# these show pictures or a text below their widgets, as high as it takes; a sampler shows its preview
GROWING = (
    "LoadImage", "LoadVideo", "PreviewAny", "SaveVideo", "SkyReelsV2ExtendVideo", "SkyReelsV2LongVideo",
    "SkyReelsV2RollingSampler", "SkyReelsV2Sampler",
)  # fmt: skip

Socket = tuple[int, str]  # a node and the name of its output


@dataclass
class Node:
    """A node of the graph: its widgets by name, its outputs as (name, type); its inputs are in node_inputs.py."""

    type: str
    size: tuple[int, int]
    widgets: dict[str, Any] = field(default_factory=dict)
    outputs: list[tuple[str, str]] = field(default_factory=list)
    title: str | None = None
    model: str | None = None
    color: str | None = None

    def rows(self) -> int:
        """Return how high the node is in *Nodes 2.0* at most, title included, where the rows are higher; pixels."""
        slots = max(len(sockets(self.type)), len(self.outputs))
        return 2 * TITLE_HEIGHT + SLOT_HEIGHT * slots + WIDGET_HEIGHT * len(widget_sockets(self.type))


class Graph:
    """Nodes placed column by column, and links between named sockets.

    A node that grows with what it shows (GROWING) is the last of its column: nothing stands where it grows.
    """

    def __init__(self) -> None:
        self.nodes: list[dict[str, Any]] = []
        self.links: list[list[Any]] = []
        self.x = 0

    def column(self, *nodes: Node) -> list[int]:
        """Place nodes below one another, right of what is there; returns their ids."""
        if any(node.type in GROWING for node in nodes[:-1]):
            raise ValueError(f"{', '.join(node.type for node in nodes)}: what grows has to be the last of its column")
        y, ids = 0, []
        for node in nodes:
            ids.append(self.place(node, y))
            y += max(node.size[1] + TITLE_HEIGHT, node.rows()) + GAP
        self.x += max(node.size[0] for node in nodes) + GAP
        return ids

    def place(self, node: Node, y: int) -> int:
        """Add one node; returns its id."""
        number = len(self.nodes) + 1
        properties: dict[str, Any] = {"Node name for S&R": node.type, **origin(node.type)}
        values = dict(in_order(node.type, node.widgets))
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
            "inputs": [*sockets(node.type), *widget_sockets(node.type)],
            "outputs": [{"name": name, "type": kind, "links": []} for name, kind in node.outputs],
            "properties": properties,
        }
        if values:
            entry["widgets_values"] = list(values.values())
            entry["widgets_values_named"] = values
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
    return Node(NOTE, (430, height), {"text": text}, title="Read me / 说明", color="#2a3648")


@dataclass(frozen=True)
class Picture:
    """A first and a last frame drawn by ComfyUI's own nodes: a square on a plain background, as the models know it.

    Attributes:
        square: its colour.
        background: the colour around it.
        left: pixels from the left in the first and in the last frame; 2 short of a multiple of 4, as TOP is: so its
            centre is on the grid that the models have learned (demo.shapes.GRID).
    """

    square: str
    background: str
    left: tuple[int, int] = (6, 14)


@dataclass(frozen=True)
class Kit:
    """What a graph runs with.

    Attributes:
        demo: whether it is the embedded models, else released files.
        size: preset, width, height.
        window: video frames of the window and of the overlap.
        steps: denoising steps.
        picture: the embedded models' first and last frame.
    """

    demo: bool
    size: tuple[str, int, int]
    window: tuple[int, int]
    steps: int
    picture: Picture = Picture("red", "black")

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
            return [graph.column(load_image(TITLES[name]))[0] for name in names]  # each may grow as high as it likes
        background, square = graph.column(
            plain_image(64, BACKGROUNDS[self.picture.background]), plain_image(SQUARE, COLOURS[self.picture.square])
        )
        pictures = graph.column(
            *[
                Node(
                    "ImageCompositeMasked", (280, 150), {"x": left, "y": TOP, "resize_source": False},
                    [("IMAGE", "IMAGE")], title=TITLES[name],
                )
                for name, left in zip(TITLES, self.picture.left, strict=True)
                if name in names
            ]
        )  # fmt: skip
        for picture in pictures:
            graph.link(background, "IMAGE", picture, "destination")
            graph.link(square, "IMAGE", picture, "source")
        return pictures

    def empty_latent(self, frames: int) -> Node:
        """Return the node that says how large and how long a clip is."""
        node = "SkyReelsV2EmptyLatent"
        values = {**size_values(node, self.size), "frames": frames, "batch_size": 1}
        return Node(node, (430, 160), values, [("latent", "LATENT")])


RELEASED = Kit(False, ("540P landscape (960x544)", 960, 544), (97, 17), 30)
EMBEDDED = Kit(True, ("custom", 64, 64), (37, 17), 25)


def plain_image(edge: int, colour: tuple[int, int, int]) -> Node:
    """Return a square image of one colour; `edge` in pixels."""
    number = int.from_bytes(bytes(colour), "big")
    values = {"width": edge, "height": edge, "batch_size": 1, "color": number}
    return Node("EmptyImage", (280, 130), values, [("IMAGE", "IMAGE")])


def load_image(title: str) -> Node:
    """Return an image loader."""
    return Node("LoadImage", (300, 330), {"image": "example.png"}, [("IMAGE", "IMAGE"), ("MASK", "MASK")], title=title)


def loaders(transformer: str = TRANSFORMER) -> list[Node]:
    """Return the three loaders; `transformer` is a key of MODEL_URLS."""
    return [
        Node(
            "SkyReelsV2ModelLoader", (430, 110), {"model_name": transformer, "weight_dtype": "default"},
            [("model", "MODEL"), ("info", "STRING")], model=transformer,
        ),
        Node(
            "CLIPLoader", (430, 110), {"clip_name": TEXT_ENCODER, "type": "wan", "device": "default"},
            [("CLIP", "CLIP")], model=TEXT_ENCODER,
        ),
        Node("VAELoader", (430, 60), {"vae_name": VAE}, [("VAE", "VAE")], model=VAE),
    ]  # fmt: skip


def text_encode(prompt: str, demo: bool) -> Node:
    """Return the node for both prompts; the embedded models know no negative one but the empty text."""
    return Node(
        "SkyReelsV2TextEncode", (430, 420), {"prompt": prompt, "negative_prompt": negative(demo)},
        [("positive", "CONDITIONING"), ("negative", "CONDITIONING")],
    )  # fmt: skip


def negative(demo: bool) -> str:
    """Return the negative prompt."""
    return "" if demo else NEGATIVE_PROMPT


SAMPLING = {
    "seed": 42, "solver": "unipc", "fps": 24, "ar_step": 0, "causal_block_size": 1, "causal_attention": False,
    "addnoise_condition": 20,
}  # fmt: skip


def sampler(steps: int, cfg: float, shift: float, **values: Any) -> Node:
    """Return the sampler; `values` are those that differ from SAMPLING."""
    settings = {**SAMPLING, "steps": steps, "cfg": cfg, "shift": shift, "window_frames": 0, **values}
    return Node("SkyReelsV2Sampler", (330, 376), settings, [("latent", "LATENT")])


def finish(graph: Graph, vae: Socket, latent: Socket) -> None:
    """Add what decodes a latent and saves the video; nothing stands below it, since it grows with the video."""
    decode, create = graph.column(
        Node("SkyReelsV2VAEDecode", (280, 80), {"tiling": "auto"}, [("images", "IMAGE")]),
        Node("CreateVideo", (280, 80), {"fps": 24}, [("VIDEO", "VIDEO")]),
    )
    (save,) = graph.column(save_video())
    graph.link(*latent, decode, "samples")
    graph.link(*vae, decode, "vae")
    graph.link(decode, "images", create, "images")
    graph.link(create, "VIDEO", save, "video")


def save_video() -> Node:
    """Return the node that saves and plays a video."""
    values = {"filename_prefix": "video/SkyReels-V2", "format": "auto", "codec": "auto"}
    return Node("SaveVideo", (480, 480), values)
