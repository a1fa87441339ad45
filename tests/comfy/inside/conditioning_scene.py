"""What the tests of conditioning and of patches share: models, a run, and runs in which frames go apart."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import comfy.samplers
import comfy.sd
import pytest
import torch
from sampling_scene import module

SHAPE = (1, 16, 5, 4, 4)
SIGMAS = torch.tensor([0.999, 0.9, 0.7, 0.4, 0.1, 0.0])  # whole timesteps: core does not round them, we do
# options, known frames and what the refusal says
APART = {
    "async": ({"ar_step": 1}, 0, "here each frame has its own"),
    "known frames": ({}, 1, "here each frame has its own"),
    "moving window": ({"ar_step": 2, "window_frames": 4}, 0, "a moving window"),
}


def conditioning(seed: int, **held: Any) -> list[Any]:
    return [[torch.randn(1, 12, 4096, generator=torch.Generator().manual_seed(seed)) * 0.3, held]]


@pytest.fixture
def files(models: Path) -> dict[str, Path]:
    folder = models / "diffusion_models"
    return {"16": folder / "tiny_df_nofps.safetensors", "36": folder / "tiny_i2v.safetensors"}


def load(files: dict[str, Path], channels: str = "16", ours: bool = True) -> Any:
    path = files[channels]
    return module("comfy.loading.loader").load_model(path) if ours else comfy.sd.load_diffusion_model(str(path))


def sample(model: Any, sampler: Any, positive: list[Any], negative: list[Any], known: int = 0) -> torch.Tensor:
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(positive, negative)
    guider.set_cfg(4.0)
    noise = torch.randn(SHAPE, generator=torch.Generator().manual_seed(7))
    mask = torch.ones(1, 1, *SHAPE[2:])
    mask[:, :, :known] = 0
    with torch.inference_mode():
        return guider.sample(
            noise if isinstance(sampler, forcing_class()) else noise / SIGMAS[0], torch.zeros(SHAPE), sampler, SIGMAS,
            disable_pbar=True, seed=3, denoise_mask=mask if known else None,
        )  # fmt: skip


def forcing_class() -> Any:
    return module("comfy.sampling.sampler").DiffusionForcingSampler


def forcing(**options: Any) -> Any:
    return forcing_class()(module("sampling.run").ForcingOptions(**{"solver": "euler", **options}))


def euler() -> Any:
    return comfy.samplers.ksampler("euler")


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch, pack: ModuleType) -> None:
    """Nothing may be computed."""

    def called(*_: Any, **__: Any) -> None:
        raise AssertionError("the transformer was called")

    monkeypatch.setattr(module("model.wan_model").WanModel, "forward", called)
    monkeypatch.setattr(importlib.import_module("comfy.ldm.wan.model").WanModel, "forward", called)
