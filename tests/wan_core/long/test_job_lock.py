"""The lock of a job: within a machine, on drives that cannot lock, and between machines whose locks don't meet.

Another machine is a process here whose system locks reach nobody, with a machine's name and clock of its own.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import torch

from tests.waiting import wait_until
from wan_core.long import heartbeat, job_lock, jobs
from wan_core.long.heartbeat import holders
from wan_core.long.job_lock import JobHeldError, Lock, is_held
from wan_core.long.jobs import remove_job
from wan_core.long.journal import Journal

ROOT = Path(__file__).parents[3]
HERE = rf"process {os.getpid()} on {socket.gethostname()} since 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC"
STALE, WATCH, BEAT = 2.0, 0.5, 0.1
OTHER = textwrap.dedent("""
    import os, platform, sys, time
    from pathlib import Path
    sys.path.insert(0, {root!r})
    from wan_core.long import heartbeat, job_lock
    try:
        import fcntl
        fcntl.flock = lambda *_: None  # of this drive, which tells other machines nothing
    except ImportError:
        pass
    heartbeat.this_machine = lambda: {name!r}
    platform.node = lambda: {name!r}
    time.time = lambda: 1000.0
    heartbeat.STALE_SECONDS, heartbeat.WATCH_SECONDS, heartbeat.BEAT_SECONDS = {times!r}

    def answer(text):
        print(text, flush=True)
""")


def program(code: str, name: str = "other-machine") -> list[str]:
    """A command that runs code on another machine."""
    text = OTHER.format(root=str(ROOT), name=name, times=(STALE, WATCH, BEAT)) + textwrap.dedent(code)
    return [sys.executable, "-c", text]


@contextmanager
def running(command: list[str], *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A process that is killed in the end."""
    with subprocess.Popen(
        [*command, *map(str, arguments)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        try:
            yield child
        finally:
            child.kill()


def line(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


def tell(child: subprocess.Popen[str]) -> None:
    assert child.stdin is not None
    child.stdin.write("\n")
    child.stdin.flush()


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds in place of a minute."""
    for name, seconds in (("STALE", STALE), ("WATCH", WATCH), ("BEAT", BEAT)):
        monkeypatch.setattr(heartbeat, f"{name}_SECONDS", seconds)


HOLD = program("""
    lock = job_lock.Lock(Path(sys.argv[1]))
    assert lock.acquire()
    answer("held")
    sys.stdin.read()
""")


def test_the_lock_of_a_dead_process_is_free(tmp_path: Path) -> None:
    code = f"""
        import sys
        from pathlib import Path
        sys.path.insert(0, {str(ROOT)!r})
        from wan_core.long.job_lock import Lock
        lock = Lock(Path(sys.argv[1]))
        assert lock.acquire()
        print("held", flush=True)
        sys.stdin.read()
    """
    path = tmp_path / "lock"
    with running([sys.executable, "-c", textwrap.dedent(code)], path) as child:
        assert line(child) == "held"
        lock = Lock(path)
        said = f"process {child.pid} on {socket.gethostname()} since "
        assert not lock.acquire() and str(lock.holder()).startswith(said) and is_held(path)
        child.kill()
        child.wait()
        assert not is_held(path) and lock.acquire()
        assert str(lock.holder()).startswith(f"process {os.getpid()} on ") and len(holders(tmp_path)) == 1
        lock.release()
    assert [each.name for each in tmp_path.iterdir()] in (["lock"], [])


@pytest.mark.parametrize("moment", ["write", "fsync", "replace"])
def test_who_dies_while_taking_the_lock_holds_nobody_up(tmp_path: Path, moment: str) -> None:
    code = f"""
        import os, signal, sys
        from pathlib import Path
        sys.path.insert(0, {str(ROOT)!r})
        from wan_core.long import job_files, job_lock

        def die(*given):
            os.kill(os.getpid(), signal.SIGKILL)

        if {moment!r} == "write":
            opened = job_files.open_plain
            job_files.open_plain = lambda path, mode="rb": opened(path, mode) and die()
        else:
            setattr(os, {moment!r}, die)
        job_lock.Lock(Path(sys.argv[1])).acquire()
    """
    path = tmp_path / "lock"
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code), str(path)], check=False)
    assert done.returncode == -signal.SIGKILL and len(list(tmp_path.glob("holder-*"))) == 1
    lock = Lock(path)
    assert not is_held(path) and lock.acquire()
    lock.release()


def test_a_live_machine_is_named_and_refuses_others_however_long_it_works(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with running(HOLD, path) as child:
        assert line(child) == "held"
        (first,) = holders(tmp_path)
        wait_until(lambda: holders(tmp_path)[0].beat > first.beat + 1.5 * STALE)
        lock = Lock(path)
        assert not lock.acquire() and is_held(path)
        said = f"process {child.pid} on other-machine since {first.since} (last sign of life "
        assert str(lock.holder()).startswith(said) and " UTC" in first.since
        assert job_lock.system_lock(path)[0], "the drive's own lock is free: it reaches nobody"


def test_a_dead_machine_s_lock_is_free_after_a_while(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with running(HOLD, path) as child:
        assert line(child) == "held"
        child.kill()
        child.wait()
        (record,) = holders(tmp_path)
        lock = Lock(path)
        wait_until(lock.acquire, every=0.05)
        assert heartbeat.drive_time(tmp_path) - record.beat >= STALE
        assert [each.machine for each in holders(tmp_path)] == [heartbeat.this_machine()]
        lock.release()


def test_a_clock_that_is_wrong_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for now in (0.0, 1e11):
        monkeypatch.setattr(time, "time", lambda now=now: now)
        path = tmp_path / f"{now}" / "lock"
        path.parent.mkdir()
        with running(HOLD, path) as child:
            assert line(child) == "held"
            assert not Lock(path).acquire() and is_held(path)
            child.kill()
            child.wait()
            lock = Lock(path)
            wait_until(lock.acquire, every=0.05)
            lock.release()


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_drive_that_notes_the_writer_s_time_frees_no_live_lock(tmp_path: Path, hours: int) -> None:
    code = f"""
        lock = job_lock.Lock(Path(sys.argv[1]))
        assert lock.acquire()
        (path,) = Path(sys.argv[1]).parent.glob("holder-*")
        shifted = None
        for beat in range(10_000):
            now = path.stat().st_mtime
            if now != shifted:
                os.utime(path, (now + {3600 * hours}, now + {3600 * hours}))
                shifted = path.stat().st_mtime
                beat or answer("held")
            time.sleep(0.001)
    """
    path = tmp_path / "lock"
    with running(program(code), path) as child:
        assert line(child) == "held"
        for _ in range(3):
            assert not Lock(path).acquire()
        child.kill()
        child.wait()
        lock = Lock(path)
        wait_until(lock.acquire, every=0.05)
        lock.release()


def test_the_heart_beats_while_the_model_computes(tmp_path: Path) -> None:
    lock, matrix = Lock(tmp_path / "lock"), torch.rand(1200, 1200)
    assert lock.acquire()
    (first,) = holders(tmp_path)
    end = time.monotonic() + 60
    while holders(tmp_path)[0].beat < first.beat + 5 * BEAT:
        assert time.monotonic() < end
        torch.linalg.svd(matrix @ matrix)  # longer than the beat
    lock.release()
    assert holders(tmp_path) == []


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="a process is stopped and continued")
def test_who_was_taken_for_dead_writes_nothing_once_it_lives_again(tmp_path: Path) -> None:
    code = """
        import torch
        from wan_core.long.journal import Journal
        with Journal(sys.argv[1], "video", {"steps": 3}, 3) as job:
            job.commit(0, {"tail": torch.zeros(3)})
            answer("first")
            sys.stdin.readline()
            try:
                job.commit(1, {"tail": torch.full((3,), 99.0)})
                answer("written")
            except job_lock.JobHeldError as error:
                answer(str(error))
    """
    with running(program(code), tmp_path) as child:
        assert line(child) == "first"
        with pytest.raises(JobHeldError, match=f"worked on by process {child.pid} on other-machine since .* UTC "):
            Journal(tmp_path, "video", {"steps": 3}, 3)
        os.kill(child.pid, signal.SIGSTOP)
        with ExitStack() as stack:

            def taken_over() -> Journal | None:
                try:
                    return stack.enter_context(Journal(tmp_path, "video", {"steps": 3}, 3))
                except JobHeldError:
                    return None

            found: list[Journal | None] = []
            wait_until(lambda: found.append(taken_over()) or found[-1] is not None, every=0.05)
            (job,) = filter(None, found)
            assert job.next_segment() == 1
            job.commit(1, {"tail": torch.ones(3)})
            os.kill(child.pid, signal.SIGCONT)
            tell(child)
            assert f"was taken over by process {os.getpid()} on " in line(child)
            job.commit(2, {"tail": torch.ones(3)})
        with Journal(tmp_path, "video", {"steps": 3}, 3) as job:
            assert job.next_segment() is None and job.load(1)["tail"].tolist() == [1.0, 1.0, 1.0]


def test_of_machines_that_take_a_dead_one_s_lock_at_once_one_gets_it_at_most(tmp_path: Path) -> None:
    code = """
        heartbeat.STALE_SECONDS = heartbeat.WATCH_SECONDS = 0.0
        dead = heartbeat.is_stale
        # live ones beat throughout; the dead one's record is told by its name
        heartbeat.is_stale = lambda record, watch: record.path.name == "holder-dead"
        for path in sys.argv[1:]:
            sys.stdin.readline()
            lock = job_lock.Lock(Path(path))
            answer(lock.acquire())
            sys.stdin.readline()
            lock.release()
            answer("released")
    """
    paths = [tmp_path / str(number) / "lock" for number in range(12)]
    for path in paths:
        path.parent.mkdir()
        (path.parent / "holder-dead").write_text("{}")
    got = []
    with ExitStack() as stack:
        machines = [stack.enter_context(running(program(code, f"m{number}"), *paths)) for number in range(3)]
        for path in paths:
            for machine in machines:
                tell(machine)
            got.append([line(machine) for machine in machines].count("True"))
            assert len(holders(path.parent)) == max(got[-1], 1)
            for machine in machines:
                tell(machine)
            assert {line(machine) for machine in machines} == {"released"}
    assert set(got) <= {0, 1} and sum(got) > len(paths) // 2


CANNOT = [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS]  # what drives say that cannot lock, by system and driver


@pytest.mark.parametrize("code", CANNOT)
def test_on_a_drive_that_cannot_lock_the_heart_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    fcntl = pytest.importorskip("fcntl")

    def cannot(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", cannot)
    for _ in range(2):
        with Journal(tmp_path, "video", {"steps": 3}, 3) as job:
            with pytest.raises(JobHeldError, match=f"worked on by {HERE}: wait"):
                Journal(tmp_path, "video", {"steps": 3}, 3)
            with pytest.raises(jobs.JournalError, match="A run works on the job"):
                remove_job(job.folder)
            (record,) = job.folder.glob("holder-*")
            left = record.read_bytes()
        assert not list(job.folder.glob("holder-*")) and not jobs.is_at_work(job.folder)
    (job.folder / "holder-killed").write_bytes(left)
    assert jobs.is_at_work(job.folder)
    with pytest.raises(JobHeldError):
        Journal(tmp_path, "video", {"steps": 3}, 3)
    lock = Lock(job.folder / "lock")
    wait_until(lock.acquire, every=0.05)
    lock.release()
    remove_job(job.folder)


def test_what_older_versions_left_is_no_lock(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("process 999999\n", "utf-8")
    (tmp_path / "holder").write_text("process 999999 on another-machine\n", "utf-8")
    lock = Lock(tmp_path / "lock")
    assert not is_held(tmp_path / "lock") and lock.acquire()
    lock.release()
    assert not (tmp_path / "holder").exists()
