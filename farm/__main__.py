"""The command line: `python -m farm LIST --comfyui FOLDER`, or `--at MACHINE:PORT ...`."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from wan_core.errors import InputError

from .hosts import Places, actors, connected
from .prompts import Job, read_list
from .results import Result, Results
from .table import Progress, table
from .talk import FINISHED
from .work import Rules, Work

NOT_RUN = "not run"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m farm",
        description="Run a list of API prompts on the ComfyUIs of a Ray cluster. Run it again to finish what is left.",
        epilog="Arguments after -- go to each ComfyUI that is started, such as: -- --output-directory /shared/output",
    )
    add = parser.add_argument
    add("list", type=Path, help="JSON file, JSON lines, or folder of them; prompts as saved with Export (API)")
    add("--comfyui", metavar="FOLDER", default="", help="start a ComfyUI from here for each GPU of the cluster")
    add("--python", default="", help="that runs it (default: the one in FOLDER/venv or FOLDER/.venv, else Ray's)")
    add("--hosts", type=int, default=0, metavar="N", help="start so many at most")
    add("--at", nargs="+", default=[], metavar="MACHINE:PORT", help="ComfyUIs that run on machines of the cluster")
    add("--address", default="", help="of the Ray cluster (default: that of this machine, or else a new one)")
    add("--tries", type=int, default=3, metavar="N", help="give a job up that has lost so many hosts (default: 3)")
    add("--output", type=Path, metavar="FOLDER", help="for the files that the jobs leave (default: LIST.outputs)")
    add("--leave-outputs", action="store_true", help="copy none of them: they are on a drive that you see")
    given = list(sys.argv[1:] if arguments is None else arguments)
    cut = given.index("--") if "--" in given else len(given)
    options = parser.parse_args(given[:cut])
    options.arguments = given[cut + 1 :]
    if not options.comfyui and not options.at:
        parser.error("name the ComfyUIs: --comfyui FOLDER to start them, or --at MACHINE:PORT for those that run")
    if options.tries < 1 or options.hosts < 0:
        parser.error("--tries is 1 or more, --hosts 0 or more")
    return options


def beside(path: Path, ending: str) -> Path:
    """Return the path of a file or folder beside a list."""
    whole = path.resolve()
    return whole.with_name((whole.name if path.is_dir() else whole.stem) + ending)


def work_off(options: argparse.Namespace, jobs: list[Job], results: Results) -> int:
    """Have the jobs run that are not finished; return the exit code."""
    missing = [job for job in jobs if job.key not in results.finished(job.key for job in jobs)]
    code = 0
    if missing:
        ray = connected(options.address)
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # now: Ray has put a handler of its own there
        places = Places(tuple(options.at), options.comfyui, options.python, tuple(options.arguments), options.hosts)
        outputs = None if options.leave_outputs else options.output or beside(options.list, ".outputs")
        try:
            with Progress(len(jobs), len(jobs) - len(missing)) as progress:
                hosts = actors(ray, places, f"skyreels-v2-farm-{results.run}")
                work = Work(ray, missing, hosts, results, Rules(options.tries, outputs, progress))
                try:
                    work.run()
                except KeyboardInterrupt:
                    work.stop()
                    code = 130
                finally:
                    work.close()
        finally:
            ray.shutdown()  # ends the actors, and they what they have started
    shown = [results.by_key.get(job.key, Result(job.name, NOT_RUN)) for job in jobs]
    finished = sum(each.state == FINISHED for each in shown)
    print(f"{table(shown)}\n\n{finished} of {len(jobs)} jobs finished; results are in {results.path}")
    return code or (0 if finished == len(jobs) else 1)


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code: 0 if all jobs are finished, 1 if not, 2 if it can't begin."""
    options = parse(arguments)
    try:
        jobs = read_list(options.list)
        with Results(beside(options.list, ".results.json")) as results:
            return work_off(options, jobs, results)
    except InputError as error:
        print(f"farm: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
