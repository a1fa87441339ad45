"""The machine in words: processor, cores, memory and versions; no host name and no folder."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

CPU_INFO = Path("/proc/cpuinfo")
NOTED_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")


@dataclass(frozen=True)
class Machine:
    """What the figures belong to."""

    processor: str
    instructions: str
    cores: int
    threads: int
    memory_gb: int
    torch: str
    diffusers: str
    comfyui: str
    gpu: str = ""

    def words(self) -> str:
        """Return one paragraph."""
        comfyui = f", ComfyUI {self.comfyui}" if self.comfyui else ""
        gpu = f"{self.gpu}, beside " if self.gpu else ""
        return (
            f"{gpu}{self.processor} ({self.instructions}), {self.cores} cores of which {self.threads} compute, "
            f"{self.memory_gb} GB of memory; torch {self.torch}, diffusers {self.diffusers}{comfyui}."
        )

    def values(self) -> dict[str, str | int]:
        """Return what the JSON file holds."""
        return asdict(self)


def gpu_words() -> str:
    """Return the GPU's name and memory."""
    properties = torch.cuda.get_device_properties(0)
    return f"{properties.name} ({properties.total_memory / 2**30:.0f} GB of memory, CUDA {torch.version.cuda})"


def this_machine(comfyui: str = "", device: str = "cpu") -> Machine:
    """Look at this machine; `comfyui` is the version of the host that is measured, `device` where it is measured."""
    import diffusers

    lines = CPU_INFO.read_text("utf-8").splitlines() if CPU_INFO.exists() else []
    facts = dict(line.split(":", 1) for line in lines if ":" in line)
    facts = {name.strip(): value.strip() for name, value in facts.items()}
    flags = facts.get("flags", "").split()
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 0
    return Machine(
        processor=facts.get("model name", platform.processor() or platform.machine()),
        instructions=", ".join(flag for flag in NOTED_FLAGS if flag in flags) or "instruction set unknown",
        cores=os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        memory_gb=round(pages / 2**30),
        torch=torch.__version__,
        diffusers=diffusers.__version__,
        comfyui=comfyui,
        gpu="" if device == "cpu" else gpu_words(),
    )
