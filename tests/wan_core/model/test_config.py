"""WanConfig against the released models' config.json values and diffusers' own model classes."""

from __future__ import annotations

import pytest
import torch

from tests.tiny import diffusers_config_json, random_state_dict, tiny_config, to_diffusers_names
from wan_core.checkpoint.key_names import original_names
from wan_core.checkpoint.shapes import config_of
from wan_core.errors import CheckpointError, InputError
from wan_core.model.config import PRESETS, WanConfig

VARIANTS = [
    {},
    {"inject_sample_info": True},
    {"model_type": "i2v"},
    {"cross_attn_norm": False},
    {"in_dim": 36, "num_layers": 3, "out_dim": 8, "num_heads": 4},
]


def diffusers_shapes(config: WanConfig) -> dict[str, tuple[int, ...]]:
    """Names and shapes of diffusers' model of this size, built without memory."""
    diffusers = pytest.importorskip("diffusers")
    arguments = {key: value for key, value in diffusers_config_json(config).items() if key != "_class_name"}
    with torch.device("meta"):
        model = diffusers.SkyReelsV2Transformer3DModel(**arguments)
    return {key: tuple(value.shape) for key, value in model.state_dict().items()}


def test_defaults_are_the_reference_class_defaults():
    config = WanConfig()
    assert (config.dim, config.num_heads, config.num_layers, config.ffn_dim) == (2048, 16, 32, 8192)
    assert (config.text_len, config.text_dim, config.freq_dim, config.in_dim, config.out_dim) == (
        512,
        4096,
        256,
        16,
        16,
    )
    assert (config.patch_size, config.window_size, config.eps) == ((1, 2, 2), (-1, -1), 1e-6)
    assert (config.qk_norm, config.cross_attn_norm, config.inject_sample_info) == (True, True, False)


def test_all_eight_released_models_have_a_preset():
    small, large = (1536, 12, 30, 8960), (5120, 40, 40, 13824)
    wanted = {  # dim, heads, layers, ffn; in_dim; fps weights; window; height, width
        "DF-1.3B-540P": (small, 16, True, 97, (544, 960)),
        "DF-14B-540P": (large, 16, False, 97, (544, 960)),
        "DF-14B-720P": (large, 16, False, 121, (720, 1280)),
        "T2V-14B-540P": (large, 16, False, 97, (544, 960)),
        "T2V-14B-720P": (large, 16, False, 121, (720, 1280)),
        "I2V-1.3B-540P": (small, 36, False, 97, (544, 960)),
        "I2V-14B-540P": (large, 36, False, 97, (544, 960)),
        "I2V-14B-720P": (large, 36, False, 121, (720, 1280)),
    }
    assert set(PRESETS) == set(wanted)
    for name, (size, in_dim, fps, window, pixels) in wanted.items():
        config, model = WanConfig.preset(name), PRESETS[name]
        assert (config.dim, config.num_heads, config.num_layers, config.ffn_dim) == size
        assert (config.in_dim, config.inject_sample_info) == (in_dim, fps)
        assert config.model_type == ("i2v" if name.startswith("I2V") else "t2v")
        assert (model.base_num_frames, (model.height, model.width)) == (window, pixels)
        assert (model.shift, model.guidance) == ((5, 5) if name.startswith("I2V") else (8, 6))


def test_an_unknown_preset_is_refused_with_the_names_that_exist():
    with pytest.raises(InputError, match=r"'DF-5B'.*DF-1.3B-540P.*I2V-14B-720P"):
        WanConfig.preset("DF-5B")


@pytest.mark.parametrize("name", ["DF-1.3B-540P", "DF-14B-720P", "I2V-14B-540P"])
def test_a_released_model_has_the_parameters_diffusers_gives_it(name):
    config = WanConfig.preset(name)
    theirs = diffusers_shapes(config)
    ours = original_names({key: torch.empty(shape, device="meta") for key, shape in theirs.items()})
    assert {key: tuple(value.shape) for key, value in ours.items()} == config.parameter_shapes()


@pytest.mark.parametrize("changes", VARIANTS)
def test_every_diffusers_name_maps_to_an_original_one_and_back(changes):
    config = tiny_config(**changes)
    theirs = diffusers_shapes(config)
    tensors = {key: torch.empty(shape, device="meta") for key, shape in theirs.items()}
    ours = original_names(tensors)
    assert {key: tuple(value.shape) for key, value in ours.items()} == config.parameter_shapes()
    assert all(to_diffusers_names(ours)[key] is value for key, value in tensors.items())


@pytest.mark.parametrize("name", PRESETS)
def test_a_released_config_is_read_back_from_its_shapes(name):
    config = WanConfig.preset(name)
    shapes = {key: torch.empty(shape, device="meta") for key, shape in config.parameter_shapes().items()}
    assert config_of(shapes) == config


@pytest.mark.parametrize("changes", VARIANTS)
def test_a_config_is_read_from_a_state_dict_under_any_naming(changes):
    config = tiny_config(**changes, text_len=512)
    state_dict = random_state_dict(config)
    prefixed = {"model.diffusion_model." + key: value for key, value in state_dict.items()}
    for naming in (state_dict, prefixed, to_diffusers_names(state_dict)):
        assert config_of(naming, num_heads=config.num_heads) == config


def test_heads_are_128_wide_unless_given():
    state_dict = random_state_dict(tiny_config(dim=256))
    assert config_of(state_dict).num_heads == 2
    assert config_of(state_dict, num_heads=8).head_dim == 32


@pytest.mark.parametrize("heads", [None, 0, -2, 3, 64])
def test_heads_that_do_not_divide_the_width_are_refused(heads):
    with pytest.raises(CheckpointError, match=r"64 wide.*num_heads"):
        config_of(random_state_dict(tiny_config()), num_heads=heads)


def test_a_missing_parameter_is_named():
    state_dict = random_state_dict(tiny_config())
    del state_dict["patch_embedding.weight"]
    with pytest.raises(CheckpointError, match=r"patch_embedding\.weight"):
        config_of(state_dict, num_heads=2)


def test_a_gap_in_the_blocks_is_named():
    state_dict = random_state_dict(tiny_config(num_layers=4))
    holed = {key: value for key, value in state_dict.items() if not key.startswith("blocks.2.")}
    with pytest.raises(CheckpointError, match="block 2 is missing"):
        config_of(holed, num_heads=2)


def test_keys_of_another_model_are_refused():
    with pytest.raises(CheckpointError, match=r"1 keys given.*double_blocks"):
        config_of({"double_blocks.0.img_mod.lin.weight": torch.zeros(1)})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_heads": 3}, "dim 64.*3 heads"),
        ({"num_layers": 0}, "num_layers is 0"),
        ({"model_type": "vace"}, "'vace'"),
        ({"patch_size": (1, 0, 2)}, "patch_size"),
        ({"freq_dim": 7}, "freq_dim is 7"),
    ],
)
def test_numbers_that_make_no_model_are_refused(changes, words):
    with pytest.raises(InputError, match=words):
        tiny_config(**changes)
