"""Change one thing in the code and see whether a test fails, for a sample of all changes that mutmut knows.

    python -m tools.mutants [subject ...] [count]     subjects: see SUBJECTS; count: of each file, 35 unless given

mutmut is installed into the temporary folder where it works. It leaves decorated functions alone, and what stands
outside of functions. What was found is kept (tools/trust.py), and so are the reasons that were written there.
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
# it names tests to pytest as pytest named them, and names with escaped letters are not found again
ESCAPING = "disable_test_id_escaping_and_forfeit_all_rights_to_community_support=true"
LONG, SAMPLING, CHECKPOINT = ("tests/wan_core/" + room for room in ("long", "sampling", "checkpoint"))
# by subject: what is changed, and the tests that may notice
SUBJECTS: dict[str, tuple[list[str], list[str]]] = {
    "planner": (
        ["long/segments.py"],
        [f"{LONG}/test_segments.py", f"{LONG}/test_schedule_picture.py", "tests/fuzz/test_plans.py"],
    ),
    "schedule": (
        ["sampling/schedule.py"],
        [f"{SAMPLING}/test_schedule.py", f"{LONG}/test_segments.py", f"{LONG}/test_schedule_picture.py"],
    ),
    "solvers": (
        ["sampling/solvers.py"],
        [f"{SAMPLING}/test_{name}.py" for name in ("solvers", "loop", "parts_of_a_run")],
    ),
    "journal": (
        [f"long/{name}.py" for name in ("journal", "finished_segments", "job_records", "job_files")],
        [f"{LONG}/test_journal.py", f"{LONG}/test_faults.py", "tests/fuzz/test_journals.py"],
    ),
    "script": (
        [f"long/{name}.py" for name in ("script", "script_lines", "times", "time_words", "cues")],
        [f"{LONG}/test_script.py", f"{LONG}/test_script_lines.py", "tests/fuzz/test_scripts.py"],
    ),
    "reader": (
        [f"checkpoint/{name}.py" for name in ("reader", "header", "shards")],
        [*(f"{CHECKPOINT}/test_{name}.py" for name in ("reader", "checkpoint_errors", "containers", "pickled")),
         "tests/fuzz/test_checkpoints.py"],
    ),
}  # fmt: skip
LEFT_OUT = (  # half a minute each, in processes of their own; and what counts the lines that run, mutmut's among them
    f"{LONG}/test_journal.py::test_a_job_killed_at_random_moments_ends_in_the_same_video_and_makes_nothing_twice",
    f"{LONG}/test_faults.py::test_a_disk_that_fails_at_any_write_of_a_whole_job",
    "tests/fuzz/test_scripts.py::test_twice_the_text_is_at_most_twice_the_work",
    "tests/fuzz/test_scripts.py::test_a_hundred_kilobytes_take_bounded_work",
)
NOTICED = ("killed", "timeout", "segfault")
SENTENCE = re.compile(r'"[^"\\]* (?:[^"\\]|\\.)*"')  # a text with a space in it


def settings(files: list[str], tests: list[str]) -> str:
    """Return the text of mutmut's settings."""
    plain = ["-o", ESCAPING] if any("script" in test for test in tests) else []
    lists = {
        "source_paths": ["wan_core"],
        "only_mutate": [f"wan_core/{name}" for name in files],
        "also_copy": ["tools", "demo", "benchmarks", "locales"],
        "pytest_add_cli_args": ["-q", *plain, *(f"--deselect={test}" for test in LEFT_OUT)],
        "pytest_add_cli_args_test_selection": tests,
    }
    parts = [f"{name}=\n" + "".join(f"    {value}\n" for value in values) for name, values in lists.items()]
    return "[mutmut]\ntimeout_constant=20\n" + "".join(parts)


class Mutmut:
    """mutmut in a copy of the repository, for one subject.

    Args:
        folder: empty.
        packages: where mutmut is installed.
        subject: of SUBJECTS.
    """

    def __init__(self, folder: Path, packages: Path, subject: str):
        self.folder = folder
        for name in ("wan_core", "tests", "tools", "demo", "benchmarks", "locales"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", folder)
        (folder / "setup.cfg").write_text(settings(*SUBJECTS[subject]), "utf-8")
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


def function_of(mutant: str) -> str:
    """Return the function that a mutant's name says, with its class."""
    name = mutant.rpartition(".")[2].partition("__mutmut")[0]
    return name.removeprefix("x").replace("ǁ", ".").lstrip(".") if "ǁ" in name else name.removeprefix("x_")


def install(packages: Path) -> None:
    """Install mutmut beside the packages of .venv."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(packages), MUTMUT]
    subprocess.run(pip, check=True)
    for name in ("pytest", "_pytest", "pluggy", "iniconfig", "packaging", "pygments"):  # those of .venv are meant
        shutil.rmtree(packages / name, ignore_errors=True)


def tried(mutmut: Mutmut, files: list[str], count: int) -> dict[str, Any]:
    """Try some mutants of each file, the same ones each time; return the counts and the survivors."""
    said = mutmut("run", "--max-children", "1", "none of them")  # makes all, and sees which tests reach which function
    assert "Running clean tests" not in said and "nothing matches" in said, said[-3000:]
    made = {file: sorted(mutmut.results(file)) for file in files}
    sample = {file: Random(file).sample(names, min(count, len(names))) for file, names in made.items()}
    said = mutmut("run", "--max-children", "1", *(name for names in sample.values() for name in names))
    assert "mutations/second" in said, said[-3000:]
    status, counts, survivors = mutmut.status(), {}, []
    for file, names in sample.items():
        living = {name: mutmut.change(name) for name in sorted(names) if status[name] not in NOTICED}
        wording = [name for name, change in living.items() if is_wording(*change)]
        killed = len(names) - len(living)
        counts[file] = {"made": len(made[file]), "tried": len(names) - len(wording), "killed": killed}
        for name in living.keys() - wording:
            was, became = living[name]
            told = {"en": status[name], "zh": status[name]}
            survivors.append({"where": f"{file} {function_of(name)}", "was": was, "became": became, **told})
    return {"files": counts, "survivors": survivors}


def is_wording(was: str, became: str) -> bool:
    """Whether two lines differ in a sentence alone; tests/test_messages.py has them all, but can't run on a mutant."""
    return SENTENCE.sub('""', was) == SENTENCE.sub('""', became)


def main(subjects: list[str], count: int) -> None:
    """Try a sample of each subject's mutants and keep what was found, with the reasons that are known."""
    with tempfile.TemporaryDirectory() as folder:
        packages = Path(folder) / "packages"
        install(packages)
        for subject in subjects:
            files, _ = SUBJECTS[subject]
            (Path(folder) / subject).mkdir()
            found = tried(Mutmut(Path(folder) / subject, packages, subject), files, count)
            print(f"{subject}: {found}", flush=True)
            before = trust.read().get("mutants", {"files": {}, "survivors": []})
            reasons = {(each["where"], each["became"]): each for each in before["survivors"]}
            new = [reasons.get((each["where"], each["became"]), each) for each in found["survivors"]]
            others = [each for each in before["survivors"] if each["where"].split()[0] not in files]
            trust.keep("mutants", {"files": before["files"] | found["files"], "survivors": others + new})


if __name__ == "__main__":
    known = [argument for argument in sys.argv[1:] if argument in SUBJECTS]
    numbers = [int(argument) for argument in sys.argv[1:] if argument.isdecimal()]
    if len(known) + len(numbers) != len(sys.argv) - 1:
        sys.exit(__doc__)
    main(known or list(SUBJECTS), *numbers or [35])
