"""The bridge in the host's own process: loader, guider path and sampler against core's and against wan_core alone."""

from __future__ import annotations

import importlib
import itertools
from pathlib import Path
from types import ModuleType
from typing import Any

import comfy.model_management
import comfy.patcher_extension
import comfy.samplers
import comfy.sd
import pytest
import torch
from measures import relative_error

SHAPE = (1, 16, 5, 4, 4)
EXACT_SIGMAS = torch.tensor([0.999, 0.9, 0.7, 0.4, 0.1, 0.0])  # whole timesteps: core does not round them, we do


def module(pack: ModuleType, name: str) -> ModuleType:
    assert pack
    return importlib.import_module(f"skyreels_v2.wan_core.{name}")


@pytest.fixture(scope="session")
def checkpoint(models: Path) -> Path:
    return models / "diffusion_models" / "tiny_df.safetensors"


@pytest.fixture
def model(pack: ModuleType, checkpoint: Path) -> Any:
    return module(pack, "comfy.loading.loader").load_model(checkpoint)


def conditioning(seed: int) -> list[Any]:
    return [[torch.randn(1, 12, 4096, generator=torch.Generator().manual_seed(seed)) * 0.3, {}]]


def noise(shape: tuple[int, ...] = SHAPE) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(7))


def run(
    pack: ModuleType,
    model: Any,
    sigmas: torch.Tensor = EXACT_SIGMAS,
    cfg: float = 4.0,
    mask: torch.Tensor | None = None,
    latent: torch.Tensor | None = None,
    shape: tuple[int, ...] = SHAPE,
    callback: Any = None,
    **options: Any,
) -> torch.Tensor:
    bridge = module(pack, "comfy.sampling.sampler")
    sampler = bridge.DiffusionForcingSampler(bridge.ForcingOptions(**options))
    return guided(model, sampler, sigmas, cfg, mask, latent, shape, callback)


def guided(
    model: Any,
    sampler: Any,
    sigmas: torch.Tensor,
    cfg: float = 4.0,
    mask: torch.Tensor | None = None,
    latent: torch.Tensor | None = None,
    shape: tuple[int, ...] = SHAPE,
    callback: Any = None,
    start: torch.Tensor | None = None,
) -> torch.Tensor:
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(conditioning(1), conditioning(2))
    guider.set_cfg(cfg)
    latent = torch.zeros(shape) if latent is None else latent
    with torch.inference_mode():
        return guider.sample(
            noise(shape) if start is None else start, latent, sampler, sigmas, denoise_mask=mask, disable_pbar=True,
            seed=3, callback=callback,
        )  # fmt: skip


@pytest.mark.parametrize("loader", ["ours", "core's"])
def test_in_sync_our_euler_equals_cores(pack: ModuleType, model: Any, checkpoint: Path, loader: str) -> None:
    model = model if loader == "ours" else comfy.sd.load_diffusion_model(str(checkpoint))
    latent_format = model.get_model_object("latent_format")
    # core scales the noise by the first sigma, the authors start from all of it
    core = guided(model, comfy.samplers.ksampler("euler"), EXACT_SIGMAS, start=noise() / EXACT_SIGMAS[0])
    ours = run(pack, model, solver="euler")
    assert relative_error(latent_format.process_in(ours), latent_format.process_in(core)) < 1e-4


@pytest.mark.parametrize(
    "options",
    [{}, {"ar_step": 2, "causal_block_size": 2}, {"ar_step": 1, "causal_block_size": 3, "causal_attention": True}],
    ids=["sync", "async", "async causal"],
)
@pytest.mark.parametrize("known", [(), (0,), (0, 4), (2,)], ids=["no frame known", "start", "start and end", "middle"])
def test_the_host_gives_what_wan_core_gives_alone(
    pack: ModuleType, model: Any, checkpoint: Path, options: dict[str, Any], known: tuple[int, ...]
) -> None:
    latent_format = model.get_model_object("latent_format")
    latent = noise(SHAPE).flip(2) if known else torch.zeros(SHAPE)
    mask = torch.ones(1, 1, *SHAPE[2:])
    mask[:, :, list(known)] = 0
    hosted = latent_format.process_in(run(pack, model, mask=mask, latent=latent, **options))
    alone = without_host(pack, checkpoint, latent_format.process_in(latent), known, **options)
    assert relative_error(hosted, alone) < 2e-4
    for frame in known:
        torch.testing.assert_close(hosted[:, :, frame], latent_format.process_in(latent)[:, :, frame])


def without_host(
    pack: ModuleType, checkpoint: Path, latent: torch.Tensor, known: tuple[int, ...], ar_step: int = 0,
    causal_block_size: int = 1, causal_attention: bool = False,
) -> torch.Tensor:  # fmt: skip
    """The same run written with wan_core only: no guider, no patcher, no comfy.ops."""
    plan, seeded_noise = module(pack, "sampling.run"), module(pack, "sampling.noise").seeded_noise
    state_dict, config, _ = module(pack, "checkpoint.reader").load_checkpoint(checkpoint)
    transformer = module(pack, "model.wan_model").WanModel(config).eval()
    transformer.load_state_dict(state_dict)
    frames, given = SHAPE[2], torch.zeros(SHAPE[2], dtype=torch.bool)
    given[list(known)] = True
    options = plan.ForcingOptions("unipc", 24, ar_step, causal_block_size, causal_attention)
    run = plan.plan_run(options, EXACT_SIGMAS, frames, given)
    padded = run.num_frames
    start = torch.cat((noise(), seeded_noise((1, 16, padded - frames, 4, 4), 3, "padding")), dim=2)
    latent = torch.cat((latent, latent[:, :, -1:].expand(-1, -1, padded - frames, -1, -1)), dim=2)
    condition_noise = seeded_noise(tuple(start.shape), 3, "condition")
    pinned = module(pack, "sampling.known").KnownFrames(latent, run.known, condition_noise) if known else None

    def velocity(x: torch.Tensor, t: torch.Tensor, context: torch.Tensor, row: Any) -> torch.Tensor:
        return transformer(x, t, context, fps=24, causal_block_size=causal_block_size if causal_attention else 0)

    texts = [conditioning(seed)[0][0] for seed in (1, 2)]
    denoise = module(pack, "sampling.denoise").model_denoise(velocity, *texts, 4.0)
    with torch.inference_mode():
        return module(pack, "sampling.loop").sample(denoise, start, run, pinned)[:, :, :frames]


def test_the_sigma_that_core_sees_falls_from_row_to_row(pack: ModuleType, model: Any) -> None:
    seen: list[float] = []
    listed: list[list[float]] = []

    def watch(executor: Any, x: torch.Tensor, timestep: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        assert timestep.shape == (1,)
        seen.append(timestep.item())
        listed.append((args[0] if args else kwargs["model_options"])["transformer_options"]["sample_sigmas"].tolist())
        return executor(x, timestep, *args, **kwargs)

    watched = model.clone()
    watched.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.PREDICT_NOISE, "watch", watch)
    run(pack, watched, ar_step=2, causal_block_size=1)
    assert len(seen) == 5 + 2 * 4
    assert all(later < earlier for earlier, later in itertools.pairwise(seen))
    assert listed[0][:-1] == pytest.approx(seen) and listed[0][-1] == 0


def test_a_failing_run_leaves_the_model_as_it_was(
    pack: ModuleType, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, forward = model.model.model_sampling, model.model.diffusion_model.forward
    calls: list[torch.Tensor] = []

    def fail_at_the_second(x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        calls.append(x)
        if len(calls) > 1:
            raise RuntimeError("stop")
        return forward(x, *args, **kwargs)

    monkeypatch.setattr(model.model.diffusion_model, "forward", fail_at_the_second)
    with pytest.raises(RuntimeError, match="stop"):
        run(pack, model)
    assert model.model.model_sampling is before
    assert not model.model_options.get("transformer_options", {}).get("wrappers")


def test_a_preview_that_fails_ends_no_run_and_an_interrupt_does(pack: ModuleType, model: Any) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("no picture")

    def interrupt(*_: Any) -> None:
        raise comfy.model_management.InterruptProcessingException

    assert torch.equal(run(pack, model, callback=fail), run(pack, model))
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        run(pack, model, callback=interrupt)


def test_after_a_run_no_table_stays_on_the_device(pack: ModuleType, model: Any) -> None:
    run(pack, model)
    assert model.model.diffusion_model.last_rotary is None


def test_previews_lead_with_the_frame_in_work_and_end_with_the_whole_clip(pack: ModuleType, model: Any) -> None:
    calls: list[tuple[int, torch.Tensor, int]] = []
    out = run(
        pack, model, callback=lambda i, x0, x, total: calls.append((i, x0.clone(), total)), ar_step=2,
        causal_block_size=1,
    )  # fmt: skip
    assert [i for i, _, _ in calls] == list(range(calls[0][2]))
    final = model.get_model_object("latent_format").process_out(calls[-1][1])
    assert final.shape == out.shape
    torch.testing.assert_close(final[:, :, -1], out[:, :, -1])


def test_two_videos_at_once_equal_two_runs(pack: ModuleType, model: Any) -> None:
    both = run(pack, model, shape=(2, *SHAPE[1:]), ar_step=1, causal_block_size=1)
    assert both.shape[0] == 2 and both.isfinite().all()
    assert relative_error(both[:1], both[1:]) > 1e-2


def test_fps_weights_matter_and_only_16_has_its_own(pack: ModuleType, model: Any) -> None:
    at_16, at_24, at_30 = (run(pack, model, fps=fps) for fps in (16, 24, 30))
    torch.testing.assert_close(at_24, at_30)
    assert relative_error(at_16, at_24) > 1e-3


def test_the_users_shift_node_survives(pack: ModuleType, model: Any) -> None:
    import comfy_extras.nodes_model_advanced as advanced

    (shifted,) = advanced.ModelSamplingSD3().patch(model, 3.0)
    user = shifted.get_model_object("model_sampling")
    run(pack, shifted)
    assert shifted.get_model_object("model_sampling") is user


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (torch.tensor([1.0, 1, 0, 1]).view(1, 1, 1, 1, 4).expand(1, 1, 5, 4, 4), "splits latent frame 0"),
    ],
)
def test_masks_that_split_a_frame_are_refused(pack: ModuleType, model: Any, mask: torch.Tensor, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        run(pack, model, mask=mask)


def test_sigmas_that_do_not_end_at_zero_are_refused(pack: ModuleType, model: Any) -> None:
    with pytest.raises(ValueError, match="diffusion forcing has to end at 0"):
        run(pack, model, sigmas=EXACT_SIGMAS[:-1])


def test_causal_attention_on_a_core_model_is_refused(pack: ModuleType, checkpoint: Path) -> None:
    core = comfy.sd.load_diffusion_model(str(checkpoint))
    with pytest.raises(ValueError, match="Causal attention is on"):
        run(pack, core, causal_attention=True)
