"""Previews while our sampler works: one picture for each model call, by latent2rgb and by the tiny autoencoder."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import comfy.taesd.taehv
import comfy.utils
import folder_paths
import latent_preview
import numpy as np
import pytest
import torch
from comfy.cli_args import LatentPreviewMethod
from safetensors.torch import save_file

STEPS, CALLS = 3, 3 + 1 * 2  # ar_step 1, three latent frames in blocks of one


@pytest.fixture
def pictures() -> Iterator[list[np.ndarray]]:
    """The previews that the host would send to the browser."""
    seen: list[np.ndarray] = []

    def hook(value: int, total: int, preview: Any, node_id: Any = None) -> None:
        if preview is not None:
            seen.append(np.asarray(preview[1]))

    before = comfy.utils.PROGRESS_BAR_HOOK
    comfy.utils.set_progress_bar_global_hook(hook)
    yield seen
    comfy.utils.set_progress_bar_global_hook(before)


def sample(pack: ModuleType, models: Path, ar_step: int) -> None:
    loader, generate, sampler = (
        importlib.import_module(f"{pack.__name__}.wan_core.comfy.{name}") for name in ("loader", "generate", "sampler")
    )
    model = loader.load_model(models / "diffusion_models" / "tiny_df.safetensors")
    text = [[torch.randn(1, 12, 4096, generator=torch.Generator().manual_seed(1)) * 0.3, {}]]
    latent = {"samples": torch.zeros(1, 16, 3, 8, 8)}
    options = sampler.ForcingOptions(ar_step=ar_step)
    with torch.inference_mode():
        generate.generate(model, text, text, latent, 1, STEPS, 1.0, 8.0, options)


def check(pictures: list[np.ndarray], count: int, side: int) -> None:
    assert len(pictures) == count
    for picture in pictures:
        assert picture.shape == (side, side, 3) and picture.std() > 1
    assert any((picture != pictures[0]).any() for picture in pictures[1:])


@pytest.mark.parametrize(("ar_step", "count"), [(0, STEPS), (1, CALLS)], ids=["in step", "out of step"])
def test_latent2rgb_shows_a_picture_for_each_model_call(
    pack: ModuleType,
    models: Path,
    pictures: list[np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
    ar_step: int,
    count: int,
) -> None:
    monkeypatch.setattr(latent_preview.args, "preview_method", LatentPreviewMethod.Latent2RGB)
    sample(pack, models, ar_step)
    check(pictures, count, 8)


def test_the_tiny_autoencoder_shows_whole_pixels_for_each_model_call(
    pack: ModuleType,
    models: Path,
    pictures: list[np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    decoder = comfy.taesd.taehv.TAEHV(latent_channels=16, latent_format=None)
    generator = torch.Generator().manual_seed(2)
    state = {name: torch.randn(value.shape, generator=generator) * max(1, value[0].numel()) ** -0.5
             for name, value in decoder.state_dict().items()}  # fmt: skip
    save_file(state, tmp_path / "lighttaew2_1.safetensors")
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "vae_approx", ([str(tmp_path)], {".safetensors"}))
    folder_paths.filename_list_cache.pop("vae_approx", None)
    monkeypatch.setattr(latent_preview.args, "preview_method", LatentPreviewMethod.TAESD)
    sample(pack, models, 1)
    check(pictures, CALLS, 64)
