"""SkyReels-V2 for ComfyUI: video with diffusion forcing, as nodes that speak ComfyUI's own types.

Only `comfy_entrypoint` is exported: ComfyUI reads V3 nodes only from packs without NODE_CLASS_MAPPINGS.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .nodes import SkyReelsV2Extension

__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]

WEB_DIRECTORY = "./web"  # the help pages and the front-end extension


async def comfy_entrypoint() -> SkyReelsV2Extension:
    """Return the extension; nothing of ComfyUI or torch is imported before the host asks for it."""
    from .nodes import SkyReelsV2Extension

    return SkyReelsV2Extension()
