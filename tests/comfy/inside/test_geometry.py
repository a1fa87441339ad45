"""A model whose latents have 48 channels and a stride of 16, as Wan 2.2 5B's, is one entry of GEOMETRIES.

Transformer and VAE are tiny; the VAE is built by the host from its file as any other, only narrower.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import comfy.ldm.wan.vae2_2
import comfy.sd
import pytest
import torch
from conftest import TESTS, load_module
from long_scene import conditioning, frames_of
from safetensors.torch import save_file
from sampling_scene import module

CHANNELS, WIDTH, HEIGHT, FRAMES = 48, 96, 64, 17
SIZE = {"size": "custom", "width": WIDTH, "height": HEIGHT}
FORCING = {
    "solver": "unipc", "fps": 24, "ar_step": 0, "causal_block_size": 1, "causal_attention": False,
    "addnoise_condition": 0,
}  # fmt: skip
SAMPLED = {"seed": 1, "steps": 2, "cfg": 2.0, "shift": 5.0}


class NarrowVAE(comfy.ldm.wan.vae2_2.WanVAE):
    """Wan 2.2's VAE, a twentieth as wide."""

    def __init__(self, dim: int, dec_dim: int = 0, **rest: Any):
        super().__init__(dim=8, dec_dim=8, **rest)


@pytest.fixture(scope="module")
def tiny_models() -> ModuleType:
    return load_module("tiny_models", TESTS / "tiny_models.py")


@pytest.fixture(scope="module", autouse=True)
def preset(pack: ModuleType) -> Iterator[Any]:
    geometry = module("model.geometry")
    wan22 = geometry.Geometry("Wan 2.2 5B", "wan2.2_vae", "Wan22", channels=CHANNELS, spatial=16, temporal=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(geometry.GEOMETRIES, CHANNELS, wan22)
        yield wan22


@pytest.fixture(scope="module")
def model(preset: Any, tiny_models: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Any:
    shapes = tiny_models.transformer_shapes(CHANNELS, channels=CHANNELS)
    path = tmp_path_factory.mktemp("model") / "tiny_of_48.safetensors"
    save_file(tiny_models.random_tensors(shapes), path)
    return module("comfy.loading.loader").load_model(path)


@pytest.fixture(scope="module")
def vae(preset: Any, tiny_models: ModuleType) -> Any:
    narrow = NarrowVAE(dim=8, z_dim=CHANNELS, temperal_downsample=[False, True, True])
    shapes = {name: tuple(tensor.shape) for name, tensor in narrow.state_dict().items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comfy.ldm.wan.vae2_2, "WanVAE", NarrowVAE)
        return comfy.sd.VAE(sd=tiny_models.random_tensors(shapes))


def ask(pack_nodes: dict[str, Any], name: str, **inputs: Any) -> Any:
    with torch.inference_mode():
        return pack_nodes["SkyReelsV2" + name].execute(**inputs).args[0]


def pictures(count: int) -> torch.Tensor:
    return torch.rand(count, HEIGHT, WIDTH, 3, generator=torch.Generator().manual_seed(count))


def test_it_goes_from_an_empty_latent_through_key_frames_and_sampler_to_pictures(
    pack_nodes: dict[str, Any], model: Any, vae: Any
) -> None:
    empty = ask(pack_nodes, "EmptyLatent", size=SIZE, frames=FRAMES, batch_size=1)
    start, end, key = pictures(3).split(1)
    pinned = ask(
        pack_nodes, "KeyFrames", vae=vae, latent=empty, start_image=start, end_image=end, key_images=key, key_frames="8"
    )
    shape = (1, CHANNELS, 5, HEIGHT // 16, WIDTH // 16)
    assert pinned["samples"].shape == shape
    assert pinned["noise_mask"].flatten(2)[0, 0].reshape(5, -1).any(1).tolist() == [False, True, False, True, False]
    texts = {"positive": conditioning(1), "negative": conditioning(2)}
    made = ask(pack_nodes, "Sampler", model=model, latent=pinned, window_frames=0, **texts, **SAMPLED, **FORCING)
    assert made["samples"].shape == shape
    assert torch.allclose(made["samples"][:, :, [0, 2, 4]].float(), pinned["samples"][:, :, [0, 2, 4]], atol=1e-5)
    for tiling in ("never", "always"):
        images = ask(pack_nodes, "VAEDecode", samples=made, vae=vae, tiling=tiling)
        assert images.shape == (FRAMES, HEIGHT, WIDTH, 3) and bool(images.std() > 0.01)


def test_an_empty_latent_is_only_a_size_to_the_sampler(pack_nodes: dict[str, Any], model: Any) -> None:
    empty = ask(pack_nodes, "EmptyLatent", size=SIZE, frames=FRAMES, batch_size=1)
    texts = {"positive": conditioning(1), "negative": conditioning(2)}
    made = ask(pack_nodes, "Sampler", model=model, latent=empty, window_frames=0, **texts, **SAMPLED, **FORCING)
    assert made["samples"].shape == (1, CHANNELS, 5, HEIGHT // 16, WIDTH // 16)
    odd = ask(pack_nodes, "EmptyLatent", size={**SIZE, "width": 80}, frames=FRAMES, batch_size=1)
    with pytest.raises(ValueError, match=r"80x64 pixels, but width and height have to be multiples of 32"):
        ask(pack_nodes, "Sampler", model=model, latent=odd, window_frames=0, **texts, **SAMPLED, **FORCING)


@pytest.mark.parametrize("pieces", [(9,), (1, 3, 5)])
def test_its_vae_decodes_in_pieces_as_it_does_at_once(pack: ModuleType, vae: Any, pieces: tuple[int, ...]) -> None:
    samples = torch.randn(1, CHANNELS, 9, 4, 6, generator=torch.Generator().manual_seed(9))
    with torch.inference_mode():
        whole = vae.decode(samples)[0].cpu()
        decoder = module("comfy.vae.stream").StreamingDecoder(vae)
        made = [decoder.push(piece, final=False) for piece in samples.split(pieces, dim=2)]
        made.append(decoder.push(samples[:, :, :0], final=True))
    assert torch.equal(torch.cat(made), whole)


def test_a_long_video_is_planned_and_made_in_it(
    pack_nodes: dict[str, Any], model: Any, vae: Any, output_folder: Path
) -> None:
    node = pack_nodes["SkyReelsV2LongVideo"]
    node.hidden = importlib.import_module("types").SimpleNamespace(prompt=None, extra_pnginfo=None, unique_id=None)
    settings = {
        **SAMPLED, **FORCING, "total_frames": 30, "base_num_frames": 17, "overlap_history": 5, "loop": False,
        "carry_over": "frames", "drift_control": 0.0, "codec": "ffv1", "crf": 18, "job_name": "wide", "keep_gb": 0.0,
        "key_times": "",
    }  # fmt: skip
    texts = {"positive": conditioning(1), "negative": conditioning(2)}
    with torch.inference_mode():
        video, latent, plan = node.execute(
            model=model, vae=vae, size=SIZE, end_image=pictures(1), **texts, **settings
        ).args
    assert latent["samples"].shape[1::2] == (CHANNELS, HEIGHT // 16)
    assert frames_of(Path(video.get_stream_source())).shape == (30, HEIGHT, WIDTH, 3)
    tokens = 5 * (HEIGHT // 32) * (WIDTH // 32)
    assert f"({tokens} tokens" in plan
    with pytest.raises(ValueError, match=r"multiples of 32"):
        node.execute(model=model, vae=vae, size={**SIZE, "height": 80}, **texts, **settings)


def test_models_and_vaes_of_other_latents_dont_mix(
    pack_nodes: dict[str, Any], model: Any, vae: Any, models: Path
) -> None:
    samples = {"samples": torch.rand(1, 16, 2, 8, 8)}
    with pytest.raises(ValueError, match=r"a video latent of .batch, 48, frames, height / 16, width / 16. is needed"):
        ask(pack_nodes, "VAEDecode", samples=samples, vae=vae, tiling="never")
    checks = module("comfy.model.checks")
    with pytest.raises(ValueError, match=r"VAE is NarrowVAE for 48 latent channels, but SkyReels-V2 needs the Wan 2.1"):
        checks.check_vae(vae, module("model.geometry").WAN21)
    wan21 = comfy.sd.VAE(sd=comfy.utils.load_torch_file(str(models / "vae" / "tiny_wan_vae.safetensors")))
    with pytest.raises(ValueError, match=r"needs the Wan 2.2 5B VAE .48 latent channels.: load wan2.2_vae with Load"):
        checks.check_vae(wan21, checks.model_geometry(model.model), streamed=True)
