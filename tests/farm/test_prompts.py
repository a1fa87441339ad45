"""Lists of prompts as people have them: one file, lines, folders; what is none is refused by file and line."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from farm.prompts import Job, read_list
from wan_core.errors import InputError

ROOT = Path(__file__).parents[2]


def prompt(seed: int = 0, prefix: Any = "video/a") -> dict[str, Any]:
    return {
        "1": {"class_type": "KSampler", "inputs": {"seed": seed}},
        "2": {"class_type": "SaveVideo", "inputs": {"video": ["1", 0], "filename_prefix": prefix}},
    }


def write(path: Path, *values: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(json.dumps(value, ensure_ascii=False) for value in values), "utf-8")
    return path


def test_a_file_an_array_lines_and_a_folder_are_lists(tmp_path: Path) -> None:
    one = write(tmp_path / "one.json", prompt(1))
    write(tmp_path / "in" / "b.json", [prompt(2), prompt(3)])
    write(tmp_path / "in" / "a" / "猫 1.jsonl", prompt(4), {"prompt": prompt(5), "client_id": "x"})
    (tmp_path / "in" / "notes.txt").write_text("not a prompt", "utf-8")
    assert [(job.name, job.prompt) for job in read_list(one)] == [("one", prompt(1))]
    assert [(job.name, job.prompt["1"]["inputs"]["seed"]) for job in read_list(tmp_path / "in")] == [
        ("a_猫_1-0001", 4), ("a_猫_1-0002", 5), ("b-0001", 2), ("b-0002", 3),
    ]  # fmt: skip


def test_a_job_is_known_by_its_prompt_wherever_it_stands(tmp_path: Path) -> None:
    path = write(tmp_path / "list.jsonl", prompt(1), prompt(2), prompt(1))
    before = {job.key: job.prompt for job in read_list(path)}
    assert len(before) == 3, "the same prompt twice is two jobs"
    write(path, prompt(9), prompt(2), dict(reversed(prompt(1).items())), prompt(1))
    after = read_list(path)
    assert {job.key for job in after} - set(before) == {after[0].key}
    assert all(before[job.key] == job.prompt for job in after[1:])


def test_names_are_unlike_even_where_letters_are_not_told_apart(tmp_path: Path) -> None:
    for name in ("a b", "a_b", "A b", "a-1", "..."):
        write(tmp_path / f"{name}.json", prompt(len(name)))
    names = [job.name.lower() for job in read_list(tmp_path)]
    assert len(set(names)) == len(names) == 5 and all(re.fullmatch(r"[\w.-]+", name) for name in names)
    write(tmp_path / "a_b-2.json", prompt(9))
    with pytest.raises(InputError, match="names that come to the same"):
        read_list(tmp_path)


def test_the_files_of_a_job_go_to_a_folder_of_its_own() -> None:
    job = Job("first", "key", {**prompt(), "3": prompt(prefix=["1", 0])["2"]})
    queued = job.queued()
    assert queued["2"]["inputs"]["filename_prefix"] == "first/video/a"
    assert queued["3"] == job.prompt["3"], "a name that comes over a link is the graph's affair"
    assert job.prompt["2"]["inputs"]["filename_prefix"] == "video/a"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"nodes": [], "links": []}, r"line 2 is a workflow as the editor saves it: export it with Workflow > Export"),
        ({}, "line 2 is no API prompt"),
        ([1], "line 2 is no API prompt"),
        ({"1": {"class_type": "KSampler"}}, "line 2 is no API prompt"),
        ({"prompt": {"nodes": 3}}, "line 2 is no API prompt"),
    ],
)
def test_what_is_no_prompt_is_refused_by_its_line(tmp_path: Path, value: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_list(write(tmp_path / "list.jsonl", prompt(), value))


def test_what_is_no_list_is_refused(tmp_path: Path) -> None:
    for name, text in (("torn.json", '{"1": '), ("latin.json", "\xe9")):
        (tmp_path / name).write_bytes(text.encode("latin-1"))
        with pytest.raises(InputError, match=f"{name} can't be read as JSON"):
            read_list(tmp_path / name)
    with pytest.raises(InputError, match="There is no"):
        read_list(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no prompts"):
        read_list(tmp_path / "empty")


def test_the_command_needs_no_torch_and_says_what_is_missing(tmp_path: Path) -> None:
    code = "import sys, farm.__main__; print('torch' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.split() == ["False", "False"], done.stderr
    command = [sys.executable, "-m", "farm", str(tmp_path / "none.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and "--comfyui FOLDER to start them" in done.stderr
    done = subprocess.run([*command, "--at", "here:8188"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("farm: There is no ") and "Traceback" not in done.stderr
