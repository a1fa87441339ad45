"""Whether every parameter of the model is in a file, in a form that is understood: the checks before tensors are read.

What a single matrix's format is, formats.py tells. Here the file as a whole is held against the model.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

import torch
from torch import Tensor

from ..errors import CheckpointError
from ..words import joined, words
from .formats import PLAIN, Stored, find_format
from .header import TensorEntry
from .matrices import FLOATS, FP8, NUMBERS, SCALES, SMOOTHING, Matrix, Statements, matrices_of

Shapes = Mapping[str, tuple[int, ...]]
Entries = Mapping[str, TensorEntry]

LARGEST = 1000.0  # no trained weight comes near; a scale that is a reciprocal, or is not applied, goes beyond
LARGEST_UNSCALED = 100.0  # fp8 numbers without a scale: with their scale taken away they reach 448 or 57344
# Packings of other programs, told by how keys end: what they are
PACKINGS = (
    (r"\.weight\.(absmax|quant_state\.\w+)$", words("4 bit numbers of bitsandbytes (nf4 or fp4)")),
    (r"\.(wscales|smooth_factor|proj_down)$", words("SVDQuant, as Nunchaku has it")),
    (r"\.(qzeros|g_idx)$", words("GPTQ or AWQ")),
    (r"\.qweight$", words("packed integers, as GPTQ, AWQ or SVDQuant have them")),
    (r"[._:]qdata$|\.tensor_impl\.|\.weight:(scale|zero_point)$|\._weight_\w+$", words("a torchao tensor")),
    (r"\.W_q$", words("HQQ")),
    (r"\.weight_packed$", words("compressed-tensors")),
    (r"\.weight\._(shift|data\._data|zeropoint)$", words("4 bit numbers of optimum-quanto")),
    (r"\.(zero_point|svd_up|svd_down)$", words("SDNQ")),
)
PACKED_FOR_SURE = ("weight_scale_2", "weight_global_scale", "alpha")  # next to two 4 bit numbers in a byte


def logical_entries(entries: Entries) -> dict[str, TensorEntry]:
    """Give weights the shapes that they have in the model, as far as these can be told without knowing the model.

    Raises:
        CheckpointError: another program packed them.
    """
    for key, what in ((key, what) for key in entries for pattern, what in PACKINGS if re.search(pattern, key)):
        raise CheckpointError(
            "The weights are packed by another program: {key} is part of {what}, which only its own nodes read; choose "
            "a bf16, fp8, int8 or GGUF file of the model.",
            key=key,
            what=what,
        )
    found = dict(entries)
    for key, entry in entries.items():
        layer, _, part = key.rpartition(".weight")
        if part == "._data":
            found[f"{layer}.weight"] = entry
        elif not part and entry.dtype == "uint8" and len(entry.shape) == 2:
            doubled = any(f"{layer}.{name}" in entries for name in PACKED_FOR_SURE)
            found[key] = TensorEntry(entry.dtype, (entry.shape[0], entry.shape[1] * (1 + doubled)))
    return found


def understand(entries: Entries, expected: Shapes, statements: Statements) -> dict[str, Stored]:
    """Tell how every matrix of the model is stored, and check that nothing is missing, misshapen or not understood.

    Args:
        entries: a file's, under the original names.
        expected: shape of every parameter.
        statements: layer -> what is stated of it.

    Returns:
        Layer -> how its weight is stored.

    Raises:
        CheckpointError: the first thing that is wrong.
    """
    matrices = matrices_of(entries, expected, statements)
    present = {f"{name}.weight" for name, matrix in matrices.items() if matrix.numbers}
    check_complete(expected, {*entries, *present})
    for key, shape in expected.items():
        if key.removesuffix(".weight") not in matrices:
            _check_vector(key, entries[key], shape)
    _refuse_stray_scales(entries, matrices)
    stored = {name: _stored(matrix) for name, matrix in matrices.items()}
    _refuse_half_scaled(stored)
    return stored


def check_complete(expected: Shapes, present: set[str]) -> None:
    """Refuse a file that lacks parameters; what is missing as a whole is named once. `Raises: CheckpointError`."""
    missing = [key for key in expected if key not in present]
    if not missing:
        return
    lacking, all_of = Counter(map(_group, missing)), Counter(map(_group, expected))
    whole = [name for name, count in lacking.items() if count == all_of[name]]
    parts = [words("all of {name}", name=name) for name in whole] + [key for key in missing if _group(key) not in whole]
    raise CheckpointError(
        "{missing_count} of the model's {count} parameters are missing: {listed}; choose a file with the whole model, "
        "or all of its shards.",
        missing_count=len(missing),
        count=len(expected),
        listed=joined(parts[:5] + ["..."] * (len(parts) > 5)),
    )


def _group(key: str) -> str:
    parts = key.split(".")
    return ".".join(parts[:2]) if parts[0] == "blocks" else parts[0]


def _check_vector(key: str, entry: TensorEntry, shape: tuple[int, ...]) -> None:
    """Refuse a bias, a norm or a table that is not plain numbers of the right shape."""
    if entry.dtype not in PLAIN:
        raise CheckpointError(
            "{key} has dtype {dtype}, but only {wanted} can be used; choose a file in one of these.",
            key=key,
            dtype=entry.dtype,
            wanted=joined((*FLOATS[1:], *FP8)),
        )
    if entry.shape != shape:
        raise _misshapen(key, entry, shape)


def _misshapen(key: str, entry: TensorEntry, shape: tuple[int, ...]) -> CheckpointError:
    return CheckpointError(
        "{key} has shape {shape}, but the rest of the model needs {wanted}; this is another kind of model, so choose "
        "a SkyReels-V2 or Wan 2.1 file.",
        key=key,
        shape=list(entry.shape),
        wanted=list(shape),
    )


def _refuse_stray_scales(entries: Entries, matrices: Mapping[str, Matrix]) -> None:
    known = {f"{name}.{part}" for name, matrix in matrices.items() for part in matrix.parts}
    for key in entries:
        if key not in known and key.rpartition(".")[2] in SCALES:
            raise CheckpointError(
                "{key} is a scale, but of no matrix of the model; choose another file of the model.", key=key
            )


def _stored(matrix: Matrix) -> Stored:
    found = find_format(matrix)
    smoothing = matrix.parts.get(SMOOTHING)
    if found is not None and (smoothing is None or (smoothing.shape == matrix.shape[1:] and smoothing.dtype in FLOATS)):
        return Stored(matrix, found)
    entry = matrix.parts[matrix.numbers or ""]
    if matrix.dtype in FLOATS and matrix.format is None and entry.shape != matrix.full_shape:
        raise _misshapen(f"{matrix.name}.weight", entry, matrix.full_shape)
    parts = (f"{part} {entry.dtype}{list(entry.shape)}" for part, entry in matrix.parts.items())
    raise CheckpointError(
        "{name} is {shape} in the model and stored as {parts}{stated}, which is no known format, so its numbers would "
        "be noise; choose a bf16, fp8, int8 or GGUF file of the model, or update this pack.",
        name=matrix.name,
        shape=list(matrix.full_shape),
        parts=joined(parts),
        stated=words(" and stated as {format!r}", format=matrix.format) if matrix.format is not None else "",
    )


def _refuse_half_scaled(stored: Mapping[str, Stored]) -> None:
    """Refuse fp8 numbers without a scale among others with one: somebody lost it."""
    eight = [each for each in stored.values() if each.matrix.dtype in FP8]
    bare = [each.matrix.name for each in eight if each.is_plain]
    if bare and len(bare) < len(eight):
        raise CheckpointError(
            "{name}.weight is fp8 without a scale, where {count} other matrices of the file have one; choose another "
            "file of the model.",
            name=bare[0],
            count=len(eight) - len(bare),
        )


def take_parts(tensors: dict[str, Tensor], stored: Stored) -> dict[str, Tensor]:
    """Take the parts of one matrix out of a file's tensors."""
    return {part: tensors.pop(f"{stored.matrix.name}.{part}") for part in stored.matrix.parts}


def check_numbers(tensors: Mapping[str, Tensor], stored: Mapping[str, Stored]) -> None:
    """Refuse scales that no trained weight can have, and fp8 numbers whose scale is gone.

    Args:
        tensors: of a file, under the original names.
        stored: how the matrices are stored that are packed or scaled.

    Raises:
        CheckpointError: the first one that is wrong.
    """
    for name, each in stored.items():
        matrix = each.matrix
        scale = tensors.get(f"{name}.{matrix.scale}")
        if scale is None or matrix.parts[matrix.scale or ""].dtype not in FLOATS or matrix.numbers not in NUMBERS:
            continue
        largest = float(scale.float().abs().amax()) * _largest_code(tensors[f"{name}.{matrix.numbers}"])
        if not largest <= LARGEST:
            raise CheckpointError(
                "{name} has scales that make weights of up to {largest:.3g}, which no trained model has; choose "
                "another file of the model.",
                name=name,
                largest=largest,
            )
        if largest == 0 and bool(tensors[f"{name}.{matrix.numbers}"].float().any()):
            raise CheckpointError(
                "{name} has scales that are all 0, though its numbers are not, so they have been lost; choose another "
                "file of the model.",
                name=name,
            )
    plain = (key for key, tensor in tensors.items() if key.endswith(".weight") and tensor.dtype.itemsize == 1)
    first = next((key for key in plain if key.removesuffix(".weight") not in stored and tensors[key].ndim == 2), None)
    largest = float(tensors[first].float().abs().amax()) if first else 0.0
    if not largest <= LARGEST_UNSCALED:
        raise CheckpointError(
            "{name} is fp8 without a scale and reaches {largest:.3g}, so the file's scales have been lost; choose "
            "another file of the model.",
            name=first,
            largest=largest,
        )


def _largest_code(numbers: Tensor) -> float:
    """The largest size that such numbers can have; of e5m2, whose range nobody uses up, the largest there is."""
    if numbers.dtype == torch.int8:
        return 127.0
    return 448.0 if numbers.dtype == torch.float8_e4m3fn else float(numbers.float().abs().amax())
