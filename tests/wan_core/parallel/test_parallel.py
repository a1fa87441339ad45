"""Two and three processes make what one makes, each with its part of a cache, and send what was told before.

The processes are started once, both teams at the same time, and make everything; the tests compare.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.measures import relative_error
from tests.tiny import random_wan
from tests.wan_core.parallel.clips import ALL, CACHED, HEADS, SENT, SHARDED, Made, made_by
from wan_core.errors import InputError
from wan_core.model.config import WanConfig
from wan_core.model.share import Run, Tokens
from wan_core.parallel.layout import Layout, runs_of
from wan_core.parallel.merge import Merged, attend_by_hand, attend_part
from wan_core.parallel.shards import shard_blocks

SIZES = (2, 3)
SECONDS = 240  # until the processes are given up: they take ten on an idle machine
PROGRAM = Path(__file__).parent / "clips.py"


@pytest.fixture(scope="module")
def one() -> dict[Any, Made]:
    """What one process makes."""
    return made_by(None)


@pytest.fixture(scope="module")
def teams(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[dict[Any, Made]]]:
    """What each process of each team has made."""
    folders = {size: tmp_path_factory.mktemp(f"team of {size}") for size in SIZES}
    running: list[tuple[Path, Any]] = []
    for size, folder in folders.items():
        for rank in range(size):
            command = [sys.executable, str(PROGRAM), str(rank), str(size), str(folder)]
            log = folder / f"{rank}.log"
            with log.open("wb") as told:
                running.append((log, subprocess.Popen(command, stdout=told, stderr=subprocess.STDOUT)))
    try:
        for log, process in running:
            assert process.wait(SECONDS) == 0, log.read_text("utf-8")[-3000:]
    finally:
        for _, process in running:
            process.kill()
    return {size: [loaded(folder / f"{rank}.pt") for rank in range(size)] for size, folder in folders.items()}


def loaded(file: Path) -> dict[Any, Any]:
    return {key: Made(**each) if isinstance(each, dict) else each for key, each in torch.load(file).items()}


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("size", SIZES)
def test_every_process_has_what_one_makes_alone(one, teams, size: int, heads: str, name: str) -> None:
    alone = one[heads, name].tensor
    assert alone.isfinite().all() and alone.std() > 0.1
    for made in teams[size]:
        assert relative_error(made[heads, name].tensor, alone) < 1e-5


@pytest.mark.parametrize("name", CACHED)
@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("size", SIZES)
def test_a_cache_is_spread_over_the_processes(one, teams, size: int, heads: str, name: str) -> None:
    whole = one[heads, name].kept
    parts = [made[heads, name].kept for made in teams[size]]
    assert whole > 0 and sum(parts) == whole
    assert max(parts) <= 1.15 * whole / size  # blocks of 15 tokens are not shared equally by two


@pytest.mark.parametrize("size", SIZES)
def test_each_process_keeps_the_budget_of_its_own_heads_or_all_refuse_it(one, teams, size: int) -> None:
    alone, parts = one["divide", "a budget"], [made["divide", "a budget"] for made in teams[size]]
    assert all(relative_error(part.tensor, alone.tensor) < 1e-5 for part in parts)
    assert relative_error(alone.tensor, one["divide", "rolling"].tensor) > 1e-3
    assert sum(part.kept for part in parts) == alone.kept < one["divide", "rolling"].kept
    for made in teams[size]:
        assert f"{size} GPUs can't share 5 heads evenly" in made["do not divide", "a budget"]


@pytest.mark.parametrize("name", SHARDED)
@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("size", SIZES)
def test_weights_in_parts_make_the_same(one, teams, size: int, heads: str, name: str) -> None:
    alone = one[heads, name].tensor
    for made in teams[size]:
        assert relative_error(made[heads, "sharded", name].tensor, alone) < 1e-5


@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("size", SIZES)
def test_every_process_keeps_its_part_of_the_weights(teams, size: int, heads: str) -> None:
    found = [key for key in teams[size][0] if key[:2] == (heads, "weights")]
    assert len(found) == 2, "a model of text, and one of images"
    for key in found:
        parts, wholes = zip(*(made[key] for made in teams[size]), strict=True)
        assert sum(parts) == wholes[0] and max(parts) < 1.1 * wholes[0] / size


def test_weights_that_cannot_be_gathered_are_refused() -> None:
    model = random_wan(WanConfig(dim=24, ffn_dim=16, freq_dim=16, text_dim=8, num_heads=2, num_layers=1))
    model.blocks[0].ffn[0].weight = torch.nn.Parameter(torch.zeros(16, 24, dtype=torch.int8), requires_grad=False)
    with pytest.raises(InputError, match=r"blocks\.0\.ffn\.0\.weight is stored as int8, but only float32"):
        shard_blocks(model)


@pytest.mark.parametrize("name", SENT)
@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("size", SIZES)
def test_as_many_bytes_are_sent_as_was_told(teams, size: int, heads: str, name: str) -> None:
    for rank, made in enumerate(teams[size]):
        assert made[heads, name].sent == made[heads, name].told > 0, rank


@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("size", SIZES)
def test_patches_of_a_host_are_refused(teams, size: int, heads: str) -> None:
    assert all(made[heads, "refused"] for made in teams[size])


@pytest.mark.parametrize("count", [0, 1, 7, 30, 31])
@pytest.mark.parametrize("unit", [0, 1, 4, 10, 40])
@pytest.mark.parametrize("size", [1, 2, 5, 8])
def test_every_token_is_somebodys_and_shares_are_even(count: int, unit: int, size: int) -> None:
    layout = Layout(count, unit, size)
    owned = [token for rank in range(size) for part in layout.slices(rank) for token in range(part.start, part.stop)]
    assert sorted(owned) == list(range(count))
    for length in [unit] if unit and count >= unit else []:
        first = [layout.slices(rank)[0] for rank in range(size)]
        assert {part.stop - part.start for part in first} <= {length // size, -(-length // size)}
        assert [part.stop - part.start for part in first] == [layout.kept(rank) for rank in range(size)]


@pytest.mark.parametrize("unit", [0, 1, 6, 12, 15])
@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("levels", [1, 5, 15])
def test_every_token_keeps_the_noise_level_of_its_frame(unit: int, size: int, levels: int) -> None:
    tokens = Tokens(count=30, noise_levels=levels, unit=unit, cached_units=0, heads=1)
    for rank in range(size):
        slices = Layout(30, unit, size).slices(rank)
        expected = [token // (30 // levels) for part in slices for token in range(part.start, part.stop)]
        found: list[int] = []
        for run in runs_of(slices, tokens):
            assert run.tokens.start == len(found)
            length, of_run = run.tokens.stop - run.tokens.start, run.levels.stop - run.levels.start
            assert length % of_run == 0
            found += [run.levels.start + place * of_run // length for place in range(length)]
        assert found == expected


def test_whole_frames_are_one_run() -> None:
    tokens = Tokens(count=50, noise_levels=5, unit=0, cached_units=0, heads=1)
    runs = runs_of([slice(5, 45)], tokens)
    assert runs == (Run(slice(0, 5), slice(0, 1)), Run(slice(5, 35), slice(1, 4)), Run(slice(35, 40), slice(4, 5)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("parts", [[9], [1, 8], [3, 0, 2, 4]])
def test_keys_in_parts_are_seen_as_all_at_once(dtype: torch.dtype, parts: list[int]) -> None:
    q, k, v = (torch.randn(2, length, 12, generator=torch.Generator().manual_seed(length)).to(dtype) * 3
               for length in (5, 9, 9))  # fmt: skip
    merged = Merged(q, 3)
    for keys, values in zip(k.split(parts, dim=1), v.split(parts, dim=1), strict=True):
        merged.see(slice(0, 5), q, keys, values)
    by_head = (each.float().unflatten(-1, (3, 4)).transpose(1, 2) for each in (q, k, v))
    expected = torch.nn.functional.scaled_dot_product_attention(*by_head).transpose(1, 2).flatten(2)
    assert merged.result().dtype == dtype
    assert relative_error(merged.result().float(), expected) < (1e-5 if dtype == torch.float32 else 5e-3)


def test_by_hand_gives_what_torchs_kernel_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wan_core.parallel.merge.SCORES", 40)  # so that queries come in several parts
    q, k, v = (torch.randn(1, 2, length, 8, generator=torch.Generator().manual_seed(length)) for length in (7, 9, 9))
    for ours, theirs in zip(attend_by_hand(q, k, v), attend_part(q, k, v), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
