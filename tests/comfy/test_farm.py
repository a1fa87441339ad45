"""The farm: lists of prompts over two ComfyUIs on two Ray nodes of this machine, one of which dies in the middle.

With Ray: in the host's Python, or in a folder named by SKYREELS_RAY (`pip install --target FOLDER ray`).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageSequence

from tests.comfy.host import HERE, PACK_FOLDER, REPO, Host, HostInstall, host_environment
from tests.comfy.inside.ray_workers import prepared
from tests.comfy.test_demo import node_of, shipped
from tests.comfy.test_long_video import pixels
from tests.waiting import wait_until
from wan_core.long.job_lock import Lock

pytestmark = [pytest.mark.newest_host, pytest.mark.timeout(1200)]

SECOND = "127.0.0.2"  # of two_nodes.py
JOBS, LONG = 20, (4, 8, 12, 16)  # those of the jobs that are long videos
SEGMENTS = 5  # of the demo's long video


@pytest.fixture(scope="module")
def environment(install: HostInstall, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of whatever uses Ray."""
    bridge = prepared(tmp_path_factory.mktemp("bridge"), REPO, "main.py")
    path = os.pathsep.join([str(bridge), *filter(None, [os.environ.get("SKYREELS_RAY")])])
    found = {**host_environment(), "PYTHONPATH": path}
    if subprocess.run([str(install.python), "-c", "import ray"], env=found, capture_output=True).returncode:
        pytest.skip("Ray is not installed: pip install --target FOLDER ray, and SKYREELS_RAY=FOLDER")
    return found


@pytest.fixture(scope="module")
def alone(install: HostInstall, environment: dict[str, str]) -> Iterator[Host]:
    """A server that nobody disturbs; its folders are those of the farm's ComfyUIs, but for the output."""
    with Host(install) as server:
        yield server


@dataclass
class Cluster:
    """Two Ray nodes, and the farm's command."""

    install: HostInstall
    environment: dict[str, str]
    process: subprocess.Popen[str]
    base: Path
    address: str = ""

    def kill_second(self) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write("kill\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline().strip() == "killed"

    def starting(self, output: Path) -> list[str]:
        """The arguments with which the farm starts its ComfyUIs."""
        output.mkdir(exist_ok=True)
        flags = ["--cpu", "--disable-api-nodes", "--base-directory", self.base, "--output-directory", output]
        flags += ["--user-directory", self.base / "user", "--input-directory", self.base / "input"]
        return [*map(str, ["--comfyui", self.install.folder, "--python", self.install.python, "--", *flags])]

    @contextmanager
    def farm(self, listed: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """The command, from a checkout."""
        command = [str(self.install.python), "-m", "farm", str(listed), "--address", self.address, *arguments]
        with subprocess.Popen(
            command, cwd=self.base / "custom_nodes" / PACK_FOLDER, env=self.environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        ) as process:  # fmt: skip
            try:
                yield process
            finally:
                process.kill()

    def ran(self, listed: Path, *arguments: str) -> tuple[int, str]:
        """The command's exit code and what it printed."""
        with self.farm(listed, *arguments) as process:
            text, _ = process.communicate(timeout=900)
            return process.returncode, text


@pytest.fixture
def cluster(install: HostInstall, environment: dict[str, str], alone: Host) -> Iterator[Cluster]:
    """A new cluster for each test: one of its nodes may be dead after it."""
    command = [str(install.python), str(HERE / "two_nodes.py")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True
    ) as process:
        found = Cluster(install, environment, process, alone.base)
        assert process.stdout is not None and process.stdin is not None
        found.address = process.stdout.readline().strip()
        assert found.address
        yield found
        process.stdin.close()
        process.wait(timeout=60)


def clip(server: Host, seed: int) -> dict[str, Any]:
    """A small clip by the embedded model, its frames as they are: core's h264 differs from one run to the next."""
    prompt = shipped("Demo Text to Video", server, seed=seed, frames=9, steps=3)
    images = [node_of(prompt, "SkyReelsV2VAEDecode"), 0]
    for kind in ("SaveVideo", "CreateVideo"):
        del prompt[node_of(prompt, kind)]
    saved = {"images": images, "filename_prefix": "clip", "fps": 24.0, "lossless": True, "quality": 80}
    prompt["saved"] = {"class_type": "SaveAnimatedWEBP", "inputs": {**saved, "method": "fastest"}}
    return prompt


def long_video(server: Host, seed: int, **changes: Any) -> dict[str, Any]:
    """A long video of SEGMENTS segments by the embedded model."""
    given = {"job_name": f"film{seed}", "steps": 15, **changes}
    return shipped("Demo Long Video", server, seed=seed, **given)


def frames(path: Path) -> np.ndarray:
    """The frames [F, H, W, 3] of what a job left."""
    if path.suffix != ".webp":
        return pixels(path)
    with Image.open(path) as picture:
        return np.stack([np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(picture)])


def files_below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")


def results(listed: Path) -> dict[str, dict[str, Any]]:
    """What the results file says, by the name of the job."""
    found = json.loads(listed.with_name(f"{listed.stem}.results.json").read_text("utf-8"))
    return {each["name"]: each for each in found["jobs"].values()}


def parents(process: int) -> Iterator[int]:
    while process > 1:
        yield process
        process = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def on_second_node(process: int) -> bool:
    """Whether a process belongs to the node that can be killed."""
    lines = [Path(f"/proc/{each}/cmdline").read_bytes() for each in parents(process)]
    return any(b"raylet" in line and f"--node_ip_address={SECOND}".encode() in line for line in lines)


def long_job_there(output: Path, listed: Path) -> tuple[Path, int] | None:
    """A long-video job that a ComfyUI of the second node is in the middle of, its first job done, and its process."""
    for record in (output / "skyreels_v2_jobs").glob("*/holder-*"):
        try:
            process = int(json.loads(record.read_text("utf-8"))["process"])
            kept = [path.name for path in record.parent.glob("segment-*.json")]
            port = Path(f"/proc/{process}/cmdline").read_text().split("\0--port\0")[1].partition("\0")[0]
            has_finished = any(each["host"].endswith(f":{port}") for each in results(listed).values())
            if 0 < len(kept) < SEGMENTS - 1 and has_finished and on_second_node(process):
                return record.parent, process
        except (OSError, ValueError):  # it has just ended
            continue
    return None


def test_twenty_jobs_over_two_hosts_one_of_which_is_killed_in_the_middle(
    cluster: Cluster, alone: Host, tmp_path: Path
) -> None:
    prompts = {
        f"{'film' if number in LONG else 'clip'}-{number:02}": (long_video if number in LONG else clip)(alone, number)
        for number in range(JOBS)
    }
    listed = tmp_path / "twenty"
    listed.mkdir()
    for name, prompt in sorted(prompts.items()):
        (listed / f"{name.partition('-')[2]}-{name.partition('-')[0]}.json").write_text(json.dumps(prompt), "utf-8")
    shared, caught = tmp_path / "shared", []
    scratch = set(Path(tempfile.gettempdir()).glob("skyreels-farm-*"))

    with cluster.farm(listed, *cluster.starting(shared)) as farm:
        wait_until(
            lambda: caught.append(long_job_there(shared, listed)) or caught[-1] or farm.poll() is not None, 600, 0.02
        )
        assert caught[-1] is not None, farm.communicate()[0]
        job, comfyui = caught[-1]
        first = {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in job.glob("segment-*.json")}
        os.kill(comfyui, signal.SIGKILL)
        cluster.kill_second()
        text, _ = farm.communicate(timeout=900)
        code = farm.returncode
    print(text)
    found = results(listed)

    assert code == 0 and "20 of 20 jobs finished" in text and "was lost with" in text
    assert {each["state"] for each in found.values()} == {"finished"} and len(found) == JOBS
    again = [name for name, each in found.items() if each["tries"] > 1]
    assert len(again) == 1 and found[again[0]]["tries"] == 2 and again[0].endswith("film"), again
    assert len({each["host"] for each in found.values()}) == 2, "both have finished jobs"
    for name, each in found.items():
        files = files_below(shared / name)
        assert len(files) == 1, f"{name} was run twice or lost"
        (copied,) = map(Path, each["outputs"])
        assert copied.is_relative_to(tmp_path / "twenty.outputs" / name)
        assert copied.read_bytes() == files[0].read_bytes()
    for name, (when, text_of_record) in first.items():  # what the dead host had finished was not made again
        assert (job / name).stat().st_mtime_ns == when and (job / name).read_bytes() == text_of_record
    for name, prompt in prompts.items():
        kind, _, number = name.partition("-")
        (made,) = found[f"{number}-{kind}"]["outputs"]
        (expected,) = {path for files in alone.run(prompt, timeout=300).outputs.values() for path in files}
        assert np.array_equal(frames(Path(made)), frames(expected)), name
        assert frames(expected).std() > 1, "a picture, not a plane"

    before = {path: path.stat().st_mtime_ns for path in files_below(tmp_path)}
    assert len(set(Path(tempfile.gettempdir()).glob("skyreels-farm-*")) - scratch) <= 1, "that of the dead host alone"
    code, text = cluster.ran(listed, *cluster.starting(shared))
    assert code == 0 and "ready" not in text and "20 of 20 jobs finished" in text
    assert {path: path.stat().st_mtime_ns for path in files_below(tmp_path)} == before


def at(server: Host) -> list[str]:
    """The arguments with which the farm uses a server that runs, as if it were the second node's."""
    return ["--at", f"{SECOND}:{server.url.rpartition(':')[2]}"]


def executed(server: Host, name: str) -> int:
    """How often a job of a list was run to its end."""
    runs = server.get("/history").values()
    ended = [each for each in runs if each["status"]["status_str"] == "success"]
    return sum(f'"{name}/' in json.dumps(each["prompt"][2]) for each in ended)


def test_what_a_host_refuses_is_said_and_only_what_is_missing_is_run_again(
    cluster: Cluster, alone: Host, tmp_path: Path
) -> None:
    listed, nowhere = tmp_path / "list.jsonl", f"{SECOND}:1"
    film = {"job_name": "refused", "total_frames": 77}  # too short for the demo's script of prompts
    prompts = [clip(alone, 50), clip(alone, 51), clip(alone, 52), long_video(alone, 53, **film)]
    sampler = prompts[1][node_of(prompts[1], "SkyReelsV2Sampler")]["inputs"]
    sampler["steps"] = -3
    listed.write_text("\n".join(json.dumps(each) for each in prompts), "utf-8")

    code, text = cluster.ran(listed, *at(alone), nowhere)
    print(text)
    states = {name: each["state"] for name, each in results(listed).items()}
    names = [f"list-{number:04}" for number in range(1, 5)]
    assert code == 1 and "2 of 4 jobs finished" in text
    assert states == dict(zip(names, ["finished", "refused", "finished", "failed"], strict=True))
    assert "SkyReelsV2Sampler" in (said := results(listed)[names[1]]["sentence"]) and "min of 1" in said
    assert "No segment lies mostly in '3.2s-'" in results(listed)[names[3]]["sentence"]
    assert all(each["sentence"] in text and each["tries"] == 1 for each in results(listed).values())

    sampler["steps"] = 3
    prompts[3] = long_video(alone, 53, **film, script="a red circle")
    listed.write_text("\n".join(json.dumps(each) for each in prompts), "utf-8")
    code, text = cluster.ran(listed, *at(alone), "--leave-outputs")
    print(text)
    assert code == 0 and "4 of 4 jobs finished" in text
    assert [executed(alone, name) for name in names] == [1, 1, 1, 1]
    (left,) = results(listed)[names[1]]["outputs"]
    assert (alone.base / "output" / left).is_file() and not (tmp_path / "list.outputs" / names[1]).exists()


def test_a_list_that_is_stopped_leaves_nothing_behind_and_goes_on_later(
    cluster: Cluster, alone: Host, tmp_path: Path
) -> None:
    listed, jobs = tmp_path / "film.json", alone.base / "output" / "skyreels_v2_jobs"
    listed.write_text(json.dumps({"prompt": long_video(alone, 60, job_name="stopped", steps=30)}), "utf-8")
    with cluster.farm(listed, *at(alone)) as farm:
        wait_until(lambda: list(jobs.glob("stopped-*/segment-0000.json")), 120, 0.02)
        farm.send_signal(signal.SIGTERM)
        text, _ = farm.communicate(timeout=60)
    print(text)
    assert farm.returncode == 130 and "0 of 1 jobs finished" in text
    wait_until(lambda: not any(alone.get("/queue").values()))
    (job,) = jobs.glob("stopped-*")
    kept = {path.name: path.stat().st_mtime_ns for path in job.glob("segment-*.json")}
    assert 0 < len(kept) < SEGMENTS

    lock = Lock(job / "lock")
    assert lock.acquire()  # as another machine's run would
    with cluster.farm(listed, *at(alone)) as farm:
        assert farm.stdout is not None
        said = next(line for line in farm.stdout if "is being worked on by" in line)
        lock.release()
        text, _ = farm.communicate(timeout=300)
    print(text)
    assert f"process {os.getpid()} on " in said and farm.returncode == 0 and "1 of 1 jobs finished" in text
    assert {name: (job / name).stat().st_mtime_ns for name in kept} == kept
    assert results(listed)["film"]["tries"] == 2
