"""What SECURITY.md promises about the source: no code from data, no programs, no network, writes in a few known places.

Read from the syntax of every file that a user of the pack gets; that it holds at run time is tried inside a host.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = [
    ROOT / "__init__.py",
    *(path for name in ("nodes", "wan_core", "demo") for path in (ROOT / name).rglob("*.py")),
]

BUILTINS = {
    "eval", "exec", "compile", "__import__", "breakpoint", "input",
}  # fmt: skip
CODE_OF_DATA = (
    "pickle _pickle cPickle dill cloudpickle joblib marshal shelve yaml ruamel runpy code codeop torch.package"
)
PROGRAMS = "subprocess pty ctypes cffi pexpect sh webbrowser pip ensurepip venv farm"  # the last is ours, for people
NETWORK = (
    "socket socketserver ssl http urllib urllib3 requests httpx ftplib smtplib xmlrpc telnetlib websocket websockets "
    "huggingface_hub torch.hub torch.distributed"
)
MODULES = set(f"{CODE_OF_DATA} {PROGRAMS} {NETWORK}".split())
CALLS = {
    "os.system", "os.popen", "os.startfile", "os.fork", "os.forkpty", "os.kill", "os.symlink", "os.link",
    "torch.jit.load", "numpy.load", "np.load", "importlib.import_module", "importlib.reload",
    "asyncio.create_subprocess_exec", "asyncio.create_subprocess_shell", "asyncio.open_connection",
}  # fmt: skip
STARTS = ("os.exec", "os.spawn", "os.posix_spawn", "torch.hub.")
# what GPU Cluster and the splitting over GPUs may do, and nothing else of the pack; SECURITY.md says so
DISTRIBUTED = {
    "wan_core/parallel/exchange.py": "imports torch.distributed",
    "wan_core/parallel/shards.py": "imports torch.distributed",
    "wan_core/parallel/team.py": "imports torch.distributed",
    "wan_core/comfy/cluster/worker.py": "imports torch.distributed",
    "wan_core/comfy/cluster/bootstrap.py": "calls importlib.import_module",
}
ERRORS = {"pickle": {"UnpicklingError", "PickleError"}}  # of a module whose errors alone may be named
ANSWERS = {
    f"nodes/{name}.py" for name in ("job_board", "live_plan", "language", "moved_inputs")
}  # to the host's server
# which files of the pack may write, and with what; all of them into a job's folder or a path that the caller names
WRITERS = {
    "wan_core/comfy/long/job_board.py": {"unlink"},
    "wan_core/long/job_files.py": {"open", "os.open", "os.replace", "unlink"},
    "wan_core/long/finished_segments.py": {"unlink"},
    "wan_core/long/heartbeat.py": {"unlink"},
    "wan_core/long/job_lock.py": {"unlink"},
    "wan_core/long/journal.py": {"mkdir"},
    "wan_core/long/jobs.py": {"unlink", "shutil.rmtree"},
    "wan_core/video/join.py": {"open", "av.open"},
    "wan_core/video/writer.py": {"open", "av.open", "mkdir", "unlink", "os.open", "os.replace", "write_bytes"},
}
METHODS = {
    "unlink", "rmdir", "mkdir", "makedirs", "rename", "write_text", "write_bytes", "touch", "symlink_to",
    "hardlink_to", "chmod", "save_file", "tofile", "savez", "removedirs",
}  # fmt: skip
WRITING = {
    "os.open", "os.replace", "os.rename", "os.remove", "os.unlink", "os.mkdir", "os.makedirs", "os.truncate",
    "os.chmod", "shutil.rmtree", "shutil.move", "shutil.copy", "shutil.copyfile", "shutil.copytree", "torch.save",
    "np.save", "tempfile.mkdtemp", "tempfile.mkstemp", "tempfile.NamedTemporaryFile", "tempfile.TemporaryDirectory",
}  # fmt: skip
SECOND = {"open", "io.open", "av.open", "os.open"}  # whose second argument says how; a path's own `open` has none


def name_of(node: ast.expr) -> str:
    """`a.b.c` of such an expression; what is no name is left out."""
    if isinstance(node, ast.Attribute):
        return f"{name_of(node.value)}.{node.attr}".lstrip(".")
    return node.id if isinstance(node, ast.Name) else ""


def imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            # under another name its use could not be seen
            renamed = {each.name for each in node.names if each.asname} & ERRORS.keys()
            yield from ((node.lineno, f"{name}.renamed") for name in renamed)
            yield from ((node.lineno, each.name) for each in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.lineno, node.module or ""
            yield from ((node.lineno, f"{node.module}.{each.name}") for each in node.names)


def is_true(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is True


def writes(call: ast.Call, name: str, last: str) -> bool:
    """Whether a call may write, remove or make something on the disk."""
    if last != "open" or name == "os.open":
        return last in METHODS or name in WRITING
    places = call.args[1:2] if name in SECOND else call.args[:1]
    modes = [*places, *(each.value for each in call.keywords if each.arg == "mode")]
    known = [each.value for each in modes if isinstance(each, ast.Constant)]
    return len(known) < len(modes) or any(set(str(mode)) & set("wax+") for mode in known)


def broken_promises(source: str, file: str) -> Iterator[str]:
    """Everything in a source that is promised not to be there."""
    tree = ast.parse(source)
    for line, module in imports(tree):
        parts = module.split(".")
        if module in ERRORS:
            continue  # what is used of it is looked at below
        banned = any(".".join(parts[:n]) in MODULES for n in range(1, len(parts) + 1))
        if banned or (parts[0] == "aiohttp" and (file not in ANSWERS or module not in ("aiohttp", "aiohttp.web"))):
            yield f"{file}:{line}: imports {module}"
    for node in (node for node in ast.walk(tree) if isinstance(node, ast.Attribute)):
        name, _, last = name_of(node).rpartition(".")
        if name in ERRORS and last not in ERRORS[name]:
            yield f"{file}:{node.lineno}: uses {name}.{last}"
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        name = name_of(call.func)
        last = call.func.attr if isinstance(call.func, ast.Attribute) else name
        builtin = isinstance(call.func, ast.Name) and name in BUILTINS
        if builtin or name in CALLS or name.startswith(STARTS):
            yield f"{file}:{call.lineno}: calls {name}"
        if name == "torch.load" and not any(
            each.arg == "weights_only" and is_true(each.value) for each in call.keywords
        ):
            yield f"{file}:{call.lineno}: torch.load without weights_only=True"
        # what makes and trains the demo models writes where it is told to, and no node does that
        if writes(call, name, last) and not file.startswith("demo/") and not {name, last} & WRITERS.get(file, set()):
            yield f"{file}:{call.lineno}: writes by {name or last}"


@pytest.mark.parametrize("file", sorted(FILES), ids=lambda file: file.relative_to(ROOT).as_posix())
def test_a_file_keeps_the_promises(file: Path) -> None:
    name = file.relative_to(ROOT).as_posix()
    allowed = DISTRIBUTED.get(name)
    found = {line.partition(": ")[2] for line in broken_promises(file.read_text("utf-8"), name)}
    assert {line for line in found if not (allowed and line.startswith(allowed))} == set()  # or a module inside of it
    assert bool(found) == bool(allowed)


BROKEN = """
eval(x)
exec('1')
compile(x, '', 'exec')
__import__('os')
import pickle as p
import pickle; pickle.loads(x)
load = pickle.load
from pickle import loads
import yaml
import subprocess as s
from os import path; import socket
import urllib.request
import pip
from torch import hub
import torch.hub
from torch import distributed
torch.load(f)
torch.load(f, weights_only=False)
torch.load(f, weights_only=flag)
os.system('x')
os.execv('a', [])
np.load(f)
import ctypes
import aiohttp
open('x', 'w')
open('x', mode='ab')
path.open('r+')
open(x, mode)
path.write_text('')
os.remove(x)
shutil.rmtree(x)
torch.save(x, y)
av.open(x, 'w')
importlib.import_module(x)
path.unlink()
os.open(x, flags)
""".strip().splitlines()
FINE = """
import pickle; pickle.UnpicklingError
re.compile('x')
models[0].eval()
open(x)
open(x, 'rb')
path.open()
torch.load(f, weights_only=True)
safetensors.torch.load(x)
x.compile(dynamic=False)
text.replace('a', 'b')
av.open(x)
json.loads(x)
""".strip().splitlines()


@pytest.mark.parametrize("source", BROKEN)
def test_the_promises_can_be_broken(source: str) -> None:
    assert list(broken_promises(source, "nodes/other.py"))


@pytest.mark.parametrize("source", FINE)
def test_what_only_looks_like_it_is_fine(source: str) -> None:
    assert list(broken_promises(source, "nodes/other.py")) == []


def test_every_place_that_may_write_does() -> None:
    for file, ways in WRITERS.items():
        tree = ast.parse((ROOT / file).read_text("utf-8"))
        calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
        used = {name_of(func) for func in calls} | {func.attr for func in calls if isinstance(func, ast.Attribute)}
        assert ways <= used, file
