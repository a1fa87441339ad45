"""The rolling roll-out through ComfyUI's guider: the video of wan_core alone, constant cost, and what is refused."""

from __future__ import annotations

import importlib
import importlib.util
import itertools
from pathlib import Path
from types import ModuleType
from typing import Any

import comfy.model_base
import comfy.model_management
import comfy.patcher_extension
import comfy.sampler_helpers
import comfy.samplers
import comfy.sd
import comfy.utils
import pytest
import torch
from measures import relative_error
from safetensors.torch import load_file, save_file
from sampling_scene import module

REPO = Path(__file__).resolve().parents[3]
TIMESTEPS, SHIFT, SEED = "1000, 750, 500, 250", 5.0, 3
STEPS, CHUNK, SIZE = 4, 3, (4, 4)


def tiny_models() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tiny_models", REPO / "tests" / "comfy" / "tiny_models.py")
    assert spec is not None and spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def checkpoint(folder: Path, prefix: str = "") -> Path:
    """Write a causal Wan 1.3B in small: original key names, no fps weights, as a conversion of a release holds it."""
    tiny = tiny_models()
    tensors = tiny.random_tensors(tiny.transformer_shapes(fps=False), seed=5)
    path = folder / f"self_forcing{prefix.replace('.', '_')}.safetensors"
    save_file({prefix + name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("causal")


@pytest.fixture(scope="module")
def file(folder: Path) -> Path:
    return checkpoint(folder)


@pytest.fixture
def model(pack: ModuleType, file: Path) -> Any:
    return module("comfy.loading.loader").load_model(file)


def conditioning(seed: int) -> list[Any]:
    return [[torch.randn(1, 12, 4096, generator=torch.Generator().manual_seed(seed)) * 0.3, {}]]


def latent(frames: int, known: int = 0, batch: int = 1) -> dict[str, Any]:
    """An empty latent, or one whose first frames are pinned."""
    if not known:
        return {"samples": torch.zeros(batch, 16, frames, *SIZE)}
    samples = torch.randn(batch, 16, frames, *SIZE, generator=torch.Generator().manual_seed(8))
    mask = torch.ones(1, 1, frames, *SIZE)
    mask[:, :, :known] = 0
    return {"samples": samples, "noise_mask": mask}


def by_node(pack_nodes: dict[str, Any], model: Any, given: dict[str, Any], **changed: Any) -> torch.Tensor:
    settings = {
        "positive": conditioning(1), "seed": SEED, "timesteps": TIMESTEPS, "shift": SHIFT, "cfg": 1.0,
        "chunk_frames": CHUNK, "window_frames": 7, "sink_frames": 1, "solver": "lcm", "fps": 24,
    }  # fmt: skip
    with torch.inference_mode():
        out = pack_nodes["SkyReelsV2RollingSampler"].execute(model=model, latent=given, **{**settings, **changed})
    made = out.args[0]
    assert "noise_mask" not in made
    return made["samples"]


def alone(
    file: Path, frames: int, latent_format: Any, window: tuple[float, ...] = (7, 1), chunk: int = CHUNK,
    cfg: float = 1.0, known: torch.Tensor | None = None, batch: int = 1, solver: str = "lcm",
) -> torch.Tensor:  # fmt: skip
    """The same video with wan_core only: no guider, no patcher, no comfy.ops."""
    rolling, sampling = module("long.rolling"), module("sampling.sigmas")
    state_dict, config, _ = module("checkpoint.reader").load_checkpoint(file)
    transformer = module("model.wan_model").WanModel(config).eval()
    transformer.load_state_dict({name: tensor.float() for name, tensor in state_dict.items()})
    sigmas = sampling.warped_sigmas(sampling.parse_timesteps(TIMESTEPS), SHIFT)
    seen = rolling.Window(*window)
    blocks = () if known is None else latent_format.process_in(known).split(
        rolling.split_known(known.shape[2], chunk), dim=2
    )  # fmt: skip
    first = 0 if known is None else known.shape[2]
    shape = (batch, 16, chunk, *SIZE)
    noise = [rolling.block_noise(shape, SEED, STEPS, at, solver) for at in range(first, frames, chunk)]
    with torch.inference_mode(), rolling.RollingCalls(transformer, config.num_layers, seen) as run:

        def denoise(x: torch.Tensor, levels: torch.Tensor, row: Any) -> torch.Tensor:
            t = sampling.exact_timesteps(levels).expand(len(x), -1)
            texts = (conditioning(1)[0][0].expand(batch, -1, -1), conditioning(2)[0][0].expand(batch, -1, -1))
            v = run(x, t, row, "cond", context=texts[0])
            if cfg != 1:
                plain = run(x, t, row, "uncond", context=texts[1])
                v = plain + cfg * (v - plain)
            return x - v * levels[:, None, None]

        made = [*blocks, *rolling.roll_out(denoise, noise, sigmas, seen, solver, blocks)]
    return latent_format.process_out(torch.cat(made, dim=2)[:, :, :frames])


@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_with_a_budget_it_is_the_video_of_wan_core_with_it(
    pack_nodes: dict[str, Any], model: Any, file: Path, cfg: float
) -> None:
    negative = {"negative": conditioning(2)} if cfg != 1 else {}
    made = by_node(pack_nodes, model, latent(18), cfg=cfg, kv_budget=0.25, **negative)
    latent_format = model.get_model_object("latent_format")
    assert relative_error(made, alone(file, 18, latent_format, (7, 1, 0.25), cfg=cfg)) < 1e-4
    assert relative_error(made, by_node(pack_nodes, model, latent(18), cfg=cfg, **negative)) > 1e-3


@pytest.mark.parametrize("prefix", ["", "model.", "model.diffusion_model."])
def test_a_causal_checkpoint_under_the_prefixes_of_its_releases_makes_the_video_of_wan_core(
    pack: ModuleType, pack_nodes: dict[str, Any], folder: Path, prefix: str
) -> None:
    path = checkpoint(folder, prefix)
    info = module("checkpoint.reader").inspect_checkpoint(path)[1]
    assert (info.prefix, info.layout, info.config.inject_sample_info) == (prefix, "original", False)
    model = module("comfy.loading.loader").load_model(path)
    made = by_node(pack_nodes, model, latent(12))
    assert made.shape == (1, 16, 12, *SIZE)
    assert relative_error(made, alone(path, 12, model.get_model_object("latent_format"))) < 1e-4


@pytest.mark.parametrize(
    ("frames", "given", "changed"),
    [
        (10, {}, {}),  # the last chunk is cut
        (2, {}, {}),
        (6, {"chunk": 1, "window": (4, 2)}, {"chunk_frames": 1, "window_frames": 4, "sink_frames": 2}),
        (9, {"cfg": 4.0}, {"cfg": 4.0, "negative": conditioning(2)}),
        (9, {"batch": 2, "cfg": 4.0}, {"cfg": 4.0, "negative": conditioning(2)}),
        (9, {"solver": "unipc"}, {"solver": "unipc"}),
    ],
    ids=["cut", "one short chunk", "frame-wise", "guidance", "two videos", "unipc"],
)
def test_every_setting_gives_the_video_of_wan_core(
    pack_nodes: dict[str, Any], model: Any, file: Path, frames: int, given: dict[str, Any], changed: dict[str, Any]
) -> None:
    made = by_node(pack_nodes, model, latent(frames, batch=given.get("batch", 1)), **changed)
    assert relative_error(made, alone(file, frames, model.get_model_object("latent_format"), **given)) < 2e-4


@pytest.mark.parametrize("known", [1, 3, 5])
def test_frames_pinned_at_the_beginning_are_gone_on_from(
    pack_nodes: dict[str, Any], model: Any, file: Path, known: int
) -> None:
    given = latent(11, known)
    clean = given["samples"][:, :, :known].clone()
    made = by_node(pack_nodes, model, given)
    torch.testing.assert_close(made[:, :, :known], clean)
    assert relative_error(made, alone(file, 11, model.get_model_object("latent_format"), known=clean)) < 1e-4


def test_a_video_of_known_frames_only_comes_back_as_it_is(pack_nodes: dict[str, Any], model: Any) -> None:
    given = latent(4, 4)
    assert torch.equal(by_node(pack_nodes, model, given), given["samples"])


def test_a_schedule_may_be_connected(pack_nodes: dict[str, Any], model: Any) -> None:
    nodes = pack_nodes["SkyReelsV2Sigmas"].execute(steps=30, shift=SHIFT, timesteps=TIMESTEPS)
    connected = by_node(pack_nodes, model, latent(6), sigmas=nodes.args[0], timesteps="1000", shift=1.0)
    torch.testing.assert_close(connected, by_node(pack_nodes, model, latent(6)))
    evenly = pack_nodes["SkyReelsV2Sigmas"].execute(steps=4, shift=SHIFT).args[0]
    torch.testing.assert_close(evenly, module("sampling.sigmas").flow_sigmas(4, SHIFT))


def test_a_lora_is_in_every_block(pack_nodes: dict[str, Any], model: Any) -> None:
    patched = model.clone()
    weight = "diffusion_model.blocks.0.self_attn.q.weight"
    shape = model.model.diffusion_model.blocks[0].self_attn.q.weight.shape
    patched.add_patches({weight: ("diff", (torch.randn(shape, generator=torch.Generator().manual_seed(1)) * 0.1,))})
    plain, changed = by_node(pack_nodes, model, latent(6)), by_node(pack_nodes, patched, latent(6))
    for a, b in zip(plain.split(CHUNK, dim=2), changed.split(CHUNK, dim=2), strict=True):
        assert relative_error(a, b) > 1e-3
    torch.testing.assert_close(by_node(pack_nodes, model, latent(6)), plain)


@pytest.fixture
def runs(pack: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every RollingCalls that is made, to look into."""
    made: list[Any] = []
    bridge, kind = module("comfy.sampling.rolling"), module("long.rolling").RollingCalls
    monkeypatch.setattr(bridge, "RollingCalls", lambda *args: made.append(kind(*args)) or made[-1])
    return made


def test_memory_and_calls_of_a_block_are_constant_and_the_cache_is_gone_afterwards(
    pack_nodes: dict[str, Any], model: Any, runs: list[Any]
) -> None:
    held: list[int] = []
    shapes: list[tuple[int, ...]] = []

    def watch(executor: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        out = executor(x, *args, **kwargs)
        shapes.append(tuple(x.shape))
        held.append(runs[0].num_bytes)
        return out

    watched = model.clone()
    watched.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL, "watch", watch)
    by_node(pack_nodes, watched, latent(24))
    assert shapes == [(1, 16, CHUNK, *SIZE)] * (8 * STEPS + 7)
    frame = 2 * 2 * 4 * 256 * 4  # layers, keys and values, tokens of a frame, width, bytes
    by_block = [held[at : at + STEPS + 1] for at in range(0, len(held), STEPS + 1)]
    # a window of 7: 4 before the chunk, and the chunk itself once it is finished
    assert all(block[:STEPS] == [4 * frame] * STEPS for block in by_block[2:])
    assert max(held) == 7 * frame
    assert runs[0].num_bytes == 0 and "skyreels_causal_run" not in model.model_options.get("transformer_options", {})


def test_core_is_asked_for_the_room_of_a_block_and_the_cache_whatever_the_length(
    pack_nodes: dict[str, Any], model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[float, float]] = []
    estimate = comfy.sampler_helpers.estimate_memory

    def watch(*args: Any, **kwargs: Any) -> Any:
        asked.append(estimate(*args, **kwargs))
        return asked[-1]

    monkeypatch.setattr(comfy.sampler_helpers, "estimate_memory", watch)
    for frames in (9, 18):
        by_node(pack_nodes, model, latent(frames))
    both, one = (model.model.memory_required([batch, 16, CHUNK, *SIZE]) for batch in (2, 1))
    stream = 7 * 4 * 256 * 4  # frames of the window, tokens of a frame, width, bytes
    wanted = (2 * 2 + 3) * stream  # keys and values in two layers; those that a layer looks at, and half as much again
    assert asked == [(both + wanted, one + wanted)] * 2


def test_an_interrupted_run_leaves_no_cache(
    pack_nodes: dict[str, Any], model: Any, runs: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[int] = []

    def stop(model: Any, steps: int) -> Any:
        def callback(step: int, x0: torch.Tensor, x: Any, total: int) -> None:
            held.append(runs[0].num_bytes)
            assert total == steps == 4 * STEPS and x0.shape == (1, 16, CHUNK, *SIZE)
            if step == 2 * STEPS:
                raise comfy.model_management.InterruptProcessingException

        return callback

    monkeypatch.setattr(module("comfy.sampling.rolling").latent_preview, "prepare_callback", stop)
    before = model.model.model_sampling
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        by_node(pack_nodes, model, latent(12))
    assert held[-1] > 0 and runs[0].num_bytes == 0
    assert model.model.model_sampling is before


def test_the_sigma_that_core_sees_falls_from_call_to_call(pack_nodes: dict[str, Any], model: Any) -> None:
    seen: list[float] = []
    listed: list[list[float]] = []

    def watch(executor: Any, x: torch.Tensor, timestep: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        seen.append(timestep.item())
        listed.append((args[0] if args else kwargs["model_options"])["transformer_options"]["sample_sigmas"].tolist())
        return executor(x, timestep, *args, **kwargs)

    watched = model.clone()
    watched.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.PREDICT_NOISE, "watch", watch)
    by_node(pack_nodes, watched, latent(10, 1))
    assert all(later < earlier for earlier, later in itertools.pairwise(seen))
    assert listed[0][:-1] == pytest.approx(seen) and listed[0][-1] == 0


def test_a_call_that_a_neighbour_leaves_out_is_noticed(pack_nodes: dict[str, Any], model: Any) -> None:
    calls = itertools.count()

    def lazy(executor: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        return x if next(calls) == STEPS else executor(x, *args, **kwargs)  # the call that would fill the cache

    skipping = model.clone()
    skipping.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL, "lazy", lazy)
    with pytest.raises(ValueError, match=r"holds 0 latent frames, but 3 are finished.*EasyCache"):
        by_node(pack_nodes, skipping, latent(9))


def end_known() -> dict[str, Any]:
    given = latent(9, 1)
    given["noise_mask"][:, :, -1] = 0
    return given


@pytest.mark.parametrize(
    ("given", "changed", "words"),
    [
        (
            latent(9),
            {"window_frames": 2},
            "window_frames is 2 latent frames, but the window has to hold a chunk of 3 and 1 sink",
        ),
        (latent(9), {"cfg": 4.0}, "cfg is 4, which needs a negative prompt"),
        (latent(9), {"timesteps": "250, 500"}, "have to fall"),
        (latent(9), {"sigmas": torch.tensor([1.0, 0.5])}, "has to end at 0"),
        (end_known(), {}, "Latent frame 8 is known, but a rolling video"),
        ({"samples": torch.zeros(1, 4, 8, 8)}, {}, r"shape \[1, 4, 8, 8\]"),
        (latent(9), {"positive": [[torch.zeros(1, 4, 512), {}]]}, "positive conditioning is 512 wide"),
    ],
    ids=["window", "negative", "timesteps", "sigmas", "end frame", "latent", "text"],
)
def test_what_cannot_work_is_refused(
    pack_nodes: dict[str, Any], model: Any, runs: list[Any], given: dict[str, Any], changed: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        by_node(pack_nodes, model, given, **changed)
    assert runs == []


def core_loaded(file: Path) -> Any:
    """What Load Diffusion Model gives."""
    return comfy.sd.load_diffusion_model(str(file))


def test_a_model_of_cores_loader_rolls_as_ours_does(pack_nodes: dict[str, Any], model: Any, file: Path) -> None:
    theirs = core_loaded(file)
    wanted = by_node(pack_nodes, model, latent(9))
    assert torch.equal(by_node(pack_nodes, theirs, latent(9)), wanted)
    own = theirs.get_attachment("skyreels_v2_own_transformer")
    assert torch.equal(by_node(pack_nodes, theirs, latent(9)), wanted)
    assert theirs.get_attachment("skyreels_v2_own_transformer") is own  # the file was read once


def test_an_autoregressive_model_of_cores_rolls_as_ours_does(
    pack_nodes: dict[str, Any], model: Any, file: Path, tmp_path: Path
) -> None:
    theirs = core_loaded(file)
    if not hasattr(comfy.model_base, "WAN21_CausalAR"):
        pytest.skip("this host has no autoregressive Wan")
    marked = tmp_path / "marked.safetensors"
    save_file(load_file(file), marked, metadata={"config": '{"transformer": {"causal_ar": true}}'})
    theirs = core_loaded(marked)
    assert type(theirs.model).__name__ == "WAN21_CausalAR"
    assert torch.equal(by_node(pack_nodes, theirs, latent(9)), by_node(pack_nodes, model, latent(9)))


def test_what_was_done_to_a_model_of_cores_loader_is_kept(
    pack_nodes: dict[str, Any], model: Any, file: Path, models: Path
) -> None:
    lora = comfy.utils.load_torch_file(str(models / "loras" / "tiny_lora.safetensors"))
    changed = [comfy.sd.load_lora_for_models(each, None, lora, 1.0, 0)[0] for each in (core_loaded(file), model)]
    theirs, ours = (by_node(pack_nodes, each, latent(9)) for each in changed)
    assert torch.equal(theirs, ours)
    assert not torch.equal(ours, by_node(pack_nodes, model, latent(9)))


def test_models_that_cannot_roll_are_refused(pack: ModuleType, pack_nodes: dict[str, Any], file: Path) -> None:
    nameless = core_loaded(file)
    nameless.cached_patcher_init = None  # as GGUF loaders leave it
    with pytest.raises(ValueError, match=r"ComfyUI's own transformer, .* SkyReels-V2 Model Loader"):
        by_node(pack_nodes, nameless, latent(9))
    patched = core_loaded(file)
    patched.add_object_patch("diffusion_model.forward_orig", lambda *_: None)
    with pytest.raises(ValueError, match=r"own transformer \(diffusion_model\.forward_orig\), and this node needs"):
        by_node(pack_nodes, patched, latent(9))
    rated = core_loaded(file)
    rated.set_attachments(module("comfy.loading.frame_rate").FRAME_RATE, 16)
    with pytest.raises(ValueError, match="remove that node and set fps here"):
        by_node(pack_nodes, rated, latent(9))


def test_image_to_video_models_are_refused(pack: ModuleType, pack_nodes: dict[str, Any], models: Path) -> None:
    image_model = module("comfy.loading.loader").load_model(models / "diffusion_models" / "tiny_i2v.safetensors")
    with pytest.raises(ValueError, match=r"image-to-video model \(36 input channels\)"):
        by_node(pack_nodes, image_model, latent(9))


def test_context_windows_are_refused(pack_nodes: dict[str, Any], model: Any) -> None:
    windowed = model.clone()
    windowed.model_options["context_handler"] = object()
    with pytest.raises(ValueError, match="has Context Windows"):
        by_node(pack_nodes, windowed, latent(9))


def test_a_window_that_fits_nowhere_is_refused(
    pack_nodes: dict[str, Any], model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comfy.model_management, "get_free_memory", lambda *_, **__: 0)
    with pytest.raises(ValueError, match=r"window of 7 latent frames take 0.0 GB, but there is no room"):
        by_node(pack_nodes, model, latent(9))


def test_in_sync_the_few_step_solver_is_cores_lcm(pack: ModuleType, model: Any) -> None:
    bridge, noise = module("comfy.sampling.sampler"), module("sampling.noise")
    shape = (1, 16, 5, *SIZE)
    sigmas = torch.tensor([1.0, 0.9, 0.7, 0.4, 0.0])  # whole timesteps: core does not round them, we do
    fresh = iter(noise.fresh_noise(shape, SEED, 4))

    def guided(sampler: Any) -> torch.Tensor:
        guider = comfy.samplers.CFGGuider(model)
        guider.set_conds(conditioning(1), conditioning(2))
        start = torch.randn(shape, generator=torch.Generator().manual_seed(7))
        with torch.inference_mode():
            return guider.sample(start, torch.zeros(shape), sampler, sigmas, disable_pbar=True, seed=SEED)

    core = guided(comfy.samplers.ksampler("lcm", {"noise_sampler": lambda sigma, following: next(fresh)}))
    ours = guided(bridge.DiffusionForcingSampler(bridge.ForcingOptions(solver="lcm")))
    assert relative_error(ours, core) < 1e-4


@pytest.mark.parametrize("failing", [3, 4, 9, 10, 20], ids=lambda call: f"call {call}")
def test_a_call_that_runs_out_of_memory_is_made_again_and_the_video_is_the_same(
    pack_nodes: dict[str, Any], model: Any, caplog: pytest.LogCaptureFixture, failing: int
) -> None:
    """The ninth and tenth keep the first chunk, of the prompt and of the negative prompt; by then one may be kept."""
    expected = by_node(pack_nodes, model, latent(9), cfg=4.0, negative=conditioning(2))
    calls = 0

    def fail_once(*_: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == failing:
            raise torch.cuda.OutOfMemoryError("out of memory")

    hook = model.model.diffusion_model.blocks[1].ffn.register_forward_pre_hook(fail_once)
    try:
        got = by_node(pack_nodes, model, latent(9), cfg=4.0, negative=conditioning(2))
    finally:
        hook.remove()
    assert "Out of memory in step" in caplog.text and "Retrying with" in caplog.text
    assert calls > failing and relative_error(got, expected) < 1e-5


def test_where_nothing_is_left_to_try_it_says_where(pack_nodes: dict[str, Any], model: Any) -> None:
    def fail(*_: Any) -> None:
        raise torch.cuda.OutOfMemoryError("out of memory")

    hook = model.model.diffusion_model.blocks[1].ffn.register_forward_pre_hook(fail)
    try:
        with pytest.raises(torch.cuda.OutOfMemoryError, match="Out of memory in step 1 of chunk 1 of 3:"):
            by_node(pack_nodes, model, latent(9))
    finally:
        hook.remove()
