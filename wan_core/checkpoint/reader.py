"""Opens Wan checkpoints in every released form: detects what a file holds from its headers, then loads it.

Gives tensors under the original key names in the dtypes of the file. It builds no model and converts no weights.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from ..errors import CheckpointError
from ..model.config import WanConfig
from ..words import Joined, Words, counted, joined, lines, words
from .foreign import foreign_kind, wan_relative
from .header import Header, TensorEntry, read_header
from .key_names import Naming, detect_naming, original_name, original_names, rename_all
from .shapes import config_of
from .shards import find_files
from .variants import describe_model, guess_variant

ReadFile = Callable[[str], dict[str, Tensor]]

QUANTIZATION_METADATA = "_quantization_metadata"
_PACKED_DTYPES = ("uint8", "int8", "float4_e2m1fn_x2")


@dataclass(frozen=True)
class CheckpointInfo:
    """What was found in a checkpoint.

    Args:
        path: the path asked for.
        files: the safetensors files it consists of.
        layout: "original" or "diffusers" key names in the file.
        prefix: what stood before every key, e.g. "model.diffusion_model.".
        marker: the model named by a `model_type.*` key, or None.
        dtype: torch's name of the dtype most of the weights have, e.g. "bfloat16".
        quantization: "scaled_fp8" (scale_weight keys), "comfy_quant" (ComfyUI's own), "weight_scale" (scales without
            a statement of their format), or None.
        variant: best guess which released model it is (a name in PRESETS), or None.
        metadata: the safetensors metadata; layer names in `_quantization_metadata` are the original ones.
        config: the architecture.
        variant_source: what the guess rests on: "marker", "name", "shape", or None.
        ignored: keys left out because no part of the model reads them.
    """

    path: Path
    files: tuple[Path, ...]
    layout: str
    prefix: str
    marker: str | None
    dtype: str
    quantization: str | None
    variant: str | None
    metadata: dict[str, str]
    config: WanConfig
    variant_source: str | None = None
    ignored: tuple[str, ...] = field(default=())

    @property
    def weights(self) -> str:
        """What the weights are, such as "bfloat16" or "float8_e4m3fn (scaled_fp8)"."""
        return self.dtype + (f" ({self.quantization})" if self.quantization else "")

    def describe(self) -> Joined:
        """Say in a few lines what was detected and which settings its authors recommend."""
        name, settings = describe_model(self.config, self.variant, self.variant_source, self.files[0].name)
        shown: list[Words] = [
            name,
            words(
                "{layers} layers x {width}, {heads} heads, {weights}, fps weights: {fps}, {layout} names, {files}",
                layers=self.config.num_layers,
                width=self.config.dim,
                heads=self.config.num_heads,
                weights=self.weights,
                fps=words("yes") if self.config.inject_sample_info else words("no"),
                layout=self.layout,
                files=counted(len(self.files), "files"),
            ),
        ]
        if settings is not None:
            shown.append(settings)
        if self.ignored:
            listed = joined([*self.ignored[:3], *["..."] * (len(self.ignored) > 3)])
            shown.append(words("{count} keys not used: {listed}", count=len(self.ignored), listed=listed))
        return lines(*shown)


def inspect_checkpoint(path: str | os.PathLike[str]) -> tuple[WanConfig, CheckpointInfo]:
    """Detect what a checkpoint holds from its headers alone.

    Args:
        path: a safetensors file, any one shard, an index json, or a folder of one of these.

    Returns:
        The architecture, and what else was found.

    Raises:
        CheckpointError: if there is no complete SkyReels-V2 or Wan transformer at the path.
    """
    info, _ = _inspect(Path(path))
    return info.config, info


def load_checkpoint(
    path: str | os.PathLike[str], read: ReadFile | None = None
) -> tuple[dict[str, Tensor], WanConfig, CheckpointInfo]:
    """Load a checkpoint under the original key names, in the dtypes of the file.

    Args:
        path: a safetensors file, any one shard, an index json, or a folder of one of these.
        read: reads one safetensors file, given its path; None means safetensors' own reader, onto the CPU.

    Returns:
        The parameters (scale keys of quantized files among them), the architecture, and what else was found.

    Raises:
        CheckpointError: if there is no complete SkyReels-V2 or Wan transformer at the path, or it cannot be read.
    """
    info, naming = _inspect(Path(path))  # every refusal comes before the first tensor is read
    state_dict: dict[str, Tensor] = {}
    for file in info.files:
        try:
            state_dict |= (read or safetensors.torch.load_file)(str(file))
        except (safetensors.SafetensorError, OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
            raise CheckpointError(
                "{file} cannot be read ({error}); download it again.", file=file, error=error
            ) from error
    renamed = rename_all(state_dict, naming)
    for key in info.ignored:
        renamed.pop(key, None)
    return renamed, info.config, info


def read_parameters(path: str | os.PathLike[str], prefix: str) -> dict[str, Tensor]:
    """Read a few parameters of a checkpoint, and nothing else of its tensors.

    Args:
        path: a safetensors file, any one shard, an index json, or a folder of one of these.
        prefix: what the original names of the wanted parameters begin with, e.g. "fps_".

    Returns:
        The parameters under the original key names, in the dtypes of the file; scale keys among them.

    Raises:
        CheckpointError: if there is no complete SkyReels-V2 or Wan transformer at the path.
    """
    info, naming = _inspect(Path(path))
    found: dict[str, Tensor] = {}
    for file in info.files:
        with safetensors.safe_open(str(file), framework="pt") as stored:
            wanted = {key: name for key in stored.keys() if (name := original_name(key, naming))}  # noqa: SIM118
            found |= {name: stored.get_tensor(key) for key, name in wanted.items() if name.startswith(prefix)}
    return found


def normalize_state_dict(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give a Wan state dict the original key names.

    Args:
        state_dict: parameters under any known naming.

    Returns:
        The same tensors: prefix stripped, diffusers names converted, marker key removed.

    Raises:
        CheckpointError: if these are not the keys of a Wan transformer.
    """
    return original_names(state_dict)


def _inspect(path: Path) -> tuple[CheckpointInfo, Naming]:
    files = find_files(path)
    header = _merged([read_header(file) for file in files])
    naming = detect_naming(header.tensors.keys())
    if naming is None:
        raise _not_wan(path, header)
    entries = rename_all(header.tensors, naming)
    if relative := wan_relative(entries):
        raise CheckpointError(
            "{path} is a Wan {relative} model, where a plain text- or image-to-video Wan 2.1 / SkyReels-V2 "
            "model is wanted; load it with ComfyUI's Load Diffusion Model node.",
            path=path,
            relative=relative,
        )
    quantization = _quantization(entries, header.metadata)
    try:
        config = config_of(entries, _named_heads(entries, header.metadata, files[0].parent))
        expected = config.parameter_shapes()
        _check_complete(expected, entries)
        _check_tensors(expected, entries, quantization)
        _check_latents(config)
    except CheckpointError as error:
        raise CheckpointError("{error} The file is {path}.", error=error, path=path) from error
    variant, source = guess_variant(config, naming.marker, files[0])
    info = CheckpointInfo(
        path=path,
        files=files,
        layout=naming.layout,
        prefix=naming.prefix,
        marker=naming.marker,
        dtype=_main_dtype(entries, expected),
        quantization=quantization,
        variant=variant,
        metadata=_original_metadata(header.metadata, naming),
        config=config,
        variant_source=source,
        ignored=_unused(entries, expected),
    )
    return info, naming


def _merged(headers: list[Header]) -> Header:
    tensors: dict[str, TensorEntry] = {}
    metadata: dict[str, str] = {}
    for header in headers:
        tensors |= header.tensors
        metadata |= header.metadata
    return Header(tensors, metadata)


def _not_wan(path: Path, header: Header) -> CheckpointError:
    kind = foreign_kind(header.tensors.keys())
    if kind is not None:
        what, advice = kind
        return CheckpointError(
            "{path} looks like {what}, where a SkyReels-V2 or Wan 2.1 diffusion model is wanted; {advice}.",
            path=path,
            what=what,
            advice=advice,
        )
    seen = joined(list(header.tensors)[:3]) if header.tensors else words("none at all")
    return CheckpointError(
        "{path} is no SkyReels-V2 or Wan 2.1 diffusion model (its {count} keys begin with {seen}); "
        "choose a file such as Wan2_1-SkyReels-V2-DF-1_3B-540P.",
        path=path,
        count=len(header.tensors),
        seen=seen,
    )


def _named_heads(entries: Mapping[str, TensorEntry], metadata: Mapping[str, str], folder: Path) -> int | None:
    """Number of heads named in the metadata, or by a config.json beside the file that fits the model's width."""
    inside = _json_object(metadata.get("config", ""))
    transformer = inside.get("transformer", inside)
    named: list[Any] = [metadata.get("num_heads")]
    if isinstance(transformer, dict):
        named += [transformer.get("num_heads"), transformer.get("num_attention_heads")]
    patch = entries.get("patch_embedding.weight")
    try:
        beside = _json_object((folder / "config.json").read_text(encoding="utf-8"))
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


def _json_object(text: str) -> dict[str, Any]:
    """Parse a JSON object; anything else is somebody else's metadata and counts as empty."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _quantization(entries: Mapping[str, TensorEntry], metadata: Mapping[str, str]) -> str | None:
    endings = {key.rpartition(".")[2] for key in entries}
    if "comfy_quant" in endings or QUANTIZATION_METADATA in metadata:
        return "comfy_quant"
    if endings & {"scaled_fp8", "scale_weight"}:
        return "scaled_fp8"
    return "weight_scale" if "weight_scale" in endings else None


def _original_metadata(metadata: Mapping[str, str], naming: Naming) -> dict[str, str]:
    """Rename the layers in ComfyUI's quantization table as the parameters are renamed."""
    table = _json_object(metadata.get(QUANTIZATION_METADATA, ""))
    layers = table.get("layers")
    if not isinstance(layers, dict):
        return dict(metadata)
    renamed = {original_name(layer, naming) or layer: value for layer, value in layers.items()}
    return {**metadata, QUANTIZATION_METADATA: json.dumps({**table, "layers": renamed})}


def _check_complete(expected: Mapping[str, tuple[int, ...]], entries: Mapping[str, TensorEntry]) -> None:
    missing = [key for key in expected if key not in entries]
    if not missing:
        return
    groups = Counter(_group(key) for key in missing)
    whole = [name for name, count in groups.items() if count == sum(_group(key) == name for key in expected)]
    parts = [words("all of {name}", name=name) for name in whole] + [key for key in missing if _group(key) not in whole]
    listed = joined(parts[:5] + ["..."] * (len(parts) > 5))
    raise CheckpointError(
        "{missing_count} of the model's {count} parameters are missing: {listed}; the file is "
        "incomplete, so download it again or load all of its shards.",
        missing_count=len(missing),
        count=len(expected),
        listed=listed,
    )


def _group(key: str) -> str:
    parts = key.split(".")
    return ".".join(parts[:2]) if parts[0] == "blocks" else parts[0]


def _check_tensors(
    expected: Mapping[str, tuple[int, ...]], entries: Mapping[str, TensorEntry], quantization: str | None
) -> None:
    """Refuse shapes and dtypes that would fail, or be silently wrong, in the middle of loading."""
    for key, shape in expected.items():
        entry = entries[key]
        packed = quantization is not None and entry.dtype in _PACKED_DTYPES
        if not packed and not entry.dtype.startswith(("float", "bfloat")):
            raise CheckpointError(
                "{key} has dtype {dtype}, where float32, float16, bfloat16, float8_e4m3fn or float8_e5m2 is "
                "wanted; use a file in one of these.",
                key=key,
                dtype=entry.dtype,
            )
        if not packed and entry.shape != shape:
            raise CheckpointError(
                "{key} has shape {shape}, where the rest of the model wants {wanted}; the file is damaged or "
                "another kind of model, so download it again.",
                key=key,
                shape=list(entry.shape),
                wanted=list(shape),
            )


def _check_latents(config: WanConfig) -> None:
    """Refuse the models of another VAE's latents: Wan 2.2 5B."""
    if config.out_dim != WanConfig.out_dim:
        raise CheckpointError(
            "The model makes latents of {channels} channels, as Wan 2.2 5B does, where SkyReels-V2 and Wan "
            "2.1 have {wanted}; load it with Load Diffusion Model and sample it with ComfyUI's own nodes.",
            channels=config.out_dim,
            wanted=WanConfig.out_dim,
        )


def _main_dtype(entries: Mapping[str, TensorEntry], expected: Mapping[str, tuple[int, ...]]) -> str:
    elements: Counter[str] = Counter()
    for key in expected:
        elements[entries[key].dtype] += entries[key].elements
    return elements.most_common(1)[0][0]


def _unused(entries: Mapping[str, TensorEntry], expected: Mapping[str, tuple[int, ...]]) -> tuple[str, ...]:
    """Keys outside every module of the model; what lies inside one may be a scale of some format and stays."""
    modules = {key.rpartition(".")[0] for key in expected}
    return tuple(key for key in entries if key != "scaled_fp8" and key.rpartition(".")[0] not in modules)
