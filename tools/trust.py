"""What the trials, fuzzing, the soak and the mutants found: kept in one file, and written into the pages about it.

python -m tools.trust               write the tables of docs/trust.md and its Chinese twin
python -m tools.trust fuzz SEEN     keep the counts of `dev.py fuzz` first (SKYREELS_FUZZ_SEEN, tests/fuzz/budget.py)
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
KEPT = ROOT / "benchmarks" / "results" / "trust.json"
PAGES = {"en": ROOT / "docs" / "trust.md", "zh": ROOT / "docs" / "trust.zh-CN.md"}
START, END = "<!-- trust: {name} -->\n", "<!-- end -->"
YES, NO, NONE = "✓", "✗", ""
WARM = 10  # jobs or trials after which memory may not grow any more
Table = Callable[[Any, str], list[list[Any]]]


def grown(memory: list[int]) -> float:
    """Return by how much memory grew after the first jobs, as a share."""
    return memory[-1] / memory[WARM - 1] - 1


def percent(share: float) -> str:
    """Return a share as a person reads it."""
    return f"{100 * share:+.1f} %"


def megabytes(size: float) -> str:
    """Return bytes as MB."""
    return f"{size / 1e6:,.0f} MB"


def said(language: str, english: str, chinese: str) -> str:
    """Return the words of a language."""
    return chinese if language == "zh" else english


def of_ways(kept: dict[str, Any], language: str) -> list[list[Any]]:
    """Which ways of sampling give the same bits, and when."""
    heads = said(
        language,
        "way|again|after an interrupt|resumed|in another process|in ComfyUI {other}",
        "方式|再次运行|中断之后|继续运行|另一个进程|ComfyUI {other}",
    ).format(other=kept["other"])
    marks = {True: YES, False: NO, None: NONE}
    columns = ("again", "interrupted", "resumed", "process", "other")
    rows = [[name, *(marks[equal[column]] for column in columns)] for name, equal in kept["ways"].items()]
    return [heads.split("|"), *rows]


def of_trials(kept: dict[str, Any], language: str) -> list[list[Any]]:
    """Runs that were disturbed."""
    heads = said(language, "disturbed by|runs|ended by it|equal results|memory", "干扰|运行次数|因此结束|结果相同|内存")
    names = {
        "interrupts": said(language, "the host's interrupt", "ComfyUI 的中断"),
        "kills": "kill -9",
        "memory": said(language, "out of memory", "内存不足"),
        "clock": said(language, "a clock that jumps", "时钟跳变"),
    }
    rows = []
    for kind, seen in kept.items():
        memory = seen["memory"]
        change = f"{megabytes(memory[WARM - 1])} → {megabytes(memory[-1])} ({percent(grown(memory))})"
        rows.append([names[kind], seen["count"], seen["ended"], seen["count"], change])
    return [heads.split("|"), *rows]


def of_answers(kept: dict[str, Any], language: str) -> list[list[Any]]:
    """How long other requests waited while a node worked."""
    heads = said(
        language,
        "node|given|worked, s|other requests|slowest answer, s|answer to `/interrupt`, s",
        "节点|输入|工作时间，秒|其他请求|最慢的回答，秒|`/interrupt` 的回答，秒",
    )
    rows = [
        [name, seen[language], f"{seen['seconds']:.1f}", seen["requests"], f"{seen['longest']:.2f}",
         NONE if seen["interrupt"] is None else f"{seen['interrupt']:.2f}"]
        for name, seen in kept["nodes"].items()
    ]  # fmt: skip
    return [heads.split("|"), *rows]


def of_fuzz(kept: dict[str, Any], language: str) -> list[list[Any]]:
    """How many cases each fuzz test had."""
    heads = said(language, "test|cases|longest, s|memory, MB", "测试|次数|最长，秒|内存，MB")
    rows = [[f"`{test}`", f"{seen['cases']:,}", seen["seconds"], seen["megabytes"]] for test, seen in kept.items()]
    return [heads.split("|"), *rows]


def of_soak(kept: dict[str, Any], language: str) -> list[list[Any]]:
    """Memory after many jobs."""
    heads = said(
        language,
        "jobs|after job 10|at the end|other requests|slowest answer, s|slowest answer to `/interrupt`, s",
        "任务数|第 10 个之后|结束时|其他请求|最慢的回答，秒|`/interrupt` 最慢的回答，秒",
    )
    memory = kept["memory"]
    end = f"{megabytes(memory[-1])} ({percent(grown(memory))})"
    row = [len(memory), megabytes(memory[WARM - 1]), end, f"{kept['requests']:,}", kept["longest"], kept["interrupt"]]
    return [heads.split("|"), row]


def of_mutants(kept: dict[str, Any], language: str) -> list[list[Any]]:
    """How many changes of the code the tests notice."""
    heads = said(language, "file|mutants|tried|noticed|share", "文件|变异总数|试过|被发现|比例")
    rows = [
        [f"`{name}`", seen["made"], seen["tried"], seen["killed"], f"{100 * seen['killed'] / seen['tried']:.1f} %"]
        for name, seen in kept["files"].items()
    ]
    made, tried, killed = (sum(seen[part] for seen in kept["files"].values()) for part in ("made", "tried", "killed"))
    return [
        heads.split("|"),
        *rows,
        [said(language, "all", "合计"), made, tried, killed, f"{100 * killed / tried:.1f} %"],
    ]


def of_survivors(kept: dict[str, Any], language: str) -> list[list[Any]]:
    """The changes that no test noticed, and why."""
    heads = said(language, "where|change|why no test fails", "位置|改动|为何没有测试失败")
    rows = [
        [f"`{each['where']}`", f"`{each['was']}` → `{each['became']}`".replace("|", "\\|"), each.get(language, NONE)]
        for each in kept["survivors"]
    ]
    return [heads.split("|"), *rows]


TABLES: dict[str, tuple[str, Table]] = {  # by name: which part of the file it shows, and how
    "ways": ("ways", of_ways),
    "trials": ("trials", of_trials),
    "soak": ("soak", of_soak),
    "answers": ("answers", of_answers),
    "fuzz": ("fuzz", of_fuzz),
    "mutants": ("mutants", of_mutants),
    "survivors": ("mutants", of_survivors),
}


def as_table(rows: list[list[Any]]) -> str:
    """Return rows as a table of a page."""
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]]) + "\n"


def page_with_tables(page: str, kept: dict[str, Any], language: str) -> str:
    """Return a page with each table between its two marks."""
    for name, (part, rows) in TABLES.items():
        before, start, rest = page.partition(START.format(name=name))
        if start and part in kept:
            page = f"{before}{start}\n{as_table(rows(kept[part], language))}\n{rest[rest.index(END) :]}"
    return page


def read() -> dict[str, Any]:
    """Return what is kept."""
    return json.loads(KEPT.read_text("utf-8")) if KEPT.exists() else {}


def keep(part: str, value: dict[str, Any], inside: str | None = None) -> None:
    """Keep what was found, a whole part or a value inside one, and write the pages."""
    kept = read()
    kept[part] = value if inside is None else kept.get(part, {}) | {inside: value}
    KEPT.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", "utf-8")
    write_pages()


def write_pages() -> None:
    """Write the tables of both pages."""
    for language, page in PAGES.items():
        page.write_text(page_with_tables(page.read_text("utf-8"), read(), language), "utf-8")


def main(arguments: list[str]) -> None:
    """Keep counts of fuzzing if there are any, and write the pages."""
    if arguments[:1] == ["fuzz"]:
        for line in Path(arguments[1]).read_text("utf-8").splitlines():
            seen = json.loads(line)
            keep("fuzz", {name: seen[name] for name in ("cases", "seconds", "megabytes")}, seen["test"])
    write_pages()


if __name__ == "__main__":
    main(sys.argv[1:])
