"""The floor: a forward pass of matrix products and attention calls only, with nothing between them.

No norm, modulation, rotary, activation or residual: what is left is what no implementation of this model can save.
Under causal attention each block looks at its visible prefix, as few keys as the result depends on.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from wan_core.model.attention import block_causal, scaled_dot_product

from .cases import Case


class Floor:
    """Called like a model, on the weights of one; what it returns is no velocity, only of its shape.

    Args:
        weights: state dict of a WanModel.
        case: what it stands for.
    """

    def __init__(self, weights: dict[str, Tensor], case: Case):
        self.weights = weights
        self.config = case.shape.config
        self.frames, rows, columns = case.shape.grid
        self.block_tokens = case.block * rows * columns
        patch = weights["patch_embedding.weight"].flatten(1)  # [dim, patch values]
        some = next(value for name, value in weights.items() if name.endswith("q.weight"))
        self.patch_weight = patch.to(some.dtype)
        self.patches = torch.randn(1, case.shape.tokens, patch.shape[1]).to(some)
        self.frequencies = torch.randn(1, 1 if case.mode == "one timestep" else case.shape.latent[0], 256).to(some)

    def linear(self, name: str, x: Tensor) -> Tensor:
        """Return `x` through one layer of the model."""
        return functional.linear(x, self.weights[name + ".weight"], self.weights[name + ".bias"])

    def self_attention(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Return the attention of video tokens among themselves."""
        if self.block_tokens:
            return block_causal(scaled_dot_product, q, k, v, self.config.num_heads, self.block_tokens)
        return scaled_dot_product(q, k, v, self.config.num_heads)

    def block(self, name: str, x: Tensor, context: Tensor) -> Tensor:
        """Return `x` after the products of one block."""
        x = self.linear(
            f"{name}.self_attn.o",
            self.self_attention(*(self.linear(f"{name}.self_attn.{part}", x) for part in "qkv")),
        )
        q = self.linear(f"{name}.cross_attn.q", x)
        k, v = (self.linear(f"{name}.cross_attn.{part}", context) for part in "kv")
        x = self.linear(f"{name}.cross_attn.o", scaled_dot_product(q, k, v, self.config.num_heads))
        return self.linear(f"{name}.ffn.2", self.linear(f"{name}.ffn.0", x))

    def __call__(self, x: Tensor, t: Tensor, context: Tensor) -> Tensor:
        """Do the products; of `x` only the length is looked at: patches and frequencies stand ready."""
        time = self.linear("time_embedding.2", self.linear("time_embedding.0", self.frequencies))
        self.linear("time_projection.1", time)
        text = self.linear("text_embedding.2", self.linear("text_embedding.0", context))
        length = x.shape[2] * (self.patches.shape[1] // self.frames)
        tokens = functional.linear(self.patches[:, :length], self.patch_weight)
        for index in range(self.config.num_layers):
            tokens = self.block(f"blocks.{index}", tokens, text)
        return self.linear("head.head", tokens)
