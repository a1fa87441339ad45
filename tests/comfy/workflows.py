"""The shipped workflows as prompts that run in seconds: tiny files, sizes and step counts."""

from __future__ import annotations

from typing import Any

from tools.workflow_prompt import WorkflowError, load_workflow, to_prompt

__all__ = ["WorkflowError", "load_workflow", "shrink", "to_prompt"]

SHORT_SCRIPT = "0s-0.8s: a red ball\n0.8s-1.4s: a blue cube\n1.4s-: a green star"


def shrink(prompt: dict[str, dict[str, Any]], frames: int = 9, steps: int = 2) -> dict[str, dict[str, Any]]:
    """Return the prompt with tiny files, sizes and step counts in place of the released ones; wiring is untouched."""
    window = {"base_num_frames": 21, "overlap_history": 5, "steps": steps}
    custom = {"size": "custom", "size.width": 64, "size.height": 64}
    replaced: dict[str, dict[str, Any]] = {
        "SkyReelsV2ModelLoader": {"model_name": "tiny_df.safetensors", "weight_dtype": "default"},
        "UNETLoader": {"unet_name": "tiny_df.safetensors", "weight_dtype": "default"},
        "VAELoader": {"vae_name": "tiny_wan_vae.safetensors"},
        "LoadImage": {"image": "first.png"},
        "WanImageToVideo": {"width": 64, "height": 64, "length": frames},
        "SkyReelsV2EmptyLatent": {**custom, "frames": frames},
        "LoadVideo": {"file": "clip.mp4"},
        "SkyReelsV2LongVideo": {**custom, "total_frames": 3 * frames - 6, **window},
        "SkyReelsV2ExtendVideo": {"new_frames": frames, **window},
        "SkyReelsV2PromptScript": {"script": SHORT_SCRIPT},
        "SkyReelsV2Sampler": {"steps": steps},
        "SkyReelsV2Sigmas": {"steps": steps},
    }
    small = {}
    pictures = iter(["first.png", "last.png", "middle.png"] * 3)
    for identity, node in prompt.items():
        kind, inputs = node["class_type"], dict(node["inputs"])
        if kind == "CLIPLoader":
            small[identity] = {"class_type": "SkyReelsV2TestTinyCLIP", "inputs": {"width": 4096}}
            continue
        if kind == "CLIPVisionLoader":  # ViT-H has no tiny twin: what it would say is given by a test node
            continue
        if kind == "CLIPVisionEncode":
            small[identity] = {"class_type": "SkyReelsV2TestCLIPVision", "inputs": {"seed": 0}}
            continue
        image_model = kind == "SkyReelsV2ModelLoader" and "-I2V-" in inputs["model_name"]
        for name, value in replaced.get(kind, {}).items():
            if not isinstance(inputs.get(name), list):
                inputs[name] = next(pictures) if kind == "LoadImage" else value
        if image_model:
            inputs["model_name"] = "tiny_i2v.safetensors"
        small[identity] = {"class_type": kind, "inputs": inputs}
    return small
