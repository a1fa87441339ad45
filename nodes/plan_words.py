"""The plan and its refusals in Chinese, for the front end: all the words of the live plan that are not English.

The sentences are made in wan_core, in English. A template here is such a sentence with its changing parts in braces;
what no template fits stays English, and a test asks for everything that the live plan can say.
"""

from __future__ import annotations

import re

CHINESE = "zh"  # as in ComfyUI's setting Comfy.Locale

TEMPLATES = {
    "{segments} segment{s}, {calls} model call{t}, {frames} frames = {seconds} s": (
        "{segments} 段，{calls} 次模型调用，{frames} 帧 = {seconds} 秒"
    ),
    "{segments} segment{s}, {calls} model call{t}, {frames} frames = {seconds} s at {fps} fps": (
        "{segments} 段，{calls} 次模型调用，{frames} 帧 = {seconds} 秒（按 {fps} fps）"
    ),
    "{tokens} tokens at once; latents and decoded frames {megabytes} MB, the model's own apart": (
        "同时处理 {tokens} 个 token；潜变量与解码帧占用 {megabytes} MB，不含模型自身"
    ),
    "{names}: linked, and so not known before the run; this is for the node's own numbers": (
        "{names}：由连线传入，运行前未知；以上按节点自身的值计算"
    ),
    "{megabytes} MB on disk to go on from, beside the video": "除视频外占用磁盘 {megabytes} MB，用于中断后继续",
    "{name} is {value}, but it has to be at least {least}: the usual values are {usual}.": (
        "{name}：{value}。至少要为 {least}；常用值为 {usual}。"
    ),
    "{name} is {value}, but it has to be at least {least}: change it.": ("{name}：{value}。至少要为 {least}，请修改。"),
    "overlap_history is {overlap} frames ({carried} latent frames{where}) and base_num_frames is {base} ({window} "
    "latent frames in whole blocks of {block}), which leaves no room for new frames: {advice}.": (
        "重叠帧数（overlap_history）是 {overlap} 帧（{carried} 个潜帧{where}），窗口帧数（base_num_frames）是 {base} "
        "帧（按每块 {block} 个潜帧取整为 {window} 个潜帧），没有余地生成新的帧：请{advice}。"
    ),
    "lower overlap_history to {smaller} or raise base_num_frames to {wider}": (
        "把重叠帧数降到 {smaller}，或把窗口帧数提高到 {wider}"
    ),
    "raise base_num_frames to {wider}": "把窗口帧数提高到 {wider}",
    " at each end of a loop": "，循环视频的两端各需这么多",
    "A loop needs frames that see their future, but causal attention hides it: turn causal_attention off.": (
        "循环视频的帧需要看到后面的帧，而因果注意力会遮住它们：请关闭因果注意力（causal_attention）。"
    ),
    "A loop of {frames} frames cannot be closed, since it has to be 4k + 1 frames and at least {least}: "
    "use {nearest}.": ("{frames} 帧的循环视频无法首尾相接：帧数必须是 4k + 1，且至少为 {least}，请用 {nearest}。"),
    "new_frames is {new}, which plans an extension of a video, but Extend Video has no {names}: set "
    "new_frames to 0, or go without.": (
        "新增帧数（new_frames）是 {new}，即规划视频续写，但视频续写节点没有{names}：请把新增帧数设为 0，或不用它。"
    ),
    "loop": "首尾相接（loop）",
    "The codec is {name}, but the installed PyAV can write {codecs}.": (
        "编码格式是 {name}，但已安装的 PyAV 只能写 {codecs}。"
    ),
    "crf is {crf}, but {codec} knows 0 (best) to {most} (worst): 18 looks like the original.": (
        "画质（crf）是 {crf}，但 {codec} 的范围是 0（最好）到 {most}（最差）：18 与原画看不出差别。"
    ),
    "The name is {name}, but it has to be a plain file name that any system knows, without folders: use letters, "
    "digits, - and _.": (
        "任务名（job_name）是 {name}，但它必须是各系统都能用的普通文件名，不能含文件夹：请用字母、数字、- 和 _。"
    ),
    "The size is {width}x{height} pixels, but the model makes multiples of {multiple}: choose the nearest that is "
    "one.": ("尺寸是 {width}×{height} 像素，但宽和高必须是 {multiple} 的倍数：请改成最接近的倍数。"),
    "shift is {shift}, but it has to be above 0: the authors use 8 or 5.": (
        "shift 是 {shift}，但必须大于 0：作者使用 8 或 5。"
    ),
    'The solver is "{name}", but it has to be one of {names}: choose one of them.': (
        "求解器（solver）是“{name}”，但只能是 {names} 之一：请选择其中一个。"
    ),
    "addnoise_condition is {value}, but it has to be 0 to {most}: the authors use 20.": (
        "已知帧加噪（addnoise_condition）是 {value}，但范围是 0 到 {most}：作者使用 20。"
    ),
    "drift_control is {value}, but it has to be 0 to 1: 0 turns it off.": (
        "漂移控制（drift_control）是 {value}，但范围是 0 到 1：0 表示关闭。"
    ),
    "fps is {fps}, but a video needs a positive number of frames per second, such as 24": (
        "帧率（fps）是 {fps}，但必须是正数，例如 24"
    ),
    "There are {times} key times, but {images} key images: give one time for each image.": (
        "有 {times} 个关键帧时间，却有 {images} 张关键帧图像：请为每张图像给一个时间。"
    ),
    "The key time is {word}, but it has to be seconds like 2.5s or a frame like 60.": (
        "关键帧时间是 {word}，但它必须是秒数（如 2.5 秒）或帧号（如 60）。"
    ),
    "A key image is for frame {frame}, but the video has frames 0 to {last}: give a time inside it.": (
        "关键帧图像对应第 {frame} 帧，但视频只有第 0 到 {last} 帧：请给视频之内的时间。"
    ),
    "Two images are given for one place: the one for {what} falls into latent frame {latent} of four frames, which "
    "another one holds already. Move them further apart.": (
        "同一位置有两张图像：{what}的图像落在第 {latent} 个潜帧（含四帧），那里已有另一张图像。请把它们隔得远一些。"
    ),
    "The given images fill {filled} of {all} latent frames, which leaves nothing to make: ask for more frames or give "
    "fewer images.": "给定的图像占满了 {all} 个潜帧中的 {filled} 个，没有要生成的内容：请增加帧数或减少图像。",
    "A loop ends on its own first frame, but an end image is given: disconnect it or turn loop off.": (
        "循环视频以自己的首帧结束，但连接了尾帧图像：请断开它，或关闭首尾相接（loop）。"
    ),
    "start_image": "首帧图像（start_image）",
    "key_images": "关键帧图像（key_images）",
    "frame {number}": "第 {number} 帧",
    "the end": "尾帧",
    "30 to 50": "30 到 50",
    "97 or more": "97 或更多",
    "97 or 121": "97 或 121",
    "17 or 37": "17 或 37",
    "1 or 5": "1 或 5",
    "0 or 5": "0 或 5",
    "The number of frames": "帧数",
    "overlap_history": "重叠帧数（overlap_history）",
    "base_num_frames": "窗口帧数（base_num_frames）",
    "causal_block_size": "因果块大小（causal_block_size）",
    "ar_step": "块间滞后步数（ar_step）",
    "steps": "步数（steps）",
}


def _pattern(template: str) -> re.Pattern[str]:
    """Return what a sentence of this template looks like."""
    parts = re.split(r"\{(\w+)\}", template)
    return re.compile("".join(re.escape(part) if at % 2 == 0 else f"(?P<{part}>.*?)" for at, part in enumerate(parts)))


PATTERNS = [(_pattern(english), chinese) for english, chinese in TEMPLATES.items()]


def in_language(text: str, language: str) -> str:
    """Return what the live plan says, line by line, in the front end's language; English for all but Chinese.

    Args:
        text: English, as wan_core says it.
        language: the front end's locale, "zh" for Chinese.
    """
    return "\n".join(map(_in_chinese, text.splitlines())) if language == CHINESE else text


def _in_chinese(text: str) -> str:
    """Return a sentence in Chinese, its changing parts too where they are words; itself where no template fits."""
    for pattern, chinese in PATTERNS:
        found = pattern.fullmatch(text)
        if found:
            return chinese.format(**{name: _in_chinese(part) for name, part in found.groupdict().items()})
    return text
