"""A VAE for other latents is refused in words before any work: by its class and by what it says of itself."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import comfy.ldm.models.autoencoder
import comfy.sd
import comfy.taesd.taehv
import comfy.taesd.taesd
import comfy.utils
import pytest
import torch
from comfy_api.latest import InputImpl, Types


def picture_vae(channels: int) -> Any:
    """Stable Diffusion's VAE (4 channels) or Flux's (16), as Load VAE gives it; its weights do not matter."""
    shapes = {
        "decoder.conv_in.weight": (512, channels, 3, 3),
        "encoder.down.2.downsample.conv.weight": (512, 512, 3, 3),
    }
    return comfy.sd.VAE(sd={name: torch.zeros(shape) for name, shape in shapes.items()})


def tiny_video_vae(channels: int, dtype: torch.dtype = torch.float32) -> Any:
    """The tiny twin of a video VAE: of Wan 2.1 (16 channels) or Wan 2.2 (48)."""
    state = comfy.taesd.taehv.TAEHV(latent_channels=channels, latent_format=None).state_dict()
    return comfy.sd.VAE(sd={name: torch.zeros(value.shape, dtype=dtype) for name, value in state.items()})


def hunyuan_vae() -> Any:
    """A VAE with the strides and channels of Wan's, made for other latents: only its class tells."""
    model = object.__new__(comfy.ldm.models.autoencoder.AutoencoderKL)
    return SimpleNamespace(
        first_stage_model=model,
        latent_channels=16,
        latent_dim=3,
        temporal_compression_decode=lambda: 4,
        spacial_compression_decode=lambda: 8,
    )


OTHERS = {
    "Stable Diffusion": (lambda: picture_vae(4), " for 4 latent channels and single pictures"),
    "Flux": (lambda: picture_vae(16), " for 16 latent channels and single pictures"),
    "Wan 2.2, tiny": (lambda: tiny_video_vae(48), "TAEHV for 48 latent channels"),
    "Hunyuan Video, tiny": (
        lambda: tiny_video_vae(16, torch.float16),
        "16 latent channels of HunyuanVideo (ComfyUI takes",
    ),
    "Hunyuan Video": (hunyuan_vae, "AutoencoderKL for 16 latent channels"),
    "none": (lambda: SimpleNamespace(first_stage_model=None), "empty"),
}


@pytest.fixture(scope="module", params=OTHERS)
def other(request: pytest.FixtureRequest) -> tuple[Any, str]:
    build, words = OTHERS[request.param]
    return build(), words


def sentence(call: Any) -> str:
    with pytest.raises(ValueError) as refusal:
        call()
    return str(refusal.value)


def test_every_node_that_takes_a_vae_refuses_another_kind_before_work(
    pack: ModuleType, pack_nodes: dict[str, Any], models: Path, other: tuple[Any, str]
) -> None:
    vae, words = other
    loader = importlib.import_module(f"{pack.__name__}.wan_core.comfy.loading.loader")
    model = loader.load_model(models / "diffusion_models" / "tiny_df.safetensors")
    latent = {"samples": torch.zeros(1, 16, 2, 4, 4)}
    frames = Types.VideoComponents(images=torch.zeros(9, 32, 32, 3), audio=None, frame_rate=24)
    video = InputImpl.VideoFromComponents(frames)
    long = {
        "model": model,
        "vae": vae,
        "negative": None,  # nothing but the VAE is looked at
        "size": {"size": "custom", "width": 64, "height": 64},
        "job_name": "never",
        "keep_gb": 0.0,
        "base_num_frames": 17,
        "overlap_history": 5,
        "seed": 0,
        "steps": 2,
        "cfg": 1.0,
        "shift": 5.0,
        "carry_over": "latents",
        "drift_control": 0.0,
        "codec": "h264",
        "crf": 18,
        "solver": "unipc",
        "ar_step": 0,
        "causal_block_size": 1,
        "causal_attention": False,
        "addnoise_condition": 20,
    }
    extend = long | {"size": "as the video", "video": video}
    calls = {
        "SkyReelsV2VAEDecode before the latent is there": lambda node: node.check_lazy_status(vae=vae, tiling="auto"),
        "SkyReelsV2VAEDecode": lambda node: node.execute(latent, vae, "auto"),
        "SkyReelsV2KeyFrames": lambda node: node.execute(vae, latent, start_image=torch.zeros(1, 32, 32, 3)),
        "SkyReelsV2LongVideo": lambda node: node.execute(**long, fps=24, key_times="", total_frames=33, loop=False),
        "SkyReelsV2ExtendVideo": lambda node: node.execute(**extend, new_frames=16),
    }
    for name, call in calls.items():
        said = sentence(lambda call=call, name=name: call(pack_nodes[name.split()[0]]))
        assert words in said and said.endswith("load wan_2.1_vae with Load VAE."), (name, said)
        assert ". " not in said.replace("2. 1", ""), (name, said)


def test_the_tiny_twin_of_wans_vae_decodes(pack_nodes: dict[str, Any]) -> None:
    vae = tiny_video_vae(16)
    node = pack_nodes["SkyReelsV2VAEDecode"]
    assert node.check_lazy_status(vae=vae, tiling="never") == ["samples"]
    latent = {"samples": torch.zeros(1, 16, 2, 4, 4)}
    assert node.check_lazy_status(vae=vae, tiling="never", samples=latent) == []
    with torch.inference_mode():
        assert node.execute(latent, vae, "never").args[0].shape == (5, 32, 32, 3)


def test_a_wan_vae_with_other_colours_makes_no_long_video(pack: ModuleType, models: Path) -> None:
    vae = comfy.sd.VAE(sd=comfy.utils.load_torch_file(str(models / "vae" / "tiny_wan_vae.safetensors")))
    checks = importlib.import_module(f"{pack.__name__}.wan_core.comfy.model.checks")
    checks.check_vae(vae, streamed=True)
    vae.conv_out_channels = 12  # of a VAE that enlarges as it decodes
    checks.check_vae(vae)
    assert "makes pictures of 12 channels" in sentence(lambda: checks.check_vae(vae, streamed=True))
