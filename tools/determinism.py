"""See which ways of sampling give the same bits: again, after an interrupt, resumed, in another process and ComfyUI.

    python -m tools.determinism

Latents and video files count. What was seen is kept, and becomes a table of docs/trust.md (tools/trust.py).
"""

from __future__ import annotations

import importlib
import json
import sys
import tempfile
from pathlib import Path
from random import Random
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
INSIDE = "--inside"
ON_DISK = ("long", "extended")  # how the names of ways begin whose work lies on the disk
TWICE = ("long", "extended")  # ways of sampling that the trials have under other names
TRIES = 50


def interrupt(tool: Any, trials: Any, name: str) -> None:
    """Interrupt a run in a folder of its own."""
    for number in range(TRIES):
        trials.new_folder()
        try:
            with tool.interrupted(Random(number), trials.seconds[name]):
                trials.run(name)
        except tool.expected_errors():
            return
    raise AssertionError(f"{name} was never interrupted")


def see(tool: Any, trials: Any, name: str) -> dict[str, Any]:
    """Return whether a way gives the same after an interrupt and, where it can be resumed, in the same folder."""
    interrupt(tool, trials, name)
    resumed = trials.run(name) == trials.wanted[name] if name.startswith(ON_DISK) else None
    if resumed is not None:
        interrupt(tool, trials, name)
    trials.new_folder()
    return {"interrupted": trials.run(name) == trials.wanted[name], "resumed": resumed}


def make(digests_only: bool, target: Path) -> None:
    """Run every way in a host's process and write what was seen as JSON."""
    import comfy.cli_args

    comfy.cli_args.args.cpu = True
    sys.path.insert(0, str(ROOT))
    tool, same_latents = (importlib.import_module(f"tools.{name}") for name in ("trials", "same_latents"))
    ways = same_latents.Ways(same_latents.nodes_of(ROOT))
    names = tuple(name for name in ways.all() if name not in TWICE)
    trials = tool.Trials(ways, Path(tempfile.mkdtemp(dir=target.parent)), names)  # runs each way twice and compares
    seen = {
        name: {"digest": digest, "again": True, **({} if digests_only else see(tool, trials, name))}
        for name, digest in trials.wanted.items()
    }
    target.write_text(json.dumps(seen), "utf-8")


def main() -> None:
    """Run the ways in two processes of the newest host and one of another, compare, and keep what was seen."""
    from tools import trust
    from tools.host import run_in_host
    from tools.hosts import find_hosts, why_no_host

    hosts = find_hosts()
    if len(hosts) < 2:
        sys.exit("two ComfyUIs are needed" if hosts else why_no_host())
    found = []
    for host, digests_only in ((hosts[0], False), (hosts[0], True), (hosts[-1], True)):
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "seen.json"
            run_in_host(host, Path(__file__).resolve(), INSIDE, digests_only, target, timeout=7200)
            found.append(json.loads(target.read_text("utf-8")))
    first, second, other = found
    ways = {
        name: {
            **{key: value for key, value in seen.items() if key != "digest"},
            "process": second[name]["digest"] == seen["digest"],
            "other": other[name]["digest"] == seen["digest"],
        }
        for name, seen in first.items()
    }
    different = [name for name, equal in ways.items() if False in equal.values()]
    print(f"{len(ways) - len(different)} of {len(ways)} ways are equal everywhere; others: {', '.join(different)}")
    trust.keep("ways", {"host": hosts[0].version, "other": hosts[-1].version, "ways": ways})


if __name__ == "__main__":
    if sys.argv[1:2] == [INSIDE]:
        make(sys.argv[2] == "True", Path(sys.argv[3]))
    elif len(sys.argv) == 1:
        main()
    else:
        sys.exit(__doc__)
