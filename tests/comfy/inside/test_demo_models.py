"""The embedded models as the host's own objects: what the CLIP and the MODEL make is what they make without a host."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

import comfy.sample
import pytest
import torch


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
    core = f"{pack.__name__}.wan_core"
    options = importlib.import_module(f"{core}.sampling.run_plan").ForcingOptions(
        fps=24, ar_step=ar_step, causal_block_size=block, causal_attention=causal
    )
    generate = importlib.import_module(f"{core}.comfy.sampling.generate").generate
    hosted = generate(model, asked, plain, {"samples": torch.zeros(shape)}, seed, steps, cfg, shift, options)["samples"]

    parts = ("checkpoint.reader", "model.wan_model", "sampling.forcing", "sampling.loop", "sampling.sigmas")
    checkpoint, transformer, forcing, sampler, sampling = (importlib.import_module(f"{core}.{name}") for name in parts)
    stored, config, _ = checkpoint.load_checkpoint(files.WEIGHTS / files.DIT_FILE)
    alone = transformer.WanModel(config)
    alone.load_state_dict({name: tensor.float() for name, tensor in stored.items()})
    context = torch.cat((asked[0][0], plain[0][0]))

    def denoise(x: torch.Tensor, frame_sigmas: torch.Tensor, row: Any) -> torch.Tensor:
        t = sampling.timesteps_of(frame_sigmas)[None].expand(2, -1)
        both = alone(x.repeat(2, 1, 1, 1, 1), t, context, fps=24, causal_block_size=block if causal else 0)
        wanted, open_ = both.chunk(2)
        return x - frame_sigmas[:, None, None] * (open_ + cfg * (wanted - open_))

    noise = comfy.sample.prepare_noise(torch.zeros(shape), seed)
    schedule = forcing.forcing_schedule(shape[2], steps, ar_step, block if ar_step else 1)
    with torch.inference_mode():
        made = sampler.sample(denoise, noise, sampling.flow_sigmas(steps, shift), schedule)
    made = model.model.process_latent_out(made)
    frames = [vae.decode(latents).float() for latents in (hosted, made)]
    assert (frames[0] - frames[1]).square().mean() < 1e-4  # 40 dB
