"""Nodes that bring models in."""

from __future__ import annotations

import re

import folder_paths
from comfy_api.latest import io

from ..wan_core.comfy.loader import WEIGHT_DTYPES, describe_checkpoint, load_model

SHARD = re.compile(r"-(\d{5})-of-\d{5}(?=\.\w+$)")


def model_files() -> list[str]:
    """Return the names in models/diffusion_models; of a sharded checkpoint only the first shard is listed."""
    names = folder_paths.get_filename_list("diffusion_models")
    return [name for name in names if (shard := SHARD.search(name)) is None or int(shard.group(1)) == 1]


class SkyReelsV2ModelLoader(io.ComfyNode):
    """A SkyReels-V2 or Wan 2.1 transformer from models/diffusion_models."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Name the inputs and outputs."""
        return io.Schema(
            node_id="SkyReelsV2ModelLoader",
            display_name="SkyReels-V2 Model Loader",
            category="SkyReels-V2",
            description="Loads a SkyReels-V2 transformer (diffusion forcing, T2V or I2V; any released format). DF-1.3B "
            "keeps its frame-rate weights, which ComfyUI's own loader drops.",
            inputs=[
                io.Combo.Input(
                    "model_name",
                    options=model_files(),
                    tooltip="File in models/diffusion_models. Of a checkpoint in several shards, pick the first one; "
                    "the others are found beside it.",
                ),
                io.Combo.Input(
                    "weight_dtype",
                    options=list(WEIGHT_DTYPES),
                    default="default",
                    tooltip="How the weights are kept in memory. default: as in the file. fp8: half the memory of 16 "
                    "bit, a little less exact; _fast also multiplies in fp8 where the GPU can.",
                ),
            ],
            outputs=[
                io.Model.Output(
                    "model", display_name="model", tooltip="For the SkyReels-V2 samplers, LoRA loaders, KSampler."
                ),
                io.String.Output("info", display_name="info", tooltip="What was detected in the file, as text."),
            ],
        )

    @classmethod
    def execute(cls, model_name: str, weight_dtype: str) -> io.NodeOutput:
        """Load the file."""
        path = folder_paths.get_full_path_or_raise("diffusion_models", model_name)
        return io.NodeOutput(load_model(path, weight_dtype), describe_checkpoint(path).describe())
