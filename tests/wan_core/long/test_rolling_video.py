"""A rolling video as a source: its state, its changes of prompt, and what its chunks see, with a real model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from tests.tiny import random_wan
from wan_core.errors import InputError, ScheduleError
from wan_core.long.methods import Method
from wan_core.long.plan import MOVING_WINDOW, ROLLING, Plan, Wanted
from wan_core.long.rolling import RollingCalls, RollingRow, Window, block_noise, roll_out, split_known
from wan_core.long.rolling_video import (
    CHANGES,
    CUT,
    FLUSH,
    KEEP,
    RECACHE,
    RollingTask,
    RollingVideo,
    cut_at,
    cuts_of,
    plan_rolling,
)
from wan_core.long.sources import roll_out as make_all
from wan_core.model.config import WanConfig
from wan_core.sampling.denoise import model_denoise
from wan_core.sampling.noise import noise_of_frames
from wan_core.sampling.sigmas import exact_timesteps, warped_sigmas

CONFIG = WanConfig(dim=48, ffn_dim=80, freq_dim=32, text_dim=24, num_heads=2, num_layers=3)
SIGMAS, SEED, CHUNK = warped_sigmas((1000, 500), 5.0), 5, 2
WINDOW = Window(8, 2)
SHAPE = (1, 16, 4, 4)
CONTEXTS = [torch.randn(1, 7, 24, generator=torch.Generator().manual_seed(seed)) for seed in (4, 6)]


@pytest.fixture(scope="module")
def model():
    return random_wan(CONFIG)


def sampler(model, rows: Callable[[RollingRow], object] = lambda row: None) -> Callable[[RollingTask], torch.Tensor]:
    """Make a task's frames with the model; the prompt counts as a whole, the newest."""

    def sample(task: RollingTask) -> torch.Tensor:
        size = task.known.shape[2]
        blocks = [*split_known(task.sink, CHUNK)]
        sink = len(blocks)
        blocks += split_known(size - task.sink, CHUNK)
        known = task.known.split(blocks, dim=2) if blocks else ()
        prompt = next(iter(task.weights))
        froms = [task.made_from[at] for at in torch.tensor([0, *blocks]).cumsum(0)[:-1].tolist()]
        with torch.no_grad(), RollingCalls(model, CONFIG.num_layers, WINDOW) as calls:

            def call(x, t, context, row):
                rows(row)
                number = froms[row.block] if row.keep and row.block < len(froms) else -1
                return calls(x, t, row, context=CONTEXTS[prompt if number < 0 else number])

            denoise = model_denoise(call, CONTEXTS[0], timesteps=exact_timesteps)
            shape = (*SHAPE[:2], CHUNK, *SHAPE[2:])
            chunks = -(-task.new // CHUNK)
            noise = (block_noise(shape, task.seed, 2, task.first + n * CHUNK, "lcm") for n in range(chunks))
            made = list(roll_out(denoise, noise, SIGMAS, WINDOW, known=known, jump=(sink, task.position)))
        return torch.cat(made, dim=2)[:, :, : task.new]

    return sample


def source(model, plan: Plan, rows=lambda row: None, known=0, **options) -> RollingVideo:
    images = {at: noise_of_frames((1, 16, 1, 4, 4), 99, at) for at in range(known)}
    return RollingVideo(plan, SHAPE, WINDOW, (SEED,), sampler(model, rows), images, **options)


def latents_of(made: RollingVideo, *after) -> torch.Tensor:
    return torch.cat([piece.latents for piece in make_all(made, *after)], dim=2)


def conditions(plan: Plan, change: int) -> tuple[int, ...]:
    return tuple(int(first >= change) for first, _ in plan.places)


@pytest.mark.parametrize("known", [0, 1, 4])
def test_the_first_segment_is_what_the_sampler_of_latents_makes(model, known) -> None:
    plan = plan_rolling(Wanted(61, steps=2, known=range(known)), WINDOW, CHUNK)
    made = source(model, plan, known=known)
    first = next(iter(make_all(made))).latents
    given = [made.known[at] for at in range(known)]
    blocks = torch.cat(given, dim=2).split(split_known(known, CHUNK), dim=2) if known else ()
    with torch.no_grad(), RollingCalls(model, CONFIG.num_layers, WINDOW) as calls:
        denoise = model_denoise(
            lambda x, t, context, row: calls(x, t, row, context=context), CONTEXTS[0], timesteps=exact_timesteps
        )
        noise = (block_noise((1, 16, CHUNK, 4, 4), SEED, 2, at, "lcm") for at in range(known, 16, CHUNK))
        alone = torch.cat([*given, *roll_out(denoise, noise, SIGMAS, WINDOW, known=blocks)], dim=2)
    assert torch.equal(first, alone[:, :, : first.shape[2]])


@pytest.mark.parametrize("at_change", CHANGES)
def test_any_finished_segment_is_enough_to_go_on_to_the_same_video(model, at_change) -> None:
    plan = plan_rolling(Wanted(189, steps=2, known=range(1)), WINDOW, CHUNK)
    prompts = conditions(plan, 23)
    plan = cut_at(plan, WINDOW, cuts_of(plan, prompts))
    made = source(model, plan, known=1, conditions=prompts, at_change=at_change)
    whole = list(make_all(made))
    assert [piece.segment.new for piece in whole] == [17, 6, 16, 9] and plan.latent_frames == 48
    for piece in whole[:-1]:
        again = latents_of(made, piece.segment.index, piece.state)
        assert torch.equal(again, torch.cat([later.latents for later in whole[piece.segment.index + 1 :]], dim=2))
        assert piece.state["sink"].shape[2] + piece.state["tail"].shape[2] <= WINDOW.frames


def test_a_segment_sees_its_window_at_the_places_of_the_video(model) -> None:
    rows: list[RollingRow] = []
    plan = plan_rolling(Wanted(161, steps=2), WINDOW, CHUNK)
    made = source(model, plan, rows.append)
    list(make_all(made))
    assert [segment.new for segment in plan.segments] == [16, 16, 9]
    assert sum(segment.rows for segment in plan.segments) == len(rows)
    second = rows[plan.segments[0].rows :][: plan.segments[1].rows]
    # the sink at its own place, then the four frames before the segment, then its chunks
    assert [(row.first, row.end) for row in second if row.keep][:3] == [(0, 2), (12, 14), (14, 16)]
    first_new = next(row for row in second if not row.keep)
    assert (first_new.first, first_new.seen_from) == (16, 12)


def test_the_state_matters_and_holds_nothing_that_no_chunk_sees(model) -> None:
    made = source(model, plan_rolling(Wanted(125, steps=2), WINDOW, CHUNK))
    first, second = make_all(made)
    for name in ("sink", "tail"):
        changed = {**first.state, name: first.state[name] + 0.1}
        assert not torch.equal(latents_of(made, 0, changed), second.latents)
    assert torch.equal(first.state["sink"], first.latents[:, :, :2])
    assert torch.equal(first.state["tail"], first.latents[:, :, -4:])


def test_a_change_of_prompt_takes_effect_in_its_chunk_and_finds_what_was_chosen(model) -> None:
    plan = plan_rolling(Wanted(189, steps=2), WINDOW, CHUNK)
    prompts = conditions(plan, 22)
    cut = cut_at(plan, WINDOW, cuts_of(plan, prompts))
    plain = latents_of(source(model, cut))
    videos = {how: latents_of(source(model, cut, conditions=prompts, at_change=how)) for how in CHANGES}
    for video in videos.values():
        assert torch.equal(video[:, :, :22], plain[:, :, :22])
        assert not torch.isclose(video[:, :, 22:24], plain[:, :, 22:24]).all()
    pairs = [(a, b) for number, a in enumerate(CHANGES) for b in CHANGES[number + 1 :]]
    assert all(not torch.equal(videos[a][:, :, 22:24], videos[b][:, :, 22:24]) for a, b in pairs)
    rows: list[RollingRow] = []
    made = source(model, cut, rows.append, conditions=prompts, at_change=CUT)
    list(make_all(made))
    number = next(segment.index for segment in cut.segments if segment.latents[0] == 22)
    change = sum(segment.rows for segment in cut.segments[:number])
    assert (rows[change].first, rows[change].keep) == (0, False)  # a new video begins


def test_kept_frames_are_made_again_with_the_prompts_that_they_came_from(model) -> None:
    plan = plan_rolling(Wanted(189, steps=2), WINDOW, CHUNK)
    prompts, seen = conditions(plan, 22), []
    cut = cut_at(plan, WINDOW, cuts_of(plan, prompts))
    made = source(model, cut, conditions=prompts, at_change=KEEP)
    watched = replace(made, sample=lambda task: seen.append(task.made_from) or made.sample(task))
    list(make_all(watched))
    assert seen == [(), (0,) * 6, (0,) * 6, (0, 0, 1, 1, 1, 1)]  # the sink stays that of the first prompt
    other = replace(made, at_change=RECACHE)
    watched, seen = replace(other, sample=lambda task: seen.append(task.made_from) or made.sample(task)), []
    list(make_all(watched))
    assert {number for task in seen for number in task} == {-1}


def test_a_flush_leaves_the_sink_and_the_last_chunk(model) -> None:
    plan = plan_rolling(Wanted(189, steps=2), WINDOW, CHUNK)
    prompts, seen = conditions(plan, 22), []
    cut = cut_at(plan, WINDOW, cuts_of(plan, prompts))
    made = source(model, cut, conditions=prompts, at_change=FLUSH)
    list(make_all(replace(made, sample=lambda task: seen.append(task) or made.sample(task))))
    assert [task.known.shape[2] for task in seen] == [0, 6, 4, 6]
    assert [task.position for task in seen] == [0, 12, 20, 34]


def test_a_blend_weights_its_frames_and_ends_with_a_segment(model) -> None:
    plan = plan_rolling(Wanted(189, steps=2), WINDOW, CHUNK)
    prompts, seen = conditions(plan, 22), []
    cuts = cuts_of(plan, prompts, blend=3)
    cut = cut_at(plan, WINDOW, cuts)
    made = source(model, cut, conditions=prompts, blend=3)
    list(make_all(replace(made, sample=lambda task: seen.append(task) or made.sample(task))))
    assert cuts == (22, 26)
    blended = next(task for task in seen if task.first == 22)
    assert blended.weights[1].tolist() == [0.25, 0.5, 0.75, 1.0] and sorted(blended.weights) == [0, 1]
    assert all(len(task.weights) == 1 for task in seen if task is not blended)


def test_what_cannot_be_is_refused(model) -> None:
    plan = plan_rolling(Wanted(61, steps=2, known=range(1)), WINDOW, CHUNK)
    with pytest.raises(InputError, match="method segments or moving window for end and key images"):
        replace(source(model, plan, known=1), known={0: torch.zeros(1, 16, 1, 4, 4), 9: torch.zeros(1, 16, 1, 4, 4)})
    with pytest.raises(ScheduleError, match="has to hold a chunk of 9"):
        plan_rolling(Wanted(61, steps=2), WINDOW, 9)


def test_a_minute_is_planned_in_whole_windows() -> None:
    plan = plan_rolling(Wanted(1457, steps=4), Window(21), 3)
    assert {segment.new for segment in plan.segments[:-1]} == {42}
    assert plan.segments[1].rows == 6 + 14 * 4 + 13 and plan.seen == 21
    assert plan.segments[-1].frames[1] == 1457 and sum(s.new for s in plan.segments) == plan.latent_frames == 365


def test_a_budget_makes_another_job_and_without_one_it_is_the_job_of_before() -> None:
    usual = Method(ROLLING).identity()
    assert usual["method"] == ROLLING and "kv_budget" not in usual
    assert Method(ROLLING, kv_budget=0.25).identity() == {**usual, "kv_budget": 0.25}
    assert Method(MOVING_WINDOW).identity() == {"method": MOVING_WINDOW} and Method().identity() == {}
