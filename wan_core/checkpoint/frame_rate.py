"""The frame-rate weights of a checkpoint, and what they come to: one constant vector on the time projection.

A model with fps weights adds MLP(embedding[row]) to the six modulations of every block, whatever the noise level and
the frame. So a model that was loaded without these weights gets the frame rate back when the vector is added to the
bias of its time projection.

Source: `fps_embedding` and `fps_projection` of the SkyReels-V2 transformer.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from torch import Tensor
from torch.nn import functional

from ..errors import CheckpointError
from ..model.wan_model import CONDITIONED_FPS
from .reader import read_parameters

PREFIX = "fps_"


def frame_rate_shift(path: str | os.PathLike[str], fps: int) -> Tensor:
    """Read what the frame rate adds to the time projection; of the file only these weights are read.

    Args:
        path: a checkpoint with fps weights (of the released models DF-1.3B), in any form.
        fps: frames per second; 16 has weights of its own, anything else counts as 24.

    Returns:
        [6 * dim] float32.

    Raises:
        CheckpointError: there is no complete checkpoint at the path, or it has no fps weights.
    """
    weights = read_parameters(path, PREFIX)
    if not weights:
        raise CheckpointError(
            "{path} has no frame-rate weights, which of the released models only DF-1.3B has: choose its "
            "file, or leave this node out, since no other model reads a frame rate.",
            path=path,
        )
    row = 0 if fps == CONDITIONED_FPS else 1
    hidden = functional.silu(_linear(weights, "fps_projection.0", weights["fps_embedding.weight"][row]))
    return _linear(weights, "fps_projection.2", hidden)


def _linear(weights: Mapping[str, Tensor], layer: str, x: Tensor) -> Tensor:
    return functional.linear(x, weights[f"{layer}.weight"], weights[f"{layer}.bias"])
