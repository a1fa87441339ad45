"""What the tests of sampling in the host's process share."""

from __future__ import annotations

import importlib
from types import ModuleType

import torch


def module(name: str) -> ModuleType:
    """A module of wan_core, by its name there."""
    return importlib.import_module(f"skyreels_v2.wan_core.{name}")


def relative_error(a: torch.Tensor, b: torch.Tensor) -> float:
    """The largest difference, of the largest value."""
    return ((a - b).abs().max() / b.abs().max()).item()
