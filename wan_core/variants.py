"""Guesses which released SkyReels-V2 model a checkpoint is, and says it in words with the authors' settings."""

from __future__ import annotations

import re
from pathlib import Path

from .config import PRESETS, WanConfig

_RELEASE = re.compile(r"(?<![a-z])(df|t2v|i2v)[-_. ]*(1[._]?3b|14b)[-_. ]*(540p|720p)", re.IGNORECASE)
_FOLDERS_READ = 4  # enough for models--Skywork--SkyReels-V2-.../snapshots/<revision>/transformer/
_SOURCES = {"marker": "named by its marker key", "name": "by the name of its file or folder", "shape": "by its shape"}


def guess_variant(config: WanConfig, marker: str | None, file: Path) -> tuple[str | None, str | None]:
    """Guess which released model a checkpoint is.

    Args:
        config: its architecture.
        marker: the model that its marker key names, or None.
        file: its first file; the names of the file and of the folders around it are read.

    Returns:
        A name in PRESETS and what it rests on ("marker", "name" or "shape"), or (None, None).
    """
    if marker is not None and (named := _released_name(marker)):
        return named, "marker"
    # Wan 2.1 itself has files named T2V-14B-540P or I2V-14B-720P; DF is SkyReels' own.
    names = [file.name, *(parent.name for parent in list(file.absolute().parents)[:_FOLDERS_READ])]
    is_skyreels = any("skyreels" in re.sub(r"[-_. ]", "", name.lower()) for name in names)
    for name in names:
        variant = _released_name(name)
        if variant and (is_skyreels or variant.startswith("DF")):
            return (variant, "name") if _same_size(config, variant) else _by_shape(config)
    return _by_shape(config)


def describe_model(config: WanConfig, variant: str | None, source: str | None) -> tuple[str, str]:
    """Say in words which model it is.

    Args:
        config: its architecture.
        variant: name in PRESETS, or None.
        source: what the variant rests on, from guess_variant.

    Returns:
        The model, and the settings its authors recommend ("" where the model is not known).
    """
    if variant is None:
        return _unknown(config), ""
    model = PRESETS[variant]
    settings = (
        f"Recommended: {model.width}x{model.height}, {model.base_num_frames} frames, shift {model.shift:g}, "
        f"guidance {model.guidance:g}, {model.steps} steps"
    )
    return f"SkyReels-V2 {variant}" + (f" ({_SOURCES[source]})" if source else ""), settings


def _released_name(text: str) -> str | None:
    """The released model that a name spells, in any of the spellings in use."""
    for match in _RELEASE.finditer(text):
        size = "14B" if match[2].lower() == "14b" else "1.3B"
        name = f"{match[1].upper()}-{size}-{match[3].upper()}"
        if name in PRESETS:
            return name
    return None


def _by_shape(config: WanConfig) -> tuple[str | None, str | None]:
    fits = [name for name in PRESETS if _same_size(config, name) and _same_extras(config, name)]
    return (fits[0], "shape") if len(fits) == 1 else (None, None)


def _same_size(config: WanConfig, name: str) -> bool:
    released = PRESETS[name].config
    ours = (config.model_type, config.in_dim, config.dim, config.num_layers)
    return ours == (released.model_type, released.in_dim, released.dim, released.num_layers)


def _same_extras(config: WanConfig, name: str) -> bool:
    return config.inject_sample_info == PRESETS[name].config.inject_sample_info


def _unknown(config: WanConfig) -> str:
    if _same_size(config, "I2V-14B-540P"):
        return "SkyReels-V2 I2V 14B, 540P or 720P (cannot be told apart by shape)"
    if _same_size(config, "DF-14B-540P"):
        return "SkyReels-V2 DF or T2V 14B (cannot be told apart by shape)"
    if _same_size(config, "DF-1.3B-540P"):
        return "Wan 2.1 T2V 1.3B (SkyReels-V2 DF-1.3B has fps weights, this has none)"
    return f"a Wan {config.model_type} model of a size that SkyReels-V2 was not released in"
