"""The pages about benchmarks show what is in the results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("benchmarks.md", "benchmarks.zh-CN.md")
GPU_MEMORY = json.loads((ROOT / "benchmarks" / "results" / "gpu-memory.json").read_text("utf-8"))
CONTENDERS = ("ours", "ComfyUI", "diffusers")
# what a row is called in English and in Chinese, and what stands in the results
PEAKS = {
    ("1.3B, 97 frames of 544 x 960", "1.3B，97 帧 544 x 960"): "dim 1536 x 30 layers, latent 25x68x120",
    ("14B, 97 frames of 544 x 960", "14B，97 帧 544 x 960"): "dim 5120 x 40 layers, latent 25x68x120",
    ("14B, 121 frames of 720 x 1280", "14B，121 帧 720 x 1280"): "dim 5120 x 40 layers, latent 31x90x160",
}
FITS = {
    ("1.3B, 544 x 960, 8 GB", "1.3B，544 x 960，8 GB"): "1.3B, 544 x 960, bfloat16; 8 GB, weights in it",
    (
        "14B, 544 x 960, 24 GB, weights in main memory",
        "14B，544 x 960，24 GB，权重在内存中",
    ): "14B, 544 x 960, bfloat16; 24 GB, weights in main memory",
    (
        "14B, 720 x 1280, 24 GB, weights in main memory",
        "14B，720 x 1280，24 GB，权重在内存中",
    ): "14B, 720 x 1280, bfloat16; 24 GB, weights in main memory",
    (
        "14B, 720 x 1280, 80 GB, weights in it",
        "14B，720 x 1280，80 GB，权重在显存中",
    ): "14B, 720 x 1280, bfloat16; 80 GB, weights in it",
    (
        "14B, 1088 x 1920, 24 GB, weights in main memory",
        "14B，1088 x 1920，24 GB，权重在内存中",
    ): "14B, 1088 x 1920, bfloat16; 24 GB, weights in main memory",
}


def row(page: str, first_cell: str) -> list[str]:
    """The other cells of the row that begins with a cell."""
    lines = (ROOT / "docs" / page).read_text("utf-8").splitlines()
    (line,) = (line for line in lines if line.startswith(f"| {first_cell} |"))
    return [cell.strip() for cell in line.strip("|").split("|")[1:]]


def found(kind: str, name: str, value: str) -> dict[str, Any]:
    (one,) = (one for one in GPU_MEMORY[kind] if one[name] == value)
    return one


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("names", PEAKS, ids=lambda names: names[0])
def test_the_memory_at_the_peak_is_what_was_counted(names: tuple[str, str], page: str) -> None:
    counted = found("counted", "case", f"per-frame, {PEAKS[names]}, bfloat16")
    assert row(page, names[PAGES.index(page)]) == [f"{counted['extra'][name] / 1e9:.2f} GB" for name in CONTENDERS]


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("names", FITS, ids=lambda names: names[0])
def test_the_longest_video_is_what_was_counted(names: tuple[str, str], page: str) -> None:
    fitting = found("fit", "title", FITS[names])
    frames = [f"{4 * fitting['latent_frames'][name] - 3}" for name in CONTENDERS]
    assert row(page, names[PAGES.index(page)]) == frames
