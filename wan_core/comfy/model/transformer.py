"""WanModel as ComfyUI calls it: its argument names, its layers, its attention backend and its wrappers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import comfy.ldm.modules.attention
import comfy.patcher_extension
import torch

from ...model.config import WanConfig
from ...model.wan_model import WanModel
from .kernels import host_modulated_norm
from .rotary import HOST_ROTARY

CONFIG_FIELDS = {field.name for field in fields(WanConfig)}
CAUSAL_BLOCK_SIZE = "skyreels_causal_block_size"  # keys in transformer_options
CACHED_CALLS = "skyreels_causal_run"
PIECES = "skyreels_pieces"
FORCING_ROW = "skyreels_forcing_row"  # the wan_core.sampling.run.Row that a call belongs to
WANTED_FRAMES = "skyreels_wanted_frames"  # one past the last frame whose velocity is asked for


class HostWanModel(WanModel):
    """WanModel built from ComfyUI's unet_config and called with ComfyUI's arguments."""

    def __init__(
        self, operations: Any = None, device: Any = None, dtype: torch.dtype | None = None, **unet_config: Any
    ):
        """Build the model; `unet_config` holds WanConfig's fields and others of ComfyUI's own, which are left alone."""
        config = WanConfig(**{name: value for name, value in unet_config.items() if name in CONFIG_FIELDS})
        attention = comfy.ldm.modules.attention.optimized_attention
        super().__init__(config, operations, attention, device, dtype, HOST_ROTARY, host_modulated_norm)
        self.dim = config.dim  # a node of core (WanUni3CControlnetApply) asks for it

    def to(self, *args: Any, **kwargs: Any) -> Any:
        """Move or convert the model, but not to channels last: torch has that order for pictures alone.

        With --force-channels-last ComfyUI asks every model for it, and its own Wan models do not load.
        """
        if kwargs.get("memory_format") is torch.channels_last:
            kwargs.pop("memory_format")
        return super().to(*args, **kwargs) if args or kwargs else self

    def forward(  # type: ignore[override]
        self,
        x: torch.Tensor,
        timestep: torch.Tensor,
        context: torch.Tensor,
        clip_fea: torch.Tensor | None = None,
        time_dim_concat: torch.Tensor | None = None,
        transformer_options: dict[str, Any] | None = None,
        **inputs: Any,
    ) -> torch.Tensor:
        """Predict the velocity, through the host's DIFFUSION_MODEL wrappers; see `WanModel.forward` for the shapes."""
        options = {} if transformer_options is None else transformer_options
        wrappers = comfy.patcher_extension.get_all_wrappers(comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL, options)
        executor = comfy.patcher_extension.WrapperExecutor.new_class_executor(self._forward, self, wrappers)
        # by position, as core does: wrappers count on it
        return executor.execute(x, timestep, context, clip_fea, time_dim_concat, options, **inputs)

    def _forward(
        self,
        x: torch.Tensor,
        timestep: torch.Tensor,
        context: torch.Tensor,
        clip_fea: torch.Tensor | None = None,
        time_dim_concat: torch.Tensor | None = None,
        transformer_options: dict[str, Any] | None = None,
        fps: torch.Tensor | None = None,
        context_latents: Sequence[torch.Tensor] | None = None,
        **unused: Any,
    ) -> torch.Tensor:
        options = {} if transformer_options is None else transformer_options
        run, pieces = options.get(CACHED_CALLS), options.get(PIECES, 1)
        if run is not None and run.takes(x, options):
            inputs = {"context": context, "clip_fea": clip_fea, "fps": fps, "pieces": pieces}
            return run(x, timestep, options, model=self.predict, **inputs)
        shape = x.shape
        if time_dim_concat is not None:  # frames that follow the clip's and are not made
            x = torch.cat([self.pad_to_patches(each) for each in (x, time_dim_concat)], dim=2)
        velocity = self.predict(
            x,
            timestep,
            context,
            fps=fps,
            clip_fea=clip_fea,
            causal_block_size=options.get(CAUSAL_BLOCK_SIZE, 0),
            transformer_options=options,
            pieces=pieces,
            references=context_latents or (),
        )
        return velocity[:, :, : shape[2], : shape[3], : shape[4]]

    def predict(self, x: torch.Tensor, t: torch.Tensor, *args: Any, **inputs: Any) -> torch.Tensor:
        """Predict the velocity with nobody between; see `WanModel.forward`."""
        return super().forward(x, t, *args, **inputs)
