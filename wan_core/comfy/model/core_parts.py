"""Parts of the transformer as packs know them from ComfyUI's own Wan: which arguments they take and what they carry.

Packs put functions of their own in the place of a part's `forward`, or call a part as core's model does. Both have to
find what core's parts have; see docs/neighbours.md.
"""

from __future__ import annotations

from typing import Any, NoReturn

import torch

from ...errors import InputError
from ...model.blocks import BlockInputs, Head, WanAttentionBlock, WanSelfAttention
from ...model.config import WanConfig
from ...model.layers import Layers
from ...model.rope import rotation_matrices
from ...words import Words, words


def is_replaced(part: Any, method: str = "forward") -> bool:
    """Say whether somebody put a function of their own in the place of a part's method.

    When a patch of the host ends, the method of the class stays in the part itself. Written for torch.compile, too.
    """
    own = part.__dict__.get(method)
    return own is not None and getattr(own, "__func__", None) is not getattr(type(part), method)


def core_freqs(table: Any) -> torch.Tensor:
    """Return a rotary table in the form of core's model, rotation matrices [1, L, 1, D / 2, 2, 2]."""
    return table if isinstance(table, torch.Tensor) else rotation_matrices(table)


def refuse_own_forward(reason: Words) -> NoReturn:
    """Refuse what a pack's `forward_orig`, written for core's model, would leave out; `Raises: InputError`."""
    raise InputError(
        "A node (TeaCache, MagCache or one like it) put its own forward into the model, which knows one noise level "
        "for the whole clip and sees nothing else, but {reason}, or use SkyReels-V2 Step Cache instead.",
        reason=reason,
    )


def one_noise_level(t: torch.Tensor) -> torch.Tensor:
    """Return the one level [B] of frames in step [B, F] or [B], for a pack's forward; `Raises: InputError`."""
    if t.ndim == 2 and bool((t != t[:, :1]).any()):
        refuse_own_forward(words("frames have noise levels of their own: set ar_step to 0, without known frames"))
    return t[:, 0] if t.ndim == 2 else t


class HostSelfAttention(WanSelfAttention):
    """Self attention that takes core's arguments as well."""

    def forward(self, x: torch.Tensor, freqs: Any, transformer_options: dict[str, Any] | None = None) -> torch.Tensor:
        """Return [B, L, C]; `freqs` are our BlockInputs, or core's rotation matrices."""
        if not isinstance(freqs, BlockInputs):
            freqs = core_inputs(x, freqs, x, transformer_options)
        return super().forward(x, freqs)


class HostBlock(WanAttentionBlock):
    """A block that takes core's arguments as well, and calls a neighbour's self attention with them."""

    self_attention = HostSelfAttention

    def __init__(self, config: WanConfig, layers: Layers):
        super().__init__(config, layers)
        self.dim, self.ffn_dim, self.num_heads = config.dim, config.ffn_dim, config.num_heads

    def forward(
        self,
        x: torch.Tensor,
        e: Any,
        freqs: Any = None,
        context: torch.Tensor | None = None,
        context_img_len: int | None = 257,
        transformer_options: dict[str, Any] | None = None,
    ) -> torch.Tensor:
        """Return the residual stream [B, L, C]; `e` are our BlockInputs, or core's modulations [B, 6, C]."""
        if not isinstance(e, BlockInputs):
            assert context is not None, "core's model calls with it"
            modulation = e if e.ndim == 4 else e.unsqueeze(1)
            e = core_inputs(modulation, freqs, context, transformer_options, context_img_len)
        return super().forward(x, e)

    def attend(self, x: torch.Tensor, inputs: BlockInputs) -> torch.Tensor:
        """Return what self attention, ours or a neighbour's, makes of `x` [B, L, C]."""
        if not is_replaced(self.self_attn):
            return super().attend(x, inputs)
        if inputs.block_tokens or inputs.cache is not None or inputs.placed is not None:
            raise InputError(
                "A node (WanVideoEnhanceAVideoKJ or one like it) put its own self attention into the model, which "
                "looks at the whole clip, but causal attention is on: turn causal_attention off, or remove the node."
            )
        return self.self_attn(x, core_freqs(inputs.rotary), transformer_options=inputs.transformer_options)


class HostHead(Head):
    """The head, which takes core's time embeddings [B, C] as well."""

    def forward(self, x: torch.Tensor, e: torch.Tensor) -> torch.Tensor:
        """Return [B, L, patch values] for tokens `x` [B, L, C] and time embeddings [B, C] or [B, T, C]."""
        return super().forward(x, e.unsqueeze(1) if e.ndim == 2 else e)


def core_inputs(
    modulation: torch.Tensor,
    freqs: Any,
    context: torch.Tensor,
    transformer_options: dict[str, Any] | None,
    image_tokens: int | None = None,
) -> BlockInputs:
    """Return core's arguments as a block of ours reads them."""
    options = {} if transformer_options is None else transformer_options
    return BlockInputs(modulation, freqs, context, image_tokens, block_tokens=0, transformer_options=options)
