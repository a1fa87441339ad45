"""Nodes that only the tests need: a tiny text encoder, and writing what flows along a link to a file."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import comfy.clip_vision
import folder_paths
import torch
from comfy_api.latest import ComfyExtension, io
from safetensors.torch import save_file

from .tiny_clip import build_tiny_clip


class TinyCLIP(io.ComfyNode):
    """ComfyUI's own umt5 text encoder with one seeded layer; width 4096 is that of the released models."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SkyReelsV2TestTinyCLIP",
            category="testing",
            inputs=[io.Int.Input("width", default=4096, min=8, max=8192)],
            outputs=[io.Clip.Output()],
        )

    @classmethod
    def execute(cls, width: int) -> io.NodeOutput:
        return io.NodeOutput(build_tiny_clip(width))


class Dump(io.ComfyNode):
    """Write the tensors of a LATENT, CONDITIONING, IMAGE or SIGMAS to `output/<name>.safetensors`."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SkyReelsV2TestDump",
            category="testing",
            inputs=[
                io.MultiType.Input("value", types=[io.Latent, io.Conditioning, io.Image, io.Sigmas]),
                io.String.Input("name"),
            ],
            outputs=[],
            is_output_node=True,
        )

    @classmethod
    def fingerprint_inputs(cls, **_inputs: Any) -> int:
        """Never the same twice: another prompt may have overwritten the file."""
        return time.monotonic_ns()

    @classmethod
    def execute(cls, value: Any, name: str) -> io.NodeOutput:
        tensors = {key: tensor.contiguous().cpu() for key, tensor in _tensors_of(value).items()}
        file = f"{name}.safetensors"
        save_file(tensors, Path(folder_paths.get_output_directory()) / file)
        return io.NodeOutput(ui={"files": [{"filename": file, "subfolder": "", "type": "output"}]})


class Text(io.ComfyNode):
    """Write a STRING to `output/<name>.txt`."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SkyReelsV2TestText",
            category="testing",
            inputs=[io.String.Input("value", force_input=True), io.String.Input("name")],
            outputs=[],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, value: str, name: str) -> io.NodeOutput:
        file = f"{name}.txt"
        (Path(folder_paths.get_output_directory()) / file).write_text(value, encoding="utf-8")
        return io.NodeOutput(ui={"files": [{"filename": file, "subfolder": "", "type": "output"}]})


class RandomLatent(io.ComfyNode):
    """A LATENT of any channel count, so that a wrong one can be made."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SkyReelsV2TestLatent",
            category="testing",
            inputs=[
                io.Int.Input("channels", default=16, min=1, max=64),
                io.Int.Input("frames", default=3, min=1, max=64),
                io.Int.Input("height", default=8, min=1, max=64),
                io.Int.Input("width", default=8, min=1, max=64),
                io.Int.Input("seed", default=0, min=0, max=99),
            ],
            outputs=[io.Latent.Output()],
        )

    @classmethod
    def execute(cls, channels: int, frames: int, height: int, width: int, seed: int) -> io.NodeOutput:
        generator = torch.Generator().manual_seed(seed)
        return io.NodeOutput({"samples": torch.randn(1, channels, frames, height, width, generator=generator)})


class ListedSigmas(io.ComfyNode):
    """SIGMAS written out as numbers, so that timesteps can be chosen to be whole."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SkyReelsV2TestSigmas",
            category="testing",
            inputs=[io.String.Input("values", default="0.9, 0.6, 0.3, 0")],
            outputs=[io.Sigmas.Output()],
        )

    @classmethod
    def execute(cls, values: str) -> io.NodeOutput:
        return io.NodeOutput(torch.tensor([float(value) for value in values.split(",")]))


class CLIPVision(io.ComfyNode):
    """What CLIP ViT-H would say about some image: seeded tokens of the released shape."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SkyReelsV2TestCLIPVision",
            category="testing",
            inputs=[io.Int.Input("seed", default=0, min=0, max=99)],
            outputs=[io.ClipVisionOutput.Output()],
        )

    @classmethod
    def execute(cls, seed: int) -> io.NodeOutput:
        output = comfy.clip_vision.Output()
        generator = torch.Generator().manual_seed(seed)
        output.penultimate_hidden_states = torch.randn(1, 257, 1280, generator=generator)
        return io.NodeOutput(output)


def _tensors_of(value: Any) -> dict[str, torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return {"tensor": value}
    if isinstance(value, dict):
        return {key: item for key, item in value.items() if isinstance(item, torch.Tensor)}
    found = {}
    for index, (tensor, extras) in enumerate(value):
        found[f"cond.{index}"] = tensor
        for key, item in extras.items():
            if isinstance(item, torch.Tensor):
                found[f"{key}.{index}"] = item
    return found


class TestExtension(ComfyExtension):
    """The nodes above."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [TinyCLIP, Dump, Text, RandomLatent, ListedSigmas, CLIPVision]


async def comfy_entrypoint() -> TestExtension:
    """What ComfyUI calls."""
    return TestExtension()
