"""One process of a group: it loads the checkpoint as the host would, and computes its share of each forward pass.

It runs in a Ray actor, with ComfyUI imported but no server: quantised layers, LoRA patches and offloading to main
memory are ComfyUI's own.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import comfy.model_management
import folder_paths
import torch
import torch.distributed as dist

from ...errors import CheckpointError, SkyReelsError
from ...model.kv_cache import KVCache
from ...parallel.shards import kept_bytes, shard_blocks
from ...parallel.team import ProcessTeam
from ..host_flags import spare_memory
from .messages import Call, Refused, Stopped, Weights


class Worker:
    """A process that computes its share; every process of a group is told the same."""

    def __init__(self) -> None:
        self.device = comfy.model_management.get_torch_device()
        self.patcher: Any = None
        self.held = ""  # the version of the weights
        self.loaded_for: tuple[Any, ...] = ()
        self.caches: dict[str, KVCache] = {}
        self.rank, self.size, self.stop, self.sharded = 0, 1, False, False
        self.store: dist.TCPStore | None = None
        self.control: dist.ProcessGroup | None = None
        self.team: ProcessTeam | None = None

    def do(self, name: str, *args: Any) -> Any:
        """Return what a method returns; `Raises: Refused` in the place of an error of ours, which is not sent well."""
        try:
            return getattr(self, name)(*args)
        except SkyReelsError as error:
            raise Refused(error.words) from None

    def meet(self) -> tuple[str, int]:
        """Open a meeting place for the group on this machine, and return its address and port."""
        import ray

        address = ray.util.get_node_ip_address()
        self.store = dist.TCPStore(address, 0, is_master=True, wait_for_workers=False)
        return address, self.store.port

    def join(self, rank: int, size: int, place: tuple[str, int]) -> str:
        """Meet the others and return the name of this machine."""
        self.rank, self.size = rank, size
        if size > 1:
            store = self.store or dist.TCPStore(*place, is_master=False)
            gpu = self.device.type == "cuda"
            dist.init_process_group("nccl" if gpu else "gloo", store=store, rank=rank, world_size=size)
            # questions of the CPU, such as whether to stop, do not wait for the GPU
            self.control = dist.new_group(backend="gloo") if gpu else None
            self.team = ProcessTeam()
        return platform.node()

    def hold(self, weights: Weights) -> None:
        """Load a checkpoint with its patches, unless it is the one that is held; `Raises: CheckpointError`."""
        if self.held == weights.version:
            return
        self.release()
        patcher = weights.factory(own_path(weights), *weights.args)
        patcher.patches, patcher.patches_uuid = weights.patches, weights.version
        for name, value in weights.parameters.items():
            patcher.add_object_patch(name, torch.nn.Parameter(value, requires_grad=False))
        transformer = patcher.model.diffusion_model
        transformer.team = self.team
        self.sharded = weights.sharded and self.size > 1
        if self.sharded:
            self.shard(patcher)
        for block in transformer.blocks:
            block.register_forward_pre_hook(self.stop_where_asked)
        self.patcher, self.held = patcher, weights.version

    def shard(self, patcher: Any) -> None:
        """Keep a part of the weights, LoRAs included, on this device: ComfyUI moves none of them from here on."""
        patcher.patch_model(load_weights=False)
        for name in patcher.patches:
            patcher.patch_weight_to_device(name, device_to=torch.device("cpu"))
        transformer = patcher.model.diffusion_model
        shard_blocks(transformer, device=self.device.type)
        for child in transformer.children():
            if child is not transformer.blocks:
                child.to(self.device)

    def release(self) -> None:
        """Forget the weights and what was cached with them."""
        self.caches.clear()
        if self.patcher is not None:
            if not self.sharded:  # else there are no whole weights that could be restored
                self.patcher.detach()
            self.patcher, self.held, self.loaded_for = None, "", ()
            comfy.model_management.cleanup_models_gc()
            comfy.model_management.soft_empty_cache()

    def run(self, call: Call) -> torch.Tensor | None:
        """Compute a forward pass.

        Returns:
            The velocity [B, C, f, H, W] on the CPU, from the first process; None from the others.

        Raises:
            Stopped: the host asked for it, in every process.
            MemoryError: memory has ended in this one.
        """
        self.stop = False
        try:
            with torch.inference_mode():
                velocity = self.computed(call)
        except comfy.model_management.OOM_EXCEPTION as error:
            if not comfy.model_management.is_oom(error):
                raise
            raise MemoryError(str(error)) from None
        return velocity.to(call.x.dtype).cpu() if self.rank == 0 else None

    def computed(self, call: Call) -> torch.Tensor:
        """Return the velocity on this process's device."""
        self.load(call)
        model = self.patcher.model
        dtype, here = model.get_dtype_inference(), call.on(self.device)
        cache = None if call.cache is None else self.cache_of(call)
        try:
            velocity = model.diffusion_model.predict(
                here.x.to(dtype), here.t, here.context.to(dtype), cache=cache, **in_dtype(here.inputs, dtype)
            )
        except BaseException:
            if cache is not None:
                cache.cancel()
            raise
        if cache is not None:
            cache.finish()
        return velocity

    def cache_of(self, call: Call) -> KVCache:
        """Return the cache that a call uses, begun."""
        asked = call.cache
        assert asked is not None
        cache = self.caches.setdefault(asked.key, KVCache(asked.layers, asked.block_size, budget=asked.budget))
        cache.begin(*asked.begin)
        return cache

    def load(self, call: Call) -> None:
        """Have ComfyUI load as many weights onto the device as leave room for a call of this shape."""
        shape = (tuple(call.x.shape), self.held)
        if self.loaded_for != shape and not self.sharded:
            need = self.patcher.model.memory_required(list(call.x.shape)) / self.size
            comfy.model_management.load_models_gpu([self.patcher], memory_required=need)
            self.loaded_for = shape

    def forget(self, key: str) -> None:
        """Forget a cache."""
        self.caches.pop(key, None)

    def process(self) -> int:
        """Return the number of this process."""
        return os.getpid()

    def spare(self) -> int:
        """Return the bytes that are free once the weights are loaded."""
        waits = self.patcher is not None and not self.sharded
        weights = self.patcher.model_size() - self.patcher.loaded_size() if waits else 0
        return int(spare_memory(self.device) - weights)

    def kept(self) -> int:
        """Return the bytes of the blocks' weights that this process keeps."""
        return 0 if self.patcher is None else kept_bytes(self.patcher.model.diffusion_model.blocks)

    def interrupt(self) -> None:
        """Have the call end; called from another thread."""
        self.stop = True

    def stop_where_asked(self, block: torch.nn.Module, given: Any) -> None:
        """End the call in all processes at the same block where the first was asked to; `Raises: Stopped`."""
        asked = torch.tensor([self.stop], dtype=torch.uint8)
        if self.size > 1:
            dist.broadcast(asked, 0, group=self.control)
        if bool(asked):
            raise Stopped


def own_path(weights: Weights) -> str:
    """Return where the file is on this machine; `Raises: CheckpointError` where it is not."""
    if Path(weights.path).exists():
        return weights.path
    found = folder_paths.get_full_path("diffusion_models", weights.name) if weights.name else None
    if found is None:
        raise CheckpointError(
            "{machine} has no {path} and no {name} in its models/diffusion_models: copy the file there.",
            machine=platform.node(),
            path=weights.path,
            name=weights.name or Path(weights.path).name,
        )
    return str(found)


def in_dtype(inputs: dict[str, Any], dtype: torch.dtype) -> dict[str, Any]:
    """Return a call's inputs with latents and image tokens in the dtype that is computed in."""
    made = dict(inputs)
    if made.get("clip_fea") is not None:
        made["clip_fea"] = made["clip_fea"].to(dtype)
    made["references"] = tuple(each.to(dtype) for each in made.get("references", ()))
    return made
