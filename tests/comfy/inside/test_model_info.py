"""SkyReels-V2 Model Info on MODELs of our loader, of core's and of a loader that notes no file."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import comfy.model_detection
import comfy.model_patcher
import comfy.sd
import comfy.utils
import pytest
import torch
from conftest import TESTS, load_module
from safetensors.torch import save_file

tiny_models = load_module("tiny_models", TESTS / "tiny_models.py")


def part(pack: ModuleType, name: str) -> Any:
    return importlib.import_module(f"{pack.__name__}.wan_core.{name}")


def marked_file(folder: Path, variant: str, **shapes: Any) -> Path:
    """A tiny file that says by its marker key which released model it is."""
    tensors = tiny_models.random_tensors(tiny_models.transformer_shapes(**shapes))
    tensors[f"model_type.SkyReels-V2-{variant}"] = torch.zeros(1)
    save_file(tensors, folder / "marked.safetensors")
    return folder / "marked.safetensors"


@pytest.fixture
def info(pack_nodes: dict[str, Any]) -> Any:
    """The node's outputs by name."""
    node = pack_nodes["SkyReelsV2ModelInfo"]
    names = [entry.id for entry in node.GET_SCHEMA().outputs]

    def run(model: Any, variant: str = "auto", mode: str = "auto") -> dict[str, Any]:
        return dict(zip(names, node.execute(model, variant, mode).args, strict=True))

    return run


def with_lora(patcher: Any, models: Path) -> Any:
    lora = comfy.utils.load_torch_file(str(models / "loras" / "tiny_lora.safetensors"))
    return comfy.sd.load_lora_for_models(patcher, None, lora, 0.5, 0)[0]


def test_the_marker_of_the_file_is_known_behind_clones_loras_and_patches(
    pack: ModuleType, models: Path, tmp_path: Path, info: Any
) -> None:
    path = marked_file(tmp_path, "DF-14B-720P", fps=False)
    patched = with_lora(part(pack, "comfy.loading.loader").load_model(path), models).clone()
    patched.set_model_sampler_post_cfg_function(lambda args: args["denoised"])
    found = info(patched.clone())
    text = found.pop("info")
    assert found == {
        "width": 1280,
        "height": 720,
        "base_num_frames": 121,
        "steps": 30,
        "shift": 8.0,
        "cfg": 6.0,
        "fps": 24,
        "ar_step": 0,
        "causal_block_size": 1,
    }
    assert text.startswith("SkyReels-V2 DF-14B-720P (named by its marker key)\nmarked.safetensors: float32\n")
    assert "Recommended for text to video: 1280x720, 121 video frames at 24 fps, shift 8, cfg 6" in text


def test_cores_model_is_known_by_the_file_that_it_came_from(models: Path, tmp_path: Path, info: Any) -> None:
    core = with_lora(comfy.sd.load_diffusion_model(str(marked_file(tmp_path, "T2V-14B-540P", fps=False))), models)
    assert info(core)["info"].startswith("SkyReels-V2 T2V-14B-540P (named by its marker key)")
    assert info(core, "T2V-14B-720P")["base_num_frames"] == 121


def test_core_and_our_loader_tell_what_became_of_the_frame_rate(pack: ModuleType, tmp_path: Path, info: Any) -> None:
    path = marked_file(tmp_path, "DF-1.3B-540P")
    ours, core = part(pack, "comfy.loading.loader").load_model(path), comfy.sd.load_diffusion_model(str(path))
    attached = part(pack, "comfy.loading.frame_rate").attach_frame_rate(core, path, 16)
    variant = "DF-1.3B-540P"
    assert "chosen by the sampler's fps" in info(ours)["info"]
    assert "attached for 16 fps" in info(attached, variant)["info"]
    dropped = "dropped by the loader of this MODEL (add SkyReels-V2 Attach FPS Weights)"
    assert dropped in info(core, variant)["info"]
    assert dropped in info(core)["info"]


@pytest.mark.parametrize(
    ("variant", "mode", "wanted"),
    [
        ("DF-1.3B-540P", "auto", ("text to video", 960, 544, 97, 8.0, 6.0, 0, 1)),
        ("DF-14B-540P", "image to video", ("image to video", 960, 544, 97, 5.0, 5.0, 0, 1)),
        ("DF-14B-720P", "async", ("async", 1280, 720, 121, 8.0, 6.0, 5, 5)),
        ("T2V-14B-720P", "text to video", ("text to video", 1280, 720, 121, 8.0, 6.0, 0, 1)),
    ],
)
def test_the_widgets_decide_where_no_file_tells(
    pack: ModuleType, models: Path, info: Any, variant: str, mode: str, wanted: tuple[Any, ...]
) -> None:
    tensors = comfy.utils.load_torch_file(str(models / "diffusion_models" / "tiny_df_nofps.safetensors"))
    pathless = comfy.sd.load_diffusion_model_state_dict(tensors)
    found = info(pathless, variant, mode)
    names = ("width", "height", "base_num_frames", "shift", "cfg", "ar_step", "causal_block_size")
    assert tuple(found[name] for name in names) == wanted[1:]
    assert f"SkyReels-V2 {variant}\nthe MODEL does not say which file it is from" in found["info"]
    assert f"Recommended for {wanted[0]}:" in found["info"]
    assert ("\nno frame-rate weights\n" in found["info"]) == (variant != "DF-1.3B-540P")


def test_an_image_to_video_model_gets_its_own_settings(pack: ModuleType, models: Path, info: Any) -> None:
    path = models / "diffusion_models" / "tiny_i2v.safetensors"
    for model in (part(pack, "comfy.loading.loader").load_model(path), comfy.sd.load_diffusion_model(str(path))):
        found = info(model, "I2V-14B-540P")
        assert (found["shift"], found["cfg"], found["base_num_frames"]) == (5.0, 5.0, 97)
        assert "Recommended for image to video" in found["info"]
        with pytest.raises(ValueError, match="released for image to video: choose that mode"):
            info(model, "I2V-14B-540P", "text to video")
        with pytest.raises(ValueError, match=r"variant chosen is DF-14B-540P, but the model has .* 36 input channels"):
            info(model, "DF-14B-540P")


def test_a_model_that_nothing_tells_apart_is_asked_about(pack: ModuleType, info: Any) -> None:
    """The shapes of DF-14B and T2V-14B, on the meta device: a MODEL without weights, as core holds it."""
    config = part(pack, "model.config").PRESETS["DF-14B-540P"].config
    with torch.device("meta"):
        tensors = {name: torch.empty(shape, dtype=torch.bfloat16) for name, shape in config.parameter_shapes().items()}
    found = comfy.model_detection.model_config_from_unet(tensors, "")
    built = part(pack, "comfy.loading.model_info")
    with torch.device("meta"):
        model = found.get_model(tensors, "", device="meta")
    patcher = comfy.model_patcher.ModelPatcher(model, torch.device("cpu"), torch.device("cpu"), size=1)
    assert built.config_of(patcher) == config
    with pytest.raises(ValueError, match=r"SkyReels-V2 T2V, Wan 2.1 or Wan 2.2\); choose its name"):
        info(patcher)
    assert info(patcher, "DF-14B-720P")["width"] == 1280
    with pytest.raises(ValueError, match=r"variant chosen is DF-1.3B-540P, but the model has 40 layers x 5120"):
        info(patcher, "DF-1.3B-540P")


def test_the_packs_own_demo_model_is_described_with_the_settings_of_its_templates(
    pack_nodes: dict[str, Any], info: Any
) -> None:
    model = pack_nodes["SkyReelsV2DemoModels"].execute().args[0]
    found = info(model.clone())
    text = found.pop("info")
    assert found == {
        "width": 64,
        "height": 64,
        "base_num_frames": 37,
        "steps": 25,
        "shift": 5.0,
        "cfg": 4.0,
        "fps": 24,
        "ar_step": 0,
        "causal_block_size": 1,
    }
    assert text.startswith("SkyReels-V2 Demo (by its shape)\nskyreels_v2_demo_df.safetensors: float16\n")
    assert "chosen by the sampler's fps" in text and "cfg 4, 25 steps" in text
    assert {**info(model, mode="image to video"), "info": ""} == {**found, "info": ""}
    assert (info(model, mode="async")["ar_step"], info(model, mode="async")["causal_block_size"]) == (5, 5)
    assert info(model, "DF-1.3B-540P")["width"] == 960  # as in workflows from before it had a name
