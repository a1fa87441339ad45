"""Out of memory in the middle of a run: the model call that failed is made again in less memory, and nothing is lost.

The memory is one of a size of our choice (benchmarks/counted.py): it refuses real allocations, as a GPU does.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import comfy.model_management
import comfy.samplers
import comfy.sd
import pytest
import torch
from comfy.ldm.modules.attention import attention_pytorch
from measures import relative_error
from sampling_scene import module

SIGMAS = torch.tensor([0.999, 0.9, 0.7, 0.4, 0.1, 0.0])
SHAPE = (1, 16, 6, 12, 12)
CAUSAL = {"ar_step": 2, "causal_block_size": 2, "causal_attention": True}
CAUSAL_ROWS = 5 + 2 * 2
RUNGS = ("one after the other", "in 4 pieces", "in 16 pieces")


@pytest.fixture
def model(pack: ModuleType, models: Path) -> Any:
    model = module("comfy.loading.loader").load_model(models / "diffusion_models" / "tiny_df.safetensors")
    for block in model.model.diffusion_model.blocks:  # a backend that does not get by with less on its own
        block.self_attn.attention = block.cross_attn.attention = attention_pytorch
    return model


def sample(model: Any, cfg: float = 4.0, callback: Any = None, **options: Any) -> torch.Tensor:
    bridge = module("comfy.sampling.sampler")
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(*(
        [[torch.randn(1, 12, 4096, generator=torch.Generator().manual_seed(seed)) * 0.3, {}]] for seed in (1, 2)
    ))  # fmt: skip
    guider.set_cfg(cfg)
    noise = torch.randn(SHAPE, generator=torch.Generator().manual_seed(7))
    sampler = bridge.DiffusionForcingSampler(bridge.ForcingOptions(**options))
    with torch.inference_mode():
        return guider.sample(
            noise, torch.zeros(SHAPE), sampler, SIGMAS, disable_pbar=True, seed=3, callback=callback
        )  # fmt: skip


@pytest.fixture
def calls(pack: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The row of every call of the guider, of those that fail as well."""
    rows: list[int] = []
    ladder = module("comfy.sampling.memory_ladder").MemoryLadder
    call = ladder.call

    def counted(self: Any, model_call: Any, where: str) -> torch.Tensor:
        row = int(re.findall(r"\d+", str(where))[0]) - 1
        return call(self, lambda: rows.append(row) or model_call(), where)

    monkeypatch.setattr(ladder, "call", counted)
    return rows


def in_the_log(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [text for record in caplog.records if (text := record.getMessage()).startswith("SkyReels-V2: Out of memory")]


def peak_of_a_call(model: Any, memory_budget: Any, monkeypatch: pytest.MonkeyPatch, rungs: int) -> int:
    """Return the most bytes in use in a run that begins some rungs down."""
    kind = module("comfy.sampling.memory_ladder").MemoryLadder
    begin = kind.__init__

    def further_down(self: Any, *args: Any) -> None:
        begin(self, *args)
        for _ in range(rungs):
            next(self.rungs)

    with monkeypatch.context() as patch, memory_budget() as budget:
        patch.setattr(kind, "__init__", further_down)
        sample(model)
    return budget.peak


@pytest.mark.parametrize("rungs", [1, 2, 3])
def test_in_less_memory_the_video_is_the_same(
    model: Any, memory_budget: Any, calls: list[int], monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture, rungs: int,
) -> None:  # fmt: skip
    expected = sample(model)
    too_little, enough = (peak_of_a_call(model, memory_budget, monkeypatch, number) for number in (rungs - 1, rungs))
    assert enough < too_little
    calls.clear()
    with caplog.at_level(logging.WARNING), memory_budget((too_little + enough) / 2) as budget:
        made = sample(model)
    lines = in_the_log(caplog)
    assert budget.refused >= rungs
    assert len(lines) == rungs and all(wanted in line for wanted, line in zip(RUNGS, lines, strict=False))
    assert all("slower, same result" in line for line in lines)
    assert sorted(calls) == sorted([*range(5), *calls[:rungs]])  # each failure costs one more call of its own row
    assert relative_error(made, expected) < 1e-5


def test_at_cfg_1_there_is_nothing_to_take_apart(
    model: Any, memory_budget: Any, caplog: pytest.LogCaptureFixture
) -> None:
    expected = sample(model, cfg=1.0)
    with memory_budget() as budget:
        sample(model, cfg=1.0)
    with caplog.at_level(logging.WARNING), memory_budget(budget.peak - 1):
        made = sample(model, cfg=1.0)
    assert len(in_the_log(caplog)) == 1 and "in 4 pieces" in in_the_log(caplog)[0]
    assert relative_error(made, expected) < 1e-5


def test_a_model_on_cores_own_transformer_has_the_first_rung(
    pack: ModuleType, models: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = comfy.sd.load_diffusion_model(str(models / "diffusion_models" / "tiny_df.safetensors"))
    expected = sample(model)

    def one_at_a_time(layer: Any, inputs: tuple[torch.Tensor]) -> None:
        if len(inputs[0]) > 1:
            raise torch.cuda.OutOfMemoryError("no memory for two")

    hook = model.model.diffusion_model.blocks[0].ffn.register_forward_pre_hook(one_at_a_time)
    with caplog.at_level(logging.WARNING):
        made = sample(model)
    hook.remove()
    assert [RUNGS[0] in line for line in in_the_log(caplog)] == [True]
    assert relative_error(made, expected) < 1e-5


def run_out_once_in(monkeypatch: pytest.MonkeyPatch, model: Any, row: int, calls: list[int]) -> None:
    """Fail in the last layer of the first try of a row."""
    forward, failed = model.model.diffusion_model.blocks[-1].ffn.forward, []

    def failing(x: torch.Tensor) -> torch.Tensor:
        if calls[-1] == row and not failed:
            failed.append(row)
            raise torch.cuda.OutOfMemoryError("no memory")
        return forward(x)

    monkeypatch.setattr(model.model.diffusion_model.blocks[-1].ffn, "forward", failing)


def test_an_hour_of_work_is_not_lost_to_the_last_row(
    model: Any, calls: list[int], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected = sample(model, **CAUSAL)
    calls.clear()
    run_out_once_in(monkeypatch, model, CAUSAL_ROWS - 1, calls)
    with caplog.at_level(logging.WARNING):
        made = sample(model, **CAUSAL)
    assert calls == [*range(CAUSAL_ROWS), CAUSAL_ROWS - 1]
    assert f"model call {CAUSAL_ROWS} of {CAUSAL_ROWS}" in in_the_log(caplog)[0]
    assert relative_error(made, expected) < 1e-5


@pytest.mark.parametrize("row", range(CAUSAL_ROWS))
def test_the_cache_survives_a_call_that_broke_off(
    model: Any, calls: list[int], monkeypatch: pytest.MonkeyPatch, row: int
) -> None:
    expected = sample(model, **CAUSAL)
    calls.clear()
    run_out_once_in(monkeypatch, model, row, calls)
    assert relative_error(sample(model, **CAUSAL), expected) < 1e-5
    assert len(calls) == CAUSAL_ROWS + 1


def test_the_cache_is_given_up_when_there_is_no_room_for_it(
    model: Any, calls: list[int], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected = sample(model, **CAUSAL)
    calls.clear()
    layer = module("model.kv_cache").KeptTokens
    extend = layer.extend

    def no_room(self: Any, *args: Any) -> Any:
        if self.new_blocks:
            raise torch.cuda.OutOfMemoryError("no room for one block")
        return extend(self, *args)

    monkeypatch.setattr(layer, "extend", no_room)
    with caplog.at_level(logging.WARNING):
        made = sample(model, **CAUSAL)
    assert [re.search(r"with (.*) \(slower", line)[1] for line in in_the_log(caplog)][-1].startswith("no cache")
    assert len(calls) == CAUSAL_ROWS + 3
    assert relative_error(made, expected) < 1e-4


def test_the_next_run_begins_at_the_top(
    model: Any, memory_budget: Any, calls: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    sample(model)  # what is made once for all runs is not counted
    with memory_budget() as free:
        sample(model)
    calls.clear()
    with memory_budget(free.peak - 1):
        sample(model)
    assert len(calls) == 5 + 1
    calls.clear()
    with memory_budget() as again:
        sample(model)
    assert len(calls) == 5 and again.peak == free.peak
    assert "skyreels_pieces" not in model.model_options.get("transformer_options", {})


def test_weights_go_to_main_memory_in_the_middle_of_a_run(
    model: Any, calls: list[int], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected = sample(model)
    calls.clear()
    # the one device at hand stands for a GPU: core's own partial unloading runs, with all its bookkeeping
    monkeypatch.setattr(comfy.model_management, "is_device_cpu", lambda device: False)
    last = model.model.diffusion_model.blocks[-1].ffn[0]

    def until_offloaded(*_: Any) -> None:
        if not last.comfy_cast_weights:
            raise torch.cuda.OutOfMemoryError("weights are in the way")

    hook = last.register_forward_pre_hook(until_offloaded)
    with caplog.at_level(logging.WARNING):
        made = sample(model)
    hook.remove()
    assert "of the loaded weights moved to main memory" in in_the_log(caplog)[-1]
    assert relative_error(made, expected) < 1e-5
    assert relative_error(sample(model), expected) < 1e-5  # and the model is whole afterwards


def test_when_nothing_helps_the_error_says_what_does(
    model: Any, memory_budget: Any, calls: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    ladder = module("comfy.sampling.memory_ladder")
    wanted = r"21 frames of 96x96 don't fit.* fp8_e4m3fn"
    with memory_budget(1_500_000), pytest.raises(ladder.OutOfMemory, match=wanted) as raised:
        sample(model)
    assert isinstance(raised.value, comfy.model_management.OOM_EXCEPTION)  # so the host frees what it holds
    assert isinstance(raised.value, module("errors").SkyReelsError)
    assert calls == [0] * 4  # once as it is, once on each rung


def test_other_errors_are_not_tried_again(model: Any, calls: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("something else")

    monkeypatch.setattr(model.model.diffusion_model.blocks[0].ffn, "forward", broken)
    with pytest.raises(RuntimeError, match="something else"):
        sample(model)
    assert calls == [0]
