"""The released files that the example workflows load, and the notes that say where they go."""

from __future__ import annotations

HUB = "https://huggingface.co"
TRANSFORMER = "Wan2_1-SkyReels-V2-DF-1_3B-540P_fp32.safetensors"
TEXT_ENCODER = "umt5_xxl_fp8_e4m3fn_scaled.safetensors"
VAE = "wan_2.1_vae.safetensors"
T2V_MODEL = "Wan2_1-SkyReels-V2-T2V-14B-720P_fp8_e4m3fn.safetensors"
I2V_MODEL = "Wan2_1-SkyReels-V2-I2V-14B-540P_fp8_e4m3fn.safetensors"
CLIP_VISION = "clip_vision_h.safetensors"
MODEL_URLS = {
    **{
        name: f"{HUB}/Kijai/WanVideo_comfy/resolve/main/Skyreels/{name}" for name in (TRANSFORMER, T2V_MODEL, I2V_MODEL)
    },
    CLIP_VISION: f"{HUB}/Comfy-Org/Wan_2.1_ComfyUI_repackaged/resolve/main/split_files/clip_vision/{CLIP_VISION}",
    TEXT_ENCODER: f"{HUB}/Comfy-Org/Wan_2.1_ComfyUI_repackaged/resolve/main/split_files/text_encoders/{TEXT_ENCODER}",
    VAE: f"{HUB}/Comfy-Org/Wan_2.1_ComfyUI_repackaged/resolve/main/split_files/vae/{VAE}",
}
FOLDERS = {
    **dict.fromkeys((TRANSFORMER, T2V_MODEL, I2V_MODEL), "diffusion_models"),
    TEXT_ENCODER: "text_encoders",
    VAE: "vae",
    CLIP_VISION: "clip_vision",
}
NEGATIVE_PROMPT = (
    "色调艳丽，过曝，静态，细节模糊不清，字幕，风格，作品，画作，画面，静止，整体发灰，最差质量，低质量，JPEG压缩残留，丑陋的，残缺的，"
    "多余的手指，画得不好的手部，画得不好的脸部，畸形的，毁容的，形态畸形的肢体，手指融合，静止不动的画面，杂乱的背景，三条腿，背景人很多，倒着走"
)


PLACES_ZH = "文件放入 `models/` 下对应的文件夹。链接打不开时，请把其中的 `huggingface.co` 换成 `hf-mirror.com`。"


def file_lines(*names: str) -> str:
    """Return a list of files, each with its folder and where it is to be had."""
    return "\n".join(f"- `models/{FOLDERS[name]}/`: [{name}]({MODEL_URLS[name]})" for name in names)


def files_note(setting: str, chinese: str) -> str:
    """Return the note on files and settings."""
    return (
        f"## Files\n{file_lines(TRANSFORMER, TEXT_ENCODER, VAE)}\n\n"
        "DF-14B goes into the same folder; for DF-14B-720P choose a 720P size and 121 frames.\n\n"
        f"## Settings\n{setting}\n\n## 文件\n上面三个{PLACES_ZH}"
        "DF-14B 用法相同；DF-14B-720P 请选 720P 尺寸和 121 帧。\n\n"
        f"## 设置\n{chinese}\n"
    )


def plain_note(setting: str, chinese: str) -> str:
    """Return the note of a graph that needs no files."""
    return (
        f"## No download\nThis graph runs with the tiny models that come with the pack, on any computer.\n\n"
        f"## Settings\n{setting}\n\n"
        f"## 无需下载\n本工作流使用随包附带的小模型，任何电脑都能运行。\n\n## 设置\n{chinese}\n"
    )
