"""A LoRA file, of any naming and kind, fitted to a model: which change of which weight, at which scale, and a report.

The rule: what the file holds is used as its maker meant it, or named with the reason. An adapter is used whole or not
at all. Works on the model's parameter shapes; the weights themselves are not looked at.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError
from ..finite import is_finite
from ..words import Words, words
from .foreign import LORA_FOR_WAN, foreign_kind
from .key_names import detect_naming
from .lora_math import KINDS, LORA_BIAS, Kind, change_of, norm_of
from .lora_names import LoraNames, convert_names, split_key
from .lora_settings import LoraSettings
from .report import LeftOut, Report, listed

Shape = tuple[int, ...]

UNKNOWN = words("this model has no such part")
STRANGE = words("because part of the adapter is not known, and the rest would be wrong without it")
DOUBLE = words("because the file has this part twice, so it doesn't say which one is meant")
HALF = words("because other parts of the adapter are missing")
MIXED = words("because parts of different kinds of adapter are mixed")
NO_MAGNITUDE = words("because the file is a DoRA by its settings, and the magnitudes are missing")
NOT_FINITE = words("because they hold NaN or infinite numbers")
NO_NUMBERS = words("because they are integers without a scale")
BOFT = words("because BOFT is not supported")
EMPTY = words("because they change nothing (all zero)")


@dataclass(frozen=True)
class Adapter:
    """One change of one parameter.

    Attributes:
        target: name of the parameter, such as "blocks.0.self_attn.q.weight".
        kind: whose formula it is.
        parts: its tensors.
        scale: see `lora_math.change_of`.
        keys: of the file.
    """

    target: str
    kind: Kind
    parts: dict[str, Tensor]
    scale: float
    keys: tuple[str, ...]


class Fitting:
    """The work of fitting one file; collects what is left out on its way."""

    def __init__(self, tensors: Mapping[str, Tensor], settings: LoraSettings, shapes: Mapping[str, Shape]):
        self.tensors, self.settings, self.shapes = tensors, settings, shapes
        self.adapters: list[Adapter] = []
        self.norms: list[float | None] = []  # of the adapters, None where they depend on the weights
        self.left_out: list[tuple[Words, list[str]]] = []
        self.misfit: Words | None = None  # the first one's reason

    def leave(self, reason: Words, keys: Iterable[str]) -> None:
        """Leave keys out for a reason."""
        known = next((each for why, each in self.left_out if why == reason), None)
        if known is None:
            self.left_out.append((reason, known := []))
        known += keys

    def run(self, names: LoraNames) -> None:
        """Fit every module's adapters."""
        for module in {**names.parts, **names.strange}:
            keys, strange = names.parts.get(module, {}), names.strange.get(module, [])
            if strange:
                self.leave(STRANGE, [*strange, *names.double.get(module, []), *keys.values()])
            elif module in names.double:
                self.leave(DOUBLE, [*names.double[module], *keys.values()])
            else:
                self.fit_module(module, keys)
        if names.unknown:
            self.leave(UNKNOWN, names.unknown)

    def fit_module(self, module: str, keys: Mapping[str, str]) -> None:
        """Fit the adapters of one module; `keys` are the file's by their part."""
        rest = dict(keys)
        found = [kind for kind in KINDS if kind.parts & rest.keys()]
        if sum(bool(kind.may) for kind in found) > 1:
            self.leave(MIXED, rest.values())
            return
        scale: float | None = None  # of the factors, which a LoRA's bias goes by
        for kind in found:
            own = {part: rest.pop(part) for part in sorted(kind.parts | kind.may) if part in rest}
            if any(sum(names <= own.keys() for names in group) != 1 for group in kind.needs):
                self.leave(HALF, own.values())
            elif self.settings.values.get("use_dora") and "magnitude" in kind.may and "magnitude" not in own:
                self.leave(NO_MAGNITUDE, own.values())
            elif kind is LORA_BIAS:
                self.leave(HALF, own.values()) if scale is None else self.fit(module, kind, own, scale)
            else:
                found_scale = self.scale_of(kind, own)
                if found_scale is not None and self.fit(module, kind, own, found_scale) and kind.rank:
                    scale = found_scale
        if rest:  # alpha, magnitude or a middle factor with nothing to go by
            self.leave(HALF, rest.values())

    def parts_of(self, keys: Mapping[str, str]) -> dict[str, Tensor]:
        """Return the tensors of some parts; a matrix that is stored as a convolution of one pixel is a matrix."""
        found = {part: self.tensors[key] for part, key in keys.items()}
        return {
            part: tensor.flatten(1) if tensor.ndim == 4 and tensor.shape[2:] == (1, 1) else tensor
            for part, tensor in found.items()
        }

    def scale_of(self, kind: Kind, keys: dict[str, str]) -> float | None:
        """Return an adapter's scale; None, with the reason said, where the file is at odds with itself."""
        if not kind.rank:
            return 1.0
        rank = kind.rank_of(self.parts_of(keys))
        if "alpha" in keys:
            alpha = self.tensors[keys["alpha"]].flatten().tolist()
            if len(alpha) == 1 and math.isfinite(alpha[0]):
                return alpha[0] / rank if rank else 1.0
            self.leave(words("because alpha has to be one number, and is {alpha}", alpha=alpha[:4]), keys.values())
            return None
        module = split_key(next(iter(keys.values())))[0]
        told = self.settings.rank(module)
        if rank and told and told != rank:
            source = self.settings.source
            reason = words("because their rank is {rank}, but {told} in {source}", rank=rank, told=told, source=source)
            self.leave(reason, keys.values())
            return None
        return self.settings.scale(module, rank)

    def fit(self, module: str, kind: Kind, keys: dict[str, str], scale: float) -> bool:
        """Take an adapter if it fits its parameter, and say whether it does."""
        names = tuple(keys.values())
        target = f"{module}.{kind.of}"
        if target not in self.shapes and kind.of == "weight":
            target = module  # a parameter of its own, such as a modulation
        if target not in self.shapes:
            self.leave(UNKNOWN, names)
            return False
        parts, shape = self.parts_of(keys), self.shapes[target]
        if (flaw := flaw_of(parts)) is not None:
            self.leave(flaw, names)
            return False
        if (misfit := misfit_of(kind, parts, shape, target)) is not None:
            self.misfit = self.misfit or misfit
            self.leave(words("because {misfit}", misfit=misfit), names)
            return False
        if kind.rank:
            parts.pop("alpha", None)  # it is in the scale
        norm = norm_of(kind, parts, shape, scale)
        if norm is not None and (norm == 0 or not math.isfinite(norm)):
            self.leave(NOT_FINITE if norm else EMPTY, names)
            return False
        self.norms.append(norm)
        self.adapters.append(Adapter(target, kind, parts, scale, names))
        return True

    def report(self, name: str, strength: float) -> Report:
        """Say what was made of the file."""
        left_out = tuple(LeftOut(reason, tuple(keys)) for reason, keys in self.left_out)
        known = [norm for norm in self.norms if norm is not None]
        notes = []
        alpha, source = self.settings.alpha, self.settings.source
        if alpha is not None:
            notes.append(words("alpha {alpha} is from {source}", alpha=alpha, source=source))
        if len(known) < len(self.norms):
            count = len(self.norms) - len(known)
            notes.append(
                words("{count} of them are rescaled or rotated (DoRA, OFT), which the norm leaves out", count=count)
            )
        return Report(
            name,
            sum(len(adapter.keys) for adapter in self.adapters),
            len(self.tensors),
            len({adapter.target for adapter in self.adapters}) if strength else 0,
            abs(strength) * math.hypot(*known) if known else None,
            tuple(notes),
            left_out,
        )


def fit_lora(
    name: str,
    tensors: Mapping[str, Tensor],
    settings: LoraSettings,
    shapes: Mapping[str, Shape],
    strength: float = 1.0,
) -> tuple[list[Adapter], Report]:
    """Fit a LoRA's tensors to a model.

    Args:
        name: of the file, for what is said about it.
        tensors: as the file has them.
        settings: what is said about them outside.
        shapes: parameter name (original naming, without prefix) -> shape of the weight, not of how it is stored.
        strength: factor of the whole change.

    Returns:
        The adapters, and what to say.

    Raises:
        InputError: nothing in the file fits the model.
    """
    settings, tensors = settings.with_tensors(tensors)
    names = convert_names(tensors, shapes)
    refuse_other_files(name, tensors, names)
    fitting = Fitting(tensors, settings, shapes)
    fitting.run(names)
    report = fitting.report(name, strength)
    if fitting.adapters:
        return fitting.adapters, report
    if fitting.misfit is not None:
        raise InputError(
            "{name} was made for a model of another size ({misfit}): use a LoRA for this model, 1.3B or 14B, or load "
            "the model that it was made for.",
            name=name,
            misfit=fitting.misfit,
        )
    raise InputError(
        "Nothing of {name} can be used. {why}. Choose another file, or convert this one to a plain LoRA.",
        name=name,
        why=report.left_out[0].describe(),
    )


def refuse_other_files(name: str, keys: Mapping[str, object], names: LoraNames) -> None:
    """Refuse a file that is no LoRA for this kind of model; `Raises: InputError`."""
    whole = detect_naming(keys.keys()) is not None
    if (names.parts or names.strange) and not whole:
        return
    kind = words("a whole diffusion model") if whole else (foreign_kind(names.unknown) or (None,))[0]
    if kind is not None and kind != LORA_FOR_WAN:
        raise InputError(
            "{name} looks like {kind}, but a LoRA for SkyReels-V2 or Wan 2.1 is needed: choose another file, and move "
            "this one to the folder for its kind.",
            name=name,
            kind=kind,
        )
    raise InputError(
        "{name} has {count} keys, but none of them names a part of this model ({listed}): use a LoRA for SkyReels-V2 "
        "or Wan 2.1.",
        name=name,
        count=len(keys),
        listed=listed(keys) if keys else words("it is empty"),
    )


def misfit_of(kind: Kind, parts: Mapping[str, Tensor], shape: Shape, target: str) -> Words | None:
    """Return why an adapter cannot be for a parameter of this shape, None if it can."""
    shadows = {name: torch.empty(part.shape, device="meta") for name, part in parts.items()}
    weight = torch.empty(shape, device="meta")
    try:
        change_of(kind, shadows, weight, 1.0)
        return None
    except (ValueError, RuntimeError, IndexError):
        module, wanted = target.removesuffix(".weight"), list(shape)
    try:
        made = list(kind.change(shadows, weight).shape)
    except (ValueError, RuntimeError, IndexError):
        made = wanted
    if made != wanted:
        return words("{module} has shape {wanted} in this model and {made} in the file", module=module, wanted=wanted,
                     made=made)  # fmt: skip
    seen = ", ".join(str(list(part.shape)) for name, part in parts.items() if name != "alpha")
    return words("{module} has shape {wanted} in this model, and its parts in the file are {seen}", module=module,
                 wanted=wanted, seen=seen)  # fmt: skip


def flaw_of(parts: Mapping[str, Tensor]) -> Words | None:
    """Return what is wrong with an adapter's numbers, None if nothing is."""
    for name, part in parts.items():
        if name == "oft_blocks" and part.ndim == 4:
            return BOFT
        if not part.is_floating_point() and part.numel() > 1:
            return NO_NUMBERS
        if not is_finite(part):
            return NOT_FINITE
    return None
