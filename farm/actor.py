"""What runs on each host, as a Ray actor: it has one ComfyUI, its own or one that is there, run one prompt at a time.

Ray sends this and what it imports of the farm to the machine as it stands; nothing of ours need be installed there.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator
from typing import Any

from .start import Server
from .talk import FAILED, LOST, REFUSED, Comfy, Silent

START = 600.0  # seconds for a ComfyUI to answer that was started: it may load from a slow drive
THERE = 30.0  # seconds for one that should be there already
LOOK = 0.5  # seconds between two looks


class Host:
    """A ComfyUI and whoever has it work.

    Args:
        place: `urls`: where one may be that runs already; or `folder`, `python` and `arguments` of one to start.
        client: who queues the prompts.
    """

    def __init__(self, place: dict[str, Any], client: str):
        self.place, self.client = place, client
        self.server: Server | None = None
        self.comfy: Comfy | None = None
        self.running = ""  # the prompt

    def open(self) -> tuple[str, str]:
        """Have a ComfyUI that answers; return this host's name and why there is none, "" where there is."""
        if "folder" in self.place and (self.server is None or not self.server.alive()):
            self.close()
            try:
                self.server = Server(self.place["folder"], self.place["python"], self.place["arguments"])
            except OSError as error:
                return platform.node(), str(error)
        urls = [f"http://127.0.0.1:{self.server.port}"] if self.server else self.place["urls"]
        end = time.monotonic() + (START if self.server else THERE)
        while time.monotonic() < end and self.alive():
            for url in urls:
                comfy = Comfy(url, self.client)
                try:
                    comfy.ask("/system_stats")
                    comfy.cancel_ours()
                except (Silent, ValueError, OSError):
                    continue
                self.comfy = comfy
                return f"{platform.node()}:{url.rpartition(':')[2]}", ""
            time.sleep(LOOK)
        log = self.server.log_end() if self.server else ""
        self.close()
        return platform.node(), f"no ComfyUI answers at {' or '.join(urls)}" + (f":\n{log}" if log else "")

    def alive(self) -> bool:
        """Return whether the server can be there."""
        return self.server is None or self.server.alive()

    def run(self, prompt: dict[str, Any], identity: str) -> dict[str, Any]:
        """Run a prompt to its end, and return what became of it; see `talk.outcome`, besides LOST and REFUSED."""
        assert self.comfy is not None
        try:
            refused = self.comfy.queue(prompt, identity)
        except Silent as error:
            return {"state": LOST, "sentence": f"ComfyUI does not answer: {error}"}
        if refused:
            return {"state": REFUSED, "sentence": refused}
        self.running = identity
        try:
            return self.comfy.wait(identity, self.alive)
        except (KeyError, TypeError, AttributeError) as error:  # no answer of a ComfyUI
            return {"state": FAILED, "sentence": f"ComfyUI answered what is not understood: {error!r}"}
        finally:
            self.running = ""

    def read(self, file: dict[str, str]) -> Iterator[bytes]:
        """Yield the bytes of a file that a prompt left."""
        assert self.comfy is not None
        yield from self.comfy.read(file)

    def stop(self) -> None:
        """Cancel what runs."""
        if self.comfy is not None and self.running:
            self.comfy.cancel(self.running)

    def close(self) -> None:
        """End a ComfyUI that was started here."""
        server, self.server = self.server, None
        if server is not None:
            server.stop()
