"""Guesses which released SkyReels-V2 model a checkpoint is, and says it in words with the authors' settings."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from ..model.config import PRESETS, ReleasedModel, WanConfig
from ..words import Words, joined, words

_RELEASE = re.compile(r"(?<![a-z])(df|t2v|i2v)[-_. ]*(1[._]?3b|14b)[-_. ]*(540p|720p)", re.IGNORECASE)
_WAN = re.compile(r"wan[-_. ]?2[-_. ]?([12])(?!\d)", re.IGNORECASE)
_WAN_KIND = re.compile(r"(?<![a-z])(ti2v|t2v|i2v|flf2v|s2v)(?![a-z])", re.IGNORECASE)
_WAN_SIZE = re.compile(r"(?<!\d)(1[._]3b|14b|5b)(?![a-z])", re.IGNORECASE)
_CAUSAL = re.compile(
    r"(?<![a-z])((self|causal|rolling|reward|infinite)[-_. ]?forcing|causvid|longlive|memflow|krea[-_. ]?realtime)",
    re.IGNORECASE,
)
_WAN_NOISE = re.compile(r"(?<![a-z])(high|low)(?![a-z])|(high|low)[-_. ]?noise", re.IGNORECASE)
_FOLDERS_READ = 4  # enough for models--Skywork--SkyReels-V2-.../snapshots/<revision>/transformer/
_SOURCES = {
    "marker": words("named by its marker key"),
    "name": words("by the name of its file or folder"),
    "shape": words("by its shape"),
    "chosen": words("chosen in the loader"),
}

TEXT, IMAGE, ASYNC = "text to video", "image to video", "async"
MODES = ("auto", TEXT, IMAGE, ASYNC)
_MODE_WORDS = {TEXT: words("text to video"), IMAGE: words("image to video"), ASYNC: words("async")}
_MODES_OF = {"DF": (TEXT, IMAGE, ASYNC), "T2V": (TEXT,), "I2V": (IMAGE,), "Demo": (TEXT, IMAGE, ASYNC)}

FORCING, TEXT_ONLY, FROM_IMAGE, CAUSAL, WAN = "DF", "T2V", "I2V", "causal", "Wan"
_KINDS = {"DF": FORCING, "Demo": FORCING, "T2V": TEXT_ONLY, "I2V": FROM_IMAGE}

DEMO = "Demo"  # the tiny model that comes with this pack, with the settings of its templates
_TINY = WanConfig(dim=256, ffn_dim=768, num_heads=4, num_layers=6, freq_dim=128, text_dim=96, inject_sample_info=True)
MODELS: dict[str, ReleasedModel] = {
    **PRESETS,
    DEMO: ReleasedModel(_TINY, base_num_frames=37, width=64, height=64, shift=5.0, guidance=4.0, steps=25),
}
OTHER_CAUSAL = "causal few-step model"
CHOICES = (*PRESETS, OTHER_CAUSAL)


@dataclass(frozen=True)
class Settings:
    """What its authors recommend for a released model in one mode.

    Attributes:
        width: pixels, landscape.
        height: pixels, landscape.
        base_num_frames: video frames of one window.
        steps: denoising steps of a frame.
        shift: flow-matching shift.
        guidance: classifier-free guidance scale.
        ar_step: steps a block lags behind the one before it; 0 denoises all frames together.
        causal_block_size: latent frames of a block.
        fps: frames per second.
    """

    width: int
    height: int
    base_num_frames: int
    steps: int
    shift: float
    guidance: float
    ar_step: int = 0
    causal_block_size: int = 1
    fps: int = 24


def recommended(variant: str, mode: str = "auto") -> tuple[Settings, str]:
    """Return what its authors recommend for a released model.

    Args:
        variant: a name in MODELS.
        mode: one of MODES; "auto" is image to video for an I2V model and text to video for the others.

    Returns:
        The settings, and the mode they are for.

    Raises:
        InputError: the model was not released for this mode.
    """
    model, modes = MODELS[variant], _MODES_OF[variant.partition("-")[0]]
    mode = modes[0] if mode == "auto" else mode
    if mode not in modes:
        raise InputError(
            'The model is {variant} and the mode "{mode}", but this model was released for {modes}: choose that mode '
            'or "auto", or load a DF model, which does all three.',
            variant=variant,
            mode=mode_in_words(mode),
            modes=joined(map(mode_in_words, modes), " and "),
        )
    shift, guidance = (5.0, 5.0) if mode == IMAGE and variant != DEMO else (model.shift, model.guidance)
    ar_step, block = (5, 5) if mode == ASYNC else (0, 1)
    size = (model.width, model.height, model.base_num_frames)
    return Settings(*size, model.steps, shift, guidance, ar_step, block), mode


def mode_in_words(mode: str) -> Words:
    """Return one of MODES but "auto" as words for a person."""
    return _MODE_WORDS[mode]


def check_variant(config: WanConfig, variant: str) -> None:
    """Refuse the name of a released model for a model of another shape; `Raises: InputError`.

    Sizes that were never released (pruned, distilled or test models) may go by any name of their kind.
    """
    released = any(_same_size(config, name) for name in PRESETS)
    wrong_size = released and not _same_size(config, variant)
    if wrong_size or config.model_type != MODELS[variant].config.model_type:
        raise InputError(
            "The variant chosen is {variant}, but the model has {num_layers} layers x {dim} and {in_dim} input "
            'channels, unlike that one: choose "auto", or the model\'s own name.',
            variant=variant,
            num_layers=config.num_layers,
            dim=config.dim,
            in_dim=config.in_dim,
        )


def as_variant(config: WanConfig, choice: str) -> tuple[str, str]:
    """Take a checkpoint for what a person says that it is.

    Args:
        config: its architecture.
        choice: one of CHOICES.

    Returns:
        As `guess_variant` returns.

    Raises:
        InputError: its shape is another.
    """
    if choice in MODELS:
        check_variant(config, choice)
    return choice, "chosen"


def guess_variant(config: WanConfig, marker: str | None, file: Path) -> tuple[str | None, str | None]:
    """Guess which released model a checkpoint is.

    Args:
        config: its architecture.
        marker: the model that its marker key names, or None.
        file: its first file; the names of the file and of the folders around it are read.

    Returns:
        A name in MODELS, or what `other_name` makes of the file's name, and what it rests on ("marker", "name" or
        "shape"); (None, None) where nothing tells.
    """
    if marker is not None and (named := _released_name(marker)):
        return named, "marker"
    # Wan 2.1 itself has files named T2V-14B-540P or I2V-14B-720P; DF is SkyReels' own.
    names = [file.name, *(parent.name for parent in list(file.absolute().parents)[:_FOLDERS_READ])]
    skyreels = ["skyreels" in re.sub(r"[-_. ]", "", name.lower()) for name in names]
    other = None if skyreels[0] or config.inject_sample_info else other_name(file.name)
    for name in names if other is None else ():
        variant = _released_name(name)
        if variant and (any(skyreels) or variant.startswith("DF")):
            return (variant, "name") if _same_size(config, variant) else variant_by_shape(config)
    return (other, "name") if other else variant_by_shape(config)


def other_name(name: str) -> str | None:
    """Return which model that is not SkyReels' a file's or folder's name spells, or None.

    That is one of the causal few-step family ("Self Forcing") or of Wan's own ("Wan 2.2 T2V 14B, high noise").
    """
    if causal := _CAUSAL.search(name):
        return " ".join(re.split(r"[-_. ]+", re.sub(r"(?i)(?<=[a-z])forcing", " forcing", causal[0]).title()))
    version = _WAN.search(name)
    if version is None:
        return None
    rest = name[version.end() :]
    found = [
        match[1].upper().replace("_", ".") for pattern in (_WAN_KIND, _WAN_SIZE) if (match := pattern.search(rest))
    ]
    noise = _WAN_NOISE.search(rest) if version[1] == "2" else None
    half = f", {(noise[1] or noise[2]).lower()} noise" if noise else ""
    return " ".join([f"Wan 2.{version[1]}", *found]) + half


def kind_of(variant: str | None) -> str | None:
    """Return what a model was trained for: FORCING, TEXT_ONLY, FROM_IMAGE, CAUSAL or WAN; None where it is not known.

    Args:
        variant: what `guess_variant` found.
    """
    if variant in MODELS:
        return _KINDS[variant.partition("-")[0]]
    return None if variant is None else (WAN if variant.startswith("Wan ") else CAUSAL)


def describe_model(
    config: WanConfig, variant: str | None, source: str | None, read_by_others: bool = False
) -> tuple[Words, Words | None]:
    """Say in words which model it is.

    Args:
        config: its architecture.
        variant: name in MODELS or of another model, or None.
        source: what the variant rests on, from guess_variant.
        read_by_others: another loader has read it, which drops fps weights.

    Returns:
        The model, and the settings its authors recommend (None where the model is not known).
    """
    if variant is None:
        return _unknown(config, read_by_others), None
    if variant not in MODELS:
        told: Words | str = variant
        if variant == OTHER_CAUSAL:
            told = words("a causal few-step model")
        elif kind_of(variant) == CAUSAL:
            told = words("{name}, a causal few-step model", name=variant)
        return words("{name} ({source})", name=told, source=_SOURCES[source or "name"]), None
    model = MODELS[variant]
    settings = words(
        "Recommended: {width}x{height}, {frames} video frames, shift {shift:g}, guidance {guidance:g}, {steps} steps",
        width=model.width,
        height=model.height,
        frames=model.base_num_frames,
        shift=model.shift,
        guidance=model.guidance,
        steps=model.steps,
    )
    name = words("SkyReels-V2 {variant}", variant=variant)
    return words("{name} ({source})", name=name, source=_SOURCES[source]) if source else name, settings


def _released_name(text: str) -> str | None:
    """The released model that a name spells, in any of the spellings in use."""
    for match in _RELEASE.finditer(text):
        size = "14B" if match[2].lower() == "14b" else "1.3B"
        name = f"{match[1].upper()}-{size}-{match[3].upper()}"
        if name in PRESETS:
            return name
    return None


def variant_by_shape(config: WanConfig) -> tuple[str | None, str | None]:
    """Return the one released model that an architecture fits, and "shape"; (None, None) where it fits none or several.

    Args:
        config: the architecture.
    """
    fits = [name for name in MODELS if _same_size(config, name) and _same_extras(config, name)]
    return (fits[0], "shape") if len(fits) == 1 else (None, None)


def _same_size(config: WanConfig, name: str) -> bool:
    released = MODELS[name].config
    ours = (config.model_type, config.in_dim, config.dim, config.num_layers)
    return ours == (released.model_type, released.in_dim, released.dim, released.num_layers)


def _same_extras(config: WanConfig, name: str) -> bool:
    return config.inject_sample_info == MODELS[name].config.inject_sample_info


def _unknown(config: WanConfig, read_by_others: bool) -> Words:
    if config.model_type == "t2v" and config.in_dim == PRESETS["I2V-14B-540P"].config.in_dim:
        return words("Wan 2.2 I2V 14B, high or low noise (an image-to-video model that reads no CLIP vision)")
    if _same_size(config, "I2V-14B-540P"):
        return words("an image-to-video 14B model, which could be SkyReels-V2 I2V or Wan 2.1")
    if _same_size(config, "DF-14B-540P"):
        return words("a text-to-video 14B model, which could be SkyReels-V2 DF, SkyReels-V2 T2V, Wan 2.1 or Wan 2.2")
    if _same_size(config, "DF-1.3B-540P"):
        if read_by_others:
            return words("Wan 2.1 T2V 1.3B (SkyReels-V2 DF-1.3B looks the same once another loader has read it)")
        return words("Wan 2.1 T2V 1.3B (SkyReels-V2 DF-1.3B has fps weights, this has none)")
    return words("a Wan {kind} model of a size that SkyReels-V2 was not released in", kind=config.model_type)
