"""The MODEL whose transformer is elsewhere: it has the names and shapes of the weights, and asks a group for answers.

Everything else is the host's as before: guiders, samplers, previews, caches of finished blocks, which the group holds.
What a node does to a MODEL is sent along where it is weights, and refused where it is a function inside of the blocks.
"""

from __future__ import annotations

import copy
import uuid
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import comfy.model_patcher
import folder_paths
import torch

from ...errors import InputError
from ...model.kv_cache import KVCache
from ...model.tensor_checks import check_inputs
from ..loading.loader import HELD_IDENTITY
from ..loading.lora import parameters_out_of_reach
from ..long.identity import weights_identity
from ..model.base_model import SkyReelsV2
from ..model.core_parts import is_replaced
from ..model.multigpu import COPIES
from ..model.transformer import HostWanModel
from .group import Group, Place
from .messages import CacheCall, Call, Weights, on_device
from .ray_host import ray_module

PREFIX = "diffusion_model."
CPU = torch.device("cpu")
# options that hold functions for the inside of the transformer
FUNCTIONS = ("patches", "patches_replace", "optimized_attention_override")


class RemoteWanModel(HostWanModel):
    """A transformer without numbers, whose forward passes are computed by a group."""

    group: Group

    def predict(
        self,
        x: torch.Tensor,
        t: torch.Tensor,
        context: torch.Tensor,
        cache: KVCache | None = None,
        transformer_options: dict[str, Any] | None = None,
        references: Sequence[torch.Tensor] = (),
        **inputs: Any,
    ) -> torch.Tensor:
        """Return the velocity [B, C, f, H, W]; see `WanModel.forward`. `Raises: InputError` for what can't be sent."""
        options = transformer_options or {}
        check_inputs(self.config, x, t, context, bool(references))
        refuse_functions(options)
        sent = {
            **inputs,
            "references": tuple(references),
            "transformer_options": {"rope_options": options.get("rope_options")},
        }
        sent = {name: on_device(value, CPU) for name, value in sent.items()}
        call = Call(x.cpu(), t.cpu(), context.cpu(), sent, None if cache is None else self.told(cache))
        return self.group.run(call).to(x)

    def _forward(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        if is_replaced(self, "forward_orig"):
            refuse_inside("TeaCache or MagCache")
        return super()._forward(*args, **kwargs)

    def told(self, cache: KVCache) -> CacheCall:
        """Return how a cache is used, for those who hold it; they forget it when the host does."""
        key = vars(cache).get("remote_key")
        if key is None:
            key = cache.remote_key = uuid.uuid4().hex  # type: ignore[attr-defined]
            weakref.finalize(cache, self.group.forget, key)
        keeps = cache.parts[0].new_blocks > 0
        return CacheCall(key, len(self.blocks), cache.block_size, cache.asked, keeps, cache.budget)

    def room(self) -> int:
        """Return the bytes free for caches in the whole group, by its fullest process."""
        return self.group.spare() * max(len(self.group.actors), 1)


class RemotePatcher(comfy.model_patcher.ModelPatcher):
    """A MODEL that takes no memory here: loading it has a group load it, unloading it ends the group."""

    def model_size(self) -> int:
        """Return the bytes that the host has to find for the weights: next to none."""
        return 1

    def loaded_size(self) -> int:
        """Return the bytes that the host can free by unloading."""
        return 0

    def partially_load(self, device_to: Any, extra_memory: int = 0, force_patch_weights: bool = False) -> int:
        """Have the group hold this MODEL's weights with its patches."""
        weights = self.weights()  # refuses before anything is changed
        with self.use_ejected(skip_and_inject_on_exit_only=True):
            self.unpatch_model(None, unpatch_weights=False)
            self.patch_model(load_weights=False)
        self.model.diffusion_model.group.hold(weights)
        self.model.device = self.load_device
        return 0

    def load(self, *args: Any, **kwargs: Any) -> None:
        """Load nothing here; see `partially_load`."""

    def partially_unload(self, device_to: Any, memory_to_free: int = 0, force_patch_weights: bool = False) -> int:
        """Return the bytes freed here."""
        return 0

    def unpatch_model(self, device_to: Any = None, unpatch_weights: bool = True) -> None:
        """Remove this MODEL's functions; there are no weights to move."""
        super().unpatch_model(None, unpatch_weights)
        if unpatch_weights:
            self.model.device = self.offload_device

    def detach(self, unpatch_all: bool = True) -> Any:
        """Unload; the actors end, and their memory is free."""
        made = super().detach(unpatch_all)
        if unpatch_all:
            self.model.diffusion_model.group.close()
        return made

    def patch_hooks(self, hooks: Any) -> None:
        """Refuse weights that change during a run; `Raises: InputError`."""
        if hooks is not None and self.get_combined_hook_patches(hooks):
            raise InputError(
                "A LoRA is hooked to a prompt, so weights would change during the run, which a GPU cluster can't do: "
                "use a LoRA loader, or remove SkyReels-V2 GPU Cluster."
            )
        super().patch_hooks(hooks)

    def weights(self) -> Weights:
        """Return what the group has to hold; `Raises: InputError` for a function inside of the transformer."""
        parameters = {}
        for name, value in self.object_patches.items():
            if not name.startswith(PREFIX):
                continue
            if not isinstance(value, torch.Tensor):
                refuse_inside(name)
            parameters[name] = value.detach().cpu()
        for inside in (self.weight_wrapper_patches, self.injections):
            if inside:
                refuse_inside(next(iter(inside)))
        factory, (path, *args) = self.get_attachment(SOURCE)
        sharded = self.model.diffusion_model.group.place.sharded
        return Weights(
            factory, str(path), name_of(path), tuple(args), self.patches, parameters,
            f"{self.patches_uuid} {sorted((name, id(self.object_patches[name])) for name in parameters)}", sharded,
        )  # fmt: skip


SOURCE = "skyreels_v2_cluster_source"  # the attachment with what makes the MODEL in an actor


def clustered(model: Any, place: Place) -> Any:
    """Return a MODEL that is computed by a group of Ray actors.

    Args:
        model: of this pack's loader, with any LoRAs.
        place: where it is computed.

    Raises:
        InputError: Ray is missing, or the MODEL cannot be computed elsewhere.
    """
    ray_module()
    source = getattr(model, "cached_patcher_init", None)
    if not isinstance(model.model, SkyReelsV2) or isinstance(model.model.diffusion_model, RemoteWanModel) or not source:
        raise InputError(
            "GPU Cluster takes a model straight from SkyReels-V2 Model Loader or SkyReels-V2 Demo Models, LoRAs "
            "included: each worker loads the same file itself. Load the model with one of these."
        )
    if model.get_additional_models_with_key(COPIES):
        refuse_inside("MultiGPU CFG Split")
    made = RemotePatcher(without_weights(model.model), model.load_device, model.offload_device)
    take_over(model, made)
    made.set_attachments(SOURCE, source[:2])
    made.set_attachments(HELD_IDENTITY, weights_identity(model))
    made.cached_patcher_init = (refuse_copy, tuple(source[1]))
    group = made.model.diffusion_model.group = Group(place)
    weakref.finalize(made.model, group.close)
    made.weights()  # what cannot be sent is refused now
    return made


def without_weights(model: Any) -> Any:
    """Return a copy of a BaseModel around a transformer that has shapes, but no numbers."""
    transformer = model.diffusion_model
    remote = RemoteWanModel(device="meta", dtype=transformer.dtype, **asdict(transformer.config)).eval()
    for name in parameters_out_of_reach(transformer):  # a few numbers that LoRA loaders look at
        holder, _, last = name.rpartition(".")
        value = torch.nn.Parameter(transformer.get_parameter(name).detach().cpu().clone(), requires_grad=False)
        setattr(remote.get_submodule(holder), last, value)
    base = copy.copy(model)
    base._modules = {**model._modules, "diffusion_model": remote}
    base.model_loaded_weight_memory, base.model_lowvram, base.current_weight_patches_uuid = 0, False, None
    base.device = comfy.model_management.unet_offload_device()
    return base


def take_over(model: Any, made: Any) -> None:
    """Give a patcher what nodes have put on another."""
    made.patches = {name: list(patches) for name, patches in model.patches.items()}
    made.patches_uuid = model.patches_uuid
    for name in ("object_patches", "weight_wrapper_patches", "attachments", "injections"):
        setattr(made, name, copy.copy(getattr(model, name, {})))
    made.model_options = comfy.utils.deepcopy_list_dict(model.model_options)
    for name in ("callbacks", "wrappers"):
        groups = getattr(model, name)
        setattr(made, name, {kind: {key: list(each) for key, each in keyed.items()} for kind, keyed in groups.items()})


def refuse_copy(*args: Any, **kwargs: Any) -> Any:
    """Refuse a second copy on this machine; `Raises: InputError`."""
    refuse_inside("MultiGPU CFG Split")


def refuse_functions(options: dict[str, Any]) -> None:
    """Refuse transformer_options with functions for the inside of the transformer by name; `Raises: InputError`."""
    for name in FUNCTIONS:
        for where, function in functions_in(options.get(name), name):
            about = function if hasattr(function, "__qualname__") else type(function)
            refuse_inside(f"{where} ({about.__module__}.{about.__qualname__})")


def functions_in(value: Any, where: str) -> Iterator[tuple[str, Any]]:
    """Yield the functions in nested options, each with where it stands, such as `patches.attn1_patch`."""
    if callable(value):
        yield where, value
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from functions_in(each, f"{where}.{'-'.join(map(str, key)) if isinstance(key, tuple) else key}")
    elif isinstance(value, list | tuple):
        for each in value:
            yield from functions_in(each, where)


def refuse_inside(what: str) -> None:
    """Refuse what would have to run inside of the transformer; `Raises: InputError`."""
    raise InputError(
        "{what} changes the inside of the model, which here is computed by the workers of a GPU cluster: remove the "
        "node that adds it, or remove SkyReels-V2 GPU Cluster.",
        what=what,
    )


def name_of(path: str) -> str:
    """Return a file's name in models/diffusion_models; "" for one that lies elsewhere."""
    for folder in folder_paths.get_folder_paths("diffusion_models"):
        if Path(path).is_relative_to(folder):
            return str(Path(path).relative_to(folder))
    return ""
