"""Who is measured: the floor, ours, diffusers and ComfyUI's own Wan, all with the same weights."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import asdict

import torch
from torch import Tensor, nn

from wan_core.model.layers import Layers
from wan_core.model.wan_model import WanModel

from .cases import DTYPES, Case, Inputs
from .floor import Floor
from .hosts import Host

Call = Callable[[Inputs], Tensor]
FLOOR, OURS, COMPILED, DIFFUSERS, COMFYUI = "floor", "ours", "ours compiled", "diffusers", "ComfyUI"
IN_HOST = "ours in ComfyUI"
PIECES = 16  # the memory ladder's last step before keys, values and weights leave the GPU
IN_PIECES = f"ours in {PIECES} pieces"


def names(case: Case, host: Host | None, compiled: bool = False) -> list[str]:
    """Return who can compute a case; diffusers comes before ComfyUI, whose packages it must not see."""
    ours = [OURS, COMPILED] if compiled else [OURS]
    # diffusers wants whole blocks, ComfyUI's own Wan has no causal attention at all
    diffusers = [] if case.block and case.shape.latent[0] % case.block else [DIFFUSERS]
    comfyui = [COMFYUI] if host is not None and not case.block else []
    # the host's kernels are others than torch's only on a GPU
    in_host = [IN_HOST] if host is not None and case.device == "cuda" else []
    return [FLOOR, *ours, *diffusers, *comfyui, *in_host]


def fill(model: nn.Module, device: str) -> None:
    """Give a model seeded random weights that keep the numbers in range; norms stay near one."""
    generator = torch.Generator(device).manual_seed(1)
    for name, parameter in model.named_parameters():
        values = torch.randn(parameter.shape, generator=generator, device=device) * 0.03
        parameter.data = values.to(parameter.dtype)
        if "norm" in name and name.endswith("weight"):
            parameter.data += 1


def our_model(case: Case) -> WanModel:
    """Return our model of a case, on its device and in its dtype."""
    model = WanModel(case.shape.config, Layers(device=torch.device(case.device), dtype=DTYPES[case.dtype]))
    fill(model, case.device)
    return model.eval().requires_grad_(False)


def meta_model(case: Case) -> WanModel:
    """Return our model of a case with shapes and no data."""
    model = WanModel(case.shape.config, Layers(device=torch.device("meta"), dtype=DTYPES[case.dtype]))
    return model.eval().requires_grad_(False)


def weight_bytes(case: Case) -> int:
    """Return the memory that the weights of a case take in its dtype."""
    return sum(parameter.numel() * parameter.itemsize for parameter in meta_model(case).parameters())


def build(name: str, case: Case, model: WanModel | None = None, host: Host | None = None) -> Call:
    """Return a contender, ready to be called.

    Args:
        name: FLOOR, OURS, COMPILED, IN_PIECES, DIFFUSERS, COMFYUI or IN_HOST.
        case: what it has to compute.
        model: our model with the weights that all share; made when not given.
        host: where ComfyUI is, for COMFYUI and IN_HOST.
    """
    model = our_model(case) if model is None else model
    if name == DIFFUSERS:
        return diffusers_call(case, model)
    if name in (COMFYUI, IN_HOST):
        if host is None:
            raise ValueError("No ComfyUI was found: set COMFYUI_PATH to its folder.")
        host.make_importable()
        import_comfy(case.device)
        return comfyui_call(case, model) if name == COMFYUI else in_host_call(case, model)
    if name == FLOOR:
        floor = Floor(dict(model.state_dict()), case)
        return lambda given: floor(given.x, given.t, given.context)
    if name == COMPILED:
        model = compiled_copy(case, model)
    pieces = PIECES if name == IN_PIECES else 1
    return lambda given: model(given.x, given.t, given.context, causal_block_size=case.block, pieces=pieces)


def compiled_copy(case: Case, model: WanModel) -> WanModel:
    """Return a model of the same weights, its blocks under torch.compile as ComfyUI's TorchCompileModel puts them."""
    copy = meta_model(case)
    copy.load_state_dict(model.state_dict(), assign=True)
    for block in copy.blocks:
        block.compile()
    return copy.requires_grad_(False)


def diffusers_call(case: Case, model: WanModel) -> Call:
    """Return diffusers' transformer with the weights of ours."""
    from diffusers import SkyReelsV2Transformer3DModel

    from wan_core.checkpoint.reader import normalize_state_dict

    config = case.shape.config
    with torch.device("meta"):  # no random numbers for 14 billion weights that are replaced anyway
        theirs = SkyReelsV2Transformer3DModel(
            num_attention_heads=config.num_heads, attention_head_dim=config.dim // config.num_heads,
            ffn_dim=config.ffn_dim, num_layers=config.num_layers, text_dim=config.text_dim,
        )  # fmt: skip
    rope = theirs.rope  # its tables are no weights: they are made anew
    theirs.rope = type(rope)(rope.attention_head_dim, rope.patch_size, rope.max_seq_len).to(case.device)
    # give their names to our tensors: convert the names of stand-ins, and see which tensor came out under which name
    stand_ins = {name: torch.empty(value.shape, device="meta") for name, value in theirs.state_dict().items()}
    their_name = {id(tensor): name for name, tensor in stand_ins.items()}
    weights = model.state_dict()
    renamed = normalize_state_dict(stand_ins).items()
    theirs.load_state_dict({their_name[id(tensor)]: weights[name] for name, tensor in renamed}, assign=True)
    theirs.patch_embedding.to(DTYPES[case.dtype])
    theirs.eval().requires_grad_(False)
    if case.block:
        theirs._set_ar_attention(case.block)
    per_frame = case.mode != "one timestep"
    return lambda given: theirs(
        given.x, given.t, given.context, enable_diffusion_forcing=per_frame, return_dict=False
    )[0]  # fmt: skip


def import_comfy(device: str) -> None:
    """Import ComfyUI's parts, which look at its settings when they are imported."""
    from comfy.cli_args import args

    args.cpu = device != "cuda"
    args.use_pytorch_cross_attention = True  # the kernel that all others use
    importlib.import_module("comfy.ldm.wan.model")


def in_host_call(case: Case, model: WanModel) -> Call:
    """Return our model as the pack builds it in ComfyUI: with the host's layers, attention and rotary embedding."""
    import comfy.ops

    from wan_core.comfy.model.transformer import HostWanModel

    device, dtype = torch.device("meta"), DTYPES[case.dtype]
    ours = HostWanModel(comfy.ops.disable_weight_init, device, dtype, **asdict(case.shape.config))
    ours.load_state_dict(model.state_dict(), assign=True)
    ours.eval().requires_grad_(False)
    return lambda given: ours.predict(given.x, given.t, given.context, causal_block_size=case.block)


def comfyui_call(case: Case, model: WanModel) -> Call:
    """Return ComfyUI's own Wan transformer with the weights of ours; it has no causal attention."""
    import comfy.ldm.wan.model
    import comfy.ops

    config = case.shape.config
    theirs = comfy.ldm.wan.model.WanModel(
        model_type="t2v", dim=config.dim, ffn_dim=config.ffn_dim, num_heads=config.num_heads,
        num_layers=config.num_layers, dtype=DTYPES[case.dtype], device=case.device,
        operations=comfy.ops.disable_weight_init,
    )  # fmt: skip
    theirs.load_state_dict(model.state_dict(), assign=True)
    theirs.eval().requires_grad_(False)
    return lambda given: theirs(given.x, given.t, given.context)
