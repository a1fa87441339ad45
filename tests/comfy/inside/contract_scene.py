"""Every node with every input, and for each type of input what may come in: right, and wrong in five ways."""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.sd
import comfy.supported_models
import comfy.taesd.taehv
import comfy.utils
import torch
from comfy_api.latest import InputImpl, Types
from conftest import TESTS, load_module

COLUMNS = ("right", "empty", "wrong size", "wrong kind", "NaN", "from another model")
NAN = math.nan
SMALL = {"size": "custom", "width": 32, "height": 32}
SHORT = {
    "total_frames": 9, "new_frames": 4, "base_num_frames": 9, "overlap_history": 5, "frames": 9, "steps": 2,
    "size": SMALL, "method": {"method": "segments"}, "script": "a cat", "prompt": "a cat",
    "prompts": {"prompt_1": "a cat", "prompt_2": "a dog"},
    "key_frames": "", "timesteps": "1000, 500", "window_frames": 3, "key_times": "",
    "model_name": "tiny_df.safetensors", "lora_name": "tiny_lora.safetensors",
}  # fmt: skip
# what a node needs beside that
OWN: dict[str, dict[str, Any]] = {
    "SkyReelsV2Sampler": {"window_frames": 0},
    "SkyReelsV2SamplerSelect": {"window_frames": 0},
    "SkyReelsV2AttachFPS": {"model": "core"},
    "SkyReelsV2ModelInfo": {"model": "demo"},
    "SkyReelsV2Plan": {"new_frames": 0},
    "SkyReelsV2ExtendVideo": {"size": "as the video", "new_frames": 8},
}
ALONE = {"end_image", "key_images", "script", "sigmas"}  # optional sockets that the right call does without
TOGETHER: dict[str, dict[str, Any]] = {  # what else the right call has when one of those is tried
    "key_images": {"key_times": "4", "key_frames": "4"}, "script": {"positive": None}
}  # fmt: skip


class Scene:
    """Models and values that the nodes are given."""

    def __init__(self, nodes: dict[str, Any], models: Path):
        self.nodes, self.models = nodes, models
        self.tiny_clip = load_module("tiny_clip", TESTS / "host_nodes" / "tiny_clip.py").build_tiny_clip
        self.demo = nodes["SkyReelsV2DemoModels"].execute().args
        self.script = importlib.import_module("skyreels_v2.wan_core.long.prompts").PromptScript
        self.model, self.core = self.load("tiny_df"), comfy.sd.load_diffusion_model(str(self.file("tiny_df")))
        self.clip = self.tiny_clip(4096)
        self.vae = self.load_vae()
        self.values = {kind: build() for kind, build in self.builders().items()}

    def file(self, name: str) -> Path:
        return self.models / "diffusion_models" / f"{name}.safetensors"

    def load(self, name: str) -> Any:
        return importlib.import_module("skyreels_v2.wan_core.comfy.loading.loader").load_model(self.file(name))

    def load_vae(self) -> Any:
        return comfy.sd.VAE(sd=comfy.utils.load_torch_file(str(self.models / "vae" / "tiny_wan_vae.safetensors")))

    def builders(self) -> dict[str, Any]:
        return {
            "MODEL": self.of_model, "CLIP": self.of_clip, "VAE": self.of_vae, "CONDITIONING": self.of_conditioning,
            "LATENT": self.of_latent, "IMAGE": self.of_image, "VIDEO": self.of_video, "SIGMAS": self.of_sigmas,
            "SKYREELS_V2_SCRIPT": self.of_script,
        }  # fmt: skip

    def of_model(self) -> list[list[Any]]:
        bad = self.load("tiny_df")
        spoil(bad.model.diffusion_model.head.head.weight)
        return [[self.model], [None], [self.load("tiny_i2v")], [self.vae, "model"], [bad], [other_model()]]

    def of_clip(self) -> list[list[Any]]:
        bad = self.tiny_clip(4096)
        for weight in bad.cond_stage_model.parameters():
            spoil(weight)
        return [[self.clip], [None], [self.tiny_clip(512)], [self.vae, "clip"], [bad], [self.demo[1]]]

    def of_vae(self) -> list[list[Any]]:
        bad = self.load_vae()
        for weight in (bad.first_stage_model.conv2.weight, bad.first_stage_model.conv1.weight):
            spoil(weight)
        state = comfy.taesd.taehv.TAEHV(latent_channels=48, latent_format=None).state_dict()
        other = comfy.sd.VAE(sd={name: torch.zeros(value.shape) for name, value in state.items()})
        return [[self.vae], [None], [self.demo[2]], [self.model, "vae"], [bad], [other]]

    def of_conditioning(self) -> list[list[Any]]:
        text = seeded(1, 12, 4096) * 0.3
        of_flux = [[torch.zeros(1, 12, 768), {"pooled_output": torch.zeros(1, 768), "guidance": 3.5}]]
        wrong = [[[torch.zeros(12, 4096), {}]], [[torch.zeros(1, 0, 4096), {}]], [[torch.zeros(1, 12, 512), {}]]]
        kinds = [{"samples": torch.zeros(1, 16, 3, 4, 4)}, text, [text], "a cat"]
        return [[[[text, {}]]], [[]], wrong, kinds, [[[with_nan(text), {}]]], [of_flux]]

    def of_latent(self) -> list[list[Any]]:
        samples = torch.zeros(1, 16, 3, 4, 4)
        empty = [None, {}, {"samples": samples[:, :, :0]}]
        mask = {"samples": samples, "noise_mask": torch.ones(1, 1, 2, 4, 4)}
        sizes = [{"samples": samples[..., :3]}, {"samples": samples[:, :, 0]}, mask]
        kinds = [samples, {"samples": samples.tolist()}, {"samples": samples, "noise_mask": 1.0}]
        bad = [{"samples": with_nan(samples)}, {"samples": samples, "noise_mask": with_nan(torch.ones(1, 1, 3, 4, 4))}]
        others = [{"samples": torch.zeros(1, 48, 3, 2, 2)}, {"samples": torch.zeros(1, 4, 8, 8)}]
        return [[{"samples": samples}], empty, sizes, kinds, bad, others]

    def of_image(self) -> list[list[Any]]:
        image = seeded(1, 32, 32, 3).abs().clamp(0, 1)
        sizes = [seeded(1, 7, 90, 3).abs().clamp(0, 1), torch.zeros(1, 32, 32, 1)]
        kinds = [image[..., 0], (image * 255).to(torch.uint8), "image.png"]
        return [[image], [image[:0], image[:, :0]], sizes, kinds, [with_nan(image)], [torch.zeros(1, 16, 3, 4, 4)]]

    def of_video(self) -> list[list[Any]]:
        frames = seeded(9, 32, 32, 3).abs().clamp(0, 1)
        kinds = ["video.mp4", frames, {"samples": frames}]
        return [
            [video(frames)],
            [None, video(frames[:0])],
            [video(frames[:1]), video(frames[:, :7, :7])],
            kinds,
            [video(with_nan(frames))],
            [],
        ]

    def of_sigmas(self) -> list[list[Any]]:
        sigmas = torch.tensor([1.0, 0.5, 0.0])
        sizes = [torch.tensor([1.0]), sigmas[None]]
        kinds = [[1.0, 0.5, 0.0], "1, 0.5, 0"]
        return [[sigmas], [sigmas[:0]], sizes, kinds, [with_nan(sigmas)], [torch.tensor([14.6, 3.0, 0.03, 0.0])]]

    def of_script(self) -> list[list[Any]]:
        sizes = [self.script(self.clip, "a cat\n" * 2000)]
        kinds = ["0s-4s: a cat", self.clip, self.script(self.clip, 7)]
        bad, other = self.script(self.clip, "a cat\na dog", NAN), self.script(self.demo[1], "a cat")
        return [[self.script(self.clip, "a cat")], [self.script(self.clip, "")], sizes, kinds, [bad], [other]]

    def of_widget(self, entry: Any, right: Any) -> list[list[Any]]:
        """The values of a widget; what a link may bring, since a host checks only what is typed."""
        kind = entry.get_io_type()
        if kind in ("INT", "FLOAT"):
            return [[right], [None], [entry.min - 1, entry.max + 1], ["seven", [7]], [NAN, math.inf], []]
        if kind == "STRING":
            return [[right], [None, ""], ["x" * 100_000], [7, ["a cat"]], ["nan"], []]
        if kind == "COMBO":
            return [[right], [None, ""], [], [7, ["a"]], [NAN], ["euler_ancestral"]]
        if kind == "BOOLEAN":
            return [[right], [None], [2], ["yes"], [NAN], []]
        if kind == "COMFY_DYNAMICCOMBO_V3":
            option = next(each for each in entry.options if each.inputs)
            number = next(each for each in option.inputs if each.get_io_type() == "INT")
            full = {entry.id: option.key, **{each.id: each.default for each in option.inputs}}
            sizes = [{**full, number.id: each} for each in (number.min - 1, number.max + 1)]
            sizes += [{**full, "width": 24}] if number.id == "width" else []
            return [[right], [None, {}], sizes, ["960x544", 7], [{**full, number.id: NAN}], [{entry.id: "480P"}]]
        if kind == "COMFY_AUTOGROW_V3":
            long = {f"prompt_{number}": "a cat" for number in range(1, 60)}
            return [[right], [None, {}, {"prompt_1": ""}], [long], [{"prompt_1": 7}, "a cat"], [{"prompt_1": NAN}], []]
        raise AssertionError(f"{entry.id}: there are no values for {kind} yet: write them here")

    def rows(self) -> Iterator[tuple[str, Any, Any, dict[str, Any]]]:
        """Every node and input: (node, its class, input, what the node is given beside it)."""
        for name, node in self.nodes.items():
            entries = node.define_schema().inputs
            base = {entry.id: self.right(name, entry) for entry in entries if not left_out(entry)}
            if not entries:
                yield name, node, None, {}
            for entry in entries:
                more = {key: value for key, value in TOGETHER.get(entry.id, {}).items() if key in base}
                yield name, node, entry, base | more

    def right(self, node: str, entry: Any) -> Any:
        given = OWN.get(node, {}).get(entry.id, SHORT.get(entry.id))
        kind = entry.get_io_type()
        if kind == "MODEL":
            return {"core": self.core, "demo": self.demo[0]}.get(given, self.model)
        return self.values[kind][0][0] if kind in self.values else entry.default if given is None else given

    def cases(self, node: str, entry: Any) -> dict[str, list[Any]]:
        kind = entry.get_io_type()
        right = self.right(node, entry)
        found = self.values.get(kind) or self.of_widget(entry, right)
        return dict(zip(COLUMNS, [[right], *found[1:]], strict=True))


def left_out(entry: Any) -> bool:
    """Whether the right call of a node does without an input."""
    return bool(entry.optional) and entry.id in ALONE


def seeded(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(3))


def with_nan(tensor: torch.Tensor) -> torch.Tensor:
    copy = tensor.clone()
    copy.view(-1)[copy.numel() // 2] = NAN
    return copy


def spoil(weight: torch.nn.Parameter) -> None:
    with torch.no_grad():
        weight.data = torch.full_like(weight.data, NAN)


def video(frames: torch.Tensor) -> Any:
    return InputImpl.VideoFromComponents(Types.VideoComponents(images=frames, audio=None, frame_rate=24))


def other_model() -> Any:
    """A small Stable Diffusion 1.5."""
    config = comfy.supported_models.SD15(
        {"image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 32, "num_res_blocks": [1],
         "channel_mult": [1], "num_heads": 1, "transformer_depth": [0], "transformer_depth_output": [0, 0],
         "transformer_depth_middle": 0, "context_dim": 32, "use_spatial_transformer": True}
    )  # fmt: skip
    device = comfy.model_management.get_torch_device()
    config.set_inference_dtype(torch.float32, None)
    return comfy.model_patcher.ModelPatcher(comfy.model_base.BaseModel(config, device=device), device, device)
