"""What the front end asks while somebody sets up a long video: the plan in two lines, or why it cannot be made."""

from __future__ import annotations

import asyncio
import json
from dataclasses import fields
from math import isfinite
from typing import Any

from ..wan_core.comfy.vae.latents import SIZES
from ..wan_core.errors import InputError, SkyReelsError
from ..wan_core.long.jobs import check_name
from ..wan_core.long.key_frames import GivenImages, read_frames, read_key_frames
from ..wan_core.long.methods import Method
from ..wan_core.long.reuse import expected_ratio
from ..wan_core.long.settings import LongVideoSettings, PlannedVideo, extended_frames, stand_in_for_a_video
from ..wan_core.sampling.reuse import BY_THRESHOLD, distance_for
from ..wan_core.sampling.run import ForcingOptions
from ..wan_core.words import Joined, Words, catalogue, joined, lines, words
from .inputs import FORCING
from .language import running_server
from .planning import refuse_what_no_extension_has

ROUTE = "/skyreels_v2/plan"  # web/js/live_plan.js asks here
ONE_FRAME = stand_in_for_a_video(1)
NAMES = frozenset(field.name for field in fields(LongVideoSettings)) - {"forcing", "geometry", "method"}
METHOD = {"method": "name"} | {f"method.{field.name}": field.name for field in fields(Method)[1:]}  # widget: field
SIZE = frozenset(("size", "size.width", "size.height"))

LONGEST_LANGUAGE = 16
MOST_DIGITS = 15
MOST_BYTES = 1 << 18
TEXTS = ("size", "job_name", "key_times")
OTHERS = (*TEXTS, "new_frames")  # widgets that a refusal may be about as well


def answer(values: dict[str, Any]) -> dict[str, Any]:
    """Return the plan of a node's widget values.

    Args:
        values: by widget name; what is not a setting of the plan is left alone. `language` is the front end's locale,
            `linked` the names of the widgets whose value comes over a link and is not known before the run,
            `connected` those of all inputs that are connected, `step_cache` the widget values of a SkyReels-V2 Step
            Cache on the way to its model.

    Returns:
        `ok`, and `text`: the plan in short, or the sentence that the node would refuse it with; in the
        language of the front end.
    """
    linked = [name for name in names_in(values, "linked") or () if name in NAMES.union(FORCING, SIZE, OTHERS, METHOD)]
    ok, text = plan_or_refusal(values, SIZE.isdisjoint(linked))
    if text is None:
        return {"ok": True, "text": ""}
    if linked:
        note = words(
            "{names}: linked, so not known before the run; this is for the node's own values", names=joined(linked)
        )
        ok, text = True, lines(text, note)
    return {"ok": ok, "text": text.say(catalogue(str(values.get("language", ""))[:LONGEST_LANGUAGE]))}


def plan_or_refusal(values: dict[str, Any], sized: bool) -> tuple[bool, Words | Joined | None]:
    """Return whether there is a plan, and the plan or the refusal; None for values that are no numbers yet.

    Args:
        values: by widget name.
        sized: whether the picture's size is the widgets' own.
    """
    try:
        if not all(isinstance(values[name], str) for name in TEXTS if name in values):
            return True, None
        if "job_name" in values:
            check_name(values["job_name"])
        connected = names_in(values, "connected")
        width, height = SIZES.get(values.get("size", ""), (values.get("size.width"), values.get("size.height")))
        forcing = ForcingOptions(**typed(ForcingOptions, {name: values[name] for name in FORCING if name in values}))
        settings = {name: values[name] for name in NAMES if name in values}
        start = ONE_FRAME if "start_image" in (connected or ()) else None
        if new_frames := whole(values.get("new_frames", 0)):  # of an extension
            keys = ONE_FRAME if "key_images" in (connected or ()) else None
            refuse_what_no_extension_has(new_frames, bool(values.get("loop")), start, keys)
            overlap = whole(values["overlap_history"])
            settings["total_frames"] = extended_frames(overlap, new_frames)
            start = stand_in_for_a_video(overlap)
        if width and height:
            settings |= {"width": whole(width), "height": whole(height)}
        method = Method(**typed(Method, {field: values[name] for name, field in METHOD.items() if name in values}))
        chosen = LongVideoSettings(**typed(LongVideoSettings, settings), forcing=forcing, method=method)
        video = chosen.planned(stand_ins(values.get("key_times", ""), start, forcing.fps, connected))
        sized = sized and bool(width and height)  # an extension may have the size of a video that is not known yet
        shown, saved = video.summary(sized, "fps" in values), step_cache(video, values.get("step_cache"))
        return True, lines(shown, saved) if saved else shown
    except SkyReelsError as error:
        return False, error.words
    except (TypeError, ValueError, KeyError, ArithmeticError):  # a widget that is being typed into, or made an input
        return True, None


def step_cache(video: PlannedVideo, given: Any) -> Words | None:
    """Return what a step cache will save, None where nothing is known of it.

    Args:
        video: the plan.
        given: the widget values of the node that is connected, by name.
    """
    if not isinstance(given, dict) or not isinstance(preset := given.get("preset", BY_THRESHOLD), str):
        return None
    distance = distance_for(preset, float(given.get("threshold", 0)))
    settings = video.settings
    ratio = expected_ratio(video.plan, settings.sigmas, distance, settings.forcing.causal_attention)
    if ratio is None:
        return None
    return words("Step Cache: about {ratio:.1f} times fewer latent frames to compute", ratio=ratio)


def names_in(values: dict[str, Any], key: str) -> list[str] | None:
    """Return a list of names among the values, None where there is none."""
    names = values.get(key)
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else None


def whole(value: Any) -> int:
    """Return a whole number; `Raises: TypeError` for anything else, `InputError` for one that nothing can hold."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value % 1:  # nan and inf too
        raise TypeError
    if abs(value) >= 10**MOST_DIGITS:
        raise InputError("A number has more than {digits} digits: make it smaller.", digits=MOST_DIGITS)
    return int(value)


def typed(kind: Any, values: dict[str, Any]) -> dict[str, Any]:
    """Return values of the types that the fields of a dataclass have; `Raises: TypeError` for others."""
    found = {}
    for name, value in values.items():
        wanted: type = type(next(field.default for field in fields(kind) if field.name == name))
        if wanted is int:
            value = whole(value)
        elif wanted is float and not isinstance(value, bool) and isinstance(value, int | float):
            value = float(value)
        if not isinstance(value, wanted) or (isinstance(value, float) and not isfinite(value)):
            raise TypeError
        found[name] = value
    return found


def answer_text(body: bytes) -> dict[str, Any]:
    """Return the plan of what stands in a request; see `answer`."""
    try:
        values = json.loads(body)
    except (ValueError, RecursionError):
        return {"ok": False, "text": str(words("The request is not JSON: send the values of the widgets by name."))}
    return answer(values if isinstance(values, dict) else {})


def stand_ins(key_times: str, start: Any, fps: float, connected: list[str] | None) -> GivenImages:
    """Return images in place of those that are connected and not made yet: one frame each, as many keys as times.

    Args:
        key_times: what says when the key images are.
        start: the stand-in of the first frames, or None.
        fps: frames per second.
        connected: names of the inputs that are connected; None where it is not known.
    """
    keys = None
    if connected is None or "key_images" in connected:
        keys = ONE_FRAME.expand(len(read_frames(key_times, fps, words("key_times"))), 1, 1, 3)
    end = ONE_FRAME if "end_image" in (connected or ()) else None
    times = read_key_frames(key_times, keys, fps, words("key_times"))
    return GivenImages(start, end, keys if times else None, times)


def register() -> None:
    """Let the running server answer; without one there is nobody to ask."""
    server = running_server()
    if server is None:
        return
    from aiohttp import web

    @server.routes.post(ROUTE)
    async def plan(request: web.Request) -> web.Response:
        body = b""
        while len(body) <= MOST_BYTES and (piece := await request.content.read(MOST_BYTES)):
            body += piece
        if len(body) > MOST_BYTES:
            text = words("The request is larger than {most} bytes: send the values of the widgets.", most=MOST_BYTES)
            return web.json_response({"ok": False, "text": str(text)}, status=413)
        # beside the event loop, which every other request waits for
        return web.json_response(await asyncio.get_running_loop().run_in_executor(None, answer_text, body))
