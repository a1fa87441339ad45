"""T2V and I2V models through our sampler against diffusers' pipelines for them, on tiny random weights."""

from __future__ import annotations

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

from tests.measures import relative_error
from tests.tiny import diffusers_config_json, random_state_dict, tiny_config, to_diffusers_names
from wan_core.model.config import WanConfig
from wan_core.model.wan_model import WanModel
from wan_core.sampling.denoise import model_denoise
from wan_core.sampling.loop import sample
from wan_core.sampling.run import ForcingOptions, Row, plan_run

FRAMES, HEIGHT, WIDTH = 5, 32, 48  # latent frames, pixels
LATENT = (1, 16, FRAMES, HEIGHT // 8, WIDTH // 8)
VIDEO_FRAMES = (FRAMES - 1) * 4 + 1


class WithTokens(SkyReelsV2ImageToVideoPipeline):
    """The pipeline with CLIP's tokens given."""

    tokens: torch.Tensor

    def encode_image(self, image: Any, device: Any = None) -> torch.Tensor:
        return self.tokens


def randn(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def both_models(config: WanConfig) -> tuple[SkyReelsV2Transformer3DModel, WanModel]:
    state_dict = random_state_dict(config, seed=4)
    arguments = {name: value for name, value in diffusers_config_json(config).items() if name != "_class_name"}
    theirs = SkyReelsV2Transformer3DModel(**arguments).eval()
    theirs.load_state_dict(to_diffusers_names(state_dict))
    ours = WanModel(config).eval()
    ours.load_state_dict(state_dict)
    return theirs, ours


def tiny_vae() -> AutoencoderKLWan:
    torch.manual_seed(1)
    return AutoencoderKLWan(base_dim=8, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1).eval()


def scheduler(shift: float) -> UniPCMultistepScheduler:
    """Diffusers' schedule; its sigmas lie up to 0.001 from the release's, so ours are run on the same ones."""
    return UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift)


def run_theirs(pipeline: Any, steps: int, cfg: float, text_len: int, **inputs: Any) -> torch.Tensor:
    pipeline.set_progress_bar_config(disable=True)
    return pipeline(
        prompt=None, prompt_embeds=randn(1, text_len, 32, seed=5),
        negative_prompt_embeds=randn(1, text_len, 32, seed=6),
        height=HEIGHT, width=WIDTH, num_frames=VIDEO_FRAMES, num_inference_steps=steps, guidance_scale=cfg,
        latents=randn(*LATENT, seed=3), output_type="latent", return_dict=False, **inputs,
    )[0]  # fmt: skip


def run_ours(
    model: WanModel, sigmas: torch.Tensor, cfg: float, text_len: int, image: torch.Tensor | None = None,
    tokens: torch.Tensor | None = None,
) -> torch.Tensor:  # fmt: skip
    positive, negative = randn(1, text_len, 32, seed=5), randn(1, text_len, 32, seed=6)

    def velocity(x: torch.Tensor, t: torch.Tensor, texts: torch.Tensor, row: Row) -> torch.Tensor:
        seen = x if image is None else torch.cat((x, image.expand(len(x), -1, -1, -1, -1)), dim=1)
        return model(seen, t, texts, clip_fea=None if tokens is None else tokens.expand(len(x), -1, -1))

    run = plan_run(ForcingOptions("unipc_plain"), sigmas, FRAMES)
    with torch.no_grad():
        return sample(model_denoise(velocity, positive, negative, cfg), randn(*LATENT, seed=3), run)


@pytest.mark.parametrize("steps", [4, 8])
def test_a_t2v_model_gives_the_latents_of_diffusers_pipeline(steps: int) -> None:
    transformer, model = both_models(tiny_config())
    pipeline = SkyReelsV2Pipeline(None, None, transformer, None, scheduler(8.0))
    expected = run_theirs(pipeline, steps, 6.0, 16)
    assert relative_error(run_ours(model, pipeline.scheduler.sigmas, 6.0, 16), expected) < 1e-5


@pytest.mark.parametrize("shift", [3.0, 5.0])
def test_an_i2v_model_gives_the_latents_of_diffusers_pipeline(shift: float) -> None:
    config = tiny_config(model_type="i2v", text_len=512)
    transformer, model = both_models(config)
    vae = tiny_vae()
    tokens, picture = randn(1, 257, 1280, seed=8), randn(1, 3, HEIGHT, WIDTH, seed=9).clamp(-1, 1)
    pipeline = WithTokens(None, None, None, None, transformer, vae, scheduler(shift))
    pipeline.tokens = tokens
    expected = run_theirs(pipeline, 6, 5.0, 512, image=picture)

    video = torch.zeros(1, 3, VIDEO_FRAMES, HEIGHT, WIDTH)
    video[:, :, 0] = picture
    mean, std = (torch.tensor(values).view(1, 16, 1, 1, 1) for values in
                 (vae.config.latents_mean, vae.config.latents_std))  # fmt: skip
    with torch.no_grad():
        latents = (vae.encode(video).latent_dist.mode() - mean) / std
    mask = torch.zeros(1, 4, FRAMES, *LATENT[3:])
    mask[:, :, 0] = 1
    got = run_ours(model, pipeline.scheduler.sigmas, 5.0, 512, torch.cat((mask, latents), dim=1), tokens)
    assert relative_error(got, expected) < 1e-5
    without = run_ours(model, pipeline.scheduler.sigmas, 5.0, 512, torch.cat((mask, latents), dim=1), tokens * 0)
    assert relative_error(without, expected) > 1e-2  # the tokens are read
