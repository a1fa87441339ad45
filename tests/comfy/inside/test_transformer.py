"""Our transformer against ComfyUI's own WanModel, with one file loaded by both loaders."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import comfy.ldm.wan.model
import comfy.model_management
import comfy.quant_ops
import comfy.sd
import pytest
import torch


def loaded(patcher: Any) -> Any:
    comfy.model_management.load_models_gpu([patcher])
    return patcher.model.diffusion_model


@pytest.fixture
def both(request: pytest.FixtureRequest, pack: ModuleType, models: Path) -> tuple[Any, Any]:
    assert pack
    loader = importlib.import_module("skyreels_v2.wan_core.comfy.loading.loader")
    path = models / "diffusion_models" / request.param
    return loaded(loader.load_model(path)), loaded(comfy.sd.load_diffusion_model(str(path)))


def inputs(channels: int, frames: int, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(height * width)
    x = torch.randn(2, channels, frames, height, width, generator=generator)
    return x, torch.randn(2, 12, 4096, generator=generator) * 0.3


@pytest.mark.parametrize("both", ["tiny_df_nofps.safetensors"], indirect=True)
@pytest.mark.parametrize("size", [(3, 4, 6), (2, 5, 7), (3, 4, 7), (1, 3, 2)])
@pytest.mark.parametrize("per_frame", [False, True], ids=["one timestep", "timestep per frame"])
def test_any_size_odd_ones_too_gives_what_core_gives(both: Any, size: tuple[int, int, int], per_frame: bool) -> None:
    ours, core = both
    x, context = inputs(16, *size)
    t = torch.linspace(900, 20, 2 * size[0]).view(2, -1) if per_frame else torch.tensor([900.0, 20.0])
    with torch.inference_mode():
        expected = core(x, t, context, transformer_options={})
        got = ours(x, t, context, transformer_options={})
    assert got.shape == x.shape
    torch.testing.assert_close(got, expected, rtol=2e-4, atol=2e-4 * expected.abs().max().item())


@pytest.mark.parametrize("both", ["tiny_i2v.safetensors"], indirect=True)
@pytest.mark.parametrize("vision", [True, False], ids=["with CLIP vision", "without CLIP vision"])
def test_an_image_to_video_model_gives_what_core_gives(both: Any, vision: bool) -> None:
    ours, core = both
    x, context = inputs(36, 3, 4, 4)
    image = torch.randn(2, 257, 1280, generator=torch.Generator().manual_seed(1)) if vision else None
    t = torch.tensor([900.0, 20.0])
    with torch.inference_mode():
        expected = core(x, t, context, clip_fea=image, transformer_options={})
        got = ours(x, t, context, clip_fea=image, transformer_options={})
    torch.testing.assert_close(got, expected, rtol=2e-4, atol=2e-4 * expected.abs().max().item())


@pytest.mark.parametrize("both", ["tiny_df_nofps.safetensors"], indirect=True)
def test_rope_options_shift_and_scale_as_in_core(both: Any) -> None:
    ours, core = both
    x, context = inputs(16, 3, 4, 6)
    t = torch.tensor([500.0, 100.0])
    rope = {"shift_t": 7.0, "shift_y": 1.0, "shift_x": 2.0, "scale_t": 0.5, "scale_y": 1.5, "scale_x": 2.0}
    with torch.inference_mode():
        expected = core(x, t, context, transformer_options={"rope_options": rope})
        got = ours(x, t, context, transformer_options={"rope_options": rope})
        plain = ours(x, t, context, transformer_options={})
    torch.testing.assert_close(got, expected, rtol=2e-4, atol=2e-4 * expected.abs().max().item())
    assert (got - plain).abs().max() > 1e-3


@pytest.mark.parametrize("both", ["tiny_df_nofps.safetensors"], indirect=True)
def test_cores_rotary_kernel_gives_the_same_video(both: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, core = both
    x, context = inputs(16, 3, 4, 6)
    t = torch.linspace(900, 20, 6).view(2, -1)
    rotary = importlib.import_module("skyreels_v2.wan_core.comfy.model.rotary")
    rope = importlib.import_module("skyreels_v2.wan_core.model.rope")
    # as off the CPU: the table as matrices, which is what sends queries and keys to the host's function
    matrices = rope.RotaryKernel(lambda *grid: rope.rotation_matrices(rope.rotary_table(*grid)), rotary.host_apply)
    monkeypatch.setattr(ours, "rotary_kernel", matrices)
    monkeypatch.setattr(ours, "last_rotary", None)
    with torch.inference_mode():
        expected = core(x, t, context, transformer_options={})
        got = ours(x, t, context, transformer_options={})
        in_pieces = ours(x, t, context, transformer_options={"skyreels_pieces": 3})
    assert isinstance(ours.last_rotary[1], torch.Tensor)
    torch.testing.assert_close(got, expected, rtol=2e-4, atol=2e-4 * expected.abs().max().item())
    torch.testing.assert_close(in_pieces, got, rtol=1e-5, atol=1e-5 * got.abs().max().item())


@pytest.mark.parametrize("levels", [1, 3], ids=["one for the clip", "one per frame"])
def test_the_hosts_norm_with_modulation_is_ours(pack: ModuleType, levels: int) -> None:
    kernels = importlib.import_module("skyreels_v2.wan_core.comfy.model.kernels")
    x, shift, scale = (torch.randn(2, tokens, 8) for tokens in (12, levels, levels))
    norm = torch.nn.LayerNorm(8, eps=1e-6, elementwise_affine=False)
    expected = kernels.modulated_norm(norm, x, shift, scale)
    torch.testing.assert_close(kernels.fused_norm(x, shift, scale, norm.eps), expected)
    torch.testing.assert_close(kernels.host_modulated_norm(norm, x, shift, scale), expected)


def attention_patches(attention: Any) -> dict[str, list[Any]]:
    """The patches of the parts of a block."""
    return {"attn1_patch": [attention], "attn2_patch": [lambda args: args["x"] * 1.1]}


@pytest.mark.parametrize("both", ["tiny_df_nofps.safetensors"], indirect=True)
def test_block_replacements_and_attention_patches_are_called_as_in_core(both: Any) -> None:
    x, context = inputs(16, 2, 4, 4)
    t = torch.tensor([500.0, 100.0])
    outputs, calls = [], []
    for model in both:
        seen: list[str] = []

        def skip(args: dict[str, Any], extra: dict[str, Any], seen: list[str] = seen) -> dict[str, Any]:
            seen.append(f"block {args['transformer_options']['block_index']} {tuple(args['img'].shape)}")
            return {"img": args["img"]}

        def keep(args: dict[str, Any], extra: dict[str, Any], seen: list[str] = seen) -> dict[str, Any]:
            seen.append("keep")
            return extra["original_block"](args)

        def attention(args: dict[str, Any], seen: list[str] = seen) -> torch.Tensor:
            seen.append(f"attention {tuple(args['x'].shape)}")
            return args["x"] * 0.5

        options = {
            "patches_replace": {"dit": {("double_block", 0): skip, ("double_block", 1): keep}},
            "patches": attention_patches(attention),
        }
        with torch.inference_mode():
            outputs.append(model(x, t, context, transformer_options=options))
        calls.append(seen)
    assert calls[0] == calls[1] and len(calls[0]) >= 2
    torch.testing.assert_close(*outputs, rtol=2e-4, atol=1e-3)
