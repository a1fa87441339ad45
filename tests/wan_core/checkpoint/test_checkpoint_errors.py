"""What cannot be loaded is refused with one sentence: what was seen, what is wanted, what to do."""

from __future__ import annotations

import json
import struct
import tempfile
from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from tests.tiny import random_state_dict, tiny_config, to_diffusers_names, write_shards, write_single
from wan_core.checkpoint.containers import read_header
from wan_core.checkpoint.reader import inspect_checkpoint, load_checkpoint
from wan_core.errors import CheckpointError


def refusal(path: Path) -> str:
    """The sentence that loading and inspecting refuse the path with."""
    with pytest.raises(CheckpointError) as loading:
        load_checkpoint(path, read=lambda _: pytest.fail("no tensor is read before the refusal"))
    with pytest.raises(CheckpointError) as inspecting:
        inspect_checkpoint(path)
    message = str(loading.value)
    assert message == str(inspecting.value)
    assert message.endswith(".") and "\n" not in message
    sentence = message.removesuffix(f" The file is {path}.")  # the one thing that may come behind the sentence
    assert ". " not in sentence.replace(str(path), "")
    return message


def write_keys(path: Path, *keys: str) -> Path:
    save_file({key: torch.zeros(2, 2) for key in keys}, path)
    return path


def with_header(path: Path, header: bytes, data: bytes = b"") -> Path:
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)
    return path


def test_another_kind_of_file_is_told_by_its_kind(tmp_path):  # all kinds are in test_foreign.py
    message = refusal(write_keys(tmp_path / "a.safetensors", "encoder.block.0.layer.0.SelfAttention.q.weight"))
    assert "looks like a T5 text encoder, but a SkyReels-V2 or Wan 2.1 diffusion model is needed; " in message


def test_a_file_of_no_known_kind_is_told_by_its_first_keys(tmp_path):
    message = refusal(write_keys(tmp_path / "a.safetensors", "alpha", "beta"))
    assert "is no SkyReels-V2 or Wan 2.1 diffusion model" in message
    assert "alpha" in message


def test_a_file_with_no_tensors_is_refused(tmp_path):
    assert "none at all" in refusal(with_header(tmp_path / "a.safetensors", b"{}"))


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("vace_blocks.0.before_proj.weight", "VACE"),
        ("img_emb.emb_pos", "FLF2V"),
        ("control_adapter.conv.weight", "camera"),
        ("patch_embedding_mask.weight", "SCAIL"),
        ("patch_embedding_global.weight", "WanDancer"),
        ("blocks.0.audio_cross_attn.q_linear.weight", "talking-head"),
        ("blocks.0.cam_encoder.weight", "ReCamMaster"),
    ],
)
def test_a_relative_with_more_modules_is_sent_to_the_hosts_loader(key, words, tmp_path):
    state_dict = {**random_state_dict(tiny_config()), key: torch.zeros(1)}
    message = refusal(write_single(tmp_path / "a.safetensors", tiny_config(), state_dict))
    assert words in message and "Load Diffusion Model" in message


def test_a_model_of_another_vae_is_sent_to_the_hosts_nodes(tmp_path):
    config = tiny_config(in_dim=48, out_dim=48)
    message = refusal(write_single(tmp_path / "a.safetensors", config, random_state_dict(config)))
    assert "makes latents of 48 channels, as Wan 2.2 5B does" in message and "Load Diffusion Model" in message


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"GGUF\x03\0\0\0" + bytes(64), "GGUF"),
        (b"PK\x03\x04" + bytes(64), "PyTorch"),
        (b"\x80\x02}q\x00.", "torch.save"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"", "0 bytes long"),
        (b"\x01\x02", "2 bytes long"),
        (bytes(range(256)) * 8, "isn't complete"),
        (bytes(64), "isn't complete"),
    ],
)
def test_content_of_another_format_is_told_whatever_its_suffix(content, words, tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    assert words in refusal(path)


@pytest.mark.parametrize(
    "header",
    [
        b"{}}",
        b"[]",
        b"[" * 100_000,
        b'{"a": ' + b"1" * 5000 + b"}",
        b"\xff\xfe{}",
        b'{"a": 3}',
        b'{"a": {"dtype": "F32", "shape": [1]}}',
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, true]}}',
        b'{"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F32", "shape": "1", "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F33", "shape": [1], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": ["F32"], "shape": [1], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}',
        b'{"__metadata__": {"a": 1}}',
        b'{"__metadata__": [1]}',
    ],
)
def test_a_corrupt_header_is_refused(header, tmp_path):
    assert "corrupt" in refusal(with_header(tmp_path / "a.safetensors", header, bytes(4)))


def test_a_truncated_file_is_told_with_both_lengths(tmp_path):
    path = write_single(tmp_path / "a.safetensors", tiny_config())
    content = path.read_bytes()
    path.write_bytes(content[:-1000])
    message = refusal(path)
    assert "truncated" in message and str(len(content)) in message and str(len(content) - 1000) in message


def test_a_missing_path_is_refused(tmp_path):
    assert "does not exist" in refusal(tmp_path / "none.safetensors")
    assert "cannot be opened" in refusal(Path("a\0b")) or "does not exist" in refusal(Path("a\0b"))


def test_an_empty_folder_is_refused(tmp_path):
    assert "is empty" in refusal(tmp_path)
    (tmp_path / "model.gguf").touch()
    assert "model.gguf" in refusal(tmp_path)


def test_a_folder_of_several_models_asks_for_one(tmp_path):
    for name in "ab":
        write_keys(tmp_path / f"{name}.safetensors", "x")
    message = refusal(tmp_path)
    assert "2 safetensors files" in message and "a.safetensors, b.safetensors" in message


@pytest.mark.parametrize("index", [True, False])
@pytest.mark.parametrize("chosen", ["", "model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors"])
def test_a_missing_shard_is_named(index, chosen, tmp_path):
    folder = write_shards(tmp_path / "a", tiny_config(), index=index)
    (folder / "model-00002-of-00003.safetensors").unlink()
    message = refusal(folder / chosen)
    assert "1 of the 3 shards" in message and "model-00002-of-00003.safetensors" in message.split(":", 1)[1]


@pytest.mark.parametrize(
    "content",
    ["{", "[]", "{}", '{"weight_map": {}}', '{"weight_map": {"a": 1}}', '{"weight_map": {"a": "../a.safetensors"}}'],
)
def test_a_json_that_is_no_index_is_refused(content, tmp_path):
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(content, encoding="utf-8")
    refusal(path)
    refusal(tmp_path)


def without(prefix: str, **changes):
    return {
        key: value
        for key, value in random_state_dict(tiny_config(num_layers=3, **changes)).items()
        if not key.startswith(prefix)
    }


@pytest.mark.parametrize(
    ("prefix", "words"),
    [
        ("blocks.1.", "block 1 is missing"),
        ("blocks.2.ffn.", "blocks.2.ffn.0.weight"),
        ("head.", "all of head"),
        ("patch_embedding.weight", "patch_embedding.weight"),
        ("time_embedding.0.", "time_embedding.0.weight"),
        ("blocks.0.ffn.0.weight", "blocks.0.ffn.0.weight"),
    ],
)
def test_missing_parameters_are_named(prefix, words, tmp_path):
    path = write_single(tmp_path / "a.safetensors", tiny_config(), without(prefix))
    if prefix == "head.":
        assert "head.head.weight" in refusal(path)
    else:
        assert words in refusal(path)


def test_a_whole_missing_part_is_named_once(tmp_path):
    state_dict = without("img_emb", model_type="i2v")
    message = refusal(write_single(tmp_path / "a.safetensors", tiny_config(), state_dict))
    assert "8 of the model's" in message and "all of img_emb;" in message


def test_missing_parameters_of_a_diffusers_file_are_named_as_the_model_names_them(tmp_path):
    state_dict = to_diffusers_names(without("blocks.1.norm3"))
    message = refusal(write_single(tmp_path / "a.safetensors", tiny_config(), state_dict))
    assert "blocks.1.norm3.weight, blocks.1.norm3.bias" in message


def test_a_parameter_of_the_wrong_shape_is_named(tmp_path):
    state_dict = {**random_state_dict(tiny_config()), "blocks.1.ffn.2.weight": torch.zeros(64, 64)}
    message = refusal(write_single(tmp_path / "a.safetensors", tiny_config(), state_dict))
    assert "blocks.1.ffn.2.weight has shape [64, 64]" in message and "[64, 128]" in message


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8])
def test_weights_that_are_no_floats_are_refused(dtype, tmp_path):
    state_dict = {key: value.to(dtype) for key, value in random_state_dict(tiny_config()).items()}
    message = refusal(write_single(tmp_path / "a.safetensors", tiny_config(), state_dict))
    assert str(dtype).removeprefix("torch.") in message and "bfloat16" in message


@pytest.mark.parametrize("heads", ["3", "0", "-2", "many", "1e400"])
def test_heads_that_cannot_be_are_refused(heads, tmp_path):
    path = write_single(tmp_path / "a.safetensors", tiny_config(), metadata={"config": "", "num_heads": heads})
    assert "num_heads" in refusal(path)


def test_a_json_number_in_the_config_metadata_that_is_no_table_is_ignored(tmp_path):
    path = write_single(tmp_path / "a.safetensors", tiny_config(dim=256), metadata={"config": json.dumps(7)})
    assert inspect_checkpoint(path)[0].num_heads == 2


def test_a_fraction_of_heads_is_refused(tmp_path):
    path = write_single(tmp_path / "a.safetensors", tiny_config(), metadata={"config": '{"num_heads": 2.5}'})
    assert "num_heads in the metadata is 2.5" in refusal(path)


def test_a_reader_that_fails_is_reported_with_the_file(tmp_path):
    path = write_single(tmp_path / "a.safetensors", tiny_config())

    def read(_):
        raise RuntimeError("disk on fire")

    with pytest.raises(CheckpointError, match=r"a\.safetensors cannot be read, .* \(disk on fire\)"):
        load_checkpoint(path, read=read)


# damage anywhere


@cache
def valid_bytes() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        config = tiny_config(dim=16, ffn_dim=16, freq_dim=16, text_dim=8, num_layers=1)
        return write_single(Path(folder) / "a.safetensors", config, marker="SkyReels-V2-DF-14B-720P").read_bytes()


def load_bytes(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.safetensors"
        path.write_bytes(content)
        state_dict, _, info = load_checkpoint(path)
        info.describe()
        del state_dict  # a mapped file cannot be removed on Windows


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_file_cut_anywhere_gives_a_checkpoint_error(data):
    cut = data.draw(st.integers(0, len(valid_bytes()) - 1))
    with pytest.raises(CheckpointError):
        load_bytes(valid_bytes()[:cut])


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_flipped_header_bytes_give_a_checkpoint_error_or_a_usable_model(data):
    content = bytearray(valid_bytes())
    header_end = 8 + int.from_bytes(content[:8], "little")
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, header_end - 1))] ^= data.draw(st.integers(1, 255))
    try:
        load_bytes(bytes(content))
    except CheckpointError:
        return


def test_a_header_length_that_reads_like_a_pickle_is_a_length(tmp_path):
    entries = {"a": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}}
    path = with_header(tmp_path / "a.safetensors", json.dumps(entries).encode().ljust(0x280), bytes(4))
    assert path.read_bytes().startswith(b"\x80\x02")
    assert read_header(path).tensors.keys() == entries.keys()
