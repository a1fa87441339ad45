"""A window that moves along a clip: what the model sees, what comes out, and who cannot have one."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import comfy.model_management
import comfy.patcher_extension
import comfy.sample
import comfy.samplers
import comfy.sd
import pytest
import torch
from measures import relative_error
from sampling_scene import generated, module

SIGMAS = torch.tensor([0.999, 0.9, 0.7, 0.4, 0.1, 0.0])
FRAMES, WINDOW = 14, 6
MOVING = {"ar_step": 2, "causal_block_size": 2, "window_frames": WINDOW, "solver": "euler"}
TEXT = torch.randn(1, 12, 4096, generator=torch.Generator().manual_seed(1)) * 0.3


@pytest.fixture
def seen(pack: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """The timesteps [f] of every forward pass of the transformer."""
    calls: list[torch.Tensor] = []
    kind = module("model.wan_model").WanModel
    forward = kind.forward

    def counted(self: Any, x: torch.Tensor, t: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        assert x.shape[2] == t.shape[1]
        calls.append(t[0].clone())
        return forward(self, x, t, *args, **kwargs)

    monkeypatch.setattr(kind, "forward", counted)
    return calls


def unit_noise(frames: int = FRAMES) -> torch.Tensor:
    return torch.randn((1, 16, frames, 4, 4), generator=torch.Generator().manual_seed(7))


def sample(
    model: Any, frames: int = FRAMES, cfg: float = 1.0, held: dict[str, Any] | None = None, **changes: Any
) -> torch.Tensor:
    bridge = module("comfy.sampling.sampler")
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds([[TEXT, held or {}]], [[TEXT.flip(1), {}]])
    guider.set_cfg(cfg)
    sampler = bridge.DiffusionForcingSampler(bridge.ForcingOptions(**{**MOVING, **changes}))
    noise = unit_noise(frames)
    with torch.inference_mode():
        return guider.sample(noise, torch.zeros_like(noise), sampler, SIGMAS, disable_pbar=True, seed=3)


def by_node(model: Any, frames: int, known: tuple[int, ...] = (), **changes: Any) -> torch.Tensor:
    """What the Sampler node makes."""
    options = module("sampling.run").ForcingOptions(**{**MOVING, **changes})
    samples = unit_noise(frames).flip(2) if known else torch.zeros(1, 16, frames, 4, 4)
    latent = {"samples": samples}
    if known:
        latent["noise_mask"] = torch.ones(1, 1, frames, 1, 1)
        latent["noise_mask"][:, :, list(known)] = 0
    return generated(model, ([[TEXT, {}]], [[TEXT.flip(1), {}]]), latent, options, 3, 5, 4.0, 5.0)


@pytest.mark.parametrize("causal", [False, True])
def test_the_video_is_the_one_that_the_window_of_the_schedule_gives(
    model: Any, seen: list[torch.Tensor], causal: bool
) -> None:
    made = sample(model, causal_attention=causal)
    assert {len(call) for call in seen} == {WINDOW}
    plan = module("sampling.run")
    run = plan.plan_run(plan.ForcingOptions(**MOVING), SIGMAS, FRAMES)
    assert len(seen) == len(run.rows)
    transformer = model.model.diffusion_model

    def velocity(x: torch.Tensor, t: torch.Tensor, text: torch.Tensor, row: Any) -> torch.Tensor:
        forward, block = module("model.wan_model").WanModel.forward, 2 if causal else 0
        return forward(transformer, x, t, text, fps=24, causal_block_size=block)

    denoise = module("sampling.denoise").model_denoise(velocity, TEXT, timesteps=lambda sigmas: 1000 * sigmas)
    with torch.inference_mode():
        expected = module("sampling.loop").sample(denoise, unit_noise(), run)
    assert relative_error(made, model.model.process_latent_out(expected)) < 1e-4
    assert relative_error(made, sample(model, causal_attention=causal, window_frames=0)) > 1e-2  # others see more


@pytest.mark.parametrize("frames", [WINDOW, WINDOW - 1, WINDOW - 2])
@pytest.mark.parametrize("block", [2, 4])
def test_a_window_as_long_as_the_clip_changes_nothing(model: Any, frames: int, block: int) -> None:
    with_window = sample(model, frames, causal_block_size=block)
    assert (with_window == sample(model, frames, window_frames=0, causal_block_size=block)).all()


def test_the_noise_of_the_video_is_its_own_wherever_the_window_is(model: Any, seen: list[torch.Tensor]) -> None:
    sample(model)
    assert all((call[1:] >= call[:-1]).all() for call in seen)  # what is behind is never noisier than what is ahead
    assert seen[0].min() > 990 and seen[-1].max() < 200


def test_a_length_that_does_not_fit_is_padded_and_cut(model: Any) -> None:
    assert sample(model, FRAMES - 1).shape == (1, 16, FRAMES - 1, 4, 4)


def test_memory_is_asked_for_the_window_and_for_what_the_host_holds_of_the_clip(
    model: Any, asked: list[tuple[float, float]]
) -> None:
    sample(model, cfg=4.0)
    by_node(model, FRAMES)
    frame, call = 16 * 4 * 4 * 4, model.model.memory_required([2, 16, WINDOW, 4, 4])  # bytes
    held = [(4 * frames + 9 * WINDOW) * frame for frames in (FRAMES, WINDOW)]
    assert [at_best for at_best, _ in asked] == [call + beside for beside in held]


@pytest.mark.parametrize("known", [(), (0, 1, 7, FRAMES - 1)])
@pytest.mark.parametrize("changes", [{}, {"solver": "lcm"}, {"causal_block_size": 4, "ar_step": 5, "solver": "unipc"}])
def test_the_sampler_node_gives_the_guider_a_window_and_makes_what_the_sampler_makes_of_the_clip(
    model: Any, monkeypatch: pytest.MonkeyPatch, known: tuple[int, ...], changes: dict[str, Any]
) -> None:
    guided, given = comfy.samplers.CFGGuider.sample, list[int]()

    def watched(self: Any, noise: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        given.append(noise.shape[2])
        return guided(self, noise, *args, **kwargs)

    monkeypatch.setattr(comfy.samplers.CFGGuider, "sample", watched)
    by_the_node = by_node(model, FRAMES, known, **changes)
    assert given[0] <= WINDOW

    bridge = module("comfy.sampling.sampler")
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds([[TEXT, {}]], [[TEXT.flip(1), {}]])
    guider.set_cfg(4.0)
    sampler = bridge.DiffusionForcingSampler(bridge.ForcingOptions(**{**MOVING, **changes}))
    clip = unit_noise().flip(2) if known else torch.zeros(1, 16, FRAMES, 4, 4)
    mask = torch.ones(1, 1, FRAMES, 4, 4)
    mask[:, :, list(known)] = 0
    sigmas, noise = module("sampling.sigmas").flow_sigmas(5, 5.0), comfy.sample.prepare_noise(clip, 3, None)
    seen: list[torch.Tensor] = []
    with torch.inference_mode():
        of_the_clip = guider.sample(
            noise, clip, sampler, sigmas, denoise_mask=mask if known else None, disable_pbar=True, seed=3,
            callback=lambda step, x0, x, total: seen.append(x0),
        )  # fmt: skip
    assert torch.equal(by_the_node, of_the_clip)
    # what core keeps as the denoised output is the whole clip, what it shows before is of the window
    assert torch.equal(model.model.process_latent_out(seen[-1]), of_the_clip)
    assert max(len(each[0, 0]) for each in seen[:-1]) == given[0]


@pytest.mark.parametrize(
    ("held", "words"),
    [
        ({"area": (12, 4, 4, 0, 0, 0)}, "an area in time"),
        ({"area": ("percentage", 0.5, 1, 1, 0, 0, 0)}, "an area in time"),
        ({"mask": torch.ones(1, FRAMES, 4, 4)}, "a mask for every frame"),
    ],
)
def test_the_sampler_node_refuses_conditions_of_the_whole_clip_though_the_guider_sees_a_window(
    model: Any, seen: list[torch.Tensor], held: dict[str, Any], words: str
) -> None:
    options, text = module("sampling.run").ForcingOptions(**MOVING), [[TEXT, held]]
    latent = {"samples": torch.zeros(1, 16, FRAMES, 4, 4)}
    with pytest.raises(module("errors").InputError, match=f"holds {words} for a clip of 14 latent frames"):
        generated(model, (text, text), latent, options, 3, 5, 4.0, 5.0)
    assert not seen


def test_a_model_of_core_s_loader_asks_for_the_window_too(
    models: Path, pack: ModuleType, asked: list[tuple[float, float]]
) -> None:
    model = comfy.sd.load_diffusion_model(str(models / "diffusion_models" / "tiny_df_nofps.safetensors"))
    options = module("sampling.run").ForcingOptions(**MOVING)
    latent = {"samples": torch.zeros(1, 16, FRAMES, 4, 4)}
    out = generated(model, ([[TEXT, {}]], [[TEXT, {}]]), latent, options, 3, 5, 4.0, 5.0)
    assert out.isfinite().all()
    assert asked[0][0] < model.model.memory_required([2, 16, FRAMES - 1, 4, 4])
    assert not model.wrappers.get(comfy.patcher_extension.WrappersMP.OUTER_SAMPLE)  # the given MODEL is as it was


def test_known_frames_are_kept_wherever_the_window_is(model: Any) -> None:
    bridge = module("comfy.sampling.sampler")
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds([[TEXT, {}]], [[TEXT, {}]])
    guider.set_cfg(1.0)
    given, known = unit_noise() * 0.5, [0, 1, 7, FRAMES - 1]
    mask = torch.ones(1, 1, FRAMES, 4, 4)
    mask[:, :, known] = 0
    sampler = bridge.DiffusionForcingSampler(bridge.ForcingOptions(**MOVING))
    with torch.inference_mode():
        made = guider.sample(unit_noise(), given, sampler, SIGMAS, denoise_mask=mask, disable_pbar=True, seed=3)
    assert relative_error(made[:, :, known], given[:, :, known]) < 1e-5


def test_the_step_cache_works_along_the_window(model: Any, seen: list[torch.Tensor]) -> None:
    expected = sample(model, cfg=4.0)
    calls = len(seen)
    seen.clear()
    step_cached = module("comfy.sampling.step_cache").step_cached
    assert torch.equal(sample(step_cached(model, 0.0), cfg=4.0), expected) and len(seen) == calls
    seen.clear()
    near = sample(step_cached(model, 0.0, "fast"), cfg=4.0)
    assert 0 < relative_error(near, expected) < 0.3
    assert sum(call.numel() for call in seen) < calls * WINDOW * 2


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


def test_an_image_to_video_model_is_refused_before_it_is_loaded(
    models: Path, pack: ModuleType, seen: list[torch.Tensor], asked: list[tuple[float, float]]
) -> None:
    model = module("comfy.loading.loader").load_model(models / "diffusion_models" / "tiny_i2v.safetensors")
    image = {"concat_latent_image": torch.zeros(1, 16, FRAMES, 4, 4), "concat_mask": torch.zeros(1, 4, FRAMES, 4, 4)}
    options = module("sampling.run").ForcingOptions(**MOVING)
    latent = {"samples": torch.zeros(1, 16, FRAMES, 4, 4)}
    conditioning = [[TEXT, image]]
    with pytest.raises(module("errors").InputError, match=r"shows it 6 of 14 latent frames: set window_frames to 0"):
        generated(model, (conditioning, conditioning), latent, options, 3, 5, 4.0, 5.0)
    assert not asked
    with pytest.raises(module("errors").InputError, match=r"holds c_concat for a clip of 14 latent frames"):
        sample(model)  # by the SAMPLER, which sees the model when it is loaded
    assert not seen


@pytest.mark.parametrize(
    ("held", "words"),
    [
        ({"area": ("percentage", 0.5, 1, 1, 0, 0, 0)}, "an area in time"),
        ({"area": ("percentage", 0.5, 1, 1, 0.5, 0, 0)}, "an area in time"),
        ({"mask": torch.ones(1, FRAMES, 4, 4)}, "a mask for every frame"),
    ],
)
def test_conditions_that_know_the_time_are_refused(
    model: Any, seen: list[torch.Tensor], held: dict[str, Any], words: str
) -> None:
    with pytest.raises(module("errors").InputError, match=f"holds {words} for a clip of 14 latent frames"):
        sample(model, held=held)
    assert not seen
    assert sample(model, held=held, window_frames=0).isfinite().all()


def test_areas_and_masks_of_the_picture_are_no_matter(model: Any) -> None:
    for held in ({"area": (2, 4, 0, 0)}, {"area": ("percentage", 1, 0.5, 1, 0, 0, 0)}, {"mask": torch.ones(1, 4, 4)}):
        assert sample(model, held={**held, "strength": 0.5, "mask_strength": 0.5}).isfinite().all()
