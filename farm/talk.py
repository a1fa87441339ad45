"""A ComfyUI server over its HTTP API: a prompt queued, watched, ended, and the files that it left.

This travels to other machines as it stands, so it imports the standard library alone.
"""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

# what became of a prompt
FINISHED, REFUSED, FAILED, STOPPED, HELD, LOST = "finished", "refused", "failed", "stopped", "held", "lost"
POLL = 0.5  # seconds between two looks at the history
ANSWER = 30.0  # seconds for one answer: a server that loads a model answers late
SILENCE = 180.0  # seconds without an answer, after which a server that is still there counts as lost
CHUNK = 8 << 20  # bytes of a file that are sent at once
HELD_ERROR = "JobHeldError"  # of this pack: another run works on the long-video job


class Silent(Exception):
    """The server does not answer; the message says how that was noticed."""


class Comfy:
    """A server.

    Args:
        url: such as http://127.0.0.1:8188.
        client: who queues the prompts.
    """

    def __init__(self, url: str, client: str):
        self.url, self.client = url, client
        # a proxy of the machine's environment must not see requests to the own machine
        self.opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def ask(self, path: str, body: dict[str, Any] | None = None, timeout: float = ANSWER) -> Any:
        """Return the JSON answer of a GET, or of a POST where there is a body.

        Raises:
            Silent: nobody answers.
            urllib.error.HTTPError: the answer is an error.
        """
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"})
        try:
            with self.opener.open(request, timeout=timeout) as answer:
                text = answer.read()
        except urllib.error.HTTPError:
            raise
        except OSError as error:
            raise Silent(str(getattr(error, "reason", error))) from None
        return json.loads(text) if text else None

    def queue(self, prompt: dict[str, Any], identity: str) -> str:
        """Queue a prompt under an id and return why it was refused, "" where it was not; `Raises: Silent`."""
        try:
            body = {"prompt": prompt, "client_id": self.client, "prompt_id": identity}
            answer = self.ask("/prompt", body)
        except urllib.error.HTTPError as error:
            text = error.read().decode("utf-8", "replace")
            try:
                return refusal(json.loads(text))
            except ValueError:
                return f"ComfyUI answered {error.code}: {text[:300]}"
        if answer.get("node_errors"):  # one branch would run and another not: that is no finished job
            self.cancel(identity)
            return refusal(answer)
        return ""

    def cancel(self, identity: str) -> None:
        """Take a prompt out of the queue, or stop it where it runs."""
        self.ask("/queue", {"delete": [identity]})
        self.ask("/interrupt", {"prompt_id": identity})

    def cancel_ours(self) -> None:
        """Cancel what this client has queued before: nobody waits for it any longer."""
        for _number, identity, _prompt, extra, *_ in self.queued():
            if extra.get("client_id") == self.client:
                self.cancel(identity)

    def queued(self) -> list[list[Any]]:
        """Return what runs and what waits."""
        found = self.ask("/queue")
        return [*found["queue_running"], *found["queue_pending"]]

    def history(self, identity: str) -> dict[str, Any] | None:
        """Return what became of a prompt, None while it has not ended."""
        return self.ask(f"/history/{identity}").get(identity)

    def wait(self, identity: str, alive: Callable[[], bool]) -> dict[str, Any]:
        """Wait for the end of a prompt and return what became of it, see `outcome`.

        Args:
            identity: of the prompt.
            alive: whether the server can still be there.
        """
        heard = time.monotonic()
        while True:
            try:
                entry = self.history(identity)
                known = entry is not None or any(item[1] == identity for item in self.queued())
                entry = entry or self.history(identity)  # it may have ended between the two
                heard = time.monotonic()
            except (Silent, urllib.error.HTTPError, ValueError) as error:
                refused = "refused" in str(error).lower()  # nobody is there who could answer later
                if refused or not alive() or time.monotonic() - heard > SILENCE:
                    return {"state": LOST, "sentence": f"ComfyUI does not answer: {error}"}
            else:
                if entry is not None:
                    return outcome(entry)
                if not known:
                    return {"state": LOST, "sentence": "ComfyUI was restarted: it knows nothing of this prompt"}
            time.sleep(POLL)

    def read(self, file: dict[str, str]) -> Iterator[bytes]:
        """Yield the bytes of a file that a prompt left; `Raises: OSError` where it cannot be had."""
        names = {name: file[name] for name in ("filename", "subfolder", "type")}
        address = f"{self.url}/view?{urllib.parse.urlencode(names)}"
        with self.opener.open(address, timeout=SILENCE) as answer:
            while data := answer.read(CHUNK):
                yield data


def refusal(answer: dict[str, Any]) -> str:
    """Return in one sentence why a prompt was refused."""
    parts = []
    for node, about in (answer.get("node_errors") or {}).items():
        for error in about.get("errors", ()):
            text = ": ".join(filter(None, (error.get("message"), error.get("details"))))
            parts.append(f"{about.get('class_type', 'node')} ({node}): {text}")
    error = answer.get("error") or {}
    said = error if isinstance(error, str) else ": ".join(filter(None, (error.get("message"), error.get("details"))))
    return one_line("; ".join(parts) or said or "ComfyUI refused the prompt")


def outcome(entry: dict[str, Any]) -> dict[str, Any]:
    """Return what became of a prompt.

    Returns:
        state: FINISHED, FAILED, STOPPED or HELD; sentence: why, "" where it finished; outputs: its files, as ComfyUI
        names them: filename, subfolder, type.
    """
    status = entry.get("status") or {}
    messages = dict(status.get("messages") or ())
    if "execution_error" in messages:
        error = messages["execution_error"]
        held = str(error.get("exception_type", "")).rpartition(".")[2] == HELD_ERROR
        where = f"{error.get('node_type')} ({error.get('node_id')})"
        sentence = one_line(f"{where}: {error.get('exception_message') or error.get('exception_type')}")
        return {"state": HELD if held else FAILED, "sentence": sentence}
    if "execution_interrupted" in messages:
        return {"state": STOPPED, "sentence": "somebody stopped it in ComfyUI"}
    if status.get("status_str") != "success":
        return {"state": FAILED, "sentence": one_line(f"it ended with {status}")}
    values = [items for node in entry.get("outputs", {}).values() for items in node.values()]
    files = [item for items in values if isinstance(items, list) for item in items if isinstance(item, dict)]
    kept = {(f["subfolder"], f["filename"]): f for f in files if f.get("type") == "output" and "filename" in f}
    return {"state": FINISHED, "sentence": "", "outputs": list(kept.values())}


def one_line(text: str) -> str:
    """Return a text without its line ends."""
    return " ".join(text.split())
