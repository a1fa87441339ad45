"""A list of API prompts, read and checked before anything is started.

A list is a JSON file with one prompt or an array of them, a file of JSON lines, or a folder of such files. An API
prompt is what ComfyUI saves with *Export (API)*: nodes by number, each with `class_type` and `inputs`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wan_core.errors import InputError

SUFFIXES = (".json", ".jsonl")
PREFIX = "filename_prefix"  # the input of core's savers


@dataclass(frozen=True)
class Job:
    """One prompt of a list.

    Attributes:
        name: unlike all others; the folder of its outputs.
        key: what tells it from other prompts: the same for the same prompt, wherever in the list it stands.
        prompt: as it was read.
    """

    name: str
    key: str
    prompt: dict[str, Any]

    def queued(self) -> dict[str, Any]:
        """Return the prompt with the job's name before the names of its files.

        Hosts that share an output folder would else number their files over one another's.
        """
        prompt: dict[str, Any] = json.loads(json.dumps(self.prompt))
        for node in prompt.values():
            if isinstance(node["inputs"].get(PREFIX), str):
                node["inputs"][PREFIX] = f"{self.name}/{node['inputs'][PREFIX]}"
        return prompt


def read_list(path: Path) -> list[Job]:
    """Return the jobs of a list, in the order of files and lines.

    Raises:
        InputError: there is none, or what is there is no API prompt; the message names file and line.
    """
    jobs: list[Job] = []
    seen: Counter[str] = Counter()
    names: Counter[str] = Counter()
    for name, prompt in found(path):
        digest = hashlib.sha256(json.dumps(prompt, sort_keys=True).encode()).hexdigest()[:32]
        plain = re.sub(r"[^\w.-]+", "_", name).strip("._") or "job"
        seen[digest] += 1
        names[plain.lower()] += 1  # a drive may not tell a from A
        number = names[plain.lower()]
        key = digest if seen[digest] == 1 else f"{digest}-{seen[digest]}"
        jobs.append(Job(plain if number == 1 else f"{plain}-{number}", key, prompt))
    if not jobs:
        raise InputError(f"{path} holds no prompts: put files in it that ComfyUI saved with Export (API).")
    if len({job.name.lower() for job in jobs}) < len(jobs):
        raise InputError(f"Two files under {path} have names that come to the same: rename one of them.")
    return jobs


def found(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield name and prompt of all that a file or a folder holds; `Raises: InputError`."""
    if not path.exists():
        raise InputError(f"There is no {path}: name a file or a folder of API prompts.")
    files = [path]
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix in SUFFIXES and file.is_file())
    for file in files:
        stem = file.relative_to(path).with_suffix("").as_posix() if path.is_dir() else file.stem
        several = values(file)
        for number, (where, value) in enumerate(several, 1):
            yield (stem if len(several) == 1 else f"{stem}-{number:04}"), checked(value, where)


def values(file: Path) -> list[tuple[str, Any]]:
    """Return what a file holds, each with where it stands; `Raises: InputError`."""
    try:
        text = file.read_text("utf-8-sig")
        if file.suffix == ".jsonl":
            lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
            return [(f"{file}, line {number}", json.loads(line)) for number, line in lines]
        value = json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{file} can't be read as JSON ({error}): save it again, or remove it.") from None
    if isinstance(value, list):
        return [(f"{file}, prompt {number}", each) for number, each in enumerate(value, 1)]
    return [(str(file), value)]


def checked(value: Any, where: str) -> dict[str, Any]:
    """Return a prompt, or the one in the body of a request; `Raises: InputError`."""
    if isinstance(value, dict) and isinstance(value.get("prompt"), dict) and "class_type" not in value["prompt"]:
        value = value["prompt"]
    if isinstance(value, dict) and isinstance(value.get("nodes"), list):
        raise InputError(
            f"{where} is a workflow as the editor saves it: export it with Workflow > Export (API), and list that file."
        )
    nodes = list(value.values()) if isinstance(value, dict) else []
    whole = [isinstance(node, dict) and isinstance(node.get("inputs"), dict) and "class_type" in node for node in nodes]
    if not nodes or not all(whole):
        raise InputError(f"{where} is no API prompt (nodes by number, with class_type and inputs): export it anew.")
    prompt: dict[str, Any] = value
    return prompt
