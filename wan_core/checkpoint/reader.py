"""Opens Wan checkpoints in every released form: detects what a file holds from its headers, then loads it.

Gives tensors under the original key names in the dtypes of the file. It builds no model and converts no weights.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from ..errors import CheckpointError
from ..model.config import WanConfig
from ..model.geometry import GEOMETRIES, WAN21
from ..words import joined, words
from .containers import read_header, read_tensors, some_tensors
from .foreign import foreign_kind, wan_relative
from .formats import Stored
from .header import Header, TensorEntry
from .info import CheckpointInfo
from .key_names import AUTO, Naming, detect_naming, original_name, original_names, rename_all
from .matrices import MARK, read_statements
from .shapes import config_of, named_heads
from .shards import find_files
from .stored import check_numbers, logical_entries, take_parts, understand
from .variants import OTHER_CAUSAL, as_variant, guess_variant

ReadFile = Callable[[str], dict[str, Tensor]]


def inspect_checkpoint(path: str | os.PathLike[str], part: str = AUTO) -> tuple[WanConfig, CheckpointInfo]:
    """Detect what a checkpoint holds from its headers alone.

    Args:
        path: a file of tensors, any one shard, an index json, or a folder of one of these.
        part: which model of a file with several; see `detect_naming`.

    Returns:
        The architecture, and what else was found.

    Raises:
        CheckpointError: if there is no complete SkyReels-V2 or Wan transformer at the path.
    """
    info, _ = _inspect(Path(path), part)
    return info.config, info


def load_checkpoint(
    path: str | os.PathLike[str], read: ReadFile | None = None, part: str = AUTO, variant: str = AUTO
) -> tuple[dict[str, Tensor], WanConfig, CheckpointInfo]:
    """Load a checkpoint under the original key names, in the dtypes of the file.

    Args:
        path: a file of tensors, any one shard, an index json, or a folder of one of these.
        read: reads one safetensors file, given its path; None means safetensors' own reader, onto the CPU.
        part: which model of a file with several; see `detect_naming`.
        variant: which model it is, one of `variants.CHOICES`; "auto" takes what the file says.

    Returns:
        The parameters (all parts of quantised ones among them), the architecture, and what else was found.

    Raises:
        CheckpointError: if there is no complete SkyReels-V2 or Wan transformer at the path, or it cannot be read.
        InputError: it has another shape than the variant.
    """
    info, naming = _inspect(Path(path), part)  # every refusal comes before the first tensor is read
    if variant != AUTO:
        name, source = as_variant(info.config, variant)
        info = replace(info, variant=name, variant_source=source)
    state_dict: dict[str, Tensor] = {}
    for file in info.files:
        state_dict |= read_tensors(file, read)
    renamed = rename_all(state_dict, naming)
    for key in info.ignored:
        renamed.pop(key, None)
    try:
        check_numbers(renamed, info.stored)
    except CheckpointError as error:
        raise _in_file(error, info.path) from error
    return renamed, info.config, info


def read_parameters(path: str | os.PathLike[str], prefix: str) -> dict[str, Tensor]:
    """Read the numbers of a few parameters of a checkpoint, and nothing else of its tensors.

    Args:
        path: a file of tensors, any one shard, an index json, or a folder of one of these.
        prefix: what the original names of the wanted parameters begin with, e.g. "fps_".

    Returns:
        The parameters under the original key names, in float32.

    Raises:
        CheckpointError: if there is no complete SkyReels-V2 or Wan transformer at the path.
    """
    info, naming = _inspect(Path(path), AUTO)

    def wanted(key: str, entry: TensorEntry) -> bool:
        return (original_name(key, naming) or "").startswith(prefix)

    found: dict[str, Tensor] = {}
    for file in info.files:
        found |= rename_all(dict(some_tensors(file, wanted)), naming)
    for name, stored in info.stored.items():
        if name.startswith(prefix):
            found[f"{name}.weight"] = stored.numbers(take_parts(found, stored))
    return {key: tensor.float() for key, tensor in found.items() if key.startswith(prefix)}


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


def _inspect(path: Path, part: str) -> tuple[CheckpointInfo, Naming]:
    files = find_files(path)
    header = _merged([read_header(file) for file in files])
    try:
        naming = detect_naming(header.tensors.keys(), part)
        if naming is None:
            raise _not_wan(header)
        entries = rename_all(header.tensors, naming)
        _refuse_relatives(entries)
        statements = read_statements(files, header.tensors, header.metadata, naming)
        shapes = logical_entries(entries)
        config = config_of(shapes, named_heads(shapes, header.metadata, files[0].parent))
        _check_latents(config)
        expected = config.parameter_shapes()
        matrices = understand(entries, expected, statements)
    except CheckpointError as error:
        raise _in_file(error, path) from error
    variant, source = guess_variant(config, naming.marker, files[0])
    if variant is None and any('"causal_ar"' in value for value in header.metadata.values()):  # ComfyUI's own mark
        variant, source = OTHER_CAUSAL, "marker"
    stored = {name: each for name, each in matrices.items() if not each.is_plain}
    info = CheckpointInfo(
        path=path,
        files=files,
        layout=naming.layout,
        prefix=naming.prefix,
        marker=naming.marker,
        dtype=_main_dtype(entries),
        quantization=", ".join(dict.fromkeys(each.format.name for each in stored.values())),
        variant=variant,
        metadata=header.metadata,
        config=config,
        variant_source=source,
        ignored=_unused(entries, expected, stored),
        stored=stored,
        others=naming.others,
    )
    return info, naming


def _in_file(error: CheckpointError, path: Path) -> CheckpointError:
    return CheckpointError("{error} The file is {path}.", error=error, path=path)


def _refuse_relatives(entries: Iterable[str]) -> None:
    if relative := wan_relative(list(entries)):
        raise CheckpointError(
            "This is a Wan {relative} model, but a plain text- or image-to-video model (Wan 2.1 or SkyReels-V2) is "
            "needed; load this one with ComfyUI's Load Diffusion Model node.",
            relative=relative,
        )


def _merged(headers: list[Header]) -> Header:
    tensors: dict[str, TensorEntry] = {}
    metadata: dict[str, str] = {}
    for header in headers:
        tensors |= header.tensors
        metadata |= header.metadata
    return Header(tensors, metadata)


def _not_wan(header: Header) -> CheckpointError:
    kind = foreign_kind(header.tensors.keys())
    if kind is not None:
        what, advice = kind
        return CheckpointError(
            "This looks like {what}, but a SkyReels-V2 or Wan 2.1 diffusion model is needed; {advice}.",
            what=what,
            advice=advice,
        )
    seen = joined(key[:80] for key in list(header.tensors)[:3]) if header.tensors else words("none at all")
    return CheckpointError(
        "This is no SkyReels-V2 or Wan 2.1 diffusion model (its {count} keys begin with {seen}); "
        "choose a file such as Wan2_1-SkyReels-V2-DF-1_3B-540P.",
        count=len(header.tensors),
        seen=seen,
    )


def _check_latents(config: WanConfig) -> None:
    """Refuse the models of another VAE's latents: Wan 2.2 5B."""
    if config.out_dim not in GEOMETRIES:
        raise CheckpointError(
            "The model makes latents of {channels} channels, as Wan 2.2 5B does, where SkyReels-V2 and Wan "
            "2.1 have {wanted}; load it with Load Diffusion Model and sample it with ComfyUI's own nodes.",
            channels=config.out_dim,
            wanted=WAN21.channels,
        )


def _main_dtype(entries: Mapping[str, TensorEntry]) -> str:
    elements: Counter[str] = Counter()
    for key, entry in entries.items():
        elements[entry.dtype] += entry.elements if key.endswith((".weight", ".weight._data", ".bias")) else 0
    return elements.most_common(1)[0][0]


def _unused(
    entries: Iterable[str], expected: Mapping[str, tuple[int, ...]], stored: Mapping[str, Stored]
) -> tuple[str, ...]:
    """Keys that neither the model nor the format of one of its matrices reads."""
    parts = {f"{name}.{part}" for name, each in stored.items() for part in each.matrix.parts}
    return tuple(key for key in entries if key not in expected and key not in parts and key != MARK)
