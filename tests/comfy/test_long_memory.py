"""A long video takes the memory of a short one."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.comfy.host import HERE, HostInstall, host_environment
from tests.comfy.long_memory import SIZE
from tests.comfy.videos import probe

pytestmark = pytest.mark.newest_host

SHORT, LONG = 129, 385  # video frames: 5 segments, 14 segments
KEPT = (LONG - SHORT) * SIZE * SIZE * 3  # bytes: the other frames, if they were kept as they are in the file


@pytest.mark.skipif(sys.platform == "win32", reason="peak memory is read as Linux and macOS tell it")
def test_the_peak_memory_of_a_video_does_not_grow_with_its_length(
    install: HostInstall, model_files: Path, vae_file: Path, tmp_path: Path, notes: list[str]
) -> None:
    shutil.copytree(model_files, tmp_path / "models")
    environment = host_environment()
    environment |= {"SKYREELS_HOST_FOLDER": str(install.folder), "SKYREELS_BASE": str(tmp_path)}
    # memory that the allocator keeps back for its threads would make the figures a matter of chance
    environment |= {"MALLOC_ARENA_MAX": "1", "MALLOC_TRIM_THRESHOLD_": "0"}
    command = [install.python, HERE / "long_memory.py", tmp_path / "out", SHORT, LONG]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, encoding="utf-8", env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    short, long = (json.loads(line) for line in done.stdout.strip().splitlines()[-2:])
    assert probe(Path(long["path"])).frames == LONG
    grown = long["peak"] - short["peak"]
    notes.append(
        f"ComfyUI {install.version}: {SHORT} frames peak at {short['peak'] / 1e6:.0f} MB in {short['seconds']:.1f} s, "
        f"{LONG} frames take {grown / 1e6:.2f} MB more in {long['seconds']:.1f} s"
    )
    assert grown < KEPT / 2
