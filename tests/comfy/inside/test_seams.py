"""What people add: done here as they would, each in the one place that docs/architecture.md names.

A model of other latents is in test_geometry.py; kinds of files, solvers' formulas and languages are in tests/wan_core.
"""

from __future__ import annotations

import asyncio
import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import av
import pytest
import torch
from comfy_api.latest import io
from long_scene import conditioning, frames_of, make, settings
from long_scene import inputs as long_inputs
from sampling_scene import module

SAMPLED = {
    "seed": 3, "steps": 3, "cfg": 2.0, "shift": 5.0, "fps": 24, "ar_step": 1, "causal_block_size": 1,
    "causal_attention": False, "addnoise_condition": 20, "window_frames": 0,
}  # fmt: skip


def options_of(node: Any, name: str) -> list[str]:
    return next(entry.options for entry in node.define_schema().inputs if entry.id == name)


def test_a_solver_is_one_entry(pack_nodes: dict[str, Any], model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    solvers = module("sampling.solvers").SOLVERS
    monkeypatch.setitem(solvers, "twin", solvers["euler"])
    sampler, texts = pack_nodes["SkyReelsV2Sampler"], {"positive": conditioning(1), "negative": conditioning(2)}
    for name in ("Sampler", "SamplerSelect", "LongVideo", "ExtendVideo", "RollingSampler"):
        assert "twin" in options_of(pack_nodes["SkyReelsV2" + name], "solver")
    made = []
    for solver in ("euler", "twin"):
        latent = {"samples": torch.zeros(1, 16, 3, 4, 4)}
        with torch.inference_mode():
            out = sampler.execute(model=model, latent=latent, solver=solver, **texts, **SAMPLED).args[0]
        made.append(out["samples"])
    assert torch.equal(*made)


def test_a_carry_over_is_one_class(
    pack_nodes: dict[str, Any], bridge: ModuleType, model: Any, vae: Any, output_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    ways, windows = module("long.carry_over"), list[int]()

    class Faded(ways.Latents):  # type: ignore[name-defined, misc]
        """Half as strong as they were."""

        about = "half as strong"

        def tail(self, window: torch.Tensor, plan: Any) -> torch.Tensor:
            windows.append(window.shape[2])
            return window[:, :, -plan.overlap :] * 0.5

    monkeypatch.setitem(ways.CARRY_OVERS, "faded", Faded)
    for name in ("LongVideo", "ExtendVideo"):
        assert "faded" in options_of(pack_nodes["SkyReelsV2" + name], "carry_over")
        (tooltip,) = [
            entry.tooltip
            for entry in pack_nodes["SkyReelsV2" + name].define_schema().inputs
            if entry.id == "carry_over"
        ]
        assert tooltip.endswith("faded: half as strong.")
    usual, faded = (
        frames_of(make(bridge, long_inputs(bridge, model, vae), settings(bridge, codec="ffv1", **chosen)).path)
        for chosen in ({}, {"carry_over": "faded"})
    )
    assert windows == [6, 6] and (usual[:17] == faded[:17]).all() and (usual[25:] != faded[25:]).any()
    with pytest.raises(ValueError, match='carry_over is "lost", but it has to be one of latents, frames, faded'):
        settings(bridge, carry_over="lost").planned()


def test_a_codec_is_one_entry(
    pack_nodes: dict[str, Any], bridge: ModuleType, model: Any, vae: Any, output_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    codecs = module("video.codecs")
    motion_jpeg = codecs.Codec("mjpeg", ".mkv", "yuvj420p", options={"qscale": "2"})
    monkeypatch.setitem(codecs.CODECS, "motion jpeg", motion_jpeg)
    assert "motion jpeg" in options_of(pack_nodes["SkyReelsV2LongVideo"], "codec")
    made = make(bridge, long_inputs(bridge, model, vae), settings(bridge, codec="motion jpeg"))
    assert frames_of(made.path).shape == (46, 32, 32, 3)
    with av.open(str(made.path)) as container:
        assert container.streams.video[0].codec_context.name == "mjpeg"


def test_a_node_is_a_class_and_its_line_in_the_list(pack: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    class SkyReelsV2Frames(io.ComfyNode):
        """How many latent frames a length has."""

        @classmethod
        def define_schema(cls) -> io.Schema:
            return io.Schema(
                "SkyReelsV2Frames", category="SkyReels-V2", inputs=[io.Int.Input("frames")], outputs=[io.Int.Output()]
            )

        @classmethod
        def execute(cls, frames: int) -> io.NodeOutput:
            return io.NodeOutput(module("model.geometry").WAN21.latent_frames(frames))

    nodes = importlib.import_module(f"{pack.__name__}.nodes")
    monkeypatch.setattr(nodes, "NODES", [*nodes.NODES, SkyReelsV2Frames])
    listed = asyncio.run(asyncio.run(pack.comfy_entrypoint()).get_node_list())
    node = next(each for each in listed if each.GET_SCHEMA().node_id == "SkyReelsV2Frames")
    assert node.execute(97).args == (25,)
