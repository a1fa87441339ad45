"""Anything sent to the plan's route: a plan or a sentence, soon, and never an error of the server; over HTTP."""

from __future__ import annotations

import http.client
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import strategies as st

from tests.comfy.host import Host
from tests.fuzz.budget import MOST_SECONDS, fuzz

pytestmark = pytest.mark.newest_host

ROUTE = "/skyreels_v2/plan"
JSON_HEADER = {"Content-Type": "application/json"}
HEAVY = {"total_frames": 1_000_000, "base_num_frames": 97, "overlap_history": 77, "steps": 1000, "ar_step": 1000}
NAMES = (
    "total_frames", "base_num_frames", "overlap_history", "steps", "shift", "cfg", "seed", "loop", "codec", "crf",
    "fps", "solver", "ar_step", "causal_block_size", "causal_attention", "addnoise_condition", "carry_over",
    "drift_control", "size", "size.width", "size.height", "new_frames",
    "key_times", "job_name", "language", "linked", "connected", "x",
)  # fmt: skip
NUMBERS = st.one_of(
    st.integers(-2, 300),
    st.integers(0, 10**7),
    st.sampled_from((0, 1, 8193, 1_000_000, 10**7, 10**15, 10**16, 2**64, -1, 10**400, 10**4000)),
    st.floats(),
)
TEXTS = st.one_of(
    st.text(max_size=12),
    st.sampled_from(("zh", "h264", "unipc", "latents", "custom", "540P landscape (960x544)", "2s, 4.5s", "48; -1",
                     "\ud800",
                     "9" * 5000, "1s " * 3000, "../x", "con", "start_image", "key_images", "end_image")),
)  # fmt: skip
LISTS = st.lists(st.sampled_from((*NAMES, "start_image", "end_image", "key_images", "vae", 7, None)), max_size=4)
VALUES = st.one_of(NUMBERS, TEXTS, LISTS, st.booleans(), st.none(), st.dictionaries(TEXTS, NUMBERS, max_size=2))
USUAL = st.fixed_dictionaries(
    {},
    optional={
        "total_frames": st.sampled_from((97, 257, 737, 86_400, 1_000_000)),
        "base_num_frames": st.sampled_from((97, 121, 13, 8193)),
        "overlap_history": st.sampled_from((17, 37, 5, 93, 8177)),
        "steps": st.sampled_from((4, 30, 1000)),
        "ar_step": st.sampled_from((0, 5, 1000)),
        "causal_block_size": st.sampled_from((1, 5, 256)),
        "fps": st.sampled_from((0, 1, 16, 24)),
        "connected": LISTS,
    },
)
BODIES = st.tuples(USUAL, st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=6)).map(
    lambda both: both[0] | both[1]
)
DEEP = b"[" * 100_000
RAW = st.one_of(
    st.binary(max_size=60),
    st.sampled_from((b"", DEEP, b'{"a":' * 50_000, b"9" * 100_000, b'{"steps": 1e999}', b"null", b'"text"', b"[1]",
                     b"\xff",
                     b'{"fps": NaN}', b'{"steps": ' + b"9" * 6000 + b"}", b" " * 300_000)),
    BODIES.map(lambda body: json.dumps(body).encode()[:-3]),
)  # fmt: skip


class Asker:
    """A connection that is kept open."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.connection = http.client.HTTPConnection(urlsplit(host.url).netloc, timeout=120)

    def ask(self, body: bytes) -> dict[str, Any]:
        """Return the answer, which is one of ours."""
        begin = self.host.processor_seconds()
        self.connection.request("POST", ROUTE, body, JSON_HEADER)
        response = self.connection.getresponse()
        text = response.read()
        assert response.status in (200, 413), (response.status, text[:300])
        assert self.host.processor_seconds() - begin < MOST_SECONDS
        answer = json.loads(text)
        assert isinstance(answer["ok"], bool) and isinstance(answer["text"], str)
        assert not any(word in answer["text"] for word in ("Traceback", "Error", "object has no", "NoneType"))
        return answer


def test_any_values_are_planned_or_refused(host: Host) -> None:
    asker = Asker(host)
    fuzz(lambda body: asker.ask(json.dumps(body).encode()), BODIES)


def test_bodies_that_are_no_values_are_refused(host: Host) -> None:
    asker = Asker(host)
    fuzz(asker.ask, RAW)
    assert not asker.ask(DEEP)["ok"] and not asker.ask(b"{")["ok"] and not asker.ask(b"9" * 5000)["ok"]


def test_numbers_that_no_plan_can_have_are_refused_in_words(host: Host) -> None:
    asker = Asker(host)
    for values, part in (
        ({"steps": 10**7}, "steps is 10000000, but it has to be 1 to 10000"),
        ({"steps": 10**400}, "more than 15 digits"),
        ({"total_frames": 10**9}, "number of frames is 1000000000"),
        ({"total_frames": 1_000_000, "overlap_history": 93}, "249977 segments"),
        ({"fps": 0}, "fps is 0"),
        ({"new_frames": 1, "overlap_history": 0}, "overlap_history is 0"),
        ({"key_times": "9" * 5000}, "key_times holds"),
    ):
        answer = asker.ask(json.dumps(values).encode())
        assert not answer["ok"] and part in answer["text"], answer


def test_the_server_answers_others_while_it_plans(host: Host) -> None:
    """Answers that are given between a plan's request and its answer: a busy event loop would give none."""
    asker = Asker(host)
    asker.ask(json.dumps(HEAVY).encode())
    plans, between = 3, 0
    with ThreadPoolExecutor(1) as pool:
        for number in range(plans):
            body = json.dumps(HEAVY | {"steps": 1000 - number}).encode()
            planned = pool.submit(asker.ask, body)
            while not planned.done():
                host.get("/prompt")
                between += not planned.done()
            assert planned.result()["ok"]
    assert between > 10 * plans, between
