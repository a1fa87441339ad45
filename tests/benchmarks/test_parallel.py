"""The page about several GPUs is the one that the benchmark makes, and two processes can measure."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.parallel import PAGE, predictions, seconds_on_one

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_is_the_one_that_is_made() -> None:
    from benchmarks.parallel import page

    assert PAGE.read_text("utf-8") == page()


def test_the_times_on_one_gpu_are_the_measured_ones() -> None:
    assert seconds_on_one("1.3B-540P") == pytest.approx(1.13, abs=0.01)  # results/h100.md
    assert seconds_on_one("14B-540P") == pytest.approx(5.74, rel=0.02)  # ten times 4 of 40 layers


def test_what_is_sent_is_what_the_formula_of_the_paper_says() -> None:
    """Four tensors of L C values, of which each of n GPUs sends (n - 1) / n^2."""
    found = {(each.name, each.gpus): each for each in predictions()}
    each = found["14B, 97 frames 540P", 4]
    assert each.way == "heads" and each.sent == pytest.approx(40 * 4 * 51000 * 5120 * 3 / 16 * 2, rel=0.001)
    ring = found["1.3B, 97 frames 540P", 8]
    assert ring.way == "ring" and ring.sent == pytest.approx(30 * 2 * 51000 * 1536 * 7 / 8 * 2, rel=0.01)
    assert all(1 < speed <= each.gpus for each in found.values() for speed in each.speed_up.values())


def test_two_processes_measure() -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "0"]
    command += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"]
    program = "import sys; from benchmarks import parallel as p; from benchmarks.cases import SIZES, Size;"
    program += "from wan_core.model.config import WanConfig; SIZES['tiny'] = Size(WanConfig(dim=48, ffn_dim=80,"
    program += "num_heads=2, num_layers=1, text_dim=64), (3, 4, 6), 2); p.main(['--sizes', 'tiny'])"
    done = subprocess.run(
        [*command, "--no-python", sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=200,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert "tiny:" in done.stdout and "a call on 2" in done.stdout
