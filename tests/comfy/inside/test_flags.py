"""Flags of ComfyUI's command line that can be set in the process; docs/host_flags.md has a row for each."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import comfy.cli_args
import comfy.ldm.modules.attention
import comfy.model_management
import comfy.ops
import comfy.sd
import comfy.utils
import pytest
import torch
from comfy.cli_args import PerformanceFeature
from long_scene import conditioning, inputs, settings
from PIL import Image
from sampling_scene import generated

pytestmark = pytest.mark.usefixtures("output_folder", "pack")

OURS = {"fps": 24, "ar_step": 1, "causal_block_size": 1}
WORKFLOW = "a secret of the workflow"


@pytest.fixture
def flags(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets flags for the time of a test: those that the host reads when it is asked, not when it starts."""

    def set_flags(**values: Any) -> None:
        for name, value in values.items():
            assert hasattr(comfy.cli_args.args, name), name
            monkeypatch.setattr(comfy.cli_args.args, name, value)

    return set_flags


@pytest.fixture
def strict() -> Iterator[None]:
    """What --deterministic asks torch for, but an operation that cannot is an error here, not a warning."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def part(name: str) -> Any:
    return importlib.import_module(f"skyreels_v2.wan_core.{name}")


def sampled(model: Any, latent: torch.Tensor | None = None, **forcing: Any) -> torch.Tensor:
    samples = torch.zeros(1, 16, 3, 4, 4) if latent is None else latent
    options = part("sampling.run").ForcingOptions(**{**OURS, **forcing})
    return generated(model, (conditioning(1), conditioning(2)), {"samples": samples}, options, 1, 2, 2.0, 8.0)


def difference(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one.float() - other.float()).norm() / other.float().norm())


def long_video(bridge: ModuleType, model: Any, vae: Any, name: str, **chosen: Any) -> Any:
    texts = part("comfy.host_flags").file_texts({"1": WORKFLOW}, {"workflow": {"nodes": [WORKFLOW]}})
    with torch.inference_mode():
        return bridge.make_long_video(
            inputs(bridge, model, vae), settings(bridge, **chosen).planned(), bridge.Job(name, texts)
        )


def files_with_the_workflow(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and WORKFLOW.encode() in path.read_bytes())


@pytest.mark.parametrize("codec", ["h264", "ffv1", "png"])
def test_disable_metadata_keeps_the_workflow_out_of_every_file_of_a_job(
    bridge: ModuleType, model: Any, vae: Any, flags: Any, output_folder: Path, codec: str
) -> None:
    name = long_video(bridge, model, vae, "with", codec=codec).path.name
    assert files_with_the_workflow(output_folder) == (
        ["frame_000000.png", name, "workflow.json"] if codec == "png" else [name, "workflow.json"]
    )
    flags(disable_metadata=True)
    made = long_video(bridge, model, vae, "without", codec=codec, seed=1)
    assert files_with_the_workflow(made.path.parent) == []
    if codec == "png":
        assert (
            Image.open(made.path.parent / "frames" / "frame_000000.png").info.keys().isdisjoint(("prompt", "workflow"))
        )


def test_disable_metadata_takes_the_workflow_out_of_a_video_that_an_earlier_run_finished(
    bridge: ModuleType, model: Any, vae: Any, flags: Any, output_folder: Path
) -> None:
    first = long_video(bridge, model, vae, "earlier")
    frames = first.path.stat().st_size
    assert files_with_the_workflow(output_folder) == [first.path.name, "workflow.json"]
    flags(disable_metadata=True)
    again = long_video(bridge, model, vae, "earlier")
    assert again.path == first.path and "All segments were finished" in str(again.text)
    assert files_with_the_workflow(output_folder) == []
    assert 0 < again.path.stat().st_size < frames
    size = again.path.stat().st_mtime_ns
    assert long_video(bridge, model, vae, "earlier").path.stat().st_mtime_ns == size, "joined once, not each time"


PRECISIONS = (
    {},
    {"fp32_unet": True},
    {"fp16_unet": True},
    {"bf16_unet": True},
    {"fp64_unet": True},
    {"fp8_e4m3fn_unet": True},
    {"fp8_e5m2_unet": True},
    {"force_fp32": True},
    {"force_fp16": True, "fp16_unet": True},
    {"supports_fp8_compute": True, "fp8_e4m3fn_unet": True},
)


@pytest.mark.parametrize("chosen", PRECISIONS, ids=lambda chosen: "-".join(chosen) or "no flag")
@pytest.mark.parametrize("fast", [set(), {PerformanceFeature.Fp8MatrixMultiplication}], ids=["", "fast"])
def test_our_loader_takes_the_precision_that_cores_loader_takes(
    models: Path, flags: Any, monkeypatch: pytest.MonkeyPatch, chosen: dict[str, bool], fast: set[Any]
) -> None:
    flags(fast=fast, **{name: value for name, value in chosen.items() if name != "force_fp32"})
    if "force_fp32" in chosen:
        monkeypatch.setattr(comfy.model_management, "FORCE_FP32", True)  # read from the flag as the host starts
    path = models / "diffusion_models" / "tiny_df_nofps.safetensors"
    ours, theirs = part("comfy.loading.loader").load_model(path).model, comfy.sd.load_diffusion_model(str(path)).model
    assert ours.get_dtype() == theirs.get_dtype()
    assert ours.manual_cast_dtype == theirs.manual_cast_dtype
    layers = [model.diffusion_model.blocks[0].self_attn.q for model in (ours, theirs)]
    assert type(layers[0]).__qualname__ == type(layers[1]).__qualname__
    assert layers[0].weight.dtype == layers[1].weight.dtype


def test_force_channels_last_which_torch_has_for_pictures_alone_is_left_out(models: Path, flags: Any) -> None:
    path = models / "diffusion_models" / "tiny_df.safetensors"
    expected = sampled(part("comfy.loading.loader").load_model(path))
    flags(force_channels_last=True)
    assert difference(sampled(part("comfy.loading.loader").load_model(path)), expected) < 1e-5


@pytest.mark.parametrize(("flag", "dtype", "most"), [
    ("fp32_vae", torch.float32, 1e-6), ("bf16_vae", torch.bfloat16, 0.05), ("fp16_vae", torch.float16, 0.01),
])  # fmt: skip
@pytest.mark.parametrize("cpu_vae", [False, True], ids=["", "cpu-vae"])
def test_a_streamed_decode_has_the_vaes_own_precision_and_device(
    models: Path, flags: Any, flag: str, dtype: torch.dtype, most: float, cpu_vae: bool
) -> None:
    flags(cpu_vae=cpu_vae, **{flag: True})
    state = comfy.utils.load_torch_file(str(models / "vae" / "tiny_wan_vae.safetensors"))
    vae = comfy.sd.VAE(sd=state)
    assert (vae.vae_dtype, vae.device) == (dtype, torch.device("cpu"))
    latents = torch.randn(1, 16, 5, 4, 4, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        decoder = part("comfy.vae.stream").StreamingDecoder(vae)
        frames = torch.cat([decoder.push(latents[:, :, :3]), decoder.push(latents[:, :, 3:], final=True)])
        whole = vae.decode(latents)[0]
        tiled = part("comfy.vae.frames").decode_video(vae, {"samples": latents}, "never")
    assert frames.dtype == torch.float32 and frames.shape == whole.shape
    assert (frames - whole.float()).abs().max() < most and torch.equal(tiled, whole)


def test_fp16_intermediates_hand_on_half_precision_and_sample_in_full(
    pack_nodes: dict[str, Any], bridge: ModuleType, model: Any, vae: Any, flags: Any
) -> None:
    empty = pack_nodes["SkyReelsV2EmptyLatent"]
    image = torch.rand(1, 32, 32, 3, generator=torch.Generator().manual_seed(0))
    args = {"size": {"size": "custom", "width": 32, "height": 32}, "frames": 9, "batch_size": 1}

    def run() -> list[torch.Tensor]:
        latent = empty.execute(**args).args[0]
        pinned = pack_nodes["SkyReelsV2KeyFrames"].execute(vae, latent, image).args[0]
        made = sampled(model, pinned["samples"])
        with torch.inference_mode():
            pictures = pack_nodes["SkyReelsV2VAEDecode"].execute({"samples": made}, vae, "never").args[0]
        film = long_video(bridge, model, vae, str(made.dtype), carry_over="frames").latents
        return [latent["samples"], pinned["samples"], made, pictures, part("comfy.host_flags").handed_on(film)]

    full = run()
    flags(fp16_intermediates=True)
    half = run()
    assert [tensor.dtype for tensor in full] == [torch.float32] * 5
    assert [tensor.dtype for tensor in half] == [torch.float16] * 5
    for one, other in zip(half[1:], full[1:], strict=True):
        assert difference(one, other) < 5e-3


@pytest.mark.usefixtures("strict")
@pytest.mark.parametrize("causal", [False, True], ids=["", "causal"])
def test_deterministic_finds_no_operation_that_is_not(bridge: ModuleType, model: Any, vae: Any, causal: bool) -> None:
    assert torch.equal(sampled(model, causal_attention=causal), sampled(model, causal_attention=causal))
    forcing = {"causal_attention": causal, "ar_step": 1, "causal_block_size": 2}
    films = [long_video(bridge, model, vae, name, forcing=forcing) for name in ("one", "two")]
    assert films[0].path.read_bytes() == films[1].path.read_bytes() and films[0].path != films[1].path


@pytest.mark.parametrize("kernel", ["attention_split", "attention_sub_quad", "attention_basic", "attention_pytorch"])
@pytest.mark.parametrize("upcast", [False, True], ids=["", "force-upcast-attention"])
def test_the_attention_that_a_flag_chooses_is_used_for_every_kind_of_block(
    models: Path, monkeypatch: pytest.MonkeyPatch, flags: Any, kernel: str, upcast: bool
) -> None:
    path = models / "diffusion_models" / "tiny_df.safetensors"
    model = part("comfy.loading.loader").load_model(path)
    settings_of_blocks = ({}, {"causal_attention": True}, {"causal_attention": True, "causal_block_size": 2})
    expected = [sampled(model, **forcing) for forcing in settings_of_blocks]
    flags(force_upcast_attention=upcast)
    function, calls = getattr(comfy.ldm.modules.attention, kernel), []

    def counted(*args: Any, **kwargs: Any) -> torch.Tensor:
        calls.append(kwargs.get("mask"))
        return function(*args, **kwargs)

    monkeypatch.setattr(comfy.ldm.modules.attention, "optimized_attention", counted)
    model = part("comfy.loading.loader").load_model(path)
    for forcing, wanted in zip(settings_of_blocks, expected, strict=True):
        before = len(calls)
        assert difference(sampled(model, **forcing), wanted) < 1e-4
        assert len(calls) > before
    assert not any(mask is not None for mask in calls), "a mask would be wrong with some of them"


@pytest.mark.parametrize("reserved", [0, 10**9])
def test_reserve_vram_is_kept_free_on_the_device_but_not_in_main_memory(
    vae: Any, monkeypatch: pytest.MonkeyPatch, reserved: int
) -> None:
    monkeypatch.setattr(comfy.model_management, "EXTRA_RESERVED_VRAM", reserved)
    monkeypatch.setattr(comfy.model_management, "get_free_memory", lambda *_, **__: 3 * 10**9)
    spare = part("comfy.host_flags").spare_memory
    assert spare(torch.device("meta")) == 3 * 10**9 - reserved
    assert spare(torch.device("cpu")) == 3 * 10**9
    monkeypatch.setattr(vae, "memory_used_decode", lambda shape, dtype: 25 * 10**8)
    monkeypatch.setattr(comfy.model_management, "load_models_gpu", lambda *_, **__: None)
    monkeypatch.setattr(vae, "device", torch.device("meta"))
    assert part("comfy.vae.frames").fits_memory(vae, torch.zeros(1, 16, 1, 4, 4)) is (reserved == 0)
