"""How numbers lie in a file: every format of the table is read to what it stands for, every other one is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from tests.comfy.file_formats import BOUND, scaled, with_layers
from tests.comfy.format_table import FORMATS
from tests.comfy.refused_formats import REFUSED
from tests.comfy.tiny_models import random_tensors, transformer_shapes
from wan_core.checkpoint.formats import FORMATS as KNOWN
from wan_core.checkpoint.reader import inspect_checkpoint, load_checkpoint
from wan_core.checkpoint.stored import take_parts
from wan_core.errors import CheckpointError

TENSORS = random_tensors(transformer_shapes(fps=False))
TENSORS["text_embedding.0.weight"] = TENSORS["text_embedding.0.weight"][:, :64].clone()


def write(path, stored, metadata=None):
    save_file({key: value.contiguous() for key, value in stored.items()}, path, metadata=metadata)
    return path


def numbers_of(path):
    """Every parameter of a file in float32, unpacked by the pack itself."""
    tensors, _, info = load_checkpoint(path)
    for name, each in info.stored.items():
        tensors[f"{name}.weight"] = each.numbers(take_parts(tensors, each))
    tensors.pop("scaled_fp8", None)
    return {key: tensor.float() for key, tensor in tensors.items()}, info


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_is_read_to_the_numbers_that_it_stands_for(name, tmp_path):
    row = FORMATS[name]
    form = row.write(TENSORS)
    found, info = numbers_of(write(tmp_path / "a.safetensors", form.stored, form.metadata))
    assert found.keys() == TENSORS.keys() and info.ignored == ()
    for key, meaning in form.meaning.items():
        torch.testing.assert_close(found[key], meaning, rtol=1e-5, atol=1e-6, msg=key)
        off = float((meaning - TENSORS[key]).abs().amax() / TENSORS[key].abs().amax())
        turned = 1 + (each.format.name.startswith("rotated") if (each := info.stored.get(key[:-7])) else 0)
        assert off < turned * max(BOUND[row.bound], BOUND["fp16"]), key  # turning back adds errors up


def test_every_row_of_the_packs_table_is_in_the_table_of_tests(tmp_path):
    seen = set()
    for name, row in FORMATS.items():
        form = row.write(TENSORS)
        info = inspect_checkpoint(write(tmp_path / f"{len(seen)}.safetensors", form.stored, form.metadata))[1]
        seen |= {each.format.name for each in info.stored.values()} or {info.dtype}
        assert (info.quantization == "") == (name in ("fp32", "fp16", "bf16", "fp8_e4m3fn", "fp8_e5m2"))
    rare = {row.name for row in KNOWN if row.name.startswith("floats with") or row.name == "float64"}
    unseen = {row.name for row in KNOWN} - seen - rare
    assert unseen == {"float8_e5m2 with a scale for each row", *E5M2_UNSEEN, "int8 with a scale for each group"}


E5M2_UNSEEN = {f"float8_e5m2 with a scale for each {by}" for by in ("group", "block")}


@pytest.mark.parametrize("dtype", [torch.float8_e5m2, torch.int8])
@pytest.mark.parametrize("by", ["row", "group", "block"])
def test_a_scale_of_any_granularity_is_applied_to_any_numbers(dtype, by, tmp_path):
    form = with_layers(TENSORS, scaled(dtype, "scales", by, size=32))
    found, _ = numbers_of(write(tmp_path / "a.safetensors", form.stored))
    for key, meaning in form.meaning.items():
        torch.testing.assert_close(found[key], meaning, rtol=1e-5, atol=1e-6, msg=key)


def test_a_scale_beside_floats_is_applied(tmp_path):
    stored = {**TENSORS, "blocks.0.ffn.0.scale_weight": torch.tensor(3.0)}
    found, info = numbers_of(write(tmp_path / "a.safetensors", stored))
    torch.testing.assert_close(found["blocks.0.ffn.0.weight"], TENSORS["blocks.0.ffn.0.weight"] * 3)
    assert info.quantization == "floats with a scale for each tensor"


@pytest.mark.parametrize("name", REFUSED)
def test_a_packing_that_is_not_read_is_refused_by_what_it_is(name, tmp_path):
    path = write(tmp_path / "a.safetensors", REFUSED[name].write(TENSORS))
    with pytest.raises(CheckpointError) as refusal:
        load_checkpoint(path)
    message = str(refusal.value)
    assert REFUSED[name].says in message and "download" not in message and str(path) in message


def test_numbers_without_a_scale_among_others_with_one_are_refused(tmp_path):
    stored = with_layers(TENSORS, scaled(torch.float8_e4m3fn, "weight_scale")).stored
    del stored["blocks.1.ffn.0.weight_scale"]
    with pytest.raises(CheckpointError, match=r"blocks\.1\.ffn\.0\.weight is fp8 without a scale, where 19 other"):
        inspect_checkpoint(write(tmp_path / "a.safetensors", stored))


def test_a_scale_of_no_matrix_is_refused(tmp_path):
    stored = {**TENSORS, "blocks.0.norm3.weight_scale": torch.ones(())}
    with pytest.raises(CheckpointError, match=r"blocks\.0\.norm3\.weight_scale is a scale, but of no matrix"):
        inspect_checkpoint(write(tmp_path / "a.safetensors", stored))


def test_a_smoothing_factor_of_another_length_is_refused(tmp_path):
    form = FORMATS["comfy_quant nvfp4, pre_quant_scale"].write(TENSORS)
    key = "blocks.0.ffn.0.pre_quant_scale"
    with pytest.raises(CheckpointError, match="which is no known format"):
        inspect_checkpoint(write(tmp_path / "a.safetensors", {**form.stored, key: form.stored[key][:7]}))


def test_formats_are_described_with_their_names(tmp_path):
    form = FORMATS["LightX2V int8"].write(TENSORS)
    info = inspect_checkpoint(write(tmp_path / "a.safetensors", form.stored))[1]
    assert str(info.weights) == "int8 with a scale for each row"
    assert "int8 with a scale for each row" in str(replace(info, unpacked=None).describe())
