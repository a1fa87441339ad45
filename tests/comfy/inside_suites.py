"""The suites of inside/, one for each host: started with the other tests, and run on a core that is idle meanwhile."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import torch

from tests.comfy import tiny_models
from tests.comfy.host import HERE, HostInstall, find_hosts, host_environment, run_in_host
from tools.host import host_device
from tools.hosts import version_numbers

# about the pack alone, whatever the host: run in the newest one
NEWEST_ONLY = (
    "audit", "damaged_loras", "demo_models", "known_images", "long_bad_input", "long_prompts", "long_source",
    "model_info", "plan",
)  # fmt: skip
SECONDS = 4800  # for a whole suite, which gives way to the other tests; each of its tests has a limit of its own


class InsideSuites:
    """Runs pytest on inside/ in the Python of each host, one host after the other.

    Args:
        hosts: in which order.
        folder: empty; what the suites write lies there.
    """

    def __init__(self, hosts: Sequence[HostInstall], folder: Path) -> None:
        self._folder, self._stopped = folder, False
        self._process: subprocess.Popen[str] | None = None
        self._pool = ThreadPoolExecutor(1)
        self._runs = {host: self._pool.submit(self._run, host) for host in hosts}

    def output(self, host: HostInstall) -> tuple[int, str]:
        """Wait for a host's suite; return its exit code and what it printed."""
        run: Future[tuple[int, str]] = self._runs[host]
        return run.result()

    def stop(self) -> None:
        """End what still runs."""
        self._stopped = True
        if self._process is not None:
            self._process.kill()
        self._pool.shutdown(cancel_futures=True)

    def _run(self, host: HostInstall) -> tuple[int, str]:
        if self._stopped:
            return 1, "stopped"
        folder = self._folder / host.version
        write_models(folder / "models")
        write_vae(host, folder / "models")
        environment = host_environment()
        environment |= {"SKYREELS_HOST_FOLDER": str(host.folder), "SKYREELS_BASE": str(folder)}
        with (folder / "output.txt").open("w+", encoding="utf-8") as output:
            self._process = subprocess.Popen(
                suite(host),
                cwd=folder,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
                preexec_fn=yield_to_others if os.name == "posix" else None,
            )
            try:
                code = self._process.wait(SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                code = self._process.wait()
            output.seek(0)
            return code, output.read()


def yield_to_others() -> None:
    """Let the other tests go first: they talk to a browser, and wait for it."""
    os.nice(5)


def suite(host: HostInstall) -> list[str]:
    """Return the command of a host's suite."""
    # with a graphics card, that file alone: the others compare with figures of the CPU, to the last digits
    files = HERE / "inside" / ("test_on_gpu.py" if host_device() == "cuda" else "")
    command = [str(host.python), "-m", "pytest", "-c", str(HERE / "inside" / "pytest.ini"), str(files)]
    if host != max(find_hosts(), key=lambda each: version_numbers(each.version)):
        command += [f"--ignore={HERE / 'inside' / f'test_{name}.py'}" for name in NEWEST_ONLY]
    return command


def write_models(folder: Path) -> None:
    """Make a folder laid out like ComfyUI's models folder, with tiny files."""
    for name in ("diffusion_models", "loras", "vae"):
        (folder / name).mkdir(parents=True)
    transformers = folder / "diffusion_models"
    # DF-1.3B, the one with fps weights, is released in fp32; the 14B models in 16 bit
    tiny_models.write_transformer(transformers / "tiny_df.safetensors", dtype=torch.float32)
    tiny_models.write_transformer(transformers / "tiny_df_nofps.safetensors", fps=False)
    tiny_models.write_transformer(transformers / "tiny_i2v.safetensors", in_dim=36, fps=False)
    tiny_models.write_t5(transformers / "not-a-transformer-but-t5.safetensors")
    tiny_models.write_truncated(transformers / "truncated.safetensors", transformers / "tiny_df.safetensors")
    tiny_models.write_lora(folder / "loras" / "tiny_lora.safetensors")


def write_vae(host: HostInstall, folder: Path) -> Path:
    """Add the tiny video VAE to a models folder, with the key names of the host's own class; return its file."""
    path = folder / "vae" / "tiny_wan_vae.safetensors"
    run_in_host(host, HERE / "write_tiny_vae.py", path)
    return path
