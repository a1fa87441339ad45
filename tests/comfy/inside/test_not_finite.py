"""NaN and infinity at every door, in the host's process: noticed, named, and nothing made of them is kept."""

from __future__ import annotations

import importlib
import json
import logging
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import comfy.sd
import comfy.utils
import pytest
import safetensors.torch
import torch
from long_scene import Stopped, conditioning, inputs, make, prompts, settings, stop_in_segment

pytestmark = pytest.mark.usefixtures("output_folder")
BAD = pytest.mark.parametrize("bad", [math.nan, math.inf], ids=["nan", "inf"])
STEPS, SEGMENTS = 2, 3


def spoiled(tensor: torch.Tensor, bad: float, at: int = 17) -> torch.Tensor:
    """A copy with one bad value."""
    copy = tensor.clone()
    copy.view(-1)[at % copy.numel()] = bad
    return copy


def run(scene: Any) -> Any:
    """Make the long video."""
    changes = dict(scene.changes)
    images = changes.pop("images", None)
    given = inputs(scene.bridge, scene.model, scene.vae, **changes)
    return make(scene.bridge, given, settings(scene.bridge, **scene.chosen), images=images)


def told(bad: float, **options: Any) -> list[Any]:
    [[tokens, _]] = conditioning(1)
    return [[tokens, options]] if options else [[spoiled(tokens, bad), {}]]


@pytest.fixture
def scene(bridge: ModuleType, given: ModuleType, model: Any, models: Path, pack: ModuleType) -> Iterator[Any]:
    """Models of this test's own, which it may spoil."""
    file = models / "vae" / "tiny_wan_vae.safetensors"
    vae = comfy.sd.VAE(sd=comfy.utils.load_torch_file(str(file)))
    hooks: list[Any] = []
    yield SimpleNamespace(bridge=bridge, given=given, model=model, vae=vae, hooks=hooks, changes={}, chosen={})
    for hook in hooks:
        hook.remove()


def answer_at(segment: int, step: int) -> Callable[[Any, float], None]:
    """Spoil the last frame of what the transformer answers at one call of the whole job (cond and uncond are one)."""

    def spoil(scene: Any, bad: float) -> None:
        calls: list[int] = []

        def hook(_module: Any, _args: Any, made: torch.Tensor) -> torch.Tensor | None:
            calls.append(1)
            return spoiled(made, bad, -1) if len(calls) - 1 == segment * STEPS + step else None

        scene.hooks.append(scene.model.model.diffusion_model.head.register_forward_hook(hook))

    return spoil


def decoded_at(call: int, part: str = "decoder") -> Callable[[Any, float], None]:
    """Spoil what a part of the VAE makes at one of its calls."""

    def spoil(scene: Any, bad: float) -> None:
        calls: list[int] = []

        def hook(_module: Any, _args: Any, made: Any) -> Any:
            calls.append(1)
            if len(calls) - 1 != call:
                return None
            return [spoiled(made[0], bad), *made[1:]] if isinstance(made, list) else spoiled(made, bad)

        scene.hooks.append(getattr(scene.vae.first_stage_model, part).register_forward_hook(hook))

    return spoil


def weight_of(part: Callable[[Any], torch.nn.Module], name: str = "weight") -> Callable[[Any, float], None]:
    """Spoil a weight of a model that is loaded already, as another loader might have."""

    def spoil(scene: Any, bad: float) -> None:
        parameter = getattr(part(scene), name)
        with torch.no_grad():
            parameter.data = spoiled(parameter.data, bad)

    return spoil


def patch(scene: Any, bad: float) -> None:
    """A LoRA of another loader."""
    weight = scene.model.model.diffusion_model.head.head.weight
    scene.model.add_patches({"diffusion_model.head.head.weight": ("diff", (spoiled(weight.data, bad),))}, 1.0)


def image(**where: Any) -> Callable[[Any, float], None]:
    def spoil(scene: Any, bad: float) -> None:
        picture = spoiled(torch.rand(1, 32, 32, 3), bad)
        scene.changes["images"] = scene.given.GivenImages(
            **{name: picture if value is None else value for name, value in where.items()}
        )

    return spoil


def to_start(scene: Any) -> None:
    scene.changes["images"] = scene.given.GivenImages(start=torch.rand(1, 32, 32, 3))


def encoder(scene: Any, bad: float) -> None:
    to_start(scene)
    decoded_at(0, "encoder")(scene, bad)


def reencoded(scene: Any, bad: float) -> None:
    scene.chosen["carry_over"] = "frames"
    decoded_at(0, "encoder")(scene, bad)


PLACES: dict[str, tuple[Callable[[Any, float], None], int, str]] = {  # how it is spoiled, segments kept, what is said
    "positive": (lambda s, bad: s.changes.update(prompts=prompts([told(bad)])), 0, "in positive 0 0: check the node"),
    "negative": (lambda s, bad: s.changes.update(negative=told(bad)), 0, "in negative 0: check the node"),
    "an option of the positive": (
        lambda s, bad: s.changes.update(prompts=prompts([told(bad, pooled_output=torch.tensor([[1.0, bad]]))])),
        0,
        "in positive 0 0 option 0",
    ),
    "start image": (image(start=None), 0, "in start_image"),
    "end image": (image(end=None), 0, "in end_image"),
    "key image": (image(keys=None, key_frames=(21,)), 0, "in key_images"),
    **{
        f"answer of segment {segment + 1} at step {step + 1}": (
            answer_at(segment, step),
            segment,
            f"from step {step + 1} of {STEPS} in segment {segment + 1} of {SEGMENTS} on. Likely causes: fp16",
        )
        for segment in range(SEGMENTS)
        for step in range(STEPS)
    },
    "a weight": (weight_of(lambda s: s.model.model.diffusion_model.blocks[0].ffn[0]), 0, "from step 1 of 2"),
    "a bias of the head": (weight_of(lambda s: s.model.model.diffusion_model.head.head, "bias"), 0, "from step 1 of 2"),
    "a LoRA of another loader": (patch, 0, "from step 1 of 2 in segment 1"),
    "the VAE's decoder": (decoded_at(0), 0, "What the VAE made of the latents holds"),
    "the VAE's decoder later": (decoded_at(3), 1, "What the VAE made of the latents holds"),
    "a weight of the decoder": (weight_of(lambda s: s.vae.first_stage_model.conv2), 0, "start ComfyUI with --bf16-vae"),
    "the VAE's encoder": (encoder, 0, "What the VAE made of the images holds"),
    "the overlap that is encoded again": (reencoded, 0, "The re-encoded overlap holds"),
    "cfg": (lambda s, bad: s.chosen.update(cfg=bad), 0, "cfg is "),
    "shift": (lambda s, bad: s.chosen.update(shift=bad), 0, "shift is "),
    "drift_control": (lambda s, bad: s.chosen.update(drift_control=bad), 0, "drift_control is "),
}


@BAD
@pytest.mark.parametrize("place", PLACES)
def test_a_long_video_keeps_nothing_that_is_not_finite(scene: Any, place: str, bad: float) -> None:
    spoil, kept, said = PLACES[place]
    spoil(scene, bad)
    with pytest.raises(ValueError, match=said) as failure:
        run(scene)
    assert type(failure.value).__module__.startswith("skyreels_v2") and "\n" not in str(failure.value)
    nothing_bad_is_kept(scene.bridge, kept)


def nothing_bad_is_kept(bridge: ModuleType, kept: int) -> None:
    """Segments before the bad one are finished, and nothing else is."""
    folders = list(bridge.jobs_root().glob("test-*")) if bridge.jobs_root().exists() else []
    assert len(folders) <= 1
    records = [path for folder in folders for path in sorted(folder.glob("segment-*.json"))]
    assert len(records) == kept
    for folder in folders:
        assert not json.loads((folder / "job.json").read_text("utf-8"))["complete"]
        for path in folder.glob("segment-*.safetensors"):
            assert all(torch.isfinite(each.float()).all() for each in safetensors.torch.load_file(path).values())
        parts = {part for path in records for part in json.loads(path.read_text("utf-8"))["parts"]}
        assert {path.name for path in folder.glob("*.mp4")} == parts


FILE_PLACES = [
    "patch_embedding.weight", "blocks.0.self_attn.q.weight", "blocks.0.self_attn.norm_q.weight", "blocks.0.modulation",
    "text_embedding.2.bias", "head.head.weight", "fps_embedding.weight", "time_projection.1.bias",
]  # fmt: skip


@BAD
@pytest.mark.parametrize("name", FILE_PLACES)
def test_a_file_with_a_bad_weight_is_refused_by_its_name(
    bridge: ModuleType, models: Path, tmp_path: Path, name: str, bad: float
) -> None:
    loader = importlib.import_module("skyreels_v2.wan_core.comfy.loading.loader")
    weights = safetensors.torch.load_file(models / "diffusion_models" / "tiny_df.safetensors")
    weights[name] = spoiled(weights[name], bad)
    safetensors.torch.save_file(weights, tmp_path / "bad.safetensors")
    with pytest.raises(
        ValueError, match=rf"bad\.safetensors holds NaN or infinite values in {name}: the file is damaged"
    ):
        loader.load_model(tmp_path / "bad.safetensors")


@BAD
def test_a_pair_of_a_lora_with_a_bad_weight_is_left_out_by_name(
    model: Any, models: Path, tmp_path: Path, bad: float
) -> None:
    lora = importlib.import_module("skyreels_v2.wan_core.comfy.loading.lora")
    weights = safetensors.torch.load_file(models / "loras" / "tiny_lora.safetensors")
    name = next(iter(weights))
    pair = {key for key in weights if key.startswith(name.partition(".lora_")[0] + ".lora_")}
    safetensors.torch.save_file({**weights, name: spoiled(weights[name], bad)}, tmp_path / "bad.safetensors")
    safetensors.torch.save_file(
        {key: weights[key] for key in weights if key not in pair}, tmp_path / "rest.safetensors"
    )
    patched, report = lora.apply_lora(model, tmp_path / "bad.safetensors", 1.0)
    rest, _ = lora.apply_lora(model, tmp_path / "rest.safetensors", 1.0)
    assert patched.patches.keys() == rest.patches.keys() and len(pair) == 2
    assert "2 not used, because they hold NaN or infinite numbers: " in str(report.describe())
    assert {key for left_out in report.left_out for key in left_out.keys} == pair
    safetensors.torch.save_file({key: spoiled(weights[key], bad) for key in weights}, tmp_path / "all.safetensors")
    with pytest.raises(ValueError, match=r"Nothing of all\.safetensors can be used"):
        lora.apply_lora(model, tmp_path / "all.safetensors", 1.0)


@BAD
def test_fps_weights_that_are_bad_are_refused(pack: ModuleType, models: Path, tmp_path: Path, bad: float) -> None:
    frame_rate = importlib.import_module("skyreels_v2.wan_core.comfy.loading.frame_rate")
    weights = safetensors.torch.load_file(models / "diffusion_models" / "tiny_df.safetensors")
    weights["fps_projection.2.bias"] = spoiled(weights["fps_projection.2.bias"], bad)
    safetensors.torch.save_file(weights, tmp_path / "bad.safetensors")
    theirs = comfy.sd.load_diffusion_model(str(models / "diffusion_models" / "tiny_df_nofps.safetensors"))
    with pytest.raises(ValueError, match=r"bad\.safetensors holds NaN or infinite values in fps"):
        frame_rate.attach_frame_rate(theirs, tmp_path / "bad.safetensors", 24)


@BAD
def test_a_text_encoder_that_overflows_is_named(tiny_clip: Any, pack: ModuleType, bad: float) -> None:
    text = importlib.import_module("skyreels_v2.wan_core.comfy.model.text")
    clip = SimpleNamespace(
        tokenize=tiny_clip.tokenize,
        encode_from_tokens_scheduled=lambda tokens: [
            [spoiled(tensor, bad), options] for tensor, options in tiny_clip.encode_from_tokens_scheduled(tokens)
        ],
    )
    with pytest.raises(ValueError, match="What the text encoder made of the prompt holds"):
        text.encode_prompt(clip, "a cat")


@BAD
@pytest.mark.parametrize("where", ["latent", "noise_mask", "start", "end", "keys", "encoder"])
def test_start_end_and_key_frames_refuse_it(scene: Any, pack_nodes: dict[str, Any], where: str, bad: float) -> None:
    latent = {"samples": torch.zeros(1, 16, 5, 4, 4), "noise_mask": torch.ones(1, 1, 5, 4, 4)}
    images = {name: torch.rand(1, 32, 32, 3) for name in ("start", "end", "keys")}
    if where == "encoder":
        decoded_at(1, "encoder")(scene, bad)
    elif where in images:
        images[where] = spoiled(images[where], bad)
    else:
        name = "samples" if where == "latent" else where
        latent[name] = spoiled(latent[name], bad)
    node = pack_nodes["SkyReelsV2KeyFrames"]
    with pytest.raises(ValueError, match="holds NaN or infinite values"), torch.inference_mode():
        node.execute(scene.vae, latent, images["start"], images["end"], images["keys"], "8")


@BAD
@pytest.mark.parametrize("tiling", ["never", "always"])
def test_a_latent_to_decode_is_refused(scene: Any, pack_nodes: dict[str, Any], tiling: str, bad: float) -> None:
    latent = {"samples": spoiled(torch.zeros(1, 16, 3, 4, 4), bad)}
    with pytest.raises(ValueError, match="The latent holds NaN or infinite values: check the sampler"):
        pack_nodes["SkyReelsV2VAEDecode"].execute(latent, scene.vae, tiling)


def test_nan_out_of_the_vae_is_refused_by_vae_decode(scene: Any, pack_nodes: dict[str, Any]) -> None:
    decoded_at(1)(scene, math.nan)
    with pytest.raises(ValueError, match=r"What the VAE made of the latents holds .* --bf16-vae"):  # noqa: SIM117
        with torch.inference_mode():
            pack_nodes["SkyReelsV2VAEDecode"].execute({"samples": torch.zeros(1, 16, 3, 4, 4)}, scene.vae, "never")


@BAD
@pytest.mark.parametrize("where", ["its end", "its beginning", "its sound"])
def test_a_video_that_is_extended(scene: Any, where: str, bad: float) -> None:
    source_video = importlib.import_module("skyreels_v2.wan_core.comfy.long.source_video")
    latest = importlib.import_module("comfy_api.latest")
    images, wave = torch.rand(30, 32, 32, 3), torch.zeros(1, 1, 24000)
    if where == "its sound":
        wave[0, 0, 500] = bad
    else:
        images[-3 if where == "its end" else 4, 7, 7, 1] = bad
    audio = {"waveform": wave, "sample_rate": 16000}
    parts = latest.Types.VideoComponents(images=images, audio=audio, frame_rate=20)
    with pytest.raises(ValueError, match=r"(in start_image|A frame holds|The sound holds)"):
        source = source_video.read_source(latest.InputImpl.VideoFromComponents(parts), 5)
        scene.changes |= {"source": source, "images": scene.given.GivenImages(source.tail)}
        run(scene)
    nothing_bad_is_kept(scene.bridge, 0)


@BAD
@pytest.mark.parametrize("name", ["tail", "history"])
def test_what_an_older_version_kept_is_not_gone_on_with(
    scene: Any, monkeypatch: pytest.MonkeyPatch, name: str, bad: float
) -> None:
    """Versions before 0.2 looked at nothing: their journals may hold NaN."""
    journal = importlib.import_module("skyreels_v2.wan_core.long.journal")
    commit = journal.Journal.commit

    def unchecked(self: Any, index: int, tensors: dict[str, torch.Tensor], parts: Any) -> None:
        commit(self, index, {**tensors, name: spoiled(tensors[name], bad)}, parts)

    with monkeypatch.context() as patch:
        patch.setattr(journal, "check_all_finite", lambda *_: None)
        patch.setattr(journal.Journal, "commit", unchecked)
        stop_in_segment(scene.bridge, patch, 1)
        with pytest.raises(Stopped):
            run(scene)
    with pytest.raises(
        ValueError, match=rf"segment-0000\.safetensors holds .* in {name}: delete .*0000\.json and queue"
    ):
        run(scene)
    next(scene.bridge.jobs_root().glob("test-*/segment-0000.json")).unlink()
    assert run(scene).path.is_file()


def test_there_are_forty_places() -> None:
    """Places, not cases: each test with BAD has as many as its other parameters have values."""
    marks = [getattr(test, "pytestmark", []) for name, test in globals().items() if name.startswith("test_")]
    others = [[mark for mark in given if mark != BAD.mark] for given in marks if BAD.mark in given]
    assert sum(math.prod(len(mark.args[1]) for mark in each) for each in others) >= 40


@pytest.mark.parametrize("what", ["preview", "bar", "line", "loading the preview"])
def test_a_display_that_fails_does_not_end_the_run(
    scene: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    shown = importlib.import_module("skyreels_v2.wan_core.comfy.long.job_progress")
    calls: list[str] = []

    def failing(*_: Any, **__: Any) -> Any:
        calls.append(what)
        raise RuntimeError("no display")

    preview = SimpleNamespace(decode_latent_to_preview_image=failing)
    monkeypatch.setattr(shown.latent_preview, "get_previewer", lambda *_: preview if what == "preview" else None)
    if what == "loading the preview":
        monkeypatch.setattr(shown.latent_preview, "get_previewer", failing)
    if what == "bar":
        monkeypatch.setattr(shown.comfy.utils, "ProgressBar", lambda *_: SimpleNamespace(update_absolute=failing))
    say = failing if what == "line" else lambda line: None
    with caplog.at_level(logging.ERROR), torch.inference_mode():
        made = scene.bridge.make_long_video(
            inputs(scene.bridge, scene.model, scene.vae),
            settings(scene.bridge).planned(),
            scene.bridge.Job("test", say=say),
        )
    assert made.path.is_file()
    assert len(calls) == (1 if what == "loading the preview" else calls.count(what)) and calls
    assert caplog.text.count("the run continues without it") == 1


def test_an_interruption_by_the_progress_bar_still_ends_the_run(scene: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import comfy.model_management

    def interrupting(*_: Any) -> None:
        raise comfy.model_management.InterruptProcessingException

    shown = importlib.import_module("skyreels_v2.wan_core.comfy.long.job_progress")
    bar = SimpleNamespace(update_absolute=interrupting)
    monkeypatch.setattr(shown.comfy.utils, "ProgressBar", lambda *_: bar)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        run(scene)
