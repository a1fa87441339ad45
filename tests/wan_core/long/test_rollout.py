"""The long-video loop against diffusers' whole pipeline, and what it carries from segment to segment."""

from __future__ import annotations

import gc
import itertools
import weakref
from unittest import mock

import pytest
import torch
from diffusers import SkyReelsV2DiffusionForcingPipeline, SkyReelsV2Transformer3DModel, UniPCMultistepScheduler

from tests.measures import relative_error
from tests.tiny import random_diffusers, twin_of
from wan_core.errors import InputError
from wan_core.long import sources
from wan_core.long.carry_over import Frames, Latents, Pixels
from wan_core.long.plan import Plan, Wanted
from wan_core.long.rollout import Rollout, Segments, Task, known_clip, seeded
from wan_core.long.segments import plan_segments
from wan_core.model.config import WanConfig
from wan_core.model.wan_model import WanModel
from wan_core.sampling.denoise import model_denoise
from wan_core.sampling.loop import sample
from wan_core.sampling.run import ForcingOptions, plan_run
from wan_core.sampling.sigmas import flow_sigmas

CONFIG = WanConfig(dim=24, ffn_dim=32, freq_dim=16, text_dim=12, num_heads=1, num_layers=2, inject_sample_info=True)
HEIGHT, WIDTH = 32, 48  # pixels
SHAPE = (1, 16, HEIGHT // 8, WIDTH // 8)
STEPS = 5
CONDITION_NOISE = torch.randn(1, 16, 40, *SHAPE[2:], generator=torch.Generator().manual_seed(8))


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Tensors this small are slower on two threads, by far where the machine is busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def transformer() -> SkyReelsV2Transformer3DModel:
    return random_diffusers(0.2, num_attention_heads=1, attention_head_dim=24, text_dim=12, freq_dim=16, ffn_dim=32)


@pytest.fixture(scope="module")
def model(transformer: SkyReelsV2Transformer3DModel) -> WanModel:
    return twin_of(transformer, CONFIG)


def prompts() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    return torch.randn(1, 6, 12, generator=generator), torch.randn(1, 6, 12, generator=generator)


def theirs(transformer, frames, base, overlap, ar_step, block, addnoise, cfg=6.0):
    scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=8.0)
    transformer.register_to_config(num_frame_per_block=1)
    pipeline = SkyReelsV2DiffusionForcingPipeline(None, None, transformer, None, scheduler)
    pipeline.set_progress_bar_config(disable=True)
    positive, negative = prompts()
    with mock.patch.object(torch, "randn_like", lambda like: CONDITION_NOISE[:, :, : like.shape[2]].to(like)):
        latents = pipeline(
            prompt=None, prompt_embeds=positive, negative_prompt_embeds=negative, height=HEIGHT, width=WIDTH,
            num_frames=frames, base_num_frames=base, overlap_history=overlap, addnoise_condition=addnoise, fps=24,
            num_inference_steps=STEPS, guidance_scale=cfg, ar_step=ar_step,
            causal_block_size=block if ar_step else None, generator=torch.Generator().manual_seed(3),
            output_type="latent", return_dict=False,
        )[0]  # fmt: skip
    scheduler.set_timesteps(STEPS)
    return latents, scheduler.sigmas


def one_generator():
    """Noise as diffusers draws it: one generator, segment after segment."""
    generator = torch.Generator().manual_seed(3)
    return lambda segment, stream, shape: (
        torch.randn(shape, generator=generator) if stream == "noise" else CONDITION_NOISE[:, :, : shape[2]]
    )


def sampler(model, plan: Plan, sigmas, cfg=6.0):
    positive, negative = prompts()
    block = plan.causal_block_size

    causal = block if plan.ar_step and block > 1 else 0  # as the pipeline does it
    denoise = model_denoise(
        lambda x, t, context, row: model(x, t, context, fps=24, causal_block_size=causal), positive, negative, cfg
    )

    def sample_segment(task: Task) -> torch.Tensor:
        addnoise = 0 if task.known is None or task.known.noise is None else 20
        options = ForcingOptions(ar_step=plan.ar_step, causal_block_size=block, addnoise_condition=addnoise)
        run = plan_run(options, sigmas, task.segment.length, None if task.known is None else task.known.mask)
        return sample(denoise, task.noise, run, task.known)

    return torch.no_grad()(sample_segment)


def roll_out(rollout: Rollout, sample, after=-1, state=None, carry_over=Latents()):  # noqa: B008, it has no state
    return sources.roll_out(Segments(rollout, sample, carry_over), after, state)


@pytest.mark.parametrize("addnoise", [0, 20])
@pytest.mark.parametrize(
    ("frames", "base", "overlap", "ar_step", "block", "segments"),
    [
        (57, 37, 17, 0, 1, 2), (77, 37, 17, 0, 1, 3), (61, 45, 17, 0, 1, 2), (97, 45, 17, 0, 1, 3),
        (57, 37, 17, 5, 5, 2), (77, 37, 17, 5, 5, 3), (77, 57, 17, 2, 5, 2), (65, 41, 17, 2, 1, 2),
        (93, 45, 13, 3, 2, 3), (73, 37, 17, 1, 1, 3),
    ],
)  # fmt: skip
def test_long_videos_equal_diffusers_pipeline(
    transformer, model, frames, base, overlap, ar_step, block, segments, addnoise
):
    expected, sigmas = theirs(transformer, frames, base, overlap, ar_step, block, addnoise)
    plan = plan_segments(Wanted(frames, base, overlap, block, ar_step, STEPS))
    assert len(plan.segments) == segments
    rollout = Rollout(plan, SHAPE, one_generator(), addnoise_condition=addnoise)
    pieces = [finished.latents for finished in roll_out(rollout, sampler(model, plan, sigmas))]
    got = torch.cat(pieces, dim=2)
    assert got.shape == expected.shape and got.isfinite().all()
    assert relative_error(got, expected) < 1e-5


def small_rollout(frames=77, seeds=None, **options) -> Rollout:
    plan = plan_segments(Wanted(frames, 37, 17, steps=3, known=options.get("known", {})))
    seeds = seeds or (7,) * len(plan.segments)
    return Rollout(plan, (1, 4, 2, 3), seeded(seeds), **options)


def fake_sampler(task: Task) -> torch.Tensor:
    """Something in which every frame depends on all noise, all known frames and the prompt; known frames stay."""
    x = torch.tanh(task.noise + task.noise.mean() + task.condition)
    if task.known is None:
        return x
    known = task.known.mask[:, None, None]
    level = 0.0 if task.known.noise is None else 0.02
    x = x + torch.where(known, task.known.noised(level), 0).mean()
    return torch.where(known, task.known.latents, x)


def video(rollout: Rollout, **options) -> torch.Tensor:
    return torch.cat([finished.latents for finished in roll_out(rollout, fake_sampler, **options)], dim=2)


def test_a_changed_overlap_is_felt_by_the_oracles_measure(model):
    plan = plan_segments(Wanted(57, 37, 17, steps=STEPS))
    sigmas = flow_sigmas(STEPS)
    got = [
        list(roll_out(Rollout(plan, SHAPE, one_generator(), addnoise_condition=level), sampler(model, plan, sigmas)))
        for level in (0, 20)
    ]
    assert torch.equal(got[0][0].latents, got[1][0].latents)
    assert relative_error(got[0][1].latents, got[1][1].latents) > 1e-4


def test_a_misaligned_overlap_is_carried_whole(model):
    plan = plan_segments(Wanted(66, 57, 13, causal_block_size=3, ar_step=2, steps=STEPS))
    rollout = Rollout(plan, SHAPE, one_generator())
    first, second = roll_out(rollout, sampler(model, plan, flow_sigmas(STEPS)))
    assert plan.overlap % plan.causal_block_size
    assert torch.equal(second.window[:, :, : plan.overlap], first.latents[:, :, -plan.overlap :])
    assert first.latents.shape[2] + second.latents.shape[2] == plan.latent_frames == 18


def test_any_finished_segment_is_enough_to_go_on_to_the_same_video():
    rollout = small_rollout(117, drift_control=0.5, conditions=(0, 0, 1, 1, 2))
    whole = list(roll_out(rollout, fake_sampler))
    for finished in whole[:-1]:
        state = {**finished.state, "other": torch.zeros(1)}
        again = list(roll_out(rollout, fake_sampler, finished.segment.index, state))
        assert [f.segment.index for f in again] == list(range(finished.segment.index + 1, 5))
        for before, after in zip(whole[finished.segment.index + 1 :], again, strict=True):
            assert torch.equal(before.window, after.window)


def test_memory_does_not_grow_with_the_length():
    alive: list[weakref.ref] = []

    def sample_segment(task: Task) -> torch.Tensor:
        gc.collect()
        assert not any(finished() for finished in alive)
        return fake_sampler(task)

    for finished in roll_out(small_rollout(157), sample_segment):
        alive.append(weakref.ref(finished))
        window = finished.window.untyped_storage().data_ptr()
        assert all(t.untyped_storage().data_ptr() != window for t in finished.state.values())
        del finished
    assert len(alive) == 7


def test_every_segment_has_noise_of_its_own_and_a_seed_changes_its_segment_and_those_behind():
    tasks: list[Task] = []
    rollout = small_rollout()
    list(roll_out(rollout, lambda task: tasks.append(task) or fake_sampler(task)))
    noises = [t.noise for t in tasks] + [t.known.noise for t in tasks if t.known is not None]
    assert all(not torch.equal(a, b) for a, b in itertools.combinations(noises, 2))
    before, after = video(rollout), video(small_rollout(seeds=(7, 8, 7)))
    assert torch.equal(before[:, :, :10], after[:, :, :10])
    assert not torch.isclose(before[:, :, 10:], after[:, :, 10:]).any(dim=(0, 1, 3, 4)).all()


def test_prompts_reach_their_segments():
    seen: list[int] = []
    list(roll_out(small_rollout(conditions=(2, 0, 1)), lambda task: seen.append(task.condition) or fake_sampler(task)))
    assert seen == [2, 0, 1]


def test_start_end_and_key_frames_stand_where_they_belong():
    generator = torch.Generator().manual_seed(1)
    start, end, key = (torch.randn(1, 4, n, 2, 3, generator=generator) for n in (2, 1, 1))
    known = {**known_clip(0, start), **known_clip(19, end), **known_clip(12, key)}
    seen: list[list[int]] = []

    def note(task: Task) -> torch.Tensor:
        seen.append([] if task.known is None else task.known.mask.nonzero().flatten().tolist())
        return fake_sampler(task)

    rollout = small_rollout(known=known)
    got = torch.cat([finished.latents for finished in roll_out(rollout, note)], dim=2)
    assert torch.equal(got[:, :, :2], start) and torch.equal(got[:, :, 19:], end)
    assert torch.equal(got[:, :, 12:13], key)
    # windows begin at latent frames 0, 5 and 10, each but the first with 5 carried ones
    assert seen == [[0, 1], [0, 1, 2, 3, 4, 7], [0, 1, 2, 3, 4, 9]]


def test_an_end_frame_stands_before_the_padding():
    end = torch.full((1, 4, 1, 2, 3), 9.0)
    plan = plan_segments(Wanted(61, 37, 17, causal_block_size=5, ar_step=5, steps=3))
    rollout = Rollout(plan, (1, 4, 2, 3), seeded((1, 1, 1)), known=known_clip(15, end))
    last = list(roll_out(rollout, fake_sampler))[-1]
    assert last.segment.padding == 4 and last.latents.shape[2] == 1 and torch.equal(last.latents, end)


def test_a_segment_given_whole_is_not_sampled():
    given = torch.randn(1, 4, 12, 2, 3)
    calls: list[int] = []
    rollout = small_rollout(known=known_clip(0, given))
    pieces = list(roll_out(rollout, lambda task: calls.append(task.segment.index) or fake_sampler(task)))
    assert calls == [1, 2] and torch.equal(pieces[0].latents, given[:, :, :10])
    assert torch.equal(pieces[1].latents[:, :, :2], given[:, :, 10:])


def test_a_loop_leads_to_the_latents_behind_its_first_and_stops_one_frame_early():
    plan = plan_segments(Wanted(101, 57, 17, steps=3, loop=True))
    rollout = Rollout(plan, (1, 4, 2, 3), seeded((7,) * len(plan.segments)))
    ends: list[torch.Tensor] = []

    def note(task: Task) -> torch.Tensor:
        if task.segment.closing:
            ends.append(task.known.latents[:, :, task.segment.overlap + task.segment.new :])
            assert task.known.mask[task.segment.overlap + task.segment.new :].all()
        return fake_sampler(task)

    got = torch.cat([finished.latents for finished in roll_out(rollout, note)], dim=2)
    assert got.shape[2] == 26 and len(ends) == 1 and torch.equal(ends[0], got[:, :, 1:6])
    assert plan.total_frames == plan.segments[-1].frames[1] == 100  # video frame 100 would be frame 0 again


def test_re_encoding_gives_the_next_segment_what_it_returns():
    asked: list[tuple[int, int]] = []

    def decode(window: torch.Tensor) -> torch.Tensor:
        """Every latent frame four times, but for the first: numbers in place of pictures."""
        asked.append((window.shape[2], 0))
        return window.movedim(2, 1).repeat_interleave(4, dim=1)[:, 3:]

    def encode(frames: torch.Tensor) -> torch.Tensor:
        asked.append((0, frames.shape[1]))
        return frames[:, ::4].movedim(1, 2) * 0.5

    first, second, third = roll_out(small_rollout(), fake_sampler, carry_over=Frames(Pixels(decode, encode)))
    assert asked == [(10, 0), (0, 17)] * 2  # never for the last
    assert torch.equal(second.window[:, :, :5], first.latents[:, :, -5:] * 0.5)
    assert third.state["tail"].shape[2] == 5


def drifting(task: Task) -> torch.Tensor:
    """Every segment is brighter and flatter than what it follows."""
    if task.known is None:
        return task.noise
    tail = task.known.latents[:, :, : task.segment.overlap]
    made = task.noise * tail.std() * 0.8 + tail.mean() + 0.3
    return torch.where(task.known.mask[:, None, None], task.known.latents, made)


def test_drift_control_holds_the_statistics_without_a_jump():
    def ends(strength: float) -> tuple[list[float], list[float]]:
        plan = plan_segments(Wanted(337, 65, 17, steps=3))
        rollout = Rollout(plan, (1, 4, 24, 24), seeded((3,) * len(plan.segments)), drift_control=strength)
        pieces = list(roll_out(rollout, drifting))
        tails = [piece.latents[:, :, -1] for piece in pieces]
        return [tail.mean().item() for tail in tails], [tail.std().item() for tail in tails]

    (free_mean, free_spread), (held_mean, held_spread) = ends(0.0), ends(1.0)
    assert len(free_mean) == 7 and free_mean[-1] > 1.6 and free_spread[-1] < 0.4
    assert abs(held_mean[-1] - held_mean[0]) < 0.1 and abs(held_spread[-1] - held_spread[0]) < 0.15


def test_drift_control_leaves_carried_and_given_frames_and_begins_with_little():
    key = torch.full((1, 4, 1, 2, 3), 5.0)
    free = list(roll_out(small_rollout(known=known_clip(13, key)), fake_sampler))
    held = list(roll_out(small_rollout(known=known_clip(13, key), drift_control=1.0), fake_sampler))
    assert torch.equal(held[0].window, free[0].window)
    assert torch.equal(held[1].window[:, :, :5], free[1].window[:, :, :5])
    assert torch.equal(held[1].latents[:, :, 3:4], key)
    change = (held[1].latents - free[1].latents).abs().mean(dim=(0, 1, 3, 4))
    assert 0 < change[0] < change[4]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"conditions": (0, 1)}, "prompts for 2 segments, but the video has 3"),
        ({"addnoise_condition": 1001}, "addnoise_condition is 1001"),
        ({"drift_control": 1.5}, "drift_control is 1.5"),
        ({"known": {20: torch.zeros(1, 4, 1, 2, 3)}}, "Latent frame 20 is given, but the video has 20"),
        ({"known": {3: torch.zeros(1, 4, 1, 2, 4)}}, "latent frame 3 has shape [1, 4, 1, 2, 4]"),
    ],
)
def test_what_does_not_belong_together_is_refused(options, message):
    with pytest.raises(InputError) as refusal:
        small_rollout(**options)
    assert message in str(refusal.value)


def test_latents_of_another_shape_and_a_foreign_carry_over_are_refused():
    with pytest.raises(InputError, match=r"Segment 1 has shape \[1, 4, 9, 2, 3\], expected \[1, 4, 10, 2, 3\]"):
        list(roll_out(small_rollout(), lambda task: task.noise[:, :, 1:]))
    with pytest.raises(InputError, match="re-encoded overlap has shape"):
        list(
            roll_out(
                small_rollout(), fake_sampler, carry_over=Frames(Pixels(lambda window: window, lambda frames: frames))
            )
        )
