"""A list of jobs, worked off: whichever host is free gets the next one, and a host that dies loses nothing.

Ray says what has ended; what becomes of a job then is decided here, in one place (`Work.ended`). A job whose host was
lost is begun again by another: for a long-video job on a shared output folder that means going on with it.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from .prompts import Job
from .results import Result, Results
from .talk import FINISHED, HELD, LOST, REFUSED

LOOK = 1.0  # seconds between two looks at the clock while nothing ends
LOSSES = 3  # of one host with no finished job in between, until it is left alone
HELD_AGAIN = 15.0  # seconds before a job is asked for again that another run works on
HELD_FOR = 300.0  # seconds of that, until it is given up: a run that died frees its job after a minute
ENDING = 10.0  # seconds for the hosts to stop what they do
LATECOMER = 60.0  # seconds that a job which all others have refused waits for a host that is still starting
HOSTLESS = 600.0  # seconds without any host, until what is left is given up


@dataclass
class Host:
    """A host as it is seen from here."""

    actor: Any
    name: str = "a host"
    is_open: bool = False
    losses: int = 0
    cause: str = ""  # of its being closed


@dataclass
class Task:
    """A job that isn't done, and what it has been through."""

    job: Job
    tries: int = 0
    losses: int = 0
    began: float = 0.0  # the last try
    held_since: float | None = None
    wait_until: float = 0.0
    refused: dict[int, str] = field(default_factory=dict)  # by host


@dataclass(frozen=True)
class Rules:
    """How a list is worked off.

    Attributes:
        lost: hosts that a job may lose before it is given up: it may be what kills them.
        outputs: folder for the files; None leaves them on the hosts.
        show: is told what happens: a line, and how many jobs have come to an end with it.
    """

    lost: int = 3
    outputs: Path | None = None
    show: Callable[[str, int], None] = lambda line, ended: None


class Work:
    """One list on its way.

    Args:
        ray: connected.
        jobs: those to be done.
        actors: of the hosts.
        results: takes what became of each job.
        rules: how.
    """

    def __init__(self, ray: Any, jobs: list[Job], actors: list[Any], results: Results, rules: Rules):
        self.ray, self.results, self.rules, self.show = ray, results, rules, rules.show
        self.waiting = [Task(job) for job in jobs]
        self.hosts = [Host(actor) for actor in actors]
        self.asked: dict[Any, tuple[Host, Task | None]] = {}  # by Ray's answer to come
        self.hostless_since = time.monotonic()

    def run(self) -> None:
        """Work until every job has come to an end, or no host is left."""
        for host in self.hosts:
            self.open(host)
        while self.waiting or any(task for _, task in self.asked.values()):
            self.settle()
            self.hand_out()
            if not self.asked and not any(host.is_open for host in self.hosts):
                break
            done, _ = self.ray.wait(list(self.asked), num_returns=1, timeout=LOOK) if self.asked else ([], [])
            for answer in done:
                host, task = self.asked.pop(answer)
                if task is None:
                    self.opened(host, answer)
                else:
                    self.ended(host, task, answer)
            if not self.asked:
                time.sleep(LOOK)  # what is left waits for its time
            if any(host.is_open for host in self.hosts):
                self.hostless_since = time.monotonic()
            elif time.monotonic() - self.hostless_since > HOSTLESS:
                break
        for task in self.waiting:
            causes = sorted({f"{host.name}: {host.cause}" for host in self.hosts if host.cause})
            self.note(task, "", LOST, "; ".join(causes).partition("\n")[0] or "no host is left")
        self.waiting.clear()

    def open(self, host: Host) -> None:
        """Have a host find or start its ComfyUI; what died is started again by Ray and asked once more."""
        host.is_open = False
        self.asked[host.actor.open.options(max_task_retries=-1).remote()] = (host, None)

    def opened(self, host: Host, answer: Any) -> None:
        """Take note of a host that has a ComfyUI, or has none."""
        try:
            host.name, host.cause = self.ray.get(answer)
        except self.ray.exceptions.RayError as error:
            host.cause = cause_of(error)
        host.is_open = not host.cause
        self.show(f"{host.name}: {host.cause or 'ready'}", 0)

    def hand_out(self) -> None:
        """Give each host that is free the next job that it may have."""
        busy = {id(host) for host, _ in self.asked.values()}
        for number, host in enumerate(self.hosts):
            if not host.is_open or id(host) in busy:
                continue
            now = time.monotonic()
            task = next((t for t in self.waiting if number not in t.refused and t.wait_until <= now), None)
            if task is not None:
                self.waiting.remove(task)
                task.tries, task.began = task.tries + 1, now
                self.asked[host.actor.run.remote(task.job.queued(), str(uuid.uuid4()))] = (host, task)

    def ended(self, host: Host, task: Task, answer: Any) -> None:
        """Decide what becomes of a job whose host has answered, or died."""
        outputs: list[str] = []
        try:
            found = self.ray.get(answer)
            if found["state"] == FINISHED:
                outputs = self.collected(host, task.job, found["outputs"])
        except self.ray.exceptions.RayError as error:
            found = {"state": LOST, "sentence": cause_of(error)}
        state, sentence = found["state"], found["sentence"]
        if state == LOST:
            self.lost(host, task, sentence)
        elif state == HELD and self.may_wait(task):
            self.show(f"{task.job.name}: {sentence}", 0)
            task.wait_until = time.monotonic() + HELD_AGAIN
            self.waiting.append(task)
        elif state == REFUSED:
            task.refused[self.hosts.index(host)] = sentence
            self.waiting.append(task)
        else:
            host.losses = 0
            self.note(task, host.name, state, sentence, outputs)

    def lost(self, host: Host, task: Task, sentence: str) -> None:
        """Give the job of a host that was lost to another, and see whether the host comes back."""
        task.losses += 1
        host.losses += 1
        self.show(f"{host.name} was lost with {task.job.name}: {sentence}", 0)
        if task.losses >= self.rules.lost:
            self.note(task, host.name, LOST, f"it lost {task.losses} hosts, the last one by: {sentence}")
        else:
            self.waiting.insert(0, task)
        host.is_open, host.cause = False, sentence
        if host.losses < LOSSES:
            self.open(host)

    def may_wait(self, task: Task) -> bool:
        """Return whether a job that another run works on is asked for again."""
        now = time.monotonic()
        task.held_since = now if task.held_since is None else task.held_since
        return now - task.held_since < HELD_FOR

    def settle(self) -> None:
        """Note the jobs that every host has refused: until then another one may have the model that a job names."""
        opening = any(task is None for _, task in self.asked.values())
        able = {number for number, host in enumerate(self.hosts) if host.is_open}
        for task in [task for task in self.waiting if task.refused and able <= task.refused.keys()]:
            if not opening or time.monotonic() - task.began > LATECOMER:
                self.waiting.remove(task)
                number, sentence = list(task.refused.items())[-1]
                self.note(task, self.hosts[number].name, REFUSED, sentence)

    def collected(self, host: Host, job: Job, files: list[dict[str, str]]) -> list[str]:
        """Return the files of a job, copied from its host if they are to be; raises what Ray raises."""
        if self.rules.outputs is None:
            return [str(PurePosixPath(file["subfolder"], file["filename"])) for file in files]
        copied = []
        for file in files:
            target = place_of(self.rules.outputs, job.name, file)
            target.parent.mkdir(parents=True, exist_ok=True)
            unfinished = target.with_name(f".{target.name}.{os.getpid()}.part")
            try:
                with unfinished.open("wb") as out:
                    for part in host.actor.read.options(num_returns="streaming").remote(file):
                        out.write(self.ray.get(part))
                os.replace(unfinished, target)
            finally:
                unfinished.unlink(missing_ok=True)
            copied.append(str(target))
        return copied

    def note(self, task: Task, host: str, state: str, sentence: str, outputs: list[str] | None = None) -> None:
        """Note the end of a job."""
        seconds = round(time.monotonic() - task.began, 1) if task.tries else 0.0
        result = Result(task.job.name, state, host, task.tries, seconds, outputs or [], sentence)
        self.results.note(task.job.key, result)
        self.show(f"{task.job.name}: {state}" + (f", {sentence}" if sentence else f" on {host}, {seconds:.0f} s"), 1)

    def stop(self) -> None:
        """Cancel what runs on the hosts."""
        running = [host.actor for host, task in self.asked.values() if task is not None]
        self.wait_for([actor.stop.options(concurrency_group="control").remote() for actor in running])

    def close(self) -> None:
        """Have the hosts end what they have started, and remove its files; without this Ray ends it, and these stay."""
        found = [host.actor for host in self.hosts if host.is_open]
        self.wait_for([actor.close.options(concurrency_group="control").remote() for actor in found])

    def wait_for(self, asked: list[Any]) -> None:
        """Wait a while for answers, whatever they are."""
        if asked:
            self.ray.wait(asked, num_returns=len(asked), timeout=ENDING)


def place_of(folder: Path, name: str, file: dict[str, str]) -> Path:
    """Return where a host's file is copied to: below the folder of its job, whatever the host calls it."""
    parts = [part for part in file["subfolder"].replace("\\", "/").split("/") if part not in ("", ".", "..")]
    inner = parts[1:] if parts[:1] == [name] else parts
    last = file["filename"].replace("\\", "/").rpartition("/")[2]
    return folder.joinpath(name, *inner, last if last not in ("", ".", "..") else "file")


def cause_of(error: Exception) -> str:
    """Return in one line what an error of Ray means for a host."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, Exception):  # the actor lives: its ComfyUI gave no file, for example
        return " ".join(f"{type(cause).__name__}: {cause}".split())
    return "its process or its machine has ended"
