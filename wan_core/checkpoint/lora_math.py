"""What an adapter of each kind changes in a weight: the formulas of LoRA, LoHa, LoKr, OFT, DoRA and plain differences.

A kind is a row of `KINDS`. The same formulas run on real tensors and on torch's meta device, where they only tell the
shape of the change: whether an adapter fits is asked of the formula that will be used.

Sources: Hu et al. 2021 (LoRA); Hyeon-Woo et al. 2022 (LoHa); Yeh et al. 2024 (LyCORIS: LoKr, OFT, Tucker forms);
Liu et al. 2024 (DoRA).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

Parts = Mapping[str, Tensor]
Alternatives = tuple[frozenset[str], ...]


def lora(parts: Parts, weight: Tensor) -> Tensor:
    """Return up @ down, for a convolution in its shape; with a middle factor the Tucker form."""
    up, down = parts["up"], parts["down"]
    if "mid" in parts:
        return tucker(parts["mid"], up.flatten(1), down.flatten(1).T)
    return (up.flatten(1) @ down.flatten(1)).unflatten(1, down.shape[1:])


def loha(parts: Parts, weight: Tensor) -> Tensor:
    """Return the elementwise product of two low-rank matrices."""
    first, second = (
        tucker(parts[f"hada_t{n}"], parts[f"hada_w{n}_a"].T, parts[f"hada_w{n}_b"].T)
        if "hada_t1" in parts or "hada_t2" in parts
        else parts[f"hada_w{n}_a"] @ parts[f"hada_w{n}_b"]
        for n in (1, 2)
    )
    if first.shape != second.shape:  # torch would spread the smaller one
        raise ValueError("the two products have different shapes")
    return first * second


def lokr(parts: Parts, weight: Tensor) -> Tensor:
    """Return the Kronecker product of a small matrix and another."""
    return torch.kron(*(factor.contiguous() for factor in kronecker_factors(parts)))


def kronecker_factors(parts: Parts) -> tuple[Tensor, Tensor]:
    """Return a LoKr's two matrices, each of which the file has whole or in factors."""
    first = parts["lokr_w1"] if "lokr_w1" in parts else parts["lokr_w1_a"] @ parts["lokr_w1_b"]
    if "lokr_w2" in parts:
        second = parts["lokr_w2"]
    elif "lokr_t2" in parts:
        second = tucker(parts["lokr_t2"], parts["lokr_w2_a"].T, parts["lokr_w2_b"].T)
    else:
        second = parts["lokr_w2_a"] @ parts["lokr_w2_b"]
    return first.reshape(*first.shape, *[1] * (second.ndim - first.ndim)), second


def tucker(core: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return a core [r, q, ...] between factors [rows, r] and [columns, q]."""
    if core.shape[:2] != (rows.shape[1], columns.shape[1]):  # einsum would spread a size of 1
        raise ValueError("the core does not fit its factors")
    return torch.einsum("rq...,ir,jq->ij...", core, rows, columns)


def oft(parts: Parts, weight: Tensor) -> Tensor:
    """Return what turning groups of rows by orthogonal matrices (Cayley's form) changes."""
    skew = parts["oft_blocks"] - parts["oft_blocks"].transpose(1, 2)
    if "alpha" in parts:  # the most that they may differ from no turn, for a row
        most, norm = parts["alpha"] * weight.shape[0], skew.norm() + 1e-8
        skew = skew * torch.where((most > 0) & (norm > most), most / norm, torch.ones_like(norm))
    one = torch.eye(skew.shape[1], device=skew.device)
    turns = (one + skew) @ torch.linalg.inv(one - skew)  # [groups, size, size]
    turned = torch.einsum("knm,kn...->km...", turns, weight.unflatten(0, turns.shape[:2])).flatten(0, 1)
    return turned * parts.get("rescale", torch.ones((), device=turned.device)) - weight


def difference(parts: Parts, weight: Tensor) -> Tensor:
    """Return the change as it stands in the file."""
    return next(iter(parts.values()))


def replacement(parts: Parts, weight: Tensor) -> Tensor:
    """Return what makes a weight another one."""
    return parts["set_weight"] - weight


@dataclass(frozen=True)
class Kind:
    """A kind of adapter.

    Attributes:
        name: as people know it.
        needs: groups of parts; of each group exactly one alternative has to be there.
        change: the formula; in float32, given the weight.
        may: parts that can be there as well.
        rank: (part, axis) whose size is the rank, the first that is there; none for kinds without alpha.
        of: "weight" or "bias".
        sees_weight: whether the formula looks at the weight's numbers.
    """

    name: str
    needs: tuple[Alternatives, ...]
    change: Callable[[Parts, Tensor], Tensor]
    may: frozenset[str] = frozenset()
    rank: tuple[tuple[str, int], ...] = ()
    of: str = "weight"
    sees_weight: bool = False

    @property
    def parts(self) -> frozenset[str]:
        """Every part that tells this kind from others."""
        return frozenset().union(*(names for group in self.needs for names in group))

    def rank_of(self, parts: Parts) -> int | None:
        """Return the rank of an adapter; None where its kind or form has none."""
        return next((parts[part].shape[axis] for part, axis in self.rank if part in parts and parts[part].ndim), None)


def _needs(*groups: str) -> tuple[Alternatives, ...]:
    """Read groups such as "w1 | w1_a w1_b"."""
    return tuple(tuple(frozenset(names.split()) for names in group.split("|")) for group in groups)


_SCALED = frozenset({"alpha", "magnitude"})
LORA_BIAS = Kind("LoRA bias", _needs("up_bias"), difference, of="bias")  # of the upper factor, scaled as they are
KINDS = (
    Kind("LoRA", _needs("down", "up"), lora, _SCALED | {"mid"}, (("down", 0),)),
    Kind("LoHa", _needs("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"), loha, _SCALED | {"hada_t1", "hada_t2"},
         (("hada_w1_b", 0),)),
    Kind("LoKr", _needs("lokr_w1 | lokr_w1_a lokr_w1_b", "lokr_w2 | lokr_w2_a lokr_w2_b"), lokr, _SCALED | {"lokr_t2"},
         (("lokr_w2_b", 0), ("lokr_w1_b", 0))),
    Kind("OFT", _needs("oft_blocks"), oft, frozenset({"alpha", "rescale"}), sees_weight=True),
    Kind("difference", _needs("diff"), difference),
    Kind("difference", _needs("w_norm"), difference),
    Kind("difference", _needs("diff_b"), difference, of="bias"),
    Kind("difference", _needs("b_norm"), difference, of="bias"),
    Kind("replacement", _needs("set_weight"), replacement, sees_weight=True),
    LORA_BIAS,
)  # fmt: skip


def change_of(kind: Kind, parts: Parts, weight: Tensor, scale: float) -> Tensor:
    """Return what an adapter changes in a weight.

    Args:
        kind: of the adapter.
        parts: its tensors.
        weight: float32.
        scale: what the change is multiplied with, before a magnitude.

    Returns:
        The change, in float32, in the weight's shape.

    Raises:
        ValueError, RuntimeError, IndexError: the parts do not fit one another, or make a change of another shape.
    """
    numbers = {name: part.float() for name, part in parts.items()}
    change = kind.change({name: part for name, part in numbers.items() if name != "magnitude"}, weight)
    if change.ndim == 2 and change.shape[0] == weight.shape[0] and change.numel() == weight.numel():
        change = change.reshape(weight.shape)  # a convolution's, with its kernel in the columns
    if change.shape != weight.shape:
        raise ValueError(f"a change of shape {list(change.shape)}")
    change = change * scale
    return redirected(weight + change, numbers["magnitude"]) - weight if "magnitude" in numbers else change


def redirected(weight: Tensor, magnitude: Tensor) -> Tensor:
    """Return a weight's directions with lengths of their own, one for a row or one for a column (DoRA)."""
    rows, columns = weight.shape[:2]
    for_rows = magnitude.ndim == 1 or magnitude.shape[0] == rows or (weight.ndim > 2 and magnitude.numel() == rows)
    axis = 0 if for_rows else 1
    if magnitude.numel() != (rows, columns)[axis]:
        raise ValueError("the magnitudes are neither one for a row nor one for a column")
    shape = [1] * weight.ndim
    shape[axis] = -1
    lengths = weight.transpose(0, axis).flatten(1).norm(dim=1)
    return weight * (magnitude.flatten() / lengths).reshape(shape)


def norm_of(kind: Kind, parts: Parts, shape: tuple[int, ...], scale: float) -> float | None:
    """Return the norm of an adapter's change; None where it depends on the weight."""
    if kind.sees_weight or "magnitude" in parts:
        return None
    if kind.name == "LoRA" and "mid" not in parts:  # without the product itself, which is as large as the weight
        up, down = parts["up"].flatten(1).double(), parts["down"].flatten(1).double()
        return abs(scale) * float(((up.T @ up) * (down @ down.T)).sum().clamp(min=0).sqrt())
    if kind.name == "LoKr":
        factors = kronecker_factors({name: part.float() for name, part in parts.items()})
        return abs(scale) * float(factors[0].norm() * factors[1].norm())
    return float(change_of(kind, parts, torch.zeros(shape), scale).norm())
