"""The shape of every tensor on the way through a WanModel, recorded from a real forward pass of the real code.

The model is built at full size on torch's meta device, which knows shapes but holds no numbers: the 14B models pass
through in seconds and in no memory. docs/architecture.md is checked against what comes out here, and
tools/draw_figures.py writes it into the figures. No part of the pack imports this file.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from wan_core.model.attention import scaled_dot_product
from wan_core.model.blocks import BlockInputs
from wan_core.model.config import IMAGE_DIM, PRESETS, ReleasedModel
from wan_core.model.layers import Layers
from wan_core.model.wan_model import WanModel

Shape = tuple[int, ...]
META = torch.device("meta")
IMAGE_TOKENS = 257  # CLIP ViT-H/14 at 224 pixels: 16 x 16 patches and the class token
NOT_WATCHED = ("Sequential", "Head", "MLPProj", "SiLU", "GELU")  # chains end in a layer of their own
MODULATIONS = ("shift_attn", "scale_attn", "gate_attn", "shift_ffn", "scale_ffn", "gate_ffn")


@dataclass
class Trace:
    """What was seen, in the order of the forward pass.

    Attributes:
        shapes: tensor name -> shape; the first block stands for all, as `blocks.N`.
        calls: for every call of the attention backend in the first block: heads, and the shapes of q and k.
    """

    shapes: dict[str, Shape] = field(default_factory=dict)
    calls: list[tuple[int, Shape, Shape]] = field(default_factory=list)

    def add(self, name: str, tensor: Tensor) -> None:
        """Keep a tensor's shape; a name that was seen before keeps its first."""
        self.shapes.setdefault(name, tuple(tensor.shape))


class TracedModel(WanModel):
    """A WanModel that writes down what passes between its own steps; modules are watched by hooks."""

    trace: Trace

    def embed_time(self, t: Tensor, fps: Any, like: Tensor) -> tuple[Tensor, Tensor]:
        """Record `e` and the six modulations."""
        e, modulation = super().embed_time(t, fps, like)
        self.trace.add("e", e)
        self.trace.add("modulation", modulation)
        return e, modulation

    def embed_context(self, context: Tensor, clip_fea: Tensor | None) -> Tensor:
        """Record what cross attention reads."""
        embedded = super().embed_context(context, clip_fea)
        self.trace.add("context (embedded)", embedded)
        return embedded

    def run_blocks(self, x: Tensor, inputs: BlockInputs, *rest: Any) -> Tensor:
        """Record the token stream and what the blocks are given beside it."""
        self.trace.add("tokens", x)
        self.trace.add("rotary.cos", inputs.rotary.cos)
        self.trace.add("rotary.sin", inputs.rotary.sin)
        for name, values in zip(MODULATIONS, inputs.modulation.unbind(2), strict=True):
            self.trace.add(name, values)
        return super().run_blocks(x, inputs, *rest)

    def unpatchify(self, x: Tensor, grid: tuple[int, int, int]) -> Tensor:
        """Record the model's answer."""
        video = super().unpatchify(x, grid)
        self.trace.add("unpatchify", video)
        return video


def trace_model(name: str, *, causal_block_size: int = 0, layers: int = 1) -> Trace:
    """Run a released model once at its own window and size, with a timestep for every latent frame.

    Args:
        name: one of PRESETS.
        causal_block_size: latent frames of a causal block; 0 for bidirectional attention.
        layers: how many blocks are built; they are all alike, so one says it all.

    Returns:
        The trace.
    """
    release = PRESETS[name]
    config = replace(release.config, num_layers=layers)
    trace = Trace()

    def attention(q: Tensor, k: Tensor, v: Tensor, heads: int, transformer_options: Any = None) -> Tensor:
        where = "self_attn" if len(trace.calls) < self_attention_calls else "cross_attn"
        trace.calls.append((heads, tuple(q.shape), tuple(k.shape)))
        for letter, tensor in (("q", q), ("k", k), ("v", v)):
            trace.add(f"blocks.N.{where}: {letter} by head", tensor.unflatten(-1, (heads, -1)).transpose(1, 2))
        result = scaled_dot_product(q, k, v, heads)
        trace.add(f"blocks.N.{where}: attention", result)
        return result

    inputs = model_inputs(release)
    frames = inputs["x"].shape[2]
    self_attention_calls = -(-frames // causal_block_size) if causal_block_size else 1
    model = TracedModel(config, Layers(attention=attention, device=META)).requires_grad_(False)
    model.trace = trace
    for key in ("x", "t", "context", "clip_fea"):
        if key in inputs:
            trace.add(key, inputs[key])
    with watched(model, trace), torch.enable_grad():  # as for training: nothing is computed in parts
        model(**inputs, causal_block_size=causal_block_size)
    return trace


def model_inputs(release: ReleasedModel) -> dict[str, Tensor]:
    """Return what a released model is called with at its own size, on the meta device."""
    config = release.config
    geometry = config.geometry
    _, *size = geometry.latent_shape(geometry.latent_frames(release.base_num_frames), release.height, release.width)
    inputs = {
        "x": torch.empty(1, config.in_dim, *size, device=META),
        "t": torch.empty(1, size[0], device=META),
        "context": torch.empty(1, config.text_len, config.text_dim, device=META),
    }
    if config.model_type == "i2v":
        inputs["clip_fea"] = torch.empty(1, IMAGE_TOKENS, IMAGE_DIM, device=META)
    return inputs


@contextmanager
def watched(model: nn.Module, trace: Trace) -> Iterator[None]:
    """Record the output of every layer of the model while the context lasts; activations change no shape."""

    def hook_for(name: str) -> Any:
        def hook(_module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
            if name == "time_embedding.0":
                trace.add("sinusoidal_embedding_1d", args[0])
            trace.add(name, output)

        return hook

    handles = [
        module.register_forward_hook(hook_for(name.replace("blocks.0", "blocks.N")))
        for name, module in model.named_modules()
        if name and type(module).__name__ not in NOT_WATCHED
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def main() -> None:
    """Print the trace of DF-1.3B at 97 frames 544x960."""
    for name, shape in trace_model("DF-1.3B-540P").shapes.items():
        print(f"{name:40} {list(shape)}")


if __name__ == "__main__":
    main()
