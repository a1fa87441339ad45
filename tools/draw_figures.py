"""Draw the figures of docs/architecture.md from the code that they explain, once in English and once in Chinese.

`python -m tools.draw_figures` writes docs/figures/*.svg and docs/icon.svg; a test says when they are out of date. What
is drawn comes from wan_core: schedules, sigmas, the rotary table, the attention calls and shapes of a real forward
pass, a plan.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch

from tools.figure_words import WORDS
from tools.model_shapes import Trace, trace_model
from tools.svg import INK, SOFT, Page, colour
from wan_core.long.plan import Wanted
from wan_core.long.schedule_picture import KNOWN, colour_of
from wan_core.long.segments import plan_segments
from wan_core.model.config import PRESETS
from wan_core.model.rope import axis_pairs, rotary_table
from wan_core.sampling.schedule import forcing_schedule
from wan_core.sampling.sigmas import flow_sigmas, noise_levels

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "figures"
ICON = FOLDER.parent / "icon.svg"
SUFFIXES = {"en": "", "zh": ".zh-CN"}
MODEL = "DF-1.3B-540P"
STEPS, SHIFT, BLOCK, AR_STEP = 30, 8.0, 5, 5
BLUE, GREEN, ORANGE, GREY = "#d9e8fb", "#dcf2e0", "#fde8cf", "#eef2f7"
AXES = ("#3d7edb", "#35a35a", "#e08a2c")
Words = dict[str, str]


def list_of(shape: tuple[int, ...]) -> str:
    """Return a shape as the docs write it."""
    return str(list(shape))


def data_flow(say: Words, trace: Trace) -> Page:
    """From prompt, noise and noise levels to the velocity, and from there to frames."""
    shape = {name: list_of(value) for name, value in trace.shapes.items()}
    page = Page(960, 712)
    text, video, time, half = 165, 480, 795, 140

    def column(x: int, y: float, boxes: list[list[str]], fills: list[str]) -> list[float]:
        edges: list[float] = []
        for lines, fill in zip(boxes, fills, strict=True):
            if edges:
                page.arrow([(x, edges[-1]), (x, y)])
            edges.append(page.box(x, y, 2 * half, lines, fill))
            y = edges[-1] + 24
        return edges

    words = column(
        text,
        20,
        [[say["prompt"]], ["umt5-xxl", f"context {shape['context']}"], ["text_embedding", shape["text_embedding.2"]]],
        [GREY, GREEN, GREEN],
    )
    tokens = column(
        video,
        20,
        [
            [say["latent"], f"x {shape['x']}"],
            ["patch_embedding", shape["patch_embedding"]],
            [say["tokens"], shape["tokens"]],
        ],
        [GREY, BLUE, BLUE],
    )
    times = column(
        time,
        20,
        [
            [say["levels"], f"t {shape['t']}"],
            ["sinusoidal_embedding_1d", shape["sinusoidal_embedding_1d"]],
            ["time_embedding", f"e {shape['e']}"],
            ["time_projection", shape["time_projection.1"]],
            ["+ fps_embedding, fps_projection", shape["fps_projection.2"]],
            [say["six"], shape["modulation"]],
        ],
        [GREY, *[ORANGE] * 5],
    )
    page.box(text, 290, 2 * half, [say["rotary"], f"cos, sin {shape['rotary.cos']}"], GREEN)
    top, left, right = 330, video - half, video + half
    for behind in (8, 4):
        page.rect(left + behind, top - behind, 2 * half, 80, BLUE, "#9aa5b1", 5)
    layers = say["blocks"].format(PRESETS[MODEL].config.num_layers)
    edges = column(
        video,
        top,
        [
            [layers, say["block 1"], say["block 2"], say["block 3"]],
            ["head", shape["head.head"]],
            ["unpatchify", f"{say['velocity']} {shape['unpatchify']}"],
            [say["solver"], "x0 = x - sigma * v"],
            [say["decoder"], "97 x 544 x 960 x 3"],
        ],
        [BLUE, BLUE, BLUE, GREY, GREY],
    )
    page.arrow([(video, tokens[-1]), (video, top - 8)])
    side = text + half
    page.arrow([(side, words[-1] - 23), (side + 12, words[-1] - 23), (side + 12, top + 56), (left, top + 56)])
    page.arrow([(side, 318), (side + 6, 318), (side + 6, top + 36), (left, top + 36)])
    page.arrow(
        [(time, times[-1]), (time, times[-1] + 14), (right + 22, times[-1] + 14), (right + 22, 370), (right, 370)]
    )
    far, head = time + half, edges[1] - 23
    page.arrow([(far, times[2] - 23), (far + 10, times[2] - 23), (far + 10, head), (right, head)], SOFT)
    page.text(time - 20, head - 6, "e", 12, "middle", SOFT)
    solved = edges[3] - 23
    page.arrow([(left, solved), (12, solved), (12, 8), (video - 70, 8), (video - 70, 20)], SOFT)
    page.text(26, solved - 7, say["again"], 12, fill=SOFT)
    return page


def block(say: Words, trace: Trace) -> Page:
    """One attention block: three parts on the residual stream, and where the modulations go in."""
    shape = {name: list_of(value) for name, value in trace.shapes.items()}
    page = Page(960, 560)
    stream, part, y = 110, 545, 60.0
    page.text(stream, 28, say["stream"], 13, "middle", bold=True)
    page.text(stream, 46, shape["tokens"], 12, "middle", SOFT)
    page.arrow([(stream, 54), (stream, 545)])
    parts = [
        ("norm1", ["self_attn", f"q k v {shape['blocks.N.self_attn: q by head']}"], "attn", say["rotary in"], BLUE),
        ("norm3", ["cross_attn", f"k v {shape['blocks.N.cross_attn: k by head']}"], "", say["context in"], GREEN),
        ("norm2", ["ffn", f"{shape['blocks.N.ffn.0']}"], "ffn", "", BLUE),
    ]
    for norm, lines, modulated, beside, fill in parts:
        page.arrow([(stream, y + 28), (175, y + 28)])
        page.box(225, y + 5, 100, [norm, say["weights"] if norm == "norm3" else say["no weights"]], GREY)
        page.arrow([(275, y + 28), (part - 130, y + 28)])
        page.box(part, y + 5, 260, lines, fill)
        page.line([(part + 130, y + 28), (780, y + 28)])
        page.arrow([(780, y + 28), (780, y + 118), (stream + 11, y + 118)])
        page.rect(stream - 11, y + 107, 22, 22, "#ffffff", INK, 11)
        page.text(stream, y + 123, "+", 16, "middle")
        if beside:
            page.text(part, y + 72, beside, 12, "middle", SOFT)
        if modulated:
            page.text(340, y + 20, f"shift_{modulated}, scale_{modulated}", 11, "middle", "#b25e09")
            page.text(792, y + 78, f"x gate_{modulated}", 12, "start", "#b25e09")
        else:
            page.text(792, y + 78, say["no gate"], 12, "start", SOFT)
        y += 165
    page.text(part, 545, say["modulated"].format(shape["shift_attn"]), 12, "middle", "#b25e09")
    return page


def rotary(say: Words, trace: Trace) -> Page:
    """How the pairs of a head are dealt out, and how far a token has to go for a full turn of each."""
    config = PRESETS[MODEL].config
    pairs = axis_pairs(config.head_dim)
    table = rotary_table((2, 2, 2), config.head_dim)
    steps = torch.atan2(table.sin, table.cos)[:, 0]  # [8, 64]; the token one step along each axis is 4, 2 and 1
    page = Page(960, 390)
    page.text(40, 28, say["head"].format(config.head_dim, config.head_dim // 2), 13, bold=True)
    left, floor, top, cell = 70, 330, 120, 13.4
    page.text(40, 106, say["turn"], 12, fill=SOFT)
    for power in range(6):
        y = floor - (floor - top) * power / 5
        page.line([(left, y), (left + cell * 64, y)], "#e4e7eb", 1)
        page.text(left - 8, y + 4, f"{10**power}", 11, "end", SOFT)
    at = 0
    for axis, (count, token) in enumerate(zip(pairs, (4, 2, 1), strict=True)):
        x = left + cell * at
        page.rect(x, 44, cell * count - 2, 30, AXES[axis], radius=3)
        label = f"{say[f'axis {axis}']}: {count} {say['pairs']}, {say['channels']} {2 * at}-{2 * (at + count) - 1}"
        page.text(x + cell * count / 2, 64, label, 12, "middle", "#ffffff", bold=True)
        for pair in range(count):
            turn = 2 * math.pi / float(steps[token, at + pair])
            height = (floor - top) * math.log10(turn) / 5
            page.rect(x + cell * pair, floor - height, cell - 3, height, AXES[axis])
        page.text(x + cell * count / 2, floor + 18, say[f"unit {axis}"], 12, "middle", SOFT)
        at += count
    page.text(480, 375, say["rotary note"], 12, "middle", SOFT)
    return page


def sigmas(say: Words, trace: Trace) -> Page:
    """The noise level of each step for four shifts."""
    page = Page(720, 400)
    left, top, width, height = 70, 30, 520, 310
    for tenth in range(0, 11, 2):
        y = top + height * (1 - tenth / 10)
        page.line([(left, y), (left + width, y)], "#e4e7eb", 1)
        page.text(left - 8, y + 4, f"{tenth / 10:.1f}", 11, "end", SOFT)
    for step in range(0, STEPS + 1, 5):
        page.text(left + width * step / STEPS, top + height + 18, f"{step}", 11, "middle", SOFT)
    page.text(left + width / 2, top + height + 40, say["step"], 12, "middle", SOFT)
    page.text(left, 20, say["sigma"], 12, fill=SOFT)
    for shift, stroke in ((1.0, "#9aa5b1"), (3.0, AXES[1]), (5.0, AXES[2]), (8.0, AXES[0])):
        values = flow_sigmas(STEPS, shift).tolist()
        points = [(left + width * step / STEPS, top + height * (1 - value)) for step, value in enumerate(values)]
        page.line(points, stroke, 2.4)
        row = (1.0, 3.0, 5.0, 8.0).index(shift)
        page.line([(left + width + 20, 60 + 22 * row), (left + width + 44, 60 + 22 * row)], stroke, 2.4)
        page.text(left + width + 50, 64 + 22 * row, f"shift {shift:g}", 12)
    return page


def schedule(say: Words, trace: Trace) -> Page:
    """Three schedules: latent frames across, rows down, colour = noise level."""
    page = Page(960, 440)
    levels = noise_levels(flow_sigmas(STEPS, SHIFT))
    frames = trace.shapes["x"][2]
    panels = ((say["sync"], 0, 1, 0), (say["async"], AR_STEP, BLOCK, 0), (say["carried"], AR_STEP, BLOCK, BLOCK))
    for number, (title, ar_step, size, known) in enumerate(panels):
        table, _, _ = forcing_schedule(frames, STEPS, ar_step, size, known)
        x0, y0, cell, row_height = 60 + 300 * number, 60, 9.6, 6.4
        page.text(x0, 28, title, 13, bold=True)
        page.text(x0, 46, say["rows"].format(len(table)), 12, fill=SOFT)
        for row, index in enumerate(table):
            fills = [colour(c) for c in colour_of(levels[index]).tolist()]
            fills[:known] = [colour(KNOWN)] * known
            first = 0
            for at in range(1, frames + 1):
                if at == frames or fills[at] != fills[first]:
                    page.rect(x0 + cell * first, y0 + row_height * row, cell * (at - first), row_height, fills[first])
                    first = at
        page.text(x0 - 6, y0 + 8, "1", 11, "end", SOFT)
        page.text(x0 - 6, y0 + row_height * len(table), f"{len(table)}", 11, "end", SOFT)
        page.text(x0, y0 + row_height * len(table) + 15, say["frames 0"].format(frames - 1), 11, fill=SOFT)
    for step in range(100):
        page.rect(300 + 2.6 * step, 410, 2.7, 12, colour(colour_of(torch.tensor(step / 99)).tolist()))
    page.text(290, 420, say["clean"], 12, "end")
    page.text(570, 420, say["noise"], 12)
    page.rect(700, 410, 12, 12, colour(KNOWN))
    page.text(720, 420, say["known"], 12)
    return page


def causal(say: Words, trace: Trace) -> Page:
    """The attention calls of a real forward pass: which queries meet which keys."""
    page = Page(800, 420)
    frames, size = trace.shapes["x"][2], 300
    length = trace.shapes["tokens"][1]
    panels = ((say["both"], trace), (say["causal"], trace_model(MODEL, causal_block_size=BLOCK)))
    for number, (title, traced) in enumerate(panels):
        x0, y0, scale = 70 + 380 * number, 60, size / length
        calls = [call for call in traced.calls if call[2][1] != trace.shapes["context"][1]]
        page.text(x0, 28, title, 13, bold=True)
        page.text(x0, 46, say["calls"].format(len(calls)), 12, fill=SOFT)
        page.rect(x0, y0, size, size, "#f5f7fa", "#9aa5b1")
        start = 0
        for _, (_, queries, _), (_, keys, _) in calls:
            page.rect(x0, y0 + start * scale, keys * scale, queries * scale, "#7fb0ee", "#ffffff")
            if number:
                page.text(x0 + 8, y0 + (start + queries / 2) * scale + 4, f"{queries} x {keys}", 11)
            start += queries
        for frame in range(1, frames):
            at = size * frame / frames
            page.line([(x0 + at, y0), (x0 + at, y0 + size)], "#cbd2d9", 0.4)
            page.line([(x0, y0 + at), (x0 + size, y0 + at)], "#cbd2d9", 0.4)
        page.text(x0 + size / 2, y0 + size + 20, say["keys"].format(frames), 12, "middle", SOFT)
    page.text(60, 55, say["queries"], 12, "end", SOFT)
    return page


def long_video(say: Words, trace: Trace) -> Page:
    """The segments of a plan: what each carries over and what it makes."""
    plan = plan_segments(Wanted(257, 97, 17))
    page = Page(900, 230)
    scale, left = 11.4, 120
    page.text(left, 28, say["plan"].format(plan.total_frames, plan.latent_frames), 13, bold=True)
    for segment in plan.segments:
        y, x = 50 + 42 * segment.index, left + scale * segment.start
        page.text(left - 12, y + 19, say["segment"].format(segment.index + 1), 12, "end")
        page.rect(x, y, scale * segment.overlap, 28, "#cbd2d9")
        page.rect(x + scale * segment.overlap, y, scale * segment.new, 28, AXES[0])
        first, behind = segment.frames
        middle = x + scale * (segment.overlap + segment.new / 2)
        page.text(middle, y + 19, say["new"].format(segment.new, first, behind - 1), 12, "middle", "#ffffff")
    for frame in range(0, plan.latent_frames + 1, 5):
        page.text(left + scale * frame, 192, f"{frame}", 11, "middle", SOFT)
    page.rect(left, 206, 14, 12, "#cbd2d9")
    page.text(left + 20, 216, say["overlap"], 12, fill=SOFT)
    page.text(left + scale * plan.latent_frames, 216, say["latent axis"], 12, "end", SOFT)
    return page


def icon() -> Page:
    """The pack's icon: the middle of an asynchronous run, five blocks from clean to noise, as a film strip."""
    page = Page(400, 400)
    page.rect(0, 0, 400, 400, "#14171c")
    table, _, _ = forcing_schedule(BLOCK * BLOCK, STEPS, AR_STEP, BLOCK)
    levels = noise_levels(flow_sigmas(STEPS, SHIFT))[table]
    rows = torch.linspace(0, len(table) - 1, 24).long().tolist()
    for row, index in enumerate(rows):
        for number in range(BLOCK):
            fill = colour(colour_of(levels[index, number * BLOCK]).tolist())
            page.rect(50 + 60 * number, 68 + 11 * row, 60, 11, fill)
    for number in range(10):
        for y in (22, 354):
            page.rect(26 + 36 * number, y, 22, 24, "#f5f7fa", radius=5)
    return page


FIGURES = {figure.__name__: figure for figure in (data_flow, block, rotary, sigmas, schedule, causal, long_video)}


def figures() -> dict[str, str]:
    """Return every figure in every language, file name -> content."""
    trace = trace_model(MODEL)
    return {
        f"{name}{SUFFIXES[language]}.svg": figure(WORDS[language], trace).svg()
        for name, figure in FIGURES.items()
        for language in SUFFIXES
    }


def main() -> None:
    """Write the figures."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, content in figures().items():
        (FOLDER / name).write_text(content, "utf-8")
    ICON.write_text(icon().svg(), "utf-8")


if __name__ == "__main__":
    main()
