"""The benchmark of GPUs as far as it runs without one: full sizes by shapes, memory by counting, else on the CPU."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given as given_values
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import gpu_memory, run
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
from benchmarks.fit import FitResult, OneLayer, longest, measure_fit
from benchmarks.forward import Result, Settings, first_call, measure_case
from benchmarks.gpu_memory import Room, count_case, count_fit
from benchmarks.report import fit_table, forward_table
from wan_core.config import WanConfig

TINY = Size(WanConfig(dim=48, ffn_dim=80, num_heads=2, num_layers=3), (6, 4, 6), 2)


@pytest.fixture(autouse=True)
def tiny_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SIZES, "tiny-540P", TINY)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", GPU_SIZES)
def test_at_full_size_all_do_the_operations_that_the_share_of_the_peak_is_taken_of(size: str, mode: str) -> None:
    case = Case(size, mode, "bfloat16", "meta")
    one = OneLayer(size, mode, "bfloat16", "meta")
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
    for case_of in (OneLayer, Case):
        case = case_of("tiny-540P", "per-frame", "float32", "meta")
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

    assert first_call(too_much, "cpu") == (None, False)
    assert first_call(lambda: None, "cpu") == (None, True)


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


def test_who_does_not_fit_is_in_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case("tiny-540P", "per-frame", "float32")
    results = measure_case(case, Settings(rounds=2, memory=False), None)
    assert all(len(result.seconds) == 2 for result in results)
    failed = Result(case.title, DIFFUSERS, [], None, None, None)
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
    assert report.clip is not None and report.clip.blocks_with < report.clip.blocks_without
    assert report.rolling is not None and report.solver is not None
    assert json.loads((tmp_path / "here.json").read_text("utf-8"))["fit"][0]["limit"] == 2


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
