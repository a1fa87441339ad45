"""The SkyReels-V2 video transformer: Wan 2.1 with a noise level of its own for every latent frame.

It reads in the order of the forward pass: embeddings, attention blocks, head, unpatchify; the blocks themselves are in
`blocks.py`. Parameter names are those of the released checkpoints. Layers come from an operations object and attention
from a callable, so that a host can put its own in their place; sampling, loading and offloading are elsewhere.

Shapes: B batch, C channels, F latent frames, H W latent height and width, L = F * rows * columns tokens, N heads,
D channels of a head; T is F where every frame has its own noise level and 1 where one holds for the clip.

Sources: Wan et al. 2025 (Wan 2.1), Chen et al. 2025 (SkyReels-V2), Chen et al. 2024 (Diffusion Forcing).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from ..errors import InputError
from .blocks import BlockInputs, Head, MLPProj, Patched, WanAttentionBlock
from .clip_tokens import Placed, SomeFrames
from .config import IMAGE_DIM, WanConfig
from .host_patches import run_after_block, run_replaced
from .kv_cache import KVCache
from .layers import Layers
from .rope import Positions, Rotary
from .share import Share, Team, Tokens, by_run
from .tensor_checks import check_inputs

CONDITIONED_FPS = 16  # the one frame rate with a row of its own; row 1 stands for any other (24)


def sinusoidal_embedding_1d(dim: int, position: Tensor) -> Tensor:
    """Return [len(position), dim] float32: cosines, then sines, of geometrically spaced frequencies down from 1."""
    half = dim // 2
    frequencies = torch.pow(10000, -torch.arange(half, device=position.device, dtype=torch.float32) / half)
    angles = torch.outer(position.float(), frequencies)
    return torch.cat((angles.cos(), angles.sin()), dim=1)


class WanModel(nn.Module):
    """The whole transformer: noisy latent video, timesteps and text in, velocity (noise minus video) out."""

    block: type[WanAttentionBlock] = WanAttentionBlock  # a host may have parts that it calls in its own way
    last_part: type[Head] = Head

    def __init__(self, config: WanConfig, layers: Layers | None = None):
        """Build the model with unset weights: load a checkpoint, or call `initial_weights.init_weights`.

        Args:
            config: sizes of the model.
            layers: what it is made with, torch's own layers and kernels by default; the patch embedding stays in
                float32.
        """
        super().__init__()
        layers = layers or Layers()
        self.rotary_kernel = layers.rotary
        dim = config.dim
        self.config = config
        self.dtype = layers.dtype or torch.get_default_dtype()
        self.patch_size = config.patch_size
        self.last_rotary: tuple[tuple[Any, ...], Rotary] | None = None  # every step of a clip asks for the same table
        self.team: Team | None = None  # the processes that compute a forward pass together; see `wan_core.parallel`

        self.patch_embedding = layers.operations.Conv3d(
            config.in_dim, dim, kernel_size=config.patch_size, stride=config.patch_size, device=layers.device,
            dtype=torch.float32,
        )  # fmt: skip
        self.text_embedding = nn.Sequential(
            layers.linear(config.text_dim, dim), nn.GELU(approximate="tanh"), layers.linear(dim, dim)
        )
        self.time_embedding = nn.Sequential(layers.linear(config.freq_dim, dim), nn.SiLU(), layers.linear(dim, dim))
        self.time_projection = nn.Sequential(nn.SiLU(), layers.linear(dim, 6 * dim))
        if config.inject_sample_info:
            self.fps_embedding = layers.operations.Embedding(2, dim, device=layers.device, dtype=layers.dtype)
            self.fps_projection = nn.Sequential(layers.linear(dim, dim), nn.SiLU(), layers.linear(dim, 6 * dim))
        self.blocks = nn.ModuleList([self.block(config, layers) for _ in range(config.num_layers)])
        self.head = self.last_part(config, layers)
        if config.model_type == "i2v":
            self.img_emb = MLPProj(IMAGE_DIM, dim, layers)

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        context: Tensor,
        fps: int | Tensor | None = None,
        clip_fea: Tensor | None = None,
        causal_block_size: int = 0,
        transformer_options: dict[str, Any] | None = None,
        cache: KVCache | None = None,
        pieces: int = 1,
        references: Sequence[Tensor] = (),
        some: SomeFrames | None = None,
    ) -> Tensor:
        """Predict the velocity of a noisy latent video.

        Args:
            x: latent video [B, in_dim, F, H, W]; image-to-video models have mask and image channels behind it.
            t: timesteps in 0..1000, [B] for the clip or [B, F] for every latent frame.
            context: text embeddings [B, text tokens, text_dim].
            fps: frames per second, one number or [B]; 16 has its own weights, anything else counts as 24. Models
                without fps weights ignore it; None counts as 24.
            clip_fea: CLIP tokens of the start image [B, 257, 1280], for image-to-video models.
            causal_block_size: latent frames of a causal block; 0 for bidirectional attention.
            transformer_options: ComfyUI's options (patches, block replacements, rotary options); None outside a host.
            cache: finished frames that stand before those of `x`, with causal attention; see `wan_core.model.kv_cache`.
            pieces: parts of the tokens that attention and feed-forward compute one after the other: the same result
                in less memory, somewhat slower. With gradients or under torch.compile it is not looked at.
            references: latents [B, in_dim, f, h, w] that are seen beside the video and not made; with one timestep.
            some: where `x` and `t` are some frames of a clip: which, and what they see of the others; without a cache
                and references.

        Returns:
            Velocity, noise minus video, [B, out_dim, F, H, W].

        Raises:
            InputError: a tensor has another width than the model, or `t` another number of frames than `x`; a host's
                patch looks at the tokens, which are not all here.
        """
        check_inputs(self.config, x, t, context, bool(references))
        options = {} if transformer_options is None else transformer_options
        frames, height, width = x.shape[2:]

        videos = [self.pad_to_patches(each) for each in (x, *references)]
        grids = tuple(self.grid_of(each) for each in videos)
        grid = options["grid_sizes"] = grids[0]
        e, modulation = self.embed_time(t, fps, x)
        # few frames are computed whole by every process: all see the same clip, and keep it
        share = None if some else self.share_of(grids, e.shape[1], causal_block_size, cache, options)
        places = grid if some is None else (some.kept.num_frames, *grid[1:])
        rotary = self.rotary(
            places, x.device, options.get("rope_options"), 0 if cache is None else cache.end, grids[1:]
        )
        inputs = BlockInputs(
            modulation=modulation,
            rotary=rotary if share is None else share.rotary(self.rotary_kernel.part, rotary),
            context=self.embed_context(context, clip_fea),
            image_tokens=None if clip_fea is None else clip_fea.shape[-2],
            block_tokens=causal_block_size * grid[1] * grid[2],
            transformer_options=options,
            pieces=pieces,
            cached_tokens=0 if cache is None else cache.block_size * grid[1] * grid[2],
            patched=Patched(videos[0], e),
            share=share,
        )
        if some is not None:
            self.place(some, inputs, grid[1] * grid[2], causal_block_size)
        return self.unpatchify(self.patch_values(videos, e, inputs, cache, some), grid)[:, :, :frames, :height, :width]

    def patch_values(
        self, videos: Sequence[Tensor], e: Tensor, inputs: BlockInputs, cache: KVCache | None, some: SomeFrames | None
    ) -> Tensor:
        """Return the values [B, L, patch values * out_dim] of the first of the padded `videos`, which sees the rest."""
        count, share = math.prod(self.grid_of(videos[0])), inputs.share
        # the first block's tokens get no name here: they would lie beside those of every later block
        if share is None:
            return self.head(self.run_blocks(self.embed_all(videos), inputs, cache, some)[:, :count], e)
        tokens = self.run_blocks(share.own(self.embed_all(videos)), inputs, cache)
        return share.whole(by_run(share, self.head, (tokens,), (e,)))[:, :count]

    def share_of(
        self,
        grids: tuple[tuple[int, int, int], ...],
        noise_levels: int,
        causal_block_size: int,
        cache: KVCache | None,
        options: dict[str, Any],
    ) -> Share | None:
        """Return which of the tokens of a video and its references are computed here; None for all of them."""
        if self.team is None:
            return None
        if any(options.get("patches", {}).values()) or any(options.get("patches_replace", {}).values()):
            raise InputError(
                "A node put its own function into the model's blocks. It expects the whole video, but several "
                "processes each compute a part of it: remove that node."
            )
        frame_tokens = math.prod(grids[0][1:])
        unit = causal_block_size if cache is None else cache.block_size
        cached = 0 if cache is None else len(cache.parts[0].blocks)
        count = sum(math.prod(grid) for grid in grids)
        return self.team.share(Tokens(count, noise_levels, unit * frame_tokens, cached, self.config.num_heads))

    def pad_to_patches(self, x: Tensor) -> Tensor:
        """Pad F, H and W of `x` [B, C, F, H, W] to whole patches by wrapping around, as ComfyUI's own Wan does."""
        short = [-size % patch for size, patch in zip(x.shape[2:], self.patch_size, strict=True)]
        if not any(short):
            return x
        return functional.pad(x, (0, short[2], 0, short[1], 0, short[0]), mode="circular")

    def grid_of(self, x: Tensor) -> tuple[int, int, int]:
        """Return frames, rows and columns of the tokens of a padded latent video [B, C, F, H, W]."""
        frames, rows, columns = (size // patch for size, patch in zip(x.shape[2:], self.patch_size, strict=True))
        return frames, rows, columns

    def embed_patches(self, x: Tensor) -> Tensor:
        """Return the tokens [B, L, dim] of a padded latent video [B, C, F, H, W], frame after frame."""
        return rearrange(self.patch_embedding(x.float()).to(x.dtype), "b c f h w -> b (f h w) c").contiguous()

    def embed_all(self, videos: Sequence[Tensor]) -> Tensor:
        """Return the tokens [B, L, dim] of padded videos [B, C, F, H, W], one behind the other."""
        if len(videos) == 1:
            return self.embed_patches(videos[0])
        return torch.cat([self.embed_patches(each) for each in videos], dim=1)

    def embed_time(self, t: Tensor, fps: int | Tensor | None, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return time embeddings [B, T, dim] and the six modulations [B, T, 6, dim], in the dtype of `like`."""
        batch = t.shape[0]
        frequencies = sinusoidal_embedding_1d(self.config.freq_dim, t.flatten()).to(like.dtype)
        e = rearrange(self.time_embedding(frequencies), "(b t) c -> b t c", b=batch)
        modulation = rearrange(self.time_projection(e), "b t (six c) -> b t six c", six=6)
        if self.config.inject_sample_info:
            modulation = modulation + rearrange(
                self.frame_rate_shift(fps, batch, like), "b (six c) -> b 1 six c", six=6
            )
        return e, modulation

    def frame_rate_shift(self, fps: int | Tensor | None, batch: int, like: Tensor) -> Tensor:
        """Return what the frame rate adds to the modulations, [B, 6 * dim]; for models with fps weights."""
        rate = torch.as_tensor(24 if fps is None else fps, device=like.device)
        rows = (rate != CONDITIONED_FPS).long().expand(batch)
        return self.fps_projection(self.fps_embedding(rows, out_dtype=like.dtype))

    def embed_context(self, context: Tensor, clip_fea: Tensor | None) -> Tensor:
        """Return the cross-attention tokens [B, image + text tokens, dim]; the image's come first."""
        text = self.text_embedding(context)
        if clip_fea is None or self.config.model_type == "t2v":
            return text
        return torch.cat((self.img_emb(clip_fea), text), dim=1)

    def rotary(
        self,
        grid: tuple[int, int, int],
        device: torch.device,
        rope_options: dict[str, float] | None,
        first_frame: int = 0,
        references: tuple[tuple[int, int, int], ...] = (),
    ) -> Rotary:
        """Return the rotary table of a token grid, made once for one grid after another.

        Args:
            grid: frames, rows and columns of tokens.
            device: where the table lies.
            rope_options: ComfyUI's shift_t/y/x and scale_t/y/x.
            first_frame: latent frames that stand before the grid.
            references: grids of what is seen beside it.
        """
        rope = rope_options or {}
        scale_t, scale_y, scale_x = (rope.get(f"scale_{axis}", 1.0) for axis in "tyx")
        shift_t, shift_y, shift_x = (rope.get(f"shift_{axis}", 0.0) for axis in "tyx")
        positions = Positions((shift_t + scale_t * first_frame, shift_y, shift_x), (scale_t, scale_y, scale_x))
        wanted = (grid, self.config.dim // self.config.num_heads, device, positions, references)
        if self.last_rotary is None or self.last_rotary[0] != wanted:
            with torch.inference_mode(False):  # a table made while sampling has to serve in training as well
                self.last_rotary = wanted, self.rotary_kernel.table(*wanted)
        return self.last_rotary[1]

    def place(self, some: SomeFrames, inputs: BlockInputs, frame_tokens: int, block_frames: int) -> None:
        """Give a call's tokens their places in the clip; frame_tokens: of a frame, block_frames: of a causal block."""
        tokens = some.tokens(frame_tokens, inputs.modulation.device)
        length, spans = some.kept.num_frames * frame_tokens, some.spans(frame_tokens, block_frames)
        inputs.placed = Placed(tokens, length, spans)
        inputs.rotary = self.rotary_kernel.part(inputs.rotary, tokens)

    def run_blocks(
        self, x: Tensor, inputs: BlockInputs, cache: KVCache | None = None, some: SomeFrames | None = None
    ) -> Tensor:
        """Run all blocks over `x` [B, L, dim], each through its replacement when the host has one."""
        options = inputs.transformer_options
        replacements = options.get("patches_replace", {}).get("dit", {})
        options["total_blocks"] = len(self.blocks)
        options["block_type"] = "double"
        for index, block in enumerate(self.blocks):
            options["block_index"] = index
            inputs.cache = None if cache is None else cache.layers[index]
            inputs.kept = None if some is None else some.kept.layers[index]
            replacement = replacements.get(("double_block", index))
            x = block(x, inputs) if replacement is None else run_replaced(replacement, block, x, inputs)
            x = run_after_block(x, inputs)
        return x

    def unpatchify(self, x: Tensor, grid: tuple[int, int, int]) -> Tensor:
        """Return [B, out_dim, F, H, W] for patch values [B, L, patch values * out_dim]."""
        (f, h, w), (p, q, r) = grid, self.patch_size
        return rearrange(x, "b (f h w) (p q r c) -> b c (f p) (h q) (w r)", f=f, h=h, w=w, p=p, q=q, r=r)
