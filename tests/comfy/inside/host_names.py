"""Which names of the host a source file touches, and whether a host has them: by the syntax tree, without running it.

Followed are imports (`import comfy.samplers`, `from comfy_api.latest import io`), names given to a part of the host
(`kinds = comfy.patcher_extension.WrappersMP`) and, by their usual names here, its objects (`guider`, `patcher`).
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

ROOTS = ("comfy", "comfy_api", "comfy_execution", "folder_paths", "server", "latent_preview", "nodes")
# names under which our source holds objects of the host, and what they are
OBJECTS = {
    "patcher": "comfy.model_patcher.ModelPatcher", "model_patcher": "comfy.model_patcher.ModelPatcher",
    "guider": "comfy.samplers.CFGGuider", "vae": "comfy.sd.VAE", "clip": "comfy.sd.CLIP",
    "inner_model": "comfy.model_base.WAN21",
}  # fmt: skip
NOTHING = object()


@dataclass(frozen=True)
class Use:
    """A name of the host in a line of source, and how it is called if it is."""

    name: str
    line: int
    positional: int | None = None  # None where it is not called
    keywords: tuple[str, ...] = ()
    starred: bool = False  # more arguments come from a list or a dict


class Names(ast.NodeVisitor):
    """Collects the uses in one file."""

    def __init__(self) -> None:
        self.known: dict[str, str] = dict(OBJECTS)
        self.found: list[Use] = []

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            if alias.name.split(".")[0] in ROOTS:
                self.found.append(Use(alias.name, node.lineno))
                root = alias.name.split(".")[0]
                self.known[alias.asname or root] = alias.name if alias.asname else root

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if node.level == 0 and node.module and node.module.split(".")[0] in ROOTS:
            for alias in node.names:
                self.found.append(Use(f"{node.module}.{alias.name}", node.lineno))
                self.known[alias.asname or alias.name] = f"{node.module}.{alias.name}"

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        outside = dict(self.known)
        self.generic_visit(node)
        self.known = outside

    def visit_Assign(self, node: ast.Assign) -> None:
        self.generic_visit(node)
        for target in node.targets:
            pairs = [(target, node.value)]
            if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                pairs = list(zip(target.elts, node.value.elts, strict=True))
            for name, value in pairs:
                path = self.path(value)
                if isinstance(name, ast.Name) and path is not None:
                    self.known[name.id] = path

    def visit_Call(self, node: ast.Call) -> None:
        path = self.path(node.func)
        if path is not None:
            if getattr(node.func, "id", getattr(node.func, "attr", "")) in OBJECTS and path in OBJECTS.values():
                path += ".__call__"
            starred = any(isinstance(each, ast.Starred) for each in node.args) or any(
                each.arg is None for each in node.keywords
            )
            positional = sum(not isinstance(each, ast.Starred) for each in node.args)
            keywords = tuple(each.arg for each in node.keywords if each.arg is not None)
            self.found.append(Use(path, node.lineno, positional, keywords, starred))
        self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        path = self.path(node)
        if path is None:
            self.generic_visit(node)
        else:
            self.found.append(Use(path, node.lineno))

    def path(self, node: ast.AST) -> str | None:
        """Return the dotted name of a part of the host, or of an object's attribute; None for anything else."""
        if isinstance(node, ast.Name):
            return self.known.get(node.id)
        if not isinstance(node, ast.Attribute):
            return None
        inner = self.path(node.value)
        if inner == OBJECTS["patcher"] and node.attr == "model":
            return OBJECTS["inner_model"]
        if inner is None or inner in OBJECTS.values():  # self.guider, guider.model_patcher, guider.inner_model
            inner = OBJECTS.get(node.attr) or (None if inner is None else f"{inner}.{node.attr}")
            return inner
        return f"{inner}.{node.attr}"


def uses(source: str) -> list[Use]:
    """Return every use of the host in a source, each once."""
    names = Names()
    tree = ast.parse(source)
    for node in tree.body:  # imports inside functions, too, before the code that reads them
        names.visit(node)
    return list(dict.fromkeys(names.found))


@cache
def find(name: str) -> Any:
    """Return the part of the host of a dotted name, NOTHING, or None for what an object gets only when it is made."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:end]))
        except ImportError:
            continue
        for part in parts[end:]:
            owner, found = found, getattr(found, part, NOTHING)
            if found is NOTHING:
                return None if set_by_a_method(owner, part) else NOTHING
        return found
    return None if defined(*parts) else NOTHING


def defined(module: str, name: str = "", *_: str) -> bool:
    """Say whether a module that cannot be imported in this process (`server`) has a name, by its source."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        return False
    tree = ast.parse(Path(spec.origin).read_text("utf-8"))
    return any(getattr(node, "name", None) == name for node in tree.body)


@cache
def set_by_a_method(kind: Any, name: str) -> bool:
    """Say whether objects of a class get an attribute from one of its methods."""
    if not inspect.isclass(kind):
        return False
    own = [each for each in kind.__mro__ if each.__module__.split(".")[0] in ROOTS]
    return any(f"self.{name}" in inspect.getsource(each) for each in own)


def faults(use: Use) -> Iterator[str]:
    """Yield what is wrong with a use in this host."""
    found = find(use.name)
    if found is NOTHING:
        yield f"{use.name} is not there"
    elif use.positional is not None and callable(found):
        arguments = [None] * (use.positional + of_an_object(use.name))
        try:
            signature = inspect.signature(found)
        except ValueError:  # made in C, without one
            return
        bind = signature.bind_partial if use.starred else signature.bind
        try:
            bind(*arguments, **dict.fromkeys(use.keywords))
        except TypeError as error:
            yield f"{use.name}{signature} is called otherwise: {error}"


def of_an_object(name: str) -> bool:
    """Say whether a name is a method that is called on an object."""
    owner, _, _ = name.rpartition(".")
    return owner in OBJECTS.values()
