"""Finds the files of a checkpoint: one file of tensors, or all shards named by a folder, an index or any one shard."""

from __future__ import annotations

import json
import re
from pathlib import Path

from ..errors import CheckpointError
from ..words import Words, words

INDEX_SUFFIX = ".safetensors.index.json"
INDEX_NAMES = ("diffusion_pytorch_model" + INDEX_SUFFIX, "model" + INDEX_SUFFIX)
SAFETENSORS_SUFFIXES = (".safetensors", ".sft")

_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.safetensors", re.IGNORECASE)


def find_files(path: Path) -> tuple[Path, ...]:
    """Find the safetensors files that make up a checkpoint.

    Args:
        path: a safetensors file, any one shard, an index json, or a folder of one of these (a diffusers pipeline's
            folder too: its transformer is taken).

    Returns:
        The files, sorted by name; all of them exist.

    Raises:
        CheckpointError: if the path or a shard is missing, or it is not clear which file is meant.
    """
    try:
        if path.is_dir():
            return _files_of_folder(path)
        is_file = path.is_file()
    except (OSError, ValueError) as error:  # a name with a null byte, too long, or not permitted
        raise CheckpointError(
            "{path!r} cannot be opened ({error}); give the path of a checkpoint.", path=str(path), error=error
        ) from error
    if match := _SHARD.fullmatch(path.name):
        return _files_of_shard(path, match)  # before the existence test: a missing shard is best told by its set
    if not is_file:
        raise CheckpointError(
            "{path} does not exist; give the path of a safetensors file, or of a folder or index of its shards.",
            path=path,
        )
    if path.suffix.lower() == ".json":
        return _files_of_index(path)
    return (path,)


def _files_of_folder(folder: Path) -> tuple[Path, ...]:
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_file())
    indexes = [name for name in names if name.lower().endswith(INDEX_SUFFIX)]
    if indexes:
        preferred = [name for name in INDEX_NAMES if name in indexes] or indexes
        return _files_of_index(folder / preferred[0])
    weights = [name for name in names if name.lower().endswith(SAFETENSORS_SUFFIXES)]
    whole = [name for name in weights if not _SHARD.fullmatch(name)]
    if len(whole) > 1:
        raise CheckpointError(
            "{folder} holds {count} safetensors files ({listed}); give the path of the one to load.",
            folder=folder,
            count=len(whole),
            listed=_listed(whole),
        )
    if whole:
        return (folder / whole[0],)
    if weights:
        return find_files(folder / weights[0])
    if (folder / "transformer").is_dir():
        return _files_of_folder(folder / "transformer")
    seen = words("holds {listed}", listed=_listed(names)) if names else words("is empty")
    raise CheckpointError(
        "{folder} {seen}, and no safetensors file; give a folder with a model's safetensors files in it.",
        folder=folder,
        seen=seen,
    )


def _files_of_shard(path: Path, match: re.Match[str]) -> tuple[Path, ...]:
    index = path.with_name(match["stem"] + INDEX_SUFFIX)
    if index.is_file():
        files = _files_of_index(index)
        if path.name in {file.name for file in files}:
            return files
    count = int(match["count"])
    if not 1 <= int(match["number"]) <= count:
        raise CheckpointError(
            "{path} is named as part {number} of {count}; rename the file back to its original name.",
            path=path,
            number=match["number"],
            count=count,
        )
    names = [f"{match['stem']}-{number:05}-of-{match['count']}.safetensors" for number in range(1, count + 1)]
    return _existing(path.parent, names, words("the set of {name}", name=path.name))


def _files_of_index(index: Path) -> tuple[Path, ...]:
    try:
        content = json.loads(index.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(
            "{index} cannot be read as JSON ({error}); download it again.", index=index, error=error
        ) from error
    weight_map = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(
            "{index} has no weight_map, so it is no index of shards; give a safetensors file or a *{ending}.",
            index=index,
            ending=INDEX_SUFFIX,
        )
    names = set()
    for name in weight_map.values():
        if not isinstance(name, str) or Path(name).name != name or "\\" in name or "\0" in name:
            raise CheckpointError(
                "{index} names the shard {name!r}; a shard is a file next to its index.", index=index, name=name
            )
        names.add(name)
    return _existing(index.parent, sorted(names), index.name)


def _existing(folder: Path, names: list[str], source: str | Words) -> tuple[Path, ...]:
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise CheckpointError(
            "{missing_count} of the {count} shards named by {source} are missing from {folder}: {listed}; "
            "download them into that folder.",
            missing_count=len(missing),
            count=len(names),
            source=source,
            folder=folder,
            listed=_listed(missing),
        )
    return tuple(folder / name for name in names)


def _listed(names: list[str]) -> str:
    return ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
