"""Diffusers' names for Wan parameters; on its own, so that tests inside a host can read it by its path."""

from __future__ import annotations

import re
from typing import Any

_TO_DIFFUSERS = (
    (r"^head\.head\.", "proj_out."),
    (r"^head\.modulation$", "scale_shift_table"),
    (r"\.modulation$", ".scale_shift_table"),
    (r"^time_embedding\.0\.", "condition_embedder.time_embedder.linear_1."),
    (r"^time_embedding\.2\.", "condition_embedder.time_embedder.linear_2."),
    (r"^time_projection\.1\.", "condition_embedder.time_proj."),
    (r"^text_embedding\.0\.", "condition_embedder.text_embedder.linear_1."),
    (r"^text_embedding\.2\.", "condition_embedder.text_embedder.linear_2."),
    (r"^img_emb\.proj\.0\.", "condition_embedder.image_embedder.norm1."),
    (r"^img_emb\.proj\.1\.", "condition_embedder.image_embedder.ff.net.0.proj."),
    (r"^img_emb\.proj\.3\.", "condition_embedder.image_embedder.ff.net.2."),
    (r"^img_emb\.proj\.4\.", "condition_embedder.image_embedder.norm2."),
    (r"^fps_projection\.0\.", "fps_projection.net.0.proj."),
    (r"^fps_projection\.2\.", "fps_projection.net.2."),
    (r"\.ffn\.0\.", ".ffn.net.0.proj."),
    (r"\.ffn\.2\.", ".ffn.net.2."),
    (r"\.norm3\.", ".norm2."),
    (r"_attn\.([qkv])\.", r"_attn.to_\1."),
    (r"_attn\.o\.", "_attn.to_out.0."),
    (r"\.([kv])_img\.", r".add_\1_proj."),
    (r"\.norm_k_img\.", ".norm_added_k."),
    (r"\.self_attn\.", ".attn1."),
    (r"\.cross_attn\.", ".attn2."),
)


def to_diffusers_names(state_dict: dict[str, Any]) -> dict[str, Any]:
    """Rename original keys to diffusers' names: the way back, written apart from wan_core's own table."""
    renamed = {}
    for key, value in state_dict.items():
        name = key
        for pattern, replacement in _TO_DIFFUSERS:
            name = re.sub(pattern, replacement, name)
        renamed[name] = value
    return renamed
