"""Our loader beside core's: the same file gives the same weights, the same numbers and the same LoRA names."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import comfy.lora
import comfy.model_management
import comfy.model_patcher
import comfy.patcher_extension
import comfy.sd
import comfy.utils
import pytest
import torch

TEXT, IMAGE = 4096, 1280


def loader_of(pack: ModuleType) -> Any:
    return importlib.import_module(f"{pack.__name__}.wan_core.comfy.loading.loader")


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def run(patcher: Any, *args: torch.Tensor, **kwargs: Any) -> torch.Tensor:
    comfy.model_management.load_models_gpu([patcher], force_full_load=True)
    with torch.inference_mode():
        return patcher.model.diffusion_model(*args, transformer_options={}, **kwargs)


@pytest.mark.parametrize("name", ["tiny_df", "tiny_df_nofps", "tiny_i2v"])
def test_every_weight_of_the_file_lies_in_the_model(pack: ModuleType, models: Path, name: str) -> None:
    file = models / "diffusion_models" / f"{name}.safetensors"
    written = comfy.utils.load_torch_file(str(file))
    held = loader_of(pack).load_model(file).model.diffusion_model.state_dict()
    assert set(held) == set(written)
    assert all(torch.equal(held[key].float(), written[key].float()) for key in written)


def test_the_transformer_equals_cores_for_one_noise_level_and_for_one_per_frame(pack: ModuleType, models: Path) -> None:
    file = str(models / "diffusion_models" / "tiny_df_nofps.safetensors")
    ours, core = loader_of(pack).load_model(file), comfy.sd.load_diffusion_model(file)
    x, context = noise(2, 16, 3, 6, 10), noise(2, 20, TEXT, seed=1)
    for t in (torch.tensor([900.0, 20.0]), torch.tensor([[0.0, 500.0, 999.0], [20.0, 20.0, 700.0]])):
        torch.testing.assert_close(run(ours, x, t, context), run(core, x, t, context), rtol=1e-3, atol=1e-3)


def test_odd_heights_and_widths_are_padded_as_core_pads_them(pack: ModuleType, models: Path) -> None:
    file = str(models / "diffusion_models" / "tiny_df_nofps.safetensors")
    ours, core = loader_of(pack).load_model(file), comfy.sd.load_diffusion_model(file)
    x, context, t = noise(1, 16, 2, 7, 5), noise(1, 20, TEXT, seed=1), torch.tensor([400.0])
    torch.testing.assert_close(run(ours, x, t, context), run(core, x, t, context), rtol=1e-3, atol=1e-3)


def test_the_image_to_video_transformer_equals_cores(pack: ModuleType, models: Path) -> None:
    file = str(models / "diffusion_models" / "tiny_i2v.safetensors")
    ours, core = loader_of(pack).load_model(file), comfy.sd.load_diffusion_model(file)
    x, context, t = noise(1, 36, 3, 8, 8), noise(1, 20, TEXT, seed=1), torch.tensor([400.0])
    # with CLIP tokens only: without them core reads the text through the image weights as well, where diffusers and
    # we leave the image branch out
    image = noise(1, 257, IMAGE, seed=2)
    expected = run(core, x, t, context, clip_fea=image)
    torch.testing.assert_close(run(ours, x, t, context, clip_fea=image), expected, rtol=1e-3, atol=1e-3)


def test_the_frame_rate_weights_act_as_a_shift_of_the_time_projection(pack: ModuleType, models: Path) -> None:
    """Core drops these weights; with their vector added to the bias of its time projection it must agree with us."""
    file = str(models / "diffusion_models" / "tiny_df.safetensors")
    ours, core = loader_of(pack).load_model(file), comfy.sd.load_diffusion_model(file)
    weights = {key: value.float() for key, value in comfy.utils.load_torch_file(file).items()}
    x, context, t = noise(1, 16, 2, 4, 4), noise(1, 20, TEXT, seed=1), torch.tensor([400.0])
    for fps, row in ((16, 0), (24, 1), (30, 1)):
        hidden = weights["fps_projection.0.weight"] @ weights["fps_embedding.weight"][row]
        hidden = torch.nn.functional.silu(hidden + weights["fps_projection.0.bias"])
        shift = weights["fps_projection.2.weight"] @ hidden + weights["fps_projection.2.bias"]
        shifted = core.clone()
        shifted.add_patches({"diffusion_model.time_projection.1.bias": ("diff", (shift,))})
        expected = run(shifted, x, t, context)
        # the patched bias is rounded to the file's bfloat16
        torch.testing.assert_close(run(ours, x, t, context, fps=torch.tensor([fps])), expected, rtol=0.05, atol=0.02)


def test_every_key_of_a_lora_in_circulation_finds_its_weight(pack: ModuleType, models: Path) -> None:
    patcher = loader_of(pack).load_model(models / "diffusion_models" / "tiny_df.safetensors")
    lora = comfy.utils.load_torch_file(str(models / "loras" / "tiny_lora.safetensors"))
    key_map = comfy.lora.model_lora_keys_unet(patcher.model, {})
    patches = comfy.lora.load_lora(lora, key_map)
    assert len(patches) == len(lora) // 2
    assert len(patcher.clone().add_patches(patches, 1.0)) == len(patches)


def test_a_second_copy_can_be_made_from_what_the_patcher_remembers(pack: ModuleType, models: Path) -> None:
    patcher = loader_of(pack).load_model(models / "diffusion_models" / "tiny_df.safetensors", "fp8_e4m3fn")
    function, arguments = patcher.cached_patcher_init
    again = function(*arguments, disable_dynamic=True)
    assert type(again) is comfy.model_patcher.ModelPatcher
    assert again.model.diffusion_model.blocks[0].ffn[0].weight.dtype == torch.float8_e4m3fn


def test_a_diffusion_model_wrapper_of_another_pack_is_called_with_core_arguments(
    pack: ModuleType, models: Path
) -> None:
    patcher = loader_of(pack).load_model(models / "diffusion_models" / "tiny_df.safetensors")
    seen = []

    def wrapper(executor: Any, x: Any, timestep: Any, context: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append((tuple(x.shape), tuple(timestep.shape), tuple(context.shape)))
        return executor(x, timestep, context, *args, **kwargs) * 2

    x, context, t = noise(1, 16, 2, 4, 4), noise(1, 20, TEXT, seed=1), torch.tensor([400.0])
    plain = run(patcher, x, t, context)
    options = {"wrappers": {comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL: {"test": [wrapper]}}}
    with torch.inference_mode():
        wrapped = patcher.model.diffusion_model(x, t, context, transformer_options=options)
    assert seen == [((1, 16, 2, 4, 4), (1,), (1, 20, TEXT))]
    torch.testing.assert_close(wrapped, plain * 2)


def test_an_attention_override_sees_every_attention_of_the_model(pack: ModuleType, models: Path) -> None:
    patcher = loader_of(pack).load_model(models / "diffusion_models" / "tiny_df.safetensors")
    comfy.model_management.load_models_gpu([patcher], force_full_load=True)
    calls = []

    def override(function: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(kwargs.get("mask"))
        return function(*args, **kwargs)

    x, context, t = noise(1, 16, 3, 4, 4), noise(1, 20, TEXT, seed=1), torch.tensor([400.0])
    options: dict[str, Any] = {"optimized_attention_override": override}
    with torch.inference_mode():
        patcher.model.diffusion_model(x, t, context, transformer_options=options)
        assert calls == [None] * 4  # two layers of self and cross attention
        calls.clear()
        options["skyreels_causal_block_size"] = 1
        patcher.model.diffusion_model(x, t, context, transformer_options=options)
    # three blocks of one frame each, still without a mask: several backends ignore or misread one
    assert calls == [None] * 8
