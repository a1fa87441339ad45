"""Compare two checkouts of the pack bit for bit: every way of sampling, with the demo models, through the nodes.

`python -m tools.same_latents OTHER_CHECKOUT` makes the same small videos with both in the first ComfyUI found and names
each that differs. The nodes are the one door that does not move, so the other checkout may be of any version with them.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
INSIDE = "--inside"
FORCING = {
    "fps": 24, "ar_step": 0, "causal_block_size": 1, "causal_attention": False, "addnoise_condition": 20,
    "solver": "unipc", "window_frames": 0,
}  # fmt: skip
ASYNC = {"ar_step": 2, "causal_block_size": 2}
CAUSAL = {**ASYNC, "causal_attention": True}
SAMPLED: dict[str, dict[str, Any]] = {
    "sync": {},
    "async": ASYNC,
    "causal": CAUSAL,
    "causal sync": {"causal_attention": True, "causal_block_size": 2},
    "moving window": {**ASYNC, "window_frames": 4, "ar_step": 3},
    "euler": {"solver": "euler"},
    "lcm": {"solver": "lcm", **ASYNC},
}
LONG = {
    "total_frames": 61, "base_num_frames": 25, "overlap_history": 5, "seed": 5, "steps": 4, "cfg": 3.0, "shift": 5.0,
    "drift_control": 0.0, "loop": False, "carry_over": "latents", "codec": "h264", "crf": 16,
}  # fmt: skip


class Ways:
    """Every way of sampling, each as a function that gives the latents."""

    def __init__(self, nodes: dict[str, Any]):
        self.nodes = nodes
        self.model, self.clip, self.vae = self.ask("DemoModels")
        self.texts = self.ask("TextEncode", clip=self.clip, prompt="a red circle moving right", negative_prompt="")

    def ask(self, name: str, **inputs: Any) -> Any:
        """Run a node and return its outputs."""
        import torch

        node = self.nodes["SkyReelsV2" + name]
        ids = {entry.id for entry in node.GET_SCHEMA().inputs}
        spare = {name for name in FORCING.keys() | LONG.keys() if name not in ids}  # settings that only some nodes have
        node.hidden = getattr(node, "hidden", None) or Hidden()
        with torch.inference_mode():
            return node.execute(**{key: value for key, value in inputs.items() if key not in spare}).args

    def sampled(self, model: Any = None, latent: Any = None, **forcing: Any) -> Any:
        """Return latents of the sampler node."""
        import torch

        positive, negative = self.texts[:2]
        latent = latent or {"samples": torch.zeros(1, 16, 7, 8, 8)}
        settings = {"seed": 11, "steps": 6, "cfg": 3.0, "shift": 5.0, **FORCING, **forcing}
        out = self.ask(
            "Sampler", model=model or self.model, positive=positive, negative=negative, latent=latent, **settings
        )
        return out[0]["samples"]

    def key_frames(self, **forcing: Any) -> Any:
        """Return latents with a start, a key and an end frame."""
        import torch

        images = torch.rand(3, 64, 64, 3, generator=torch.Generator().manual_seed(4))
        latent = self.ask(
            "KeyFrames", vae=self.vae, latent={"samples": torch.zeros(1, 16, 7, 8, 8)}, start_image=images[:1],
            end_image=images[1:2], key_images=images[2:], key_frames="9",
        )[0]  # fmt: skip
        return self.sampled(latent=latent, **forcing)

    def rolling(self) -> Any:
        """Return latents of the rolling sampler."""
        import torch

        positive, negative = self.texts[:2]
        return self.ask(
            "RollingSampler", model=self.model, positive=positive, negative=negative,
            latent={"samples": torch.zeros(1, 16, 9, 8, 8)}, seed=3, timesteps="1000, 750, 500, 250", shift=5.0,
            cfg=2.0, chunk_frames=3, window_frames=6, sink_frames=1, solver="lcm", fps=24,
        )[0]["samples"]  # fmt: skip

    def long(self, **changes: Any) -> Any:
        """Return the last segment's latents of a long video of three segments."""
        positive, negative = self.texts[:2]
        settings = {**FORCING, **LONG, **changes}
        size = {"size": "custom", "width": 64, "height": 64}
        out = self.ask(
            "LongVideo", model=self.model, vae=self.vae, positive=positive, negative=negative, size=size,
            job_name="same", keep_gb=0.0, key_times="", **settings,
        )  # fmt: skip
        return next(each for each in out if isinstance(each, dict) and "samples" in each)["samples"]

    def extended(self) -> Any:
        """Return the last segment's latents of a video that was extended."""
        import torch
        from comfy_api.latest import InputImpl, Types

        images = torch.rand(9, 64, 64, 3, generator=torch.Generator().manual_seed(4))
        video = InputImpl.VideoFromComponents(Types.VideoComponents(images=images, audio=None, frame_rate=24))
        positive, negative = self.texts[:2]
        settings = {**FORCING, **LONG}
        del settings["total_frames"], settings["loop"], settings["fps"]
        out = self.ask(
            "ExtendVideo", model=self.model, vae=self.vae, positive=positive, negative=negative, video=video,
            size="as the video", new_frames=40, job_name="same", keep_gb=0.0, **settings,
        )  # fmt: skip
        return next(each for each in out if isinstance(each, dict) and "samples" in each)["samples"]

    def all(self) -> dict[str, Callable[[], Any]]:
        """Return all ways by name."""
        cached = self.ask("StepCache", model=self.model, threshold=0.3)[0]
        ranged = self.ask("CFGRange", model=self.model, start_percent=0.2, end_percent=0.7)[0]
        return {
            **{name: partial(self.sampled, **forcing) for name, forcing in SAMPLED.items()},
            "key frames": self.key_frames,
            "key frames async": lambda: self.key_frames(**ASYNC),
            "step cache": lambda: self.sampled(cached),
            "step cache causal": lambda: self.sampled(cached, **CAUSAL),
            "cfg range": lambda: self.sampled(ranged),
            "cfg range async": lambda: self.sampled(ranged, **ASYNC),
            "rolling": self.rolling,
            "long": self.long,
            "long async": lambda: self.long(**ASYNC),
            "long loop": lambda: self.long(loop=True, carry_over="frames", drift_control=0.5),
            "extended": self.extended,
        }


class Hidden:
    """The hidden inputs of a node, all of them absent."""

    unique_id = prompt = extra_pnginfo = None


def nodes_of(checkout: Path) -> dict[str, Any]:
    """Import a checkout in a host's process as `skyreels_v2` and return its nodes by name."""
    import importlib.util

    spec = importlib.util.spec_from_file_location(
        "skyreels_v2", checkout / "__init__.py", submodule_search_locations=[str(checkout)]
    )
    assert spec is not None and spec.loader is not None
    pack = importlib.util.module_from_spec(spec)
    sys.modules["skyreels_v2"] = pack
    spec.loader.exec_module(pack)

    async def collect() -> list[Any]:
        return await (await pack.comfy_entrypoint()).get_node_list()

    return {node.GET_SCHEMA().node_id: node for node in asyncio.run(collect())}


def make(checkout: Path, target: Path) -> None:
    """Write the digest of every way's latents as JSON; runs in a host's process."""
    import comfy.cli_args
    import folder_paths

    comfy.cli_args.args.cpu = True
    folder_paths.set_output_directory(str(target.parent))
    ways = Ways(nodes_of(checkout))
    found = {}
    for name, way in ways.all().items():
        latents = way().float().contiguous()
        assert bool(latents.isfinite().all()) and float(latents.std()) > 0.01, name
        found[name] = hashlib.sha256(latents.cpu().numpy().tobytes()).hexdigest()
        print(name, found[name][:16], tuple(latents.shape), flush=True)
    target.write_text(json.dumps(found), "utf-8")


def main(other: Path) -> None:
    """Make the latents with both checkouts and compare them."""
    from tools.host import run_in_host
    from tools.hosts import find_hosts, why_no_host

    hosts = find_hosts()
    if not hosts:
        sys.exit(why_no_host())
    made = []
    for checkout in (other, ROOT):
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "latents.json"
            run_in_host(hosts[0], Path(__file__).resolve(), INSIDE, checkout, target, timeout=3600)
            made.append(json.loads(target.read_text("utf-8")))
    different = [name for name, digest in made[1].items() if made[0].get(name) != digest]
    print(f"{len(made[1]) - len(different)} of {len(made[1])} ways of sampling give the same bits in both checkouts")
    if different:
        sys.exit("different: " + ", ".join(different))


if __name__ == "__main__":
    if sys.argv[1:2] == [INSIDE]:
        make(Path(sys.argv[2]), Path(sys.argv[3]))
    elif len(sys.argv) == 2:
        main(Path(sys.argv[1]).resolve())
    else:
        sys.exit(__doc__)
