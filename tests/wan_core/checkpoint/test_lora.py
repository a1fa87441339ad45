"""LoRA files put together at random: every module's change is right, or left out with a reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from tests.comfy import lora_formats as formats
from wan_core.checkpoint.containers import read_header, read_tensors
from wan_core.checkpoint.lora import fit_lora
from wan_core.checkpoint.lora_math import change_of
from wan_core.checkpoint.lora_settings import LoraSettings, find_settings
from wan_core.errors import CheckpointError, InputError

Tensors = dict[str, torch.Tensor]
RANK = formats.RANK
MODULES = ("blocks.0.self_attn.q", "blocks.0.cross_attn.o", "blocks.1.ffn.0", "blocks.1.ffn.2")
SHAPES = {f"{module}.weight": (32, 16) if "ffn.0" in module else (16, 32) for module in MODULES}
WEIGHTS = {name: torch.randn(shape, generator=torch.Generator().manual_seed(5)).double()
           for name, shape in SHAPES.items()}  # fmt: skip
PREFIXES = ("", "model.", "diffusion_model.", "base_model.model.", "transformer.", "pipe.dit.", "module.", "_orig_mod.",
            "generator_ema.", "_fsdp_wrapped_module.")  # fmt: skip
FLAT_PREFIXES = ("lora_unet_", "lora_unet__", "lora_transformer_", "lycoris_")
PAIRS = (("lora_A.weight", "lora_B.weight"), ("lora_A.default.weight", "lora_B.default.weight"), ("lora_A", "lora_B"),
         ("lora_down.weight", "lora_up.weight"), ("lora.down.weight", "lora.up.weight"))  # fmt: skip
ERRORS = {torch.float32: 1e-5, torch.float16: 5e-3, torch.bfloat16: 4e-2}
DAMAGE = ("half", "wide", "strange", "twice", "not finite", "whole numbers")


def low_rank(weight: torch.Tensor, generator: torch.Generator) -> formats.Parts:
    a, b = formats.random(generator, RANK, weight.shape[1]), formats.random(generator, weight.shape[0], RANK)
    return {"down": a, "up": b}, b @ a


KINDS: dict[str, Callable[[torch.Tensor, torch.Generator], formats.Parts]] = {
    "LoRA": low_rank,
    "DoRA": low_rank,
    "LoHa": formats.loha,
    "LoKr": formats.lokr,
    "LoKr in factors": formats.lokr_in_factors,
    "OFT": formats.oft,
    "difference": formats.difference,
}


@dataclass(frozen=True)
class Module:
    """How one module's adapter is written."""

    name: str
    kind: str
    spelled: str
    pair: tuple[str, str]
    alpha: float | None
    dtype: torch.dtype
    damage: str | None
    seed: int


@st.composite
def spellings(draw: st.DrawFn, module: str) -> str:
    """A module's name in any naming, with any prefixes and wrappers, with dots, without, or with both."""
    name = formats.diffusers(module) if draw(st.booleans()) else module
    if draw(st.booleans()):
        head, _, rest = name.partition(".")
        block, _, rest = rest.partition(".")
        name = f"{head}.{block}.{draw(st.sampled_from(('_fsdp_wrapped_module', '_orig_mod')))}.{rest}"
    dots = name.count(".")
    flattened = draw(st.sampled_from((0, 1, 2, dots)))
    prefix = "".join(draw(st.lists(st.sampled_from(PREFIXES), max_size=3)))
    if flattened:
        prefix += draw(st.sampled_from(FLAT_PREFIXES))
    return prefix + name.replace(".", "_", flattened)


@st.composite
def modules(draw: st.DrawFn, name: str) -> Module:
    """One module's adapter, whole or damaged."""
    kind = draw(st.sampled_from(tuple(KINDS)))
    damage = draw(st.sampled_from((None, None, None, *DAMAGE)))
    if damage == "half" and kind in ("OFT", "difference"):  # of one part
        damage = None
    return Module(name, kind, draw(spellings(name)), draw(st.sampled_from(PAIRS)),
                  draw(st.sampled_from((None, 0.5, 3.0, 12.0))), draw(st.sampled_from(tuple(ERRORS))), damage,
                  draw(st.integers(0, 99)))  # fmt: skip


def write(module: Module, told: LoraSettings) -> tuple[Tensors, torch.Tensor]:
    """Return a module's tensors and what they add to its weight."""
    weight = WEIGHTS[f"{module.name}.weight"]
    generator = torch.Generator().manual_seed(module.seed)
    parts, change = KINDS[module.kind](weight, generator)
    if module.kind in ("LoRA", "DoRA"):
        parts = {module.pair[part == "up"]: value for part, value in parts.items()}
        alpha = told.alpha if module.alpha is None else module.alpha
        rslora = module.alpha is None and told.values.get("use_rslora")
        change = change * (1 if alpha is None else alpha / (RANK**0.5 if rslora else RANK))
        if module.alpha is not None:
            parts["alpha"] = torch.tensor(module.alpha)
    if module.kind == "DoRA":
        lengths = (weight.norm(dim=1) * (1 + formats.random(generator, len(weight)).abs())).float().double()
        parts["lora_magnitude_vector"] = lengths
        change = torch.nn.functional.normalize(weight + change, dim=1) * lengths[:, None] - weight
    tensors = {f"{module.spelled}.{part}": value.to(module.dtype) for part, value in parts.items()}
    return damaged(tensors, module), change


def damaged(tensors: Tensors, module: Module) -> Tensors:
    """Return a module's tensors with its damage done."""
    numbers = [key for key, value in tensors.items() if value.numel() > 1]
    key = numbers[module.seed % len(numbers)]
    value = tensors[key]
    if module.damage == "half":
        del tensors[numbers[0] if module.kind == "DoRA" else key]
    elif module.damage == "wide":
        tensors[key] = torch.cat([value] * 3, dim=-1)
    elif module.damage == "strange":
        tensors[f"{module.spelled}.lora_C"] = value
    elif module.damage == "twice":
        tensors[f"model.{module.spelled}" + key.removeprefix(module.spelled)] = value
    elif module.damage == "not finite":
        tensors[key] = torch.full_like(value, torch.inf)
    elif module.damage == "whole numbers":
        tensors[key] = torch.ones(value.shape, dtype=torch.int8)
    return tensors


@st.composite
def files(draw: st.DrawFn) -> tuple[list[Module], LoraSettings]:
    """A file: some modules, and what is said about them outside."""
    names = draw(st.lists(st.sampled_from(MODULES), min_size=1, unique=True))
    said = draw(st.sampled_from(({}, {"r": RANK, "lora_alpha": 8}, {"r": RANK, "lora_alpha": 6, "use_rslora": True})))
    told = find_settings(Path("nowhere"), {"lora_adapter_metadata": json.dumps(said)} if said else {})
    return [draw(modules(name)) for name in names], told


@settings(max_examples=2000, deadline=None, suppress_health_check=list(HealthCheck))
@given(files())
def test_every_composition_is_right_or_left_out_with_a_reason(file: tuple[list[Module], LoraSettings]) -> None:
    chosen, told = file
    tensors: Tensors = {}
    wanted: dict[str, tuple[torch.Tensor, float]] = {}
    spoilt: set[str] = set()
    for module in chosen:
        written, change = write(module, told)
        tensors |= written
        if module.damage is None:
            wanted[f"{module.name}.weight"] = change, ERRORS[module.dtype]
        else:
            spoilt |= written.keys()
    if not wanted:
        with pytest.raises(InputError):
            fit_lora("x.safetensors", tensors, told, SHAPES)
        return
    adapters, report = fit_lora("x.safetensors", tensors, told, SHAPES)
    assert {adapter.target for adapter in adapters} == wanted.keys() and len(adapters) == len(wanted)
    assert {key for each in report.left_out for key in each.keys} == spoilt
    assert report.used == len(tensors) - len(spoilt) and report.changed == len(wanted)
    for adapter in adapters:
        change, bound = wanted[adapter.target]
        got = change_of(adapter.kind, adapter.parts, WEIGHTS[adapter.target].float(), adapter.scale)
        assert (got - change).norm() < bound * max(change.norm(), WEIGHTS[adapter.target].norm() * 0.1)


@pytest.mark.parametrize("name", ["lora.pt", "adapter_model.bin"])
def test_a_pickled_file_of_more_than_tensors_is_refused_unread(tmp_path: Path, name: str) -> None:
    ran = []

    class Trap:
        def __reduce__(self) -> Any:
            return ran.append, (1,)

    torch.save({"generator_lora": {"a.lora_A.weight": torch.ones(2)}, "trap": Trap()}, tmp_path / name)
    with pytest.raises(CheckpointError, match="tensors alone"):
        read_tensors(tmp_path / name)
    assert not ran


def test_the_generator_of_a_training_file_is_used_and_its_critic_named(tmp_path: Path) -> None:
    module = "base_model.model.model.blocks.0.self_attn.q"
    generator = {f"{module}.lora_A.weight": torch.ones(4, 32), f"{module}.lora_B.weight": torch.ones(16, 4)}
    critic = {key: -value for key, value in generator.items()}
    torch.save({"critic_lora": critic, "generator_lora": generator, "step": 3}, tmp_path / "lora.pt")
    file = tmp_path / "lora.pt"
    told = find_settings(file, read_header(file).metadata)
    (adapter,), report = fit_lora("lora.pt", read_tensors(file), told, SHAPES)
    assert adapter.parts["up"].equal(torch.ones(16, 4)) and report.used == 2
    assert [each.keys for each in report.left_out] == [tuple(f"critic_lora.{key}" for key in critic)]


def one_lora(tmp_path: Path, more: Tensors, metadata: dict[str, str] | None = None, tail: tuple[int, ...] = ()) -> Any:
    """What a file with one pair of ones makes of block 0's q, and its report."""
    module, file = "diffusion_model.blocks.0.self_attn.q", tmp_path / "lora.safetensors"
    pair = {f"{module}.lora_A.weight": torch.ones(4, 32, *tail), f"{module}.lora_B.weight": torch.ones(16, 4, *tail)}
    save_file({**pair, **more}, file, metadata)
    settings = find_settings(file, read_header(file).metadata)
    (adapter,), report = fit_lora(file.name, read_tensors(file), settings, SHAPES)
    change = change_of(adapter.kind, adapter.parts, torch.zeros(16, 32), adapter.scale)
    return change, str(report.describe())


def test_one_alpha_for_the_whole_file_is_used_wherever_it_stands(tmp_path: Path) -> None:
    for more, metadata, source in (
        ({"lora_alpha": torch.tensor(8.0)}, None, "lora_alpha"),
        ({}, {"lora_alpha": "8", "r": "4"}, "metadata"),
        ({}, {"lora_alpha": "8.0", "use_rslora": "False"}, "metadata"),
    ):
        change, said = one_lora(tmp_path, more, metadata)
        assert change.eq(8.0).all() and said.startswith("lora.safetensors: 2 of 2 keys used")
        assert f"alpha 8 is from {source}" in said.replace("8.0", "8")


def test_a_matrix_that_is_stored_as_a_convolution_of_one_pixel_is_a_matrix(tmp_path: Path) -> None:
    change, said = one_lora(tmp_path, {}, tail=(1, 1))
    assert change.eq(4.0).all() and "2 of 2 keys used" in said


def test_a_whole_file_that_cannot_be_used_is_not_to_be_downloaded_again(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"part of the adapter is not known.*Choose another file") as refusal:
        one_lora(tmp_path, {"diffusion_model.blocks.0.self_attn.q.lora_scaling": torch.ones(1)})
    assert "ownload" not in str(refusal.value)
