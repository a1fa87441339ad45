"""Model Info and Attach FPS Weights in a running server: outputs linked to inputs, core's loader in front."""

from __future__ import annotations

import torch

from tests.comfy.host import Host
from tests.comfy.scene import Scene, refusal, tensors
from tests.measures import relative_distance


def test_the_recommended_settings_can_be_linked_to_the_sampler_and_the_plan(host: Host) -> None:
    scene = Scene()
    info = scene.add("SkyReelsV2ModelInfo", model=scene.model, variant="DF-14B-540P", mode="image to video")
    numbers = {"shift": info[5], "cfg": info[6], "fps": info[7], "ar_step": info[8], "causal_block_size": info[9]}
    scene.dump("linked", scene.sample(**numbers))
    scene.dump("typed", scene.sample(shift=5.0, cfg=5.0))
    plan = scene.add(
        "SkyReelsV2Plan",
        size="custom",
        width=info[1],
        height=info[2],
        total_frames=257,
        base_num_frames=info[3],
        overlap_history=17,
        steps=info[4],
        shift=info[5],
        ar_step=info[8],
        causal_block_size=info[9],
        causal_attention=False,
        loop=False,
    )
    scene.add("PreviewImage", images=plan[1])
    found = tensors(host, scene)
    assert torch.equal(found["linked"], found["typed"])


def test_cores_loader_and_the_attached_frame_rate_make_the_video_of_our_loader(host: Host) -> None:
    scene = Scene()
    scene.dump("ours", scene.sample(fps=16))
    core = scene.add("UNETLoader", unet_name="tiny_df.safetensors", weight_dtype="default")
    attached = scene.add("SkyReelsV2AttachFPS", model=core, model_name="tiny_df.safetensors", fps=16)
    scene.dump("attached", scene.sample(model=attached))
    scene.dump("dropped", scene.sample(model=core, fps=16))
    found = tensors(host, scene)
    assert relative_distance(found["attached"], found["ours"]) < 1e-5
    assert relative_distance(found["dropped"], found["ours"]) > 0.05


def test_a_model_that_cannot_be_told_is_asked_for_in_one_sentence(host: Host) -> None:
    scene = Scene(model_name="tiny_df_nofps.safetensors")
    scene.add("SkyReelsV2ModelInfo", model=scene.model, variant="auto", mode="auto")
    assert "choose its name under variant" in refusal(host, scene, "SkyReelsV2ModelInfo").message


def test_a_file_without_frame_rate_weights_is_refused_in_one_sentence(host: Host) -> None:
    scene = Scene()
    core = scene.add("UNETLoader", unet_name="tiny_df.safetensors", weight_dtype="default")
    attached = scene.add("SkyReelsV2AttachFPS", model=core, model_name="tiny_df_nofps.safetensors", fps=16)
    scene.dump("never", scene.sample(model=attached))
    assert "has no frame-rate weights" in refusal(host, scene, "SkyReelsV2AttachFPS").message
