"""The diffusion-forcing loop against diffusers' whole pipeline, on a tiny random model shared by weights."""

from __future__ import annotations

import contextlib
import itertools
from unittest import mock

import pytest
import torch
from diffusers import SkyReelsV2DiffusionForcingPipeline, SkyReelsV2Transformer3DModel, UniPCMultistepScheduler
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.measures import relative_error
from tests.tiny import random_diffusers, twin_of
from wan_core.errors import InputError, ScheduleError
from wan_core.model.config import WanConfig
from wan_core.model.wan_model import WanModel
from wan_core.sampling.denoise import model_denoise
from wan_core.sampling.known import KnownFrames
from wan_core.sampling.loop import sample
from wan_core.sampling.run import ForcingOptions, Run, plan_run
from wan_core.sampling.sigmas import flow_sigmas
from wan_core.sampling.solvers import SOLVERS

CONFIG = WanConfig(dim=48, ffn_dim=80, freq_dim=32, text_dim=24, num_heads=2, num_layers=2, inject_sample_info=True)
FRAMES, HEIGHT, WIDTH = 10, 32, 48  # latent frames, pixels
LATENT = (1, 16, FRAMES, HEIGHT // 8, WIDTH // 8)


class ShortPipeline(SkyReelsV2DiffusionForcingPipeline):
    """The pipeline for a short clip with what it has for long ones: known frames at the start, a window."""

    prefix: torch.Tensor | None = None
    window: int | None = None

    def generate_timestep_matrix(self, frames, template, window, *rest):
        return super().generate_timestep_matrix(frames, template, self.window or window, *rest)

    def prepare_latents(self, *args, **kwargs):
        latents, frames, _, _ = super().prepare_latents(*args, **kwargs)
        return latents, frames, self.prefix, 0 if self.prefix is None else self.prefix.shape[2]


@pytest.fixture(scope="module")
def transformer() -> SkyReelsV2Transformer3DModel:
    return random_diffusers(0.15, num_attention_heads=2, attention_head_dim=24, text_dim=24, freq_dim=32, ffn_dim=80)


@pytest.fixture(scope="module")
def model(transformer: SkyReelsV2Transformer3DModel) -> WanModel:
    return twin_of(transformer, CONFIG)


def prompts() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    return torch.randn(1, 12, 24, generator=generator), torch.randn(1, 12, 24, generator=generator)


def theirs(transformer, steps, ar_step, block, cfg, prefix=None, addnoise=0, condition_noise=None, window=None):
    """Latents of diffusers' pipeline, and the sigmas it used."""
    scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=8.0)
    transformer.register_to_config(num_frame_per_block=1)
    pipeline = ShortPipeline(None, None, transformer, None, scheduler)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.prefix, pipeline.window = prefix, window
    positive, negative = prompts()
    with mock.patch.object(torch, "randn_like", lambda like: condition_noise[:, :, : like.shape[2]].to(like)):
        latents = pipeline(
            prompt=None, prompt_embeds=positive, negative_prompt_embeds=negative, height=HEIGHT, width=WIDTH,
            num_frames=(FRAMES - 1) * 4 + 1, num_inference_steps=steps, guidance_scale=cfg, ar_step=ar_step,
            causal_block_size=block if ar_step else None, addnoise_condition=addnoise, fps=16,
            generator=torch.Generator().manual_seed(3), output_type="latent", return_dict=False,
        )[0]  # fmt: skip
    scheduler.set_timesteps(steps)
    return latents, scheduler.sigmas


def planned(steps=6, ar_step=0, block=1, window=0, known=None, frames=FRAMES, addnoise=0, solver="unipc") -> Run:
    options = ForcingOptions(solver, ar_step=ar_step, causal_block_size=block, window_frames=window or 0,
                             addnoise_condition=addnoise)  # fmt: skip
    return plan_run(options, flow_sigmas(steps), frames, known)


def ours(model, sigmas, ar_step, block, cfg, known=None, solver="unipc", noise=None, fps=16, window=0, addnoise=0):
    noise = torch.randn(LATENT, generator=torch.Generator().manual_seed(3)) if noise is None else noise
    options = ForcingOptions(solver, ar_step=ar_step, causal_block_size=block, window_frames=window or 0,
                             addnoise_condition=addnoise)  # fmt: skip
    run = plan_run(options, sigmas, noise.shape[2], None if known is None else known.mask)
    causal = block if ar_step and block > 1 else 0  # as the pipeline does it
    positive, negative = (text.expand(len(noise), -1, -1) for text in prompts())

    def velocity(x, t, context, row):
        return model(x, t, context, fps=fps, causal_block_size=causal)

    with torch.no_grad():
        return sample(model_denoise(velocity, positive, negative, cfg), noise, run, known)


@pytest.mark.parametrize(("steps", "ar_step", "block"), [(8, 0, 1), (8, 5, 5), (6, 2, 2), (5, 1, 1)])
@pytest.mark.parametrize("cfg", [1.0, 6.0])
def test_the_whole_sampler_equals_diffusers_pipeline(transformer, model, steps, ar_step, block, cfg):
    expected, sigmas = theirs(transformer, steps, ar_step, block, cfg)
    assert relative_error(ours(model, sigmas, ar_step, block, cfg), expected) < 1e-5


@pytest.mark.parametrize("addnoise", [0, 20])
@pytest.mark.parametrize(("ar_step", "block", "prefix_frames"), [(0, 1, 3), (5, 5, 5), (1, 2, 4)])
def test_a_known_beginning_equals_diffusers_prefix(transformer, model, ar_step, block, prefix_frames, addnoise):
    generator = torch.Generator().manual_seed(11)
    known = torch.randn(1, 16, prefix_frames, *LATENT[3:], generator=generator)
    condition_noise = torch.randn(LATENT, generator=generator)
    expected, sigmas = theirs(transformer, 6, ar_step, block, 6.0, known, addnoise, condition_noise)
    mask = torch.arange(FRAMES) < prefix_frames
    latents = torch.cat((known, torch.zeros(1, 16, FRAMES - prefix_frames, *LATENT[3:])), dim=2)
    frames = KnownFrames(latents, mask, condition_noise)
    got = ours(model, sigmas, ar_step, block, 6.0, frames, addnoise=addnoise)
    assert relative_error(got, expected) < 1e-5
    assert torch.equal(got[:, :, :prefix_frames], known)


@pytest.mark.parametrize(("steps", "ar_step", "block", "window"), [(6, 2, 2, 6), (5, 1, 1, 6), (4, 3, 2, 5)])
@pytest.mark.parametrize("prefix_frames", [0, 4])
def test_a_window_equals_diffusers_with_a_window(transformer, model, steps, ar_step, block, window, prefix_frames):
    known = torch.randn(1, 16, prefix_frames, *LATENT[3:], generator=torch.Generator().manual_seed(6))
    expected, sigmas = theirs(transformer, steps, ar_step, block, 6.0, known, window=window)
    latents = torch.cat((known, torch.zeros(1, 16, FRAMES - prefix_frames, *LATENT[3:])), dim=2)
    given = KnownFrames(latents, torch.arange(FRAMES) < prefix_frames)
    assert relative_error(ours(model, sigmas, ar_step, block, 6.0, given, window=window), expected) < 1e-5


@pytest.mark.parametrize("known_frames", [0, 3, 4, 7])
def test_a_window_leaves_no_frame_as_noise_whatever_is_known(known_frames):
    clip, mask = torch.randn(LATENT), torch.arange(FRAMES) < known_frames
    got = sample(lambda x, s, row: clip[:, :, row.start : row.end], torch.randn(LATENT),
                 planned(6, 2, 1, 3, mask), KnownFrames(clip, mask))  # fmt: skip
    torch.testing.assert_close(got, clip)


@pytest.mark.parametrize("known", [[0], [9], [0, 9], [4], [3, 4, 8]])
@pytest.mark.parametrize(("ar_step", "block"), [(0, 1), (2, 2), (3, 5)])
def test_known_frames_come_back_to_the_bit_and_change_the_others(model, known, ar_step, block):
    latents = torch.randn(LATENT, generator=torch.Generator().manual_seed(1))
    mask = torch.zeros(FRAMES, dtype=torch.bool)
    mask[known] = True
    given = KnownFrames(latents, mask, torch.randn(LATENT, generator=torch.Generator().manual_seed(2)))
    got = ours(model, flow_sigmas(4), ar_step, block, 1.0, given, addnoise=20)
    free = ours(model, flow_sigmas(4), ar_step, block, 1.0)
    assert torch.equal(got[:, :, mask], latents[:, :, mask])
    assert got.isfinite().all() and relative_error(got[:, :, ~mask], free[:, :, ~mask]) > 1e-4


@pytest.mark.parametrize(("ar_step", "block", "known"), [(0, 1, []), (2, 2, []), (3, 5, []), (2, 1, [9]), (2, 2, [4])])
def test_the_sigma_of_a_row_falls_and_is_the_ordinary_one_in_sync(ar_step, block, known):
    sigmas = flow_sigmas(5)
    mask = torch.zeros(FRAMES, dtype=torch.bool)
    mask[known] = True
    seen: list[float] = []

    def denoise(x, levels, row):
        seen.append(row.sigma)
        return torch.zeros_like(x)

    run = planned(5, ar_step, block, known=mask)
    sample(denoise, torch.randn(LATENT), run, KnownFrames(torch.zeros(LATENT), mask))
    assert [*seen, 0.0] == run.call_sigmas.tolist()
    assert all(later < earlier for earlier, later in itertools.pairwise(seen))
    if ar_step == 0:
        assert seen == pytest.approx(sigmas[:-1].tolist())


def test_rows_that_only_a_known_end_frame_would_need_are_not_computed():
    calls = []
    mask = torch.zeros(6, dtype=torch.bool)
    mask[5] = True
    noise = torch.randn(1, 2, 6, 2, 2)
    sample(lambda x, s, row: calls.append(row) or x, noise, planned(4, 3, known=mask, frames=6),
           KnownFrames(noise, mask))  # fmt: skip
    assert len(calls) == len(planned(4, 3, frames=6).rows) - 3
    assert [row.index for row in calls] == list(range(len(calls))) and calls[-1].num_rows == len(calls)


@pytest.mark.parametrize("solver", ["unipc", "euler"])
def test_two_clips_at_once_equal_two_runs(model, solver):
    noise = torch.randn(2, *LATENT[1:], generator=torch.Generator().manual_seed(9))
    together = ours(model, flow_sigmas(4), 2, 2, 6.0, solver=solver, noise=noise)
    for index in range(2):
        alone = ours(model, flow_sigmas(4), 2, 2, 6.0, solver=solver, noise=noise[index : index + 1])
        torch.testing.assert_close(together[index : index + 1], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_perfect_model_gives_its_clip_whatever_the_schedule(solver):
    clip = torch.randn(LATENT)
    for ar_step, block, window in [(0, 1, None), (3, 2, None), (2, 1, 4)]:
        run, fresh = planned(6, ar_step, block, window, solver=solver), torch.randn(5, *LATENT)
        got = sample(lambda x, s, row: clip[:, :, row.start : row.end], torch.randn(LATENT), run, fresh_noise=fresh)
        torch.testing.assert_close(got, clip)


def test_a_window_shows_the_model_its_interval_only():
    shapes, ends = set(), []

    def denoise(x, levels, row):
        shapes.add((x.shape[2], len(levels)))
        ends.append(row.end)
        return x

    sample(denoise, torch.randn(1, 4, 12, 2, 2), planned(6, 2, 2, 6, frames=12))
    assert shapes == {(6, 6)} and ends == sorted(ends) and ends[-1] == 12


class OnTheDevice(TorchDispatchMode):
    """Fails when the loop touches a tensor off the device: an upload, or a value read back, which stalls the queue."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for value in tree_leaves((args, kwargs, result)):
            if isinstance(value, torch.Tensor) and value.device.type != "meta":
                raise AssertionError(f"{func} in the loop, on {value.device}")
        return result


def run_on_the_device(solver: str, ar_step: int, window: int | None, meddle=lambda x: None) -> None:
    """Run the loop on the meta device, which holds no values: whoever asks for one (tolist, item) gets an error."""
    noise = torch.randn(1, 4, 8, 2, 2, device="meta")
    mask = torch.tensor([False] * 7 + [True])
    run = planned(5, ar_step, 2 if ar_step else 1, window, mask, 8, 20, solver)
    with contextlib.ExitStack() as stack:

        def denoise(x, levels, row):
            if row.index == 0:
                stack.enter_context(OnTheDevice())  # from the first model call to the last
            meddle(x)
            return x * levels[:, None, None]

        def callback(row, x0, x):
            if row.index == row.num_rows - 1:
                stack.close()

        fresh = torch.randn(4, *noise.shape, device="meta") if solver == "lcm" else None
        sample(denoise, noise, run, KnownFrames(noise, mask, noise), callback, fresh)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize(("ar_step", "window"), [(0, None), (2, None), (2, 6)])
def test_the_loop_moves_nothing_to_or_from_the_device(solver, ar_step, window):
    run_on_the_device(solver, ar_step, window)


@pytest.mark.parametrize(
    "meddle",
    [
        lambda x: x.flatten()[:2].tolist(), lambda x: x.cpu(), lambda x: x.flatten()[0].item(), lambda x: x[x > 0],
        lambda x: bool(x.isfinite().all()), lambda x: torch.zeros(3).to(x), lambda x: x.numpy(),
    ],
)  # fmt: skip
def test_the_check_of_the_loop_notices_what_stalls_it(meddle):
    with pytest.raises((AssertionError, RuntimeError, TypeError)):
        run_on_the_device("unipc", 2, None, meddle)


def test_a_noise_level_without_noise_is_refused():
    with pytest.raises(InputError, match=r"noise level of the known frames is 0.02, but no noise was given"):
        KnownFrames(torch.zeros(LATENT), torch.zeros(FRAMES, dtype=torch.bool)).noised(0.02)


@pytest.mark.parametrize("mask", [None, [False] * 8, [True] + [False] * 6])
def test_a_run_of_another_clip_is_refused(mask):
    known = None if mask is None else KnownFrames(torch.zeros(1, 1, 7, 1, 1), torch.tensor(mask))
    with pytest.raises(ScheduleError, match="The run is of 8 latent frames, of which 1 are known, but it was given"):
        run = planned(frames=8, known=torch.arange(8) == 2)
        sample(lambda x, s, r: x, torch.zeros(1, 1, 7, 1, 1), run, known)


def test_the_given_noise_is_left_as_it_was(model):
    noise = torch.randn(LATENT, generator=torch.Generator().manual_seed(4))
    before = noise.clone()
    ours(model, flow_sigmas(3), 0, 1, 1.0, noise=noise)
    assert torch.equal(noise, before)


def test_fps_16_and_24_differ(model):
    assert relative_error(ours(model, flow_sigmas(3), 0, 1, 1.0), ours(model, flow_sigmas(3), 0, 1, 1.0, fps=24)) > 1e-3
