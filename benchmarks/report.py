"""Results as tables for people (Markdown) and as JSON for programs."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from .clip import ClipResult
from .contenders import COMFYUI, COMPILED, DIFFUSERS, FLOOR, IN_HOST, IN_PIECES, OURS
from .fit import FitResult
from .forward import Result, Settings
from .machine import Machine
from .rolling import RollResult
from .solver import SolverResult

CLOCK_WORDS = {
    "wall": "wall time",
    "processor": "processor time (other work ran on the machine, so wall time would measure that)",
    "gpu": "wall time until the GPU has done its work",
}


def forward_table(results: list[Result]) -> str:
    """Return one row per case: seconds, share of the floor, extra memory."""
    cases: dict[str, dict[str, Result]] = {}
    for result in results:
        cases.setdefault(result.case, {})[result.name] = result
    measured = {result.name for result in results}
    names = [FLOOR, OURS, *(name for name in (COMPILED, IN_HOST) if name in measured), COMFYUI, DIFFUSERS]
    lines = [f"| case | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for title, of_case in cases.items():
        lines.append(f"| {title} | {' | '.join(cell(of_case.get(name)) for name in names)} |")
    return "\n".join(lines)


def cell(result: Result | None) -> str:
    """Return one contender's cell: `0.71 s, **92%**, 63% (40 MB)`."""
    if result is None:
        return "cannot"
    if result.of_peak is None:
        return result.failure
    share = "" if result.name == FLOOR or result.of_floor is None else f", **{result.of_floor:.0%}**"
    memory = "" if result.extra_bytes is None else f" ({result.extra_bytes / 1e6:.0f} MB)"
    return f"{result.median:.3g} s{share}, {result.of_peak:.0%}{memory}"


def fit_table(results: list[FitResult]) -> str:
    """Return the longest video of each resolution."""
    measured = {name for result in results for name in result.latent_frames}
    names = [name for name in (OURS, IN_PIECES, COMFYUI, DIFFUSERS) if name in measured]
    lines = [f"| model | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for result in results:
        cells = [fit_cell(result.latent_frames.get(name), result.limit) for name in names]
        lines.append(f"| {result.title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def fit_cell(latent_frames: int | None, limit: int) -> str:
    """Return one contender's cell: `25 (97 frames)`, with `at least` where it was not looked further."""
    if latent_frames is None:
        return "not measured"
    if latent_frames == 0:
        return "none"
    words = f"{latent_frames} ({4 * latent_frames - 3} frames)"
    return f"at least {words}" if latent_frames == limit else words


def clip_table(clip: ClipResult) -> str:
    """Return the clip with and without cache."""
    return "\n".join([
        "| | block-forwards | time | against no cache |",
        "|---|---|---|---|",
        f"| every block in every row | {clip.blocks_without} | {clip.seconds_without:.3g} s | 1 |",
        f"| only blocks at work, finished ones cached | {clip.blocks_with} | {clip.seconds_with:.3g} s | "
        f"**{clip.ratio:.2f}** |",
        "",
        f"{clip.title}. Largest difference of the two videos: {clip.error:.1e} of the largest value; "
        f"the cache takes {clip.cache_bytes / 1e6:.1f} MB at the end.",
    ])  # fmt: skip


def solver_table(solver: SolverResult) -> str:
    """Return the cost of a row without the model."""
    return "\n".join([
        "| | time for a row |",
        "|---|---|",
        f"| our loop and solver, all frames at once | {solver.ours * 1e3:.2f} ms |",
        f"| one scheduler object per frame (diffusers' UniPC) | {solver.per_frame * 1e3:.2f} ms |",
        "",
        f"{solver.title}.",
    ])  # fmt: skip


def rolling_table(rolled: RollResult) -> str:
    """Return what a block costs early and late in a rolling video."""
    return "\n".join([
        "| | time for a block | cache |",
        "|---|---|---|",
        f"| the first block, nothing before it | {rolled.seconds[0]:.3g} s | {rolled.cache_bytes[0] / 1e6:.1f} MB |",
        f"| with a full window, first half | {rolled.first_full:.3g} s | "
        f"{rolled.cache_bytes[rolled.full_after] / 1e6:.1f} MB |",
        f"| with a full window, second half | {rolled.last:.3g} s (**{rolled.growth:.2f}** of the first) | "
        f"{rolled.cache_bytes[-1] / 1e6:.1f} MB |",
        "",
        f"{rolled.title}. Medians over blocks.",
    ])  # fmt: skip


@dataclass(frozen=True)
class Report:
    """All that a run has measured; None for what it has not (yet)."""

    name: str
    machine: Machine
    settings: Settings
    forward: list[Result] = field(default_factory=list)
    clip: ClipResult | None = None
    solver: SolverResult | None = None
    rolling: RollResult | None = None
    fit: list[FitResult] = field(default_factory=list)


def page(report: Report) -> str:
    """Return the tables as Markdown."""
    settings = report.settings
    how = "" if report.machine.gpu else ", each in a fresh process"
    parts = [
        f"# Benchmark: {report.name}",
        report.machine.words(),
        f"Median of {settings.rounds} interleaved rounds, {CLOCK_WORDS[settings.clock]}. The bold percentage says "
        "how near a contender is to the floor, which is the same forward pass with nothing but its matrix products and "
        "attention calls; the other one how much of the speed of the machine's own large matrix product it uses (MFU); "
        f"megabytes are the extra memory at the peak{how}.",
    ]
    if report.forward:
        parts += ["## Forward pass", forward_table(report.forward)]
    if report.fit:
        parts += ["## The longest video that fits, in latent frames", fit_table(report.fit)]
    if report.clip is not None:
        parts += ["## A clip whose blocks follow each other", clip_table(report.clip)]
    if report.rolling is not None:
        parts += ["## A video that rolls on", rolling_table(report.rolling)]
    if report.solver is not None:
        parts += ["## Loop and solver alone", solver_table(report.solver)]
    return "\n\n".join(parts) + "\n"


def values(report: Report) -> dict[str, Any]:
    """Return what the JSON file holds."""
    return {
        "machine": report.machine.values(),
        "settings": asdict(report.settings),
        "forward": [{**asdict(result), "median": result.median} for result in report.forward],
        "fit": [asdict(result) for result in report.fit],
        "clip": None if report.clip is None else {**asdict(report.clip), "ratio": report.clip.ratio},
        "solver": None if report.solver is None else asdict(report.solver),
        "rolling": None if report.rolling is None else {**asdict(report.rolling), "growth": report.rolling.growth},
    }


def read(folder: Path, empty: Report) -> Report:
    """Return `empty` with what the files of its name hold; as it is where there are none."""
    file = folder / f"{empty.name}.json"
    if not file.is_file():
        return empty
    facts = json.loads(file.read_text("utf-8"))

    def made(kind: type, facts: dict[str, Any] | None) -> Any:
        """Return a result without what is reckoned from the rest; None of None."""
        names = {field.name for field in fields(kind)}
        return None if facts is None else kind(**{name: facts[name] for name in facts if name in names})

    return replace(
        empty,
        forward=[made(Result, one) for one in facts["forward"]],
        fit=[made(FitResult, one) for one in facts["fit"]],
        clip=made(ClipResult, facts["clip"]),
        solver=made(SolverResult, facts["solver"]),
        rolling=made(RollResult, facts["rolling"]),
    )


def write(report: Report, folder: Path) -> None:
    """Write `<name>.md` and `<name>.json` into a folder."""
    write_files(folder, report.name, page(report), values(report))


def write_files(folder: Path, name: str, text: str, facts: dict[str, Any]) -> None:
    """Write a table for people and the same facts for programs."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.md").write_text(text, "utf-8")
    (folder / f"{name}.json").write_text(json.dumps(facts, indent=1) + "\n", "utf-8")
