"""What the maker of an adapter says about it outside its tensors: alpha, rank, rslora, and how it was begun.

Places in use: `lora_adapter_metadata` in the file's metadata (diffusers from 0.34 on, SimpleTuner), `lora_config` there
(finetrainers), `lora_alpha` alone in the metadata or as a tensor, and PEFT's `adapter_config.json` beside the file.
Musubi's and kohya's `ss_network_alpha` is none of them: these write alpha as a tensor, or work it into the factors when
they convert.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import InputError
from .name_patterns import NamePatterns, PatternError

METADATA = ("lora_adapter_metadata", "lora_config")
ALONE = "lora_alpha"  # one for all modules, as an entry of the metadata or as a tensor
ALONE_WITH = (ALONE, "r", "rank", "use_rslora")
PREFIXES = ("transformer.", "unet.", "diffusion_model.", "")  # of diffusers: one file may hold several models' adapters
CONFIG_FILE = "adapter_config.json"
OWN_NAMES = ("adapter_model", "pytorch_lora_weights")  # PEFT's and diffusers' names of the file beside the config
SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")
KINDS = ("LORA", "LOHA", "LOKR")
_PREFIX = re.compile(r"((base_model|model|transformer|diffusion_model|unet|pipe|dit)\.)*")
CHANGED_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")  # begin by taking something away from the base model


@dataclass(frozen=True)
class LoraSettings:
    """An adapter's settings as PEFT names them, and where they stand."""

    source: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)

    @property
    def alpha(self) -> Any:
        """The number for all modules that have none of their own; None where nothing is said."""
        return self.values.get("lora_alpha", self.values.get("alpha"))

    def rank(self, module: str) -> Any:
        """Return the rank that a module of the file has by these settings; None where nothing is said."""
        return self.of_module("rank_pattern", module, self.values.get("r", self.values.get("rank")))

    def scale(self, module: str, rank: int | None) -> float:
        """Return what a module's factors are multiplied with.

        Args:
            module: as the file names it.
            rank: of its factors; None for those that have none.

        Raises:
            InputError: alpha is no number.
        """
        alpha = self.of_module("alpha_pattern", module, self.alpha)
        rank = rank or self.rank(module)
        if alpha is None or not rank:
            return 1.0
        if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not math.isfinite(alpha):
            raise InputError(
                "The LoRA's alpha is {alpha} in its {source}, but a number is wanted: fix it there, or remove it to "
                "use the LoRA unscaled.",
                alpha=repr(alpha),
                source=self.source,
            )
        return alpha / (math.sqrt(rank) if self.values.get("use_rslora") else rank)

    def of_module(self, pattern: str, module: str, otherwise: Any) -> Any:
        """Return a module's entry in a table of patterns; `Raises: InputError` for one that can't be read."""
        return self.patterns[pattern].find(_PREFIX.sub("", module), otherwise)

    @cached_property
    def patterns(self) -> dict[str, NamePatterns]:
        """The tables of patterns by name."""
        tables = {name: self.values.get(name) for name in ("rank_pattern", "alpha_pattern")}
        try:
            return {
                name: NamePatterns.of(table if isinstance(table, Mapping) else {}) for name, table in tables.items()
            }
        except PatternError as error:
            raise InputError(
                "The LoRA's {source} has the pattern {ending!r}, which can't be read ({error}): fix it there.",
                source=self.source,
                ending=error.pattern,
                error=error.reason,
            ) from error

    def with_tensors(self, tensors: Mapping[str, Tensor]) -> tuple[LoraSettings, dict[str, Tensor]]:
        """Return these settings with the alpha that stands alone among a file's tensors, if any, and the others."""
        others = dict(tensors)
        alone = others.get(ALONE)
        if alone is None or alone.numel() != 1 or self.alpha is not None:
            return self, others
        del others[ALONE]
        return LoraSettings(ALONE, {**self.values, ALONE: float(alone.float())}), others

    def check(self) -> None:
        """Refuse adapters that mean something else than a change of the weights; `Raises: InputError`."""
        kind = str(self.values.get("peft_type") or "LORA").upper()
        begun = str(self.values.get("init_lora_weights") or "").lower()
        if kind not in KINDS:
            raise InputError(
                "By its {source}, this is an adapter of the kind {kind}, but only {known} are supported: use a LoRA.",
                kind=kind,
                source=self.source,
                known=", ".join(KINDS),
            )
        if begun.startswith(CHANGED_BASE):
            raise InputError(
                "By its {source}, this LoRA was initialised with {begun}, which changes the base model too: convert it "
                "to a plain LoRA with PEFT (path_initial_model_for_weight_conversion).",
                begun=begun,
                source=self.source,
            )


def find_settings(path: Path, metadata: Mapping[str, str]) -> LoraSettings:
    """Return what is said about a file's adapter, in its metadata or else beside it.

    Args:
        path: the file.
        metadata: of the file.

    Raises:
        InputError: it is no JSON, or of a kind that is not known.
    """
    for source, text in settings_texts(path, metadata):
        try:
            values = json.loads(text)
            found = {name.removeprefix(prefix): value for prefix in reversed(PREFIXES) for name, value in values.items()
                     if name.startswith(prefix)}  # fmt: skip
        except (ValueError, AttributeError, RecursionError) as error:
            raise InputError(
                "The LoRA's {source} is no JSON table ({error}): fix it, or remove it to use the LoRA unscaled.",
                source=source,
                error=error,
            ) from error
        if found.keys() & {"lora_alpha", "alpha", "r", "peft_type"}:
            settings = LoraSettings(source, found)
            settings.check()
            return settings
    return LoraSettings()


def settings_texts(path: Path, metadata: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Give the texts that may hold the settings of a file's adapter, the nearest first, with their names."""
    yield from ((name, metadata[name]) for name in METADATA if name in metadata)
    if ALONE in metadata:
        told = [f"{json.dumps(name)}: {metadata[name].lower()}" for name in ALONE_WITH if name in metadata]
        yield "metadata", "{" + ", ".join(told) + "}"
    config = path.with_name(CONFIG_FILE)
    if config.is_file() and belongs_to(path):
        yield CONFIG_FILE, config.read_text("utf-8", errors="replace")


def belongs_to(path: Path) -> bool:
    """Say whether a config beside a file is its own: by the file's name, or because there is no other."""
    others = [each for each in path.parent.iterdir() if each.suffix.lower() in SUFFIXES and each.name != path.name]
    return path.stem in OWN_NAMES or not others
