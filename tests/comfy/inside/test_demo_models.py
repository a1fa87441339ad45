"""The embedded models as the host's own objects: what the CLIP and the MODEL make is what they make without a host."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

import comfy.sample
import pytest
import torch
from sampling_scene import generated, module


@pytest.fixture(scope="module")
def loaded(pack: ModuleType) -> tuple[Any, Any, Any]:
    node = importlib.import_module(f"{pack.__name__}.nodes.demo_models").SkyReelsV2DemoModels
    return node.execute().args


@pytest.fixture(scope="module")
def text(pack: ModuleType) -> ModuleType:
    return importlib.import_module(f"{pack.__name__}.demo.text")


@pytest.fixture(scope="module")
def files(pack: ModuleType) -> ModuleType:
    return importlib.import_module(f"{pack.__name__}.demo.files")


@pytest.mark.parametrize("prompt", ["a red circle moving left", "一个蓝色的正方形向上移动", ""])
def test_the_clip_encodes_a_prompt_as_the_encoder_alone_does(
    loaded: tuple[Any, Any, Any], text: ModuleType, files: ModuleType, prompt: str
) -> None:
    clip = loaded[1].clone()
    tokens, options = clip.encode_from_tokens_scheduled(clip.tokenize(prompt))[0]
    assert options["pooled_output"] is None
    encoder = text.load_text_encoder(files.WEIGHTS / files.TEXT_FILE)
    assert torch.equal(tokens, encoder(text.tokenize(prompt)))


def test_the_vae_keeps_a_clip_through_a_round_trip(pack: ModuleType, loaded: tuple[Any, Any, Any]) -> None:
    shapes = importlib.import_module(f"{pack.__name__}.demo.shapes")
    clip = shapes.render(shapes.draw_clips(1, 7), 9)[0]
    latents = loaded[2].encode(clip)
    assert latents.shape == (1, 16, 3, 8, 8)
    error = (loaded[2].decode(latents).reshape(clip.shape) - clip).square().mean()
    assert error < 0.01  # 20 dB


def test_the_model_is_the_packs_own_and_predicts_what_wan_core_predicts(
    pack: ModuleType, loaded: tuple[Any, Any, Any], files: ModuleType
) -> None:
    core = f"{pack.__name__}.wan_core"
    checkpoint, model = (importlib.import_module(f"{core}.{name}") for name in ("checkpoint.reader", "model.wan_model"))
    stored, config, _ = checkpoint.load_checkpoint(files.WEIGHTS / files.DIT_FILE)
    alone = model.WanModel(config)
    alone.load_state_dict({name: tensor.float() for name, tensor in stored.items()})
    inside = loaded[0].model.diffusion_model
    assert (inside.config, config.num_heads, config.inject_sample_info) == (config, 4, True)
    generator = torch.Generator().manual_seed(0)
    x, context = (torch.randn(shape, generator=generator) for shape in ((1, 16, 4, 8, 8), (1, 8, 96)))
    t = torch.tensor([[0.0, 300.0, 700.0, 999.0]])
    with torch.inference_mode():
        wanted = alone(x, t, context, fps=16)
        dtype = loaded[0].model.get_dtype_inference()
        made = inside(x.to(dtype), t, context.to(dtype), fps=16).float()
    torch.testing.assert_close(made, wanted, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize(("ar_step", "block", "causal"), [(0, 1, False), (2, 1, False), (0, 2, True)])
def test_the_node_paints_the_frames_that_wan_core_paints_alone(
    pack: ModuleType,
    pack_nodes: dict[str, Any],
    loaded: tuple[Any, Any, Any],
    files: ModuleType,
    ar_step: int,
    block: int,
    causal: bool,
) -> None:
    model, clip, vae = loaded
    seed, steps, cfg, shift, shape = 11, 6, 4.0, 5.0, (1, 16, 4, 8, 8)
    asked, plain = (
        clip.encode_from_tokens_scheduled(clip.tokenize(text)) for text in ("a blue square moving left", "")
    )
    options = module("sampling.run").ForcingOptions(
        fps=24, ar_step=ar_step, causal_block_size=block, causal_attention=causal
    )
    hosted = generated(model, (asked, plain), {"samples": torch.zeros(shape)}, options, seed, steps, cfg, shift)

    stored, config, _ = module("checkpoint.reader").load_checkpoint(files.WEIGHTS / files.DIT_FILE)
    alone = module("model.wan_model").WanModel(config)
    alone.load_state_dict({name: tensor.float() for name, tensor in stored.items()})

    def velocity(x: torch.Tensor, t: torch.Tensor, context: torch.Tensor, row: Any) -> torch.Tensor:
        return alone(x, t, context, fps=24, causal_block_size=block if causal else 0)

    noise = comfy.sample.prepare_noise(torch.zeros(shape), seed)
    run = module("sampling.run").plan_run(options, module("sampling.sigmas").flow_sigmas(steps, shift), shape[2])
    denoise = module("sampling.denoise").model_denoise(velocity, asked[0][0], plain[0][0], cfg)
    with torch.inference_mode():
        made = model.model.process_latent_out(module("sampling.loop").sample(denoise, noise, run))
        frames = [vae.decode(latents).float() for latents in (hosted, made)]
    assert (frames[0] - frames[1]).square().mean() < 1e-4  # 40 dB
