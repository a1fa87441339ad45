"""A MODEL of ComfyUI's own loader on this pack's transformer: from the same file, with everything that was done to it.

What keeps finished frames in a cache of keys and values needs our transformer. LoRAs, hooks and wrappers are kept by
the names of the weights, which are the same on both.
"""

from __future__ import annotations

from typing import Any

import comfy.model_base
import comfy.patcher_extension

from ...errors import InputError
from ...words import joined
from ..model.checks import takes_image
from ..model.origin import CHECKPOINT, model_file
from ..sampling.conditioning import check_every_run
from ..sampling.memory_estimate import estimate_memory
from .frame_rate import FRAME_RATE
from .loader import WEIGHT_DTYPES, forget_tables, load_model

OWN = "skyreels_v2_own_transformer"  # the attachment that keeps the file from being read again for the next run
CORE = ("WAN21", "WAN21_CausalAR")  # before 0.33 there is no such class as the second


def on_own_transformer(patcher: Any) -> Any:
    """Return a MODEL that runs on our transformer where it ran on core's and says which file it is from.

    Args:
        patcher: a MODEL.

    Returns:
        Another MODEL with the same patches; any that is not core's Wan 2.1 or names no file as it is.

    Raises:
        InputError: something on it is made for core's transformer.
        CheckpointError: the file cannot be read.
    """
    path = model_file(patcher)
    core = [getattr(comfy.model_base, name, None) for name in CORE]
    if type(patcher.model) not in core or path is None or takes_image(patcher.model):
        return patcher
    bound = [name for name in patcher.object_patches if name.split(".")[0] == "diffusion_model"]
    if bound:
        raise InputError(
            "The model has patches for ComfyUI's own transformer ({names}), and this node needs that of SkyReels-V2: "
            "load the file with SkyReels-V2 Model Loader in place of Load Diffusion Model.",
            names=joined(bound),
        )
    if patcher.get_attachment(FRAME_RATE) is not None:
        raise InputError(
            "The model has its frame rate from Attach FPS Weights, but this node reads it from the model's file: "
            "remove that node and set fps here."
        )
    own = patcher.get_attachment(OWN)
    if own is None:
        chosen = patcher.cached_patcher_init[1][1:2]  # of Load Diffusion Model
        names = [name for name, options in WEIGHT_DTYPES.items() if chosen == (options,)]
        own = load_model(path, names[0] if names else "default")
        patcher.set_attachments(OWN, own)
    made = patcher.clone(model_override=own.get_clone_model_override())
    if hasattr(own, "clone_base_uuid"):  # which tells the host whose weights a MODEL has
        made.clone_base_uuid = own.clone_base_uuid
    made.cached_patcher_init = own.cached_patcher_init
    made.set_attachments(CHECKPOINT, own.get_attachment(CHECKPOINT))
    estimate_memory(made)
    check_every_run(made)
    made.add_callback(comfy.patcher_extension.CallbacksMP.ON_CLEANUP, forget_tables)
    return made
