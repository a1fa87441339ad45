"""What the tests of long video in the host's process share: small settings, inputs, a run, and a stop in the middle."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import av
import numpy as np
import pytest
import torch


def conditioning(seed: int) -> list[Any]:
    return [[torch.randn(1, 12, 4096, generator=torch.Generator().manual_seed(seed)) * 0.3, {}]]


def settings(bridge: ModuleType, **changes: Any) -> Any:
    forcing = importlib.import_module("skyreels_v2.wan_core.sampling.run").ForcingOptions(**changes.pop("forcing", {}))
    small = {
        "total_frames": 46, "width": 32, "height": 32, "base_num_frames": 21, "overlap_history": 5, "steps": 2,
        "cfg": 2.0, "forcing": forcing,
    }  # fmt: skip
    return importlib.import_module("skyreels_v2.wan_core.long.settings").LongVideoSettings(**{**small, **changes})


def prompts(positives: list[Any], **where: Any) -> Any:
    return importlib.import_module("skyreels_v2.wan_core.long.prompts").Prompts(positives, **where)


def inputs(bridge: ModuleType, model: Any, vae: Any, **changes: Any) -> Any:
    plain = {"model": model, "vae": vae, "prompts": prompts([conditioning(1)]), "negative": conditioning(2)}
    return bridge.Inputs(**{**plain, **changes})


def make(bridge: ModuleType, given: Any, chosen: Any, name: str = "test", images: Any = None) -> Any:
    with torch.inference_mode():
        return bridge.make_long_video(given, chosen.planned(images), bridge.Job(name))


def frames_of(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


class Stopped(Exception):
    """Stands for an interruption."""


def stop_in_segment(bridge: ModuleType, monkeypatch: pytest.MonkeyPatch, index: int) -> None:
    sample = bridge.JobSampling.segment

    def stopping(self: Any, task: Any) -> torch.Tensor:
        if task.segment.index == index:
            raise Stopped
        return sample(self, task)

    monkeypatch.setattr(bridge.JobSampling, "segment", stopping)
