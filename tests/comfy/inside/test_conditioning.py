"""What core's own nodes put into CONDITIONING: read as core's Wan reads it, or refused.

docs/neighbours.md lists the nodes of NODES and their outcomes; ../../docs/test_neighbours.py compares the two.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import comfy.clip_vision
import comfy.controlnet
import pytest
import torch
from conditioning_scene import (
    APART,
    SHAPE,
    conditioning,
    euler,
    files,
    forcing,
    load,
    no_work,
    sample,
)  # fmt: skip
from long_scene import prompts, settings
from measures import relative_error
from sampling_scene import module

__all__ = ["files", "no_work"]  # fixtures

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
        made = node.execute(**chosen).args
    return made[0], made[1] if "negative" in wanted else conditioning(2)


def refusals(model: Any, core: Any, positive: list[Any], negative: list[Any], vae: Any) -> list[str]:
    """What every way to sample says before the transformer is called: ours and core's sampler, core's MODEL in ours,
    a rolling and a long video."""
    rolling, long_video = module("comfy.sampling.rolling"), module("comfy.long.long_video")
    options = rolling.RollingOptions(torch.tensor([0.999, 0.5, 0.0]), 1, module("long.rolling").Window(4), "euler")
    given = long_video.Inputs(model=model, vae=vae, prompts=prompts([positive]), negative=negative)
    guidance = module("comfy.sampling.guided").Guidance(model, positive, negative, 4.0)
    ways: list[Callable[[], Any]] = [
        lambda: sample(model, forcing(), positive, negative),
        lambda: sample(model, euler(), positive, negative),
        lambda: sample(core, forcing(), positive, negative),
        lambda: rolling.roll(guidance, {"samples": torch.zeros(SHAPE)}, 3, options),
        lambda: given.check(settings(long_video)),
    ]
    said = []
    for way in ways:
        with pytest.raises(ValueError) as refused:
            way()
        said.append(str(refused.value))
    return said


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
    model, long_video, rolling = load(files), module("comfy.long.long_video"), module("comfy.sampling.rolling")
    given = long_video.Inputs(model=model, vae=vae, prompts=prompts([positive]), negative=negative)
    guidance = module("comfy.sampling.guided").Guidance(model, positive, negative, 4.0)
    with pytest.raises(ValueError, match="made in segments"):
        given.check(settings(long_video))
    options = rolling.RollingOptions(torch.tensor([0.999, 0.5, 0.0]), 1, module("long.rolling").Window(4), "euler")
    with pytest.raises(ValueError, match="one block after the other"):
        rolling.roll(guidance, {"samples": torch.zeros(SHAPE)}, 3, options)


def test_the_table_knows_every_key_that_cores_wan_nodes_write(pack: ModuleType) -> None:
    table = module("comfy.sampling.conditioning")
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
