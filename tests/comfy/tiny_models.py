"""Tiny model files in the released layouts, for servers to load: seeded, a few MB, text width 4096 as released.

ComfyUI's own loader does not look at the text width of a file, it knows only 4096; so neither do these differ from it.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

DIM, FFN, LAYERS, TEXT, FREQ, IMAGE = 256, 512, 2, 4096, 256, 1280
LORA_TARGETS = ("self_attn.q", "self_attn.v", "cross_attn.k", "ffn.0")


def _linear(name: str, rows: int, columns: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}


def transformer_shapes(in_dim: int = 16, fps: bool = True, channels: int = 16) -> dict[str, tuple[int, ...]]:
    """Return name -> shape of a transformer file with the original names (in_dim 36: image to video)."""
    shapes: dict[str, tuple[int, ...]] = {
        "patch_embedding.weight": (DIM, in_dim, 1, 2, 2),
        "patch_embedding.bias": (DIM,),
        **_linear("text_embedding.0", DIM, TEXT),
        **_linear("text_embedding.2", DIM, DIM),
        **_linear("time_embedding.0", DIM, FREQ),
        **_linear("time_embedding.2", DIM, DIM),
        **_linear("time_projection.1", 6 * DIM, DIM),
        "head.modulation": (1, 2, DIM),
        **_linear("head.head", 4 * channels, DIM),
    }
    if fps:
        shapes["fps_embedding.weight"] = (2, DIM)
        shapes |= _linear("fps_projection.0", DIM, DIM)
        shapes |= _linear("fps_projection.2", 6 * DIM, DIM)
    if in_dim == 36:
        for name, size in (("0", IMAGE), ("4", DIM)):
            shapes |= {f"img_emb.proj.{name}.weight": (size,), f"img_emb.proj.{name}.bias": (size,)}
        shapes |= _linear("img_emb.proj.1", IMAGE, IMAGE)
        shapes |= _linear("img_emb.proj.3", DIM, IMAGE)
    for layer in range(LAYERS):
        shapes |= {f"blocks.{layer}.{name}": shape for name, shape in _block_shapes(in_dim == 36).items()}
    return shapes


def _block_shapes(image: bool) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {"modulation": (1, 6, DIM), "norm3.weight": (DIM,), "norm3.bias": (DIM,)}
    for attention in ("self_attn", "cross_attn"):
        for name in ("q", "k", "v", "o"):
            shapes |= _linear(f"{attention}.{name}", DIM, DIM)
        shapes |= {f"{attention}.norm_{name}.weight": (DIM,) for name in ("q", "k")}
    if image:
        shapes |= _linear("cross_attn.k_img", DIM, DIM)
        shapes |= _linear("cross_attn.v_img", DIM, DIM)
        shapes["cross_attn.norm_k_img.weight"] = (DIM,)
    return shapes | _linear("ffn.0", FFN, DIM) | _linear("ffn.2", DIM, FFN)


def random_tensors(shapes: dict[str, tuple[int, ...]], seed: int = 0) -> dict[str, torch.Tensor]:
    """Return seeded weights that keep activations near unit size: gains near one, small biases, scaled matrices."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name in sorted(shapes):
        shape = shapes[name]
        values = torch.randn(shape, generator=generator)
        if name.endswith("gamma") or (len(shape) == 1 and name.endswith("weight")):
            tensors[name] = 1 + 0.1 * values
        elif name.endswith("bias"):
            tensors[name] = 0.1 * values
        elif name.endswith("modulation") or "fps_embedding" in name:
            tensors[name] = 0.3 * values
        else:
            tensors[name] = values * torch.Size(shape[1:]).numel() ** -0.5
    return tensors


def frame_rate_shift(tensors: dict[str, torch.Tensor], row: int) -> torch.Tensor:
    """Return what the fps weights add to the time projection, [6 * DIM] float32; row 0 is 16 fps, row 1 any other."""
    weights = {name: tensor.float() for name, tensor in tensors.items() if name.startswith("fps_")}
    hidden = (
        weights["fps_projection.0.weight"] @ weights["fps_embedding.weight"][row] + weights["fps_projection.0.bias"]
    )
    return weights["fps_projection.2.weight"] @ (hidden * hidden.sigmoid()) + weights["fps_projection.2.bias"]


def write_transformer(path: Path, in_dim: int = 16, fps: bool = True, dtype: torch.dtype = torch.bfloat16) -> None:
    """Write a transformer as the released files hold it."""
    tensors = random_tensors(transformer_shapes(in_dim, fps))
    save_file({name: tensor.to(dtype).contiguous() for name, tensor in tensors.items()}, path)


def write_lora(path: Path, rank: int = 4) -> None:
    """Write a LoRA strong enough to be seen, with the key names of the Wan LoRAs in circulation."""
    shapes = transformer_shapes()
    tensors = {}
    generator = torch.Generator().manual_seed(1)
    for layer in range(LAYERS):
        for target in LORA_TARGETS:
            rows, columns = shapes[f"blocks.{layer}.{target}.weight"]
            stem = f"diffusion_model.blocks.{layer}.{target}"
            tensors[f"{stem}.lora_A.weight"] = torch.randn(rank, columns, generator=generator) * columns**-0.5
            tensors[f"{stem}.lora_B.weight"] = torch.randn(rows, rank, generator=generator)
    save_file(tensors, path)


def write_t5(path: Path) -> None:
    """Write a file that begins like a umt5 text encoder: no transformer of this family."""
    shapes: dict[str, tuple[int, ...]] = {"shared.weight": (64, 32), "encoder.final_layer_norm.weight": (32,)}
    for name in ("q", "k", "v", "o"):
        shapes[f"encoder.block.0.layer.0.SelfAttention.{name}.weight"] = (32, 32)
    save_file(random_tensors(shapes), path)


def write_truncated(path: Path, source: Path) -> None:
    """Write the first two thirds of a model file: a download that broke off."""
    data = source.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
