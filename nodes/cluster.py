"""The node that has several GPUs compute each model call."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..wan_core.comfy.cluster.group import Place
from ..wan_core.comfy.cluster.remote import clustered
from .aliases import ALIASES


class SkyReelsV2GPUCluster(io.ComfyNode):
    """A MODEL that several GPUs compute together, on this machine or on others."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Name the inputs and outputs."""
        return io.Schema(
            node_id="SkyReelsV2GPUCluster",
            display_name="SkyReels-V2 GPU Cluster",
            search_aliases=ALIASES["SkyReelsV2GPUCluster"],
            category="SkyReels-V2",
            description="Splits every model call over several GPUs, of this machine or of a Ray cluster: the same "
            "video, faster. Put it between the loader (and LoRAs) and the sampler. Needs Ray: "
            'pip install "ray[default]".',
            inputs=[
                io.Model.Input(
                    "model", tooltip="From SkyReels-V2 Model Loader, with any LoRAs. Every worker loads the same file."
                ),
                io.Int.Input(
                    "workers",
                    default=0,
                    min=0,
                    max=64,
                    tooltip="Number of worker processes, one for each GPU; 0 = every GPU of the cluster. A number that "
                    "divides the model's heads sends the least: 2, 3, 4, 6 for 1.3B; 2, 4, 5, 8 for 14B. Without GPUs, "
                    "set how many processes share the CPUs.",
                ),
                io.String.Input(
                    "address",
                    default="",
                    tooltip="Ray cluster that this machine has joined (ray start), as HOST:6379 or just auto. Empty: "
                    "only this machine; Ray is started, and ends with ComfyUI.",
                ),
                io.Combo.Input(
                    "weights",
                    options=["whole", "sharded"],
                    default="whole",
                    optional=True,
                    tooltip="whole: every GPU holds the model, or ComfyUI offloads what doesn't fit. sharded: each "
                    "holds its part and gets the rest of a block from the others when it is needed, so 14B fits on "
                    "small cards. Sends much more. float32, bfloat16 and float16 files only.",
                ),
            ],
            outputs=[io.Model.Output("model", display_name="model", tooltip="For any sampler, ours or ComfyUI's.")],
        )

    @classmethod
    def execute(cls, model: Any, workers: int, address: str, weights: str = "whole") -> io.NodeOutput:
        """Wrap the model; the workers start when it is first sampled."""
        return io.NodeOutput(clustered(model, Place(address, workers, weights == "sharded")))
