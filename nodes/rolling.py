"""The node that makes a video of any length block after block, with causal models of few steps."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..wan_core.comfy.loading.own_transformer import on_own_transformer
from ..wan_core.comfy.sampling.guided import Guidance
from ..wan_core.comfy.sampling.rolling import RollingOptions, roll
from ..wan_core.long.rolling import Window
from ..wan_core.sampling.sigmas import parse_timesteps, warped_sigmas
from ..wan_core.sampling.solvers import SOLVERS
from .aliases import ALIASES
from .inputs import SOLVER_TOOLTIP, negative_input, seed_and_cfg, shown_first, timesteps_input
from .method import TIMESTEPS, budget_input, chunk_inputs, shift_input

FIRST = ("seed", "timesteps", "shift", "cfg", "chunk_frames", "window_frames", "sink_frames")


class SkyReelsV2RollingSampler(io.ComfyNode):
    """A video of any length, chunk after chunk."""

    @classmethod
    @shown_first(*FIRST)
    def define_schema(cls) -> io.Schema:
        """Name the inputs and outputs."""
        seed, _ = seed_and_cfg()
        return io.Schema(
            node_id="SkyReelsV2RollingSampler",
            display_name="SkyReels-V2 Rolling Sampler",
            search_aliases=ALIASES["SkyReelsV2RollingSampler"],
            category="SkyReels-V2",
            description="Makes a latent video of any length, chunk after chunk, with a causal model (Self Forcing, "
            "CausVid, Causal Forcing, LongLive). Time and memory of a chunk stay the same however long it gets.",
            inputs=[
                io.Model.Input(
                    "model", tooltip="A causal Wan 2.1 model, from SkyReels-V2 Model Loader or Load Diffusion Model."
                ),
                io.Conditioning.Input("positive", tooltip="The encoded prompt."),
                negative_input(),
                io.Latent.Input(
                    "latent", tooltip="Empty latent of any length; frames pinned at the start are continued."
                ),
                io.Sigmas.Input(
                    "sigmas", optional=True, tooltip="A noise schedule of its own, in place of timesteps and shift."
                ),
                seed,
                timesteps_input("1000, 750, 500, 250", TIMESTEPS),
                shift_input(),
                io.Float.Input(
                    "cfg",
                    default=1.0,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    round=0.01,
                    tooltip="Guidance towards the prompt. 1 (off) for distilled models; others need about 4 to 6, "
                    "which takes twice the time and a second cache.",
                ),
                *chunk_inputs(),
                io.Combo.Input("solver", options=list(SOLVERS), default="lcm", tooltip=SOLVER_TOOLTIP),
                io.Int.Input(
                    "fps",
                    default=24,
                    min=1,
                    max=120,
                    tooltip="Frames per second the model aims at. Only DF-1.3B reads it: 16 has weights of its own, "
                    "anything else counts as 24.",
                ),
                budget_input(),
            ],
            outputs=[io.Latent.Output("latent", display_name="latent", tooltip="The finished latent video.")],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        positive: Any,
        latent: Any,
        seed: int,
        timesteps: str,
        shift: float,
        cfg: float,
        chunk_frames: int,
        window_frames: int,
        sink_frames: int,
        solver: str,
        fps: int,
        negative: Any = None,
        sigmas: Any = None,
        kv_budget: float = 1.0,
    ) -> io.NodeOutput:
        """Make the video."""
        levels = warped_sigmas(parse_timesteps(timesteps), shift) if sigmas is None else sigmas
        window = Window(window_frames, sink_frames, kv_budget)
        options = RollingOptions(levels, chunk_frames, window, solver, fps)
        return io.NodeOutput(roll(Guidance(on_own_transformer(model), positive, negative, cfg), latent, seed, options))
