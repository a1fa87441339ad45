"""load_checkpoint and inspect_checkpoint on every released form of file."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.tiny import (
    heads_metadata,
    random_state_dict,
    tiny_config,
    to_comfy_quant,
    to_diffusers_names,
    to_fp8,
    to_scaled_fp8,
    write_diffusers_folder,
    write_shards,
    write_single,
)
from wan_core.checkpoint import reader
from wan_core.checkpoint.reader import inspect_checkpoint, load_checkpoint, normalize_state_dict
from wan_core.checkpoint.variants import CHOICES
from wan_core.model.config import PRESETS, WanConfig

LOADED = {"text_len": 512}  # no file tells the text length
MARKER = "SkyReels-V2-DF-14B-720P"


def assert_same(loaded, wanted):
    assert set(loaded) == set(wanted)
    for key, value in wanted.items():
        assert loaded[key].dtype == value.dtype
        assert torch.equal(loaded[key].flatten().view(torch.uint8), value.flatten().view(torch.uint8)), key


@pytest.fixture(params=[{}, {"inject_sample_info": True}, {"model_type": "i2v"}], ids=["t2v", "fps", "i2v"])
def config(request) -> WanConfig:
    return tiny_config(**LOADED, **request.param)


def write_form(form: str, folder: Path, config: WanConfig) -> Path:
    """Write the model in one of the released forms; gives the path a user would choose."""
    if form == "single":
        return write_single(folder / "model.safetensors", config)
    if form == "prefix":
        return write_single(folder / "model.safetensors", config, prefix="model.diffusion_model.")
    if form == "marker":
        return write_single(folder / "model.safetensors", config, marker=MARKER)
    if form == "diffusers names":
        return write_single(folder / "model.safetensors", config, to_diffusers_names(random_state_dict(config)))
    if form == "pipeline folder":
        return write_diffusers_folder(folder / "pipeline", config)
    shards = write_shards(folder / "shards", config, index=form != "shards without index")
    inside = {
        "folder": "",
        "index": "model.safetensors.index.json",
        "first shard": "model-00001-of-00003.safetensors",
        "last shard": "model-00003-of-00003.safetensors",
        "shards without index": "model-00002-of-00003.safetensors",
    }
    return shards / inside[form]


FORMS = (
    "single",
    "prefix",
    "marker",
    "diffusers names",
    "pipeline folder",
    "folder",
    "index",
    "first shard",
    "last shard",
    "shards without index",
)


@pytest.mark.parametrize("form", FORMS)
def test_every_released_form_loads_to_the_same_parameters(form, config, tmp_path):
    path = write_form(form, tmp_path, config)
    state_dict, found, info = load_checkpoint(path)
    assert found == config == info.config
    assert_same(state_dict, random_state_dict(config))
    assert info.path == path
    assert len(info.files) == {"pipeline folder": 2}.get(form, 1 if FORMS.index(form) < 4 else 3)
    assert info.layout == ("diffusers" if form in ("diffusers names", "pipeline folder") else "original")
    assert info.prefix == ("model.diffusion_model." if form == "prefix" else "")
    assert info.marker == (MARKER if form == "marker" else None)
    assert (info.dtype, info.quantization, info.ignored) == ("float32", "", ())


@pytest.mark.parametrize("form", FORMS)
def test_inspecting_finds_what_loading_finds(form, tmp_path):
    path = write_form(form, tmp_path, tiny_config(**LOADED))
    _, config, info = load_checkpoint(str(path))
    assert inspect_checkpoint(str(path)) == (config, info)


def test_a_header_is_read_once_also_where_the_variant_is_chosen(tmp_path, monkeypatch):
    path = write_single(tmp_path / "a.safetensors", tiny_config())
    read, count = reader.read_header, []
    monkeypatch.setattr(reader, "read_header", lambda file: count.append(file) or read(file))
    _, _, info = load_checkpoint(path, variant=CHOICES[-1])
    assert count == [path] and (info.variant, info.variant_source) == (CHOICES[-1], "chosen")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_dtype_of_the_file_is_kept(dtype, tmp_path):
    state_dict = random_state_dict(tiny_config(), dtype=dtype)
    loaded, _, info = load_checkpoint(write_single(tmp_path / "a.safetensors", tiny_config(), state_dict))
    assert_same(loaded, state_dict)
    assert getattr(torch, info.dtype) == dtype


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_plain_fp8_is_kept(dtype, tmp_path):
    state_dict = to_fp8(random_state_dict(tiny_config()), dtype)
    loaded, _, info = load_checkpoint(write_single(tmp_path / "a.safetensors", tiny_config(), state_dict))
    assert_same(loaded, state_dict)
    assert (getattr(torch, info.dtype), info.quantization) == (dtype, "")


@pytest.mark.parametrize("convert", [to_scaled_fp8, to_comfy_quant])
@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
def test_fp8_with_scale_keys_is_kept_as_it_is(convert, prefix, tmp_path):
    state_dict = convert(random_state_dict(tiny_config()))
    path = write_single(tmp_path / "a.safetensors", tiny_config(), state_dict, prefix=prefix)
    loaded, _, info = load_checkpoint(path)
    assert_same(loaded, state_dict)
    assert (info.dtype, info.quantization) == ("float8_e4m3fn", "float8_e4m3fn with a scale for each tensor")
    assert "float8_e4m3fn with one scale" in str(info.describe())


def test_scale_keys_follow_their_layer_from_diffusers_names(tmp_path):
    state_dict = to_scaled_fp8(random_state_dict(tiny_config()))
    renamed = to_diffusers_names(state_dict)
    assert "blocks.0.attn1.to_q.scale_weight" in renamed
    loaded, _, _ = load_checkpoint(write_single(tmp_path / "a.safetensors", tiny_config(), renamed))
    assert_same(loaded, state_dict)


def test_layer_names_in_the_quantization_metadata_become_original(tmp_path):
    layers = {"layers": {"model.diffusion_model.blocks.0.ffn.0": {"format": "float8_e4m3fn"}}}
    path = write_single(
        tmp_path / "a.safetensors",
        tiny_config(),
        to_scaled_fp8(random_state_dict(tiny_config())),
        prefix="model.diffusion_model.",
        metadata={"_quantization_metadata": json.dumps(layers)},
    )
    stored = inspect_checkpoint(path)[1].stored
    assert [name for name, each in stored.items() if each.matrix.format == "float8_e4m3fn"] == ["blocks.0.ffn.0"]


def test_a_vae_in_the_same_file_is_left_out(tmp_path):
    state_dict = random_state_dict(tiny_config())
    both = {"model.diffusion_model." + key: value for key, value in state_dict.items()}
    both["first_stage_model.conv1.weight"] = torch.zeros(1)
    loaded, _, _ = load_checkpoint(write_single(tmp_path / "a.safetensors", tiny_config(), both))
    assert_same(loaded, state_dict)


def test_keys_that_no_part_of_the_model_reads_are_left_out_and_named(tmp_path):
    state_dict = random_state_dict(tiny_config())
    path = write_single(tmp_path / "a.safetensors", tiny_config(), {**state_dict, "extra.gate.weight": torch.ones(3)})
    loaded, _, info = load_checkpoint(path)
    assert_same(loaded, state_dict)
    assert info.ignored == ("extra.gate.weight",)
    assert "extra.gate.weight" in str(info.describe())


def test_a_reader_of_the_host_is_used_for_every_file(tmp_path):
    folder = write_shards(tmp_path / "a", tiny_config(), count=3)
    seen = []

    def read(path):
        seen.append(path)
        return load_file(path)

    load_checkpoint(folder, read=read)
    assert [os.path.basename(path) for path in seen] == [f"model-0000{n}-of-00003.safetensors" for n in (1, 2, 3)]
    assert all(type(path) is str for path in seen)


def test_a_state_dict_alone_is_normalized():
    state_dict = random_state_dict(tiny_config(model_type="i2v", inject_sample_info=True))
    for naming in (state_dict, to_diffusers_names(state_dict)):
        marked = {**naming, "model_type." + MARKER: torch.zeros(1)}
        assert_same(normalize_state_dict(marked), state_dict)


# the number of heads


def test_heads_are_named_in_the_metadata_as_comfyui_reads_it(tmp_path):
    config = tiny_config(num_heads=4, **LOADED)
    assert inspect_checkpoint(write_single(tmp_path / "a.safetensors", config))[0] == config


@pytest.mark.parametrize(
    "metadata", [{"config": '{"num_heads": 8}'}, {"config": "", "num_heads": "8"}, {"config": "[]", "num_heads": "8"}]
)
def test_heads_are_named_in_plain_metadata_too(metadata, tmp_path):
    path = write_single(tmp_path / "a.safetensors", tiny_config(), metadata=metadata)
    assert inspect_checkpoint(path)[0].num_heads == 8


def test_heads_of_a_config_json_beside_the_file_count_only_if_its_width_fits(tmp_path):
    config = tiny_config(dim=256, num_heads=4)
    path = write_single(tmp_path / "a.safetensors", config, metadata={"config": ""})
    assert inspect_checkpoint(path)[0].num_heads == 2  # 256 // 128
    for beside, heads in (
        ({"dim": 5120, "num_heads": 40}, 2),
        ({"dim": 256, "num_heads": 4}, 4),
        ({"num_attention_heads": 8, "attention_head_dim": 32}, 8),
        ({"num_attention_heads": 8, "attention_head_dim": 128}, 2),
    ):
        (tmp_path / "config.json").write_text(json.dumps(beside), encoding="utf-8")
        assert inspect_checkpoint(path)[0].num_heads == heads
    (tmp_path / "config.json").write_bytes(b"\xff{")
    assert inspect_checkpoint(path)[0].num_heads == 2


# only the header is read


def write_hollow(path: Path, shapes: dict[str, tuple[int, ...]], marker: str | None = None) -> Path:
    """A bf16 file of full size that takes no disk: a true header, and a hole where the data would be."""
    entries, end = {}, 0
    for key, shape in {**shapes, **({"model_type." + marker: (1,)} if marker else {})}.items():
        begin, end = end, end + 2 * torch.Size(shape).numel()
        entries[key] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
    header = json.dumps(entries).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + end)
    return path


sparse = pytest.mark.skipif(sys.platform == "win32", reason="files with holes take their full size on Windows")


@sparse
@pytest.mark.parametrize("name", PRESETS)
def test_a_released_model_of_full_size_is_recognised(name, tmp_path):
    released = PRESETS[name]
    path = write_hollow(tmp_path / f"SkyReels-V2-{name}" / "model.safetensors", released.config.parameter_shapes())
    config, info = inspect_checkpoint(path)
    assert config == released.config
    assert (info.variant, info.variant_source, info.dtype) == (name, "name", "bfloat16")
    text = str(info.describe())
    for word in (name, f"{config.num_layers} layers x {config.dim}", "bfloat16", "1 file"):
        assert word in text
    assert f"{released.width}x{released.height}, {released.base_num_frames} video frames" in text
    assert f"fps weights: {'yes' if name == 'DF-1.3B-540P' else 'no'}" in text


@sparse
@pytest.mark.parametrize(
    ("spelling", "preset", "variant", "source"),
    [
        ("Wan2_1-SkyReels-V2-DF-1_3B-540P_fp32", "DF-1.3B-540P", "DF-1.3B-540P", "name"),
        ("Wan2_1-SkyReels-V2-DF-14B-540P_fp8_e4m3fn", "DF-14B-540P", "DF-14B-540P", "name"),
        ("skyreels-v2-df-14b-720p-Q4", "DF-14B-720P", "DF-14B-720P", "name"),
        ("Skyreels_V2_t2v_14B_720p", "T2V-14B-720P", "T2V-14B-720P", "name"),
        ("df-14b-720p", "DF-14B-720P", "DF-14B-720P", "name"),
        ("model", "DF-1.3B-540P", "DF-1.3B-540P", "shape"),
        ("model", "I2V-1.3B-540P", "I2V-1.3B-540P", "shape"),
        ("model", "DF-14B-720P", None, None),
        ("model", "I2V-14B-720P", None, None),
        ("Wan2_1-T2V-14B-540P", "T2V-14B-540P", "Wan 2.1 T2V 14B", "name"),  # Wan 2.1's own file
        ("SkyReels-V2-DF-14B-540P", "I2V-14B-540P", None, None),  # a name that the shape belies
    ],
)
def test_the_variant_is_read_from_the_name_or_the_shape(spelling, preset, variant, source, tmp_path):
    path = write_hollow(tmp_path / f"{spelling}.safetensors", WanConfig.preset(preset).parameter_shapes())
    info = inspect_checkpoint(path)[1]
    assert (info.variant, info.variant_source) == (variant, source)


@sparse
def test_the_marker_key_counts_more_than_the_name(tmp_path):
    shapes = WanConfig.preset("DF-14B-720P").parameter_shapes()
    info = inspect_checkpoint(write_hollow(tmp_path / "SkyReels-V2-T2V-14B-540P.safetensors", shapes, MARKER))[1]
    assert (info.variant, info.variant_source, info.marker) == ("DF-14B-720P", "marker", MARKER)
    assert "shift 8, guidance 6, 30 steps" in str(info.describe())


@sparse
def test_the_folder_of_a_download_cache_names_the_variant(tmp_path):
    folder = tmp_path / "models--Skywork--SkyReels-V2-I2V-14B-720P-Diffusers" / "snapshots" / "0123abc" / "transformer"
    shapes = WanConfig.preset("I2V-14B-720P").parameter_shapes()
    path = write_hollow(folder / "diffusion_pytorch_model.safetensors", shapes)
    assert inspect_checkpoint(path)[1].variant == "I2V-14B-720P"


@sparse
@pytest.mark.parametrize(
    ("config", "words"),
    [
        (
            WanConfig.preset("DF-14B-540P"),
            "a text-to-video 14B model, which could be SkyReels-V2 DF",
        ),
        (WanConfig.preset("I2V-14B-540P"), "an image-to-video 14B model, which could be SkyReels-V2 I2V or Wan 2.1"),
        (WanConfig(dim=1536, ffn_dim=8960, num_heads=12, num_layers=30), "Wan 2.1 T2V 1.3B"),
        (WanConfig(), "a Wan t2v model of a size that SkyReels-V2 was not released in"),
    ],
)
def test_a_model_that_cannot_be_told_is_described_as_such(config, words, tmp_path):
    path = write_hollow(tmp_path / "model.safetensors", config.parameter_shapes())
    text = str(inspect_checkpoint(path)[1].describe())
    assert words in text
    assert "Recommended" not in text


def test_heads_metadata_is_what_comfyui_parses():
    assert json.loads(heads_metadata(tiny_config())["config"])["transformer"] == {"num_heads": 2}
