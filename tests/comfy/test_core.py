"""The host and its own nodes take our file formats: no node of this pack is used here.

If these fail, the harness or the host is at fault; if only test_nodes.py fails, the pack is.
"""

from __future__ import annotations

import torch
from safetensors.torch import load_file

from tests.comfy.graph import Graph
from tests.comfy.host import TEST_NODES_FOLDER, Host
from tests.comfy.videos import VideoFacts, probe


def test_the_test_nodes_are_loaded(host: Host) -> None:
    info = host.object_info()
    assert {"SkyReelsV2TestTinyCLIP", "SkyReelsV2TestDump", "KSampler"} <= set(info)
    assert info["SkyReelsV2TestDump"]["python_module"] == f"custom_nodes.{TEST_NODES_FOLDER}"


def test_the_tiny_clip_gives_core_text_encoding_of_the_released_width(host: Host) -> None:
    graph = Graph()
    clip = graph.add("SkyReelsV2TestTinyCLIP", width=4096)
    for name, text in (("swan", "a graceful white swan"), ("car", "a red car"), ("chinese", "色调艳丽, 过曝, 鬱")):
        graph.add("SkyReelsV2TestDump", value=graph.add("CLIPTextEncode", clip=clip, text=text), name=name)
    files = {path.stem: path for (path,) in host.run(graph.prompt).outputs.values()}
    cond = {name: load_file(files[name])["cond.0"] for name in ("swan", "car", "chinese")}
    for tensor in cond.values():
        assert tensor.shape == (1, 512, 4096) and tensor.isfinite().all()
        assert 0.5 < tensor[0, 0].std() < 2  # a normalised token, not zeros
        assert tensor[0, -1].abs().max() == 0  # padding is zeroed, as the models expect
    assert not torch.equal(cond["swan"], cond["car"])


def test_core_runs_a_tiny_forcing_checkpoint_from_file_to_mp4(host: Host) -> None:
    graph = Graph()
    model = graph.add("UNETLoader", unet_name="tiny_df.safetensors", weight_dtype="default")
    clip = graph.add("SkyReelsV2TestTinyCLIP", width=4096)
    latent = graph.add("EmptyHunyuanLatentVideo", width=64, height=64, length=9, batch_size=1)
    sampled = graph.add(
        "KSampler",
        model=model,
        positive=graph.add("CLIPTextEncode", clip=clip, text="a graceful white swan"),
        negative=graph.add("CLIPTextEncode", clip=clip, text="最差质量"),
        latent_image=latent,
        seed=1,
        steps=2,
        cfg=2.0,
        sampler_name="euler",
        scheduler="simple",
        denoise=1.0,
    )
    dumped = graph.add("SkyReelsV2TestDump", value=sampled, name="core")
    vae = graph.add("VAELoader", vae_name="tiny_wan_vae.safetensors")
    images = graph.add("VAEDecode", samples=sampled, vae=vae)
    video = graph.add("CreateVideo", images=images, fps=24.0)
    saved = graph.add("SaveVideo", video=video, filename_prefix="core", format="mp4", codec="h264")
    finished = host.run(graph.prompt)
    samples = load_file(finished.file(dumped))["samples"]
    assert samples.shape == (1, 16, 3, 8, 8) and samples.isfinite().all()
    assert samples.std() > 0.1
    assert probe(finished.file(saved)) == VideoFacts(width=64, height=64, frames=9, fps=24)
    # core knows every weight of the file but the fps ones
    unexpected = [line for line in host.log.splitlines() if "unet unexpected" in line or "unet missing" in line]
    assert unexpected and all("unet missing" not in line and "fps_" in line for line in unexpected)


def test_core_decodes_pictures_that_are_not_flat_with_the_tiny_vae(host: Host) -> None:
    graph = Graph()
    latent = graph.add("SkyReelsV2TestLatent", channels=16, frames=2, height=8, width=8, seed=3)
    vae = graph.add("VAELoader", vae_name="tiny_wan_vae.safetensors")
    images = graph.add("VAEDecode", samples=latent, vae=vae)
    dumped = graph.add("SkyReelsV2TestDump", value=images, name="pictures")
    pictures = load_file(host.run(graph.prompt).file(dumped))["tensor"]
    assert pictures.shape == (5, 64, 64, 3)
    assert pictures.min() >= 0 and pictures.max() <= 1 and pictures.std() > 0.02
