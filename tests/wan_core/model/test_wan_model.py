"""WanModel against diffusers' SkyReelsV2Transformer3DModel, with the same random weights."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from diffusers import SkyReelsV2Transformer3DModel

from tests.measures import relative_error
from wan_core.checkpoint.reader import normalize_state_dict
from wan_core.errors import InputError
from wan_core.model.config import WanConfig
from wan_core.model.initial_weights import init_weights
from wan_core.model.wan_model import WanModel

TEXT_TOKENS = 512  # diffusers splits the image's tokens off at this length
CONFIG = WanConfig(dim=48, ffn_dim=80, freq_dim=32, text_dim=24, num_heads=2, num_layers=2)
SHAPES = [(5, 4, 6), (4, 8, 4), (10, 2, 10)]


def oracle(config: WanConfig) -> SkyReelsV2Transformer3DModel:
    torch.manual_seed(0)
    i2v = config.model_type == "i2v"
    model = SkyReelsV2Transformer3DModel(
        num_attention_heads=config.num_heads,
        attention_head_dim=config.dim // config.num_heads,
        in_channels=config.in_dim,
        out_channels=config.out_dim,
        text_dim=config.text_dim,
        freq_dim=config.freq_dim,
        ffn_dim=config.ffn_dim,
        num_layers=config.num_layers,
        image_dim=1280 if i2v else None,
        added_kv_proj_dim=config.dim if i2v else None,
        inject_sample_info=config.inject_sample_info,
    ).eval()
    for parameter in model.parameters():  # zeros and ones would hide a norm or a modulation in the wrong place
        torch.nn.init.normal_(parameter, std=0.2)
    return model


def ours(theirs: SkyReelsV2Transformer3DModel, config: WanConfig) -> WanModel:
    model = WanModel(config).eval()
    model.load_state_dict(normalize_state_dict(dict(theirs.state_dict())))
    return model


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("per_frame", [False, True], ids=["one timestep", "timestep per frame"])
@pytest.mark.parametrize("block", [0, "some"], ids=["bidirectional", "block-causal"])
@pytest.mark.parametrize("fps", [None, 16, 24])
@pytest.mark.parametrize("kind", ["t2v", "i2v"])
def test_the_forward_pass_equals_diffusers(shape, per_frame, block, fps, kind):
    config = replace(CONFIG, model_type=kind, in_dim=16 if kind == "t2v" else 36, inject_sample_info=fps is not None)
    theirs = oracle(config)
    model = ours(theirs, config)
    frames, height, width = shape
    block = 0 if block == 0 else {5: 5, 4: 2, 10: 5}[frames]
    if block:
        theirs._set_ar_attention(block)
    generator = torch.Generator().manual_seed(frames)
    batch = 1 if fps is not None else 2  # diffusers' fps path takes one video at a time
    x = torch.randn(batch, config.in_dim, frames, height, width, generator=generator)
    context = torch.randn(batch, TEXT_TOKENS, config.text_dim, generator=generator)
    image = torch.randn(batch, 257, 1280, generator=generator) if kind == "i2v" else None
    t = torch.randint(0, 1000, (batch, frames) if per_frame else (batch,), generator=generator)
    with torch.no_grad():
        expected = theirs(
            x, t, context, image, enable_diffusion_forcing=per_frame,
            fps=None if fps is None else [0 if fps == 16 else 1], return_dict=False,
        )[0]  # fmt: skip
        got = model(x, t, context, fps=fps, clip_fea=image, causal_block_size=block)
    assert got.shape == expected.shape
    assert relative_error(got, expected) < 1e-4


@pytest.mark.parametrize("changes", [{}, {"inject_sample_info": True}, {"model_type": "i2v", "in_dim": 36}])
def test_parameter_names_are_those_of_the_checkpoints(changes):
    config = replace(CONFIG, **changes)
    names = set(WanModel(config).state_dict())
    assert {"blocks.0.self_attn.q.weight", "blocks.1.cross_attn.norm_k.weight", "head.modulation"} <= names
    assert ("fps_projection.2.weight" in names) == config.inject_sample_info
    assert ("blocks.0.cross_attn.k_img.bias" in names) == (config.model_type == "i2v")


@pytest.mark.parametrize("size", [(5, 7), (4, 7), (5, 4)])
def test_odd_sizes_come_back_in_their_own_size(size):
    model = WanModel(CONFIG).eval()
    model.load_state_dict({name: torch.randn_like(value) * 0.1 for name, value in model.state_dict().items()})
    x = torch.randn(1, 16, 3, *size)
    with torch.no_grad():
        out = model(x, torch.tensor([500]), torch.randn(1, 8, CONFIG.text_dim))
    assert out.shape == x.shape
    assert out.isfinite().all()


def test_a_timestep_repeated_for_every_frame_equals_one_timestep():
    model = WanModel(CONFIG).eval()
    model.load_state_dict({name: torch.randn_like(value) * 0.1 for name, value in model.state_dict().items()})
    x, context = torch.randn(2, 16, 4, 4, 4), torch.randn(2, 8, CONFIG.text_dim)
    t = torch.tensor([900.0, 20.0])
    with torch.no_grad():
        torch.testing.assert_close(model(x, t, context), model(x, t[:, None].expand(2, 4), context))


def test_causal_attention_hides_later_blocks():
    model = WanModel(CONFIG).eval()
    model.load_state_dict({name: torch.randn_like(value) * 0.2 for name, value in model.state_dict().items()})
    context, t = torch.randn(1, 8, CONFIG.text_dim), torch.full((1, 6), 300.0)
    x = torch.randn(1, 16, 6, 4, 4)
    changed = x.clone()
    changed[:, :, 4:] += 1
    with torch.no_grad():
        a, b = (model(video, t, context, causal_block_size=2) for video in (x, changed))
        c, d = (model(video, t, context) for video in (x, changed))
    torch.testing.assert_close(a[:, :, :4], b[:, :, :4], rtol=0, atol=0)
    assert (c[:, :, :4] - d[:, :, :4]).abs().max() > 1e-4


@pytest.mark.parametrize(
    ("x", "t", "context", "words"),
    [
        ((1, 20, 3, 4, 4), (1,), (1, 8, 24), "takes \\[batch, 16"),
        ((1, 16, 3, 4, 4), (1, 2), (1, 8, 24), "timesteps for 2 latent frames, but the video has 3"),
        ((1, 16, 3, 4, 4), (1,), (1, 8, 25), "25 wide, but this model takes 24"),
    ],
)
def test_tensors_that_do_not_fit_are_refused_in_words(x, t, context, words):
    with pytest.raises(InputError, match=words):
        WanModel(CONFIG)(torch.zeros(x), torch.zeros(t), torch.zeros(context))


def test_initial_weights_make_a_model_that_predicts_nothing_yet():
    model = WanModel(replace(CONFIG, inject_sample_info=True))
    init_weights(model)
    with torch.no_grad():
        out = model(torch.randn(1, 16, 2, 4, 4), torch.tensor([[10, 900]]), torch.randn(1, 8, CONFIG.text_dim), fps=16)
    assert (out == 0).all()
