"""A LoRA file on a MODEL: what it changes is `wan_core.checkpoint.lora`'s, how a MODEL is changed is the host's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.utils
import comfy.weight_adapter
import torch

from ...checkpoint.containers import read_header, read_tensors
from ...checkpoint.lora import Adapter, fit_lora
from ...checkpoint.lora_math import KINDS, change_of
from ...checkpoint.lora_settings import find_settings
from ...checkpoint.matrices import SMOOTHING
from ...checkpoint.report import Report
from ...errors import CheckpointError
from ..node_text import tell

HOST_PREFIX = "diffusion_model."


class ChangedWeight(comfy.weight_adapter.WeightAdapterBase):
    """A patch of the host's kind that computes its change with our formulas.

    `weights` is (number of the kind, scale, names of the parts, *their tensors): the host copies patches by giving
    tuples of them to the constructor.
    """

    name = "skyreels_v2"

    def __init__(self, loaded_keys: set[str], weights: tuple[Any, ...]):
        self.loaded_keys = loaded_keys
        self.weights = weights

    def calculate_weight(
        self,
        weight: torch.Tensor,
        key: str,
        strength: float,
        strength_model: float,
        offset: Any,
        function: Any,
        intermediate_dtype: torch.dtype = torch.float32,
        original_weight: Any = None,
    ) -> torch.Tensor:
        """Return the weight with the change added to it, in its own memory."""
        number, scale, names, *tensors = self.weights
        cast = comfy.model_management.cast_to_device
        parts = {name: cast(part, weight.device, part.dtype) for name, part in zip(names, tensors, strict=True)}
        factors = parts.pop(SMOOTHING, torch.ones(1, device=weight.device)).float()
        change = change_of(KINDS[number], parts, weight.float() * factors, scale)
        # a column that is multiplied with 0 afterwards changes nothing
        change = change / factors.where(factors != 0, torch.inf)
        weight += function((strength * change).type(weight.dtype))
        return weight


def apply_lora(model: Any, path: str | Path, strength: float) -> tuple[Any, Report]:
    """Patch a LoRA into a copy of a MODEL.

    Args:
        model: a MODEL (ModelPatcher) of Wan kind, ours or core's.
        path: the LoRA's file.
        strength: factor of its change; 0 leaves the model as it is, negative ones turn it round.

    Returns:
        The patched copy, and what was made of the file.

    Raises:
        CheckpointError: the file cannot be read.
        InputError: nothing in the file fits the model.
    """
    path = Path(path)
    if not path.is_file():  # a pipe would never end
        raise CheckpointError("{path} is not a file: choose a LoRA from the list.", path=path)
    settings = find_settings(path, read_header(path).metadata)
    tensors = read_tensors(path, lambda file: comfy.utils.load_torch_file(file, safe_load=True))
    shapes = weight_shapes(model.model.diffusion_model)
    adapters, report = fit_lora(path.name, tensors, settings, shapes, strength)
    patched = model.clone()
    unreached = parameters_out_of_reach(model.model.diffusion_model)
    smoothed = smoothed_weights(model.model.diffusion_model)
    for adapter in adapters:
        key = HOST_PREFIX + adapter.target
        if adapter.target in unreached:
            replace_parameter(patched, key, adapter, strength)
        else:
            patched.add_patches({key: host_patch(adapter, smoothed.get(adapter.target))}, strength)
    tell("lora", report.describe())
    return patched, report


def weight_shapes(transformer: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    """Return parameter name -> shape of the weight, whatever it is stored as: a packed one has a shape of its own."""
    shapes = {}
    for prefix, module in transformer.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            shape = tuple(parameter.shape)
            if isinstance(module, torch.nn.Linear) and name in ("weight", "bias"):
                shape = (module.out_features, module.in_features)[: 2 if name == "weight" else 1]
            shapes[f"{prefix}.{name}".removeprefix(".")] = shape
    return shapes


def parameters_out_of_reach(transformer: torch.nn.Module) -> set[str]:
    """Return the parameters that the host's patches skip: those of modules that have modules in them."""
    return {
        f"{prefix}.{name}"
        for prefix, module in transformer.named_modules()
        if next(module.children(), None) is not None
        for name, _ in module.named_parameters(recurse=False)
    }


def smoothed_weights(transformer: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return weight -> a factor for each of its columns, which the host's layer puts on its input instead."""
    layers = ((name, getattr(module, SMOOTHING, None)) for name, module in transformer.named_modules())
    return {f"{name}.weight": factors for name, factors in layers if factors is not None}


def host_patch(adapter: Adapter, factors: torch.Tensor | None = None) -> Any:
    """Return what the host patches a weight with: its own kind where it computes the same, which other nodes know.

    Args:
        adapter: it.
        factors: of the weight's columns, which are not in the weight that the host patches.
    """
    kind, parts, scale = adapter.kind, adapter.parts, adapter.scale
    if factors is not None:
        parts = {**parts, SMOOTHING: factors}
        return ChangedWeight(set(adapter.keys), (KINDS.index(kind), scale, tuple(parts), *parts.values()))
    if kind.name == "LoRA" and parts.keys() == {"up", "down"}:
        alpha = scale * parts["down"].shape[0]
        return comfy.weight_adapter.LoRAAdapter(
            set(adapter.keys), (parts["up"], parts["down"], alpha, None, None, None)
        )
    if kind.name == "difference":
        return ("diff", tuple(parts.values()))
    return ChangedWeight(set(adapter.keys), (KINDS.index(kind), scale, tuple(parts), *parts.values()))


def replace_parameter(patched: Any, key: str, adapter: Adapter, strength: float) -> None:
    """Put another parameter in the place of one that the host's patches skip, such as a block's modulation."""
    before = patched.get_model_object(key)
    weight = before.detach().float().cpu()
    change = strength * change_of(adapter.kind, adapter.parts, weight, adapter.scale)
    patched.add_object_patch(key, torch.nn.Parameter((weight + change).to(before.dtype), requires_grad=False))
