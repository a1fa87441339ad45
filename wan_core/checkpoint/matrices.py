"""The matrices of a model as a file's header shows them: which parts stand under each one's name, and what is stated.

It decides nothing: which parts make which format is told in formats.py.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import decode
from .containers import some_tensors
from .header import TensorEntry
from .key_names import Naming, original_name

FLOATS = ("float64", "float32", "float16", "bfloat16")
FP8 = ("float8_e4m3fn", "float8_e5m2")
NUMBERS = ("weight", "weight._data")  # optimum-quanto's tensors are objects with parts
SCALES = (
    "weight_scale",
    "scale_weight",
    "weight_scale_inv",
    "weight._scale",
    "weight.scale",
    "weight_scales",
    "scale",
    "scales",
)
# of the layer's input and output, or a statement: the numbers of the weight do not depend on them
BESIDE = ("comfy_quant", "input_scale", "scale_input", "output_scale", "input_absmax", "input_global_scale")
SMOOTHING = "pre_quant_scale"  # one factor for each column of the weight
STATEMENT = "comfy_quant"
STATEMENTS = "_quantization_metadata"
MAX_STATEMENT_BYTES = 10_000
MARK = "scaled_fp8"  # a key of older files of ComfyUI's

Statements = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Matrix:
    """What a header says about one matrix of the model.

    Attributes:
        name: of its layer, e.g. "blocks.0.ffn.0".
        full_shape: of the weight; more than two axes for a convolution.
        parts: what stands under the layer's name (its bias apart) -> entry.
        stated: what `comfy_quant` or the metadata states of it.
    """

    name: str
    full_shape: tuple[int, ...]
    parts: Mapping[str, TensorEntry]
    stated: Mapping[str, Any] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.full_shape[0], math.prod(self.full_shape[1:])

    @property
    def numbers(self) -> str | None:
        """The part that holds the numbers."""
        return next((part for part in NUMBERS if part in self.parts), None)

    @property
    def scale(self) -> str | None:
        """The part that holds the scales."""
        return next((part for part in SCALES if part in self.parts), None)

    @property
    def dtype(self) -> str:
        """Of the numbers."""
        return self.parts[self.numbers].dtype if self.numbers else ""

    @property
    def format(self) -> Any:
        """The format stated, or None."""
        return self.stated.get("format")

    def has_only(self, *parts: str | None, beside: tuple[str, ...] = BESIDE) -> bool:
        """Whether these parts are there and no others that the numbers could depend on."""
        return set(parts) == {part for part in self.parts if part not in (*beside, SMOOTHING)}

    def is_stored(self, dtypes: tuple[str, ...], shape: tuple[int, ...] | None = None) -> bool:
        """Whether the numbers are of one of these dtypes, in the shape of the weight or in this one."""
        wanted = self.full_shape if shape is None else shape
        return self.numbers is not None and self.dtype in dtypes and self.parts[self.numbers].shape == wanted

    def is_packed(self, dtype: str) -> bool:
        """Whether two numbers share a byte of this dtype."""
        rows, columns = self.shape
        return self.is_stored((dtype,), (rows, columns // 2)) and columns % 2 == 0

    def option(self, name: str, default: int) -> int:
        """Return a number that is stated, -1 where that is none; ComfyUI reads it in two places."""
        inner = self.stated.get("params")
        value = self.stated.get(name, inner.get(name, default) if isinstance(inner, dict) else default)
        return int(value) if isinstance(value, int) else -1

    def granularity(self) -> str | None:
        """What one scale is for; None where there is none, or its shape is that of no known kind."""
        entry = self.parts.get(self.scale or "")
        return decode.granularity(entry.shape, self.shape) if entry is not None and entry.dtype in FLOATS else None


def matrices_of(
    entries: Mapping[str, TensorEntry], expected: Mapping[str, tuple[int, ...]], statements: Statements
) -> dict[str, Matrix]:
    """Sort the entries of a file by the matrices they belong to.

    Args:
        entries: under the original names.
        expected: shape of every parameter of the model.
        statements: layer -> what is stated of it.

    Returns:
        Layer -> matrix, for every weight with two axes or more.
    """
    modules = {key.rpartition(".")[0] for key in expected}
    found: dict[str, dict[str, TensorEntry]] = {module: {} for module in modules}
    for key, entry in entries.items():
        module = module_of(key, modules)
        if module is not None:
            found[module][key[len(module) + 1 :]] = entry
    weights = {key.removesuffix(".weight"): shape for key, shape in expected.items() if key.endswith(".weight")}
    return {
        name: Matrix(
            name,
            shape,
            {part: entry for part, entry in found[name].items() if part != "bias"},
            statements.get(name, {}),
        )
        for name, shape in weights.items()
        if len(shape) > 1
    }


def module_of(key: str, modules: Iterable[str]) -> str | None:
    """Find the innermost module that a key lies in; None if it lies in none."""
    while key:
        key = key.rpartition(".")[0]
        if key in modules:
            return key
    return None


def read_statements(
    files: Iterable[Path], keys: Iterable[str], metadata: Mapping[str, str], naming: Naming
) -> Statements:
    """Read what a file states of its layers' formats, in its metadata and in `comfy_quant` keys of some bytes each.

    Args:
        files: of a checkpoint.
        keys: of all the files.
        metadata: of all the files.
        naming: of the keys.

    Returns:
        Layer (original name) -> statement; what is no JSON object counts as none.
    """
    layers = json_object(metadata.get(STATEMENTS, "")).get("layers")
    found = layers if isinstance(layers, dict) else {}
    stated = {original_name(name, naming) or name: value for name, value in found.items() if isinstance(value, dict)}
    if not any(key.endswith("." + STATEMENT) for key in keys):
        return stated
    for key, tensor in (pair for file in files for pair in some_tensors(file, _is_statement)):
        name = original_name(key, naming)
        if name is not None:
            said = json_object(bytes(tensor.flatten().tolist()).decode(errors="replace"))
            stated.setdefault(name.removesuffix("." + STATEMENT), said)
    return stated


def _is_statement(key: str, entry: TensorEntry) -> bool:
    return key.endswith("." + STATEMENT) and entry.dtype == "uint8" and entry.elements <= MAX_STATEMENT_BYTES


def json_object(text: str) -> dict[str, Any]:
    """Parse a JSON object; anything else is somebody else's metadata and counts as empty."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
