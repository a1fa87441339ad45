"""Nodes that bring models in."""

from __future__ import annotations

import re
from typing import Any

import folder_paths
from comfy_api.latest import io

from ..wan_core.checkpoint.key_names import AUTO, PARTS
from ..wan_core.checkpoint.variants import CHOICES
from ..wan_core.comfy.language import say
from ..wan_core.comfy.loading.loader import WEIGHT_DTYPES, load_model
from ..wan_core.comfy.loading.lora import apply_lora
from ..wan_core.comfy.model.origin import CHECKPOINT
from .aliases import ALIASES

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
            search_aliases=ALIASES["SkyReelsV2ModelLoader"],
            category="SkyReels-V2",
            description="Loads a SkyReels-V2 or Wan 2.1 transformer, or a causal few-step one (Self Forcing and the "
            "like), in any released format. DF-1.3B keeps its frame-rate weights, which ComfyUI's own loader drops.",
            inputs=[
                io.Combo.Input(
                    "model_name",
                    options=model_files(),
                    tooltip="File in models/diffusion_models: safetensors or PyTorch (.pt). For a checkpoint in "
                    "several shards, pick the first one; the others are found in the same folder.",
                ),
                io.Combo.Input(
                    "weight_dtype",
                    options=list(WEIGHT_DTYPES),
                    default="default",
                    tooltip="How the weights are kept in memory. default: as ComfyUI chooses, 16 bit on a GPU. fp8: "
                    "half the memory of 16 bit, a little less exact; _fast also multiplies in fp8 where the GPU can.",
                ),
                io.Combo.Input(
                    "part",
                    options=[AUTO, *PARTS],
                    default=AUTO,
                    optional=True,
                    tooltip="Which weights to take from a file that holds several, as training scripts save them. "
                    "auto: generator_ema where there is one, else generator; info says what else is in the file.",
                ),
                io.Combo.Input(
                    "variant",
                    options=[AUTO, *CHOICES],
                    default=AUTO,
                    optional=True,
                    tooltip="Which model it is. auto: told by the marker in the file, its name or its shape. Nodes "
                    "that need diffusion forcing refuse a model known to lack it; if they are wrong, choose here what "
                    "it is.",
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
    def execute(cls, model_name: str, weight_dtype: str, part: str = AUTO, variant: str = AUTO) -> io.NodeOutput:
        """Load the file."""
        path = folder_paths.get_full_path_or_raise("diffusion_models", model_name)
        model = load_model(path, weight_dtype, part, variant)
        return io.NodeOutput(model, say(model.get_attachment(CHECKPOINT).describe()))


class SkyReelsV2LoraLoader(io.ComfyNode):
    """A LoRA from models/loras, with any of the key names in circulation."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Name the inputs and outputs."""
        return io.Schema(
            node_id="SkyReelsV2LoraLoader",
            display_name="SkyReels-V2 LoRA Loader",
            search_aliases=ALIASES["SkyReelsV2LoraLoader"],
            category="SkyReels-V2",
            description="Puts a LoRA for Wan 2.1 or SkyReels-V2 on the model: any key names (diffusers, PEFT, kohya, "
            "DiffSynth), LoRA, LoHa, LoKr, DoRA and OFT, with the alpha in its metadata or adapter_config.json. Says "
            "what it changed, and what was left out and why.",
            inputs=[
                io.Model.Input("model", tooltip="The model to change; the same model stays usable without the LoRA."),
                io.Combo.Input(
                    "lora_name",
                    options=folder_paths.get_filename_list("loras"),
                    tooltip="File in models/loras. 14B LoRAs don't fit 1.3B models, and vice versa.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=-20.0,
                    max=20.0,
                    step=0.01,
                    tooltip="How much of the LoRA's change is added: 1 as trained, 0 none, negative the opposite.",
                ),
            ],
            outputs=[
                io.Model.Output("model", display_name="model", tooltip="The changed model."),
                io.String.Output(
                    "info", display_name="info", tooltip="What changed and by how much, and what was left out and why."
                ),
            ],
        )

    @classmethod
    def execute(cls, model: Any, lora_name: str, strength: float) -> io.NodeOutput:
        """Load the file and patch it in."""
        path = folder_paths.get_full_path_or_raise("loras", lora_name)
        patched, report = apply_lora(model, path, strength)
        return io.NodeOutput(patched, say(report.describe()))
