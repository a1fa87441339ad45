"""`python -m benchmarks.decode_share COMFYUI`, in the Python of that ComfyUI: the decoder's part of a clip, counted.

Operations are counted, not timed: those of the transformer's matrix products and attention, from its sizes, and those
of the two decoders that people have (Wan's VAE and its tiny twin) on a few latents, in proportion to the clip's. A GPU
does a decoder's convolutions at a lower rate than a transformer's products, so its share of the time is larger.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from wan_core.model.geometry import WAN21

from .cases import GPU_SIZES, Case, floating_point_operations
from .report import write_files

RESULTS = Path(__file__).resolve().parent / "results"
TRIED = (5, 8, 8)  # latent frames, rows and columns that the decoders are counted on
RUNS = {"30 steps, cfg": 60, "4 steps, no cfg": 4}  # model calls


def size_in_video(latent: tuple[int, int, int]) -> int:
    """Return what the work of a decoder grows with: video frames times latent rows and columns."""
    frames, rows, columns = latent
    return WAN21.video_frames(frames) * rows * columns


@torch.no_grad()
def decode_operations(decode: Callable[[torch.Tensor], object]) -> float:
    """Return the operations of a decoder for a `size_in_video` of 1, in proportion to those for TRIED."""
    with FlopCounterMode(display=False) as counter:
        decode(torch.randn(1, WAN21.channels, *TRIED))
    return counter.get_total_flops() / size_in_video(TRIED)


def decoders() -> dict[str, Callable[[torch.Tensor], object]]:
    """Return the decoders, at the size of the released ones and with random weights."""
    from comfy.ldm.wan.vae import WanVAE
    from comfy.taesd.taehv import TAEHV

    vae = WanVAE(
        dim=96, z_dim=16, dim_mult=[1, 2, 4, 4], num_res_blocks=2, attn_scales=[],
        temperal_downsample=[False, True, True], dropout=0.0,
    )  # fmt: skip
    return {"Wan's VAE": vae.decode, "tiny VAE": TAEHV(latent_channels=16, latent_format=None).decode}


def main() -> None:
    """Count, and write the table."""
    rows: list[str] = []
    values: dict[str, dict[str, float]] = {}
    counted = {decoder: decode_operations(decode) for decoder, decode in decoders().items()}
    for name, size in GPU_SIZES.items():
        call = floating_point_operations(Case(name, "per-frame", "bfloat16"))
        works = {decoder: each * size_in_video(size.latent) for decoder, each in counted.items()}
        values[name] = {"call": call, **works}
        for decoder, work in works.items():
            shares = " | ".join(f"{work / (work + calls * call):.1%}" for calls in RUNS.values())
            rows.append(f"| {name} | {decoder} | {call / 1e12:,.0f} | {work / 1e12:,.0f} | {shares} |")
    page = "\n".join([
        "# The decoder's part of a clip, counted",
        "",
        "Operations in 10^12, a multiplication and an addition being two. Nothing was timed.",
        "",
        f"| clip | decoder | a model call | decoding | of {' | of '.join(RUNS)} |",
        "|---" * (4 + len(RUNS)) + "|",
        *rows,
        "",
    ])  # fmt: skip
    print(page)
    write_files(RESULTS, "decode", page, values)


if __name__ == "__main__":
    sys.path.append(sys.argv.pop(1))
    import comfy.cli_args

    comfy.cli_args.args.cpu = True
    main()
