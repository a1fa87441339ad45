"""Nodes that change how a MODEL is guided by its prompts."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..wan_core.comfy.sampling.cfg_range import with_cfg_range
from .aliases import ALIASES


class SkyReelsV2CFGRange(io.ComfyNode):
    """Guidance in a part of the steps."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Name the inputs and outputs."""
        share = {"min": 0.0, "max": 1.0, "step": 0.01}
        return io.Schema(
            node_id="SkyReelsV2CFGRange",
            display_name="SkyReels-V2 CFG Range",
            search_aliases=ALIASES["SkyReelsV2CFGRange"],
            category="SkyReels-V2",
            description="Uses CFG for part of the steps only. The other steps skip the negative prompt and take half "
            "the time.",
            inputs=[
                io.Model.Input("model", tooltip="The model, between its loader (or LoRAs) and the sampler."),
                io.Float.Input(
                    "start_percent",
                    default=0.0,
                    tooltip="Share of the steps after which CFG begins: 0 is the first step.",
                    **share,
                ),
                io.Float.Input(
                    "end_percent",
                    default=1.0,
                    tooltip="Share of the steps after which CFG ends: 1 is the last step. In diffusion forcing each "
                    "frame counts its own steps.",
                    **share,
                ),
            ],
            outputs=[io.Model.Output("model", display_name="model", tooltip="The model with this range.")],
        )

    @classmethod
    def execute(cls, model: Any, start_percent: float, end_percent: float) -> io.NodeOutput:
        """Set the range."""
        return io.NodeOutput(with_cfg_range(model, start_percent, end_percent))
