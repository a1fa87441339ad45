"""The graphs of the T2V and I2V models: one noise level for the whole clip, the authors' solver for them.

They use this pack's sampler, not KSampler: with the solver unipc_plain it gives what the authors' pipelines give, which
no combination of KSampler's samplers and schedulers does.
"""

from __future__ import annotations

from dataclasses import replace

from tools.workflow_files import CLIP_VISION, I2V_MODEL, PLACES_ZH, T2V_MODEL, TEXT_ENCODER, VAE, file_lines
from tools.workflow_graph import RELEASED, TITLES, Graph, Node, finish, load_image, loaders, note, sampler, text_encode

SWAN = (
    "A graceful white swan with a curved neck and delicate feathers swims in a serene lake at dawn, its reflection in "
    "the still water, mist rising, soft golden light."
)
WALK = "The camera moves slowly forward while the scene comes to life, natural motion, soft light."


def model_workflows() -> dict[str, Graph]:
    """Return the graphs by title."""
    return {"T2V Model": t2v_graph(), "I2V Model": i2v_graph()}


def t2v_graph() -> Graph:
    """Return text to video with a T2V model."""
    graph = Graph()
    text = (
        f"## Files\n{file_lines(T2V_MODEL, TEXT_ENCODER, VAE)}\n\n## Settings\nT2V model: steps 30 to 50, cfg 6, "
        "shift 8, solver unipc_plain. 121 frames at 1280x720; a 540P model takes 97 frames at 960x544.\n\n"
        f"## 文件\n上面的{PLACES_ZH}\n\n## 设置\nT2V 模型：步数 30 到 50，"
        "CFG 6，噪声偏移 8，求解器 unipc_plain。1280x720，121 帧；540P 模型用 960x544，97 帧。\n"
    )
    model, clip, vae, _ = graph.column(*loaders(T2V_MODEL), note(text, 400))
    encode, latent = graph.column(
        text_encode(SWAN, False),
        replace(RELEASED, size=("720P landscape (1280x720)", 1280, 720)).empty_latent(121),
    )
    graph.link(clip, "CLIP", encode, "clip")
    (denoise,) = graph.column(sampler(30, 6.0, 8.0, solver="unipc_plain"))
    for name, source in {"model": model, "positive": encode, "negative": encode, "latent": latent}.items():
        graph.link(source, name, denoise, name)
    finish(graph, (vae, "VAE"), (denoise, "latent"))
    return graph


def i2v_graph() -> Graph:
    """Return image to video with an I2V model, its picture read by the VAE and by CLIP vision."""
    graph = Graph()
    text = (
        f"## Files\n{file_lines(I2V_MODEL, TEXT_ENCODER, VAE, CLIP_VISION)}\n\n## Settings\nI2V model: steps 30 to "
        "50, cfg 5, shift 5 (the authors also use 3), solver unipc_plain. Width, height and length are set in "
        "WanImageToVideo: 97 frames at 960x544, or 121 at 1280x720 with a 720P model.\n\n"
        f"## 文件\n上面的{PLACES_ZH}\n\n## 设置\nI2V 模型：步数 30 到 50，"
        "CFG 5，噪声偏移 5（作者也用 3），求解器 unipc_plain。宽度、高度和帧数在 WanImageToVideo 中设置：960x544，"
        "97 帧；720P 模型用 1280x720，121 帧。\n"
    )
    model, clip, vae, vision, _ = graph.column(
        *loaders(I2V_MODEL),
        Node(
            "CLIPVisionLoader", (430, 60), {"clip_name": CLIP_VISION}, [("CLIP_VISION", "CLIP_VISION")],
            model=CLIP_VISION,
        ),
        note(text, 440),
    )  # fmt: skip
    encode, image = graph.column(text_encode(WALK, False), load_image(TITLES["start_image"]))
    see, prepare = graph.column(
        Node("CLIPVisionEncode", (330, 80), {"crop": "none"}, [("CLIP_VISION_OUTPUT", "CLIP_VISION_OUTPUT")]),
        Node(
            "WanImageToVideo", (330, 210), {"width": 960, "height": 544, "length": 97, "batch_size": 1},
            [("positive", "CONDITIONING"), ("negative", "CONDITIONING"), ("latent", "LATENT")],
        ),
    )  # fmt: skip
    graph.link(clip, "CLIP", encode, "clip")
    graph.link(vision, "CLIP_VISION", see, "clip_vision")
    graph.link(image, "IMAGE", see, "image")
    for name in ("positive", "negative"):
        graph.link(encode, name, prepare, name)
    graph.link(vae, "VAE", prepare, "vae")
    graph.link(see, "CLIP_VISION_OUTPUT", prepare, "clip_vision_output")
    graph.link(image, "IMAGE", prepare, "start_image")
    (denoise,) = graph.column(sampler(30, 5.0, 5.0, solver="unipc_plain"))
    for name, source in {"model": model, "positive": prepare, "negative": prepare, "latent": prepare}.items():
        graph.link(source, name, denoise, name)
    finish(graph, (vae, "VAE"), (denoise, "latent"))
    return graph
