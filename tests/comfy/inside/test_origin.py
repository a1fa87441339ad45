"""Which model a MODEL is travels with it: nodes that need diffusion forcing say before work when it is another."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import folder_paths
import pytest
import torch
from safetensors.torch import load_file, save_file

import nodes

SHAPE = (1, 16, 5, 4, 4)
REFUSAL = "which was not trained with diffusion forcing, and {need} needs that"
T2V, WAN = "SkyReels-V2-T2V-14B-540P", "wan2.1_t2v_14B_bf16.safetensors"


def part(name: str) -> Any:
    return importlib.import_module(f"skyreels_v2.wan_core.{name}")


@pytest.fixture(scope="module")
def tensors(models: Path) -> dict[str, torch.Tensor]:
    return load_file(models / "diffusion_models" / "tiny_df_nofps.safetensors")


@pytest.fixture
def load(pack: ModuleType, tensors: dict[str, torch.Tensor], tmp_path: Path) -> Any:
    """Write the tiny model under a name and load it."""

    def run(name: str, *options: Any, marker: str = "", content: Any = None) -> Any:
        path = tmp_path / name
        if path.suffix == ".pt":
            torch.save(tensors if content is None else content(tensors), path)
        else:
            marked = {f"model_type.{marker}": torch.zeros(1)} if marker else {}
            save_file({**tensors, **marked}, path)
        return part("comfy.loading.loader").load_model(path, *options)

    return run


def conditioning(seed: int) -> list[Any]:
    return [[torch.randn(1, 12, 4096, generator=torch.Generator().manual_seed(seed)) * 0.3, {}]]


def sample(model: Any, known: int = 0, **options: Any) -> torch.Tensor:
    latent: dict[str, Any] = {"samples": torch.zeros(SHAPE)}
    if known:
        latent["noise_mask"] = torch.ones(1, 1, *SHAPE[2:])
        latent["noise_mask"][:, :, :known] = 0
    forcing = part("sampling.run").ForcingOptions(**options)
    guidance = part("comfy.sampling.guided").Guidance(model, conditioning(1), conditioning(2), 3.0)
    sigmas = part("sampling.sigmas").flow_sigmas(2, 5.0)
    with torch.inference_mode():
        return part("comfy.sampling.generate").generate(guidance, latent, 5, sigmas, forcing)["samples"]


NEEDS = {
    "async sampling (ar_step above 0)": {"ar_step": 1, "causal_block_size": 1},
    "causal attention": {"causal_attention": True},
    "a moving window (window_frames)": {"window_frames": 4, "ar_step": 1},
    "a latent with known frames (start, end or key images)": {"known": 1},
}


@pytest.mark.parametrize("need", NEEDS)
def test_a_text_to_video_model_is_refused_where_frames_have_levels_of_their_own(load: Any, need: str) -> None:
    for name, marker in (("model.safetensors", T2V), (WAN, "")):
        model = load(name, marker=marker)
        assert sample(model).isfinite().all()  # a whole clip at one level is what it was trained for
        with pytest.raises(ValueError) as refusal:
            sample(model.clone(), **NEEDS[need])
        assert REFUSAL.format(need=need) in str(refusal.value)


@pytest.mark.parametrize("need", NEEDS)
def test_the_models_that_can_and_those_that_nobody_knows_are_taken(load: Any, need: str) -> None:
    for marker in ("SkyReels-V2-DF-14B-540P", ""):
        assert sample(load("something.safetensors", marker=marker), **NEEDS[need]).isfinite().all()


@pytest.mark.parametrize("need", NEEDS)
def test_who_knows_better_says_so_in_the_loader(load: Any, need: str) -> None:
    model = load("model.safetensors", "default", "auto", "DF-14B-540P", marker=T2V)
    assert sample(model, **NEEDS[need]).isfinite().all()
    info = model.get_attachment("skyreels_v2_checkpoint")
    assert str(info.describe()).startswith("SkyReels-V2 DF-14B-540P (chosen in the loader)")


def test_a_model_of_cores_loader_is_known_by_its_file(
    pack: ModuleType, tensors: dict[str, torch.Tensor], models: Path
) -> None:
    save_file(tensors, models / "diffusion_models" / WAN)
    folder_paths.filename_list_cache.clear()
    model = nodes.UNETLoader().load_unet(WAN, "default")[0]
    with pytest.raises(ValueError, match=r"The model is Wan 2\.1 T2V 14B \(by the name of its file or folder\), which"):
        sample(model, ar_step=1)


def test_a_long_video_refuses_before_it_reads_anything(load: Any) -> None:
    check = part("comfy.model.origin").check_forcing
    need = part("words").words("Long Video")
    with pytest.raises(ValueError, match=r"The model is SkyReels-V2 T2V-14B-540P .* Long Video needs that"):
        check(load("model.safetensors", marker=T2V), need)
    with pytest.raises(ValueError, match="use SkyReels-V2 Rolling Sampler, which is made for it"):
        check(load("self_forcing_dmd.pt"), need)
    check(load("df.safetensors", marker="SkyReels-V2-DF-14B-540P"), need)


def test_a_self_forcing_file_goes_from_the_loader_to_the_rolling_sampler(load: Any) -> None:
    """The way that its authors publish it: a PyTorch file, names under generator_ema and model."""

    def nested(weights: dict[str, torch.Tensor]) -> Any:
        return {
            "generator": {f"model.{key}": torch.zeros_like(value) for key, value in weights.items()},
            "generator_ema": {f"model._fsdp_wrapped_module.{key}": value for key, value in weights.items()},
        }

    rolling, sigmas = part("comfy.sampling.rolling"), torch.tensor([1.0, 0.5, 0.0])
    options, latent = rolling.RollingOptions(sigmas), {"samples": torch.zeros(1, 16, 6, 4, 4)}
    guided = part("comfy.sampling.guided").Guidance
    made = {}
    for name, content in (("self_forcing_dmd.pt", nested), ("rolling_forcing.safetensors", None)):
        with torch.inference_mode():
            model = load(name, content=content)
            made[name] = rolling.roll(guided(model, conditioning(1), None, 1.0), latent, 3, options)["samples"]
    first, second = made.values()
    assert first.isfinite().all() and torch.equal(first, second)
    with pytest.raises(ValueError, match="the Rolling Sampler needs that"):
        rolling.roll(guided(load(WAN), conditioning(1), None, 1.0), latent, 3, options)
