"""What the panel of the Jobs node asks for: the jobs on the disk, their first pictures and workflows, and removal."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from ..wan_core.comfy.long.job_board import board, first_picture, job_of, kept_workflow, remove
from ..wan_core.comfy.long.long_video import jobs_root
from ..wan_core.errors import SkyReelsError
from ..wan_core.words import catalogue
from .language import running_server
from .live_plan import LONGEST_LANGUAGE

ROUTE = "/skyreels_v2/jobs"  # web/js/job_board.js asks here


def of_job(name: str, get: Callable[[Any], Any]) -> Any:
    """Return something of the job in a folder of this name, None if there isn't one."""
    job = job_of(jobs_root(), name)
    return None if job is None else get(job.folder)


def register() -> None:
    """Let the running server answer; without one there is nobody to ask."""
    server = running_server()
    if server is None:
        return
    from aiohttp import web

    async def aside(work: Callable[..., Any], *given: Any) -> Any:  # off the event loop, since it reads the disk
        return await asyncio.get_running_loop().run_in_executor(None, work, *given)

    @server.routes.get(ROUTE)
    async def jobs(request: web.Request) -> web.Response:
        language = catalogue(request.query.get("language", "")[:LONGEST_LANGUAGE])
        return web.json_response(await aside(board, jobs_root(), language))

    @server.routes.get(ROUTE + "/{name}/picture")
    async def picture(request: web.Request) -> web.Response:
        found = await aside(of_job, request.match_info["name"], first_picture)
        return web.Response(status=404) if found is None else web.Response(body=found, content_type="image/png")

    @server.routes.get(ROUTE + "/{name}/workflow")
    async def workflow(request: web.Request) -> web.Response:
        found = await aside(of_job, request.match_info["name"], kept_workflow)
        return web.Response(status=404) if found is None else web.json_response(found)

    @server.routes.delete(ROUTE + "/{name}")  # no page of another site can send this without being asked for its origin
    async def delete(request: web.Request) -> web.Response:
        try:
            await aside(remove, jobs_root(), request.match_info["name"])
        except SkyReelsError as error:
            language = catalogue(request.query.get("language", "")[:LONGEST_LANGUAGE])
            return web.json_response({"error": error.words.say(language)}, status=409)
        return web.json_response({})
