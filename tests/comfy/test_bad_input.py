"""What a person can connect or pick wrongly comes back as one sentence in the node's error, before any sampling."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from tests.comfy.host import Host, PromptRefused
from tests.comfy.scene import Scene, refusal

pytestmark = pytest.mark.newest_host


def test_text_of_the_wrong_width_names_both_widths(host: Host) -> None:
    scene = Scene(text_width=512)
    scene.dump("never", scene.sample())
    failure = refusal(host, scene)
    assert "512" in failure.message and "4096" in failure.message and "umt5" in failure.message


def test_a_latent_with_the_wrong_channel_count_names_both_counts(host: Host) -> None:
    scene = Scene()
    scene.latent = scene.add("SkyReelsV2TestLatent", channels=48, frames=3, height=8, width=8, seed=0)
    scene.dump("never", scene.sample())
    failure = refusal(host, scene)
    assert "48" in failure.message and "16" in failure.message


def test_an_image_latent_is_refused(host: Host) -> None:
    scene = Scene()
    scene.latent = scene.add("EmptyLatentImage", width=64, height=64, batch_size=1)
    scene.dump("never", scene.sample())
    assert "Empty Latent" in refusal(host, scene).message


def test_a_text_encoder_file_in_the_model_loader_is_named_as_such(host: Host) -> None:
    scene = Scene(model_name="not-a-transformer-but-t5.safetensors")
    scene.dump("never", scene.sample())
    failure = refusal(host, scene, "SkyReelsV2ModelLoader")
    assert "not-a-transformer-but-t5.safetensors" in failure.message and "text encoder" in failure.message


def test_a_truncated_file_is_named_as_incomplete(host: Host) -> None:
    scene = Scene(model_name="truncated.safetensors")
    scene.dump("never", scene.sample())
    failure = refusal(host, scene, "SkyReelsV2ModelLoader")
    assert "truncated.safetensors" in failure.message and "again" in failure.message  # download it again


def test_an_image_to_video_model_without_its_image_says_what_to_connect(host: Host) -> None:
    scene = Scene(model_name="tiny_i2v.safetensors")
    scene.dump("never", scene.sample())
    failure = refusal(host, scene)
    assert "image" in failure.message and "WanImageToVideo" in failure.message


def test_an_image_made_for_another_size_names_both_sizes(host: Host) -> None:
    scene = Scene(model_name="tiny_i2v.safetensors")
    image = {"vae": scene.vae, "start_image": scene.picture("first.png"), "batch_size": 1}
    size = {"width": 96, "height": 64, "length": 9}
    text = {"positive": scene.positive, "negative": scene.negative}
    prepared = scene.add("WanImageToVideo", **text, **image, **size)
    scene.positive, scene.negative = prepared[0], prepared[1]
    scene.dump("never", scene.sample())
    failure = refusal(host, scene)
    assert "9 frames of 96x64" in failure.message and "9 frames of 64x64" in failure.message


def test_causal_attention_on_cores_transformer_says_which_loader_to_use(host: Host) -> None:
    scene = Scene()
    scene.model = scene.add("UNETLoader", unet_name="tiny_df_nofps.safetensors", weight_dtype="default")
    scene.dump("never", scene.sample(causal_attention=True))
    assert "SkyReels-V2 Model Loader" in refusal(host, scene).message


@pytest.mark.parametrize(
    ("images", "words"),
    [
        ({"key_images": "middle.png", "key_frames": ""}, ("1", "0", "key_frames")),
        ({"key_images": "middle.png", "key_frames": "99"}, ("99", "9")),
        ({"key_images": "middle.png", "key_frames": "four"}, ("four",)),
        ({"start_image": "first.png", "key_images": "middle.png", "key_frames": "0"}, ("0",)),
    ],
    ids=["no number", "outside", "no integer", "twice"],
)
def test_key_frames_that_do_not_fit_are_refused(host: Host, images: dict[str, str], words: tuple[str, ...]) -> None:
    scene = Scene()
    linked = {name: value if name == "key_frames" else scene.picture(value) for name, value in images.items()}
    scene.dump("never", scene.sample(latent=scene.pin(**linked)))
    failure = refusal(host, scene, "SkyReelsV2KeyFrames")
    assert all(word in failure.message for word in words), failure.message


@pytest.mark.parametrize("values", ["0.9, 0.6, 0.3", "0.9, 0.9, 0"], ids=["not to the end", "not falling"])
def test_sigmas_that_cannot_be_followed_are_refused(host: Host, values: str) -> None:
    scene = Scene()
    sigmas = scene.add("SkyReelsV2TestSigmas", values=values)
    scene.dump("never", scene.core_sample(scene.select(), sigmas))
    assert "sigmas" in refusal(host, scene, "SamplerCustomAdvanced").message


def test_values_outside_their_range_are_refused_before_the_prompt_is_queued(host: Host) -> None:
    scene = Scene()
    sampled = scene.sample(steps=0, addnoise_condition=5000)
    scene.dump("never", sampled)
    with pytest.raises(PromptRefused) as refused:
        host.run(scene.prompt)
    assert sampled.node in refused.value.node_errors


def test_a_vae_for_other_latents_is_refused_before_anything_is_sampled(host: Host) -> None:
    save_file({"taesd_decoder.1.weight": torch.zeros(64, 4, 3, 3)}, host.models / "vae" / "pictures.safetensors")
    scene = Scene()
    vae = scene.add("VAELoader", vae_name="pictures.safetensors")
    images = scene.add("SkyReelsV2VAEDecode", samples=scene.sample(), vae=vae, tiling="auto")
    scene.save_video(images)
    assert "TAESD for 4 latent channels and single pictures" in refusal(host, scene, "SkyReelsV2VAEDecode").message
