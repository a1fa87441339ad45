"""What is measured: sizes of model and latent video, the three ways to call it, and the inputs of a call.

The sizes of a processor are cut to what it can do in seconds; those of a GPU are whole models and whole clips.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from wan_core.model.config import WanConfig

MODES = ("per-frame", "one timestep", "block-causal")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
TEXT_TOKENS = 512


@dataclass(frozen=True)
class Size:
    """A model with random weights and a latent video for it.

    Attributes:
        config: the model.
        latent: latent frames, height, width.
        block: latent frames of a causal block.
    """

    config: WanConfig
    latent: tuple[int, int, int]
    block: int

    @property
    def grid(self) -> tuple[int, int, int]:
        """Latent frames, rows and columns of tokens."""
        return self.latent[0], self.latent[1] // 2, self.latent[2] // 2

    @property
    def tokens(self) -> int:
        """Tokens of the latent video."""
        frames, rows, columns = self.grid
        return frames * rows * columns


# fps weights are left out: only one of the releases has them, and ComfyUI's own model has no place for them
SMALL_MODEL = replace(WanConfig.preset("DF-1.3B-540P"), inject_sample_info=False)
LARGE_MODEL = WanConfig.preset("DF-14B-720P")
CPU_SIZES = {
    "small": Size(WanConfig(dim=512, ffn_dim=2048, num_heads=4, num_layers=4), (25, 16, 16), 5),
    "large": Size(WanConfig(dim=1536, ffn_dim=8960, num_heads=12, num_layers=2), (9, 34, 60), 3),
}
GPU_SIZES = {
    "1.3B-540P": Size(SMALL_MODEL, (25, 68, 120), 5),  # 97 frames of 544 x 960
    "14B-540P": Size(LARGE_MODEL, (25, 68, 120), 5),
    "14B-720P": Size(LARGE_MODEL, (31, 90, 160), 5),  # 121 frames of 720 x 1280
}
FIT_SIZES = {
    "14B-540P": GPU_SIZES["14B-540P"],
    "14B-720P": GPU_SIZES["14B-720P"],
    "14B-1080P": Size(LARGE_MODEL, (31, 136, 240), 5),
}
CLUSTER_SIZES = {  # model by model, each as a short and as a long clip
    "1.3B-540P": GPU_SIZES["1.3B-540P"],
    "1.3B-720P": Size(SMALL_MODEL, (31, 90, 160), 5),
    "14B-540P": GPU_SIZES["14B-540P"],
    "14B-720P": GPU_SIZES["14B-720P"],
}
SIZES = CPU_SIZES | GPU_SIZES | FIT_SIZES | CLUSTER_SIZES


def model_of(size: str) -> str:
    """Return the model that a size is named after."""
    return size.partition("-")[0]


@dataclass(frozen=True)
class Case:
    """One line of the table.

    Attributes:
        size: name in SIZES.
        mode: one of MODES.
        dtype: name in DTYPES.
        device: where it is computed.
        layers: how many of the model's layers, all alike, are computed at most; 0 = all.
    """

    size: str
    mode: str
    dtype: str
    device: str = "cpu"
    layers: int = 0

    @property
    def shape(self) -> Size:
        """The size that the name stands for, with the layers that are computed."""
        whole = SIZES[self.size]
        layers = min(self.layers or whole.config.num_layers, whole.config.num_layers)
        return replace(whole, config=replace(whole.config, num_layers=layers))

    @property
    def block(self) -> int:
        """Latent frames of a causal block, 0 where attention is bidirectional."""
        return self.shape.block if self.mode == "block-causal" else 0

    @property
    def video(self) -> str:
        """Model, resolution in pixels and dtype, for a size that is named after its model."""
        height, width = (8 * side for side in self.shape.latent[1:])
        return f"{model_of(self.size)}, {height} x {width}, {self.dtype}"

    @property
    def title(self) -> str:
        """What a person reads in the table."""
        config, latent = self.shape.config, self.shape.latent
        block = f" (block {self.block})" if self.block else ""
        whole = SIZES[self.size].config.num_layers
        part = "" if config.num_layers == whole else f" of {whole}"
        size = f"dim {config.dim} x {config.num_layers}{part} layers, latent {latent[0]}x{latent[1]}x{latent[2]}"
        return f"{self.mode}{block}, {size}, {self.dtype}"


def floating_point_operations(case: Case) -> int:
    """Return the multiplications and additions of the floor: of its matrix products and attention calls."""
    config, (frames, rows, columns) = case.shape.config, case.shape.grid
    dim, tokens, patch = config.dim, case.shape.tokens, 4 * config.in_dim
    block = case.block or frames
    seen = sum(min(block, frames - start) * min(start + block, frames) for start in range(0, frames, block))
    attention = 2 * (seen * (rows * columns) ** 2 + tokens * TEXT_TOKENS) * dim  # scores, then values
    linear = tokens * (6 * dim + 2 * config.ffn_dim) * dim + TEXT_TOKENS * 2 * dim * dim
    times = 1 if case.mode == "one timestep" else frames
    embeddings = (
        times * (config.freq_dim + dim + 6 * dim) * dim
        + TEXT_TOKENS * (config.text_dim + dim) * dim
        + tokens * 2 * patch * dim
    )
    return 2 * (config.num_layers * (linear + attention) + embeddings)


@dataclass(frozen=True)
class Inputs:
    """What every contender is called with."""

    x: Tensor  # [1, 16, F, H, W]
    t: Tensor  # [1] or [1, F], 0..1000
    context: Tensor  # [1, 512, text_dim]


def inputs(case: Case, frames: int | None = None) -> Inputs:
    """Return seeded inputs of a case, or of its first frames."""
    generator = torch.Generator().manual_seed(7)
    dtype, (length, height, width) = DTYPES[case.dtype], case.shape.latent
    frames = length if frames is None else frames
    t = torch.tensor([700.0]) if case.mode == "one timestep" else torch.linspace(0, 999, frames).floor()[None]
    return Inputs(
        torch.randn(1, 16, frames, height, width, generator=generator).to(case.device, dtype),
        t.to(case.device),
        torch.randn(1, TEXT_TOKENS, case.shape.config.text_dim, generator=generator).to(case.device, dtype),
    )
