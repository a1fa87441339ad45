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
from long_scene import frames_of, inputs, make, prompts, settings


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


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (torch.ones(5, 4, 4), "has 5 latent frames, but the latent has 3"),
        (torch.ones(1, 1, 2, 4, 4), "has 2 latent frames, but"),
        (torch.ones(2, 3, 4, 4), "has 6 latent frames, but"),
        (torch.full((3, 4, 4), 1.5), "outside 0 to 1"),
        (torch.full((1, 1, 3, 4, 4), float("nan")), "NaN or infinite values"),
    ],
    ids=["longer", "shorter", "of a batch", "too large", "nan"],
)
def test_a_mask_that_core_would_stretch_is_refused(
    images: ModuleType, given: ModuleType, vae: Any, mask: torch.Tensor, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        images.pin_frames(vae, {**empty(), "noise_mask": mask}, given.GivenImages(end=torch.rand(1, 32, 32, 3)))


@pytest.mark.parametrize("shape", [(4, 4), (1, 4, 4), (3, 4, 4), (1, 1, 3, 4, 4), (3, 2, 2)], ids=str)
def test_a_mask_keeps_its_values_beside_the_frames_that_are_pinned(
    images: ModuleType, given: ModuleType, vae: Any, shape: tuple[int, ...]
) -> None:
    latent = {**empty(), "noise_mask": torch.full(shape, 0.25)}
    with torch.inference_mode():
        made = images.pin_frames(vae, latent, given.GivenImages(end=torch.rand(1, 32, 32, 3)))["noise_mask"]
    assert made.shape == (1, 1, 3, 4, 4)
    assert (made[:, :, :2] == 0.25).all() and (made[:, :, 2] == 0).all()


def test_key_frames_are_read_in_frames_seconds_and_from_the_end(pack_nodes: dict[str, Any], vae: Any) -> None:
    node, pictures = pack_nodes["SkyReelsV2KeyFrames"], torch.rand(3, 32, 32, 3)
    with torch.inference_mode():
        results = [
            node.execute(vae, empty(9), key_images=pictures, key_frames=text, **rate).args[0]
            for text, rate in (
                ("8, 24, 32", {}),
                ("8；1s、-1", {}),
                ("0.5s, 1.5秒, 2s", {"fps": 16}),
                ("0:00.5 24帧 -1f", {"fps": 16}),
            )
        ]
    for made in results:
        known = (made["noise_mask"] == 0).all(-1).all(-1)[0, 0]
        assert known.nonzero().flatten().tolist() == [2, 6, 8]
        assert torch.equal(made["samples"], results[0]["samples"])
    with pytest.raises(ValueError, match="key_frames names 1 frames, but there are 3 key images"):
        node.execute(vae, empty(9), key_images=pictures, key_frames="8")
    with pytest.raises(ValueError, match="Two images are given for one place, frame 8 and frame 7"):
        node.execute(vae, empty(9), key_images=pictures, key_frames="8 7 20")


@pytest.mark.parametrize("name", ["start", "end"])
def test_a_batch_of_no_images_is_refused_by_its_name(
    images: ModuleType, given: ModuleType, vae: Any, name: str
) -> None:
    with pytest.raises(ValueError, match=f"{name}_image holds 0 images"):
        images.pin_frames(vae, empty(), given.GivenImages(**{name: torch.zeros(0, 32, 32, 3)}))


@pytest.fixture(scope="module")
def demo_vae(pack: ModuleType) -> Any:
    files = importlib.import_module(f"{pack.__name__}.demo.files")
    return comfy.sd.VAE(sd=comfy.utils.load_torch_file(str(files.WEIGHTS / files.VAE_FILE)))


@pytest.fixture(scope="module")
def moving(pack: ModuleType) -> torch.Tensor:
    """A clip of the demo's shapes, 61 frames [n, 64, 64, 3]."""
    shapes = importlib.import_module(f"{pack.__name__}.demo.shapes")
    return shapes.render(shapes.draw_clips(1, 7), 61)[0].float()


def error_db(made: torch.Tensor, wanted: torch.Tensor) -> float:
    return float(-10 * (made - wanted).square().mean().log10())


def test_an_end_image_is_the_last_shown_frame_at_every_length(
    images: ModuleType, given: ModuleType, demo_vae: Any, moving: torch.Tensor
) -> None:
    """Only the given frames are of the image; those before are of a clip that moves on. Only the end is decoded."""
    bridge = importlib.import_module("skyreels_v2.wan_core.comfy.long.long_video")
    trimmed = importlib.import_module("skyreels_v2.wan_core.long.key_frames").trimmed
    with torch.inference_mode():
        clip = demo_vae.encode(moving)
        for total in range(33, 61):
            chosen = settings(bridge, total_frames=total, width=64, height=64)
            video = chosen.planned(given.GivenImages(moving[:1], moving[40:41]))
            plan = video.plan
            latents = clip[:, :, : plan.latent_frames].clone()
            for at, known in bridge.encode_clips(demo_vae, video).items():
                latents[:, :, at] = known[:, :, 0]
            shown = trimmed(demo_vae.decode(latents[:, :, -4:])[0], plan.trimmed_frames, True)
            assert len(shown) == 13 - plan.trimmed_frames and plan.latent_frames * 4 - 3 - plan.trimmed_frames == total
            assert error_db(shown[-1], moving[40]) > 27, total
        assert error_db(demo_vae.decode(latents[:, :, :1])[0, 0], moving[0]) > 27


def test_a_key_image_is_shown_at_the_frame_it_is_asked_for(
    images: ModuleType, given: ModuleType, demo_vae: Any, moving: torch.Tensor
) -> None:
    with torch.inference_mode():
        clip = demo_vae.encode(moving[:21])
        usual = demo_vae.decode(clip)[0]
        for frame in range(12, 16):
            made = images.pin_frames(
                demo_vae, {"samples": clip}, given.GivenImages(keys=moving[40:41], key_frames=(frame,))
            )
            shown = demo_vae.decode(made["samples"])[0]
            errors = [error_db(each, moving[40]) for each in shown]
            assert errors[frame] > error_db(usual[frame], moving[frame]) - 1, (frame, errors[frame - 4 : frame + 5])
            assert errors[frame] > max(errors) - 3


@pytest.mark.parametrize("total", [42, 44])
def test_a_sampled_video_begins_and_ends_on_its_images(
    bridge: ModuleType,
    given: ModuleType,
    pack_nodes: dict[str, Any],
    moving: torch.Tensor,
    output_folder: Path,
    total: int,
) -> None:
    """The embedded models, over two segments: 42 and 44 frames are none that whole latent frames hold."""
    model, clip, vae = pack_nodes["SkyReelsV2DemoModels"].execute().args
    encode = importlib.import_module("skyreels_v2.wan_core.comfy.model.text").encode_prompt
    said = importlib.import_module("skyreels_v2.demo.shapes").draw_clips(1, 7).words(0)  # what `moving` shows
    images = given.GivenImages(moving[:1], moving[40:41])
    chosen = settings(
        bridge, total_frames=total, width=64, height=64, base_num_frames=33, steps=8, cfg=4.0, codec="ffv1"
    )
    with torch.inference_mode():
        positive = [encode(clip, f"a {said['colour']} {said['shape']} on a {said['background']} background")]
        made = make(
            bridge,
            inputs(bridge, model, vae, prompts=prompts(positive), negative=encode(clip, "")),
            chosen,
            images=images,
        )
    shown = torch.from_numpy(frames_of(made.path)).float() / 255
    assert len(shown) == total
    assert error_db(shown[0], moving[0]) > 25 and error_db(shown[-1], moving[40]) > 26
