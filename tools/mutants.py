"""Change one thing in the code and see whether a test fails, for a sample of all changes that mutmut knows.

    python -m tools.mutants [count]     of each file, 35 unless given; only FILES, and only the tests named there

mutmut is installed into the temporary folder where it works. Decorated functions and what stands outside of functions
is not changed by it. What was found is kept (tools/trust.py); reasons that stand in the kept file stay there.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from random import Random
from typing import Any

from tools import trust

ROOT = Path(__file__).resolve().parent.parent
MUTMUT = "mutmut==3.8.1"
LONG, SAMPLING, CHECKPOINT = ("tests/wan_core/" + room for room in ("long", "sampling", "checkpoint"))
FILES: dict[str, list[str]] = {  # what is changed, by the tests that may notice
    "long/segments.py": [f"{LONG}/test_segments.py", f"{LONG}/test_schedule_picture.py", "tests/fuzz/test_plans.py"],
    "sampling/schedule.py": [f"{SAMPLING}/test_schedule.py"],
    "sampling/solvers.py": [f"{SAMPLING}/test_solvers.py", f"{SAMPLING}/test_loop.py"],
    "long/journal.py": [f"{LONG}/test_journal.py", f"{LONG}/test_faults.py", "tests/fuzz/test_journals.py"],
    "long/job_records.py": [],
    "long/job_files.py": [],
    "long/script.py": [f"{LONG}/test_script.py", f"{LONG}/test_script_lines.py", "tests/fuzz/test_scripts.py"],
    "long/script_lines.py": [],
    "long/times.py": [],
    "long/time_words.py": [],
    "long/cues.py": [],
    "checkpoint/reader.py": [f"{CHECKPOINT}/test_{name}.py" for name in (
        "reader", "checkpoint_errors", "containers", "pickled", "frame_rate")] + ["tests/fuzz/test_checkpoints.py"],
    "checkpoint/header.py": [],
    "checkpoint/shards.py": [],
}  # fmt: skip
SLOW = (  # these run for half a minute and start processes of their own
    f"{LONG}/test_journal.py::test_a_job_killed_at_random_moments_ends_in_the_same_video_and_makes_nothing_twice",
    f"{LONG}/test_faults.py::test_a_disk_that_fails_at_any_write_of_a_whole_job",
)
NOTICED = ("killed", "timeout", "segfault")


def settings() -> str:
    """Return the text of mutmut's settings."""
    lists = {
        "source_paths": ["wan_core"],
        "only_mutate": [f"wan_core/{name}" for name in FILES],
        "also_copy": ["tools", "demo", "benchmarks", "locales"],
        "pytest_add_cli_args": ["-q", *(f"--deselect={test}" for test in SLOW)],
        "pytest_add_cli_args_test_selection": [test for tests in FILES.values() for test in tests],
    }
    parts = [f"{name}=\n" + "".join(f"    {value}\n" for value in values) for name, values in lists.items()]
    return "[mutmut]\ntimeout_constant=20\n" + "".join(parts)


class Mutmut:
    """mutmut in a copy of the repository."""

    def __init__(self, folder: Path):
        self.folder, packages = folder, folder / "packages"
        for name in ("wan_core", "tests", "tools", "demo", "benchmarks", "locales"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", folder)
        (folder / "setup.cfg").write_text(settings(), "utf-8")
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(packages), MUTMUT]
        subprocess.run(pip, check=True)
        for name in ("pytest", "_pytest", "pluggy", "iniconfig", "packaging", "pygments"):  # those of .venv are meant
            shutil.rmtree(packages / name, ignore_errors=True)
        self.environment = {**os.environ, "PYTHONPATH": str(packages), "OMP_NUM_THREADS": "1"}

    def __call__(self, *arguments: str) -> str:
        """Run a command of mutmut and return what it printed."""
        command = [sys.executable, "-c", "from mutmut.__main__ import cli; cli()", *arguments]
        done = subprocess.run(command, cwd=self.folder, env=self.environment, capture_output=True, text=True)
        return done.stdout + done.stderr

    def results(self, file: str) -> dict[str, Any]:
        """Return the mutants of a file and how each ended: None where it was not tried."""
        made = json.loads((self.folder / "mutants" / "wan_core" / f"{file}.meta").read_text("utf-8"))
        return made["exit_code_by_key"]

    def status(self) -> dict[str, str]:
        """Return how each mutant ended, in words."""
        return dict(re.findall(r"^\s+(\S+): (.+)$", self("results", "--all", "true"), re.MULTILINE))

    def change(self, mutant: str) -> tuple[str, str]:
        """Return a line and what it became."""
        shown = self("show", mutant)
        (was,), (became,) = (re.findall(rf"^\{sign}(?!\{sign})\s*(.*)$", shown, re.MULTILINE)[:1] for sign in "-+")
        return was, became


def sampled(mutmut: Mutmut, count: int) -> dict[str, list[str]]:
    """Return some mutants of each file, the same each time."""
    mutmut("run", "--max-children", "1", "none of them")  # makes all, and sees which tests reach which function
    return {
        file: Random(file).sample(names, min(count, len(names)))
        for file in FILES
        for names in [sorted(mutmut.results(file))]
    }


def function_of(mutant: str) -> str:
    """Return the function that a mutant's name says, with its class."""
    name = mutant.rpartition(".")[2].partition("__mutmut")[0]
    return name.removeprefix("x").replace("ǁ", ".").lstrip(".") if "ǁ" in name else name.removeprefix("x_")


def main(count: int) -> None:
    """Try a sample of each file's mutants and keep what was found."""
    reasons = {(each["where"], each["became"]): each for each in trust.read().get("mutants", {}).get("survivors", [])}
    with tempfile.TemporaryDirectory() as folder:
        mutmut = Mutmut(Path(folder))
        sample = sampled(mutmut, count)
        mutmut("run", "--max-children", "1", *(name for names in sample.values() for name in names))
        status, files, survivors = mutmut.status(), {}, []
        for file, names in sample.items():
            living = [name for name in names if status[name] not in NOTICED]
            files[file] = {"made": len(mutmut.results(file)), "tried": len(names), "killed": len(names) - len(living)}
            print(f"{file}: {files[file]}", flush=True)
            for name in sorted(living):
                was, became = mutmut.change(name)
                where = f"{file} {function_of(name)}"
                told = {"en": status[name], "zh": status[name]} | reasons.get((where, became), {})
                survivors.append(told | {"where": where, "was": was, "became": became})
    trust.keep("mutants", {"files": files, "survivors": survivors})


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 35)
