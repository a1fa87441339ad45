"""Write a tiny Wan 2.1 video VAE with seeded weights; run inside a host's Python by host.run_in_host.

usage: launch_host.py COMFYUI_FOLDER write_tiny_vae.py FILE
The key names are those of the host's own class, which are the original ones.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import comfy.cli_args

comfy.cli_args.args.cpu = True
import comfy.ldm.wan.vae  # noqa: E402 - the CPU must be chosen before torch devices are
from safetensors.torch import save_file  # noqa: E402

DIM = 4


def main(target: Path) -> None:
    """Write the file."""
    spec = importlib.util.spec_from_file_location("tiny_models", Path(__file__).with_name("tiny_models.py"))
    tiny_models = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tiny_models)
    vae = comfy.ldm.wan.vae.WanVAE(dim=DIM, z_dim=16, dim_mult=[1, 2, 4, 4], temperal_downsample=[False, True, True])
    shapes = {name: tuple(tensor.shape) for name, tensor in vae.state_dict().items()}
    save_file(tiny_models.random_tensors(shapes), target)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
