"""Previews while our sampler works: one picture for each model call, by latent2rgb and by the tiny autoencoder."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import comfy.latent_formats
import comfy.taesd.taehv
import comfy.utils
import folder_paths
import latent_preview
import numpy as np
import pytest
import torch
from comfy.cli_args import LatentPreviewMethod
from safetensors.torch import save_file
from sampling_scene import generated, module

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
    model = module("comfy.loading.loader").load_model(models / "diffusion_models" / "tiny_df.safetensors")
    text = [[torch.randn(1, 12, 4096, generator=torch.Generator().manual_seed(1)) * 0.3, {}]]
    latent = {"samples": torch.zeros(1, 16, 3, 8, 8)}
    options = module("sampling.run").ForcingOptions(ar_step=ar_step)
    generated(model, (text, text), latent, options, 1, STEPS, 1.0, 8.0)


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


@pytest.mark.parametrize(
    "method", [LatentPreviewMethod.Latent2RGB, LatentPreviewMethod.TAESD, LatentPreviewMethod.Auto]
)
def test_a_preview_of_the_demo_model_has_the_colours_of_the_decoded_frame(
    pack: ModuleType,
    pack_nodes: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    method: LatentPreviewMethod,
) -> None:
    shapes = importlib.import_module(f"{pack.__name__}.demo.shapes")
    model, _clip, vae = pack_nodes["SkyReelsV2DemoModels"].execute().args
    monkeypatch.setattr(latent_preview.args, "preview_method", method)
    for clip in shapes.render(shapes.draw_clips(8, 7), 9):
        latents = vae.encode(clip)
        previewer = latent_preview.get_previewer(model.load_device, model.model.latent_format)
        shown = previewer.decode_latent_to_preview_image("JPEG", model.model.process_latent_in(latents))[1]
        frame = vae.decode(latents).reshape(clip.shape)[0]
        blurred = torch.nn.functional.interpolate(frame.movedim(-1, 0)[None], size=(8, 8), mode="area")[0].movedim(
            0, -1
        )
        error = torch.from_numpy(np.asarray(shown) / 255.0) - blurred
        assert error.abs().mean() < 0.06  # of 1; the factors of Wan's own VAE miss by 0.2 to 0.5
        plain = blurred.std(dim=(0, 1)) < 1  # all cells: no colour may be far off on average
        assert error.mean(dim=(0, 1))[plain].abs().max() < 0.03


def test_a_demo_model_that_the_host_loads_again_keeps_its_previews(pack_nodes: dict[str, Any]) -> None:
    model = pack_nodes["SkyReelsV2DemoModels"].execute().args[0]
    load, arguments = model.cached_patcher_init
    again = load(*arguments, disable_dynamic=True)
    assert again.model.latent_format.latent_rgb_factors == model.model.latent_format.latent_rgb_factors
    assert again.model.latent_format.latent_rgb_factors != latent_preview_factors_of_wan()


def latent_preview_factors_of_wan() -> Any:
    return comfy.latent_formats.Wan21().latent_rgb_factors
