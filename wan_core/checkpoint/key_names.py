"""Parameter names of Wan checkpoints: finds prefix and naming, and turns every known naming into the original one.

Works on names only, for tensors and for header entries alike. It opens no file and checks no shape.
Source: names of the SkyReels-V2 release and of diffusers' SkyReelsV2Transformer3DModel.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TypeVar

from ..errors import CheckpointError
from ..words import joined, words

T = TypeVar("T")

PREFIXES = ("", "model.diffusion_model.", "diffusion_model.", "transformer.", "model.")
MARKER_PREFIX = "model_type."

_ORIGINAL_ANCHORS = (
    "text_embedding.0.weight",
    "time_projection.1.weight",
    "head.modulation",
    "head.head.weight",
    "blocks.0.self_attn.q.weight",
    "blocks.0.cross_attn.q.weight",
)
_DIFFUSERS_ANCHORS = (
    "condition_embedder.time_embedder.linear_1.weight",
    "condition_embedder.time_proj.weight",
    "condition_embedder.text_embedder.linear_1.weight",
    "proj_out.weight",
    "blocks.0.attn1.to_q.weight",
    "blocks.0.attn2.to_q.weight",
)

# diffusers module -> original module; the rest of the key (weight, bias, scale_weight, ...) stays.
_OUTER_MODULES = {
    "condition_embedder.time_embedder.linear_1": "time_embedding.0",
    "condition_embedder.time_embedder.linear_2": "time_embedding.2",
    "condition_embedder.time_proj": "time_projection.1",
    "condition_embedder.text_embedder.linear_1": "text_embedding.0",
    "condition_embedder.text_embedder.linear_2": "text_embedding.2",
    "condition_embedder.image_embedder.norm1": "img_emb.proj.0",
    "condition_embedder.image_embedder.ff.net.0.proj": "img_emb.proj.1",
    "condition_embedder.image_embedder.ff.net.2": "img_emb.proj.3",
    "condition_embedder.image_embedder.norm2": "img_emb.proj.4",
    "condition_embedder.image_embedder.pos_embed": "img_emb.emb_pos",
    "fps_projection.net.0.proj": "fps_projection.0",
    "fps_projection.net.2": "fps_projection.2",
    "proj_out": "head.head",
    "scale_shift_table": "head.modulation",
}
_ATTENTION_MODULES = {
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "o",
    "add_k_proj": "k_img",
    "add_v_proj": "v_img",
    "norm_added_k": "norm_k_img",
    "norm_q": "norm_q",
    "norm_k": "norm_k",
}
_BLOCK_MODULES = {
    **{f"attn1.{ours}": f"self_attn.{theirs}" for ours, theirs in _ATTENTION_MODULES.items()},
    **{f"attn2.{ours}": f"cross_attn.{theirs}" for ours, theirs in _ATTENTION_MODULES.items()},
    "norm2": "norm3",  # the trap: diffusers numbers the norms in forward order, the release does not
    "norm3": "norm2",
    "ffn.net.0.proj": "ffn.0",
    "ffn.net.2": "ffn.2",
    "scale_shift_table": "modulation",
}
_BLOCK = re.compile(r"(blocks\.\d+\.)(.+)", re.DOTALL)
_DIFFUSERS_OUTER = {original: theirs for theirs, original in _OUTER_MODULES.items()}
_DIFFUSERS_BLOCK = {original: theirs for theirs, original in _BLOCK_MODULES.items()}


@dataclass(frozen=True)
class Naming:
    """How a checkpoint names its parameters.

    Args:
        layout: "original" or "diffusers".
        prefix: what stands before every key, e.g. "model.diffusion_model.".
        marker: model named by a `model_type.*` key, e.g. "SkyReels-V2-DF-14B-720P", or None.
    """

    layout: str
    prefix: str
    marker: str | None


def detect_naming(keys: Collection[str]) -> Naming | None:
    """Find how a checkpoint names its parameters.

    Args:
        keys: its parameter names.

    Returns:
        The naming, or None if these are not the keys of a Wan transformer.
    """
    best, naming = 1, None  # one key alone may be chance (proj_out.weight is a common name)
    for prefix in PREFIXES:
        for layout, anchors in (("original", _ORIGINAL_ANCHORS), ("diffusers", _DIFFUSERS_ANCHORS)):
            hits = sum(prefix + anchor in keys for anchor in anchors)
            if hits > best:
                best, naming = hits, Naming(layout, prefix, _find_marker(keys))
    return naming


def original_name(key: str, naming: Naming) -> str | None:
    """Turn one key of a checkpoint into the original name.

    Args:
        key: parameter name, or module name, as the file has it.
        naming: how the file names things.

    Returns:
        The original name, or None if the key is the marker or lies outside the prefix (a VAE in the same file).
    """
    if marker_of(key) is not None:
        return None
    if not key.startswith(naming.prefix):
        return key if key == "scaled_fp8" else None  # some converters add this flag without the prefix
    name = key.removeprefix(naming.prefix)
    if naming.layout == "original":
        return name
    if block := _BLOCK.fullmatch(name):
        return block[1] + _rename(block[2], _BLOCK_MODULES)
    return _rename(name, _OUTER_MODULES)


def diffusers_name(name: str) -> str:
    """Turn an original name into diffusers': the way back of `original_name`.

    Args:
        name: parameter or module name, original naming, without prefix.

    Returns:
        The name in diffusers' SkyReelsV2Transformer3DModel.
    """
    if block := _BLOCK.fullmatch(name):
        return block[1] + _rename(block[2], _DIFFUSERS_BLOCK)
    return _rename(name, _DIFFUSERS_OUTER)


def original_names(state_dict: Mapping[str, T]) -> dict[str, T]:
    """Give a checkpoint's entries under the original key names.

    Args:
        state_dict: entries of any kind under any known naming.

    Returns:
        The same entries: prefix stripped, diffusers names converted, marker key and keys outside the prefix removed.

    Raises:
        CheckpointError: if these are not the keys of a Wan transformer.
    """
    naming = detect_naming(state_dict.keys())
    if naming is None:
        seen = joined(list(state_dict)[:3]) if state_dict else words("none at all")
        raise CheckpointError(
            "The {count} keys given (such as {seen}) are not those of a Wan video transformer; use a "
            "SkyReels-V2 or Wan 2.1 diffusion model file.",
            count=len(state_dict),
            seen=seen,
        )
    return rename_all(state_dict, naming)


def rename_all(state_dict: Mapping[str, T], naming: Naming) -> dict[str, T]:
    """Give a checkpoint's entries under the original key names, for a naming already known.

    Args:
        state_dict: entries of any kind.
        naming: how they are named.

    Returns:
        The same entries under the original names.
    """
    renamed = ((original_name(key, naming), value) for key, value in state_dict.items())
    return {name: value for name, value in renamed if name is not None}


def marker_of(key: str) -> str | None:
    """Give the model that a `model_type.*` marker key names.

    Args:
        key: a key of a checkpoint.

    Returns:
        The model's name, or None if the key is no marker.
    """
    for prefix in PREFIXES:
        if key.startswith(prefix + MARKER_PREFIX):
            return key.removeprefix(prefix + MARKER_PREFIX)
    return None


def _find_marker(keys: Collection[str]) -> str | None:
    return next((marker for key in keys if (marker := marker_of(key)) is not None), None)


def _rename(name: str, modules: Mapping[str, str]) -> str:
    """Replace the longest leading run of whole path segments that names a module in `modules`."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        module = ".".join(parts[:length])
        if module in modules:
            return ".".join([modules[module], *parts[length:]])
    return name
