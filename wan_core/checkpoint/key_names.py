"""Parameter names of Wan checkpoints: finds prefix and naming, and turns every known naming into the original one.

A key is read as `<prefix><name>`: the prefix is a row of known words (`model.diffusion_model.`, `generator.model.`),
the name is spelled as the release or as diffusers spells it, and what wrappers leave anywhere in it (`_orig_mod.` of
torch.compile, `_fsdp_wrapped_module.`, `module.`) says nothing. Works on names only, for tensors and for header
entries alike; LoRA files use `bare` and `diffusers_name`. It opens no file and checks no shape.

Source: names of the SkyReels-V2 release and of diffusers' SkyReelsV2Transformer3DModel; the prefixes are those of
ComfyUI, of Self Forcing, Causal Forcing, LongLive and CausVid, and of torch's own wrappers.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from ..errors import CheckpointError
from ..words import joined, words

T = TypeVar("T")

AUTO = "auto"
# Which of several models in one file: the smoothed weights are what their authors sample with
PARTS = ("generator_ema", "ema", "ema_model", "params_ema", "generator")
PREFIX_WORDS = frozenset(
    (*PARTS, "model", "diffusion_model", "transformer", "state_dict", "params", "net", "dit", "unet", "pipe")
)
MARKER_PREFIX = "model_type."

_WRAPPERS = re.compile(
    r"(?:^|(?<=\.))(?:module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|_forward_module)\."
)
_ANCHORS = {
    "original": (
        "text_embedding.0.weight",
        "text_embedding.0.bias",
        "time_projection.1.weight",
        "time_projection.1.bias",
        "head.modulation",
        "head.head.weight",
        "head.head.bias",
        "blocks.0.modulation",
        "blocks.0.self_attn.q.weight",
        "blocks.0.self_attn.q.bias",
        "blocks.0.cross_attn.q.weight",
        "blocks.0.cross_attn.q.bias",
    ),
    "diffusers": (
        "condition_embedder.time_embedder.linear_1.weight",
        "condition_embedder.time_embedder.linear_1.bias",
        "condition_embedder.time_proj.weight",
        "condition_embedder.time_proj.bias",
        "condition_embedder.text_embedder.linear_1.weight",
        "condition_embedder.text_embedder.linear_1.bias",
        "proj_out.weight",
        "blocks.0.scale_shift_table",
        "blocks.0.attn1.to_q.weight",
        "blocks.0.attn1.to_q.bias",
        "blocks.0.attn2.to_q.weight",
        "blocks.0.attn2.to_q.bias",
    ),
}
_LAYOUT_OF = {anchor: layout for layout, anchors in _ANCHORS.items() for anchor in anchors}
_ENDINGS = tuple(_LAYOUT_OF)

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
        prefix: what stands before every bare key, e.g. "model.diffusion_model.".
        marker: model named by a `model_type.*` key, e.g. "SkyReels-V2-DF-14B-720P", or None.
        others: prefixes of other Wan models in the same file, which are left alone.
    """

    layout: str
    prefix: str
    marker: str | None
    others: tuple[str, ...] = ()


def bare(key: str) -> str:
    """Return a checkpoint's or a LoRA's key without what torch's wrappers leave in it, wherever that stands.

    "model._fsdp_wrapped_module.blocks.0._orig_mod.ffn.0.weight" gives "model.blocks.0.ffn.0.weight".
    """
    return _WRAPPERS.sub("", key)


def detect_naming(keys: Collection[str], part: str = AUTO) -> Naming | None:
    """Find how a checkpoint names its parameters.

    Args:
        keys: its parameter names.
        part: which model of a file with several, one of PARTS; "auto" takes the first of PARTS that is there.

    Returns:
        The naming, or None if these are not the keys of a Wan transformer.

    Raises:
        CheckpointError: there are several models and no saying which is meant, or not the one asked for.
    """
    hits = _models(keys)
    if not hits:
        return None
    prefixes = list(dict.fromkeys(prefix for _, prefix in hits))
    wanted = [prefix for prefix in prefixes if part == AUTO or part in prefix.split(".")]
    best = [prefix for prefix in wanted if _rank(prefix) == min(map(_rank, wanted))]
    if len(best) != 1:
        raise CheckpointError(
            "The file holds {count} Wan models, under {prefixes}, and {part} is asked for: choose a file with one "
            "model, or one of {known}.",
            count=len(prefixes),
            prefixes=joined(repr(prefix) for prefix in prefixes),
            part=repr(part),
            known=joined(PARTS),
        )
    layout = max((found for found, prefix in hits if prefix == best[0]), key=lambda found: hits[found, best[0]])
    marker = next((found for key in keys if (found := marker_of(key)) is not None), None)
    return Naming(layout, best[0], marker, tuple(prefix for prefix in prefixes if prefix != best[0]))


def _models(keys: Iterable[str]) -> Counter[tuple[str, str]]:
    """How many parameters that every Wan model has stand in each layout behind each prefix of known words."""
    hits: Counter[tuple[str, str]] = Counter()
    for key in keys:
        name = bare(key)
        if name.endswith(_ENDINGS):
            for anchor in (anchor for anchor in _ENDINGS if name.endswith(anchor)):
                hits[_LAYOUT_OF[anchor], name.removesuffix(anchor)] += 1
    known = {found: count for found, count in hits.items() if _is_prefix(found[1])}
    # one key alone may be chance (proj_out.weight is a common name); so may a few next to a whole model
    least = max(2, max(known.values(), default=0) / 2)
    return Counter({found: count for found, count in known.items() if count >= least})


def _is_prefix(text: str) -> bool:
    *names, rest = text.split(".")
    return not rest and PREFIX_WORDS.issuperset(names)


def _rank(prefix: str) -> int:
    return min((PARTS.index(word) for word in prefix.split(".") if word in PARTS), default=len(PARTS))


def original_name(key: str, naming: Naming) -> str | None:
    """Turn one key of a checkpoint into the original name.

    Args:
        key: parameter name, or module name, as the file has it.
        naming: how the file names things.

    Returns:
        The original name, or None if the key is the marker or lies outside the prefix (a VAE in the same file).
    """
    key = bare(key)
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
    naming = detect_naming(state_dict)
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

    Raises:
        CheckpointError: two of them are the same parameter.
    """
    renamed: dict[str, T] = {}
    for key, value in state_dict.items():
        name = original_name(key, naming)
        if name in renamed:
            raise CheckpointError(
                "The file holds {name} twice, the second time as {key}: choose a file that was saved once.",
                name=name,
                key=key,
            )
        if name is not None:
            renamed[name] = value
    return renamed


def marker_of(key: str) -> str | None:
    """Give the model that a `model_type.*` marker key names.

    Args:
        key: a key of a checkpoint.

    Returns:
        The model's name, or None if the key is no marker.
    """
    before, found, model = bare(key).partition(MARKER_PREFIX)
    return model if found and _is_prefix(before) else None


def _rename(name: str, modules: Mapping[str, str]) -> str:
    """Replace the longest leading run of whole path segments that names a module in `modules`."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        module = ".".join(parts[:length])
        if module in modules:
            return ".".join([modules[module], *parts[length:]])
    return name
