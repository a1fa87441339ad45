"""The READMEs list every node by its names in either language; their sizes and times are computed, not typed."""

from __future__ import annotations

import math
import re
import statistics
from pathlib import Path

import pytest

from tools.node_schemas import CHINESE, ENGLISH, read
from tools.templates import template
from wan_core.model.config import WanConfig

ROOT = Path(__file__).resolve().parents[2]
H100 = ROOT / "benchmarks" / "results" / "h100.json"


def names(texts: Path) -> list[str]:
    return [node["display_name"] for node in read(texts).values()]


@pytest.mark.parametrize(("file", "heading"), [("README.md", "## Nodes"), ("README.zh-CN.md", "## 节点一览")])
def test_the_table_of_nodes_is_whole(file: str, heading: str) -> None:
    section = (ROOT / file).read_text("utf-8").split(f"{heading}\n", 1)[1].split("\n## ", 1)[0]
    rows = [re.split(r" *\| *", line.strip("| ")) for line in section.splitlines() if line.startswith("| SkyReels-V2 ")]
    english = names(ENGLISH)
    chinese = dict(zip(english, names(CHINESE), strict=True))
    assert sorted(row[0] for row in rows) == sorted(english)
    if len(rows[0]) == 3:
        assert {row[0]: row[1] for row in rows} == chinese


@pytest.mark.parametrize("file", ["README.md", "README.zh-CN.md"])
def test_sizes_of_the_models_are_those_of_their_parameters(file: str) -> None:
    text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", (ROOT / file).read_text("utf-8"))  # a link's words
    row = r"^\| ((?:DF|T2V|I2V)-[\w.]+)-540P(?:[,、] ?-720P)? \|[^|]*\| ([\d.]+) / ([\d.]+) GB \|"
    rows = re.findall(row, text, re.MULTILINE)
    assert {name for name, *_ in rows} == {"DF-1.3B", "DF-14B", "T2V-14B", "I2V-1.3B", "I2V-14B"}
    for name, half, quarter in rows:
        shapes = WanConfig.preset(f"{name}-540P").parameter_shapes().values()
        count = sum(math.prod(shape) for shape in shapes)
        assert (half, quarter) == (f"{2 * count / 1e9:.1f}", f"{count / 1e9:.1f}")
    whole = sum(math.prod(shape) for shape in WanConfig.preset("DF-1.3B-540P").parameter_shapes().values())
    assert f"| {4 * whole / 1e9:.1f} GB |" in text  # the file of the first real video, in float32


@pytest.mark.parametrize("file", ["README.md", "README.zh-CN.md"])
def test_times_are_computed_from_the_measured_time_of_a_model_call(file: str) -> None:
    measured = {result["case"]: result for result in read(H100)["forward"] if result["name"] == "ours in ComfyUI"}
    calls = 2 * 30
    small = next(result for case, result in measured.items() if case.startswith("per-frame, dim 1536"))
    large = next(result for case, result in measured.items() if case.startswith("per-frame, dim 5120 x 4 of 40"))
    minutes = calls * statistics.median(small["seconds"]) / 60
    estimated = calls * statistics.median(large["seconds"]) * 10 / 60
    text = (ROOT / file).read_text("utf-8")
    assert re.search(rf"H100(: |：){minutes:.1f} ", text) and re.search(rf"H100(: about |：约 ){estimated:.0f} ", text)


@pytest.mark.parametrize(("file", "site"), [("README.md", "huggingface.co"), ("README.zh-CN.md", "hf-mirror.com")])
def test_a_click_downloads_what_the_template_of_the_first_real_video_asks_for(file: str, site: str) -> None:
    links = re.findall(
        rf"^\| \[.*?\]\(https://{site}/(\S+)\) \| `(\w+)` \|", (ROOT / file).read_text("utf-8"), re.MULTILINE
    )
    models = [
        model for node in read(template("Text to Video"))["nodes"] for model in node["properties"].get("models", ())
    ]
    wanted = {(model["url"].removeprefix("https://huggingface.co/"), model["directory"]) for model in models}
    assert set(links) == wanted and len(links) == 3
