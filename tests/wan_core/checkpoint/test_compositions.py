"""Any composition of prefixes, spellings, wrappers, dtypes, scales and containers: the weights, or a refusal.

SKYREELS_EXAMPLES sets how many are tried; 2000 take some minutes.
"""

from __future__ import annotations

import os
import tempfile
from functools import cache
from pathlib import Path

import torch
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from tests.comfy.file_formats import Form
from tests.comfy.format_table import FORMATS
from tests.diffusers_names import to_diffusers_names
from tests.tiny import random_state_dict, tiny_config, write_shards
from wan_core.checkpoint.key_names import PARTS, PREFIX_WORDS, marker_of
from wan_core.checkpoint.matrices import SCALES
from wan_core.checkpoint.reader import load_checkpoint
from wan_core.checkpoint.stored import take_parts
from wan_core.errors import CheckpointError

EXAMPLES = int(os.environ.get("SKYREELS_EXAMPLES", "60"))
CONFIG = tiny_config(dim=256, ffn_dim=256, num_heads=2, num_layers=2, text_len=512)
WEIGHTS = random_state_dict(CONFIG)
WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
DAMAGE = ("none",) * 6 + ("scale gone", "scale cut", "unknown part", "key gone", "shape", "int", "stranger", "twice")
Tensors = dict[str, torch.Tensor]


@cache
def form_of(name: str) -> Form:
    return FORMATS[name].write(WEIGHTS)


def wrapped(key: str, wrapper: str, place: int) -> str:
    """Put a wrapper's name where torch puts it: before one of the key's modules."""
    parts = key.split(".")
    place = min(place, len(parts) - 1)
    return ".".join([*parts[:place], wrapper, *parts[place:]])


def damaged(draw: st.DrawFn, tensors: Tensors, how: str) -> Tensors:
    """The same with one thing wrong."""
    tensors, keys = dict(tensors), sorted(tensors)
    scales = [key for key in keys if key.rpartition(".")[2] in SCALES or key.endswith("_scale")]
    scales = [key for key in scales if not key.endswith("pre_quant_scale")]  # which a layer may have or not
    matrices = [key for key in keys if key.startswith("blocks.") and tensors[key].ndim == 2]
    key = draw(st.sampled_from(scales if how.startswith("scale") and scales else matrices or keys))
    if how in ("scale gone", "key gone"):
        del tensors[key]
    elif how == "scale cut":
        tensors[key] = tensors[key].flatten()[:3].clone() if tensors[key].numel() > 3 else torch.ones(2, 5)
    elif how == "unknown part":
        tensors[key.rpartition(".")[0] + draw(st.sampled_from((".weight_zero", ".shift", ".scale_2")))] = torch.ones(
            256
        )
    elif how == "shape":
        tensors[key] = tensors[key][:-1].clone()
    elif how == "int":
        tensors[key] = torch.ones(
            tensors[key].shape, dtype=draw(st.sampled_from((torch.int8, torch.uint8, torch.int32)))
        )
    elif how == "twice":
        tensors["module." + key] = tensors[key].clone()
    else:
        tensors["blocks.0.adapter.lora.weight"] = torch.ones(2, 2)
    return tensors


def save(draw: st.DrawFn, folder: Path, tensors: Tensors, metadata: dict[str, str]) -> Path:
    """Write one file, shards, or a PyTorch file whose dictionaries lie in one another."""
    tensors = {key: value.contiguous().clone() for key, value in tensors.items()}
    kind = draw(st.sampled_from(("safetensors", "pt", "shards")))
    if kind == "pt" and not metadata:
        content: dict[str, object] = {}
        depth = draw(st.integers(0, 3))
        for key, value in tensors.items():
            inner, parts = content, key.split(".")
            cut = min(depth, len(parts) - 1)
            for part in parts[:cut]:
                inner = inner.setdefault(part, {})  # type: ignore[assignment]
            inner[".".join(parts[cut:])] = value
        torch.save(content, folder / "model.pt")
        return folder / "model.pt"
    if kind == "shards" and not metadata:
        return write_shards(folder / "model", CONFIG, tensors, count=2)
    save_file(tensors, folder / "model.safetensors", metadata=metadata)
    return folder / "model.safetensors"


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
    derandomize=EXAMPLES < 100,
)
@given(st.data())
def test_a_composition_gives_the_weights_or_a_refusal(data: st.DataObject) -> None:
    draw = data.draw
    name, how = draw(st.sampled_from(sorted(FORMATS))), draw(st.sampled_from(DAMAGE))
    form = form_of(name)
    tensors = damaged(draw, form.stored, how) if how != "none" else dict(form.stored)
    rest = draw(st.sampled_from((torch.float32, torch.float16, torch.bfloat16)))
    exact = {key for key in WEIGHTS if form.meaning[key].dtype == torch.float32}
    if draw(st.booleans()) and "fp" not in name:  # what is no matrix, in another dtype
        vectors = {key for key in tensors if key in WEIGHTS and tensors[key].ndim == 1}
        tensors |= {key: tensors[key].to(rest) for key in vectors}
        exact -= vectors
    if draw(st.booleans()):
        tensors = to_diffusers_names(tensors)
    words = draw(st.lists(st.sampled_from(sorted(PREFIX_WORDS)), max_size=3))
    prefix = "".join(word + "." for word in words)
    wrapper, place = draw(st.sampled_from((None, *WRAPPERS))), draw(st.integers(0, 6))
    tensors = {prefix + key: value for key, value in tensors.items()}
    if wrapper:
        tensors = {wrapped(key, wrapper, place) if "scaled_fp8" not in key else key: v for key, v in tensors.items()}
    if draw(st.booleans()):
        tensors[prefix + "model_type.SkyReels-V2-DF-14B-540P"] = torch.zeros(1)
    if draw(st.booleans()):  # another network of the same training
        tensors |= {f"critic.{key}": torch.zeros(2) for key in ("head.modulation", "head.head.weight")}
    with tempfile.TemporaryDirectory() as folder:
        path = save(draw, Path(folder), tensors, form.metadata)
        try:
            found, _, info = load_checkpoint(path)
        except CheckpointError as error:
            message = str(error)
            assert how != "none", message
            assert "download" not in message.replace(folder, "") and "\n" not in message
            event("refused")
            return
        info.describe()
        for layer, each in info.stored.items():
            found[f"{layer}.weight"] = each.numbers(take_parts(found, each))
        for key, meaning in form.meaning.items():
            if how == "int" and key.startswith("blocks."):
                continue  # with a scale beside them, ones of another dtype are a model as well, and no error
            tolerance = {"rtol": 1e-5, "atol": 1e-6} if key in exact else {"rtol": 0.01, "atol": 0.002}
            torch.testing.assert_close(found[key].float(), meaning, **tolerance, msg=f"{key} of {name}, {how}")
        event("read")
        del found  # a mapped file cannot be removed on Windows


def test_every_known_prefix_may_stand_before_a_marker() -> None:
    for word in (*PREFIX_WORDS, *PARTS):
        assert marker_of(f"{word}.model_type.X") == marker_of("module.model_type.X") == "X"
    assert marker_of("critic.model_type.X") is None
