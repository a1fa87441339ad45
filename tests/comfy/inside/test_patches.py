"""Patches that other nodes add to a MODEL: done as core's Wan transformer does them, refused, or named as unread."""

from __future__ import annotations

import importlib
import inspect
import logging
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from conditioning_scene import APART, conditioning, euler, files, forcing, load, no_work, sample
from measures import relative_error

__all__ = ["files", "no_work"]  # fixtures


def after_block(args: dict[str, Any]) -> dict[str, Any]:
    """A patch that uses all that it is shown."""
    change = args["vec"].mean() + args["x"].mean() + 0.1 * args["block_index"] + args["img_offset"]
    assert args["x"].shape[1] == 16 and args["vec"].shape[-1] == 256 and "grid_sizes" in args["transformer_options"]
    return {**args, "img": args["img"] * (1.1 + 0.1 * change)}


def after_attention(args: dict[str, Any]) -> torch.Tensor:
    """A patch that uses queries and keys by head, as MultiTalk's does."""
    batch, tokens, heads, width = args["q"].shape
    assert heads * width == args["x"].shape[-1] and args["k"].shape == (batch, tokens, heads, width)
    return args["x"] * (1 + 0.1 * args["q"].norm(dim=-1).mean())


PATCHES: dict[str, tuple[str, Callable[..., Any]]] = {
    "double_block": ("set_model_double_block_patch", after_block),
    "attn1_patch": ("set_model_attn1_patch", after_attention),
    "attn2_patch": ("set_model_attn2_patch", lambda args: args["x"] * 1.1),
}


def patched(model: Any, name: str) -> Any:
    model, (setter, patch) = model.clone(), PATCHES[name]
    getattr(model, setter)(patch)
    return model


def read_by_core(name: str) -> bool:
    return f'"{name}" in patches' in inspect.getsource(importlib.import_module("comfy.ldm.wan.model"))


@pytest.mark.parametrize("name", [name for name in PATCHES if read_by_core(name)])
def test_in_step_patches_do_what_they_do_in_cores_transformer(
    pack: ModuleType, files: dict[str, Path], name: str
) -> None:
    given = conditioning(1), conditioning(2)
    core = load(files, ours=False)
    expected = sample(patched(core, name), euler(), *given)
    assert relative_error(expected, sample(core, euler(), *given)) > 5e-3
    for model, sampler in ((load(files), euler()), (load(files), forcing()), (core, forcing())):
        assert relative_error(sample(patched(model, name), sampler, *given), expected) < 1e-3


@pytest.mark.parametrize("way", APART)
def test_patches_after_blocks_are_refused_where_frames_go_apart(
    pack: ModuleType, files: dict[str, Path], no_work: None, way: str
) -> None:
    options, known, words = APART[way]
    with pytest.raises(ValueError, match="WanUni3CControlnetApply.*" + words):
        sample(patched(load(files), "double_block"), forcing(**options), conditioning(1), conditioning(2), known)


def test_the_uni3c_node_finds_the_width_of_our_transformer(pack: ModuleType, files: dict[str, Path]) -> None:
    assert load(files).get_model_object("diffusion_model").dim == 256


def test_patches_that_no_wan_model_reads_are_named(
    pack: ModuleType, files: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    model, given = load(files), (conditioning(1), conditioning(2))
    plain = sample(model, euler(), *given)
    assert not caplog.records or "don't read these patches" not in caplog.text
    deaf = model.clone()
    deaf.set_model_attn1_output_patch(lambda out, options: out * 2)
    deaf.set_model_attn1_replace(lambda *args, **kwargs: None, "middle", 0)
    with caplog.at_level(logging.WARNING):
        assert torch.equal(sample(deaf, euler(), *given), plain)
    assert "don't read these patches: attn1, attn1_output_patch" in caplog.text
