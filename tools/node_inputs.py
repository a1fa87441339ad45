"""The inputs of the nodes in the example workflows, in the order that the nodes have them: the one place for it.

This pack's nodes are described in tests/node_ids.json; of ComfyUI's own nodes, what the graphs use is listed here. A
graph names its values and sockets; their places in a saved file follow from this order.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from tools.node_schemas import FROZEN, ROOT, read
from tools.workflow_prompt import BUTTON, CONTROL, DYNAMIC_COMBO, WIDGET_TYPES, has_control

PACK, CORE = "comfyui-skyreels-v2", "comfy-core"  # their ids in ComfyUI's registry
CORE_VERSION = "0.18.1"  # the oldest ComfyUI whose nodes have these inputs
NOTE = "MarkdownNote"  # of the front end: it has a text, and no inputs
UPLOAD = "IMAGEUPLOAD"
CORE_INPUTS: dict[str, dict[str, str]] = {
    NOTE: {"text": "STRING"},
    "CLIPLoader": {"clip_name": "COMBO", "type": "COMBO", "device": "COMBO"},
    "CLIPVisionEncode": {"clip_vision": "CLIP_VISION", "image": "IMAGE", "crop": "COMBO"},
    "CLIPVisionLoader": {"clip_name": "COMBO"},
    "CreateVideo": {"images": "IMAGE", "audio": "AUDIO", "fps": "FLOAT"},
    "EmptyImage": {"width": "INT", "height": "INT", "batch_size": "INT", "color": "INT"},
    "ImageCompositeMasked": {
        "destination": "IMAGE", "source": "IMAGE", "mask": "MASK", "x": "INT", "y": "INT", "resize_source": "BOOLEAN",
    },
    "LoadImage": {"image": "COMBO", BUTTON: UPLOAD},
    "LoadVideo": {"file": "COMBO", BUTTON: UPLOAD},
    "PreviewAny": {"source": "*"},
    "SaveVideo": {"video": "VIDEO", "filename_prefix": "STRING", "format": "COMBO", "codec": "COMBO"},
    "VAELoader": {"vae_name": "COMBO"},
    "WanImageToVideo": {
        "positive": "CONDITIONING", "negative": "CONDITIONING", "vae": "VAE",
        "clip_vision_output": "CLIP_VISION_OUTPUT", "start_image": "IMAGE", "width": "INT", "height": "INT",
        "length": "INT", "batch_size": "INT",
    },
}  # fmt: skip


@cache
def inputs(node: str) -> dict[str, str]:
    """Return the type of every input of a node by name, in order."""
    if node in CORE_INPUTS:
        return CORE_INPUTS[node]
    return {entry["name"]: entry["type"] for entry in read(FROZEN)[node]["inputs"]}


def is_widget(type_: str) -> bool:
    """Return whether an input of this type has a widget; the graphs use no input that is forced to be a socket."""
    return type_ in (*WIDGET_TYPES, DYNAMIC_COMBO, UPLOAD)


def sockets(node: str) -> list[dict[str, Any]]:
    """Return the inputs without a widget as a file has them."""
    return [{"name": name, "type": kind, "link": None} for name, kind in inputs(node).items() if not is_widget(kind)]


def widget_sockets(node: str) -> list[dict[str, Any]]:
    """Return the inputs that have a widget as a file has them."""
    return [
        {"name": name, "type": kind, "link": None, "widget": {"name": name}}
        for name, kind in inputs(node).items()
        if is_widget(kind) and node != NOTE
    ]


def in_order(node: str, values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield name and value of a node's widgets as a file lists them.

    Args:
        node: its type.
        values: by name; `size.width` is an input that the choice `size` brings. The last ones may be left to the node.

    Raises:
        ValueError: a value that the node has no widget for, or one that is missing in front of another.
    """
    left = dict(values)
    for name, kind in inputs(node).items():
        if name == BUTTON:
            yield name, "image"
        if name == BUTTON or not is_widget(kind) or not left:
            continue
        if name not in left:
            raise ValueError(f"{node} has no value for {name}, and one for {', '.join(left)}")
        yield name, left.pop(name)
        if has_control(name, kind, {}):
            yield CONTROL, "fixed"
        for brought in [key for key in left if key.startswith(f"{name}.")]:
            yield brought, left.pop(brought)
    if left:
        raise ValueError(f"{node} has no widgets {', '.join(left)}")


def size_values(node: str, size: tuple[str, int, int]) -> dict[str, Any]:
    """Return the values of a node's size: preset, width and height, the last two where the node has them."""
    preset, width, height = size
    if "width" in inputs(node):
        return {"size": preset, "width": width, "height": height}
    return {"size": preset} | ({"size.width": width, "size.height": height} if preset == "custom" else {})


def origin(node: str) -> dict[str, str]:
    """Return what *Missing nodes* finds the pack of a node by: its id in the registry, and a version."""
    if node == NOTE:
        return {}
    return {"cnr_id": CORE, "ver": CORE_VERSION} if node in CORE_INPUTS else {"cnr_id": PACK, "ver": version()}


@cache
def version() -> str:
    """Return this pack's version."""
    (found,) = re.findall(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE)
    return found
