"""The nodes of the pack. The list at the bottom is the table of contents; no node does tensor math."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from ..wan_core.comfy.doors import with_doors
from . import job_board, language, live_plan, moved_inputs
from .cluster import SkyReelsV2GPUCluster
from .conditioning import SkyReelsV2TextEncode
from .decode import SkyReelsV2VAEDecode
from .demo_models import SkyReelsV2DemoModels
from .guidance import SkyReelsV2CFGRange
from .latents import SkyReelsV2EmptyLatent, SkyReelsV2KeyFrames
from .loaders import SkyReelsV2LoraLoader, SkyReelsV2ModelLoader
from .long_video import SkyReelsV2ExtendVideo, SkyReelsV2LongVideo
from .model_info import SkyReelsV2AttachFPS, SkyReelsV2ModelInfo
from .planning import SkyReelsV2Jobs, SkyReelsV2Plan, SkyReelsV2PromptList, SkyReelsV2PromptScript
from .rolling import SkyReelsV2RollingSampler
from .sampling import SkyReelsV2Sampler, SkyReelsV2SamplerSelect, SkyReelsV2Sigmas
from .step_cache import SkyReelsV2StepCache

NODES: list[type[io.ComfyNode]] = [
    SkyReelsV2ModelLoader,
    SkyReelsV2TextEncode,
    SkyReelsV2EmptyLatent,
    SkyReelsV2KeyFrames,
    SkyReelsV2Sampler,
    SkyReelsV2SamplerSelect,
    SkyReelsV2Sigmas,
    SkyReelsV2VAEDecode,
    SkyReelsV2LongVideo,
    SkyReelsV2ExtendVideo,
    SkyReelsV2PromptScript,
    SkyReelsV2PromptList,
    SkyReelsV2Plan,
    SkyReelsV2Jobs,
    SkyReelsV2DemoModels,
    SkyReelsV2CFGRange,
    SkyReelsV2ModelInfo,
    SkyReelsV2AttachFPS,
    SkyReelsV2LoraLoader,
    SkyReelsV2StepCache,
    SkyReelsV2RollingSampler,
    SkyReelsV2GPUCluster,
]
for node in NODES:
    with_doors(node)


class SkyReelsV2Extension(ComfyExtension):
    """What ComfyUI asks for the nodes."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """Return all nodes; the server answers about plans and jobs, takes older prompts and learns each language."""
        live_plan.register()
        job_board.register()
        moved_inputs.register()
        language.register()
        return NODES
