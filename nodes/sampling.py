"""Nodes that sample: diffusion forcing in one node, and its parts for core's custom sampling."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..wan_core.comfy.sampling.generate import generate
from ..wan_core.comfy.sampling.guided import Guidance
from ..wan_core.comfy.sampling.sampler import DiffusionForcingSampler
from ..wan_core.sampling.run import ForcingOptions
from ..wan_core.sampling.sigmas import flow_sigmas, parse_timesteps, warped_sigmas
from .aliases import ALIASES
from .inputs import forcing_inputs, moving_window_input, seed_and_cfg, shown_first, steps_and_shift, timesteps_input


class SkyReelsV2Sampler(io.ComfyNode):
    """Diffusion forcing in one node."""

    @classmethod
    @shown_first("seed", "steps", "cfg", "shift")
    def define_schema(cls) -> io.Schema:
        """Name the inputs and outputs."""
        (seed, cfg), (steps, shift) = seed_and_cfg(), steps_and_shift()
        return io.Schema(
            node_id="SkyReelsV2Sampler",
            display_name="SkyReels-V2 Diffusion Forcing Sampler",
            search_aliases=ALIASES["SkyReelsV2Sampler"],
            category="SkyReels-V2",
            description="Makes a latent video with diffusion forcing: every latent frame has its own noise level, "
            "so frames can be known, made together or one block after the other.",
            inputs=[
                io.Model.Input("model", tooltip="A SkyReels-V2-DF model; other Wan 2.1 models run too."),
                io.Conditioning.Input("positive", tooltip="The encoded prompt."),
                io.Conditioning.Input("negative", tooltip="The encoded negative prompt; not used at cfg 1."),
                io.Latent.Input("latent", tooltip="Empty latent, or one with pinned start, end or key frames."),
                seed,
                steps,
                cfg,
                shift,
                *forcing_inputs(),
                moving_window_input(),
            ],
            outputs=[io.Latent.Output("latent", display_name="latent", tooltip="The finished latent video.")],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        positive: Any,
        negative: Any,
        latent: Any,
        seed: int,
        steps: int,
        cfg: float,
        shift: float,
        **forcing: Any,
    ) -> io.NodeOutput:
        """Sample the video."""
        options = ForcingOptions(**forcing)
        guidance = Guidance(model, positive, negative, cfg)
        return io.NodeOutput(generate(guidance, latent, seed, flow_sigmas(steps, shift), options))


class SkyReelsV2SamplerSelect(io.ComfyNode):
    """Diffusion forcing as a SAMPLER."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Name the inputs and outputs."""
        return io.Schema(
            node_id="SkyReelsV2SamplerSelect",
            display_name="SkyReels-V2 Diffusion Forcing (SAMPLER)",
            search_aliases=ALIASES["SkyReelsV2SamplerSelect"],
            category="SkyReels-V2",
            description="Diffusion forcing for SamplerCustomAdvanced: choose noise, guider and sigmas freely.",
            inputs=[*forcing_inputs(), moving_window_input()],
            outputs=[io.Sampler.Output("sampler", display_name="sampler", tooltip="For SamplerCustomAdvanced.")],
        )

    @classmethod
    def execute(cls, **forcing: Any) -> io.NodeOutput:
        """Make the sampler."""
        return io.NodeOutput(DiffusionForcingSampler(ForcingOptions(**forcing)))


class SkyReelsV2Sigmas(io.ComfyNode):
    """The authors' noise schedule as SIGMAS."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Name the inputs and outputs."""
        return io.Schema(
            node_id="SkyReelsV2Sigmas",
            display_name="SkyReels-V2 Sigmas",
            search_aliases=ALIASES["SkyReelsV2Sigmas"],
            category="SkyReels-V2",
            description="The noise schedule of SkyReels-V2 for SamplerCustomAdvanced.",
            inputs=[
                *steps_and_shift(),
                timesteps_input(
                    "",
                    "Timesteps before the shift, in place of steps: what a few-step model was distilled with, for "
                    "example 1000, 750, 500, 250. Empty: as many as steps says.",
                    optional=True,
                ),
            ],
            outputs=[io.Sigmas.Output("sigmas", display_name="sigmas", tooltip="Falling from 1 to 0.")],
        )

    @classmethod
    def execute(cls, steps: int, shift: float, timesteps: str = "") -> io.NodeOutput:
        """Make the schedule."""
        if timesteps.strip():
            return io.NodeOutput(warped_sigmas(parse_timesteps(timesteps), shift))
        return io.NodeOutput(flow_sigmas(steps, shift))
