"""Nodes that sample: diffusion forcing in one node, and its parts for core's custom sampling."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..wan_core.comfy.generate import generate
from ..wan_core.comfy.sampler import DiffusionForcingSampler, ForcingOptions
from ..wan_core.sampling import flow_sigmas
from ..wan_core.solvers import SOLVERS


def steps_and_shift() -> list[Any]:
    """Return the inputs of the noise schedule."""
    return [
        io.Int.Input(
            "steps", default=30, min=1, max=1000, tooltip="Denoising steps of a frame; the authors use 30 to 50."
        ),
        io.Float.Input(
            "shift",
            default=8.0,
            min=0.1,
            max=100.0,
            step=0.1,
            tooltip="Shift of the noise schedule towards high noise: 8 for text to video, 5 for image to video.",
        ),
    ]


def forcing_inputs() -> list[Any]:
    """Return the inputs that diffusion forcing adds to an ordinary sampler."""
    return [
        io.Combo.Input(
            "solver", options=list(SOLVERS), default="unipc", tooltip="unipc: the authors' (order 2). euler: order 1."
        ),
        io.Int.Input(
            "fps",
            default=24,
            min=1,
            max=120,
            tooltip="Frames per second the model aims at. Only DF-1.3B reads it: 16 has weights of its own, anything "
            "else counts as 24.",
        ),
        io.Int.Input(
            "ar_step",
            default=0,
            min=0,
            max=1000,
            tooltip="Steps that each block of frames lags behind the one before. 0: all frames together (sync). The "
            "authors' async setting is 5 with causal_block_size 5; it takes more model calls.",
        ),
        io.Int.Input(
            "causal_block_size",
            default=1,
            min=1,
            max=256,
            tooltip="Latent frames (4 video frames each) that are denoised together when ar_step is above 0 or "
            "causal_attention is on. A length that does not fit is padded and cut again.",
        ),
        io.Boolean.Input(
            "causal_attention",
            default=False,
            tooltip="A block sees only itself and the blocks before it. Off is what the authors show.",
        ),
        io.Int.Input(
            "addnoise_condition",
            default=20,
            min=0,
            max=999,
            tooltip="Noise on known frames, in timesteps of 1000: 20 lets them blend with what is made, more than 50 "
            "loses them, 0 keeps them exact.",
        ),
    ]


class SkyReelsV2Sampler(io.ComfyNode):
    """Diffusion forcing in one node."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Name the inputs and outputs."""
        steps, shift = steps_and_shift()
        return io.Schema(
            node_id="SkyReelsV2Sampler",
            display_name="SkyReels-V2 Diffusion Forcing Sampler",
            category="SkyReels-V2",
            description="Makes a latent video with diffusion forcing: every latent frame has its own noise level, "
            "so frames can be known, made together or one block after the other.",
            inputs=[
                io.Model.Input("model", tooltip="A SkyReels-V2-DF model; other Wan 2.1 models run too."),
                io.Conditioning.Input("positive", tooltip="The encoded prompt."),
                io.Conditioning.Input("negative", tooltip="The encoded negative prompt; not used at cfg 1."),
                io.Latent.Input("latent", tooltip="Empty latent, or one with pinned start, end or key frames."),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=True,
                    tooltip="Seed of all noise of this run; the same on any device.",
                ),
                steps,
                io.Float.Input(
                    "cfg",
                    default=6.0,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    round=0.01,
                    tooltip="Guidance towards the prompt: 6 for text to video, 5 for image to video. 1 is off and "
                    "takes half the time (for distilled models).",
                ),
                shift,
                *forcing_inputs(),
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
        return io.NodeOutput(generate(model, positive, negative, latent, seed, steps, cfg, shift, options))


class SkyReelsV2SamplerSelect(io.ComfyNode):
    """Diffusion forcing as a SAMPLER."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Name the inputs and outputs."""
        return io.Schema(
            node_id="SkyReelsV2SamplerSelect",
            display_name="SkyReels-V2 Diffusion Forcing (SAMPLER)",
            category="SkyReels-V2",
            description="Diffusion forcing for SamplerCustomAdvanced: choose noise, guider and sigmas freely.",
            inputs=forcing_inputs(),
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
            category="SkyReels-V2",
            description="The noise schedule of SkyReels-V2 for SamplerCustomAdvanced.",
            inputs=steps_and_shift(),
            outputs=[io.Sigmas.Output("sigmas", display_name="sigmas", tooltip="Falling from 1 to 0.")],
        )

    @classmethod
    def execute(cls, steps: int, shift: float) -> io.NodeOutput:
        """Make the schedule."""
        return io.NodeOutput(flow_sigmas(steps, shift))
