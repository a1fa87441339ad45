"""Let every node of ours work as hard as its inputs allow in one ComfyUI, and ask the server other things meanwhile.

    python -m tools.answers

Keeps for each node how long the slowest answer took, and the answer to `/interrupt` where the node works for longer
than a moment (tools/trust.py). A node without a row in HEAVY is an error: write one.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from safetensors.torch import save_file

from tests.comfy.graph import Ref
from tests.tiny import tiny_config, write_single
from tools import trust
from tools.host import ExecutionFailed, Host
from tools.hosts import find_hosts, why_no_host
from tools.same_latents import FORCING, LONG
from tools.soak import SIZE, Asker, Job, timed
from wan_core.long.journal import Journal

FILE, LORA, JOBS = "large.safetensors", "many.safetensors", 300
MOMENT = 4.0  # seconds that a node may work before it is interrupted
PLANNED = {"total_frames": 1_000_000, "base_num_frames": 97, "overlap_history": 77, "steps": 1000, "ar_step": 1000}
VIDEO = {"total_frames": 1_000_000, "steps": 1000, "job_name": "hard", "keep_gb": 0.0, "key_times": ""}
SCRIPT = "".join(f"{second}s: a cat, number {second}\n" for second in range(0, 4000))[:100_000]


class Hard(Job):
    """A prompt in which one node has much to do."""

    def ours(self, name: str, **inputs: Any) -> Ref:
        """Add a node of ours."""
        return self.add("SkyReelsV2" + name, **inputs)

    def images(self, count: int, side: int = 64) -> Ref:
        """Add images of one colour."""
        return self.add("EmptyImage", width=side, height=side, batch_size=count, color=7)

    def frames(self, count: int, side: int = 64) -> Ref:
        """Add a latent video."""
        size = {"size": "custom", "size.width": side, "size.height": side}
        return self.ours("EmptyLatent", **size, frames=count, batch_size=1)

    def known(self) -> Ref:
        """Add a latent with forty key images."""
        times = ", ".join(str(8 * number + 4) for number in range(40))
        images = {"start_image": self.images(1, 256), "key_images": self.images(40, 256), "key_frames": times}
        return self.ours("KeyFrames", vae=self.vae, latent=self.frames(401, 256), **images)

    def sample(self) -> Ref:
        """Add the sampler."""
        texts = {"model": self.model, "positive": self.positive, "negative": self.negative}
        settings = {"seed": 1, "steps": 1000, "cfg": 3.0, "shift": 5.0, **FORCING, "ar_step": 5}
        return self.ours("Sampler", **texts, latent=self.frames(8193), **settings)

    def roll(self) -> Ref:
        """Add the rolling sampler."""
        texts = {"model": self.model, "positive": self.positive, "latent": self.frames(8193)}
        window = {"chunk_frames": 1, "window_frames": 40, "sink_frames": 1, "solver": "lcm", "fps": 24}
        steps = ", ".join(str(1000 - 25 * step) for step in range(40))
        return self.ours("RollingSampler", **texts, seed=1, timesteps=steps, shift=5.0, cfg=1.0, **window)

    def hours(self, **changes: Any) -> Ref:
        """Add a long video."""
        settings = {**FORCING, **LONG, **VIDEO, "base_num_frames": 97, "overlap_history": 17, **changes}
        del settings["window_frames"]
        texts = {"model": self.model, "vae": self.vae, "positive": self.positive, "negative": self.negative}
        return self.ours("LongVideo", **texts, **SIZE, **settings)

    def extend(self) -> Ref:
        """Add an extension of a video."""
        settings = {**FORCING, **LONG, **VIDEO, "new_frames": 999_000, "size": "as the video"}
        for name in ("window_frames", "total_frames", "loop", "fps", "key_times"):
            del settings[name]
        video = self.add("CreateVideo", images=self.images(200), fps=24.0)
        texts = {"model": self.model, "vae": self.vae, "positive": self.positive, "negative": self.negative}
        return self.ours("ExtendVideo", **texts, video=video, **settings)

    def plan(self) -> Ref:
        """Add a plan with its picture."""
        forcing = {"causal_block_size": 1, "causal_attention": False, "shift": 8.0, "loop": False}
        return self.ours("Plan", **SIZE, **PLANNED, **forcing)[1]

    def core_model(self) -> Ref:
        """Add a model of ComfyUI's own loader."""
        return self.add("UNETLoader", unet_name=FILE, weight_dtype="default")


FORCED = {name: FORCING[name] for name in FORCING if name != "window_frames"}
Build = Callable[[Hard], Ref]
# by node, without "SkyReelsV2": how hard it has it, in English and Chinese, and what makes the prompt
HEAVY: dict[str, tuple[str, str, Build]] = {
    "ModelLoader": ("a file of 400 MB", "400 MB 的文件", lambda job: job.ours(
        "ModelLoader", model_name=FILE, weight_dtype="default")),
    "LoraLoader": ("20,000 keys", "20,000 个键", lambda job: job.ours(
        "LoraLoader", model=job.model, lora_name=LORA, strength=1.0)),
    "AttachFPS": ("a file of 400 MB", "400 MB 的文件", lambda job: job.ours(
        "AttachFPS", model=job.core_model(), model_name="auto", fps=24)),
    "ModelInfo": ("a file of 400 MB", "400 MB 的文件", lambda job: job.ours(
        "ModelInfo", model=job.core_model(), variant="auto", mode="auto")),
    "DemoModels": ("all three models", "三个模型", lambda job: job.model),
    "TextEncode": ("100,000 characters", "100,000 个字符", lambda job: job.ours(
        "TextEncode", clip=job.clip, prompt="a cat " * 16_667, negative_prompt="b" * 100_000)),
    "PromptScript": ("100,000 characters", "100,000 个字符", lambda job: job.ours(
        "PromptScript", clip=job.clip, script=SCRIPT, blend=60.0, negative_prompt="b" * 100_000)),
    "PromptList": ("50 prompts of 2,000 characters", "50 条提示词，每条 2,000 个字符", lambda job: job.ours(
        "PromptList", clip=job.clip, blend=60.0, negative_prompt="",
        **{f"prompts.prompt_{number}": "1s " * 667 for number in range(1, 51)})),
    "EmptyLatent": ("257 frames of 4096x4096", "257 帧 4096x4096", lambda job: job.frames(257, 4096)),
    "KeyFrames": ("40 key images of 256x256", "40 张 256x256 的关键帧图像", Hard.known),
    "Sampler": ("8,193 frames, 1,000 steps", "8,193 帧，1,000 步", Hard.sample),
    "SamplerSelect": ("a window of 100,000 latent frames", "窗口为 100,000 个 Latent 帧", lambda job: job.ours(
        "SamplerSelect", **FORCED, window_frames=100_000)),
    "Sigmas": ("1,000 steps", "1,000 步", lambda job: job.ours("Sigmas", steps=1000, shift=8.0, timesteps="")),
    "RollingSampler": ("8,193 frames, 40 steps", "8,193 帧，40 步", Hard.roll),
    "VAEDecode": ("8,193 frames", "8,193 帧", lambda job: job.ours(
        "VAEDecode", samples=job.frames(8193), vae=job.vae, tiling="auto")),
    "CFGRange": ("as it comes", "默认值", lambda job: job.ours(
        "CFGRange", model=job.model, start_percent=0.0, end_percent=1.0)),
    "StepCache": ("as it comes", "默认值", lambda job: job.ours("StepCache", model=job.model, threshold=2.0)),
    "LongVideo": ("1,000,000 frames, 1,000 steps", "1,000,000 帧，1,000 步", Hard.hours),
    "LongVideo, moving window": ("1,000,000 frames, 1,000 steps", "1,000,000 帧，1,000 步", lambda job: job.hours(
        method="moving window", ar_step=50, total_frames=100_000)),
    "ExtendVideo": ("999,000 new frames, 1,000 steps", "新增 999,000 帧，1,000 步", Hard.extend),
    "Plan": ("1,000,000 frames, 1,000 steps", "1,000,000 帧，1,000 步", Hard.plan),
    "Jobs": (f"{JOBS} jobs", f"{JOBS} 个任务", lambda job: job.ours("Jobs", remove="")),
    "GPUCluster": ("64 workers", "64 个工作进程", lambda job: job.ours(
        "GPUCluster", model=job.model, workers=64, address="")),
}  # fmt: skip


def prepare(host: Host) -> None:
    """Write the files that the prompts name, and many jobs."""
    shape = {"dim": 1024, "ffn_dim": 4096, "num_heads": 8, "num_layers": 6, "text_dim": 4096, "freq_dim": 256}
    config = tiny_config(**shape, inject_sample_info=True)
    write_single(host.models / "diffusion_models" / FILE, config)
    pair = {"lora_A": torch.zeros(1, 64), "lora_B": torch.zeros(64, 1)}
    names = (f"transformer.blocks.{at // 8}.attn1.to_{'qkv'[at % 3]}{at}" for at in range(10_000))
    many = {f"{name}.{part}.weight": value.clone() for name in names for part, value in pair.items()}
    save_file(many, host.models / "loras" / LORA)
    for number in range(JOBS):
        with Journal(host.base / "output" / "skyreels_v2_jobs", "job", {"seed": number}, 4):
            pass


def measured(host: Host, number: int, name: str, build: Build) -> dict[str, Any]:
    """Run a node's prompt, interrupted after a moment, and return how long other requests waited."""
    job = Hard(number)
    made = build(job)
    if name != "Jobs":
        job.add("PreviewAny", source=made)
    asker, begin, asked = Asker(host), time.monotonic(), list[float]()
    asker.start()

    def interrupt() -> None:
        if time.monotonic() - begin > MOMENT and (not asked or time.monotonic() - begin > 10 * MOMENT):
            asked.append(timed(host.interrupt))

    ended = "finished"
    try:
        host.run(job.prompt, timeout=300, waiting=interrupt)
    except ExecutionFailed as failed:
        ended = "interrupted" if "exception_message" not in failed.details else failed.message
    seconds = time.monotonic() - begin
    asker.stopped.set()
    asker.join()
    return {"ended": ended, "seconds": round(seconds, 1), "requests": len(asker.waits),
            "longest": round(max(asker.waits), 3), "interrupt": round(max(asked), 3) if asked else None}  # fmt: skip


def main(only: tuple[str, ...]) -> None:
    """Measure each node in the newest host and keep what was seen."""
    hosts = find_hosts()
    if not hosts:
        sys.exit(why_no_host())
    with Host(hosts[0]) as host:
        prepare(host)
        ours = {name for name, node in host.object_info().items() if node["python_module"].startswith("custom_nodes.")}
        missing = ours - {"SkyReelsV2" + name.partition(",")[0] for name in HEAVY}
        assert not missing, f"write rows of HEAVY for {missing}"
        seen = {}
        for number, (name, (english, chinese, build)) in enumerate(HEAVY.items()):
            if not only or name in only:
                seen[name] = {"en": english, "zh": chinese, **measured(host, number, name, build)}
                print(f"{name}: {seen[name]}", flush=True)
    if not only:
        trust.keep("answers", {"host": hosts[0].version, "nodes": seen})


if __name__ == "__main__":
    main(tuple(sys.argv[1:]))
