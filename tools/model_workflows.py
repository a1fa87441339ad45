"""The graphs of the T2V and I2V models: one noise level for the whole clip, the authors' solver for them.

They use this pack's sampler, not KSampler: with the solver unipc_plain it gives what the authors' pipelines give, which
no combination of KSampler's samplers and schedulers does.
"""

from __future__ import annotations

from tools.workflow_graph import (
    CLIP_VISION,
    I2V_MODEL,
    T2V_MODEL,
    TEXT_ENCODER,
    TITLES,
    VAE,
    Graph,
    Node,
    Socket,
    file_lines,
    load_image,
    loaders,
    note,
    text_encode,
)

SWAN = (
    "A graceful white swan with a curved neck and delicate feathers swims in a serene lake at dawn, its reflection in "
    "the still water, mist rising, soft golden light."
)
WALK = "The camera moves slowly forward while the scene comes to life, natural motion, soft light."


def model_workflows() -> dict[str, Graph]:
    """Return the graphs by file name."""
    return {"skyreels_v2_t2v_model": t2v_graph(), "skyreels_v2_i2v_model": i2v_graph()}


def t2v_graph() -> Graph:
    """Return text to video with a T2V model."""
    graph = Graph()
    text = (
        f"## Files\n{file_lines(T2V_MODEL, TEXT_ENCODER, VAE)}\n\n## Settings\nT2V model: steps 30 to 50, cfg 6, "
        "shift 8, solver unipc_plain. 121 frames at 1280x720; a 540P model takes 97 frames at 960x544.\n\n"
        "## 文件\n上面的文件放入 `models/` 下对应的文件夹。\n\n## 设置\nT2V 模型：steps 30 到 50，"
        "cfg 6，shift 8，求解器 unipc_plain。1280x720，121 帧；540P 模型用 960x544，97 帧。\n"
    )
    model, clip, vae, _ = graph.column(*loaders(T2V_MODEL), note(text, 400))
    encode, latent = graph.column(
        text_encode(SWAN, False),
        Node(
            "SkyReelsV2EmptyLatent", (430, 160), outputs=[("latent", "LATENT")],
            widgets=["720P landscape (1280x720)", 1280, 720, 121, 1],
        ),
    )  # fmt: skip
    graph.link(clip, "CLIP", encode, "clip")
    video(graph, model, vae, (encode, "positive"), (encode, "negative"), (latent, "latent"), 6.0, 8.0)
    return graph


def i2v_graph() -> Graph:
    """Return image to video with an I2V model, its picture read by the VAE and by CLIP vision."""
    graph = Graph()
    text = (
        f"## Files\n{file_lines(I2V_MODEL, TEXT_ENCODER, VAE, CLIP_VISION)}\n\n## Settings\nI2V model: steps 30 to "
        "50, cfg 5, shift 5 (the authors also use 3), solver unipc_plain. Width, height and length are set in "
        "WanImageToVideo: 97 frames at 960x544, or 121 at 1280x720 with a 720P model.\n\n"
        "## 文件\n上面的文件放入 `models/` 下对应的文件夹。\n\n## 设置\nI2V 模型：steps 30 到 50，"
        "cfg 5，shift 5（作者也用 3），求解器 unipc_plain。宽度、高度和帧数在 WanImageToVideo 中设置：960x544，97 帧；"
        "720P 模型用 1280x720，121 帧。\n"
    )
    model, clip, vae, vision, _ = graph.column(
        *loaders(I2V_MODEL),
        Node(
            "CLIPVisionLoader", (430, 60), outputs=[("CLIP_VISION", "CLIP_VISION")], widgets=[CLIP_VISION],
            model=CLIP_VISION,
        ),
        note(text, 440),
    )  # fmt: skip
    encode, image = graph.column(text_encode(WALK, False), load_image(TITLES["start_image"]))
    see, prepare = graph.column(
        Node(
            "CLIPVisionEncode", (330, 80), [("clip_vision", "CLIP_VISION"), ("image", "IMAGE")],
            [("CLIP_VISION_OUTPUT", "CLIP_VISION_OUTPUT")], ["none"],
        ),
        Node(
            "WanImageToVideo", (330, 210),
            [("positive", "CONDITIONING"), ("negative", "CONDITIONING"), ("vae", "VAE"),
             ("clip_vision_output", "CLIP_VISION_OUTPUT"), ("start_image", "IMAGE")],
            [("positive", "CONDITIONING"), ("negative", "CONDITIONING"), ("latent", "LATENT")], [960, 544, 97, 1],
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
    video(graph, model, vae, (prepare, "positive"), (prepare, "negative"), (prepare, "latent"), 5.0, 5.0)
    return graph


def video(
    graph: Graph, model: int, vae: int, positive: Socket, negative: Socket, latent: Socket, cfg: float, shift: float
) -> None:
    """Add sampler, decoder and file."""
    (sampler,) = graph.column(
        Node(
            "SkyReelsV2Sampler", (330, 376),
            [("model", "MODEL"), ("positive", "CONDITIONING"), ("negative", "CONDITIONING"), ("latent", "LATENT")],
            [("latent", "LATENT")], [42, "fixed", 30, cfg, shift, "unipc_plain", 24, 0, 1, False, 20, 0],
        )
    )  # fmt: skip
    decode, create = graph.column(
        Node(
            "SkyReelsV2VAEDecode", (280, 80), [("samples", "LATENT"), ("vae", "VAE")], [("images", "IMAGE")], ["auto"]
        ),
        Node("CreateVideo", (280, 80), [("images", "IMAGE"), ("audio", "AUDIO")], [("VIDEO", "VIDEO")], [24]),
    )
    (save,) = graph.column(
        Node("SaveVideo", (620, 480), [("video", "VIDEO")], widgets=["video/SkyReels-V2", "auto", "auto"])
    )
    graph.link(model, "model", sampler, "model")
    for name, socket in (("positive", positive), ("negative", negative), ("latent", latent)):
        graph.link(*socket, sampler, name)
    graph.link(sampler, "latent", decode, "samples")
    graph.link(vae, "VAE", decode, "vae")
    graph.link(decode, "images", create, "images")
    graph.link(create, "VIDEO", save, "video")
