"""The pack's nodes wired together: a Graph with model, text and latent in place and small settings by default."""

from __future__ import annotations

from typing import Any

import torch
from safetensors.torch import load_file

from tests.comfy.graph import Graph, Ref
from tests.comfy.host import ExecutionFailed, Finished, Host

SETTINGS: dict[str, Any] = {
    "seed": 1,
    "steps": 3,
    "cfg": 2.0,
    "shift": 8.0,
    "solver": "unipc",
    "fps": 24,
    "ar_step": 0,
    "causal_block_size": 1,
    "causal_attention": False,
    "addnoise_condition": 20,
}
FORCING = ("solver", "fps", "ar_step", "causal_block_size", "causal_attention", "addnoise_condition")


class Scene(Graph):
    """A prompt with loader, text and an empty latent of 64 x 64 pixels; nothing runs until something is saved."""

    def __init__(
        self,
        model_name: str = "tiny_df.safetensors",
        weight_dtype: str = "default",
        frames: int = 9,
        text_width: int = 4096,
        batch_size: int = 1,
    ) -> None:
        super().__init__()
        self.model = self.add("SkyReelsV2ModelLoader", model_name=model_name, weight_dtype=weight_dtype)
        self.clip = self.add("SkyReelsV2TestTinyCLIP", width=text_width)
        text = self.add(
            "SkyReelsV2TextEncode", clip=self.clip, prompt="a graceful white swan", negative_prompt="最差质量"
        )
        self.positive, self.negative = text[0], text[1]
        self.latent = self.add(
            "SkyReelsV2EmptyLatent", size="custom", width=64, height=64, frames=frames, batch_size=batch_size
        )
        self.vae = self.add("VAELoader", vae_name="tiny_wan_vae.safetensors")

    def sample(self, **changes: Any) -> Ref:
        """Add our sampler; `changes` are its inputs, links or values."""
        inputs = {
            "model": self.model,
            "positive": self.positive,
            "negative": self.negative,
            "latent": self.latent,
            **SETTINGS,
            **changes,
        }
        return self.add("SkyReelsV2Sampler", **inputs)

    def core_sample(self, sampler: Ref, sigmas: Ref, latent: Ref | None = None, seed: int = 1, cfg: float = 2.0) -> Ref:
        """Add core's SamplerCustomAdvanced around a SAMPLER and SIGMAS."""
        guider = self.add("CFGGuider", model=self.model, positive=self.positive, negative=self.negative, cfg=cfg)
        return self.add(
            "SamplerCustomAdvanced",
            noise=self.add("RandomNoise", noise_seed=seed),
            guider=guider,
            sampler=sampler,
            sigmas=sigmas,
            latent_image=latent or self.latent,
        )

    def select(self, **changes: Any) -> Ref:
        """Add our SAMPLER node."""
        return self.add("SkyReelsV2SamplerSelect", **({name: SETTINGS[name] for name in FORCING} | changes))

    def pin(self, **images: Any) -> Ref:
        """Add our key frames node to the scene's latent."""
        return self.add("SkyReelsV2KeyFrames", vae=self.vae, latent=self.latent, **images)

    def picture(self, name: str) -> Ref:
        """Load a picture of the input folder."""
        return self.add("LoadImage", image=name)

    def dump(self, name: str, value: Ref) -> None:
        """Save the tensors of a link under a name."""
        self.add("SkyReelsV2TestDump", value=value, name=name)

    def save_video(self, images: Ref, fps: float = 24.0) -> Ref:
        """Save images as mp4."""
        video = self.add("CreateVideo", images=images, fps=fps)
        return self.add("SaveVideo", video=video, filename_prefix="ours", format="mp4", codec="h264")


def tensors(host: Host, scene: Scene) -> dict[str, torch.Tensor]:
    """Run a scene and return what it dumped: name -> samples of a LATENT, the tensor itself, or the first cond."""
    found = {}
    for files in host.run(scene.prompt).outputs.values():
        for path in files:
            if path.suffix == ".safetensors":
                content = load_file(path)
                found[path.stem] = next(content[key] for key in ("samples", "tensor", "cond.0") if key in content)
    assert all(tensor.isfinite().all() for tensor in found.values())
    return found


def video_of(finished: Finished) -> Any:
    """Return the one mp4 of a finished prompt."""
    (path,) = [path for files in finished.outputs.values() for path in files if path.suffix == ".mp4"]
    return path


def refusal(host: Host, scene: Scene, node_type: str = "SkyReelsV2Sampler") -> ExecutionFailed:
    """Run a scene that must fail in a node; return its error, checked to be plain, short and no late one."""
    printed = host.log_size
    try:
        host.run(scene.prompt)
    except ExecutionFailed as failure:
        message = failure.message
        assert "\n" not in message, f"more than one line: {message}"
        assert message.endswith(".") and message.count(". ") < 2, f"more than two sentences: {message}"
        assert 40 < len(message) < 400, f"{len(message)} characters: {message}"
        assert failure.exception_type.startswith("skyreels_v2."), failure  # no path of the pack before it
        assert failure.node_type == node_type, failure
        assert "it/s]" not in host.log_from(printed), "a progress bar was shown before the error"
        return failure
    raise AssertionError("the prompt ran, but it should have been refused")
