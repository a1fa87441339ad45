"""Who is measured: the floor, ours, diffusers and ComfyUI's own Wan, all with the same weights."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from wan_core.model import WanModel

from .cases import DTYPES, Case, Inputs
from .floor import Floor
from .hosts import Host

Call = Callable[[Inputs], Tensor]
FLOOR, OURS, DIFFUSERS, COMFYUI = "floor", "ours", "diffusers", "ComfyUI"


def names(case: Case, host: Host | None) -> list[str]:
    """Return who can compute a case; diffusers comes before ComfyUI, whose packages it must not see."""
    with_host = host is not None and not case.block
    return [FLOOR, OURS, DIFFUSERS, COMFYUI] if with_host else [FLOOR, OURS, DIFFUSERS]


def fill(model: nn.Module) -> None:
    """Give a model seeded random weights that keep the numbers in range; norms stay near one."""
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        parameter.data = (torch.randn(parameter.shape, generator=generator) * 0.03).to(parameter.dtype)
        if "norm" in name and name.endswith("weight"):
            parameter.data += 1


def our_model(case: Case) -> WanModel:
    """Return our model of a case, in its dtype."""
    model = WanModel(case.shape.config, dtype=DTYPES[case.dtype])
    fill(model)
    return model.eval().requires_grad_(False)


def build(name: str, case: Case, model: WanModel | None = None, host: Host | None = None) -> Call:
    """Return a contender, ready to be called.

    Args:
        name: FLOOR, OURS, DIFFUSERS or COMFYUI.
        case: what it has to compute.
        model: our model with the weights that all share; made when not given.
        host: where ComfyUI is, for COMFYUI.
    """
    model = our_model(case) if model is None else model
    if name == DIFFUSERS:
        return diffusers_call(case, model)
    if name == COMFYUI:
        if host is None:
            raise ValueError("No ComfyUI was found: set COMFYUI_PATH to its folder.")
        return comfyui_call(case, model, host)
    if name == FLOOR:
        floor = Floor(dict(model.state_dict()), case)
        return lambda given: floor(given.x, given.t, given.context)
    return lambda given: model(given.x, given.t, given.context, causal_block_size=case.block)


def diffusers_call(case: Case, model: WanModel) -> Call:
    """Return diffusers' transformer with the weights of ours."""
    from diffusers import SkyReelsV2Transformer3DModel

    from wan_core.checkpoint import normalize_state_dict

    config = case.shape.config
    theirs = SkyReelsV2Transformer3DModel(
        num_attention_heads=config.num_heads, attention_head_dim=config.dim // config.num_heads,
        ffn_dim=config.ffn_dim, num_layers=config.num_layers, text_dim=config.text_dim,
    )  # fmt: skip
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


def comfyui_call(case: Case, model: WanModel, host: Host) -> Call:
    """Return ComfyUI's own Wan transformer with the weights of ours; it has no causal attention."""
    host.make_importable()
    from comfy.cli_args import args

    args.cpu = True
    args.use_pytorch_cross_attention = True  # the kernel that all others use
    import comfy.ldm.wan.model
    import comfy.ops

    config = case.shape.config
    theirs = comfy.ldm.wan.model.WanModel(
        model_type="t2v", dim=config.dim, ffn_dim=config.ffn_dim, num_heads=config.num_heads,
        num_layers=config.num_layers, dtype=DTYPES[case.dtype], device="cpu", operations=comfy.ops.disable_weight_init,
    )  # fmt: skip
    theirs.load_state_dict(model.state_dict(), assign=True)
    theirs.eval().requires_grad_(False)
    return lambda given: theirs(given.x, given.t, given.context)
