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

from .cases import GPU_SIZES, TEXT_TOKENS, Size
from .report import write_files

RESULTS = Path(__file__).resolve().parent / "results"
TRIED = (5, 8, 8)  # latent frames, rows and columns that the decoders are counted on
RUNS = {"30 steps, cfg": 60, "4 steps, no cfg": 4}  # model calls


def call_operations(size: Size) -> float:
    """Return the operations of a model call, one noise level per frame: a product of n numbers is 2 n of them."""
    config, tokens = size.config, size.tokens
    linear = 6 * config.dim**2 + 2 * config.dim * config.ffn_dim  # self-attention 4, of cross-attention 2, and ffn
    text = 2 * TEXT_TOKENS * 2 * config.dim**2
    attention = 4 * tokens * (tokens + TEXT_TOKENS) * config.dim
    return float(config.num_layers * (2 * tokens * linear + text + attention))


@torch.no_grad()
def decode_operations(decode: Callable[[torch.Tensor], object], size: Size) -> float:
    """Return the operations of decoding a clip, in proportion to those for TRIED."""
    with FlopCounterMode(display=False) as counter:
        decode(torch.randn(1, 16, *TRIED))
    video = [(1 + 4 * (frames - 1)) * rows * columns for frames, rows, columns in (size.latent, TRIED)]
    return counter.get_total_flops() * video[0] / video[1]


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
    rows, values = [], {}
    for name, size in GPU_SIZES.items():
        call = call_operations(size)
        values[name] = {"call": call, **{each: decode_operations(decode, size) for each, decode in decoders().items()}}
        for decoder in list(values[name])[1:]:
            work = values[name][decoder]
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
