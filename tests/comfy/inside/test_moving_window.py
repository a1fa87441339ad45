"""A window that moves along a clip: what the model sees, what comes out, and who cannot have one."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import comfy.model_management
import comfy.samplers
import pytest
import torch

SIGMAS = torch.tensor([0.999, 0.9, 0.7, 0.4, 0.1, 0.0])
FRAMES, WINDOW = 14, 6
MOVING = {"ar_step": 2, "causal_block_size": 2, "window_frames": WINDOW, "solver": "euler"}
TEXT = torch.randn(1, 12, 4096, generator=torch.Generator().manual_seed(1)) * 0.3


def module(name: str) -> ModuleType:
    return importlib.import_module(f"skyreels_v2.wan_core.{name}")


@pytest.fixture
def model(pack: ModuleType, models: Path) -> Any:
    return module("comfy.loader").load_model(models / "diffusion_models" / "tiny_df.safetensors")


@pytest.fixture
def seen(pack: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """The timesteps [f] of every forward pass of the transformer."""
    calls: list[torch.Tensor] = []
    kind = module("model").WanModel
    forward = kind.forward

    def counted(self: Any, x: torch.Tensor, t: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        assert x.shape[2] == t.shape[1]
        calls.append(t[0].clone())
        return forward(self, x, t, *args, **kwargs)

    monkeypatch.setattr(kind, "forward", counted)
    return calls


def unit_noise(frames: int = FRAMES) -> torch.Tensor:
    return torch.randn((1, 16, frames, 4, 4), generator=torch.Generator().manual_seed(7))


def sample(model: Any, frames: int = FRAMES, cfg: float = 1.0, **changes: Any) -> torch.Tensor:
    bridge = module("comfy.sampler")
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds([[TEXT, {}]], [[TEXT.flip(1), {}]])
    guider.set_cfg(cfg)
    sampler = bridge.DiffusionForcingSampler(bridge.ForcingOptions(**{**MOVING, **changes}))
    noise = unit_noise(frames)
    with torch.inference_mode():
        return guider.sample(noise, torch.zeros_like(noise), sampler, SIGMAS, disable_pbar=True, seed=3)


def relative_error(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a - b).abs().max() / b.abs().max()).item()


@pytest.mark.parametrize("causal", [False, True])
def test_the_video_is_the_one_that_the_window_of_the_schedule_gives(
    model: Any, seen: list[torch.Tensor], causal: bool
) -> None:
    made = sample(model, causal_attention=causal)
    assert {len(call) for call in seen} == {WINDOW}
    schedule = module("forcing").forcing_schedule(FRAMES, 5, 2, 2, window=WINDOW)
    assert len(seen) == schedule.num_rows
    transformer = model.model.diffusion_model

    def denoise(x: torch.Tensor, frame_sigmas: torch.Tensor, row: Any) -> torch.Tensor:
        velocity = module("model").WanModel.forward(
            transformer, x, 1000 * frame_sigmas[None], TEXT, fps=24, causal_block_size=2 if causal else 0
        )
        return x - frame_sigmas[:, None, None] * velocity

    with torch.inference_mode():
        expected = module("sampler").sample(denoise, unit_noise(), SIGMAS, schedule, "euler")
    assert relative_error(made, model.model.process_latent_out(expected)) < 1e-4
    assert relative_error(made, sample(model, causal_attention=causal, window_frames=0)) > 1e-2  # others see more


@pytest.mark.parametrize("frames", [WINDOW, WINDOW - 2])
def test_a_window_as_long_as_the_clip_changes_nothing(model: Any, frames: int) -> None:
    assert (sample(model, frames) == sample(model, frames, window_frames=0)).all()


def test_the_noise_of_the_video_is_its_own_wherever_the_window_is(model: Any, seen: list[torch.Tensor]) -> None:
    sample(model)
    assert all((call[1:] >= call[:-1]).all() for call in seen)  # what is behind is never noisier than what is ahead
    assert seen[0].min() > 990 and seen[-1].max() < 200


def test_a_length_that_does_not_fit_is_padded_and_cut(model: Any) -> None:
    assert sample(model, FRAMES - 1).shape == (1, 16, FRAMES - 1, 4, 4)


def test_memory_is_asked_for_the_window(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []
    load = comfy.model_management.load_models_gpu

    def spied(models: Any, memory_required: float = 0, **kwargs: Any) -> Any:
        asked.append(memory_required)
        return load(models, memory_required, **kwargs)

    monkeypatch.setattr(comfy.model_management, "load_models_gpu", spied)
    sample(model, cfg=4.0)
    assert asked == [model.model.memory_required([2, 16, WINDOW, 4, 4])]


def test_the_step_cache_works_along_the_window(model: Any, seen: list[torch.Tensor]) -> None:
    expected = sample(model, cfg=4.0)
    calls = len(seen)
    seen.clear()
    cached = module("comfy.step_cache").step_cached(model, 1e-9)
    assert relative_error(sample(cached, cfg=4.0), expected) < 1e-5 and len(seen) == calls


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ar_step": 0}, "ar_step is 0, but with 5 steps and a window of 6 latent frames it has to be at least 2"),
        ({"ar_step": 1}, "ar_step is 1, but .* at least 2: raise ar_step to 2 or lower the steps to 3"),
        ({"window_frames": 1}, "window is 1 latent frames, .* at least one block of 2"),
    ],
)
def test_a_window_that_would_leave_unfinished_frames_is_refused(
    model: Any, seen: list[torch.Tensor], changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(module("errors").ScheduleError, match=words):
        sample(model, **changes)
    assert not seen


def test_an_image_to_video_model_is_refused(models: Path, pack: ModuleType, seen: list[torch.Tensor]) -> None:
    model = module("comfy.loader").load_model(models / "diffusion_models" / "tiny_i2v.safetensors")
    with pytest.raises(module("errors").InputError, match=r"window is 6 of 14 .*: set window_frames to 0"):
        sample(model)
    assert not seen
