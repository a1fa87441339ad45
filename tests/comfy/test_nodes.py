"""Our nodes in a running server: from a checkpoint file in the released format to a video file, over HTTP.

The oracles are core's own nodes wherever core can do the same thing.
"""

from __future__ import annotations

import time

import pytest
import torch

from tests.comfy.host import PACK_FOLDER, ExecutionFailed, Host
from tests.comfy.scene import Scene, tensors, video_of
from tests.comfy.videos import VideoFacts, probe
from tests.measures import relative_distance

NODES = {
    "SkyReelsV2ModelLoader",
    "SkyReelsV2TextEncode",
    "SkyReelsV2EmptyLatent",
    "SkyReelsV2KeyFrames",
    "SkyReelsV2Sampler",
    "SkyReelsV2SamplerSelect",
    "SkyReelsV2Sigmas",
    "SkyReelsV2VAEDecode",
    "SkyReelsV2LongVideo",
    "SkyReelsV2ExtendVideo",
    "SkyReelsV2PromptScript",
    "SkyReelsV2Plan",
    "SkyReelsV2Jobs",
    "SkyReelsV2DemoModels",
    "SkyReelsV2ModelInfo",
    "SkyReelsV2AttachFPS",
    "SkyReelsV2LoraLoader",
}


def test_every_node_is_listed_with_a_tooltip_on_every_input(host: Host) -> None:
    info = host.object_info()
    ours = {name: node for name, node in info.items() if node["python_module"] == f"custom_nodes.{PACK_FOLDER}"}
    assert set(ours) >= NODES, host.log
    for name, node in ours.items():
        assert node["category"] == "SkyReels-V2" and node["description"] and node["display_name"] != name
        for kind in ("required", "optional"):
            for input_name, (_type, *options) in node["input"].get(kind, {}).items():
                assert options and options[0].get("tooltip"), f"{name}.{input_name} has no tooltip"
        assert all(node["output_tooltips"]), name


def test_text_to_video_runs_from_checkpoint_to_mp4(host: Host) -> None:
    scene = Scene(frames=9)
    images = scene.add("SkyReelsV2VAEDecode", samples=scene.sample(), vae=scene.vae, tiling="auto")
    scene.save_video(images, fps=24.0)
    finished = host.run(scene.prompt)
    assert probe(video_of(finished)) == VideoFacts(width=64, height=64, frames=9, fps=24)


def test_the_loader_says_what_it_found(host: Host) -> None:
    scene = Scene()
    scene.add("SkyReelsV2TestText", value=scene.model[1], name="info")
    ((path,),) = host.run(scene.prompt).outputs.values()
    text = path.read_text(encoding="utf-8")
    assert all(word in text for word in ("2 layers", "256", "2 heads", "float32", "fps weights: yes")), text


def test_text_encode_gives_what_cores_own_node_gives(host: Host) -> None:
    scene = Scene()
    for name, ours, text in (("p", scene.positive, "a graceful white swan"), ("n", scene.negative, "最差质量")):
        scene.dump(f"ours-{name}", ours)
        scene.dump(f"core-{name}", scene.add("CLIPTextEncode", clip=scene.clip, text=text))
    found = tensors(host, scene)
    assert torch.equal(found["ours-p"], found["core-p"])
    assert torch.equal(found["ours-n"], found["core-n"])


def test_seed_solver_and_frame_rate_change_the_video_and_nothing_else_does(host: Host) -> None:
    scene = Scene()
    for name, changes in {
        "plain": {},
        "seed": {"seed": 2},
        "euler": {"solver": "euler"},
        "fps16": {"fps": 16},
        "fps30": {"fps": 30},
        "block": {"causal_block_size": 2},  # without ar_step and causal attention the block size has no meaning
    }.items():
        scene.dump(name, scene.sample(**changes))
    found = tensors(host, scene)
    plain = found.pop("plain")
    assert plain.shape == (1, 16, 3, 8, 8)
    assert relative_distance(found["fps30"], plain) < 1e-5
    assert relative_distance(found["block"], plain) < 1e-5
    for name in ("seed", "euler", "fps16"):
        assert relative_distance(found[name], plain) > 1e-3, name


def test_a_model_without_fps_weights_ignores_the_frame_rate(host: Host) -> None:
    scene = Scene(model_name="tiny_df_nofps.safetensors")
    scene.dump("fps24", scene.sample(fps=24))
    scene.dump("fps16", scene.sample(fps=16))
    found = tensors(host, scene)
    assert torch.equal(found["fps24"], found["fps16"])


@pytest.mark.parametrize("loader", ["ours", "core"])
def test_euler_in_sync_mode_equals_cores_euler_where_timesteps_are_whole(host: Host, loader: str) -> None:
    scene = Scene(model_name="tiny_df_nofps.safetensors")
    scene.model = scene.add("UNETLoader", unet_name="tiny_df_nofps.safetensors", weight_dtype="default")
    sigmas = scene.add("SkyReelsV2TestSigmas", values="0.9, 0.6, 0.3, 0")
    scene.dump("core", scene.core_sample(scene.add("KSamplerSelect", sampler_name="euler"), sigmas))
    if loader == "ours":
        scene.model = scene.add("SkyReelsV2ModelLoader", model_name="tiny_df_nofps.safetensors", weight_dtype="default")
    scene.dump("ours", scene.core_sample(scene.select(solver="euler"), sigmas))
    found = tensors(host, scene)
    assert relative_distance(found["ours"], found["core"]) < 1e-3


def test_the_sampler_node_equals_its_parts_in_cores_custom_sampling(host: Host) -> None:
    scene = Scene()
    changes = {"ar_step": 1, "causal_block_size": 2, "fps": 16}
    scene.dump("node", scene.sample(**changes))
    sigmas = scene.add("SkyReelsV2Sigmas", steps=3, shift=8.0)
    scene.dump("parts", scene.core_sample(scene.select(**changes), sigmas))
    found = tensors(host, scene)
    assert relative_distance(found["parts"], found["node"]) < 1e-5


def test_cores_ksampler_runs_our_model_as_it_runs_its_own(host: Host) -> None:
    scene = Scene(model_name="tiny_df_nofps.safetensors")
    core = scene.add("UNETLoader", unet_name="tiny_df_nofps.safetensors", weight_dtype="default")
    for name, model in (("ours", scene.model), ("core", core)):
        sampled = scene.add(
            "KSampler",
            model=model,
            positive=scene.positive,
            negative=scene.negative,
            latent_image=scene.latent,
            seed=1,
            steps=2,
            cfg=2.0,
            sampler_name="uni_pc",
            scheduler="simple",
            denoise=1.0,
        )
        scene.dump(name, sampled)
    found = tensors(host, scene)
    assert relative_distance(found["ours"], found["core"]) < 1e-3


def test_async_sampling_and_causal_attention_run_and_differ_from_sync(host: Host) -> None:
    scene = Scene(frames=9)  # 3 latent frames: blocks of 2 do not fit and have to be padded
    for name, changes in {
        "sync": {},
        "async": {"ar_step": 1, "causal_block_size": 2},
        "causal": {"causal_attention": True, "causal_block_size": 2},
        "both": {"ar_step": 1, "causal_block_size": 2, "causal_attention": True},
    }.items():
        scene.dump(name, scene.sample(**changes))
    found = tensors(host, scene)
    names = sorted(found)
    for index, name in enumerate(names):
        assert found[name].shape == (1, 16, 3, 8, 8)
        for other in names[:index]:
            assert relative_distance(found[name], found[other]) > 1e-3, (name, other)


def test_start_end_and_key_frames_are_kept_as_the_vae_encodes_them(host: Host) -> None:
    scene = Scene(frames=17)  # 5 latent frames
    first, last, middle = (scene.picture(f"{name}.png") for name in ("first", "last", "middle"))
    for name, image in (("first", first), ("last", last), ("middle", middle)):
        scene.dump(name, scene.add("VAEEncode", pixels=image, vae=scene.vae))
    scene.dump("free", scene.sample())
    scene.dump("start", scene.sample(latent=scene.pin(start_image=first)))
    pinned = scene.pin(start_image=first, end_image=last, key_images=middle, key_frames="8")
    scene.dump("all", scene.sample(latent=pinned))
    scene.dump("all-async", scene.sample(latent=pinned, ar_step=1, causal_block_size=2))
    found = tensors(host, scene)
    for name in ("first", "last", "middle"):
        assert found[name].shape == (1, 16, 1, 8, 8)
    close = {"rtol": 1e-3, "atol": 1e-3}
    torch.testing.assert_close(found["start"][:, :, :1], found["first"], **close)
    assert relative_distance(found["start"][:, :, 1:], found["free"][:, :, 1:]) > 1e-3
    for name in ("all", "all-async"):
        for frame, image in ((0, "first"), (2, "middle"), (4, "last")):
            torch.testing.assert_close(found[name][:, :, frame : frame + 1], found[image], **close)
        assert relative_distance(found[name][:, :, 1], found["start"][:, :, 1]) > 1e-3


def test_start_and_end_frame_run_through_to_a_video(host: Host) -> None:
    scene = Scene(frames=13)
    latent = scene.pin(start_image=scene.picture("first.png"), end_image=scene.picture("last.png"))
    sampled = scene.sample(latent=latent, shift=5.0, ar_step=1, causal_block_size=2)
    scene.save_video(scene.add("SkyReelsV2VAEDecode", samples=sampled, vae=scene.vae, tiling="auto"), fps=16.0)
    assert probe(video_of(host.run(scene.prompt))) == VideoFacts(width=64, height=64, frames=13, fps=16)


def test_decoding_equals_cores_decoding_and_tiles_stay_close(host: Host) -> None:
    scene = Scene()
    sampled = scene.sample()
    scene.dump("core", scene.add("VAEDecode", samples=sampled, vae=scene.vae))
    for tiling in ("auto", "never", "always"):
        scene.dump(tiling, scene.add("SkyReelsV2VAEDecode", samples=sampled, vae=scene.vae, tiling=tiling))
    found = tensors(host, scene)
    assert found["core"].shape == (9, 64, 64, 3)
    assert torch.equal(found["auto"], found["core"]) and torch.equal(found["never"], found["core"])
    assert found["always"].shape == found["core"].shape
    assert (found["always"] - found["core"]).abs().mean() < 0.01  # one tile covers it all


def test_two_videos_of_a_batch_run_at_once(host: Host) -> None:
    scene = Scene(batch_size=2)
    sampled = scene.sample(ar_step=1, causal_block_size=2)
    scene.dump("batch", sampled)
    images = scene.add("SkyReelsV2VAEDecode", samples=sampled, vae=scene.vae, tiling="auto")
    scene.dump("images", images)
    found = tensors(host, scene)
    assert found["batch"].shape == (2, 16, 3, 8, 8) and found["images"].shape == (18, 64, 64, 3)
    assert relative_distance(found["batch"][0], found["batch"][1]) > 1e-3


@pytest.mark.parametrize("weight_dtype", ["fp8_e4m3fn", "fp8_e4m3fn_fast", "fp8_e5m2"])
def test_fp8_weights_run_and_stay_near_the_full_ones(host: Host, weight_dtype: str) -> None:
    full, small = Scene(), Scene(weight_dtype=weight_dtype)
    full.dump("full", full.sample(cfg=1.0))
    small.dump("fp8", small.sample(cfg=1.0))
    found = tensors(host, full) | tensors(host, small)
    assert 1e-4 < relative_distance(found["fp8"], found["full"]) < 0.3


def test_a_lora_loaded_with_cores_node_changes_the_video(host: Host) -> None:
    scene = Scene()
    plain = scene.model
    scene.dump("plain", scene.sample())
    for name, strength in (("none", 0.0), ("full", 1.0)):
        model = scene.add(
            "LoraLoaderModelOnly", model=plain, lora_name="tiny_lora.safetensors", strength_model=strength
        )
        scene.dump(name, scene.sample(model=model))
    found = tensors(host, scene)
    assert torch.equal(found["none"], found["plain"])
    assert relative_distance(found["full"], found["plain"]) > 1e-2
    # every key of the file found its weight
    assert "lora key not loaded" not in host.log


def test_an_image_to_video_model_runs_with_cores_nodes_as_cores_own_does(host: Host) -> None:
    scene = Scene(model_name="tiny_i2v.safetensors")
    image = scene.add(
        "WanImageToVideo",
        positive=scene.positive,
        negative=scene.negative,
        vae=scene.vae,
        width=64,
        height=64,
        length=9,
        batch_size=1,
        start_image=scene.picture("first.png"),
        clip_vision_output=scene.add("SkyReelsV2TestCLIPVision", seed=0),
    )
    scene.positive, scene.negative, scene.latent = image[0], image[1], image[2]
    core = scene.add("UNETLoader", unet_name="tiny_i2v.safetensors", weight_dtype="default")
    sigmas = scene.add("SkyReelsV2TestSigmas", values="0.9, 0.6, 0.3, 0")
    euler = scene.add("KSamplerSelect", sampler_name="euler")
    scene.dump("ours", scene.core_sample(euler, sigmas))
    scene.dump("forcing", scene.sample(ar_step=1, causal_block_size=2))
    scene.model = core
    scene.dump("core", scene.core_sample(euler, sigmas))
    found = tensors(host, scene)
    assert relative_distance(found["ours"], found["core"]) < 1e-3
    assert found["forcing"].shape == (1, 16, 3, 8, 8)


def test_sampling_can_be_interrupted_and_the_model_used_again(host: Host) -> None:
    scene = Scene()
    scene.dump("before", scene.sample(seed=11))
    before = tensors(host, scene)["before"]
    long_run = Scene(frames=33)
    long_run.dump("long", long_run.sample(steps=1000, ar_step=5, causal_block_size=1))
    printed = host.log_size
    prompt_id = host.queue(long_run.prompt)
    started = time.monotonic()
    while "it/s]" not in host.log_from(printed):
        assert time.monotonic() - started < 30, host.log
        time.sleep(0.1)
    started = time.monotonic()
    host.interrupt()
    entry = host.wait(prompt_id, timeout=20)
    assert time.monotonic() - started < 10
    assert "execution_interrupted" in dict(entry["status"]["messages"]), entry["status"]
    scene.dump("again", scene.sample(seed=11, fps=25))  # fps 25 counts as 24, but is not in the server's cache
    assert relative_distance(tensors(host, scene)["again"], before) < 1e-5


def test_a_failed_prompt_leaves_the_model_fit_for_core_sampling(host: Host) -> None:
    scene = Scene(model_name="tiny_df_nofps.safetensors")
    sigmas = scene.add("SkyReelsV2TestSigmas", values="0.9, 0.6, 0.3, 0")
    euler = scene.add("KSamplerSelect", sampler_name="euler")
    scene.dump("before", scene.core_sample(euler, sigmas, seed=3))
    before = tensors(host, scene)["before"]
    failing = Scene(model_name="tiny_df_nofps.safetensors")
    bad_sigmas = failing.add("SkyReelsV2TestSigmas", values="0.9, 0.6, 0.3")
    failing.dump("bad", failing.core_sample(failing.select(), bad_sigmas))
    with pytest.raises(ExecutionFailed):
        host.run(failing.prompt)
    scene.dump("forcing", scene.sample(ar_step=1))
    scene.dump("after", scene.core_sample(euler, sigmas, seed=3, cfg=2.000001))
    assert relative_distance(tensors(host, scene)["after"], before) < 1e-4
