"""What is known of the file that a MODEL came from, and whether it can do what a node asks of it.

Our loader hangs what it found in the file on the MODEL; clones, and so LoRAs and every other patch, hand it on. Of a
MODEL that core loaded the file is known by name, and its header is read.
"""

from __future__ import annotations

import os
from typing import Any

from ...checkpoint.info import CheckpointInfo
from ...checkpoint.reader import inspect_checkpoint
from ...checkpoint.variants import CAUSAL, FORCING, describe_model, kind_of
from ...errors import CheckpointError, InputError
from ...words import Words, words

CHECKPOINT = "skyreels_v2_checkpoint"  # the attachment under which a MODEL of ours keeps its CheckpointInfo


def model_file(patcher: Any) -> str | None:
    """Return the file a MODEL was loaded from, or None: GGUF loaders do not note it."""
    arguments = (getattr(patcher, "cached_patcher_init", None) or (None, ()))[1]
    first = arguments[0] if arguments else None
    return os.fspath(first) if isinstance(first, str | os.PathLike) else None


def checkpoint_of(patcher: Any) -> CheckpointInfo | None:
    """Return what was found in a MODEL's file; None where the MODEL does not say which file, or it cannot be read."""
    info = patcher.get_attachment(CHECKPOINT)
    path = model_file(patcher)
    if info is not None or path is None:
        return info
    try:
        return inspect_checkpoint(path)[1]
    except CheckpointError:  # core reads forms that we do not; what its model looks like is known without the file
        return None


def check_forcing(patcher: Any, need: Words, causal_too: bool = False) -> None:
    """Refuse a MODEL that is known not to be a diffusion-forcing one; of which nothing is known, none is refused.

    Args:
        patcher: a MODEL.
        need: what has to have such a model, e.g. words("Long Video").
        causal_too: the causal few-step family will do as well.

    Raises:
        InputError: its file's marker, name or shape says that it is another model.
    """
    info = checkpoint_of(patcher)
    kind = kind_of(info.variant) if info is not None else None
    if info is None or kind in ((None, FORCING, CAUSAL) if causal_too else (None, FORCING)):
        return
    alternative = words("load a SkyReels-V2-DF model")
    if causal_too:
        alternative = words("load a SkyReels-V2-DF model or a causal few-step one, such as Self Forcing")
    elif kind == CAUSAL:
        alternative = words("use SkyReels-V2 Rolling Sampler, which is made for it, or load a SkyReels-V2-DF model")
    raise InputError(
        "The model is {what}, which was not trained with diffusion forcing, and {need} needs that: the picture would "
        "fall apart. Either {alternative}; or, if you know better, choose what it is under variant in SkyReels-V2 "
        "Model Loader.",
        what=describe_model(info.config, info.variant, info.variant_source)[0],
        need=need,
        alternative=alternative,
    )
