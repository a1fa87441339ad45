"""The benchmark measures what it says: equal work for all, a floor that is one, figures that can be trusted."""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import floor, run
from benchmarks.cases import MODES, SIZES, Case, Size, floating_point_operations, inputs
from benchmarks.clip import Clip, measure_clip
from benchmarks.contenders import DIFFUSERS, FLOOR, OURS, build, our_model
from benchmarks.machine import this_machine
from benchmarks.measure import PRODUCT_SIZES, interleaved, matrix_product_peak, median_ratio, peak_extra_bytes
from benchmarks.report import rolling_table
from benchmarks.rolling import Roll, measure_rolling
from benchmarks.solver import loop_per_frame, measure_solver
from wan_core.model.config import WanConfig
from wan_core.sampling.run import ForcingOptions, plan_run
from wan_core.sampling.sigmas import flow_sigmas

TINY = Size(WanConfig(dim=48, ffn_dim=80, num_heads=2, num_layers=2, text_dim=64), (6, 4, 6), 2)
linux_only = pytest.mark.skipif(platform.system() != "Linux", reason="peak memory is read from Linux's /proc")


@pytest.fixture(autouse=True)
def tiny_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SIZES, "tiny", TINY)
    monkeypatch.setitem(PRODUCT_SIZES, "cpu", 64)


@pytest.mark.parametrize("mode", MODES)
def test_all_contenders_answer_the_same_question(mode: str) -> None:
    case = Case("tiny", mode, "float32")
    model, given = our_model(case), inputs(case)
    with torch.no_grad():
        answers = {name: build(name, case, model)(given) for name in (FLOOR, OURS, DIFFUSERS)}
    torch.testing.assert_close(answers[OURS], answers[DIFFUSERS], rtol=1e-4, atol=1e-4)
    assert answers[FLOOR].numel() == answers[OURS].numel()


@pytest.mark.parametrize("mode", MODES)
def test_the_operations_are_those_that_the_floor_does(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def by_products(q, k, v, heads, transformer_options=None):
        q, k, v = (tensor.unflatten(-1, (heads, -1)).transpose(1, 2) for tensor in (q, k, v))
        return (q @ k.transpose(2, 3) @ v).transpose(1, 2).flatten(2)

    monkeypatch.setattr(floor, "scaled_dot_product", by_products)
    case = Case("tiny", mode, "float32")
    call, given = build(FLOOR, case), inputs(case)
    with FlopCounterMode(display=False) as counter:
        call(given)
    assert floating_point_operations(case) == counter.get_total_flops()


@pytest.mark.parametrize(("speed", "largest"), [(1e9, 384), (1e12, 1536)])
def test_what_a_product_costs_does_not_depend_on_the_processor(
    speed: float, largest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that counts operations: a processor of 1 GFLOP/s is known after few, a fast one by a large product."""
    done: list[int] = []
    monkeypatch.setitem(PRODUCT_SIZES, "cpu", 1536)
    monkeypatch.setattr(torch, "mm", lambda a, b: done.append(2 * a.shape[0] ** 3))
    assert matrix_product_peak(torch.float32, lambda: sum(done) / speed) == pytest.approx(speed)
    assert max(done) == 2 * largest**3 and sum(done) / speed < 2


def test_bfloat16_is_measured_where_the_processor_has_instructions_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for known, dtypes in (({"avx2": True}, ("float32",)), ({"avx512_bf16": True}, ("float32", "bfloat16"))):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda known=known: known)
        assert run.processor().dtypes == dtypes


def test_contenders_take_turns() -> None:
    turns: list[str] = []
    seconds = interleaved({name: lambda name=name: turns.append(name) for name in "abc"}, 2)
    assert turns == list("abccba")
    assert {name: len(times) for name, times in seconds.items()} == {"a": 2, "b": 2, "c": 2}


def test_a_ratio_is_taken_within_a_round() -> None:
    assert median_ratio([1.0, 10.0, 2.0], [2.0, 20.0, 8.0]) == 0.5


@linux_only
def test_the_peak_sees_memory_that_is_gone_when_the_call_returns() -> None:
    size = 64 * 2**20
    # the system may take back memory of this large process meanwhile: of three times, the most
    measured = max(peak_extra_bytes(lambda: torch.ones(size // 4).sum()) or 0 for _ in range(3))
    assert 0.9 * size < measured < 1.5 * size


def test_a_clip_is_the_same_with_the_cache_and_fewer_blocks_are_computed() -> None:
    result = measure_clip(Clip("tiny", steps=4, ar_step=2))
    assert result.error < 1e-4
    assert result.blocks_without == 8 * 3  # rows times blocks
    assert result.blocks_with == 3 * 4 + 2


def test_a_rolling_video_is_measured_block_by_block() -> None:
    result = measure_rolling(Roll("tiny", window_blocks=3, sink_blocks=1, blocks=8))
    assert len(result.seconds) == 8 and result.growth > 0
    assert len(set(result.cache_bytes[result.full_after :])) == 1 and result.cache_bytes[0] == 0
    table = rolling_table(result)
    assert f"**{result.growth:.2f}** of the first" in table and result.title in table


def test_both_solver_loops_run_and_are_timed() -> None:
    result = measure_solver("tiny", 4)
    assert result.ours > 0 and result.per_frame > 0


def test_the_loop_per_frame_steps_every_frame_to_the_end() -> None:
    noise = torch.randn(1, 4, 6, 4, 6)
    before = noise.clone()
    loop_per_frame(noise, plan_run(ForcingOptions(ar_step=2, causal_block_size=2), flow_sigmas(4), 6))
    assert torch.equal(noise, before)


def test_the_machine_is_named_without_host_name_and_folders() -> None:
    words = this_machine().words()
    assert torch.__version__ in words and "cores" in words
    assert platform.node() not in words and str(Path.home()) not in words


def test_the_command_writes_a_table_and_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "RESULTS", tmp_path)
    monkeypatch.setattr(sys, "argv", [
        "bench", "--sizes", "tiny", "--dtypes", "float32", "bfloat16", "--rounds", "2",
        "--threads", str(torch.get_num_threads()), "--clock", "processor",
        "--name", "here", "--skip", "memory", "clip", "rolling",
    ])  # fmt: skip
    monkeypatch.delenv("SKYREELS_HOSTS", raising=False)
    run.main()
    table, data = (tmp_path / "here.md").read_text("utf-8"), json.loads((tmp_path / "here.json").read_text("utf-8"))
    assert table in capsys.readouterr().out
    assert "processor time" in table and "| cannot |" in table
    assert {result["name"] for result in data["forward"]} == {FLOOR, OURS, DIFFUSERS}
    assert len(data["forward"]) == 6 * 3 and all(len(result["seconds"]) == 2 for result in data["forward"])
    assert data["clip"] is None and data["rolling"] is None and data["solver"]["ours"] > 0
