"""Writes a LoRA in every form that trainers publish, and says what it means: the merged weights, by its own formulas.

A writer takes the model's tensors under the original names and a generator of numbers. Nothing here is the pack's, so
that its reading is held against something else. It computes in float64; what is written is float32.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

Tensors = dict[str, torch.Tensor]
Spelling = Callable[[str], str]
RANK, ALPHA = 4, 12.0
DIFFUSERS = {
    "self_attn.q": "attn1.to_q", "self_attn.k": "attn1.to_k", "self_attn.v": "attn1.to_v",
    "self_attn.o": "attn1.to_out.0",
    "cross_attn.q": "attn2.to_q", "cross_attn.k": "attn2.to_k", "cross_attn.v": "attn2.to_v",
    "cross_attn.o": "attn2.to_out.0", "ffn.0": "ffn.net.0.proj", "ffn.2": "ffn.net.2",
}  # fmt: skip


@dataclass
class Written:
    """A LoRA as it lies on the disk, and the weights that it makes.

    Attributes:
        tensors: key -> tensor.
        merged: parameter of the model -> what it becomes.
        metadata: of the file.
        config: adapter_config.json beside it.
        name: of the file.
        nested: where a pickled file keeps the tensors.
    """

    tensors: Tensors = field(default_factory=dict)
    merged: Tensors = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    config: dict[str, Any] | None = None
    name: str = "lora.safetensors"
    nested: tuple[str, ...] = ()


Writer = Callable[[Tensors, torch.Generator], Written]


def linears(weights: Tensors) -> list[str]:
    """The modules that trainers train: every matrix of the blocks."""
    return [name[:-7] for name, value in weights.items()
            if name.startswith("blocks.") and name.endswith(".weight") and value.ndim == 2]  # fmt: skip


def diffusers(module: str) -> str:
    block, _, part = module.partition(".")[2].partition(".")
    return f"blocks.{block}.{DIFFUSERS[part]}"


def flat(module: str) -> str:
    return module.replace(".", "_")


def lycoris(module: str) -> str:
    return f"lycoris_{flat(module)}"


def kohya_mixture(module: str) -> str:
    _, block, part = module.split(".", 2)
    return f"lora_unet_blocks_{block}.{part}"


def wrapped(module: str) -> str:
    _, block, part = module.split(".", 2)
    return f"model._orig_mod.blocks.{block}._fsdp_wrapped_module.{part}"


def random(generator: torch.Generator, *shape: int) -> torch.Tensor:
    return (torch.randn(shape, generator=generator) * 0.1).double()


Parts = tuple[Tensors, torch.Tensor]  # what is written for a module, and what it adds to the weight


def for_matrices(spell: Spelling, make: Callable[[torch.Tensor, torch.Generator], Parts], **written: Any) -> Writer:
    """The same for every matrix of the blocks; `make` takes the weight."""

    def write(weights: Tensors, generator: torch.Generator) -> Written:
        made = Written(**written)
        for module in linears(weights):
            weight = weights[f"{module}.weight"]
            parts, change = make(weight, generator)
            made.tensors |= {f"{spell(module)}.{part}": value for part, value in parts.items()}
            made.merged[f"{module}.weight"] = weight + change
        return made

    return write


def pairs(
    spell: Spelling,
    down: str = "lora_A.weight",
    up: str = "lora_B.weight",
    alpha: float | None = None,
    scale: float = 1.0,
    **written: Any,
) -> Writer:
    """A low-rank pair; `alpha` is written as a tensor, `scale` is what the maker means."""

    def make(weight: torch.Tensor, generator: torch.Generator) -> Parts:
        a, b = random(generator, RANK, weight.shape[1]), random(generator, weight.shape[0], RANK)
        parts = {down: a, up: b, **({} if alpha is None else {"alpha": torch.tensor(alpha)})}
        return parts, scale * torch.einsum("ir,rj->ij", b, a)

    return for_matrices(spell, make, **written)


def peft_config(**values: Any) -> dict[str, Any]:
    return {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "use_rslora": False, "use_dora": False, **values}


def in_metadata(**values: Any) -> dict[str, str]:
    """What diffusers packs into a file's metadata."""
    packed = {f"transformer.{name}": value for name, value in peft_config(**values).items()}
    return {"format": "pt", "lora_adapter_metadata": json.dumps(packed)}


def peft(module: str) -> str:
    return f"base_model.model.{module}"


def patterned(weights: Tensors, generator: torch.Generator) -> Written:
    """PEFT with ranks and alphas of their own for some modules."""
    made = Written(name="adapter_model.safetensors", config=peft_config(
        alpha_pattern={"self_attn.q": 2, r"blocks\.1\.ffn\.0": 5}, rank_pattern={"self_attn.k": 2}))  # fmt: skip
    for module in linears(weights):
        rank = 2 if module.endswith("self_attn.k") else RANK
        alpha = 2 if module.endswith("self_attn.q") else 5 if module == "blocks.1.ffn.0" else ALPHA
        rows, columns = weights[f"{module}.weight"].shape
        a, b = random(generator, rank, columns), random(generator, rows, rank)
        made.tensors |= {f"{peft(module)}.lora_A.weight": a, f"{peft(module)}.lora_B.weight": b}
        made.merged[f"{module}.weight"] = weights[f"{module}.weight"] + alpha / rank * (b @ a)
    return made


def with_bias(weights: Tensors, generator: torch.Generator) -> Written:
    """PEFT's lora_bias: the upper factor has a bias, scaled like the product."""
    made = pairs(peft, scale=ALPHA / RANK, name="adapter_model.safetensors", config=peft_config())(weights, generator)
    for module in linears(weights):
        bias = random(generator, *weights[f"{module}.bias"].shape)
        made.tensors[f"{peft(module)}.lora_B.bias"] = bias
        made.merged[f"{module}.bias"] = weights[f"{module}.bias"] + ALPHA / RANK * bias
    return made


def dora(key: str, axis: int, shape: tuple[int, ...], spell: Spelling, low_rank: Writer) -> Writer:
    """Factors, and lengths for the rows (axis 1) or the columns (axis 0) of the sum."""

    def write(weights: Tensors, generator: torch.Generator) -> Written:
        made = low_rank(weights, generator)
        for name, merged in made.merged.items():
            lengths = weights[name].norm(dim=axis) * (1 + random(generator, merged.shape[1 - axis]))
            lengths = lengths.float().double()
            made.tensors[f"{spell(name[:-7])}.{key}"] = lengths.reshape(shape)
            made.merged[name] = merged / (merged**2).sum(dim=axis, keepdim=True).sqrt() * lengths.unsqueeze(axis)
        return made

    return write


def loha(weight: torch.Tensor, generator: torch.Generator) -> Parts:
    rows, columns = weight.shape
    a, b, c, d = (4 * random(generator, *shape) for shape in ((rows, RANK), (RANK, columns)) * 2)
    parts = {"hada_w1_a": a, "hada_w1_b": b, "hada_w2_a": c, "hada_w2_b": d, "alpha": torch.tensor(2.0)}
    return parts, torch.einsum("ir,rj,is,sj->ij", a, b, c, d) * 2.0 / RANK


def kronecker(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """By its definition: block (i, j) of the result is a[i, j] * b."""
    return torch.cat([torch.cat([value * b for value in row], dim=1) for row in a.unbind(0)], dim=0)


def lokr(weight: torch.Tensor, generator: torch.Generator) -> Parts:
    """Two whole matrices; the alpha that LyCORIS writes beside them says nothing."""
    first, second = random(generator, 8, 8), random(generator, weight.shape[0] // 8, weight.shape[1] // 8)
    return {"lokr_w1": first, "lokr_w2": second, "alpha": torch.tensor(2.0)}, kronecker(first, second)


def lokr_in_factors(weight: torch.Tensor, generator: torch.Generator) -> Parts:
    first = random(generator, 8, 8)
    a, b = random(generator, weight.shape[0] // 8, RANK), random(generator, RANK, weight.shape[1] // 8)
    parts = {"lokr_w1": first, "lokr_w2_a": a, "lokr_w2_b": b, "alpha": torch.tensor(2.0)}
    return parts, kronecker(first, a @ b) * 2.0 / RANK


def peft_lokr(weight: torch.Tensor, generator: torch.Generator) -> Parts:
    """In PEFT the alpha of the config counts with whole matrices too: 6, with a rank of 2."""
    parts, change = lokr(weight, generator)
    return {name: value for name, value in parts.items() if name != "alpha"}, 3 * change


def oft(weight: torch.Tensor, generator: torch.Generator) -> Parts:
    """Sixteen groups of rows, each turned by Cayley's form of a skew matrix."""
    size = weight.shape[0] // 16
    blocks, one = random(generator, 16, size, size), torch.eye(size).double()
    turned = [torch.linalg.solve(one + block - block.T, one - block + block.T) @ rows
              for block, rows in zip(blocks, weight.chunk(16), strict=True)]  # fmt: skip
    return {"oft_blocks": blocks, "alpha": torch.tensor(0.0)}, torch.cat(turned) - weight


def difference(weight: torch.Tensor, generator: torch.Generator) -> Parts:
    change = random(generator, *weight.shape)
    return {"diff": change}, change


def patch_embedding(tucker: bool) -> Writer:
    """The one convolution, as LyCORIS trains it, with a factor in the middle or without."""

    def write(weights: Tensors, generator: torch.Generator) -> Written:
        weight = weights["patch_embedding.weight"]
        rows, columns, *kernel = weight.shape
        up, stem = random(generator, rows, RANK, 1, 1, 1), "lycoris_patch_embedding"
        made = Written({f"{stem}.lora_up.weight": up, f"{stem}.alpha": torch.tensor(2.0)})
        if tucker:
            down, mid = random(generator, RANK, columns, 1, 1, 1), random(generator, RANK, RANK, *kernel)
            made.tensors |= {f"{stem}.lora_down.weight": down, f"{stem}.lora_mid.weight": mid}
            change = torch.einsum("ir,rstuv,sj->ijtuv", up[..., 0, 0, 0], mid, down[..., 0, 0, 0])
        else:
            down = made.tensors[f"{stem}.lora_down.weight"] = random(generator, RANK, columns, *kernel)
            change = torch.einsum("ir,rjtuv->ijtuv", up[..., 0, 0, 0], down)
        made.merged["patch_embedding.weight"] = weight + 2.0 / RANK * change
        return made

    return write


def lightx2v(weights: Tensors, generator: torch.Generator) -> Written:
    """Pairs for matrices, and plain differences for biases, norms and modulations."""
    made = pairs(lambda module: f"diffusion_model.{module}", "lora_down.weight", "lora_up.weight")(weights, generator)
    for name, weight in weights.items():
        module, _, kind = name.rpartition(".")
        ending = {"bias": "diff_b", "modulation": "diff_m"}.get(kind, "diff")
        if ending == "diff" and (weight.ndim != 1 or "blocks" not in name):
            continue
        change = random(generator, *weight.shape)
        made.tensors[f"diffusion_model.{module}.{ending}"] = change
        made.merged[name] = weight + change
    return made


def norms(weights: Tensors, generator: torch.Generator) -> Written:
    """LyCORIS trains norms as differences under names of their own; others write the whole norm."""
    made = Written()
    for name, weight in weights.items():
        if "attn.norm_" in name:
            value = made.tensors[f"diffusion_model.{name[:-7]}.set_weight"] = 1 + random(generator, *weight.shape)
            made.merged[name] = value
        if ".norm3." in name:
            module, _, kind = name.rpartition(".")
            change = random(generator, *weight.shape)
            made.tensors[f"lycoris_{flat(module)}.{kind[0]}_norm"] = change
            made.merged[name] = weight + change
    return made


def dotted(prefix: str) -> Spelling:
    return lambda module: prefix + module


PEFT_FILE = "adapter_model.safetensors"
KOHYA = {"down": "lora_down.weight", "up": "lora_up.weight", "alpha": 2.0, "scale": 2.0 / RANK}
FORMATS: dict[str, Writer] = {
    "ComfyUI, diffusion-pipe": pairs(dotted("diffusion_model.")),
    "original names": pairs(dotted("")),
    "DiffSynth": pairs(dotted("pipe.dit."), "lora_A.default.weight", "lora_B.default.weight"),
    "kohya, musubi": pairs(lambda module: f"lora_unet_{flat(module)}", **KOHYA),
    "kohya with dots": pairs(kohya_mixture, **KOHYA),
    "Wan Fun": pairs(lambda module: f"lora_unet__{flat(module)}", **KOHYA),
    "kohya of diffusers": pairs(lambda module: f"lora_unet_{flat(diffusers(module))}", **KOHYA),
    "OneTrainer": pairs(lambda module: f"lora_transformer_{flat(diffusers(module))}", **KOHYA),
    "diffusers": pairs(lambda module: f"transformer.{diffusers(module)}"),
    "diffusers, old factor names": pairs(lambda module: f"transformer.{diffusers(module)}", "lora.down.weight",
                                         "lora.up.weight"),
    "diffusers 0.34, SimpleTuner": pairs(lambda module: f"transformer.{diffusers(module)}", scale=ALPHA / RANK,
                                         metadata=in_metadata(), name="pytorch_lora_weights.safetensors"),
    "diffusers 0.34, rslora": pairs(lambda module: f"transformer.{diffusers(module)}", scale=ALPHA / RANK**0.5,
                                    metadata=in_metadata(use_rslora=True)),
    "finetrainers": pairs(lambda module: f"transformer.{diffusers(module)}", scale=ALPHA / RANK,
                          metadata={"lora_config": json.dumps({"r": RANK, "lora_alpha": ALPHA})}),
    "PEFT": pairs(peft, scale=ALPHA / RANK, config=peft_config(), name=PEFT_FILE),
    "PEFT, rslora": pairs(peft, scale=ALPHA / RANK**0.5, config=peft_config(use_rslora=True), name=PEFT_FILE),
    "PEFT, patterns": patterned,
    "PEFT, lora_bias": with_bias,
    "PEFT DoRA": dora("lora_magnitude_vector.weight", 1, (-1,), peft,
                      pairs(peft, scale=ALPHA / RANK, config=peft_config(use_dora=True), name=PEFT_FILE)),
    "LyCORIS DoRA, rows": dora("dora_scale", 1, (-1, 1), lycoris, pairs(lycoris, **KOHYA)),
    "LyCORIS DoRA, columns": dora("dora_scale", 0, (1, -1), lycoris, pairs(lycoris, **KOHYA)),
    "LoHa": for_matrices(lycoris, loha),
    "LoKr": for_matrices(lycoris, lokr),
    "LoKr in factors": for_matrices(lycoris, lokr_in_factors),
    "PEFT LoKr": for_matrices(peft, peft_lokr, name=PEFT_FILE, config={"peft_type": "LOKR", "r": 2, "alpha": 6}),
    "OFT": for_matrices(lycoris, oft),
    "LoCon": patch_embedding(tucker=False),
    "LoCon, Tucker": patch_embedding(tucker=True),
    "LightX2V": lightx2v,
    "whole differences": for_matrices(dotted("diffusion_model."), difference),
    "norms": norms,
    "FSDP and torch.compile": pairs(wrapped),
    "LongLive .pt": pairs(lambda module: f"base_model.model.{wrapped(module)}", "lora_A.default.weight",
                          "lora_B.default.weight", name="lora.pt", nested=("generator_lora",)),
    "PEFT .bin": pairs(peft, scale=ALPHA / RANK, config=peft_config(), name="adapter_model.bin"),
}  # fmt: skip


def write(folder: Path, made: Written) -> Path:
    """Put a LoRA into a folder of its own, and its config beside it."""
    folder.mkdir(parents=True)
    path = folder / made.name
    tensors = {key: value.float() for key, value in made.tensors.items()}
    if path.suffix == ".safetensors":
        save_file(tensors, path, metadata=made.metadata or None)
    else:
        content: Any = tensors
        for name in reversed(made.nested):
            content = {name: content, "step": 7}
        torch.save(content, path)
    if made.config is not None:
        (folder / "adapter_config.json").write_text(json.dumps(made.config), "utf-8")
    return path
