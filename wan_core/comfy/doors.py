"""What comes in at a node's inputs is of the kind that the input takes, or it is refused by the input's name.

A host checks what a person types, but not what comes over a link: a switch hands on nothing, a math node 0 steps, and
a node with an output of any type whatever it likes. The doors stand in front of every node, and know of a value what
the node's schema says. Whether values go together is for those who use them.
"""

from __future__ import annotations

import functools
import math
import numbers
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import comfy.model_base
import comfy.model_patcher
import torch

from ..errors import InputError
from ..words import Words, joined, words

SHOWN, LONGEST, HUGE = 8, 24, 10**18  # options, characters and numbers that a sentence repeats
LEAST = {"seed": -(2**63)}  # core's samplers take a negative seed over a link, as that of the same bits
CHECK_BEFORE = words("check the node before it")


class Kind(NamedTuple):
    """What an input of one type takes.

    Attributes:
        wanted: it in words.
        advice: what to connect, an imperative.
        holds: says whether a value is of the kind.
    """

    wanted: Words
    advice: Words
    holds: Callable[[Any], bool]


def is_model(value: Any) -> bool:
    """Whether a value is a MODEL."""
    return isinstance(value, comfy.model_patcher.ModelPatcher) and isinstance(value.model, comfy.model_base.BaseModel)


def is_conditioning(value: Any) -> bool:
    """Whether a value is CONDITIONING with something in it: of nothing core's samplers make noise without a word."""
    entries = value if isinstance(value, list | tuple) else ()
    return len(entries) > 0 and all(
        isinstance(entry, list | tuple)
        and len(entry) == 2
        and is_tensor(entry[0], 3)
        and entry[0].numel() > 0
        and isinstance(entry[1], dict)
        for entry in entries
    )


def is_latent(value: Any) -> bool:
    """Whether a value is a LATENT that is not empty, its noise_mask included."""
    if not isinstance(value, dict) or not is_tensor(value.get("samples")) or value["samples"].numel() == 0:
        return False
    mask = value.get("noise_mask")
    return mask is None or (is_tensor(mask) and mask.ndim >= 2 and mask.numel() > 0)


def is_image(value: Any) -> bool:
    """Whether a value is an IMAGE, perhaps of 0 pictures; those who need one say so."""
    return is_tensor(value, 4) and value.is_floating_point() and value.shape[-1] in (3, 4) and 0 not in value.shape[1:3]


def is_script(value: Any) -> bool:
    """Whether a value is what a script node hands on: a text encoder, a text, and perhaps the seconds of blending."""
    if not isinstance(value, tuple) or len(value) not in (2, 3) or not isinstance(value[1], str):
        return False
    return len(value) == 2 or (isinstance(value[2], int | float) and math.isfinite(value[2]))


def is_tensor(value: Any, dimensions: int | None = None) -> bool:
    """Whether a value is a tensor, of so many dimensions if they are given."""
    return isinstance(value, torch.Tensor) and dimensions in (None, value.ndim)


def has(*names: str) -> Callable[[Any], bool]:
    """Return whether a value has methods or attributes: those of None are looked at by the nodes, which say more."""
    return lambda value: value is None or all(hasattr(value, name) for name in names)


KINDS: dict[str, Kind] = {
    "MODEL": Kind(words("a MODEL"), words("connect SkyReels-V2 Model Loader"), is_model),
    "CLIP": Kind(
        words("a CLIP"),
        words('connect CLIPLoader, type "wan"'),
        has("tokenize", "encode_from_tokens_scheduled"),
    ),
    "VAE": Kind(words("a VAE"), words("connect Load VAE"), has("first_stage_model")),
    "CONDITIONING": Kind(
        words("CONDITIONING with at least one prompt of [batch, tokens, width]"),
        words("connect SkyReels-V2 Text Encode"),
        is_conditioning,
    ),
    "LATENT": Kind(
        words("a LATENT that is not empty, with tensors as samples and noise_mask"),
        words("connect SkyReels-V2 Empty Latent"),
        is_latent,
    ),
    "IMAGE": Kind(words("an IMAGE of [images, height, width, 3 or 4]"), CHECK_BEFORE, is_image),
    "VIDEO": Kind(
        words("a VIDEO"), words("connect Load Video"), lambda value: value is not None and has("get_components")(value)
    ),
    "SIGMAS": Kind(
        words("SIGMAS with at least two noise levels"),
        words("connect SkyReels-V2 Sigmas"),
        lambda value: is_tensor(value, 1) and len(value) > 1,
    ),
    "SKYREELS_V2_SCRIPT": Kind(
        words("a script"),
        words("connect SkyReels-V2 Prompt Script"),
        is_script,
    ),
    "STRING": Kind(words("text"), CHECK_BEFORE, lambda value: isinstance(value, str)),
    "BOOLEAN": Kind(words("true or false"), CHECK_BEFORE, lambda value: isinstance(value, bool)),
}


def seen(value: Any) -> Any:
    """Say what a wrong value is, in few words."""
    if value is None:
        return words("nothing")
    if isinstance(value, torch.Tensor):
        return words("a tensor of shape {shape}", shape=list(value.shape))
    if isinstance(value, numbers.Number):
        return words("a number of more than 18 digits") if isinstance(value, int) and abs(value) >= HUGE else str(value)
    if isinstance(value, str):
        return words('the text "{text}"', text=value if len(value) <= LONGEST else value[:LONGEST] + "...")
    if isinstance(value, list | tuple) and len(value) == 0:
        return words("an empty list")
    return type(value).__name__


def refuse(name: str, value: Any, wanted: Any, advice: Any = CHECK_BEFORE) -> InputError:
    """Return the error of a value that an input does not take."""
    return InputError(
        "The input {name} holds {seen}, but it takes {wanted}: {advice}.",
        name=name,
        seen=seen(value),
        wanted=wanted,
        advice=advice,
    )


def number_of(entry: Any, value: Any) -> int | float:
    """Return the number of an INT or FLOAT input; `Raises: InputError` for one that the widget would not take."""
    whole, low, high = entry.get_io_type() == "INT", LEAST.get(entry.id, entry.min), entry.max
    number: Any = value if isinstance(value, numbers.Real) and value is not True and value is not False else math.nan
    if low <= number <= high:  # NaN is not
        if not whole:
            return float(number)
        if int(number) == number:
            return int(number) % 2**64 if entry.id in LEAST else int(number)
    wanted = words("a number from {low} to {high}", low=low, high=high)
    if whole:
        wanted = words("a whole number from {low} to {high}", low=low, high=high)
    raise refuse(entry.id, value, wanted)


def checked(entry: Any, value: Any) -> Any:
    """Return the value of an input; `Raises: InputError` for one that it does not take.

    Args:
        entry: the input, of a node's schema.
        value: what came in, with what an option brought along in a dict as the host hands it on.
    """
    kind = entry.get_io_type()
    if value is None and entry.optional:
        return getattr(entry, "default", None)  # of a widget
    if kind in ("INT", "FLOAT"):
        return number_of(entry, value)
    options = getattr(entry, "options", None)
    if kind == "COMFY_AUTOGROW_V3":
        if not isinstance(value, Mapping):
            raise refuse(entry.id, value, words("an input for each prompt"))
        grown = {each.id: each for each in entry.template.get_all()}
        return {name: checked(grown[name], inner) if name in grown else inner for name, inner in value.items()}
    if kind == "COMFY_DYNAMICCOMBO_V3" and value is not None:
        return with_inner(entry, value)
    if options is not None and kind == "COMBO" and value not in options:
        listed = [*options[:SHOWN], *["..."] * (len(options) > SHOWN)]
        raise refuse(entry.id, value, words("one of {options}", options=joined(listed)))
    if kind in KINDS and not KINDS[kind].holds(value):
        raise refuse(entry.id, value, KINDS[kind].wanted, KINDS[kind].advice)
    return value


def with_inner(entry: Any, value: Any) -> dict[str, Any]:
    """Return the value of an input whose options bring inputs of their own; `Raises: InputError` as `checked`."""
    chosen = value.get(entry.id) if isinstance(value, Mapping) else value
    option = next((each for each in entry.options if each.key == chosen), None)
    if option is None or not isinstance(value, Mapping):
        raise refuse(entry.id, chosen, words("one of {options}", options=joined(each.key for each in entry.options)))
    inner = {each.id: checked(each, value.get(each.id, getattr(each, "default", None))) for each in option.inputs}
    return {**value, **inner}


def check_inputs(entries: Iterable[Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a node's inputs as its `execute` takes them; `Raises: InputError` for one of the wrong kind."""
    by_name = {entry.id: entry for entry in entries}
    return {name: checked(by_name[name], value) if name in by_name else value for name, value in given.items()}


def with_doors(node: Any) -> Any:
    """Return a V3 node class whose `execute` is given what its schema says, and nothing else."""
    made = node.execute.__func__
    names = made.__code__.co_varnames[1 : made.__code__.co_argcount]

    @functools.wraps(made)
    def execute(cls: Any, *args: Any, **given: Any) -> Any:
        return made(cls, **check_inputs(cls.define_schema().inputs, dict(zip(names, args, strict=False)) | given))

    node.execute = classmethod(execute)
    return node
