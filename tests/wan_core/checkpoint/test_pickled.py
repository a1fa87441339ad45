"""PyTorch files as training scripts save them: which weights are taken, and that nothing but tensors is ever read."""

from __future__ import annotations

import os
import pickle
import time
import zipfile
from pathlib import Path

import pytest
import torch

from tests.tiny import random_state_dict, tiny_config, to_diffusers_names, write_single
from wan_core.checkpoint import pickled
from wan_core.checkpoint.reader import inspect_checkpoint, load_checkpoint
from wan_core.errors import CheckpointError

CONFIG = tiny_config(dim=256, num_heads=2, text_len=512)
WEIGHTS = random_state_dict(CONFIG, dtype=torch.bfloat16)
OTHERS = random_state_dict(CONFIG, seed=1, dtype=torch.bfloat16)


def under(prefix: str, weights: dict[str, torch.Tensor] = WEIGHTS) -> dict[str, torch.Tensor]:
    return {prefix + key: value for key, value in weights.items()}


FORMS = {
    "Self Forcing": {"generator_ema": under("model.")},
    "CausVid": {"generator": under("model.")},
    "Causal Forcing": {"generator": under("model.", OTHERS), "generator_ema": under("model._fsdp_wrapped_module.")},
    "a trainer's": {"generator": under("model."), "critic": under("model.", OTHERS), "step": 600, "lr": [1e-5]},
    "Lightning's": {"state_dict": under("model.diffusion_model."), "epoch": 3},
    "a bare state_dict": WEIGHTS,
    "compiled, wrapped": {"module": under("_orig_mod.module.")},
    "diffusers names": {"generator_ema": under("model.", to_diffusers_names(WEIGHTS))},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".ckpt"])
def test_a_file_gives_the_weights_that_its_authors_sample_with(form, suffix, tmp_path):
    path = tmp_path / f"model{suffix}"
    torch.save(FORMS[form], path)
    found, config, info = load_checkpoint(path)
    assert config == CONFIG and found.keys() == WEIGHTS.keys()
    assert all(torch.equal(found[key], value) for key, value in WEIGHTS.items())
    assert inspect_checkpoint(path)[1] == info


def test_which_of_two_is_a_choice_and_the_other_one_is_named(tmp_path):
    path = tmp_path / "causal_forcing.pt"
    torch.save(FORMS["Causal Forcing"], path)
    for part, weights in (("auto", WEIGHTS), ("generator_ema", WEIGHTS), ("generator", OTHERS)):
        found, _, info = load_checkpoint(path, part=part)
        assert all(torch.equal(found[key], value) for key, value in weights.items())
        assert len(info.others) == 1 and f"the file also has '{info.others[0]}'" in str(info.describe())
    with pytest.raises(CheckpointError, match=r"2 Wan models, .* and 'params_ema' is asked for"):
        load_checkpoint(path, part="params_ema")


def test_two_that_nothing_chooses_between_are_refused(tmp_path):
    path = tmp_path / "two.pt"
    torch.save({"model": WEIGHTS, "net": OTHERS}, path)
    with pytest.raises(CheckpointError, match=r"2 Wan models, under 'model\.', 'net\.'"):
        load_checkpoint(path)


def test_a_name_of_its_family_is_told(tmp_path):
    path = tmp_path / "self_forcing_dmd.pt"
    torch.save(FORMS["Self Forcing"], path)
    info = inspect_checkpoint(path)[1]
    assert (info.variant, info.variant_source) == ("Self Forcing", "name")
    assert str(info.describe()).startswith("Self Forcing, a causal few-step model (by the name of its file or folder)")


class Evil:
    """Writes a file when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("owned",)


@pytest.mark.parametrize("protocol", [2, 4])
def test_no_code_of_a_file_is_run(protocol, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"generator": under("model."), "callback": Evil()}, tmp_path / "zip.pt", pickle_protocol=protocol)
    (tmp_path / "bare.pt").write_bytes(pickle.dumps({"generator": Evil()}, protocol))
    for name, words in (("zip.pt", "as a PyTorch file of tensors alone"), ("bare.pt", "a pickled file of Python")):
        with pytest.raises(CheckpointError, match=words):
            load_checkpoint(tmp_path / name)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("cut", [5, 100, 5000, -1, -500])
def test_a_cut_file_is_refused(cut, tmp_path):
    torch.save(FORMS["Self Forcing"], tmp_path / "whole.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "whole.pt").read_bytes()[:cut])
    with pytest.raises(CheckpointError):
        load_checkpoint(tmp_path / "cut.pt")


@pytest.mark.parametrize("content", [[], {}, {"step": 3}, {"a": {"b": {}}}, torch.zeros(3), "text"])
def test_a_file_without_named_tensors_is_refused(content, tmp_path):
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match="without tensors under names"):
        load_checkpoint(tmp_path / "a.pt")


def test_an_old_file_that_cannot_be_mapped_is_told_what_to_do(tmp_path):
    torch.save(WEIGHTS, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(CheckpointError, match=r"before 1\.6, .* save it again with torch\.save"):
        load_checkpoint(tmp_path / "old.pt")


def test_a_table_that_grows_on_unpacking_is_not_unpacked(tmp_path):
    path = tmp_path / "bomb.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb/data.pkl", b"\0" * (pickled.MAX_TABLE_BYTES + 1))
    start = time.monotonic()
    with pytest.raises(CheckpointError, match="without tensors under names"):
        load_checkpoint(path)
    assert time.monotonic() - start < 5


def test_only_the_header_is_read_before_the_weights(tmp_path):
    """A mapped file's tensors take no memory; a safetensors file of the same name is no other case."""
    path = tmp_path / "model.pt"
    torch.save(WEIGHTS, path)
    same = write_single(tmp_path / "model.safetensors", CONFIG, WEIGHTS, metadata={"config": ""})
    theirs, ours = inspect_checkpoint(same)[1], inspect_checkpoint(path)[1]
    assert (ours.config, ours.dtype, ours.layout, ours.prefix) == (theirs.config, theirs.dtype, theirs.layout, "")
    assert Path(ours.files[0]) == path
