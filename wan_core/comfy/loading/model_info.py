"""What a MODEL is, ours or core's: its file, its architecture, which released model, and its authors' settings."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ...checkpoint.info import CheckpointInfo
from ...checkpoint.variants import (
    DEMO,
    MODELS,
    Settings,
    check_variant,
    describe_model,
    mode_in_words,
    recommended,
    variant_by_shape,
)
from ...errors import InputError
from ...model.config import PRESETS, WanConfig
from ...words import Joined, Words, lines, words
from ..model.base_model import SkyReelsV2
from ..model.checks import check_model
from ..model.origin import checkpoint_of
from ..model.transformer import CONFIG_FIELDS
from .frame_rate import FRAME_RATE

AUTO = "auto"
VARIANTS = (AUTO, *PRESETS)


def config_of(patcher: Any) -> WanConfig:
    """Return the architecture of a MODEL; core's own has no fps weights, whatever its file holds."""
    transformer = patcher.model.diffusion_model
    if isinstance(patcher.model, SkyReelsV2):
        return transformer.config
    known = {name: value for name, value in patcher.model.model_config.unet_config.items() if name in CONFIG_FIELDS}
    return WanConfig(**{**known, "patch_size": tuple(known.get("patch_size", (1, 2, 2)))})


def model_info(patcher: Any, variant: str = AUTO, mode: str = AUTO) -> tuple[Joined, Settings]:
    """Say which released model a MODEL is and which settings its authors recommend.

    Args:
        patcher: a MODEL of Wan 2.1 kind.
        variant: a name in PRESETS, or "auto": from the marker in its file, the names of file and folder, or its shape.
        mode: one of `wan_core.checkpoint.variants.MODES`.

    Returns:
        The text, and the settings.

    Raises:
        InputError: no Wan 2.1 model, a variant that it cannot be or that cannot be told, or a mode that it does not do.
    """
    check_model(patcher.model, causal_attention=False)
    info, config = checkpoint_of(patcher), config_of(patcher)
    name, source = told_variant(patcher, info, config) if variant == AUTO else (variant, None)
    check_variant(config, name)
    settings, mode = recommended(name, mode)
    steps = settings.steps if name == DEMO else words("{steps} to 50", steps=settings.steps)
    text = lines(
        describe_model(config, name, source)[0],
        words("the MODEL does not say which file it is from") if info is None else file_line(info),
        words(
            "{layers} layers x {width}, {heads} heads, {channels} input channels",
            layers=config.num_layers,
            width=config.dim,
            heads=config.num_heads,
            channels=config.in_dim,
        ),
        frame_rate_state(patcher, info, config, name),
        words(
            "Recommended for {mode}: {width}x{height}, {base_num_frames} video frames at {fps} fps, shift {shift:g}, "
            "cfg {guidance:g}, {steps} steps, ar_step {ar_step}, causal_block_size {causal_block_size}",
            **asdict(settings) | {"mode": mode_in_words(mode), "steps": steps},
        ),
    )
    return text, settings


def told_variant(patcher: Any, info: CheckpointInfo | None, config: WanConfig) -> tuple[str, str | None]:
    """Return which released model a MODEL is, and what that rests on; `Raises: InputError` where nothing tells."""
    name, source = variant_by_shape(config) if info is None else (info.variant, info.variant_source)
    if name in MODELS:
        return name, source
    read_by_others = info is None and not isinstance(patcher.model, SkyReelsV2)
    what = describe_model(config if info is None else info.config, name, source, read_by_others)[0]
    raise InputError("The model's file does not tell which it is ({what}); choose its name under variant.", what=what)


def file_line(info: CheckpointInfo) -> Words:
    """Name a checkpoint's first file and what its weights are."""
    return words("{file}: {weights}", file=info.files[0].name, weights=info.weights)


def frame_rate_state(patcher: Any, info: CheckpointInfo | None, config: WanConfig, variant: str) -> Words:
    """Say what becomes of the frame rate in this MODEL."""
    if config.inject_sample_info:
        return words("frame-rate weights: chosen by the sampler's fps")
    attached = patcher.get_attachment(FRAME_RATE)
    if attached is not None:
        return words("frame-rate weights: attached for {fps} fps", fps=attached)
    if MODELS[variant].config.inject_sample_info or (info is not None and info.config.inject_sample_info):
        return words("frame-rate weights: dropped by the loader of this MODEL (add SkyReels-V2 Attach FPS Weights)")
    return words("no frame-rate weights")
