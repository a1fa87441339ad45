"""Make a short and a long video in a host's own process and print its peak memory after each.

usage: long_memory.py OUTPUT_FOLDER FRAMES ...

Started by test_long_memory.py with the variables that inside/conftest.py reads. One process for all lengths, the
shortest first: what is imported and loaded is in the first figure, so only what a length costs is between two.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "inside"))
SIZE = 64  # pixels


def peak_bytes() -> int:
    """Return the most memory that this process has ever held."""
    if sys.platform == "win32":
        raise SystemExit("this measurement needs Linux or macOS")
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def main(output: str, lengths: list[int]) -> None:
    """Make the videos and print a line of JSON for each."""
    conftest = importlib.import_module("conftest")  # makes comfy importable
    conftest.load_module("skyreels_v2", HERE.parents[1] / "__init__.py")
    import comfy.sd
    import comfy.utils
    import folder_paths
    import torch

    folder_paths.set_output_directory(output)
    bridge, chosen, loader, prompts, sampler = (
        importlib.import_module(f"skyreels_v2.wan_core.{name}")
        for name in (
            "comfy.long.long_video",
            "long.settings",
            "comfy.loading.loader",
            "long.prompts",
            "comfy.sampling.sampler",
        )
    )
    models = Path(folder_paths.models_dir)
    model = loader.load_model(models / "diffusion_models" / "tiny_df.safetensors")
    vae = comfy.sd.VAE(sd=comfy.utils.load_torch_file(str(models / "vae" / "tiny_wan_vae.safetensors")))
    text = [[torch.randn(1, 12, 4096, generator=torch.Generator().manual_seed(1)) * 0.3, {}]]
    for frames in lengths:
        settings = chosen.LongVideoSettings(
            total_frames=frames, width=SIZE, height=SIZE, base_num_frames=33, overlap_history=5, steps=1, cfg=1.0,
            forcing=sampler.ForcingOptions(),
        )  # fmt: skip
        started = time.monotonic()
        with torch.inference_mode():
            inputs = bridge.Inputs(model, vae, prompts.Prompts([text]), text)
            made = bridge.make_long_video(inputs, settings.planned(), bridge.Job("memory"))
        print(json.dumps({"peak": peak_bytes(), "seconds": time.monotonic() - started, "path": str(made.path)}))


if __name__ == "__main__":
    main(sys.argv[1], [int(frames) for frames in sys.argv[2:]])
