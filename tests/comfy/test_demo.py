"""The embedded models through the shipped graphs in a real server, and the same models through wan_core alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from demo.generate import LATENT_SHAPE, Settings, make_latents
from demo.measure import look, psnr
from demo.models import Models, load_models
from demo.run import DemoSettings, make_frames
from demo.vae import decode
from tests.comfy.host import Host
from tools.templates import template
from tools.workflow_prompt import changed, load_workflow, to_prompt

pytestmark = pytest.mark.newest_host


@pytest.fixture(scope="module")
def models() -> Models:
    return load_models()


def shipped(name: str, host: Host, **changes: Any) -> dict[str, dict[str, Any]]:
    """Return the prompt of a shipped graph, with some widgets changed wherever they are."""
    prompt = to_prompt(load_workflow(template(name)), host.object_info())
    return changed(prompt, **changes)


def frames_of(host: Host, prompt: dict[str, dict[str, Any]], images: list[Any]) -> torch.Tensor:
    """Run a prompt and return the frames of one of its outputs, before any codec."""
    prompt["dump"] = {"class_type": "SkyReelsV2TestDump", "inputs": {"value": images, "name": "frames"}}
    files: list[Path] = [path for paths in host.run(prompt, timeout=600).outputs.values() for path in paths]
    return load_file(next(path for path in files if path.suffix == ".safetensors"))["tensor"]


def node_of(prompt: dict[str, dict[str, Any]], kind: str) -> str:
    """Return the number of the one node of a kind."""
    (number,) = [number for number, node in prompt.items() if node["class_type"] == kind]
    return number


def test_the_demo_graph_makes_the_frames_that_wan_core_makes_alone(host: Host, models: Models) -> None:
    prompt = shipped("Demo Text to Video", host)
    sampler = prompt[node_of(prompt, "SkyReelsV2Sampler")]["inputs"]
    text = prompt[node_of(prompt, "SkyReelsV2TextEncode")]["inputs"]["prompt"]
    made = frames_of(host, prompt, [node_of(prompt, "SkyReelsV2VAEDecode"), 0])
    channels, rows, columns = LATENT_SHAPE
    generator = torch.Generator().manual_seed(sampler["seed"])  # the noise that ComfyUI's samplers begin with
    noise = torch.randn(1, channels, 10, rows, columns, generator=generator)
    settings = Settings(sampler["steps"], sampler["cfg"], sampler["shift"])
    alone = decode(models.vae, make_latents(models, [text], noise, settings))[0]
    assert made.shape == alone.shape == (37, 64, 64, 3)
    assert psnr(made, alone) > 40
    assert look(made, 24).background == "black"


def test_a_long_demo_video_has_the_frames_that_wan_core_makes_alone(host: Host, models: Models) -> None:
    prompt = shipped("Demo Loop", host, loop=False, total_frames=81, overlap_history=17, codec="ffv1")
    video = node_of(prompt, "SkyReelsV2LongVideo")
    inputs = prompt[video]["inputs"]
    prompt["parts"] = {"class_type": "GetVideoComponents", "inputs": {"video": [video, 0]}}
    del prompt[node_of(prompt, "SaveVideo")]
    made = frames_of(host, prompt, ["parts", 0])
    text = prompt[node_of(prompt, "SkyReelsV2TextEncode")]["inputs"]["prompt"]
    how = Settings(inputs["steps"], inputs["cfg"], inputs["shift"])
    alone = make_frames(models, DemoSettings(text, 81, inputs["seed"], how))
    assert made.shape == alone.shape == (81, 64, 64, 3)
    assert psnr(made, alone) > 40
