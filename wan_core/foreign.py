"""Says what a safetensors file looks like when it is no Wan transformer, and where such a file belongs."""

from __future__ import annotations

import re
from collections.abc import Collection

# The first rule that any key matches wins: (pattern, what it is, what to do with it).
_KINDS = tuple(
    (re.compile(pattern), what, advice)
    for pattern, what, advice in (
        (
            r"lora_[AB]\b|lora_(down|up)\b|lokr_|hada_|\.(diff|diff_b)$",
            "a LoRA",
            "load it with LoraLoaderModelOnly behind the model",
        ),
        (
            r"\bblock\.\d+\.layer\.\d+\.(SelfAttention|DenseReluDense)|^(blocks\.\d+\.ffn\.gate\.|token_embedding\.)",
            "a T5 / UMT5 text encoder",
            "put it into models/text_encoders and load it with Load CLIP, type wan",
        ),
        (
            r"^(first_stage_model|vae)\.|^(encoder|decoder)\.(middle|mid_block|mid|head|conv_in|conv1|downsamples)\b"
            r"|^(post_)?quant_conv\.",
            "a VAE",
            "put it into models/vae and load it with Load VAE",
        ),
        (
            r"vision_model\.(encoder|embeddings)\.|^visual\.transformer\.",
            "a CLIP vision encoder",
            "put it into models/clip_vision and load it with Load CLIP Vision",
        ),
        (
            r"text_model\.encoder\.layers\.|^textual\.transformer\.|^cond_stage_model\.",
            "a CLIP text encoder",
            "SkyReels-V2 reads text with umt5-xxl, in models/text_encoders",
        ),
        (
            r"^model\.layers\.\d+\.(self_attn|mlp)\.",
            "a language model",
            "SkyReels-V2 reads text with umt5-xxl, in models/text_encoders",
        ),
        (
            r"\b(double_blocks|joint_blocks|transformer_blocks|input_blocks|down_blocks|single_blocks)\.\d+\.",
            "another diffusion model",
            "load it with ComfyUI's own loader",
        ),
    )
)

# Wan models with modules that SkyReels-V2 does not have, under the original key names.
_RELATIVES = tuple(
    (re.compile(pattern), what)
    for pattern, what in (
        (r"vace_(blocks|patch_embedding)\.", "VACE"),
        (r"control_adapter\.", "camera-control"),
        (r"casual_audio_encoder\.|trainable_cond_mask\.", "speech-to-video (S2V)"),
        (r"audio_proj\.", "HuMo"),
        (r"face_adapter\.|motion_encoder\.", "Animate"),
        (r"patch_embedding_pose\.|pose_patch_embedding\.", "SCAIL"),
        (r"ref_conv\.", "Fun Control"),
        (r"img_emb\.emb_pos$", "first-last-frame (FLF2V)"),
    )
)


def foreign_kind(keys: Collection[str]) -> tuple[str, str] | None:
    """Guess what a file is that is no Wan transformer.

    Args:
        keys: its parameter names.

    Returns:
        What it looks like and what to do with it, or None if nothing is recognised.
    """
    for pattern, what, advice in _KINDS:
        if any(pattern.search(key) for key in keys):
            return what, advice
    return None


def wan_relative(keys: Collection[str]) -> str | None:
    """Name the kind of Wan model that has more modules than SkyReels-V2 has.

    Args:
        keys: parameter names, original naming.

    Returns:
        The kind, e.g. "VACE", or None if the names are those of a plain t2v or i2v model.
    """
    return next((what for pattern, what in _RELATIVES if any(pattern.match(key) for key in keys)), None)
