"""`python dev.py demo --comfyui PATH`: a demo template run by a real ComfyUI, as a person would who queues it there.

The server is started on a free port with a temporary base directory, so that nothing of the ComfyUI folder changes;
the mp4 that the workflow saves is copied, a contact sheet is made of it, and the server is stopped.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import torch

from demo.run import SHEET_COLUMNS, SHEET_FRAMES, evenly
from demo.sheet import contact_sheet
from tools.host import PACK_FOLDER, ExecutionFailed, Finished, Host, HostEnded, HostError
from tools.hosts import HostInstall, find_hosts, why_no_host
from tools.templates import DEMO, ORDER, flag_of, name_of, template, title_of
from tools.workflow_prompt import changed, load_workflow, to_prompt
from wan_core.errors import InputError, SkyReelsError
from wan_core.video.reader import read_frames
from wan_core.video.writer import save_png

USUAL = "text_to_video"
TIMEOUT = 1800.0  # seconds; on two slow cores the longest template takes about two minutes
NO_MODULE = r"No module named '([\w.]+)'"
LAST_STEP = re.compile(rb"(\d+)/(\d+) \[")  # of a progress bar in the server's log


def demo_names() -> list[str]:
    """Return the templates that need no download, as the command line calls them."""
    return [flag_of(title) for title in ORDER if title.startswith(DEMO)]


def workflow_file(name: str) -> Path:
    """Return the file of a template.

    Args:
        name: one of demo_names(), or the file's name.

    Raises:
        InputError: there is no such template that runs without a download.
    """
    for title in ORDER:
        if title.startswith(DEMO) and name.removesuffix(".json") in (flag_of(title), name_of(title)):
            return template(title)
    raise InputError(f"workflow is {name}, but it has to be one of {', '.join(demo_names())}")


def missing_package(log: str) -> str | None:
    """Return the package whose absence ended the server, or kept this pack from loading; None for another reason.

    Many a package is optional and only warned of: what counts is how the process ended, and what ComfyUI says of the
    pack's own folder.
    """
    ended = rf"^ModuleNotFoundError: {NO_MODULE}\s*(?:Fatal Python error: [\s\S]*)?\Z"  # with the threads left over
    unloaded = rf"Cannot import .*{PACK_FOLDER} module for custom nodes: {NO_MODULE}"
    found = (re.search(pattern, log, re.MULTILINE) for pattern in (ended, unloaded))
    return next((match[1] for match in found if match), None)


def why_not(install: HostInstall, log: str, message: str) -> str:
    """Return in a person's words why the server does not run the pack, or `message` where the log does not say."""
    package = missing_package(log)
    if package is None:
        return message
    return (
        f"ComfyUI {install.version} was started with {install.python}, which has no package {package}: install the "
        f"requirements.txt of {install.folder} and of this pack into that Python, or set COMFYUI_PYTHON to another one"
    )


class Progress:
    """A line on the terminal that says how far the server is, read from the progress bars in its log."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.started = time.monotonic()
        self.shown = ""

    def __call__(self) -> None:
        """Show what has changed."""
        steps = LAST_STEP.findall(self.host.log_from(max(0, self.host.log_size - 400)).encode())
        at = f"step {int(steps[-1][0])} of {int(steps[-1][1])}, " if steps else ""
        line = f"{at}{time.monotonic() - self.started:.0f} s"
        if line != self.shown:
            self.shown = line
            print(f"\rrunning: {line}   ", end="", flush=True)

    def end(self) -> None:
        """Leave the line."""
        print()


def start(host: Host) -> dict[str, Any]:
    """Start a server and return the descriptions of its nodes.

    Raises:
        HostError: it does not start, or without the pack's nodes; the message is one sentence where the reason is
            known.
    """
    try:
        host.start()
    except HostEnded as error:
        raise HostError(why_not(host.install, host.log, str(error))) from None
    info = host.object_info()
    if "SkyReelsV2DemoModels" not in info:
        text = f"ComfyUI {host.version} started, but without the nodes of this pack:\n{host.log[-3000:]}"
        raise HostError(why_not(host.install, host.log, text))
    return info


def video_file(finished: Finished) -> Path:
    """Return the one mp4 that a finished prompt saved."""
    (path,) = {path for files in finished.outputs.values() for path in files if path.suffix == ".mp4"}
    return path


def run_demo(install: HostInstall, workflow: Path, changes: dict[str, Any], out: Path) -> tuple[Path, Path]:
    """Run a template in a host.

    Args:
        install: the ComfyUI and its Python.
        workflow: the template.
        changes: widget values by input name, for every node that has such a widget.
        out: folder for the files; made when missing.

    Returns:
        The mp4 file and the contact sheet, a PNG.

    Raises:
        HostError: the server did not start or the workflow did not run.
    """
    host = Host(install)
    try:
        print(f"starting ComfyUI {install.version} in {install.folder} ...", flush=True)
        prompt = changed(to_prompt(load_workflow(workflow), start(host)), **changes)
        progress = Progress(host)
        try:
            made = video_file(host.run(prompt, TIMEOUT, progress))
        finally:
            progress.end()
        out.mkdir(parents=True, exist_ok=True)
        video, sheet = (out / f"{flag_of(title_of(workflow.stem))}{ending}" for ending in (".mp4", ".png"))
        shutil.copyfile(made, video)
    finally:
        host.stop()
    frames = torch.stack([torch.from_numpy(frame) for frame in read_frames(video)])
    shown = evenly(frames, SHEET_FRAMES).repeat_interleave(4, dim=1).repeat_interleave(4, dim=2)
    save_png(sheet, contact_sheet(shown, SHEET_COLUMNS))
    return video, sheet


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="dev.py demo --comfyui", description="Run an example workflow with the embedded models in a ComfyUI."
    )
    add = parser.add_argument
    add("--comfyui", type=Path, required=True, help="folder of the ComfyUI; nothing in it is changed")
    add("--workflow", default=USUAL, help=f"one of {', '.join(demo_names())} (default: {USUAL})")
    add("--prompt", help="in place of the workflow's own prompt, English or Chinese")
    add("--frames", type=int, help="video frames, in place of the workflow's own number")
    add("--seed", type=int, help="in place of the workflow's own seed")
    add("--out", type=Path, default=Path("demo_output"), help="folder for the files")
    return parser.parse_args(arguments)


WIDGETS = {"prompt": ("prompt", "script"), "frames": ("frames", "total_frames"), "seed": ("seed",)}  # of each flag


def changes_of(options: argparse.Namespace) -> dict[str, Any]:
    """Return the widget values that the flags ask for; `Raises: InputError`."""
    for name, least in (("frames", 1), ("seed", 0)):
        value = getattr(options, name)
        if value is not None and value < least:
            raise InputError(f"{name} is {value}, but it has to be {least} or more")
    given = {flag: getattr(options, flag) for flag in WIDGETS if getattr(options, flag) is not None}
    return {widget: value for flag, value in given.items() for widget in WIDGETS[flag]}


def main(arguments: list[str] | None = None) -> int:
    """Run the demo and return its exit code."""
    options = parse(arguments)
    try:
        changes = changes_of(options)
        workflow = workflow_file(options.workflow)
        hosts = find_hosts()
        if not hosts:
            raise HostError(why_no_host())
        video, sheet = run_demo(hosts[0], workflow, changes, options.out)
    except ExecutionFailed as error:  # the pack's own errors are one sentence; the server's log stays out of the way
        print(f"demo: {error.message}", file=sys.stderr)
        return 1
    except (SkyReelsError, HostError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(f"video: {video.resolve()}\ncontact sheet: {sheet.resolve()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
