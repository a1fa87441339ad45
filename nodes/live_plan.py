"""What the front end asks while somebody sets up a long video: the plan in two lines, or why it cannot be made."""

from __future__ import annotations

import sys
from dataclasses import fields
from typing import Any

from ..wan_core.comfy.latents import SIZES
from ..wan_core.comfy.long_settings import LongVideoSettings, extended_frames, summary
from ..wan_core.comfy.run_plan import ForcingOptions
from ..wan_core.errors import SkyReelsError
from ..wan_core.segments import latent_frames
from ..wan_core.words import Joined, Words, catalogue, joined, lines, words
from .inputs import FORCING
from .planning import refuse_what_no_extension_has

ROUTE = "/skyreels_v2/plan"  # web/js/live_plan.js asks here
NAMES = frozenset(field.name for field in fields(LongVideoSettings)) - {"forcing"}
SIZE = frozenset(("size", "size.width", "size.height"))


def answer(values: dict[str, Any]) -> dict[str, Any]:
    """Return the plan of a node's widget values.

    Args:
        values: by widget name; what is not a setting of the plan is left alone. `language` is the front end's locale,
            `linked` the names of the widgets whose value comes over a link and is not known before the run.

    Returns:
        `ok`, and `text`: the plan in short, or the sentence that the node would refuse it with; in the
        language of the front end.
    """
    linked = [name for name in values.get("linked", ()) if name in NAMES.union(FORCING, SIZE, ("new_frames",))]
    ok, text = plan_or_refusal(values, SIZE.isdisjoint(linked))
    if text is None:
        return {"ok": True, "text": ""}
    if linked:
        note = words(
            "{names}: linked, so not known before the run; this is for the node's own values", names=joined(linked)
        )
        ok, text = True, lines(text, note)
    return {"ok": ok, "text": text.say(catalogue(str(values.get("language", ""))))}


def plan_or_refusal(values: dict[str, Any], sized: bool) -> tuple[bool, Words | Joined | None]:
    """Return whether there is a plan, and the plan or the refusal; None for values that are no numbers yet.

    Args:
        values: by widget name.
        sized: whether the picture's size is the widgets' own.
    """
    try:
        width, height = SIZES.get(values.get("size", ""), (values.get("size.width"), values.get("size.height")))
        forcing = ForcingOptions(**{name: values[name] for name in FORCING if name in values})
        settings = {name: values[name] for name in NAMES if name in values}
        known: tuple[int, ...] = ()
        if new_frames := int(values.get("new_frames", 0)):  # of an extension
            refuse_what_no_extension_has(new_frames, bool(values.get("loop")))
            overlap = int(values["overlap_history"])
            settings["total_frames"] = extended_frames(overlap, new_frames)
            known = tuple(range(latent_frames(overlap)))
        if width and height:
            settings |= {"width": int(width), "height": int(height)}
        chosen = LongVideoSettings(**settings, forcing=forcing)
        chosen.check()
        sized = sized and bool(width and height)  # an extension may have the size of a video that is not known yet
        return True, summary(chosen, sized, "fps" in values, known)
    except SkyReelsError as error:
        return False, error.words
    except (TypeError, ValueError, KeyError):  # a widget that is being typed into, or turned into an input
        return True, None


def register() -> None:
    """Let the running server answer; without one there is nobody to ask."""
    if "server" not in sys.modules:  # comfy without its server: a script or a test
        return
    from aiohttp import web
    from server import PromptServer

    server = getattr(PromptServer, "instance", None)
    if server is None:
        return

    @server.routes.post(ROUTE)
    async def plan(request: web.Request) -> web.Response:
        values = await request.json()
        return web.json_response(answer(values if isinstance(values, dict) else {}))
