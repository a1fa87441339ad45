"""What a host puts in the place of a block, or behind it, called with the host's names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from .blocks import BlockInputs


def run_replaced(replacement: Callable[..., Any], block: nn.Module, x: Tensor, inputs: BlockInputs) -> Tensor:
    """Run a block through a host's replacement (`patches_replace["dit"]`), with the host's argument names."""

    def original_block(args: dict[str, Any]) -> dict[str, Any]:
        changed = replace(
            inputs,
            modulation=args["vec"],
            rotary=args["pe"],
            context=args["txt"],
            transformer_options=args["transformer_options"],
        )
        return {"img": block(args["img"], changed)}

    args = {
        "img": x,
        "txt": inputs.context,
        "vec": inputs.modulation,
        "pe": inputs.rotary,
        "transformer_options": inputs.transformer_options,
    }
    return replacement(args, {"original_block": original_block})["img"]


def run_after_block(x: Tensor, inputs: BlockInputs) -> Tensor:
    """Return the tokens [B, L, C] after the host's patches for the end of a block, in the order they were added."""
    options, shown = inputs.transformer_options, inputs.patched
    for patch in options.get("patches", {}).get("double_block", ()):
        assert shown is not None, "patches come with a host"
        x = patch({
            "img": x, "x": shown.video, "vec": shown.time, "block_index": options["block_index"], "img_offset": 0,
            "transformer_options": options,
        })["img"]  # fmt: skip
    return x
