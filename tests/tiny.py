"""Tiny random Wan checkpoints, written in every form the real ones are released in."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.diffusers_names import to_diffusers_names
from wan_core.checkpoint.reader import normalize_state_dict
from wan_core.model.attention import scaled_dot_product
from wan_core.model.config import WanConfig
from wan_core.model.layers import Layers
from wan_core.model.wan_model import WanModel

StateDict = dict[str, Tensor]


def tiny_config(**changes: Any) -> WanConfig:
    """A model of 2 layers, 64 wide, 2 heads; `inject_sample_info=True`, `model_type="i2v"` and so on change it.

    An i2v model gets 36 input channels unless `in_dim` says otherwise.
    """
    if changes.get("model_type") == "i2v":
        changes = {"in_dim": 36, **changes}
    tiny = {"dim": 64, "ffn_dim": 128, "freq_dim": 64, "text_dim": 32, "text_len": 16, "num_heads": 2, "num_layers": 2}
    return WanConfig(**{**tiny, **changes})


def random_state_dict(config: WanConfig, seed: int = 0, dtype: torch.dtype = torch.float32) -> StateDict:
    """Random parameters under the original names, scaled so that activations stay near 1."""
    generator = torch.Generator().manual_seed(seed)
    state_dict = {}
    for key, shape in config.parameter_shapes().items():
        values = torch.randn(shape, generator=generator)
        if key.endswith("modulation"):
            values *= 0.3
        elif key.endswith("bias"):
            values *= 0.1
        elif len(shape) == 1:  # the weight of a norm
            values = 1 + 0.1 * values
        else:
            values /= (values.numel() / shape[0]) ** 0.5
        state_dict[key] = values.to(dtype)
    return state_dict


def heads_metadata(config: WanConfig) -> dict[str, str]:
    """Safetensors metadata that names the heads where ComfyUI looks for them."""
    return {"config": json.dumps({"transformer": {"num_heads": config.num_heads}})}


def write_single(
    path: Path,
    config: WanConfig,
    state_dict: StateDict | None = None,
    *,
    prefix: str = "",
    marker: str | None = None,
    metadata: dict[str, str] | None = None,
) -> Path:
    """Write one safetensors file; `marker` adds the key `model_type.<marker>` of the repackaged files."""
    state_dict = random_state_dict(config) if state_dict is None else state_dict
    tensors = {prefix + key: value.contiguous() for key, value in state_dict.items()}
    if marker:
        tensors["model_type." + marker] = torch.zeros(1)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, metadata={"format": "pt", **heads_metadata(config), **(metadata or {})})
    return path


def write_shards(
    folder: Path,
    config: WanConfig,
    state_dict: StateDict | None = None,
    *,
    count: int = 3,
    stem: str = "model",
    index: bool = True,
    config_json: dict[str, Any] | None = None,
) -> Path:
    """Write a folder of shards with index and config.json, as the original repositories have it."""
    state_dict = random_state_dict(config) if state_dict is None else state_dict
    folder.mkdir(parents=True, exist_ok=True)
    weight_map: dict[str, str] = {}
    keys = sorted(state_dict)
    for number in range(count):
        name = f"{stem}-{number + 1:05}-of-{count:05}.safetensors" if count > 1 else f"{stem}.safetensors"
        part = keys[number::count]
        save_file({key: state_dict[key].contiguous() for key in part}, folder / name, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, name)
    if index and count > 1:
        total = sum(tensor.nbytes for tensor in state_dict.values())
        content = {"metadata": {"total_size": total}, "weight_map": weight_map}
        (folder / f"{stem}.safetensors.index.json").write_text(json.dumps(content), encoding="utf-8")
    (folder / "config.json").write_text(json.dumps(config_json or original_config_json(config)), encoding="utf-8")
    return folder


def write_diffusers_folder(
    folder: Path, config: WanConfig, state_dict: StateDict | None = None, *, count: int = 2
) -> Path:
    """Write a diffusers pipeline's folder with its transformer inside."""
    state_dict = random_state_dict(config) if state_dict is None else state_dict
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model_index.json").write_text('{"_class_name": "SkyReelsV2DiffusionForcingPipeline"}', encoding="utf-8")
    write_shards(
        folder / "transformer",
        config,
        to_diffusers_names(state_dict),
        count=count,
        stem="diffusion_pytorch_model",
        config_json=diffusers_config_json(config),
    )
    return folder


def original_config_json(config: WanConfig) -> dict[str, Any]:
    """config.json as the original repositories have it."""
    left_out = ("patch_size", "cross_attn_norm", "qk_norm", "text_dim", "window_size")
    values = {name: value for name, value in asdict(config).items() if name not in left_out}
    return {"_class_name": "WanModel", **values}


def diffusers_config_json(config: WanConfig) -> dict[str, Any]:
    """config.json of diffusers' SkyReelsV2Transformer3DModel; its values are that class's arguments, too."""
    image = config.model_type == "i2v"
    return {
        "_class_name": "SkyReelsV2Transformer3DModel",
        "patch_size": list(config.patch_size),
        "num_attention_heads": config.num_heads,
        "attention_head_dim": config.dim // config.num_heads,
        "in_channels": config.in_dim,
        "out_channels": config.out_dim,
        "text_dim": config.text_dim,
        "freq_dim": config.freq_dim,
        "ffn_dim": config.ffn_dim,
        "num_layers": config.num_layers,
        "cross_attn_norm": config.cross_attn_norm,
        "qk_norm": "rms_norm_across_heads" if config.qk_norm else None,
        "eps": config.eps,
        "image_dim": 1280 if image else None,
        "added_kv_proj_dim": config.dim if image else None,
        "inject_sample_info": config.inject_sample_info,
    }


def _is_block_linear(key: str, value: Tensor) -> bool:
    return key.startswith("blocks.") and key.endswith(".weight") and value.ndim == 2


def to_fp8(state_dict: StateDict, dtype: torch.dtype = torch.float8_e4m3fn) -> StateDict:
    """Linear weights of the blocks in fp8, unscaled, the rest in fp16."""
    return {
        key: value.to(dtype) if _is_block_linear(key, value) else value.to(torch.float16)
        for key, value in state_dict.items()
    }


def to_scaled_fp8(state_dict: StateDict) -> StateDict:
    """The fp8 form with a `scale_weight` per layer and the `scaled_fp8` key."""
    scaled: StateDict = {"scaled_fp8": torch.zeros(2, dtype=torch.float8_e4m3fn)}
    for key, value in state_dict.items():
        if _is_block_linear(key, value):
            scale = value.abs().amax().float() / 448
            scaled[key] = (value / scale).to(torch.float8_e4m3fn)
            scaled[key.removesuffix("weight") + "scale_weight"] = scale
        else:
            scaled[key] = value.to(torch.float16)
    return scaled


def to_comfy_quant(state_dict: StateDict) -> StateDict:
    """ComfyUI's own fp8 form: `weight_scale` and a `comfy_quant` JSON per layer."""
    note = torch.tensor(list(b'{"format": "float8_e4m3fn"}'), dtype=torch.uint8)
    quantized: StateDict = {}
    for key, value in to_scaled_fp8(state_dict).items():
        if key.endswith(".scale_weight"):
            layer = key.removesuffix(".scale_weight")
            quantized |= {f"{layer}.weight_scale": value, f"{layer}.comfy_quant": note.clone()}
        elif key != "scaled_fp8":
            quantized[key] = value
    return quantized


def random_wan(config: WanConfig, attention: Any = None) -> WanModel:
    """A WanModel with seeded random weights, without gradients."""
    generator = torch.Generator().manual_seed(2)
    model = WanModel(config, Layers(attention=attention or scaled_dot_product)).eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.15)
        if "norm" in name and name.endswith("weight"):
            parameter.add_(1)
    return model


class CountedWan:
    """A WanModel with random weights that counts the frames it computes."""

    def __init__(self, config: WanConfig):
        self.model = random_wan(config)
        self.frames = 0

    def __call__(self, x: Tensor, *args: object, **kwargs: object) -> Tensor:
        self.frames += x.shape[2]
        with torch.no_grad():
            return self.model(x, *args, **kwargs)


def random_diffusers(std: float, **sizes: int) -> Any:
    """Diffusers' transformer of two layers with fps weights and seeded random weights."""
    from diffusers import SkyReelsV2Transformer3DModel

    torch.manual_seed(0)
    model = SkyReelsV2Transformer3DModel(num_layers=2, inject_sample_info=True, **sizes).eval()
    for name, parameter in model.named_parameters():
        torch.nn.init.normal_(parameter, std=std)
        if "norm" in name and name.endswith("weight"):
            parameter.data += 1
    return model


def twin_of(transformer: Any, config: WanConfig) -> WanModel:
    """Our model with the weights of diffusers'."""
    model = WanModel(config).eval()
    model.load_state_dict(normalize_state_dict(dict(transformer.state_dict())))
    return model
