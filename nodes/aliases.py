"""What a person types to find a node: `search_aliases` of every node, in English and in Chinese.

A front end looks for what is typed in names and aliases, and knows no other language than the words here; names and
display names need not be said again.
"""

from __future__ import annotations

TEXT_TO_VIDEO = ["text to video", "t2v", "txt2vid", "文生视频"]
IMAGE_TO_VIDEO = ["image to video", "i2v", "img2vid", "图生视频"]
LONG = ["long video", "infinite video", "unlimited length", "长视频", "无限时长"]
SCRIPT = ["prompt schedule", "prompt travel", "multi prompt", "storyboard", "多段提示词", "分镜", "提示词脚本"]

ALIASES: dict[str, list[str]] = {
    "SkyReelsV2ModelLoader": ["load model", "load diffusion model", "unet", "Wan 2.1", "加载模型", "模型加载器"],
    "SkyReelsV2TextEncode": ["prompt", "negative prompt", "clip text encode", "提示词", "反向提示词", "文本编码"],
    "SkyReelsV2EmptyLatent": [
        *TEXT_TO_VIDEO, "empty video latent", "video size", "resolution", "空潜变量", "视频尺寸", "分辨率"
    ],
    "SkyReelsV2KeyFrames": [
        *IMAGE_TO_VIDEO, "first frame", "last frame", "first last frame", "flf2v", "start image", "end image",
        "keyframe", "interpolation", "首帧", "尾帧", "首尾帧", "关键帧",
    ],
    "SkyReelsV2Sampler": [
        *TEXT_TO_VIDEO, *IMAGE_TO_VIDEO, "ksampler", "video sampler", "async", "moving window", "采样器", "扩散强制"
    ],
    "SkyReelsV2SamplerSelect": ["ksampler select", "sampler custom", "unipc", "euler", "采样器选择", "扩散强制"],
    "SkyReelsV2Sigmas": ["scheduler", "basic scheduler", "timesteps", "noise schedule", "调度器", "噪声表", "步数"],
    "SkyReelsV2VAEDecode": ["decode video", "tiled decode", "latent to image", "vae decode tiled", "解码", "分块解码"],
    "SkyReelsV2LongVideo": [
        *LONG, *TEXT_TO_VIDEO, *IMAGE_TO_VIDEO, "first frame", "last frame", "loop", "seamless loop", "resume",
        "首帧", "尾帧", "首尾帧", "循环视频", "断点续跑",
    ],
    "SkyReelsV2ExtendVideo": [
        *LONG, "continue video", "video extension", "video to video", "v2v", "视频续写", "视频延长", "视频扩展"
    ],
    "SkyReelsV2PromptScript": [*SCRIPT, *LONG],
    "SkyReelsV2PromptList": [*SCRIPT, *LONG],
    "SkyReelsV2Plan": ["preview plan", "estimate", "segments", "schedule picture", "规划", "预估", "分段"],
    "SkyReelsV2Jobs": ["resume", "clean up", "delete job", "disk space", "任务列表", "断点续跑", "清理", "磁盘空间"],
    "SkyReelsV2DemoModels": ["test models", "no download", "tiny model", "example", "演示模型", "免下载", "示例"],
    "SkyReelsV2CFGRange": ["guidance", "cfg schedule", "guidance interval", "speed up", "引导强度", "加速"],
    "SkyReelsV2ModelInfo": ["recommended settings", "which model", "model details", "模型信息", "推荐参数"],
    "SkyReelsV2AttachFPS": ["gguf", "frame rate", "fps embedding", "DF-1.3B", "帧率", "帧率权重"],
    "SkyReelsV2LoraLoader": ["lora", "load lora", "lightx2v", "distill", "加载 LoRA", "LoRA 加载器", "蒸馏"],
    "SkyReelsV2StepCache": ["teacache", "easycache", "magcache", "speed up", "faster", "缓存", "加速"],
    "SkyReelsV2RollingSampler": [
        *LONG, *TEXT_TO_VIDEO, "self forcing", "causvid", "causal forcing", "longlive", "autoregressive", "streaming",
        "自回归", "滚动生成", "流式生成",
    ],
    "SkyReelsV2GPUCluster": ["multi gpu", "multigpu", "ray", "raylight", "xdit", "sequence parallel", "distributed",
        "多卡", "多显卡", "分布式", "集群", "序列并行"],
}  # fmt: skip
