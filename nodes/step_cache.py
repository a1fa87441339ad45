"""The node that saves model calls."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..wan_core.comfy.sampling.step_cache import step_cached
from .aliases import ALIASES


class SkyReelsV2StepCache(io.ComfyNode):
    """A MODEL that leaves out what can be forecast."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Name the inputs and outputs."""
        return io.Schema(
            node_id="SkyReelsV2StepCache",
            display_name="SkyReels-V2 Step Cache",
            search_aliases=ALIASES["SkyReelsV2StepCache"],
            category="SkyReels-V2",
            description="Leaves out model calls whose result can be forecast from the ones before, decided for every "
            "block of frames by itself. Faster, and not quite the same video.",
            inputs=[
                io.Model.Input("model", tooltip="A SkyReels-V2 or Wan 2.1 model, from any loader."),
                io.Float.Input(
                    "threshold",
                    default=0.1,
                    min=0.0,
                    max=2.0,
                    step=0.01,
                    tooltip="How far the expected errors of a block's forecasts may add up before it is computed "
                    "again, relative to what is forecast. Higher is faster and less exact; 0 computes everything.",
                ),
            ],
            outputs=[
                io.Model.Output(
                    "model", display_name="model", tooltip="For any sampler. The console says what was left out."
                )
            ],
        )

    @classmethod
    def execute(cls, model: Any, threshold: float) -> io.NodeOutput:
        """Patch a clone of the model."""
        return io.NodeOutput(step_cached(model, threshold))
