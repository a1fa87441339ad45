"""How far two tensors lie apart, for tests of every room."""

from __future__ import annotations

import torch


def relative_error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """Return the largest difference, as a share of the largest value wanted."""
    return float((found - wanted).abs().max() / wanted.abs().max())


def relative_distance(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """Return the norm of the difference, as a share of the norm wanted; in float64."""
    return float((found.double() - wanted.double()).norm() / wanted.double().norm())
