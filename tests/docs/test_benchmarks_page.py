"""The pages about benchmarks show what is in the results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("benchmarks.md", "benchmarks.zh-CN.md")
GPU_MEMORY = json.loads((ROOT / "benchmarks" / "results" / "gpu-memory.json").read_text("utf-8"))
H100 = json.loads((ROOT / "benchmarks" / "results" / "h100.json").read_text("utf-8"))
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

# a forward pass on an H100, by mode and model
FORWARD = {
    ("1.3B, a noise level per frame", "1.3B，每帧各有噪声水平"): "per-frame, dim 1536 x 30 layers",
    ("1.3B, one for the clip", "1.3B，整段一个噪声水平"): "one timestep, dim 1536 x 30 layers",
    ("1.3B, block-causal", "1.3B，块因果"): "block-causal (block 5), dim 1536 x 30 layers",
    (
        "14B, 4 of 40 layers, a noise level per frame",
        "14B，40 层中的 4 层，每帧各有噪声水平",
    ): "per-frame, dim 5120 x 4 of 40 layers",
    (
        "14B, 4 of 40 layers, block-causal",
        "14B，40 层中的 4 层，块因果",
    ): "block-causal (block 5), dim 5120 x 4 of 40 layers",
}
CANNOT = ("cannot", "不支持")


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


def measured(case: str, name: str, language: int) -> str:
    """A contender's cell: seconds, share of the floor, gigabytes."""
    title = f"{case}, latent 25x68x120, bfloat16"
    here = [one for one in H100["forward"] if (one["case"], one["name"]) == (title, name)]
    if not here:
        return CANNOT[language]
    (one,) = here
    share = f"{one['of_floor']:.0%}"
    words = (f"{one['median']:.3g} s", f"{share[:-1]} %") if language == 0 else (f"{one['median']:.3g} 秒", share)
    return f"{', '.join(words)}, {one['extra_bytes'] / 1e9:.2f} GB"


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("names", FORWARD, ids=lambda names: names[0])
def test_the_forward_pass_on_a_gpu_is_what_was_measured(names: tuple[str, str], page: str) -> None:
    language = PAGES.index(page)
    cells = [measured(FORWARD[names], name, language) for name in ("ours in ComfyUI", "ComfyUI", "diffusers")]
    assert row(page, names[language]) == cells


@pytest.mark.parametrize("mode", ["per-frame", "one timestep", "block-causal (block 5)"])
def test_what_was_counted_is_what_a_gpu_has_measured(mode: str) -> None:
    measured_there = [
        one for one in H100["forward"] if one["case"].startswith(mode) and one["name"] in (*CONTENDERS, "floor")
    ]  # fmt: skip
    assert len(measured_there) >= 3
    for one in measured_there:
        case = one["case"].replace("4 of 40", "40")
        counted = found("counted", "case", case)["extra"][one["name"]]
        if one["name"] != "diffusers" or "block-causal" not in mode:  # its mask makes torch take another kernel
            assert counted == pytest.approx(one["extra_bytes"], rel=0.01)


@pytest.mark.parametrize("page", PAGES)
def test_clip_and_loop_on_a_gpu_are_what_was_measured(page: str) -> None:
    text = (ROOT / "docs" / page).read_text("utf-8")
    words = [f"{H100['clip']['ratio']:.2f}", *(f"{H100['solver'][way] * 1e3:.2f}" for way in ("ours", "per_frame"))]
    assert all(word in text for word in words) and H100["clip"]["error"] == 0
