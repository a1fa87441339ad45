"""T2V and I2V models in a running host against diffusers' pipelines: the same file, noise, text, image and sigmas."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import (
    AutoencoderKLWan,
    SkyReelsV2ImageToVideoPipeline,
    SkyReelsV2Pipeline,
    SkyReelsV2Transformer3DModel,
    UniPCMultistepScheduler,
)
from safetensors.torch import load_file

from tests.comfy.host import Host
from tests.comfy.scene import Scene
from tests.comfy.tiny_models import DIM, FFN, FREQ, LAYERS, TEXT
from tests.measures import relative_error
from tests.tiny import diffusers_config_json, to_diffusers_names
from wan_core.model.config import WanConfig

pytestmark = pytest.mark.newest_host

SEED, STEPS, SIZE, FRAMES = 1, 6, 64, 9
LATENT = (1, 16, 3, 8, 8)


class WithTokens(SkyReelsV2ImageToVideoPipeline):
    """The pipeline with CLIP's tokens given: those of the test's CLIP vision node."""

    def encode_image(self, image: Any, device: Any = None) -> torch.Tensor:
        return torch.randn(1, 257, 1280, generator=torch.Generator().manual_seed(0))


def transformer(file: Path, kind: str) -> SkyReelsV2Transformer3DModel:
    """Diffusers' model with the weights of a tiny file."""
    shape = {"dim": DIM, "ffn_dim": FFN, "freq_dim": FREQ, "text_dim": TEXT, "num_heads": 2, "num_layers": LAYERS}
    config = diffusers_config_json(WanConfig(model_type=kind, in_dim=36 if kind == "i2v" else 16, **shape))
    model = SkyReelsV2Transformer3DModel(**{name: value for name, value in config.items() if name != "_class_name"})
    weights = {name: value.float() for name, value in load_file(file).items()}
    model.load_state_dict(to_diffusers_names(weights))
    return model.eval()


@pytest.fixture(scope="module")
def vae() -> AutoencoderKLWan:
    """A VAE for its latents' mean and deviation."""
    return AutoencoderKLWan(base_dim=8, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1)


def scheduler(shift: float) -> UniPCMultistepScheduler:
    made = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift)
    made.set_timesteps(STEPS)
    return made


def hosted(host: Host, scene: Scene, cfg: float, shift: float) -> dict[str, dict[str, torch.Tensor]]:
    """Sample in the host on diffusers' sigmas; return every tensor of the result and of the conditioning."""
    sigmas = ", ".join(repr(value) for value in scheduler(shift).sigmas.tolist())
    listed = scene.add("SkyReelsV2TestSigmas", values=sigmas)
    scene.dump("made", scene.core_sample(scene.select(solver="unipc_plain"), listed, seed=SEED, cfg=cfg))
    scene.dump("positive", scene.positive)
    scene.dump("negative", scene.negative)
    files = [path for paths in host.run(scene.prompt).outputs.values() for path in paths]
    return {path.stem: load_file(path) for path in files}


def error_of(found: dict[str, Any], vae: AutoencoderKLWan, expected: torch.Tensor) -> float:
    """The error of the host's latents, brought to the model's space."""
    mean, std = (torch.tensor(values).view(1, 16, 1, 1, 1) for values in
                 (vae.config.latents_mean, vae.config.latents_std))  # fmt: skip
    got = (found["made"]["samples"] - mean) / std
    assert got.shape == expected.shape == LATENT
    return relative_error(got, expected)


def run(pipeline: Any, found: dict[str, Any], cfg: float, **inputs: Any) -> torch.Tensor:
    pipeline.set_progress_bar_config(disable=True)
    return pipeline(
        prompt=None, prompt_embeds=found["positive"]["cond.0"], negative_prompt_embeds=found["negative"]["cond.0"],
        height=SIZE, width=SIZE, num_frames=FRAMES, num_inference_steps=STEPS, guidance_scale=cfg,
        latents=torch.randn(LATENT, generator=torch.Generator().manual_seed(SEED)), output_type="latent",
        return_dict=False, **inputs,
    )[0]  # fmt: skip


@pytest.mark.parametrize("shift", [3.0, 5.0])
def test_an_i2v_model_with_clip_vision_gives_the_latents_of_diffusers_pipeline(
    host: Host, model_files: Path, vae: AutoencoderKLWan, monkeypatch: pytest.MonkeyPatch, shift: float
) -> None:
    scene = Scene(model_name="tiny_i2v.safetensors", frames=FRAMES)
    image = scene.add(
        "WanImageToVideo", positive=scene.positive, negative=scene.negative, vae=scene.vae, width=SIZE, height=SIZE,
        length=FRAMES, batch_size=1, start_image=scene.picture("first.png"),
        clip_vision_output=scene.add("SkyReelsV2TestCLIPVision", seed=0),
    )  # fmt: skip
    scene.positive, scene.negative, scene.latent = image[0], image[1], image[2]
    found = hosted(host, scene, 5.0, shift)
    encoded = found["positive"]["concat_latent_image.0"]
    # the picture as the host's VAE sees it; mask, normalisation and all the rest are the pipeline's own
    monkeypatch.setattr(vae, "encode", lambda video: SimpleNamespace(latents=encoded))
    model = transformer(model_files / "diffusion_models" / "tiny_i2v.safetensors", "i2v")
    pipeline = WithTokens(None, None, None, None, model, vae, scheduler(shift))
    expected = run(pipeline, found, 5.0, image=torch.zeros(1, 3, SIZE, SIZE))
    assert error_of(found, vae, expected) < 1e-3


def test_a_t2v_model_gives_the_latents_of_diffusers_pipeline(
    host: Host, model_files: Path, vae: AutoencoderKLWan
) -> None:
    scene = Scene(model_name="tiny_df_nofps.safetensors", frames=FRAMES)
    found = hosted(host, scene, 6.0, 8.0)
    model = transformer(model_files / "diffusion_models" / "tiny_df_nofps.safetensors", "t2v")
    expected = run(SkyReelsV2Pipeline(None, None, model, None, scheduler(8.0)), found, 6.0)
    assert error_of(found, vae, expected) < 1e-3
