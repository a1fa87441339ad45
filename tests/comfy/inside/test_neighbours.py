"""Nodes of ComfyUI that change a MODEL, each in front of our sampler; docs/neighbours.md lists the results.

The oracle of those that change sampling: with all frames in step, our Euler with the neighbour equals core's Euler with
it, on our transformer and on core's. Then out of step: it runs, and it makes a difference.
"""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import comfy.hooks
import comfy.model_management
import comfy.samplers
import comfy.sd
import comfy_extras.nodes_cfg
import comfy_extras.nodes_context_windows
import comfy_extras.nodes_custom_sampler
import comfy_extras.nodes_easycache
import comfy_extras.nodes_hooks
import comfy_extras.nodes_model_advanced
import comfy_extras.nodes_model_merging
import comfy_extras.nodes_nag
import comfy_extras.nodes_slg
import comfy_extras.nodes_torch_compile
import folder_paths
import pytest
import torch
from measures import relative_distance
from sampling_scene import generated

Patch = Callable[[Any], Any]
FRAMES = 9
SHAPE = (1, 16, FRAMES, 4, 4)
# whole timesteps: core does not round them, we do
SIGMAS = torch.tensor([0.999, 0.97, 0.93, 0.88, 0.8, 0.7, 0.55, 0.3, 0.0])
ASYNC = {"ar_step": 2, "causal_block_size": 3}


def module(pack: ModuleType, name: str) -> ModuleType:
    return importlib.import_module(f"{pack.__name__}.wan_core.{name}")


@pytest.fixture
def file(models: Path) -> Path:
    return models / "diffusion_models" / "tiny_df_nofps.safetensors"


@pytest.fixture
def ours(pack: ModuleType, file: Path) -> Any:
    return module(pack, "comfy.loading.loader").load_model(file)


@pytest.fixture
def cores(file: Path) -> Any:
    return comfy.sd.load_diffusion_model(str(file))


def conditioning(seed: int, hooks: Any = None) -> list[Any]:
    text = torch.randn(1, 12, 4096, generator=torch.Generator().manual_seed(seed)) * 0.3
    return comfy.hooks.set_hooks_for_conditioning([[text, {}]], hooks) if hooks else [[text, {}]]


def noise(shape: tuple[int, ...] = SHAPE) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(7))


def sample(
    model: Any,
    sampler: Any,
    start: torch.Tensor | None = None,
    sigmas: torch.Tensor = SIGMAS,
    hooks: Any = None,
    cfg: float = 4.0,
) -> torch.Tensor:
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(conditioning(1, hooks), conditioning(2, hooks))
    guider.set_cfg(cfg)
    start = noise() if start is None else start
    with torch.inference_mode():
        return guider.sample(start, torch.zeros_like(start), sampler, sigmas, disable_pbar=True, seed=3)


def forcing(pack: ModuleType, model: Any, hooks: Any = None, sigmas: torch.Tensor = SIGMAS, **options: Any) -> Any:
    bridge = module(pack, "comfy.sampling.sampler")
    options = {"solver": "euler", **options}
    return sample(model, bridge.DiffusionForcingSampler(bridge.ForcingOptions(**options)), None, sigmas, hooks)


def core_euler(model: Any, hooks: Any = None, sigmas: torch.Tensor = SIGMAS) -> torch.Tensor:
    # core scales the noise by the first sigma, the authors start from all of it
    return sample(model, comfy.samplers.ksampler("euler"), noise() / sigmas[0], sigmas, hooks)


def skip_layer(model: Any) -> Any:
    return comfy_extras.nodes_slg.SkipLayerGuidanceDiT.execute(model, 3.0, 0.0, 1.0, "1", "").result[0]


def cfg_zero_star(model: Any) -> Any:
    return comfy_extras.nodes_cfg.CFGZeroStar.execute(model).result[0]


def rescale_cfg(model: Any) -> Any:
    return comfy_extras.nodes_model_advanced.RescaleCFG().patch(model, 0.7)[0]


def context_windows(model: Any) -> Any:
    node = comfy_extras.nodes_context_windows.WanContextWindowsManualNode
    return node.execute(model, 21, 9, "standard_static", 1, False, "pyramid", False).result[0]


def attention_override(model: Any) -> Any:
    """What PatchSageAttention and its like do, with an attention of another temperature in place of a kernel."""
    patched = model.clone()

    def override(function: Any, q: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        return function(q * 0.5, *args, **kwargs)

    patched.model_options["transformer_options"]["optimized_attention_override"] = override
    return patched


def part_of_the_blocks(model: Any) -> Any:
    """What KJNodes' WanVideoNAG does: a cross attention of one's own, another one for the batch's first condition."""
    patched = model.clone()
    for number, block in enumerate(model.model.diffusion_model.blocks):
        own = block.cross_attn

        def forward(x: torch.Tensor, context: torch.Tensor, own: Any = own, **options: Any) -> torch.Tensor:
            made = type(own).forward(own, x, context, **options)
            first = max(len(x) // 2, 1)
            return torch.cat((1.5 * made[:first] - 0.5 * made[:first].mean(dim=-1, keepdim=True), made[first:]))

        patched.add_object_patch(f"diffusion_model.blocks.{number}.cross_attn.forward", forward)
    return patched


SAMPLING: dict[str, Patch] = {
    "SkipLayerGuidanceDiT": skip_layer,
    "CFGZeroStar": cfg_zero_star,
    "RescaleCFG": rescale_cfg,
    "WanContextWindowsManual": context_windows,
    "attention override": attention_override,
    "WanVideoNAG": part_of_the_blocks,
}


@pytest.mark.parametrize("name", SAMPLING)
@pytest.mark.parametrize("loader", ["ours", "core's"])
def test_in_step_a_neighbour_does_what_it_does_with_cores_euler(
    pack: ModuleType, ours: Any, cores: Any, loader: str, name: str
) -> None:
    patched = SAMPLING[name](ours if loader == "ours" else cores)
    got, expected = forcing(pack, patched), core_euler(SAMPLING[name](cores))
    assert relative_distance(got, expected) < 1e-4
    assert relative_distance(got, forcing(pack, ours)) > 5e-3


@pytest.mark.parametrize("name", SAMPLING)
@pytest.mark.parametrize("options", [{}, {"causal_attention": True}], ids=["bidirectional", "causal"])
def test_out_of_step_a_neighbour_runs_and_makes_a_difference(
    pack: ModuleType, ours: Any, name: str, options: dict[str, Any]
) -> None:
    got = forcing(pack, SAMPLING[name](ours), **ASYNC, **options)
    assert got.isfinite().all()
    assert relative_distance(got, forcing(pack, ours, **ASYNC, **options)) > 5e-3


def test_what_tells_conditions_by_their_place_in_the_batch_sees_the_batch_under_causal_attention(
    pack: ModuleType, ours: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    got = forcing(pack, part_of_the_blocks(ours), **ASYNC, causal_attention=True)
    monkeypatch.setattr(module(pack, "comfy.sampling.causal_cache"), "can_cache", lambda *_: False)
    assert relative_distance(got, forcing(pack, part_of_the_blocks(ours), **ASYNC, causal_attention=True)) < 1e-5


@pytest.mark.parametrize("solver", ["lcm", "euler"])
def test_a_few_step_lora_with_its_solver_gives_what_core_gives(
    pack: ModuleType, ours: Any, models: Path, solver: str
) -> None:
    """Distillation LoRAs: 4 steps, cfg 1. In step the oracle is core's solver of the same name."""
    distilled, _ = module(pack, "comfy.loading.lora").apply_lora(ours, models / "loras" / "tiny_lora.safetensors", 1.0)
    bridge, sigmas = module(pack, "comfy.sampling.sampler"), torch.tensor([1.0, 0.9, 0.7, 0.4, 0.0])
    fresh = iter(module(pack, "sampling.noise").fresh_noise(SHAPE, 3, 4))
    given = {"noise_sampler": lambda *_: next(fresh)} if solver == "lcm" else {}
    expected = sample(distilled, comfy.samplers.ksampler(solver, given), sigmas=sigmas, cfg=1.0)
    for options in ({}, ASYNC):
        sampler = bridge.DiffusionForcingSampler(bridge.ForcingOptions(solver=solver, **options))
        got = sample(distilled, sampler, sigmas=sigmas, cfg=1.0)
        assert (relative_distance(got, expected) < 1e-4) is (not options)
        assert relative_distance(got, sample(ours, sampler, sigmas=sigmas, cfg=1.0)) > 0.05


@pytest.mark.parametrize("loader", ["ours", "core's"])
def test_naguidance_has_no_effect_on_a_wan_model_with_any_sampler(
    pack: ModuleType, ours: Any, cores: Any, loader: str
) -> None:
    """It patches the output of an attention, a place that core's Wan transformer does not have either."""
    model = ours if loader == "ours" else cores
    patched = comfy_extras.nodes_nag.NAGuidance.execute(model, 5.0, 0.5, 1.5).result[0]
    assert relative_distance(core_euler(patched), core_euler(model)) < 1e-5
    assert relative_distance(forcing(pack, patched, **ASYNC), forcing(pack, model, **ASYNC)) < 1e-5


def calls_of(run: Callable[[], torch.Tensor], model: Any) -> tuple[torch.Tensor, int]:
    """Return what a run gives and how often it went through the first block."""
    calls = 0

    def count(*_: Any) -> None:
        nonlocal calls
        calls += 1

    handle = model.model.diffusion_model.blocks[0].register_forward_hook(count)
    try:
        return run(), calls
    finally:
        handle.remove()


@pytest.mark.parametrize("options", [{}, ASYNC], ids=["in step", "out of step"])
def test_easycache_leaves_calls_out_and_in_step_as_many_as_with_cores_euler(
    pack: ModuleType, ours: Any, options: dict[str, Any]
) -> None:
    cached = comfy_extras.nodes_easycache.EasyCacheNode.execute(ours, 2.0, 0.0, 1.0, False).result[0]
    plain, all_calls = calls_of(lambda: forcing(pack, ours, **options), ours)
    got, calls = calls_of(lambda: forcing(pack, cached, **options), ours)
    assert got.isfinite().all() and calls < all_calls and relative_distance(got, plain) > 1e-5
    if not options:
        expected, expected_calls = calls_of(lambda: core_euler(cached), ours)
        assert calls == expected_calls and relative_distance(got, expected) < 1e-4


def test_modelsamplingsd3_counts_in_custom_sampling_and_our_node_has_its_own_shift(pack: ModuleType, ours: Any) -> None:
    (shifted,) = comfy_extras.nodes_model_advanced.ModelSamplingSD3().patch(ours, 3.0)
    scheduler = comfy_extras.nodes_custom_sampler.BasicScheduler
    sigmas = {name: scheduler.execute(model, "simple", 8, 1.0).result[0] for name, model in
              (("plain", ours), ("shifted", shifted))}  # fmt: skip
    even = sigmas["shifted"] / (3 - 2 * sigmas["shifted"])  # the shift undone
    torch.testing.assert_close(even[:-1], torch.arange(8, 0, -1) / 8, rtol=0, atol=2e-3)
    made = {name: forcing(pack, shifted, sigmas=values) for name, values in sigmas.items()}
    assert relative_distance(made["shifted"], made["plain"]) > 5e-3
    options, texts = module(pack, "sampling.run").ForcingOptions(), (conditioning(1), conditioning(2))
    latent = {"samples": torch.zeros(SHAPE)}
    own = [generated(model, texts, latent, options, 1, 3, 4.0, 8.0) for model in (ours, shifted)]
    assert relative_distance(own[1], own[0]) < 1e-6


def lora_hooks(start_percent: float | None) -> Any:
    """The tiny LoRA as a hook, on from a part of the run on."""
    nodes = comfy_extras.nodes_hooks
    (hooks,) = nodes.CreateHookLoraModelOnly().create_hook_model_only("tiny_lora.safetensors", 1.0)
    if start_percent is None:
        return hooks
    (frames,) = nodes.CreateHookKeyframe().create_hook_keyframe(0.0, 0.0)
    (frames,) = nodes.CreateHookKeyframe().create_hook_keyframe(1.0, start_percent, frames)
    return nodes.SetHookKeyframes().set_hook_keyframes(hooks, frames)[0]


@pytest.mark.parametrize("options", [{}, ASYNC, {**ASYNC, "causal_attention": True}], ids=["sync", "async", "causal"])
def test_a_lora_as_a_hook_equals_the_same_lora_loaded(
    pack: ModuleType, ours: Any, models: Path, options: dict[str, Any]
) -> None:
    apply_lora = module(pack, "comfy.loading.lora").apply_lora
    loaded, _ = apply_lora(ours, models / "loras" / "tiny_lora.safetensors", 1.0)
    expected = forcing(pack, loaded, **options)
    assert relative_distance(forcing(pack, ours, lora_hooks(None), **options), expected) < 1e-4
    assert relative_distance(forcing(pack, ours, **options), expected) > 0.1


def test_a_scheduled_lora_is_switched_on_when_core_switches_it_on(pack: ModuleType, ours: Any) -> None:
    got, expected = forcing(pack, ours, lora_hooks(0.5)), core_euler(ours, lora_hooks(0.5))
    assert relative_distance(got, expected) < 1e-4
    for other in (None, lora_hooks(None)):
        assert relative_distance(got, forcing(pack, ours, other)) > 5e-3
    assert forcing(pack, ours, lora_hooks(0.5), **ASYNC).isfinite().all()


@pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++", "cl"))), reason="no C++ compiler for inductor")
def test_a_compiled_model_gives_what_the_model_gives(pack: ModuleType, ours: Any) -> None:
    options, sigmas = {"ar_step": 1, "causal_block_size": 3}, SIGMAS[-3:]
    expected = forcing(pack, ours, sigmas=sigmas, **options)
    torch._dynamo.reset()
    compiled = comfy_extras.nodes_torch_compile.TorchCompileModel.execute(ours, "inductor").result[0]
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    got = forcing(pack, compiled, sigmas=sigmas, **options)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > before
    assert relative_distance(got, expected) < 1e-4


@pytest.mark.parametrize("node", ["ModelMergeSimple", "ModelMergeBlocks"])
def test_a_merge_is_the_mean_of_the_weights(pack: ModuleType, models: Path, node: str) -> None:
    load = module(pack, "comfy.loading.loader").load_model
    first = load(models / "diffusion_models" / "tiny_df.safetensors")
    second, _ = module(pack, "comfy.loading.lora").apply_lora(first, models / "loras" / "tiny_lora.safetensors", 1.0)
    ratios = (0.5,) if node == "ModelMergeSimple" else (0.5, 0.5, 0.5)
    nodes = comfy_extras.nodes_model_merging
    names = ("input", "middle", "out")
    merged = (
        nodes.ModelMergeSimple().merge(first, second, *ratios)
        if node == "ModelMergeSimple"
        else nodes.ModelMergeBlocks().merge(first, second, **dict(zip(names, ratios, strict=True)))
    )[0]
    weights = {}
    for name, model in (("first", first), ("second", second), ("merged", merged)):
        comfy.model_management.load_models_gpu([model], force_full_load=True)
        weights[name] = {key: value.clone() for key, value in model.model.diffusion_model.state_dict().items()}
        model.detach()
    for key, value in weights["merged"].items():
        mean = (weights["first"][key] + weights["second"][key]) / 2
        torch.testing.assert_close(value, mean, rtol=1e-4, atol=1e-5)
    assert forcing(pack, merged, **ASYNC).isfinite().all()


@pytest.mark.parametrize("name", ["tiny_df", "tiny_df_nofps", "tiny_i2v"])
def test_a_saved_model_loads_again_and_is_known_for_what_it_is(
    pack: ModuleType, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    loader = module(pack, "comfy.loading.loader")
    path = models / "diffusion_models" / f"{name}.safetensors"
    model, _ = module(pack, "comfy.loading.lora").apply_lora(
        loader.load_model(path), models / "loras" / "tiny_lora.safetensors", 1.0
    )
    monkeypatch.setattr(folder_paths, "get_output_directory", lambda: str(tmp_path))
    comfy_extras.nodes_model_merging.ModelSave().save(model, f"diffusion_models/{name}")
    (saved,) = tmp_path.rglob("*.safetensors")
    again = loader.load_model(saved)
    assert type(again.model) is type(model.model)
    comfy.model_management.load_models_gpu([model], force_full_load=True)
    expected, got = (patcher.model.diffusion_model.state_dict() for patcher in (model, again))
    assert set(got) == set(expected) and all(torch.equal(got[key], expected[key]) for key in expected)
    described, original = (module(pack, "checkpoint.reader").inspect_checkpoint(file)[1] for file in (saved, path))
    assert described.config == original.config and described.layout == "original" and not described.ignored


@pytest.mark.parametrize("memory", [1, 600_000], ids=["nothing stays on the device", "half of it"])
def test_a_model_that_is_only_partly_loaded_gives_the_same_video(
    pack: ModuleType, ours: Any, models: Path, memory: int
) -> None:
    """What --lowvram and --novram do: weights are fetched for each layer, LoRAs are added on the way."""
    lora = models / "loras" / "tiny_lora.safetensors"
    model, _ = module(pack, "comfy.loading.lora").apply_lora(ours, lora, 1.0)
    x, t = noise(), torch.linspace(900, 20, FRAMES)[None]
    context = conditioning(1)[0][0]
    outputs, counts = [], []
    for limit in (0, memory):
        model.detach()
        if limit:
            model.load(model.load_device, lowvram_model_memory=limit)
        else:
            model.load(model.load_device, full_load=True)
        modules = model.model.diffusion_model.modules()
        counts.append(sum(hasattr(each, "prev_comfy_cast_weights") for each in modules))
        with torch.inference_mode():
            outputs.append(model.model.diffusion_model(x, t, context, transformer_options={}))
    model.detach()
    assert counts[0] == 0 and counts[1] > 0
    assert relative_distance(outputs[1], outputs[0]) < 1e-4
