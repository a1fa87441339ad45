"""What only a GPU can show: its kernels, its memory, and what happens when that memory ends.

Run with SKYREELS_TEST_DEVICE=cuda. The model has the width of the 1.3B release and some of its layers; memory does not
depend on how many there are.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import comfy.cli_args
import comfy.model_management
import comfy.samplers
import comfy.sd
import pytest
import safetensors.torch
import torch
from measures import relative_error
from sampling_scene import module

pytestmark = pytest.mark.skipif(
    comfy.model_management.get_torch_device().type != "cuda", reason="needs a GPU: SKYREELS_TEST_DEVICE=cuda"
)

LAYERS = 4
SHAPE = (1, 16, 25, 68, 120)  # 97 frames of 544 x 960
SIGMAS = torch.tensor([0.999, 0.6, 0.0])
CAUSAL = {"ar_step": 1, "causal_block_size": 5, "causal_attention": True}
ROUNDING = 0.03  # of bfloat16 over the layers and steps, relative to the largest value


@pytest.fixture(scope="module")
def wide_file(pack: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the 1.3B release's width in bfloat16."""
    config = replace(
        module("model.config").WanConfig.preset("DF-1.3B-540P"), num_layers=LAYERS, inject_sample_info=False
    )  # fmt: skip
    model = module("model.wan_model").WanModel(
        config, module("model.layers").Layers(device=torch.device("cuda"), dtype=torch.bfloat16)
    )
    generator = torch.Generator("cuda").manual_seed(1)
    for name, parameter in model.named_parameters():
        values = torch.randn(parameter.shape, generator=generator, device="cuda") * 0.03
        parameter.data = (values + 1 if "norm" in name and name.endswith("weight") else values).bfloat16()
    path = tmp_path_factory.mktemp("wide") / "wide.safetensors"
    safetensors.torch.save_file({name: value.cpu().contiguous() for name, value in model.state_dict().items()}, path)
    return path


def load(path: Path) -> Any:
    comfy.model_management.unload_all_models()
    comfy.model_management.soft_empty_cache()
    return module("comfy.loading.loader").load_model(path)


def sample(model: Any, shape: tuple[int, ...] = SHAPE, cfg: float = 4.0, **options: Any) -> torch.Tensor:
    bridge = module("comfy.sampling.sampler")
    guider = comfy.samplers.CFGGuider(model)
    generator = torch.Generator().manual_seed(5)
    guider.set_conds(*([[torch.randn(1, 512, 4096, generator=generator) * 0.3, {}]] for _ in range(2)))
    guider.set_cfg(cfg)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(7))
    sampler = bridge.DiffusionForcingSampler(bridge.ForcingOptions(**options))
    with torch.inference_mode():
        return guider.sample(noise, torch.zeros(shape), sampler, SIGMAS, disable_pbar=True, seed=3)


def peak_of(action: Any) -> tuple[Any, int]:
    """Return what an action gives and the GPU memory at its peak, weights that it loads included."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    result = action()
    torch.cuda.synchronize()
    return result, torch.cuda.max_memory_allocated()


def in_the_log(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [text for record in caplog.records if (text := record.getMessage()).startswith("SkyReels-V2: Out of memory")]


def test_a_gpu_gives_the_video_of_a_cpu(pack: ModuleType, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = models / "diffusion_models" / "tiny_df.safetensors"
    monkeypatch.setattr(comfy.cli_args.args, "fp32_unet", True)  # a GPU computes in 16 bit what a file has in 32
    model = load(file)
    assert model.load_device.type == "cuda"
    small = (1, 16, 6, 12, 12)
    options = {"ar_step": 1, "causal_block_size": 2}
    for causal in (False, True):
        made = sample(model, small, causal_attention=causal, **options).cpu()
        on_cpu = load(file)
        on_cpu.load_device = on_cpu.offload_device = torch.device("cpu")
        on_cpu_made = sample(on_cpu, small, causal_attention=causal, **options).cpu()
        # cuDNN's convolution of the patches has TF32, as torch wants it
        assert relative_error(made, on_cpu_made) < 5e-4


def test_the_fused_norm_is_ours(pack: ModuleType) -> None:
    kernels = module("comfy.model.kernels")
    x, shift, scale = (torch.randn(1, tokens, 1536, device="cuda") for tokens in (60, 3, 3))
    norm = torch.nn.LayerNorm(1536, eps=1e-6, elementwise_affine=False)
    with torch.inference_mode():
        expected = kernels.modulated_norm(norm, x, shift, scale)
        torch.testing.assert_close(kernels.host_modulated_norm(norm, x, shift, scale), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("cfg", [1.0, 4.0])
@pytest.mark.parametrize("options", [{}, CAUSAL], ids=["bidirectional", "cached"])
def test_what_the_host_is_asked_for_is_what_a_call_takes(
    wide_file: Path, cfg: float, options: dict[str, Any], asked: list[tuple[float, float]]
) -> None:
    """The figure by which the host keeps weights on the card or moves them out."""
    model = load(wide_file)
    sample(model, (1, 16, 5, 68, 120), cfg, **options)  # what libraries take once is no part of it
    torch.cuda.synchronize()
    resting = torch.cuda.memory_allocated()
    _, peak = peak_of(lambda: sample(model, cfg=cfg, **options))
    at_best, least = asked[-1]
    taken = peak - resting
    words = f"GB at the peak {taken / 1e9:.2f}, asked for at best {at_best / 1e9:.2f}, at least {least / 1e9:.2f}"
    print(f"cfg {cfg}: {words}; fused rotary kernel: {module('comfy.model.rotary').FUSED}")
    assert taken <= at_best <= 3.2 * taken


def test_the_cache_gives_the_same_video_wherever_it_is_kept(wide_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, cache = load(wide_file), module("comfy.sampling.causal_cache")
    shape, placed = (1, 16, 10, 34, 60), []
    place = cache.free_place

    def noted(*args: Any) -> Any:
        placed.append(place(*args))
        return placed[-1]

    monkeypatch.setattr(cache, "free_place", noted)
    on_gpu = sample(model, shape, **CAUSAL)
    monkeypatch.setattr(cache, "free_place", lambda *args: placed.append(torch.device("cpu")) or placed[-1])
    in_main_memory = sample(model, shape, **CAUSAL)
    monkeypatch.setattr(cache, "free_place", lambda *args: None)
    without = sample(model, shape, **CAUSAL)
    assert [device.type for device in placed] == ["cuda", "cpu"]
    assert torch.equal(on_gpu, in_main_memory)
    assert relative_error(on_gpu, without) < ROUNDING


def test_when_memory_ends_the_video_is_the_same(wide_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The memory is the GPU's own: torch may take less of it than the run needs."""
    model = load(wide_file)
    sample(model, (1, 16, 5, 68, 120))  # weights and libraries
    expected, peak = peak_of(lambda: sample(model))
    resting = torch.cuda.memory_allocated()
    total = torch.cuda.get_device_properties(0).total_memory
    comfy.model_management.soft_empty_cache()
    try:
        torch.cuda.set_per_process_memory_fraction((resting + 0.4 * (peak - resting)) / total)
        with caplog.at_level(logging.WARNING):
            made = sample(model)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    print("\n".join(in_the_log(caplog)))
    assert in_the_log(caplog)
    assert relative_error(made, expected) < ROUNDING
