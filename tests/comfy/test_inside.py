"""The test files of inside/ pass in each host's own Python, where comfy and the pack share a process."""

from __future__ import annotations

import re
import subprocess

import pytest

from tests.comfy.host import HostInstall, host_environment
from tests.comfy.inside_suites import SECONDS, InsideSuites


@pytest.mark.timeout(SECONDS)
def test_the_in_process_tests_pass_in_the_hosts_python(
    install: HostInstall, inside_suites: InsideSuites, notes: list[str]
) -> None:
    probe = subprocess.run([str(install.python), "-c", "import pytest"], capture_output=True, env=host_environment())
    if probe.returncode != 0:
        pytest.skip(f"{install.python} has no pytest: run `{install.python} -m pip install pytest` for these tests")
    code, output = inside_suites.output(install)
    assert code == 0, f"in ComfyUI {install.version}:\n{output}"
    summary = output.strip().splitlines()[-1].strip("= ")
    passed = re.search(r"(\d+) passed", summary)
    assert passed and int(passed[1]) > 0, output
    notes.append(f"ComfyUI {install.version}: {summary} inside the host's process")
