"""What the front end says of its language; see web/js/language.js."""

from __future__ import annotations

import sys
from typing import Any

from ..wan_core.comfy.language import READERS, speak_the_readers_language

ROUTE = "/skyreels_v2/language"


def running_server() -> Any:
    """Return the host's server, None where comfy is in use without one: in a script or a test."""
    return getattr(getattr(sys.modules.get("server"), "PromptServer", None), "instance", None)


def register() -> None:
    """Let the running server take a client's language, and speak it from now on."""
    server = running_server()
    if server is None:
        return
    from aiohttp import web

    speak_the_readers_language()

    @server.routes.post(ROUTE)
    async def language(request: web.Request) -> web.Response:
        try:
            said = await request.json()
        except (ValueError, RecursionError):
            said = None
        client, name = (said.get("client"), said.get("language")) if isinstance(said, dict) else (None, None)
        if not (isinstance(client, str) and isinstance(name, str)):
            return web.json_response({"error": "client and language have to be texts"}, status=400)
        READERS.remember(client, name)
        return web.json_response({})
