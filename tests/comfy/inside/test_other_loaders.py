"""MODELs of other loaders: core's Load Diffusion Model and GGUF loaders, sampled by us, their frame rate given back."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import comfy.model_management
import comfy.sd
import comfy.utils
import pytest
import torch
from conftest import TESTS, load_module, sibling
from measures import relative_distance
from safetensors.torch import save_file
from sampling_scene import generated

import nodes

Tensors = dict[str, torch.Tensor]
formats = sibling("file_formats")
FORMATS = sibling("format_table").FORMATS
tiny_models = load_module("tiny_models", TESTS / "tiny_models.py")
q8 = load_module("q8_operations", TESTS / "q8_operations.py")
SHAPE = (1, 16, 3, 4, 4)


def part(pack: ModuleType, name: str) -> Any:
    return importlib.import_module(f"{pack.__name__}.wan_core.{name}")


def sample(pack: ModuleType, patcher: Any, fps: int = 24, **options: Any) -> torch.Tensor:
    """Three steps of our sampler node's own function."""
    positive, negative = (
        [[torch.randn(1, 12, 4096, generator=torch.Generator().manual_seed(seed)) * 0.3, {}]] for seed in (1, 2)
    )
    forcing = part(pack, "comfy.sampling.sampler").ForcingOptions(fps=fps, **options)
    latent = {"samples": torch.zeros(SHAPE)}
    return generated(patcher, (positive, negative), latent, forcing, 5, 3, 3.0, 5.0)


@pytest.fixture(scope="module")
def file(models: Path) -> Path:
    """The tiny DF model with fps weights, float32 as DF-1.3B is released."""
    return models / "diffusion_models" / "tiny_df.safetensors"


def core_model(file: Path) -> Any:
    """What the node Load Diffusion Model gives."""
    return nodes.UNETLoader().load_unet(file.name, "default")[0]


def gguf_model(tensors: Tensors) -> tuple[Any, Tensors]:
    """What a GGUF loader gives for Q8_0, and the float32 weights that it computes with."""
    packed, meaning = {}, {}
    for name, tensor in tensors.items():
        packed[name], meaning[name] = tensor, tensor
        if formats.is_quantised(name, tensor):
            data = formats.pack_q8_0(tensor)
            packed[name], meaning[name] = q8.PackedTensor(data, tensor.shape), formats.unpack_q8_0(data)
    options = {"custom_operations": q8.operations(formats.unpack_q8_0)}
    return comfy.sd.load_diffusion_model_state_dict(packed, model_options=options), meaning


@pytest.mark.parametrize("ar_step", [0, 2])
def test_a_model_of_load_diffusion_model_makes_the_video_of_ours(
    pack: ModuleType, models: Path, tmp_path: Path, ar_step: int
) -> None:
    tensors = tiny_models.random_tensors(tiny_models.transformer_shapes(fps=False))
    save_file(tensors, tmp_path / "plain.safetensors")
    core = comfy.sd.load_diffusion_model(str(tmp_path / "plain.safetensors"))
    ours = part(pack, "comfy.loading.loader").load_model(tmp_path / "plain.safetensors")
    assert relative_distance(sample(pack, core, ar_step=ar_step), sample(pack, ours, ar_step=ar_step)) < 1e-5


@pytest.mark.parametrize("fps", [16, 24, 30])
def test_attached_weights_make_cores_video_that_of_our_loader(
    pack: ModuleType, pack_nodes: dict[str, Any], file: Path, fps: int
) -> None:
    core, ours = core_model(file), part(pack, "comfy.loading.loader").load_model(file)
    attached = pack_nodes["SkyReelsV2AttachFPS"].execute(core, file.name, fps).args[0]
    wanted = sample(pack, ours, fps)
    assert relative_distance(sample(pack, attached), wanted) < 1e-5
    assert relative_distance(sample(pack, core, fps), wanted) > 0.05  # what dropping them costs
    assert relative_distance(sample(pack, ours, 16 if fps != 16 else 24), wanted) > 0.05
    assert not core.patches  # the model that went in is as it was


def test_auto_takes_the_file_that_the_model_was_loaded_from(pack: ModuleType, file: Path) -> None:
    core, attach = core_model(file), part(pack, "comfy.loading.frame_rate").attach_frame_rate
    wanted = sample(pack, part(pack, "comfy.loading.loader").load_model(file), 16)
    assert relative_distance(sample(pack, attach(core, None, 16)), wanted) < 1e-5


def test_a_lora_and_the_frame_rate_go_together_in_any_order(pack: ModuleType, models: Path, file: Path) -> None:
    lora = comfy.utils.load_torch_file(str(models / "loras" / "tiny_lora.safetensors"))
    attach = part(pack, "comfy.loading.frame_rate").attach_frame_rate
    before = attach(comfy.sd.load_lora_for_models(core_model(file), None, lora, 0.5, 0)[0], file, 16)
    after = comfy.sd.load_lora_for_models(attach(core_model(file), file, 16), None, lora, 0.5, 0)[0]
    wanted = sample(
        pack,
        comfy.sd.load_lora_for_models(part(pack, "comfy.loading.loader").load_model(file), None, lora, 0.5, 0)[0],
        16,
    )
    assert relative_distance(sample(pack, before), wanted) < 1e-5
    assert relative_distance(sample(pack, after), wanted) < 1e-5


@pytest.mark.parametrize("form", ["scaled fp8_e4m3fn", "comfy_quant float8_e5m2"])
def test_the_frame_rate_weights_may_lie_in_a_quantised_file(
    pack: ModuleType, file: Path, tmp_path: Path, form: str
) -> None:
    read = part(pack, "comfy.loading.frame_rate").frame_rate_shift
    tensors = comfy.utils.load_torch_file(str(file))
    moved = {name.replace("fps_projection", "blocks.9"): tensor for name, tensor in tensors.items()}
    made = FORMATS[form].write(moved)  # so that the matrices of the frame rate are quantised, too
    stored, meaning = (
        {name.replace("blocks.9", "fps_projection"): tensor for name, tensor in found.items()}
        for found in (made.stored, made.meaning)
    )
    assert stored["fps_projection.2.weight"].dtype.itemsize == 1
    save_file(stored, tmp_path / "quantised.safetensors")
    for fps, row in ((16, 0), (24, 1)):
        wanted = tiny_models.frame_rate_shift(meaning, row)
        torch.testing.assert_close(read(tmp_path / "quantised.safetensors", fps), wanted, rtol=1e-5, atol=1e-6)


def test_a_gguf_loaders_model_computes_with_the_numbers_of_its_blocks(pack: ModuleType) -> None:
    tensors = tiny_models.random_tensors(tiny_models.transformer_shapes(fps=False))
    packed, meaning = gguf_model(tensors)
    wanted = sample(pack, comfy.sd.load_diffusion_model_state_dict(meaning))
    made = sample(pack, packed)
    assert relative_distance(made, wanted) < 1e-5
    # of 32 numbers with one scale none is off by more than half a 127th of the largest; errors are independent
    exact = sample(pack, comfy.sd.load_diffusion_model_state_dict(dict(tensors)))
    assert 1e-4 < relative_distance(made, exact) < 0.05


@pytest.mark.parametrize("ar_step", [0, 2])
def test_a_gguf_loaders_model_gets_its_frame_rate_from_a_file(pack: ModuleType, file: Path, ar_step: int) -> None:
    packed, meaning = gguf_model(comfy.utils.load_torch_file(str(file)))
    attach = part(pack, "comfy.loading.frame_rate").attach_frame_rate
    save_file(meaning, file.parent.parent / "meaning.safetensors")
    ours = part(pack, "comfy.loading.loader").load_model(file.parent.parent / "meaning.safetensors")
    wanted = sample(pack, ours, 16, ar_step=ar_step)
    assert relative_distance(sample(pack, attach(packed, file, 16), ar_step=ar_step), wanted) < 1e-5
    with pytest.raises(ValueError, match=r"doesn.t say which file it is from"):
        attach(packed, None, 16)


def test_what_cannot_be_attached_is_refused(pack: ModuleType, models: Path, file: Path, tmp_path: Path) -> None:
    attach, load = (
        part(pack, "comfy.loading.frame_rate").attach_frame_rate,
        part(pack, "comfy.loading.loader").load_model,
    )
    plain = models / "diffusion_models" / "tiny_df_nofps.safetensors"
    core = core_model(file)
    with pytest.raises(ValueError, match="drops no weights: remove this node and set fps in the sampler"):
        attach(load(file), None, 16)
    with pytest.raises(ValueError, match="drops no weights: remove this node\\."):
        attach(load(plain), None, 16)
    with pytest.raises(ValueError, match=r"tiny_df_nofps.safetensors has no frame-rate weights"):
        attach(core, plain, 16)
    with pytest.raises(ValueError, match="already has 16 fps attached"):
        attach(attach(core, file, 16), file, 24)
    with pytest.raises(ValueError, match="does not exist"):
        attach(core, tmp_path / "gone.safetensors", 16)
    wide = {name: torch.zeros(shape) for name, shape in part(pack, "comfy.loading.model_info").WanConfig(
        dim=128, ffn_dim=64, num_heads=1, num_layers=1, inject_sample_info=True
    ).parameter_shapes().items()}  # fmt: skip
    save_file(wide, tmp_path / "narrow.safetensors")
    with pytest.raises(ValueError, match="are for a model of width 128, but this one has width 256"):
        attach(core, tmp_path / "narrow.safetensors", 16)
