"""What the authors recommend, per released model and mode; the table is the one of their README."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from demo.dit import CONFIG
from demo.files import DIT_FILE, WEIGHTS
from tests.tiny import tiny_config
from wan_core.checkpoint.variants import (
    ASYNC,
    DEMO,
    IMAGE,
    MODELS,
    MODES,
    TEXT,
    check_variant,
    describe_model,
    guess_variant,
    other_name,
    recommended,
)
from wan_core.errors import InputError
from wan_core.model.config import PRESETS, WanConfig
from wan_core.model.geometry import WAN21

# kind and mode -> shift, guidance, ar_step, causal_block_size
TABLE = {
    ("DF", TEXT): (8.0, 6.0, 0, 1),
    ("DF", IMAGE): (5.0, 5.0, 0, 1),
    ("DF", ASYNC): (8.0, 6.0, 5, 5),
    ("T2V", TEXT): (8.0, 6.0, 0, 1),
    ("I2V", IMAGE): (5.0, 5.0, 0, 1),
}
SIZES = {"540P": (960, 544, 97), "720P": (1280, 720, 121)}


@pytest.mark.parametrize("mode", MODES[1:])
@pytest.mark.parametrize("variant", PRESETS)
def test_every_model_has_the_settings_of_its_mode_or_is_refused(variant, mode):
    kind, _, size = variant.split("-")
    if (kind, mode) not in TABLE:
        with pytest.raises(InputError, match=f'The model is {variant} and the mode "{mode}"'):
            recommended(variant, mode)
        return
    found, for_mode = recommended(variant, mode)
    assert for_mode == mode
    assert (found.shift, found.guidance, found.ar_step, found.causal_block_size) == TABLE[kind, mode]
    assert (found.width, found.height, found.base_num_frames) == SIZES[size]
    assert (found.steps, found.fps) == (30, 24)
    assert (found.base_num_frames - 1) % 4 == 0 and WAN21.latent_frames(found.base_num_frames) in (25, 31)


def test_auto_is_image_to_video_for_image_models_and_text_to_video_for_the_others():
    for variant in PRESETS:
        assert recommended(variant)[1] == (IMAGE if variant.startswith("I2V") else TEXT)


@pytest.mark.parametrize("variant", PRESETS)
def test_a_model_may_go_by_its_own_name_and_by_those_of_its_shape(variant):
    config = PRESETS[variant].config
    for name, other in PRESETS.items():
        if replace(other.config, inject_sample_info=False) == replace(config, inject_sample_info=False):
            check_variant(config, name)
        else:
            with pytest.raises(InputError, match=f"The variant chosen is {name}, but the model has"):
                check_variant(config, name)


def test_a_size_that_was_never_released_may_go_by_any_name_of_its_kind():
    check_variant(tiny_config(), "DF-14B-540P")
    check_variant(tiny_config(model_type="i2v"), "I2V-1.3B-540P")
    with pytest.raises(InputError, match="unlike that one"):
        check_variant(tiny_config(), "I2V-1.3B-540P")


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("wan2.2_t2v_high_noise_14B_fp8_scaled.safetensors", "Wan 2.2 T2V 14B, high noise"),
        ("Wan2_2-T2V-A14B-LOW_fp8_e4m3fn.safetensors", "Wan 2.2 T2V 14B, low noise"),
        ("Wan2.2-I2V-A14B-HighNoise-Q4_K_M.gguf", "Wan 2.2 I2V 14B, high noise"),
        ("wan2.2_ti2v_5B_fp16.safetensors", "Wan 2.2 TI2V 5B"),
        ("wan2.1_t2v_14B_fp16.safetensors", "Wan 2.1 T2V 14B"),
        ("Wan2_1-T2V-1_3B_bf16.safetensors", "Wan 2.1 T2V 1.3B"),
        ("Wan2_1-I2V-14B-480P_fp8.safetensors", "Wan 2.1 I2V 14B"),
        ("wan_2.1_vae.safetensors", "Wan 2.1"),
        ("Wan2_1-T2V-14B-540P", "Wan 2.1 T2V 14B"),
        ("model.safetensors", None),
        ("swan24_t2v.safetensors", None),
    ],
)
def test_a_file_that_names_one_of_wans_own_models_is_not_called_skyreels(file, name):
    assert other_name(file) == name
    for variant in ("DF-14B-540P", "I2V-14B-540P"):  # shapes that Wan's own models have as well
        config = PRESETS[variant].config
        text = str(describe_model(config, *guess_variant(config, None, Path("/models") / file))[0])
        assert (f"{name} (by the name of its file or folder)" == text) if name else ("SkyReels-V2" in text)


def test_an_image_model_that_reads_no_clip_vision_is_wan_2_2():
    config = replace(PRESETS["DF-14B-540P"].config, in_dim=36)
    assert str(describe_model(config, None, None)[0]).startswith("Wan 2.2 I2V 14B, high or low noise")


def test_the_demo_model_that_comes_with_the_pack_is_the_one_that_is_described():
    assert replace(CONFIG, text_len=WanConfig.text_len) == MODELS[DEMO].config  # no file tells the number of tokens
    said, _ = describe_model(CONFIG, *guess_variant(CONFIG, None, WEIGHTS / DIT_FILE))
    assert str(said) == "SkyReels-V2 Demo (by its shape)"
