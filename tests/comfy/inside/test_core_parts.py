"""What packs expect of core's Wan transformer, on ours: attributes, argument names, and places for their own functions.

The stand-ins here sit where the packs' own functions sit (docs/neighbours.md names them) and do the same kind of thing;
the packs themselves were tried by hand. In step the oracle is core's Euler with core's transformer and the same patch.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import comfy.ldm.flux.layers
import comfy.ldm.flux.math
import comfy.ldm.modules.attention
import comfy.ldm.wan.model
import comfy.samplers
import comfy.sd
import pytest
import torch
from measures import relative_error
from sampling_scene import module

SHAPE = (1, 16, 9, 4, 4)
SIGMAS = torch.tensor([0.999, 0.97, 0.88, 0.7, 0.3, 0.0])  # whole timesteps: core does not round them, we do
ASYNC = {"ar_step": 1, "causal_block_size": 3}
CAUSAL = {**ASYNC, "causal_attention": True}
LOADERS = ("ours", "core's")


@pytest.fixture
def load(pack: types.ModuleType, models: Path) -> Callable[..., Any]:
    """Loads one of the tiny models with our loader or with core's."""

    def loaded(loader: str, name: str = "tiny_df_nofps") -> Any:
        path = models / "diffusion_models" / f"{name}.safetensors"
        if loader == "ours":
            return module("comfy.loading.loader").load_model(path)
        return comfy.sd.load_diffusion_model(str(path))

    return loaded


def text(seed: int) -> torch.Tensor:
    return torch.randn(1, 12, 4096, generator=torch.Generator().manual_seed(seed)) * 0.3


def noise() -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(7))


def sample(model: Any, sampler: Any, start: torch.Tensor, **options: Any) -> torch.Tensor:
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds([[text(1), options]], [[text(2), options]])
    guider.set_cfg(4.0)
    with torch.inference_mode():
        return guider.sample(start, torch.zeros_like(start), sampler, SIGMAS, disable_pbar=True, seed=3)


def forcing(model: Any, conditioning: dict[str, Any] | None = None, **options: Any) -> torch.Tensor:
    bridge = module("comfy.sampling.sampler")
    sampler = bridge.DiffusionForcingSampler(bridge.ForcingOptions(solver="euler", **options))
    return sample(model, sampler, noise(), **(conditioning or {}))


def core_euler(model: Any) -> torch.Tensor:
    # core scales the noise by the first sigma, the authors start from all of it
    return sample(model, comfy.samplers.ksampler("euler"), noise() / SIGMAS[0])


def own_self_attention(model: Any) -> Any:
    """Where WanVideoEnhanceAVideoKJ sits: a self attention whose second argument are core's freqs."""
    patched = model.clone()

    def forward(self: Any, x: torch.Tensor, freqs: torch.Tensor, transformer_options: Any = None) -> torch.Tensor:
        heads = (*x.shape[:2], self.num_heads, self.head_dim)
        q, k = (norm(layer(x)).view(heads) for norm, layer in ((self.norm_q, self.q), (self.norm_k, self.k)))
        q, k = (each.flatten(2) for each in comfy.ldm.flux.math.apply_rope(q, k, freqs))
        attention = comfy.ldm.modules.attention.optimized_attention
        made = attention(q, k, self.v(x), heads=self.num_heads, transformer_options=transformer_options)
        return 1.5 * self.o(made)

    for number, block in enumerate(model.model.diffusion_model.blocks):
        method = types.MethodType(forward, block.self_attn)
        patched.add_object_patch(f"diffusion_model.blocks.{number}.self_attn.forward", method)
    return patched


class SlowTime(comfy.ldm.flux.layers.EmbedND):
    """A rotary embedder that turns time at half the speed."""

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return super().forward(ids * torch.tensor([0.5, 1.0, 1.0]))


def own_rope_embedder(model: Any) -> Any:
    """Where ApplyRifleXRoPE_WanVideo sits: another embedder of positions."""
    patched, transformer = model.clone(), model.model.diffusion_model
    width = transformer.dim // transformer.num_heads
    axes = [width - 4 * (width // 6), 2 * (width // 6), 2 * (width // 6)]
    patched.add_object_patch("diffusion_model.rope_embedder", SlowTime(width, 10000.0, axes))
    return patched


def own_feed_forward(model: Any) -> Any:
    """Where WanChunkFeedForward sits."""
    patched = model.clone()

    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([torch.nn.Sequential.forward(self, part) for part in x.chunk(3, dim=1)], dim=1) * 1.5

    for number, block in enumerate(model.model.diffusion_model.blocks):
        patched.add_object_patch(f"diffusion_model.blocks.{number}.ffn.forward", types.MethodType(forward, block.ffn))
    return patched


def own_forward(model: Any, skip: bool = True) -> Any:
    """Where TeaCache and MagCache sit: a `forward_orig` for each model call, which may leave out the blocks."""
    patched, transformer, kept = model.clone(), model.model.diffusion_model, {}

    def forward_orig(self: Any, x: torch.Tensor, t: torch.Tensor, context: torch.Tensor, clip_fea: Any = None,
                     freqs: Any = None, transformer_options: Any = None, **_: Any) -> torch.Tensor:  # fmt: skip
        x = self.patch_embedding(x.float()).to(x.dtype)
        grid = x.shape[2:]
        x = x.flatten(2).transpose(1, 2)
        e = self.time_embedding(comfy.ldm.wan.model.sinusoidal_embedding_1d(self.freq_dim, t).to(dtype=x.dtype))
        e0 = self.time_projection(e).unflatten(1, (6, self.dim))
        context = self.text_embedding(context)
        assert clip_fea is None or self.img_emb is None
        calls = kept["calls"] = kept.get("calls", 0) + 1
        if skip and calls % 2 == 0 and kept["residual"].shape == x.shape:
            x = x + kept["residual"]
        else:
            before = x.clone()
            for block in self.blocks:
                x = block(x, e=e0, freqs=freqs, context=context, context_img_len=None)
            kept["residual"] = x - before
        return self.unpatchify(self.head(x, e), grid)

    def call(function: Any, arguments: dict[str, Any]) -> torch.Tensor:
        with patch.multiple(transformer, forward_orig=types.MethodType(forward_orig, transformer)):
            return function(arguments["input"], arguments["timestep"], **arguments["c"])

    patched.set_model_unet_function_wrapper(call)
    return patched


IN_STEP = {
    "self attention": own_self_attention,
    "rope embedder": own_rope_embedder,
    "feed-forward": own_feed_forward,
    "forward_orig": own_forward,
}


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("place", IN_STEP)
def test_in_step_a_packs_function_does_what_it_does_with_cores_euler(load: Any, place: str, loader: str) -> None:
    ours = load(loader)
    plain = forcing(ours)
    got, expected = forcing(IN_STEP[place](ours)), core_euler(IN_STEP[place](load("core's")))
    assert relative_error(got, expected) < 1e-4
    assert relative_error(got, plain) > 5e-3
    assert torch.equal(forcing(ours), plain)  # what a patch leaves behind changes nothing


@pytest.mark.parametrize("options", [ASYNC, CAUSAL], ids=["bidirectional", "causal"])
@pytest.mark.parametrize("place", ["self attention", "rope embedder", "feed-forward"])
def test_out_of_step_a_packs_function_runs_or_is_refused_in_words(load: Any, place: str, options: Any) -> None:
    ours = load("ours")
    patched = IN_STEP[place](ours)
    if place == "self attention" and options is CAUSAL:
        with pytest.raises(ValueError, match=r"its own self attention .* turn causal_attention off"):
            forcing(patched, **options)
        return
    got = forcing(patched, **options)
    assert got.isfinite().all() and relative_error(got, forcing(ours, **options)) > 5e-3


@pytest.mark.parametrize(
    ("options", "conditioning", "reason"),
    [
        (ASYNC, {}, "noise levels of their own"),
        (CAUSAL, {}, "causal attention is on"),
        ({}, {"context_latents": [torch.zeros(1, 16, 1, 4, 4)]}, "reference videos or images"),
    ],
)
def test_a_forward_for_cores_model_is_refused_where_it_would_leave_something_out(
    load: Any, options: Any, conditioning: Any, reason: str
) -> None:
    if conditioning and not hasattr(comfy.ldm.wan.model.WanModel, "in_dim") and "context_latents" not in (
        comfy.ldm.wan.model.WanModel.forward_orig.__code__.co_consts
    ):  # fmt: skip
        pytest.skip("this host knows no references")
    with pytest.raises(ValueError, match=f"TeaCache, MagCache .* {reason}.* SkyReels-V2 Step Cache"):
        forcing(own_forward(load("ours")), conditioning, **options)


def test_a_forward_for_cores_model_is_refused_out_of_step_on_cores_model_too(load: Any) -> None:
    with pytest.raises(ValueError, match=r"TeaCache, MagCache .* noise levels of their own.* Step Cache"):
        forcing(own_forward(load("core's")), **ASYNC)


@pytest.mark.parametrize("fps", [16, 24])
def test_a_forward_for_cores_model_keeps_the_frame_rate(load: Any, fps: int) -> None:
    ours = load("ours", "tiny_df")
    expected, other = (forcing(ours, fps=each) for each in (fps, 40 - fps))
    got = forcing(own_forward(ours, skip=False), fps=fps)
    assert relative_error(got, expected) < 1e-4 < relative_error(other, expected)
    assert torch.equal(forcing(ours, fps=fps), expected)


def test_the_attributes_of_cores_model_are_there_with_its_values(load: Any) -> None:
    ours, cores = (load(loader).model.diffusion_model for loader in LOADERS)
    parts = {"": (ours, cores), "block": (ours.blocks[0], cores.blocks[0]),
             "attention": (ours.blocks[0].self_attn, cores.blocks[0].self_attn)}  # fmt: skip
    for name, (own, core) in parts.items():
        wanted = {key: value for key, value in vars(core).items()
                  if key[0] != "_" and key != "training" and isinstance(value, int | str)}  # fmt: skip
        known = {key: getattr(own, key, None) for key in wanted}
        assert {key: value for key, value in known.items() if value is not None} | wanted == wanted, name
        missing = {key for key, value in known.items() if value is None}
        assert missing <= {"eps", "qk_norm", "cross_attn_norm"}, name  # what a part was built with
    for name in (
        "rope_embedder",
        "rope_encode",
        "forward_orig",
        "img_emb",
        "ref_conv",
        "patch_embedding",
        "unpatchify",
    ):
        assert hasattr(ours, name)


def test_parts_take_cores_arguments(load: Any) -> None:
    ours, cores = (load(loader).model.diffusion_model.float() for loader in LOADERS)
    x, e = torch.randn(1, 36, ours.dim), torch.randn(1, 6, ours.dim) * 0.1
    context, time = torch.randn(1, 8, ours.dim), torch.randn(1, ours.dim)
    frames = ours.rope_encode(9, 4, 4, dtype=torch.float32)
    assert torch.equal(frames, cores.rope_encode(9, 4, 4, dtype=torch.float32))
    with torch.inference_mode():
        for call in (
            lambda model: model.blocks[0](x.clone(), e=e, freqs=frames, context=context, context_img_len=None),
            lambda model: model.blocks[0].self_attn(x.clone(), frames, transformer_options={}),
            lambda model: model.blocks[0].cross_attn(x.clone(), context, context_img_len=None),
            lambda model: model.head(x.clone(), time),
        ):
            assert relative_error(call(ours), call(cores)) < 1e-5


def test_forward_orig_turns_by_the_freqs_it_is_given(load: Any) -> None:
    ours, cores = (load(loader).model.diffusion_model.float() for loader in LOADERS)
    x, t = noise(), torch.tensor([700.0])
    with torch.inference_mode():
        outputs = []
        for model in (ours, cores):
            freqs = model.rope_encode(9, 4, 4, t_start=5, dtype=torch.float32)
            shifted = freqs.roll(3, dims=1)
            outputs.append(model.forward_orig(x, t, text(1), freqs=shifted, transformer_options={}))
        plain = ours.forward_orig(x, t, text(1), transformer_options={})
    assert relative_error(outputs[0], outputs[1]) < 1e-4 < relative_error(outputs[0], plain)
