"""Every form of file in the host: written tiny, loaded as a MODEL, computed with.

The oracle is core's own Wan transformer in float32 with the numbers that the file's bytes stand for, decoded by
tests/comfy/format_table.py: the host has to compute with those and no others. With SKYREELS_MEASURED set, what was
measured is added to that file, for tools/format_table.py.
"""

from __future__ import annotations

import importlib
import json
import os
from pathlib import Path
from types import ModuleType
from typing import Any

import comfy.model_management
import comfy.quant_ops
import comfy.sd
import comfy.utils
import comfyui_version
import pytest
import torch
from conftest import REPO, TESTS, load_module, sibling
from measures import relative_distance
from safetensors.torch import save_file

Tensors = dict[str, torch.Tensor]
TEXT, IMAGE = 4096, 1280
formats = sibling("file_formats")
FORMATS = sibling("format_table").FORMATS
REFUSED = sibling("refused_formats").REFUSED
tiny_models = load_module("tiny_models", TESTS / "tiny_models.py")
diffusers_names = load_module("diffusers_names", REPO / "tests" / "diffusers_names.py")

# how the weights of a released checkpoint lie in its repository: name of the files, and how many
RELEASED = {
    "DF-1.3B-540P": ("model", 1),
    "DF-14B-540P": ("model", 12),
    "DF-14B-720P": ("diffusion_pytorch_model", 6),
    "T2V-14B-540P": ("model", 12),
    "T2V-14B-720P": ("diffusion_pytorch_model", 6),
    "I2V-1.3B-540P": ("model", 1),
    "I2V-14B-540P": ("model", 14),
    "I2V-14B-720P": ("diffusion_pytorch_model", 7),
}


@pytest.fixture(scope="module")
def tensors() -> Tensors:
    return tiny_models.random_tensors(tiny_models.transformer_shapes(fps=False))


def load(pack: ModuleType, path: Path, *options: Any) -> Any:
    return importlib.import_module(f"{pack.__name__}.wan_core.comfy.loading.loader").load_model(path, *options)


def predict(patcher: Any, **inputs: Any) -> torch.Tensor:
    """The velocity of a fixed input, in whatever dtype this model computes in."""
    comfy.model_management.load_models_gpu([patcher], force_full_load=True)
    generator = torch.Generator().manual_seed(1)
    image = patcher.model.diffusion_model.patch_embedding.weight.shape[1] == 36
    x = torch.randn(1, 36 if image else 16, 3, 6, 6, generator=generator)
    context = torch.randn(1, 20, TEXT, generator=generator)
    if image:
        inputs["clip_fea"] = torch.randn(1, 257, IMAGE, generator=generator)
    with torch.inference_mode():
        return patcher.model.diffusion_model(
            x, torch.tensor([700.0]), context, transformer_options={}, **inputs
        ).float()


def core_model(tensors: Tensors) -> Any:
    """Core's own Wan around float32 weights."""
    return comfy.sd.load_diffusion_model_state_dict({name: tensor.clone() for name, tensor in tensors.items()})


# number formats

# how far a prediction may lie from that of the unrounded model: errors of single weights are independent, so their sum
# stays below the largest of them, which for integers and 4 bit floats is a part of the largest weight, not of each
SPREAD = 4


def bound(name: str) -> float:
    """The largest relative error of a prediction with a model in this format."""
    kind = FORMATS[name].bound
    return max(formats.BOUND[kind] * (SPREAD if "int" in kind else 1), 1e-5)


def write(path: Path, form: Any) -> Path:
    save_file({key: value.contiguous() for key, value in form.stored.items()}, path, metadata=form.metadata)
    return path


def kept(patcher: Any) -> bool:
    """Whether the host holds the blocks' weights packed."""
    return isinstance(patcher.model.diffusion_model.blocks[0].ffn[0].weight, comfy.quant_ops.QuantizedTensor)


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_in_this_format_computes_with_the_numbers_that_it_holds(
    pack: ModuleType, tensors: Tensors, tmp_path: Path, name: str
) -> None:
    form = FORMATS[name].write(tensors)
    patcher = load(pack, write(tmp_path / "model.safetensors", form))
    made = predict(patcher)
    to_meaning = relative_distance(made, predict(core_model(form.meaning)))
    to_source = relative_distance(made, predict(core_model(tensors)))
    info = patcher.get_attachment("skyreels_v2_checkpoint")
    state = ("kept" if kept(patcher) else "unpacked") if info.stored else "as it is"
    assert ("unpacked to float32" in str(info.describe())) == (state == "unpacked")
    if measured := os.environ.get("SKYREELS_MEASURED"):
        host = ".".join(comfyui_version.__version__.split(".")[:3])
        row = (name, host, state, f"{to_meaning:.1e}", f"{to_source:.1e}")
        with open(measured, "a", encoding="utf-8") as file:
            file.write("\t".join(row) + "\n")
    # the host's layers of integers round their inputs to integers as well
    of_integers = state == "kept" and FORMATS[name].bound in ("int8", "int4")
    assert to_meaning < (formats.BOUND[FORMATS[name].bound] if of_integers else 1e-5)
    assert to_source < bound(name)


@pytest.mark.parametrize("name", ["bitsandbytes nf4", "int8 without a scale", "fp8, scales lost", "ModelOpt nvfp4"])
def test_a_packing_that_is_not_read_is_refused(pack: ModuleType, tensors: Tensors, tmp_path: Path, name: str) -> None:
    save_file(REFUSED[name].write(tensors), tmp_path / "model.safetensors")
    with pytest.raises(ValueError) as refusal:
        load(pack, tmp_path / "model.safetensors")
    assert REFUSED[name].says in str(refusal.value)


def test_a_packed_model_is_told_from_another_without_unpacking_it(
    pack: ModuleType, tensors: Tensors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long video's job is found again by its model's numbers; a 14B model is not unpacked for that."""
    identity = importlib.import_module(f"{pack.__name__}.wan_core.comfy.long.identity").model_identity
    layout = importlib.import_module(f"{pack.__name__}.wan_core.comfy.loading.packed").ScaledLayout
    monkeypatch.setattr(layout, "dequantize", lambda *_: pytest.fail("unpacked"))
    other = {name: tensor.flip(0) for name, tensor in tensors.items()}
    found = []
    for number, weights in enumerate((tensors, tensors, other)):
        form = FORMATS["LightX2V fp8"].write(weights)
        found.append(identity(load(pack, write(tmp_path / f"{number}.safetensors", form)))["weights"]["blocks"])
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize("name", ["fp32", "bf16"])
@pytest.mark.parametrize("weight_dtype", ["fp8_e4m3fn", "fp8_e5m2"])
def test_a_file_can_be_made_smaller_while_it_is_loaded(
    pack: ModuleType, tensors: Tensors, tmp_path: Path, name: str, weight_dtype: str
) -> None:
    path = tmp_path / "model.safetensors"
    save_file(FORMATS[name].write(tensors).stored, path)
    patcher = load(pack, path, weight_dtype)
    assert patcher.model.diffusion_model.blocks[0].ffn[0].weight.dtype == getattr(torch, f"float8_{weight_dtype[4:]}")
    error = relative_distance(predict(patcher), predict(core_model(tensors)))
    assert 1e-3 < error < formats.BOUND[weight_dtype[4:].removesuffix("fn")]


@pytest.mark.parametrize("numbers", [1, 2])
def test_only_a_file_that_allows_it_multiplies_in_fp8(
    pack: ModuleType, tensors: Tensors, tmp_path: Path, numbers: int
) -> None:
    path = tmp_path / "model.safetensors"
    save_file(formats.marked_scaled_fp8(torch.float8_e4m3fn, numbers)(tensors).stored, path)
    layer = load(pack, path).model.diffusion_model.blocks[0].ffn[0]
    assert layer._full_precision_mm_config is (numbers == 2)


@pytest.mark.parametrize("name", ["scaled fp8_e4m3fn", "comfy_quant nvfp4", "LightX2V int8", "LightX2V fp8"])
def test_a_lora_is_added_to_quantised_weights(
    pack: ModuleType, models: Path, tensors: Tensors, tmp_path: Path, name: str
) -> None:
    form = FORMATS[name].write(tensors)
    write(tmp_path / "model.safetensors", form)
    lora = comfy.utils.load_torch_file(str(models / "loras" / "tiny_lora.safetensors"))
    changed = {}
    for key, tensor in form.meaning.items():
        stem = "diffusion_model." + key.removesuffix(".weight")
        down, up = lora.get(f"{stem}.lora_A.weight"), lora.get(f"{stem}.lora_B.weight")
        changed[key] = tensor if down is None else tensor + 0.5 * up @ down
    patcher = load(pack, tmp_path / "model.safetensors")
    patched, _ = comfy.sd.load_lora_for_models(patcher, None, lora, 0.5, 0)
    wanted = predict(core_model(changed))
    assert relative_distance(predict(core_model(form.meaning)), wanted) > 0.3
    # core rounds the sum to the format again, unless it adds the LoRA while it computes
    assert relative_distance(predict(patched), wanted) < bound(name)


# how files lie in a repository


def released_tensors(name: str) -> Tensors:
    return tiny_models.random_tensors(
        tiny_models.transformer_shapes(36 if name.startswith("I2V") else 16, fps=name == "DF-1.3B-540P")
    )


def oracle(tensors: Tensors) -> torch.Tensor:
    """Core's prediction; the fps weights, which core does not know, are added where they act."""
    known = {key: tensor for key, tensor in tensors.items() if not key.startswith("fps_")}
    if len(known) < len(tensors):
        bias = "time_projection.1.bias"
        known[bias] = known[bias] + tiny_models.frame_rate_shift(tensors, row=1)
    return predict(core_model(known))


def write_shards(folder: Path, tensors: Tensors, stem: str, count: int) -> Path:
    """Write numbered shards and their index, or one file; gives the file that a person picks."""
    folder.mkdir(parents=True)
    if count == 1:
        save_file(tensors, folder / f"{stem}.safetensors")
        return folder / f"{stem}.safetensors"
    weight_map = {}
    for number in range(count):
        part = sorted(tensors)[number::count]
        file = f"{stem}-{number + 1:05}-of-{count:05}.safetensors"
        save_file({key: tensors[key] for key in part}, folder / file)
        weight_map |= dict.fromkeys(part, file)
    (folder / f"{stem}.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}), encoding="utf-8")
    return folder / f"{stem}-00001-of-{count:05}.safetensors"


@pytest.mark.parametrize("name", RELEASED)
def test_a_released_checkpoint_loads_in_its_own_shards(pack: ModuleType, tmp_path: Path, name: str) -> None:
    tensors = released_tensors(name)
    path = write_shards(tmp_path / f"SkyReels-V2-{name}", tensors, *RELEASED[name])
    assert relative_distance(predict(load(pack, path)), oracle(tensors)) < 1e-5


@pytest.mark.parametrize("name", RELEASED)
def test_a_released_checkpoint_loads_from_its_diffusers_folder(pack: ModuleType, tmp_path: Path, name: str) -> None:
    tensors = released_tensors(name)
    folder = tmp_path / f"SkyReels-V2-{name}-Diffusers"
    renamed, count = diffusers_names.to_diffusers_names(tensors), max(RELEASED[name][1], 2)
    picked = write_shards(folder / "transformer", renamed, "diffusion_pytorch_model", count)
    wanted = oracle(tensors)
    for path in (folder, picked):
        assert relative_distance(predict(load(pack, path)), wanted) < 1e-5


@pytest.mark.parametrize("name", ["DF-1.3B-540P", "I2V-14B-540P"])
@pytest.mark.parametrize("prefix", ["", "model.diffusion_model.", "diffusion_model."])
def test_a_repackaged_single_file_loads_with_marker_and_prefix(
    pack: ModuleType, tmp_path: Path, name: str, prefix: str
) -> None:
    tensors = released_tensors(name)
    stored = {prefix + key: tensor for key, tensor in tensors.items()}
    stored[f"model_type.SkyReels-V2-{name}"] = torch.zeros(1)
    save_file(stored, tmp_path / "repackaged.safetensors")
    assert relative_distance(predict(load(pack, tmp_path / "repackaged.safetensors")), oracle(tensors)) < 1e-5
