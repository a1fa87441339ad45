"""docs/architecture.md and its Chinese twin say what the code does: every shape, number, file and name in them.

Shapes come from a real forward pass at full size on the meta device (tools/model_shapes.py), the rest from the code
that the page describes. A number that no check knows makes the test fail, so a new one cannot slip in unchecked.
"""

from __future__ import annotations

import ast
import math
import operator
import re
from functools import cache
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tools.draw_figures import FOLDER, ICON, figures, icon
from tools.model_shapes import Trace, trace_model
from wan_core.long.plan import Wanted
from wan_core.long.segments import plan_segments
from wan_core.model.config import PRESETS, ReleasedModel, WanConfig
from wan_core.model.layers import PART_TOKENS
from wan_core.model.rope import Rotary, apply_rotary, axis_pairs, rotary_table
from wan_core.sampling.schedule import forcing_schedule
from wan_core.sampling.sigmas import flow_sigmas, noise_levels, timesteps_of

ROOT = Path(__file__).resolve().parents[2]
PAGES = {name: (ROOT / "docs" / name).read_text("utf-8") for name in ("architecture.md", "architecture.zh-CN.md")}
MODEL, IMAGE_MODEL = "DF-1.3B-540P", "I2V-1.3B-540P"
RELEASE = PRESETS[MODEL]
Table = list[list[str]]

page = pytest.mark.parametrize("page", PAGES)


def cells_of(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip()[1:-1].split("|")]


def rows_under(name: str, head: str) -> Table:
    """The rows of all tables whose head begins with a line's beginning, cell by cell."""
    rows: Table = []
    inside = False
    for line in PAGES[name].splitlines():
        if not line.startswith("|"):
            inside = False
        elif not inside:
            inside = True
            wanted = line.startswith(head)
        elif wanted and not set(line) <= set("|- "):
            rows.append(cells_of(line))
    assert rows, f"no table begins with {head}"
    return rows


HEADS = {
    "shapes": {"architecture.md": "| tensor |", "architecture.zh-CN.md": "| 张量 |"},
    "image": {"architecture.md": "| tensor (I2V", "architecture.zh-CN.md": "| 张量（I2V"},
    "sizes": {"architecture.md": "| what | how |", "architecture.zh-CN.md": "| 内容 | 计算 |"},
    "axes": {"architecture.md": "| axis |", "architecture.zh-CN.md": "| 轴 |"},
    "steps": {"architecture.md": "| step |", "architecture.zh-CN.md": "| 步 |"},
    "modes": {"architecture.md": "| mode |", "architecture.zh-CN.md": "| 模式 |"},
    "blocks": {"architecture.md": "| block |", "architecture.zh-CN.md": "| 块 |"},
    "segments": {"architecture.md": "| segment |", "architecture.zh-CN.md": "| 段 |"},
    "variables": {"architecture.md": "| variable |", "architecture.zh-CN.md": "| 变量 |"},
    "files": {"architecture.md": "| file |", "architecture.zh-CN.md": "| 文件 |"},
}


def table(kind: str, name: str) -> Table:
    return rows_under(name, HEADS[kind][name])


@cache
def trace(model: str = MODEL, causal_block_size: int = 0) -> Trace:
    return trace_model(model, causal_block_size=causal_block_size)


def written(shape: tuple[int, ...]) -> str:
    return str(list(shape))


def weights_of(config: WanConfig, name: str) -> str:
    """The shape of a layer's weight as the pages write it, or nothing for what has none."""
    shapes = config.parameter_shapes()
    key = name.replace("blocks.N", "blocks.0")
    shape = shapes.get(f"{key}.weight", shapes.get(key))
    return "" if shape is None else written(shape)


@page
def test_every_tensor_of_the_forward_pass_is_on_the_page_with_its_shape(page: str) -> None:
    rows = table("shapes", page)
    seen = {row[0].strip("`"): row[1] for row in rows if row[1]}
    assert seen == {name: written(shape) for name, shape in trace().shapes.items()}


@page
def test_every_weight_of_the_model_is_on_the_page_with_its_shape(page: str) -> None:
    rows = {row[0].strip("`"): row[2] for row in table("shapes", page)}
    assert rows == {name: weights_of(RELEASE.config, name) for name in rows}
    of_one_block = [key for key in RELEASE.config.parameter_shapes() if not re.match(r"blocks\.[1-9]", key)]
    layers = {re.sub(r"\.(weight|bias)$", "", key).replace("blocks.0", "blocks.N") for key in of_one_block}
    assert layers == {name for name, shape in rows.items() if shape}


@page
def test_what_an_image_model_adds_is_on_the_page(page: str) -> None:
    config = PRESETS[IMAGE_MODEL].config
    rows = {row[0].strip("`"): (row[1], row[2]) for row in table("image", page)}
    shapes = trace(IMAGE_MODEL).shapes
    assert rows == {name: (written(shapes[name]), weights_of(config, name)) for name in rows}
    # all that the image model has or has in another shape, and no more
    plain = trace().shapes
    assert {name for name in shapes if shapes[name] != plain.get(name)} <= set(rows)
    assert {name for name in config.parameter_shapes() if name not in RELEASE.config.parameter_shapes()} <= {
        f"{name.replace('blocks.N', f'blocks.{block}')}.{kind}"
        for name in rows
        for block in range(config.num_layers)
        for kind in ("weight", "bias")
    }


def test_both_pages_have_the_same_shapes() -> None:
    english, chinese = ([row[:3] for row in table("shapes", name) + table("image", name)] for name in PAGES)
    assert english == chinese


def worked_out(line: str) -> float:
    """The value of a sum such as (97 - 1) / 4 + 1 or 34 x 60."""
    signs = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}

    def value(part: ast.expr) -> float:
        if isinstance(part, ast.BinOp):
            return signs[type(part.op)](value(part.left), value(part.right))
        assert isinstance(part, ast.Constant)
        return part.value

    return value(ast.parse(line.replace("x", "*"), mode="eval").body)


@page
def test_the_sizes_follow_from_the_code(page: str) -> None:
    frames, height, width = RELEASE.base_num_frames, RELEASE.height, RELEASE.width
    geometry = RELEASE.config.geometry
    _, latents, rows, columns = geometry.latent_shape(geometry.latent_frames(frames), height, width)
    grid = trace().shapes["patch_embedding"][2:]
    pixels, values = frames * height * width * 3, math.prod(trace().shapes["x"])
    expected = [
        f"{frames} x {height} x {width} x 3", f"{latents}", f"{rows}, {columns}", f"{RELEASE.config.out_dim}",
        " x ".join(map(str, grid)), f"{grid[1] * grid[2]}", f"{math.prod(grid)}", f"{pixels}", f"{values}",
        f"{pixels / values:.1f}",
    ]  # fmt: skip
    assert [row[2] for row in table("sizes", page)] == expected
    assert (1, RELEASE.config.in_dim, latents, rows, columns) == trace().shapes["x"]
    for row in table("sizes", page):  # the sums in the middle column are right, too
        if re.fullmatch(r"[\d ()x/+-]+", row[1]) and "x" not in row[2]:
            assert worked_out(row[1]) == pytest.approx(float(row[2]), rel=1e-2)


@page
def test_the_head_is_dealt_out_as_the_page_says(page: str) -> None:
    pairs = axis_pairs(RELEASE.config.head_dim)
    grid = trace().shapes["patch_embedding"][2:]
    at, expected = 0, []
    for count, length in zip(pairs, grid, strict=True):
        expected.append([f"{count}", f"{2 * at}-{2 * (at + count) - 1}", f"0-{length - 1}"])
        at += count
    assert [row[1:] for row in table("axes", page)] == expected
    # and these channels are what really turns when a token moves along the axis
    width = RELEASE.config.head_dim
    one_channel_each = torch.eye(width).view(width, 1, 1, width).expand(-1, 8, -1, -1)
    turned = apply_rotary(one_channel_each, rotary_table((2, 2, 2), width))[:, :, 0]  # [channel, token, D]
    for row, token in zip(table("axes", page), (4, 2, 1), strict=True):
        first, last = map(int, row[2].split("-"))
        moved = (turned[:, token] != turned[:, 0]).any(dim=-1)
        assert moved.nonzero().flatten().tolist() == list(range(first, last + 1))


def test_only_differences_of_positions_survive_in_the_product_of_query_and_key() -> None:
    torch.manual_seed(0)
    q, k = torch.randn(2, 1, 1, 1, 128)
    products = []
    for first, second in ((0, 3), (5, 8)):
        angles = rotary_table((9, 1, 1), 128)
        at = [Rotary(angles.cos[index : index + 1], angles.sin[index : index + 1]) for index in (first, second)]
        products.append((apply_rotary(q, at[0]) * apply_rotary(k, at[1])).sum().item())
    assert products[0] == pytest.approx(products[1], rel=1e-4)
    assert products[0] != pytest.approx((q * k).sum().item(), rel=1e-2)


@page
def test_the_noise_levels_are_those_of_the_code(page: str) -> None:
    even, shifted = flow_sigmas(30, 1), flow_sigmas(30, 8)
    steps = timesteps_of(shifted)
    expected = [[f"{at}", f"{even[at]:.4f}", f"{shifted[at]:.4f}", f"{steps[at]:.0f}"] for at in range(0, 31, 5)]
    assert table("steps", page) == expected
    assert noise_levels(shifted)[0].item() == pytest.approx(0.999)


@page
def test_the_rows_of_the_schedules_are_those_of_the_code(page: str) -> None:
    for _, ar_step, block, rows in table("modes", page):
        index, _, _ = forcing_schedule(trace().shapes["x"][2], 30, int(ar_step), int(block))
        assert len(index) == int(rows)


@page
def test_the_attention_calls_of_causal_attention_are_those_of_the_code(page: str) -> None:
    calls = trace(causal_block_size=5).calls[:-1]  # the last is cross attention
    assert [row[1:] for row in table("blocks", page)] == [[f"{q[1]}", f"{k[1]}"] for _, q, k in calls]
    work = sum(q[1] * k[1] for _, q, k in calls)
    assert f"{100 * work / math.prod(trace().shapes['tokens'][1:2] * 2):.0f} %" == "60 %"
    assert "60 %" in PAGES[page]


@page
def test_the_segments_are_those_of_the_plan(page: str) -> None:
    sync, rippled = (
        plan_segments(Wanted(257, 97, 17)),
        plan_segments(Wanted(257, 97, 17, causal_block_size=5, ar_step=5)),
    )
    expected = [
        [f"{a.index + 1}", f"{a.frames[0]}-{a.frames[1] - 1}", f"{a.overlap}", f"{a.new}", f"{a.rows}", f"{b.rows}"]
        for a, b in zip(sync.segments, rippled.segments, strict=True)
    ]
    assert table("segments", page) == expected
    assert str(sync.latent_frames) in PAGES[page]


@cache
def work_of(name: str) -> tuple[float, float]:
    """Floating-point operations of one model call, and how many of them are products in self attention."""
    counts = []
    for layers in (1, 2):
        with FlopCounterMode(display=False) as counter:
            trace_model(name, layers=layers)
        counts.append(counter.get_total_flops())
    config = PRESETS[name].config
    tokens = trace(name).shapes["tokens"][1]
    total = counts[0] + (config.num_layers - 1) * (counts[1] - counts[0])
    return total, config.num_layers * 2 * 2 * tokens * tokens * config.dim


def value_of(variable: str, name: str, chinese: bool) -> str:
    """What the table of variables has to say for a model."""
    release = PRESETS[name]
    config, known = release.config, sizes_of(release, name)
    if variable in known:
        return known[variable]
    value = getattr(config, variable) if hasattr(config, variable) else getattr(release, variable)
    if isinstance(value, bool):
        return ("是" if value else "否") if chinese else ("yes" if value else "no")
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else f"{value}"


def sizes_of(release: ReleasedModel, name: str) -> dict[str, str]:
    frames, rows, columns = trace(name).shapes["x"][2:]
    parameters = sum(math.prod(shape) for shape in release.config.parameter_shapes().values())
    total, products = work_of(name)
    per_frame, tokens = rows // 2 * (columns // 2), trace(name).shapes["tokens"][1]
    assert tokens == frames * per_frame
    return {
        "height, width": f"{release.height}, {release.width}",
        "F, H, W": f"{frames}, {rows}, {columns}",
        "per frame": f"{per_frame}",
        "L": f"{tokens}",
        "parameters": f"{parameters / 1e9:.2f}",
        "work": f"{total / 1e15:.2f}",
        "share": f"{100 * products / total:.0f} %",
    }


SPOKEN = {  # rows of the table of variables that are named in words
    "tokens of a frame": "per frame", "每帧的 token 数": "per frame",
    "parameters": "parameters", "参数量": "parameters",
    "one model call": "work", "一次模型调用": "work", "of that, q k^T and its product with v": "share",
    "其中 q k^T 及其与 v 的乘积": "share",
}  # fmt: skip


@page
def test_the_table_of_variables_is_that_of_the_code(page: str) -> None:
    head = next(line for line in PAGES[page].splitlines() if line.startswith(HEADS["variables"][page]))
    columns = cells_of(head)[2:]
    assert sorted(name for names in columns for name in names.split(", ")) == sorted(PRESETS)
    listed = set()
    for row in table("variables", page):
        variable = SPOKEN.get(row[0], row[0].replace("`", ""))
        listed.add(variable)
        for names, value in zip(columns, row[2:], strict=True):
            for name in names.split(", "):
                assert value == value_of(variable, name, "zh" in page), f"{variable} of {name}"
    fields = {*WanConfig.__dataclass_fields__, *ReleasedModel.__dataclass_fields__} - {"config", "width", "height"}
    assert fields <= listed


@page
def test_the_sizes_in_bytes_are_right(page: str) -> None:
    tokens, dim = trace().shapes["tokens"][1:]
    large = PRESETS["DF-14B-720P"]
    for said in (
        f"{6 * tokens * dim * 4 / 1e9:.2f} GB",
        f"{math.prod(trace().shapes['modulation']) * 4 / 1e6:.2f} MB",
        f"{6 * trace('DF-14B-720P').shapes['tokens'][1] * large.config.dim * 4 / 1e9:.1f} GB",
        f"{tokens * tokens / 1e9:.1f} GB",
        f"{RELEASE.config.ffn_dim / RELEASE.config.dim:.2f}",
        f"{large.config.ffn_dim / large.config.dim:.2f}",
        f"{RELEASE.config.num_layers} ",
    ):
        assert said in PAGES[page], said


@page
def test_no_number_on_the_page_is_unknown_to_these_tests(page: str) -> None:
    """Numbers of three digits and more have to be ones that another test has met, or that the code has."""
    known = {str(size) for name in (MODEL, IMAGE_MODEL) for shape in trace(name).shapes.values() for size in shape}
    for kind in HEADS:
        if kind != "files":
            known |= {number for row in table(kind, page) for cell in row for number in re.findall(r"\d+", cell)}
    known |= {str(WanConfig.__dataclass_fields__[name].default) for name in ("dim", "num_heads", "num_layers")}
    known |= {str(PART_TOKENS)}
    known |= {"1000", "10000", "257"}  # training steps, rope's base, the example of section 8
    text = re.sub(r"## (Sources|参考文献)[\s\S]*", "", PAGES[page])
    text = re.sub(r"\]\([^)]*\)|\d+(\.\d+)? (GB|MB)|\d+P\b", "", text)
    unknown = {number for number in re.findall(r"(?<![\d.])\d{3,}", text)} - known
    assert not unknown


@page
def test_every_file_and_name_on_the_page_exists(page: str) -> None:
    files = re.findall(r"`((?:wan_core|nodes|tools|tests)/[\w/.]*)`", PAGES[page])
    assert files
    for file in files:
        assert (ROOT / file).exists(), file
    code = "\n".join(path.read_text("utf-8") for path in (ROOT / "wan_core").rglob("*.py"))
    for name, file in re.findall(r"`([\w.]+)`\s?[(（]`((?:wan_core|nodes)/[\w/.]*)`", PAGES[page]):
        assert re.search(rf"\b{name.split('.')[-1]}\b", (ROOT / file).read_text("utf-8")), (name, file)
    for name in re.findall(r"`([A-Za-z_]+(?:\.[a-z_]+)?)`", PAGES[page]):
        assert re.search(rf"\b{name.split('.')[-1]}\b", code), name
    for figure in re.findall(r"\]\((figures/[^)]+)\)", PAGES[page]):
        assert (ROOT / "docs" / figure).is_file(), figure


def test_the_figures_are_what_the_script_draws() -> None:
    drawn = figures()
    of_a_run = {path.name for path in FOLDER.glob("soak*.svg")}  # tools.soak; see test_trust_page.py
    assert {path.name for path in FOLDER.glob("*.svg")} - of_a_run == set(drawn)
    for name, content in drawn.items():
        assert (FOLDER / name).read_text("utf-8") == content, f"{name}: run python -m tools.draw_figures"
    assert ICON.read_text("utf-8") == icon().svg(), "run python -m tools.draw_figures"


def test_the_twin_pages_have_the_same_sections() -> None:
    numbers = [re.findall(r"^#+ (\d[\d.]*)", text, re.MULTILINE) for text in PAGES.values()]
    assert numbers[0] == numbers[1]
