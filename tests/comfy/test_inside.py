"""Run the test files of inside/ in each host's own Python, where comfy and the pack share a process."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.comfy.host import HERE, HostInstall, find_hosts, host_environment
from tools.host import host_device
from tools.hosts import version_numbers

# about the pack alone, whatever the host: run in the newest one
NEWEST_ONLY = (
    "audit", "damaged_loras", "demo_models", "known_images", "long_bad_input", "long_prompts", "long_source",
    "model_info", "plan",
)  # fmt: skip


@pytest.mark.timeout(2400)  # a whole suite of tests, each with a limit of its own
def test_the_in_process_tests_pass_in_the_hosts_python(
    install: HostInstall,
    model_files: Path,
    vae_file: Path,
    tmp_path: Path,
    notes: list[str],
) -> None:
    probe = subprocess.run([str(install.python), "-c", "import pytest"], capture_output=True, env=host_environment())
    if probe.returncode != 0:
        pytest.skip(f"{install.python} has no pytest: run `{install.python} -m pip install pytest` for these tests")
    shutil.copytree(model_files, tmp_path / "models")
    environment = host_environment()
    environment |= {"SKYREELS_HOST_FOLDER": str(install.folder), "SKYREELS_BASE": str(tmp_path)}
    # the others compare with figures of the CPU, to the last digits
    files = HERE / "inside" / ("test_on_gpu.py" if host_device() == "cuda" else "")
    command = [str(install.python), "-m", "pytest", "-c", str(HERE / "inside" / "pytest.ini"), str(files)]
    if install != max(find_hosts(), key=lambda host: version_numbers(host.version)):
        command += [f"--ignore={HERE / 'inside' / f'test_{name}.py'}" for name in NEWEST_ONLY]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        timeout=2400,
    )
    assert done.returncode == 0, f"in ComfyUI {install.version}:\n{done.stdout}"
    summary = done.stdout.strip().splitlines()[-1].strip("= ")
    passed = re.search(r"(\d+) passed", summary)
    assert passed and int(passed[1]) > 0, done.stdout
    notes.append(f"ComfyUI {install.version}: {summary} inside the host's process")
