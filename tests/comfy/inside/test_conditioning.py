"""What core's own nodes put into CONDITIONING and into a MODEL's patches: read as core's Wan reads it, or refused.

docs/neighbours.md lists the nodes of NODES and their outcomes; ../../docs/test_neighbours.py compares the two.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import logging
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import comfy.clip_vision
import comfy.controlnet
import comfy.model_patcher
import comfy.samplers
import comfy.sd
import pytest
import torch
from long_scene import prompts, settings
from sampling_scene import module, relative_error

SHAPE = (1, 16, 5, 4, 4)
SIGMAS = torch.tensor([0.999, 0.9, 0.7, 0.4, 0.1, 0.0])  # whole timesteps: core does not round them, we do
KEY_FRAMES, REFERENCE = "or load an image-to-video model", "Start/End/Key Frames, or remove the node"
OTHER_MODEL, REMOVE, READ = "made for with Load Diffusion Model", ": remove the node", "read"
# node: its module, what is done with what it puts into a CONDITIONING for a 16-channel model, and for one with 36
NODES: dict[str, tuple[str, str, str]] = {
    "WanImageToVideo": ("nodes_wan", KEY_FRAMES, READ),
    "WanFirstLastFrameToVideo": ("nodes_wan", KEY_FRAMES, READ),
    "WanFunInpaintToVideo": ("nodes_wan", KEY_FRAMES, READ),
    "WanFunControlToVideo": ("nodes_wan", KEY_FRAMES, READ),
    "WanTrackToVideo": ("nodes_wan", KEY_FRAMES, READ),
    "WanMoveTrackToVideo": ("nodes_wanmove", KEY_FRAMES, READ),
    "Wan22FunControlToVideo": ("nodes_wan", KEY_FRAMES, REFERENCE),
    "WanCameraImageToVideo": ("nodes_wan", KEY_FRAMES, OTHER_MODEL),
    "WanAnimateToVideo": ("nodes_wan", KEY_FRAMES, OTHER_MODEL),
    "WanAnimate2ToVideo": ("nodes_wan", KEY_FRAMES, OTHER_MODEL),
    "WanDancerVideo": ("nodes_wandancer", KEY_FRAMES, OTHER_MODEL),
    "WanPhantomSubjectToVideo": ("nodes_wan", READ, "load a 16-channel model"),
    "BerniniConditioning": ("nodes_bernini", READ, "load a 16-channel model"),
    "WanVaceToVideo": ("nodes_wan", OTHER_MODEL, OTHER_MODEL),
    "WanSoundImageToVideo": ("nodes_wan", OTHER_MODEL, OTHER_MODEL),
    "WanHuMoImageToVideo": ("nodes_wan", REFERENCE, REFERENCE),
    "WanSCAILToVideo": ("nodes_scail", REFERENCE, REFERENCE),
    "ReferenceLatent": ("nodes_edit_model", REFERENCE, REFERENCE),
}
# of these only some of what they can be given counts: what would be refused first is left away
LEFT_AWAY = {"WanFirstLastFrameToVideo": ("clip_vision_end_image",), "WanCameraImageToVideo": (), "WanVaceToVideo": ()}
NUMBERS = {  # that belong to a tensor which is refused, or say how one is read
    "concat_mask_index", "vace_strength", "reference_strength", "pose_strength", "ref_mask_flag", "audio_inject_scale",
    "fps",
}  # fmt: skip


def here(table: dict[str, Any]) -> list[str]:
    """The nodes that this host has."""
    return [name for name, (file, *_) in table.items() if node_class(name, file) is not None]


def node_class(name: str, file: str) -> Any:
    if importlib.util.find_spec(f"comfy_extras.{file}") is None:
        return None
    return getattr(importlib.import_module(f"comfy_extras.{file}"), name, None)


def conditioning(seed: int, **held: Any) -> list[Any]:
    return [[torch.randn(1, 12, 4096, generator=torch.Generator().manual_seed(seed)) * 0.3, held]]


def latents(frames: int = 1, seed: int = 9) -> torch.Tensor:
    return torch.randn(1, 16, frames, 4, 4, generator=torch.Generator().manual_seed(seed))


def clip_vision() -> Any:
    made = comfy.clip_vision.Output()
    made.penultimate_hidden_states = made.last_hidden_state = torch.randn(
        1, 257, 1280, generator=torch.Generator().manual_seed(4)
    )
    return made


def given_by(name: str, vae: Any) -> tuple[list[Any], list[Any]]:
    """Positive and negative as a node returns them, given all that it can be given."""
    image, video = torch.rand(1, 32, 32, 3), torch.rand(17, 32, 32, 3)
    sound = {
        "encoded_audio_all_layers": [torch.rand(1, 60, 1280) for _ in range(33)], "audio_samples": 16000,
        "audio_feature": torch.rand(1, 50, 35), "fps": 30.0,
    }  # fmt: skip
    values = {
        "positive": conditioning(1), "negative": conditioning(2), "conditioning": conditioning(1), "vae": vae,
        "width": 32, "height": 32, "length": 17, "batch_size": 1, "images": image, "control_video": video,
        "clip_vision_output": clip_vision(), "clip_vision_start_image": clip_vision(), "strength": 1.0,
        "clip_vision_output_ref": clip_vision(), "clip_vision_output_pose": clip_vision(), "camera_conditions":
        torch.rand(1, 24, 5, 32, 32), "audio_encoder_output": sound, "temperature": 220.0, "topk": 2,
        "tracks": "[[{\"x\": 4, \"y\": 4}, {\"x\": 20, \"y\": 20}]]", "continue_motion_max_frames": 5,
        "video_frame_offset": 0, "previous_frame_count": 5, "pose_strength": 0.5, "pose_start": 0.0, "pose_end": 1.0,
        "reference_image_strength": 0.5, "face_video": torch.rand(17, 512, 512, 3), "pose_video": video,
        "source_video": video, "reference_images": {"reference_image_0": image}, "latent": {"samples": latents()},
    }  # fmt: skip
    if name == "WanMoveTrackToVideo":
        values["tracks"] = {"track_path": torch.rand(17, 1, 2) * 32, "track_visibility": torch.ones(17, 1)}
    node = node_class(name, NODES[name][0])
    images = ("start_image", "end_image", "ref_image", "reference_image")
    wanted = inspect.signature(node.execute).parameters
    chosen = {key: image if key in images else values[key] for key in wanted if key in values or key in images}
    with torch.inference_mode():
        made = node.execute(**{key: value for key, value in chosen.items() if key not in LEFT_AWAY.get(name, ())}).args
    return made[0], made[1] if "negative" in wanted else conditioning(2)


@pytest.fixture
def files(models: Path) -> dict[str, Path]:
    folder = models / "diffusion_models"
    return {"16": folder / "tiny_df_nofps.safetensors", "36": folder / "tiny_i2v.safetensors"}


def load(files: dict[str, Path], channels: str = "16", ours: bool = True) -> Any:
    path = files[channels]
    return module("comfy.loader").load_model(path) if ours else comfy.sd.load_diffusion_model(str(path))


def sample(model: Any, sampler: Any, positive: list[Any], negative: list[Any], known: int = 0) -> torch.Tensor:
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(positive, negative)
    guider.set_cfg(4.0)
    noise = torch.randn(SHAPE, generator=torch.Generator().manual_seed(7))
    mask = torch.ones(1, 1, *SHAPE[2:])
    mask[:, :, :known] = 0
    with torch.inference_mode():
        return guider.sample(
            noise if isinstance(sampler, forcing_class()) else noise / SIGMAS[0], torch.zeros(SHAPE), sampler, SIGMAS,
            disable_pbar=True, seed=3, denoise_mask=mask if known else None,
        )  # fmt: skip


def forcing_class() -> Any:
    return module("comfy.sampler").DiffusionForcingSampler


def forcing(**options: Any) -> Any:
    return forcing_class()(module("comfy.run_plan").ForcingOptions(**{"solver": "euler", **options}))


def euler() -> Any:
    return comfy.samplers.ksampler("euler")


def refusals(model: Any, core: Any, positive: list[Any], negative: list[Any], vae: Any) -> list[str]:
    """What every way to sample says before the transformer is called: ours and core's sampler, core's MODEL in ours,
    a rolling and a long video."""
    rolling, long_video = module("comfy.rolling"), module("comfy.long_video")
    options = rolling.RollingOptions(torch.tensor([0.999, 0.5, 0.0]), 1, module("rolling").Window(4), "euler")
    given = long_video.Inputs(model=model, vae=vae, prompts=prompts([positive]), negative=negative)
    ways: list[Callable[[], Any]] = [
        lambda: sample(model, forcing(), positive, negative),
        lambda: sample(model, euler(), positive, negative),
        lambda: sample(core, forcing(), positive, negative),
        lambda: rolling.roll(model, positive, negative, {"samples": torch.zeros(SHAPE)}, 3, 4.0, options),
        lambda: given.check(settings(long_video)),
    ]
    said = []
    for way in ways:
        with pytest.raises(ValueError) as refused:
            way()
        said.append(str(refused.value))
    return said


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch, pack: ModuleType) -> None:
    """Nothing may be computed."""

    def called(*_: Any, **__: Any) -> None:
        raise AssertionError("the transformer was called")

    monkeypatch.setattr(module("model").WanModel, "forward", called)
    monkeypatch.setattr(importlib.import_module("comfy.ldm.wan.model").WanModel, "forward", called)


@pytest.mark.parametrize("name", here({name: row for name, row in NODES.items() if row[1] != READ}))
def test_a_text_to_video_model_refuses_what_it_does_not_read_before_any_work(
    pack: ModuleType, files: dict[str, Path], vae: Any, no_work: None, name: str
) -> None:
    positive, negative = given_by(name, vae)
    for said in refusals(load(files), load(files, ours=False), positive, negative, vae):
        assert NODES[name][1] in said and said.startswith("The positive conditioning holds "), said


@pytest.mark.parametrize("name", here({name: row for name, row in NODES.items() if row[2] not in (READ, REFERENCE)}))
def test_an_image_to_video_model_refuses_what_it_does_not_read_before_any_work(
    pack: ModuleType, files: dict[str, Path], vae: Any, no_work: None, name: str
) -> None:
    positive, negative = given_by(name, vae)
    for sampler in (euler(), forcing()):
        with pytest.raises(ValueError, match=NODES[name][2]):
            sample(load(files, "36"), sampler, positive, negative)


@pytest.mark.parametrize("name", here({name: row for name, row in NODES.items() if row[2] == READ}))
def test_an_image_to_video_model_reads_what_cores_own_reads(
    pack: ModuleType, files: dict[str, Path], vae: Any, name: str
) -> None:
    positive, negative = given_by(name, vae)
    assert {"concat_latent_image", "concat_mask"} & set(positive[0][1])
    expected = sample(load(files, "36", ours=False), euler(), positive, negative)
    for sampler in (euler(), forcing()):
        assert relative_error(sample(load(files, "36"), sampler, positive, negative), expected) < 1e-3


@pytest.mark.parametrize("name", here({name: row for name, row in NODES.items() if row[1] == READ}))
@pytest.mark.parametrize("loader", ["ours", "core's"])
def test_in_step_what_stands_beside_the_clip_is_read_as_core_reads_it(
    pack: ModuleType, files: dict[str, Path], vae: Any, loader: str, name: str
) -> None:
    positive, negative = given_by(name, vae)
    core = load(files, ours=False)
    expected = sample(core, euler(), positive, negative)
    model = load(files, ours=loader == "ours")
    assert relative_error(expected, sample(core, euler(), conditioning(1), conditioning(2))) > 5e-3
    assert relative_error(sample(model, euler(), positive, negative), expected) < 1e-3
    assert relative_error(sample(model, forcing(), positive, negative), expected) < 1e-3


APART = {
    "async": ({"ar_step": 1}, 0, "here each frame has its own"),
    "known frames": ({}, 1, "here each frame has its own"),
    "moving window": ({"ar_step": 2, "window_frames": 4}, 0, "a moving window"),
}


@pytest.mark.parametrize("name", here({name: row for name, row in NODES.items() if row[1] == READ}))
@pytest.mark.parametrize("way", [*APART, "causal"])
def test_what_stands_beside_the_clip_is_refused_where_frames_go_apart(
    pack: ModuleType, files: dict[str, Path], vae: Any, no_work: None, way: str, name: str
) -> None:
    positive, negative = given_by(name, vae)
    options, known, words = APART.get(way, ({"causal_attention": True}, 0, "turn causal_attention off"))
    with pytest.raises(ValueError, match=words):
        sample(load(files), forcing(**options), positive, negative, known)


@pytest.mark.parametrize("name", here({name: row for name, row in NODES.items() if row[1] == READ}))
def test_what_stands_beside_the_clip_is_refused_in_videos_made_piece_by_piece(
    pack: ModuleType, files: dict[str, Path], vae: Any, no_work: None, name: str
) -> None:
    positive, negative = given_by(name, vae)
    model, long_video, rolling = load(files), module("comfy.long_video"), module("comfy.rolling")
    given = long_video.Inputs(model=model, vae=vae, prompts=prompts([positive]), negative=negative)
    with pytest.raises(ValueError, match="made in segments"):
        given.check(settings(long_video))
    options = rolling.RollingOptions(torch.tensor([0.999, 0.5, 0.0]), 1, module("rolling").Window(4), "euler")
    with pytest.raises(ValueError, match="one block after the other"):
        rolling.roll(model, positive, negative, {"samples": torch.zeros(SHAPE)}, 3, 4.0, options)


def test_the_table_knows_every_key_that_cores_wan_nodes_write(pack: ModuleType) -> None:
    table = module("comfy.conditioning")
    known = {*table.UNREAD, *table.FOR_ALL_MODELS, *NUMBERS}
    folder = Path(importlib.import_module("comfy_extras").__path__[0])
    for file in ("nodes_wan", "nodes_bernini", "nodes_scail", "nodes_wanmove", "nodes_wandancer"):
        path = folder / f"{file}.py"
        for key, line in keys_written(path.read_text("utf-8")) if path.exists() else ():
            assert key in known, f"{file}.py:{line} puts {key} into CONDITIONING"


def keys_written(source: str) -> list[tuple[str, int]]:
    """The keys of the dicts in calls of `conditioning_set_values`, of those put into `pose_values`, and their lines."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "").startswith("conditioning_set_values"):
            dicts = [each for argument in node.args for each in ast.walk(argument) if isinstance(each, ast.Dict)]
            found += [(key.value, node.lineno) for each in dicts for key in each.keys if isinstance(key, ast.Constant)]
        if isinstance(node, ast.Subscript) and ast.unparse(node.value) == "pose_values":
            found.append((node.slice.value, node.lineno))
    assert found
    return found


@pytest.mark.parametrize(
    ("held", "words"),
    [
        ({"control": comfy.controlnet.ControlBase()}, "Apply ControlNet"),
        ({"gligen": ("position", None, [])}, "GLIGENTextBoxApply"),
        ({"unclip_conditioning": [{"clip_vision_output": 1}]}, "unCLIPConditioning"),
        ({"of_the_future": latents()}, "holds of_the_future, but this model doesn't read it"),
        ({"of_the_future": [{"deep": (latents(),)}]}, "holds of_the_future"),
        ({"of_the_future": SimpleNamespace(states=latents())}, "holds of_the_future"),
    ],
)
def test_what_is_for_other_models_is_refused_by_name(
    pack: ModuleType, files: dict[str, Path], no_work: None, held: dict[str, Any], words: str
) -> None:
    for sampler in (euler(), forcing()):
        with pytest.raises(ValueError, match=words):
            sample(load(files), sampler, conditioning(1, **held), conditioning(2))
    with pytest.raises(ValueError, match="negative conditioning.*" + words):
        sample(load(files), forcing(), conditioning(1), conditioning(2, **held))


def test_what_weighs_nothing_passes(pack: ModuleType, files: dict[str, Path]) -> None:
    plain = sample(load(files), forcing(), conditioning(1), conditioning(2))
    held = {
        "pooled_output": torch.ones(1, 8), "guidance": 3.5, "of_the_future": {"strength": [1.0], "name": "x"},
        "attention_mask": torch.ones(1, 12), "reference_latents": None, "strength": 1.0, "start_percent": 0.0,
    }  # fmt: skip
    assert torch.equal(sample(load(files), forcing(), conditioning(1, **held), conditioning(2)), plain)


def after_block(args: dict[str, Any]) -> dict[str, Any]:
    """A patch that uses all that it is shown."""
    change = args["vec"].mean() + args["x"].mean() + 0.1 * args["block_index"] + args["img_offset"]
    assert args["x"].shape[1] == 16 and args["vec"].shape[-1] == 256 and "grid_sizes" in args["transformer_options"]
    return {**args, "img": args["img"] * (1.1 + 0.1 * change)}


def after_attention(args: dict[str, Any]) -> torch.Tensor:
    """A patch that uses queries and keys by head, as MultiTalk's does."""
    batch, tokens, heads, width = args["q"].shape
    assert heads * width == args["x"].shape[-1] and args["k"].shape == (batch, tokens, heads, width)
    return args["x"] * (1 + 0.1 * args["q"].norm(dim=-1).mean())


PATCHES: dict[str, tuple[str, Callable[..., Any]]] = {
    "double_block": ("set_model_double_block_patch", after_block),
    "attn1_patch": ("set_model_attn1_patch", after_attention),
    "attn2_patch": ("set_model_attn2_patch", lambda args: args["x"] * 1.1),
}


def patched(model: Any, name: str) -> Any:
    model, (setter, patch) = model.clone(), PATCHES[name]
    getattr(model, setter)(patch)
    return model


def read_by_core(name: str) -> bool:
    return f'"{name}"' in inspect.getsource(importlib.import_module("comfy.ldm.wan.model"))


@pytest.mark.parametrize("name", [name for name in PATCHES if read_by_core(name)])
def test_in_step_patches_do_what_they_do_in_cores_transformer(
    pack: ModuleType, files: dict[str, Path], name: str
) -> None:
    given = conditioning(1), conditioning(2)
    core = load(files, ours=False)
    expected = sample(patched(core, name), euler(), *given)
    assert relative_error(expected, sample(core, euler(), *given)) > 5e-3
    for model, sampler in ((load(files), euler()), (load(files), forcing()), (core, forcing())):
        assert relative_error(sample(patched(model, name), sampler, *given), expected) < 1e-3


@pytest.mark.parametrize("way", APART)
def test_patches_after_blocks_are_refused_where_frames_go_apart(
    pack: ModuleType, files: dict[str, Path], no_work: None, way: str
) -> None:
    options, known, words = APART[way]
    with pytest.raises(ValueError, match="WanUni3CControlnetApply.*" + words):
        sample(patched(load(files), "double_block"), forcing(**options), conditioning(1), conditioning(2), known)


def test_the_uni3c_node_finds_the_width_of_our_transformer(pack: ModuleType, files: dict[str, Path]) -> None:
    assert load(files).get_model_object("diffusion_model").dim == 256


def test_patches_that_no_wan_model_reads_are_named(
    pack: ModuleType, files: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    model, given = load(files), (conditioning(1), conditioning(2))
    plain = sample(model, euler(), *given)
    assert not caplog.records or "don't read these patches" not in caplog.text
    deaf = model.clone()
    deaf.set_model_attn1_output_patch(lambda out, options: out * 2)
    deaf.set_model_attn1_replace(lambda *args, **kwargs: None, "middle", 0)
    with caplog.at_level(logging.WARNING):
        assert torch.equal(sample(deaf, euler(), *given), plain)
    assert "don't read these patches: attn1, attn1_output_patch" in caplog.text
