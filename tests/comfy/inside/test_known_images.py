"""Images on their way into known frames: what reaches the VAE, and what is refused; in the host's own process."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import comfy.sd
import comfy.utils
import pytest
import torch


@pytest.fixture(scope="module")
def vae(models: Path) -> Any:
    return comfy.sd.VAE(sd=comfy.utils.load_torch_file(str(models / "vae" / "tiny_wan_vae.safetensors")))


@pytest.fixture
def images(pack: ModuleType) -> ModuleType:
    assert pack
    return importlib.import_module("skyreels_v2.wan_core.comfy.vae.frames")


def empty(frames: int = 3) -> dict[str, Any]:
    return {"samples": torch.zeros(1, 16, frames, 4, 4)}


def test_an_image_of_the_right_size_reaches_the_vae_unrounded(images: ModuleType, vae: Any) -> None:
    picture = torch.rand(1, 32, 32, 3)  # not in steps of 1 / 255
    with torch.inference_mode():
        known = images.encode_images(vae, picture, empty()["samples"])
        assert torch.equal(known, vae.encode(picture))


def test_an_image_of_another_size_is_scaled(images: ModuleType, vae: Any) -> None:
    with torch.inference_mode():
        known = images.encode_images(vae, torch.rand(1, 50, 90, 4), empty()["samples"])
    assert tuple(known.shape) == (1, 16, 1, 4, 4)


@pytest.mark.parametrize("name", ["start_images", "end_image"])
def test_a_batch_of_no_images_is_refused_by_its_name(images: ModuleType, vae: Any, name: str) -> None:
    given: dict[str, Any] = {"start_images": None, "end_image": None, name: torch.zeros(0, 32, 32, 3)}
    with pytest.raises(ValueError, match=f"{name} holds 0 images"):
        images.pin_frames(vae, empty(), given["start_images"], given["end_image"], None, [])
