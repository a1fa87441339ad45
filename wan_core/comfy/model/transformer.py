"""WanModel as ComfyUI calls it: its argument names, its layers, its attention backend and its wrappers."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import fields
from typing import Any

import comfy.ldm.modules.attention
import comfy.ldm.wan.model
import comfy.patcher_extension
import torch
from comfy.ldm.flux.layers import EmbedND

from ...model.config import WanConfig
from ...model.layers import Layers
from ...model.operations import TorchOperations
from ...model.wan_model import WanModel
from ...words import words
from .core_parts import HostBlock, HostHead, core_freqs, is_replaced, one_noise_level, refuse_own_forward
from .kernels import host_modulated_norm
from .rotary import HOST_ROTARY

CONFIG_FIELDS = {field.name for field in fields(WanConfig)}
CAUSAL_BLOCK_SIZE = "skyreels_causal_block_size"  # keys in transformer_options
CACHED_CALLS = "skyreels_causal_run"
PIECES = "skyreels_pieces"
GIVEN_FREQS = "skyreels_freqs"  # in rope_options: a table that a caller of forward_orig brings
FORCING_ROW = "skyreels_forcing_row"  # the wan_core.sampling.run.Row that a call belongs to
WANTED_FRAMES = "skyreels_wanted_frames"  # one past the last frame whose velocity is asked for
SOME_FRAMES = "skyreels_some_frames"  # a wan_core.model.clip_tokens.SomeFrames for every condition of a call


class HostWanModel(WanModel):
    """WanModel built from ComfyUI's unet_config and called with ComfyUI's arguments."""

    block = HostBlock
    last_part = HostHead
    rope_encode = comfy.ldm.wan.model.WanModel.rope_encode  # with `rope_embedder`

    def __init__(
        self, operations: Any = None, device: Any = None, dtype: torch.dtype | None = None, **unet_config: Any
    ):
        """Build the model; `unet_config` holds WanConfig's fields and others of ComfyUI's own, which are left alone."""
        config = WanConfig(**{name: value for name, value in unet_config.items() if name in CONFIG_FIELDS})
        attention = comfy.ldm.modules.attention.optimized_attention
        operations = operations or TorchOperations
        super().__init__(config, Layers(operations, attention, HOST_ROTARY, host_modulated_norm, device, dtype))
        for name in CONFIG_FIELDS - vars(self).keys():  # packs and nodes of core ask for dim, num_heads, freq_dim, ...
            setattr(self, name, getattr(config, name))
        if config.model_type == "t2v":
            self.img_emb = None  # type: ignore[assignment]  # packs ask for it
        self.ref_conv = None
        width = config.dim // config.num_heads
        spatial = 2 * (width // 6)
        # core's: a pack that puts another in its place has its positions turned by that one (RifleX)
        self.rope_embedder = EmbedND(dim=width, theta=10000.0, axes_dim=[width - 2 * spatial, spatial, spatial])
        self.own_embedder = (self.rope_embedder,)  # a tuple: it is not a part of the model twice

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
        if is_replaced(self, "forward_orig"):
            if options.get(CAUSAL_BLOCK_SIZE, 0):
                refuse_own_forward(words("causal attention is on: turn causal_attention off"))
            if context_latents:
                refuse_own_forward(words("there are reference videos or images: remove the node that adds them"))
            t = one_noise_level(timestep)
            return self.by_neighbour(x, t, context, clip_fea, time_dim_concat, options, fps, **unused)
        run, pieces = options.get(CACHED_CALLS), options.get(PIECES, 1)
        if run is not None and run.takes(x, options):
            inputs = {"context": context, "clip_fea": clip_fea, "fps": fps, "pieces": pieces}
            return run(x, timestep, options, model=self.predict, **inputs)
        if options.get(SOME_FRAMES) is not None:
            inputs = {"context": context, "clip_fea": clip_fea, "fps": fps}
            return self.in_parts(x, timestep, options, pieces, inputs)
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

    def forward_orig(
        self,
        x: torch.Tensor,
        t: torch.Tensor,
        context: torch.Tensor,
        clip_fea: torch.Tensor | None = None,
        freqs: torch.Tensor | None = None,
        transformer_options: dict[str, Any] | None = None,
        fps: torch.Tensor | None = None,
        **unused: Any,
    ) -> torch.Tensor:
        """Predict the velocity with core's arguments: what packs call, and put their own in the place of."""
        options = {} if transformer_options is None else transformer_options
        if freqs is not None:
            options = {**options, "rope_options": {**(options.get("rope_options") or {}), GIVEN_FREQS: freqs}}
        return self.predict(x, t, context, fps=fps, clip_fea=clip_fea, transformer_options=options)

    def by_neighbour(
        self,
        x: torch.Tensor,
        t: torch.Tensor,
        context: torch.Tensor,
        clip_fea: torch.Tensor | None,
        time_dim_concat: torch.Tensor | None,
        options: dict[str, Any],
        fps: torch.Tensor | None,
        **inputs: Any,
    ) -> torch.Tensor:
        """Predict the velocity with a pack's `forward_orig` (TeaCache, MagCache), called as core's model calls it."""
        shape = x.shape
        x = torch.cat([self.pad_to_patches(each) for each in (x, time_dim_concat) if each is not None], dim=2)
        freqs = core_freqs(self.rotary(self.grid_of(x), x.device, options.get("rope_options")))
        with ExitStack() as until_done:
            if self.config.inject_sample_info:  # which core's model has not, and so no pack adds it
                shift = self.frame_rate_shift(fps, len(x), x)
                added = self.time_projection.register_forward_hook(lambda module, given, made: made + shift)
                until_done.callback(added.remove)
            out = self.forward_orig(
                x, t, context, clip_fea=clip_fea, freqs=freqs, transformer_options=options, **inputs
            )
        return out[:, :, : shape[2], : shape[3], : shape[4]]

    def rotary(
        self,
        grid: tuple[int, int, int],
        device: torch.device,
        rope_options: dict[str, Any] | None,
        first_frame: int = 0,
        references: tuple[tuple[int, int, int], ...] = (),
    ) -> Any:
        """Return the rotary table of a token grid; a pack's, where one has put its own embedder into the model."""
        rope = rope_options or {}
        if GIVEN_FREQS in rope:
            return rope[GIVEN_FREQS]
        if self.rope_embedder is self.own_embedder[0]:
            return super().rotary(grid, device, rope_options, first_frame, references)
        tables = [
            self.rope_encode(
                frames, rows * self.patch_size[1], columns * self.patch_size[2],
                t_start=rope.get("scale_t", 1.0) * first_frame, device=device, dtype=torch.float32,
                transformer_options={"rope_options": rope_options}, **({"source_id": number} if number else {}),
            )
            for number, (frames, rows, columns) in enumerate((grid, *references))
        ]  # fmt: skip
        return torch.cat(tables, dim=1)

    def in_parts(
        self, x: torch.Tensor, t: torch.Tensor, options: dict[str, Any], pieces: int, inputs: dict[str, Any]
    ) -> torch.Tensor:
        """Predict the velocity of some frames of every condition; 0 on the others.

        Args:
            x: noisy latents [conditions * B, C, F, H, W].
            t: timesteps [conditions * B, F].
            options: transformer_options of the call, with what is wanted of each condition.
            pieces: see `WanModel.forward`.
            inputs: what else it is handed (context, fps, ...), of all conditions.
        """
        parts = options[SOME_FRAMES]
        cut = {name: by_condition(value, len(parts), len(x)) for name, value in inputs.items()}
        causal, made = options.get(CAUSAL_BLOCK_SIZE, 0), []
        for number, (video, times, some) in enumerate(
            zip(x.chunk(len(parts)), t.chunk(len(parts)), parts, strict=True)
        ):
            if not some.frames:
                made.append(video.new_zeros(video.shape[0], self.config.out_dim, *video.shape[2:]))
                continue
            own = {name: values[number] for name, values in cut.items()}
            how = {"causal_block_size": causal, "transformer_options": options, "pieces": pieces}
            made.append(some.computed(self.predict, video, times, **how, **own))
        return torch.cat(made)

    def predict(self, x: torch.Tensor, t: torch.Tensor, *args: Any, **inputs: Any) -> torch.Tensor:
        """Predict the velocity with nobody between; see `WanModel.forward`."""
        return super().forward(x, t, *args, **inputs)


def by_condition(value: Any, parts: int, batch: int) -> Sequence[Any]:
    """Return what each of the conditions in a call is handed: its part of a tensor of the whole batch, or the same."""
    return value.chunk(parts) if isinstance(value, torch.Tensor) and len(value) == batch else [value] * parts
