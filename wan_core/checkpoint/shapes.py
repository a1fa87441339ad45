"""From the names and shapes of a file's tensors to the configuration of the model that they make."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from ..errors import CheckpointError, InputError
from ..model.config import WanConfig
from ..words import joined, words
from .key_names import original_names
from .matrices import json_object

HEAD_WIDTH = 128  # every released Wan model
MAX_BLOCKS = 128

_IMAGE_KEY = re.compile(r"^img_emb\.|\.cross_attn\.(k_img|v_img|norm_k_img)\.")
_NORM3_KEY = re.compile(r"blocks\.\d+\.norm3\.")
_BLOCK_KEY = re.compile(r"blocks\.(\d{1,5})\.")


class HasShape(Protocol):
    """Anything with a shape: a tensor, or an entry of a safetensors header."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Size per axis."""


def config_of(state_dict: Mapping[str, HasShape], num_heads: int | None = None) -> WanConfig:
    """Read the configuration from parameter names and shapes.

    Args:
        state_dict: parameters, or anything with `.shape`, under any known key names.
        num_heads: attention heads, which no shape tells; None means dim // 128.

    Returns:
        The configuration; text_len, window_size and eps are the class defaults.

    Raises:
        CheckpointError: if the names are not those of a Wan transformer or a needed parameter is missing.
    """
    shapes = {key: tuple(value.shape) for key, value in original_names(state_dict).items()}
    dim = _size(shapes, "patch_embedding.weight", 0, rank=5)
    heads = dim // HEAD_WIDTH if num_heads is None else num_heads
    if heads < 1 or dim % heads or (dim // heads) % 2:
        raise CheckpointError(
            "The model is {dim} wide and has {heads} attention heads, {source}, but the width must split into "
            "heads of even size: name the right num_heads in the file's metadata or in a config.json next to it.",
            dim=dim,
            heads=heads,
            source=words("the usual number") if num_heads is None else words("as the file says"),
        )
    patch = shapes["patch_embedding.weight"][2:]
    head_out = _size(shapes, "head.head.weight", 0, rank=2)
    tokens = patch[0] * patch[1] * patch[2]
    if tokens < 1 or head_out % tokens:
        raise CheckpointError(
            "head.head.weight has {head_out} rows, which is no multiple of the patch {patch}; this is another kind of "
            "model, so choose a SkyReels-V2 or Wan 2.1 file.",
            head_out=head_out,
            patch=patch,
        )
    try:
        return WanConfig(
            model_type="i2v" if any(_IMAGE_KEY.search(key) for key in shapes) else "t2v",
            patch_size=(patch[0], patch[1], patch[2]),
            in_dim=_size(shapes, "patch_embedding.weight", 1, rank=5),
            dim=dim,
            ffn_dim=_size(shapes, "blocks.0.ffn.0.weight", 0, rank=2),
            freq_dim=_size(shapes, "time_embedding.0.weight", 1, rank=2),
            text_dim=_size(shapes, "text_embedding.0.weight", 1, rank=2),
            out_dim=head_out // tokens,
            num_heads=heads,
            num_layers=_count_blocks(shapes),
            qk_norm=any(key.endswith("self_attn.norm_q.weight") for key in shapes),
            cross_attn_norm=any(_NORM3_KEY.match(key) for key in shapes),
            inject_sample_info="fps_embedding.weight" in shapes,
        )
    except InputError as error:  # an impossible size in a file is the file's fault, not the caller's
        raise CheckpointError("The shapes in the file make no Wan model: {error}", error=error) from error


def _size(shapes: Mapping[str, tuple[int, ...]], key: str, axis: int, rank: int) -> int:
    """Size of one axis of a parameter that every Wan model has."""
    if key not in shapes:
        raise CheckpointError(
            "The Wan model has no {key}, which every Wan model has; choose a file with the whole model.", key=key
        )
    if len(shapes[key]) != rank:
        raise CheckpointError(
            "{key} has shape {shape}, where a Wan model has {rank} axes; it is repacked for another program, so use "
            "the released file.",
            key=key,
            shape=shapes[key],
            rank=rank,
        )
    return shapes[key][axis]


def _count_blocks(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Number of blocks, refusing a gap in the numbering."""
    found = {int(match[1]) for key in shapes if (match := _BLOCK_KEY.match(key))}
    last = max(found, default=-1)
    missing = sorted(set(range(last + 1)) - found)
    if missing or last < 0:
        listed = joined([*missing[:5], *["..."] * (len(missing) > 5)])
        gap = words("blocks 0 to {last}, but block {listed} is missing", last=last, listed=listed)
        seen = gap if missing else words("no blocks")
        raise CheckpointError(
            "The Wan model has {seen}; choose a file with the whole model, or all of its shards.", seen=seen
        )
    if last >= MAX_BLOCKS:
        raise CheckpointError(
            "The Wan model has {count} blocks, where the released ones have 30 or 40 and at most {most} are read; "
            "choose another file.",
            count=last + 1,
            most=MAX_BLOCKS,
        )
    return last + 1


def named_heads(shapes: Mapping[str, HasShape], metadata: Mapping[str, str], folder: Path) -> int | None:
    """Find how many attention heads a file says that it has.

    Args:
        shapes: its entries, under the original names.
        metadata: of the file.
        folder: it lies in; a config.json next to it counts if it fits the model's width.

    Returns:
        The number; None where nothing names it.

    Raises:
        CheckpointError: it is not a whole number.
    """
    inside = json_object(metadata.get("config", ""))
    transformer = inside.get("transformer", inside)
    named: list[Any] = [metadata.get("num_heads")]
    if isinstance(transformer, dict):
        named += [transformer.get("num_heads"), transformer.get("num_attention_heads")]
    patch = shapes.get("patch_embedding.weight")
    try:
        beside = json_object((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        beside = {}
    if patch is not None and patch.shape:
        named.append(_heads_beside(beside, patch.shape[0]))
    heads = next((value for value in named if value is not None), None)
    if heads is None or type(heads) is int:
        return heads
    if isinstance(heads, str) and heads.isdecimal() and len(heads) < 5:
        return int(heads)  # safetensors metadata holds strings only
    raise CheckpointError("num_heads in the metadata is {heads!r}; write a whole number there.", heads=heads)


def _heads_beside(config: Mapping[str, Any], dim: int) -> int | None:
    """Heads of a config.json; beside many models it may be that of another one, so its width must fit."""
    heads, width = config.get("num_attention_heads"), config.get("attention_head_dim")
    if type(heads) is int and type(width) is int and heads * width == dim:
        return heads
    heads = config.get("num_heads")
    return heads if type(heads) is int and config.get("dim") == dim else None
