"""Our LoRA loader in the host: every form of a file makes the weights that its maker meant, or says why not.

The oracle is the merged weight by the formulas of lora_formats.py; docs/files.md has the table of these forms.
"""

from __future__ import annotations

import importlib
import json
import re
import types
from pathlib import Path
from typing import Any

import comfy.lora
import comfy.model_management
import comfy.sd
import comfy.utils
import pytest
import torch
from conftest import TESTS, load_module, sibling
from safetensors.torch import save_file

formats = load_module("lora_formats", TESTS / "lora_formats.py")
file_formats = sibling("file_formats")
FORMATS = sibling("format_table").FORMATS
tiny_models = load_module("tiny_models", TESTS / "tiny_models.py")
q8 = load_module("q8_operations", TESTS / "q8_operations.py")

Tensors = dict[str, torch.Tensor]
WEIGHTS = tiny_models.random_tensors(tiny_models.transformer_shapes(16, False))
DOUBLES = {name: value.double() for name, value in WEIGHTS.items()}
KNOWN_TO_CORE = {"ComfyUI, diffusion-pipe", "kohya, musubi", "Wan Fun", "whole differences"}
BOUND = 1e-5  # error of a change in float32, of what it is in float64
NORM_UNKNOWN = {"PEFT DoRA", "LyCORIS DoRA, rows", "LyCORIS DoRA, columns", "OFT", "norms"}


def apply_lora(pack: types.ModuleType, model: Any, file: Path, strength: float = 1.0) -> tuple[Any, str]:
    module = importlib.import_module(f"{pack.__name__}.wan_core.comfy.loading.lora")
    patched, report = module.apply_lora(model, file, strength)
    return patched, str(report.describe())


def load(pack: types.ModuleType, file: Path) -> Any:
    return importlib.import_module(f"{pack.__name__}.wan_core.comfy.loading.loader").load_model(file)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model in float32."""
    path = tmp_path_factory.mktemp("models") / "tiny.safetensors"
    save_file(WEIGHTS, path)
    return path


@pytest.fixture
def model(pack: types.ModuleType, checkpoint: Path) -> Any:
    return load(pack, checkpoint)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def written(name: str, folder: Path) -> tuple[Path, Tensors]:
    made = formats.FORMATS[name](DOUBLES, generator())
    return formats.write(folder, made), made.merged


def pair(module: str, width: int = 256) -> Tensors:
    return {f"{module}.lora_A.weight": torch.ones(4, width) * 0.1, f"{module}.lora_B.weight": torch.ones(width, 4)}


def weights(patcher: Any) -> Tensors:
    """The weights as sampling sees them, patches and all."""
    comfy.model_management.load_models_gpu([patcher], force_full_load=True)
    found = {name: value.clone() for name, value in patcher.model.diffusion_model.state_dict().items()}
    patcher.detach()
    return found


def error_of_the_change(got: Tensors, merged: Tensors, before: Tensors, strength: float = 1.0) -> float:
    """The largest relative error of what changed; what should not change has to be the same to the bit."""
    assert all(torch.equal(got[name], before[name]) for name in before.keys() - merged.keys())
    return max(
        float((got[name] - before[name] - strength * (merged[name] - before[name])).norm()
              / (merged[name] - before[name]).norm() / strength)
        for name in merged
    )  # fmt: skip


@pytest.mark.parametrize("name", formats.FORMATS)
def test_every_form_makes_the_weights_that_its_maker_meant(
    pack: types.ModuleType, model: Any, tmp_path: Path, name: str
) -> None:
    file, merged = written(name, tmp_path / "lora")
    before = weights(model)
    for strength in (1.0, 0.5):
        patched, report = apply_lora(pack, model, file, strength)
        error = error_of_the_change(weights(patched), merged, before, strength)
        print(f"LORA {name} | {error:.1e}")
        assert error < BOUND
        total = len(formats.FORMATS[name](DOUBLES, generator()).tensors)
        first, *others = report.splitlines()
        assert first.startswith(f"{file.name}: {total} of {total} keys used, {len(merged)} weight")
        assert all("alpha" in line or "DoRA" in line for line in others)
    assert all(torch.equal(value, before[key]) for key, value in weights(model).items())


@pytest.mark.parametrize("name", formats.FORMATS)
def test_the_norm_in_the_report_is_that_of_the_change(
    pack: types.ModuleType, model: Any, tmp_path: Path, name: str
) -> None:
    file, merged = written(name, tmp_path / "lora")
    first = apply_lora(pack, model, file, -0.5)[1].splitlines()[0]
    norm = sum((merged[key] - WEIGHTS[key]).norm() ** 2 for key in merged) ** 0.5 / 2
    told = re.search(r"changed by (\S+) \(norm\)$", first)
    if name in NORM_UNKNOWN:
        assert told is None or name == "norms"  # some of whose parts tell
    else:
        assert told is not None and float(told[1]) == pytest.approx(float(norm), rel=6e-3)


def test_cores_own_loader_applies_four_of_the_forms_whole(model: Any, tmp_path: Path) -> None:
    right = set()
    for name in formats.FORMATS:
        file, merged = written(name, tmp_path / name)
        if file.suffix == ".safetensors":
            patched, _ = comfy.sd.load_lora_for_models(model, None, comfy.utils.load_torch_file(str(file)), 1.0, 0)
            got = weights(patched)
            right |= (
                {name} if all(torch.allclose(got[key], merged[key].float(), atol=1e-4) for key in merged) else set()
            )
    assert right == KNOWN_TO_CORE


@pytest.mark.parametrize(
    "form", ["comfy_quant nvfp4", "comfy_quant mxfp8", "scaled fp8_e4m3fn", "fp8_e4m3fn", "LightX2V int8"]
)
@pytest.mark.parametrize("loader", ["ours", "core's"])
def test_packed_weights_are_changed_as_cores_loader_changes_them(
    pack: types.ModuleType, tmp_path: Path, form: str, loader: str
) -> None:
    made = FORMATS[form].write(WEIGHTS)
    path = tmp_path / "packed.safetensors"
    save_file(made.stored, path, metadata=made.metadata or None)
    if loader == "core's" and form.startswith("LightX2V"):
        pytest.skip("which core's loader takes for bare numbers")
    model = load(pack, path) if loader == "ours" else comfy.sd.load_diffusion_model(str(path))
    file, _ = written("ComfyUI, diffusion-pipe", tmp_path / "lora")
    patched, report = apply_lora(pack, model, file)
    cores, _ = comfy.sd.load_lora_for_models(model, None, comfy.utils.load_torch_file(str(file)), 1.0, 0)
    got, expected, before = predict(patched), predict(cores), predict(model)
    assert "40 of 40 keys used, 20 weights changed" in report
    assert torch.equal(got, expected) and not torch.equal(got, before)


@pytest.mark.parametrize("name", ["ComfyUI, diffusion-pipe", "LyCORIS DoRA, rows", "whole differences"])
def test_columns_with_factors_of_their_own_are_changed_as_the_file_means_them(
    pack: types.ModuleType, tmp_path: Path, name: str
) -> None:
    made = FORMATS["comfy_quant nvfp4, pre_quant_scale"].write(WEIGHTS)
    save_file(made.stored, tmp_path / "packed.safetensors", metadata=made.metadata or None)
    file = formats.write(tmp_path / "lora", formats.FORMATS[name](DOUBLES, generator()))
    save_file(made.meaning, tmp_path / "plain.safetensors")
    packed, plain = load(pack, tmp_path / "packed.safetensors"), load(pack, tmp_path / "plain.safetensors")
    wanted = predict(apply_lora(pack, plain, file, strength=4.0)[0])  # the host rounds the sum to 4 bits again
    change = float((wanted - predict(plain)).norm())
    assert float((predict(apply_lora(pack, packed, file, strength=4.0)[0]) - wanted).norm()) < 0.5 * change


def predict(patcher: Any) -> torch.Tensor:
    comfy.model_management.load_models_gpu([patcher], force_full_load=True)
    x, text = (torch.randn(shape, generator=generator()) for shape in ((1, 16, 3, 4, 4), (1, 8, 4096)))
    with torch.inference_mode():
        return patcher.model.diffusion_model(x, torch.tensor([700.0]), text, transformer_options={}).float()


def test_a_gguf_model_takes_a_lora_though_its_weights_are_bytes(pack: types.ModuleType, tmp_path: Path) -> None:
    packed = {
        name: q8.PackedTensor(file_formats.pack_q8_0(value), value.shape)
        if file_formats.is_quantised(name, value) else value
        for name, value in WEIGHTS.items()
    }  # fmt: skip
    operations = {"custom_operations": q8.operations(file_formats.unpack_q8_0)}
    model = comfy.sd.load_diffusion_model_state_dict(packed, model_options=operations)
    file, merged = written("diffusers 0.34, SimpleTuner", tmp_path / "lora")
    patched, report = apply_lora(pack, model, file)
    assert "40 of 40 keys used, 20 weights changed" in report
    for name, target in merged.items():  # such loaders unpack a weight and give it to this function of the host
        weight = comfy.lora.calculate_weight(patched.patches[f"diffusion_model.{name}"], WEIGHTS[name].clone(), name)
        torch.testing.assert_close(weight, target.float(), rtol=1e-4, atol=1e-5)


def test_a_model_from_cores_loader_takes_the_node_too(pack_nodes: dict[str, Any], models: Path, tmp_path: Path) -> None:
    core = comfy.sd.load_diffusion_model(str(models / "diffusion_models" / "tiny_df_nofps.safetensors"))
    file, _ = written("diffusers", tmp_path / "lora")
    (models / "loras" / "d.safetensors").write_bytes(file.read_bytes())
    patched, report = pack_nodes["SkyReelsV2LoraLoader"].execute(core, "d.safetensors", 1.0).result
    assert len(patched.patches) == 20 and "40 of 40 keys used" in report


def test_changes_of_several_files_add_up_also_for_modulations(
    pack: types.ModuleType, model: Any, tmp_path: Path
) -> None:
    file, merged = written("LightX2V", tmp_path / "lora")
    once, _ = apply_lora(pack, model, file, 0.5)
    twice, _ = apply_lora(pack, once, file, 0.5)
    assert error_of_the_change(weights(twice), merged, weights(model)) < BOUND
    assert weights(model)["head.modulation"].equal(WEIGHTS["head.modulation"])


Q = "blocks.0.self_attn.q"
GOOD = {f"diffusion_model.{key}": value for key, value in pair("blocks.1.self_attn.v").items()}
LEFT_OUT: dict[str, tuple[Tensors, str]] = {
    "another module": ({"text_model.q.lora_A.weight": torch.ones(4, 8)}, "this model has no such part"),
    "another model's layer": (pair("blocks.7.self_attn.q"), "this model has no such part"),
    "another size": (pair(Q, width=512), f"{Q} has shape [256, 256] in this model and [512, 512] in the file"),
    "another size of difference": ({"patch_embedding.diff": torch.ones(256, 36, 1, 2, 2)}, "[256, 36, 1, 2, 2]"),
    "a bias of another size": ({f"{Q}.diff_b": torch.ones(512)}, f"{Q}.bias has shape [256]"),
    "half a pair": ({f"{Q}.lora_A.weight": torch.ones(4, 256)}, "other parts of the adapter are missing"),
    "the other half": ({f"{Q}.lora_B.weight": torch.ones(256, 4)}, "other parts of the adapter are missing"),
    "an alpha alone": ({f"{Q}.alpha": torch.tensor(4.0)}, "other parts of the adapter are missing"),
    "a magnitude alone": ({f"{Q}.dora_scale": torch.ones(256, 1)}, "other parts of the adapter are missing"),
    "a magnitude of another size": ({**pair(Q), f"{Q}.dora_scale": torch.ones(9, 1)}, "[9, 1]"),
    "factors of two ranks": ({**pair(Q), f"{Q}.lora_B.weight": torch.ones(256, 8)}, "[4, 256], [256, 8]"),
    "an unknown part": ({**pair(Q), f"{Q}.lora_C.weight": torch.ones(4)}, "part of the adapter is not known"),
    "one part twice": ({**pair(Q), **pair(f"transformer.{Q}")}, "the file has this part twice"),
    "two kinds": ({**pair(Q), f"{Q}.lokr_w1": torch.ones(8, 8)}, "parts of different kinds"),
    "whole numbers": ({**pair(Q), f"{Q}.lora_A.weight": torch.ones(4, 256, dtype=torch.int8)}, "without a scale"),
    "BOFT": ({f"{Q}.oft_blocks": torch.ones(2, 16, 16, 16)}, "BOFT is not supported"),
    "GLoRA": ({f"{Q}.{part}.weight": torch.ones(4, 4) for part in ("a1", "a2", "b1", "b2")}, "part of the adapter"),
    "nothing but zeros": ({**pair(Q), f"{Q}.lora_B.weight": torch.zeros(256, 4)}, "they change nothing"),
}


@pytest.mark.parametrize("case", LEFT_OUT)
def test_what_cannot_be_used_is_named_with_the_reason_and_the_rest_used(
    pack: types.ModuleType, model: Any, tmp_path: Path, case: str
) -> None:
    bad, reason = LEFT_OUT[case]
    file = tmp_path / "mixed.safetensors"
    save_file({**GOOD, **bad}, file)
    patched, report = apply_lora(pack, model, file)
    first, line = report.splitlines()
    assert first.startswith(f"mixed.safetensors: 2 of {2 + len(bad)} keys used, 1 weight changed by ")
    assert line.startswith(f"{len(bad)} not used, ") and reason in line and next(iter(bad)) in line
    got, before = weights(patched), weights(model)
    assert [key for key in got if not torch.equal(got[key], before[key])] == ["blocks.1.self_attn.v.weight"]
    save_file(bad, file)
    with pytest.raises(ValueError, match=r"^(Nothing of )?mixed\.safetensors .*\.$") as refused:
        apply_lora(pack, model, file)
    assert type(refused.value).__name__ == "InputError"


SETTINGS: dict[str, tuple[dict[str, Any] | str, str]] = {
    "no JSON": ("{", "is no JSON table"),
    "a list": ("[1]", "is no JSON table"),
    "alpha a word": ({"r": 4, "lora_alpha": "much"}, "alpha is 'much' in its adapter_config.json"),
    "another rank": ({"r": 16, "lora_alpha": 16}, "their rank is 4, but 16 in adapter_config.json"),
    "another kind": ({"peft_type": "IA3", "r": 4}, "of the kind IA3"),
    "a changed base model": ({"r": 4, "lora_alpha": 4, "init_lora_weights": "pissa_niter_4"}, "initialised with pissa"),
    "DoRA without magnitudes": ({"r": 4, "lora_alpha": 4, "use_dora": True}, "the magnitudes are missing"),
    "a pattern that is none": ({"r": 4, "lora_alpha": 4, "alpha_pattern": {"(": 1}}, "the pattern '('"),
}


@pytest.mark.parametrize("case", SETTINGS)
def test_settings_that_cannot_be_followed_are_refused(
    pack: types.ModuleType, model: Any, tmp_path: Path, case: str
) -> None:
    settings, reason = SETTINGS[case]
    save_file(GOOD, tmp_path / "a.safetensors")
    text = settings if isinstance(settings, str) else json.dumps(settings)
    (tmp_path / "adapter_config.json").write_text(text)
    with pytest.raises(ValueError, match=re.escape(reason)):
        apply_lora(pack, model, tmp_path / "a.safetensors")
    save_file(GOOD, tmp_path / "b.safetensors")  # now the config may be another file's
    assert "2 of 2 keys used" in apply_lora(pack, model, tmp_path / "a.safetensors")[1]


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"blocks.0.self_attn.q.lora_A.weight": (4, 5120), "blocks.0.self_attn.q.lora_B.weight": (5120, 4)},
         ("another size", "256", "5120", "14B")),
        ({"double_blocks.0.img_attn.qkv.lora_A.weight": (4, 64)}, ("looks like a LoRA for Flux", "is needed")),
        ({"encoder.block.0.layer.0.SelfAttention.q.weight": (4, 4)}, ("looks like a T5 text encoder",)),
        ({"text_embedding.0.weight": (4, 4), "head.modulation": (1, 2, 4)}, ("looks like a whole diffusion model",)),
        ({"vace_blocks.0.after_proj.weight": (4, 4)}, ("the VACE module of a Wan model",)),
        ({"alpha": (1,), "beta": (1,)}, ("2 keys", "none of them", "Wan 2.1")),
    ],
    ids=["for 14B", "for another model", "a text encoder", "a checkpoint", "a VACE module", "of no kind"],
)  # fmt: skip
def test_a_file_of_which_nothing_fits_is_refused(
    pack: types.ModuleType, model: Any, tmp_path: Path, tensors: dict[str, tuple[int, ...]], words: tuple[str, ...]
) -> None:
    file = tmp_path / "wrong.safetensors"
    save_file({key: torch.ones(shape) for key, shape in tensors.items()}, file)
    with pytest.raises(ValueError, match=r"^wrong\.safetensors .*\.$") as refused:
        apply_lora(pack, model, file)
    assert all(word in str(refused.value) for word in words), refused.value
    assert type(refused.value).__name__ == "InputError" and not model.patches
