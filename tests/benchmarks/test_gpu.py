"""The benchmark of GPUs as far as it runs without one: full sizes by shapes, memory by counting, else on the CPU."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given as given_values
from hypothesis import strategies as st
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import fit, forward, gpu_memory, measure, run
from benchmarks.attempt import FAILED, OUT_OF_MEMORY, attempt, first_call
from benchmarks.cases import GPU_SIZES, MODES, SIZES, Case, Size, floating_point_operations, inputs
from benchmarks.contenders import (
    COMPILED,
    DIFFUSERS,
    FLOOR,
    IN_PIECES,
    OURS,
    build,
    meta_model,
    names,
    our_model,
    weight_bytes,
)
from benchmarks.counted import AllocationCounter, counted_peak
from benchmarks.fit import FEW_KEYS, FewKeys, FitResult, longest, measure_fit
from benchmarks.floor import Floor
from benchmarks.forward import Result, Settings, measure_case
from benchmarks.gpu_memory import Room, count_case, count_fit
from benchmarks.report import fit_table, forward_table
from wan_core.model.config import WanConfig
from wan_core.model.wan_model import WanModel

TINY = Size(WanConfig(dim=48, ffn_dim=80, num_heads=2, num_layers=3, text_dim=64), (6, 4, 6), 2)


@pytest.fixture(autouse=True)
def tiny_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SIZES, "tiny-540P", TINY)
    monkeypatch.setitem(measure.PRODUCT_SIZES, "cpu", 64)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", GPU_SIZES)
def test_at_full_size_all_do_the_operations_that_the_share_of_the_peak_is_taken_of(size: str, mode: str) -> None:
    case = Case(size, mode, "bfloat16", "meta")
    one = Case(size, mode, "bfloat16", "meta", layers=1)
    model, given = meta_model(one), inputs(one)
    answers = {}
    for name in names(one, None):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            answers[name] = build(name, one, model)(given)
        if name != DIFFUSERS or not case.block:  # under causal attention diffusers computes what it masks
            assert counter.get_total_flops() == floating_point_operations(one)
    assert answers[OURS].shape == (1, 16, *case.shape.latent)
    assert all(answers[OURS].numel() == answer.numel() for answer in answers.values())


def test_ours_takes_less_memory_than_the_floor_and_at_most_half_of_diffusers() -> None:
    for size in GPU_SIZES:
        extra = count_case(Case(size, "per-frame", "bfloat16", "meta"), None).extra
        assert extra[OURS] < extra[FLOOR] and extra[OURS] < 0.25 * extra[DIFFUSERS]
        assert extra[IN_PIECES] < extra[OURS]


def test_layers_follow_each_other_in_the_same_memory() -> None:
    peaks = []
    for layers in (1, 0):
        case = Case("tiny-540P", "per-frame", "float32", "meta", layers)
        call, given = build(OURS, case, meta_model(case)), inputs(case)
        with torch.no_grad():
            peaks.append(counted_peak(lambda call=call, given=given: call(given)))
    assert peaks[0] == peaks[1]


def test_memory_is_counted_while_it_lives() -> None:
    with AllocationCounter() as counter:
        first = torch.zeros(1000, device="meta")  # 4000 bytes, 4096 as the allocator rounds
        second = first.view(10, 100)[:, ::2]  # the same memory
        assert counter.now == 4096
        third = second + 1  # 2000 bytes, 2048
        del first
        assert counter.now == 4096 + 2048
        del second
        assert counter.now == 2048
    assert counter.peak == 4096 + 2048 and third.shape == (10, 50)


def test_a_full_memory_refuses() -> None:
    def too_much() -> None:
        with AllocationCounter(limit=5000):
            kept = torch.zeros(1000)
            assert kept.add(1) is not None

    assert first_call(too_much, "cpu") == (None, OUT_OF_MEMORY)
    assert first_call(lambda: None, "cpu") == (None, "")


def test_a_kernel_that_refuses_is_no_end_of_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert attempt(lambda: torch.zeros(2) @ torch.zeros(3), "cpu") == (None, FAILED)
    assert "size" in capsys.readouterr().out
    assert attempt(lambda: 7, "cpu") == (7, "")


@given_values(st.integers(0, 60), st.integers(0, 60))
def test_the_longest_that_fits_is_found(fitting: int, limit: int) -> None:
    assert longest(lambda length: length <= fitting, limit) == min(fitting, limit)


def test_the_longest_video_is_looked_for_with_everyones_forward_pass() -> None:
    result = measure_fit(Case("tiny-540P", "per-frame", "float32"), None, limit=3)
    assert result.latent_frames == {OURS: 3, IN_PIECES: 3, DIFFUSERS: 3}  # a CPU's memory is no bound here
    assert "at least 3 (9 frames)" in fit_table([result])


def test_what_fits_grows_with_the_room() -> None:
    case = Case("14B-720P", "per-frame", "bfloat16", "meta")
    small, large = (count_fit(case, Room(size, False), None, limit=64).latent_frames for size in (12, 16))
    assert all(0 < small[name] < large[name] <= 64 for name in small)
    assert small[OURS] > 4 * small[DIFFUSERS]
    nothing = count_fit(case, Room(24, True), None, limit=4)  # the weights alone do not fit
    assert set(nothing.latent_frames.values()) == {0} and "| none | none | none |" in fit_table([nothing])
    assert weight_bytes(case) > 24e9


def test_a_compiled_contender_takes_part_when_asked() -> None:
    case = Case("tiny-540P", "per-frame", "float32")
    assert COMPILED in names(case, None, compiled=True) and COMPILED not in names(case, None)
    model, given = our_model(case), inputs(case)
    with torch.no_grad():
        torch.testing.assert_close(build(COMPILED, case, model)(given), build(OURS, case, model)(given))


def test_where_the_floor_fails_the_others_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case("tiny-540P", "per-frame", "float32")

    def full(*args: object) -> None:
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(Floor, "__call__", full)
    floor, ours, _ = results = measure_case(case, Settings(rounds=1, memory=False), None)
    assert (floor.failure, floor.seconds, ours.of_floor) == (OUT_OF_MEMORY, [], None) and ours.median is not None
    assert "| out of memory | " in forward_table(results) and "None" not in forward_table(results)


def test_where_the_weights_do_not_fit_nobody_does(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case("tiny-540P", "per-frame", "float32")

    def in_little_memory(case: Case) -> WanModel:
        with AllocationCounter(limit=100_000):
            return our_model(case)

    for module in (forward, fit):
        monkeypatch.setattr(module, "our_model", in_little_memory)
    results = measure_case(case, Settings(rounds=1, memory=False), None)
    assert [one.failure for one in results] == [OUT_OF_MEMORY] * 3
    assert set(measure_fit(case, None, limit=2).latent_frames.values()) == {0}


def test_who_does_not_fit_is_in_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case("tiny-540P", "per-frame", "float32")
    results = measure_case(case, Settings(rounds=2, memory=False), None)
    assert all(len(result.seconds) == 2 for result in results)
    failed = Result(case.title, DIFFUSERS, [], None, None, None, OUT_OF_MEMORY)
    table = forward_table([result for result in results if result.name != DIFFUSERS] + [failed])
    assert table.splitlines()[-1].endswith("| cannot | out of memory |") and failed.median is None


def test_without_a_gpu_the_command_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["bench", "--gpu"])
    assert run.main() == 2
    assert "needs a CUDA device" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["bench", "--gpu", "--quick"])
    assert run.main() == 2


def test_the_whole_gpu_run_works_on_another_device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every part of `--gpu`, at a tiny size and on the CPU: what it would do on a GPU, but for the device's name."""
    size = "tiny-540P"
    kind = run.Kind("cpu", "wall", (size,), ("bfloat16",), 1, size, "bfloat16", size, fit_sizes=(size,))
    monkeypatch.setattr(run, "RESULTS", tmp_path)
    monkeypatch.setattr(run, "measure_fit", lambda case, host: measure_fit(case, host, limit=2))
    monkeypatch.delenv("SKYREELS_HOSTS", raising=False)
    given = run.parser().parse_args(["--name", "here", "--skip", "memory"])
    report = run.measure(given, kind)
    assert len(report.forward) == 3 * 3 and report.fit == [
        FitResult("tiny, 32 x 48, bfloat16", {OURS: 2, IN_PIECES: 2, DIFFUSERS: 2}, 2)
    ]
    more = run.measure(run.parser().parse_args([
        "--name", "here", "--add", "--skip", "memory", "fit", "clip", "rolling", "solver", "--sizes", size,
        "--layers", "2", "--modes", "per-frame",
    ]), kind)  # fmt: skip
    assert len(more.forward) == 4 * 3 and "x 2 of 3 layers" in more.forward[-1].case
    assert (more.fit, more.clip, more.rolling, more.solver) == (report.fit, report.clip, report.rolling, report.solver)
    assert report.clip is not None and report.clip.blocks_with < report.clip.blocks_without
    assert report.rolling is not None and report.solver is not None
    assert json.loads((tmp_path / "here.json").read_text("utf-8"))["fit"][0]["limit"] == 2


def test_some_sizes_are_all_that_is_measured() -> None:
    given = run.parser().parse_args(["--gpu", "--sizes", "14B-720P", "--modes", "per-frame", "--layers", "4"])
    assert run.cases_of(run.GPU, given) == [Case("14B-720P", "per-frame", "bfloat16", "cuda", 4)]
    assert run.GPU.fitted(given.sizes) == ["14B-720P"] and "x 4 of 40 layers" in run.cases_of(run.GPU, given)[0].title
    assert len(run.GPU.fitted(None)) == 3


def test_attention_over_few_keys_takes_the_memory_of_attention_over_all() -> None:
    shape = (1, 2, 4 * FEW_KEYS, 8)
    q, k, v = (torch.randn(shape) for _ in range(3))
    with FewKeys():
        out = functional.scaled_dot_product_attention(q, k, value=v)
    few = functional.scaled_dot_product_attention(q, k[:, :, :FEW_KEYS], v[:, :, :FEW_KEYS])
    assert out.shape == shape and torch.equal(out, few)


def test_the_count_is_written_as_a_table_and_json(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(gpu_memory, "RESULTS", tmp_path)
    monkeypatch.setattr(gpu_memory, "ROOMS", {"1.3B": (Room(8, True),), "14B": ()})
    monkeypatch.setattr(gpu_memory, "LONGEST", 4)
    monkeypatch.setattr(sys, "argv", ["bench", "--sizes", "1.3B-540P"])
    monkeypatch.delenv("SKYREELS_HOSTS", raising=False)
    gpu_memory.main()
    data = json.loads((tmp_path / "gpu-memory.json").read_text("utf-8"))
    text = (tmp_path / "gpu-memory.md").read_text("utf-8")
    assert [one["weights"] > 2.8e9 for one in data["counted"]] == [True] * 3 and len(data["fit"]) == 1
    assert "8 GB, weights in it" in text and "No GPU was used" in text
