"""GPU Cluster: actors of a real Ray cluster compute what one process computes, and leave nothing behind.

Two Ray nodes on one machine, an actor on each. Without Ray these tests are skipped: install it with
`pip install "ray[default]"` into the host's Python, or put a folder that has it on PYTHONPATH.
"""

from __future__ import annotations

import gc
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import comfy.hooks
import comfy.model_management
import comfy.samplers
import comfy.sd
import comfy.utils
import pytest
import torch
from conftest import REPO
from measures import relative_error
from ray_workers import prepared
from sampling_scene import conditioning, module, sampled
from waiting import wait_until

HAS_RAY = importlib.util.find_spec("ray") is not None
with_ray = pytest.mark.skipif(
    not HAS_RAY, reason='Ray is not installed: pip install "ray[default]" in the host\'s Python, and run again'
)
SIGMAS = torch.tensor([0.999, 0.9, 0.6, 0.3, 0.0])
ASYNC = {"ar_step": 2, "causal_block_size": 2}
CAUSAL = {**ASYNC, "causal_attention": True}
RUNS: dict[str, dict[str, Any]] = {
    "in step": {"frames": 5},
    "async": ASYNC,
    "known frames": {**ASYNC, "known": 1},
    "causal": CAUSAL,
    "causal with known frames": {**CAUSAL, "known": 2},
    "moving window": {**ASYNC, "window_frames": 4, "frames": 8},
}
SAME = 1e-5


@pytest.fixture(scope="module")
def workers_path(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Have the workers of Ray import what this process could."""
    folder = prepared(tmp_path_factory.mktemp("workers"), REPO)
    os.environ["PYTHONPATH"] = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])


@pytest.fixture(scope="module")
def address(workers_path: None) -> Iterator[str]:
    """A cluster of two Ray nodes with a place for one actor each."""
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "num_gpus": 0, "include_dashboard": False}
    )  # fmt: skip
    cluster.add_node(num_cpus=1, num_gpus=0)
    yield cluster.address
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture
def checkpoint(models: Path) -> Path:
    return models / "diffusion_models" / "tiny_df.safetensors"


def loaded(checkpoint: Path, weight_dtype: str = "default") -> Any:
    return module("comfy.loading.loader").load_model(checkpoint, weight_dtype)


@pytest.fixture(scope="module")
def spread(pack: ModuleType, models: Path, address: str) -> Iterator[Callable[..., Any]]:
    """Wraps a MODEL as the node does; the actors of the one before end."""
    made: list[Any] = []

    def wrapped(model: Any, workers: int = 2, sharded: bool = False) -> Any:
        unload()
        place = module("comfy.cluster.group").Place(address, workers, sharded)
        made.append(module("comfy.cluster.remote").clustered(model, place))
        return made[-1]

    yield wrapped
    unload()


@pytest.fixture(scope="module")
def cluster(spread: Callable[..., Any], models: Path) -> Any:
    return spread(loaded(models / "diffusion_models" / "tiny_df.safetensors"))


def unload() -> None:
    comfy.model_management.unload_all_models()


def group_of(model: Any) -> Any:
    return model.model.diffusion_model.group


def alive(model: Any) -> list[int]:
    """The processes of a group that live."""
    import ray

    found = []
    for actor in group_of(model).actors:
        found.append(ray.get(actor.do.remote("process")))
    return found


def sample(model: Any, sampler: Any = None, frames: int = 6, **given: Any) -> torch.Tensor:
    return sampled(model, SIGMAS, (1, 16, frames, 4, 6), sampler, **given)


@with_ray
@pytest.mark.parametrize("name", ["async", "causal"])
def test_a_step_cache_leaves_out_whole_calls_of_the_actors(
    checkpoint: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    step_cached = module("comfy.sampling.step_cache").step_cached
    many = sample(step_cached(cluster, 1000.0), **RUNS[name])
    monkeypatch.setattr(module("comfy.sampling.causal_cache"), "fits_beside", lambda *_: False)  # no room to do better
    one = sample(step_cached(loaded(checkpoint), 1000.0), **RUNS[name])
    assert relative_error(many, one) < SAME
    assert relative_error(many, sample(loaded(checkpoint), **RUNS[name])) > SAME


@with_ray
@pytest.mark.parametrize("name", RUNS)
def test_actors_make_what_one_process_makes(checkpoint: Path, cluster: Any, name: str) -> None:
    one = sample(loaded(checkpoint), **RUNS[name])
    assert relative_error(sample(cluster, **RUNS[name]), one) < SAME
    assert len(group_of(cluster).actors) == 2
    assert not group_of(cluster).kept  # what was cached is forgotten with the run


@with_ray
def test_cores_sampler(checkpoint: Path, cluster: Any) -> None:
    euler = comfy.samplers.ksampler("euler")
    assert relative_error(sample(cluster, euler), sample(loaded(checkpoint), euler)) < SAME


def roll(model: Any, kv_budget: float = 1.0) -> torch.Tensor:
    rolling, window = module("comfy.sampling.rolling"), module("long.rolling").Window(4, 1, kv_budget)
    options = rolling.RollingOptions(torch.tensor([0.999, 0.5, 0.0]), 2, window, "lcm")
    with torch.inference_mode():
        guidance = module("comfy.sampling.guided").Guidance(model, conditioning(1), conditioning(2), 4.0)
        return rolling.roll(guidance, {"samples": torch.zeros(1, 16, 8, 4, 6)}, 3, options)["samples"]


@with_ray
@pytest.mark.parametrize("kv_budget", [1.0, 0.5])
def test_rolling(checkpoint: Path, cluster: Any, kv_budget: float) -> None:
    one = roll(loaded(checkpoint), kv_budget)
    assert relative_error(roll(cluster, kv_budget), one) < SAME
    assert kv_budget == 1 or relative_error(one, roll(loaded(checkpoint))) > 1e-3


def with_lora(model: Any, models: Path) -> Any:
    return module("comfy.loading.lora").apply_lora(model, models / "loras" / "tiny_lora.safetensors", 1.0)[0]


def with_cores_lora(model: Any, models: Path) -> Any:
    file = comfy.utils.load_torch_file(str(models / "loras" / "tiny_lora.safetensors"))
    return comfy.sd.load_lora_for_models(model, None, file, 0.7, 0)[0]


@with_ray
@pytest.mark.parametrize("lora", [with_lora, with_cores_lora])
def test_a_lora_works_before_the_node_and_after_it(
    checkpoint: Path, models: Path, cluster: Any, spread: Callable[..., Any], lora: Any
) -> None:
    one = sample(lora(loaded(checkpoint), models))
    assert relative_error(one, sample(loaded(checkpoint))) > 1e-3
    assert relative_error(sample(lora(cluster, models)), one) < SAME
    assert relative_error(sample(cluster), sample(loaded(checkpoint))) < SAME  # the model itself is as it was
    assert relative_error(sample(spread(lora(loaded(checkpoint), models))), one) < SAME


@with_ray
def test_each_actor_may_keep_a_part_of_the_weights(checkpoint: Path, models: Path, spread: Callable[..., Any]) -> None:
    import ray

    def kept(model: Any) -> list[int]:
        return [ray.get(actor.do.remote("kept")) for actor in group_of(model).actors]

    one = {name: sample(loaded(checkpoint), **RUNS[name]) for name in ("async", "causal")}
    shared = spread(loaded(checkpoint), sharded=True)
    for name in one:
        assert relative_error(sample(shared, **RUNS[name]), one[name]) < SAME
    blocks = loaded(checkpoint).model.diffusion_model.blocks
    whole = sum(each.nbytes for each in blocks.parameters())
    assert sum(kept(shared)) == whole and max(kept(shared)) < 0.55 * whole

    before = alive(shared)
    os.kill(before[1], signal.SIGKILL)
    assert relative_error(sample(shared, **RUNS["async"]), one["async"]) < SAME
    assert not set(before) & set(alive(shared)) and sum(kept(shared)) == whole

    changed = sample(with_lora(loaded(checkpoint), models))
    assert relative_error(sample(with_lora(shared, models)), changed) < SAME
    assert relative_error(sample(shared, **RUNS["async"]), one["async"]) < SAME, "the LoRA is gone again"
    with pytest.raises(module("errors").InputError, match="is stored as float8_e4m3fn, but only float32"):
        sample(spread(loaded(checkpoint, "fp8_e4m3fn"), sharded=True))


@with_ray
def test_fp8_weights(checkpoint: Path, spread: Callable[..., Any]) -> None:
    one = sample(loaded(checkpoint, "fp8_e4m3fn"))
    assert relative_error(one, sample(loaded(checkpoint))) > 1e-3
    assert relative_error(sample(spread(loaded(checkpoint, "fp8_e4m3fn"))), one) < SAME


def in_call(monkeypatch: pytest.MonkeyPatch, number: int, do: Callable[[], None]) -> list[int]:
    """Do something a moment after a call of the group has begun; returns a list with an entry for each call."""
    group, calls = module("comfy.cluster.group").Group, list[int]()
    ask = group.ask

    def asked(self: Any, name: str, *args: Any) -> Any:
        if name == "run":
            calls.append(len(self.actors))
            if len(calls) == number:
                do()
        return ask(self, name, *args)

    monkeypatch.setattr(group, "ask", asked)
    return calls


@with_ray
@pytest.mark.parametrize("name", ["async", "causal with known frames", "rolling"])
@pytest.mark.parametrize("which", [0, 1])
def test_when_an_actor_is_killed_the_video_is_the_same(
    checkpoint: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch, name: str, which: int
) -> None:
    def make(model: Any) -> torch.Tensor:
        return roll(model) if name == "rolling" else sample(model, **RUNS[name])

    one = make(loaded(checkpoint))
    assert relative_error(make(cluster), one) < SAME
    before = alive(cluster)
    calls = in_call(monkeypatch, 7, lambda: os.kill(before[which], signal.SIGKILL))
    assert relative_error(make(cluster), one) < SAME
    assert len(calls) > 8
    assert not set(alive(cluster)) & set(before) and len(alive(cluster)) == 2
    wait_until(lambda: not any(map(running, before)))


@with_ray
def test_a_worker_that_dies_again_is_told_in_words(
    cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    sample(cluster)
    group = module("comfy.cluster.group").Group
    ask = group.ask

    def dying(self: Any, name: str, *args: Any) -> Any:
        if name == "run":
            os.kill(alive(cluster)[1], signal.SIGKILL)
        return ask(self, name, *args)

    monkeypatch.setattr(group, "ask", dying)
    with pytest.raises(module("errors").InputError, match="lost a worker twice"):
        sample(cluster)
    monkeypatch.undo()
    assert sample(cluster).isfinite().all()


@with_ray
def test_an_interrupted_run_leaves_actors_that_work(
    checkpoint: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = sample(loaded(checkpoint), **CAUSAL)
    sample(cluster, **CAUSAL)
    before = alive(cluster)
    in_call(monkeypatch, 5, lambda: comfy.model_management.interrupt_current_processing(True))
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        sample(cluster, **CAUSAL)
    monkeypatch.undo()
    assert relative_error(sample(cluster, **CAUSAL), one) < SAME
    assert alive(cluster) == before


@with_ray
def test_a_stop_reaches_all_actors_in_the_middle_of_a_call(cluster: Any) -> None:
    """Asked of the first while it computes: it ends, and so do the others, at the same block."""
    sample(cluster)
    import ray

    group = group_of(cluster)
    x = torch.randn(1, 16, 40, 32, 32)
    call = module("comfy.cluster.messages").Call(x, torch.full((1,), 500.0), torch.randn(1, 12, 4096), {})
    asked = [actor.do.remote("run", call) for actor in group.actors]
    time.sleep(0.3)
    group.stop(asked)
    errors = [group.error_of(each) for each in asked]
    assert all(isinstance(error, module("comfy.cluster.messages").Stopped) for error in errors), errors
    assert ray.get(group.actors[0].do.remote("process")) == alive(cluster)[0]


@with_ray
def test_unloading_ends_the_actors_and_the_next_run_starts_them(checkpoint: Path, cluster: Any) -> None:
    one = sample(cluster)
    before = alive(cluster)
    unload()
    assert group_of(cluster).actors == []
    wait_until(lambda: not any(map(running, before)))
    assert relative_error(sample(cluster), one) < SAME


@with_ray
def test_actors_end_with_the_model(checkpoint: Path, spread: Callable[..., Any], address: str) -> None:
    unload()
    place = module("comfy.cluster.group").Place(address, 2)
    model = module("comfy.cluster.remote").clustered(loaded(checkpoint), place)
    sample(model)
    before = alive(model)
    del model
    gc.collect()
    comfy.model_management.cleanup_models_gc()
    wait_until(lambda: not any(map(running, before)))


def running(process: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{process}/stat").read_text("ascii").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


@with_ray
def test_the_node_with_the_embedded_models(pack_nodes: dict[str, Any], address: str) -> None:
    """What the demo templates do: made by a factory with arguments of its own, with latents of its own."""
    model, clip, _ = pack_nodes["SkyReelsV2DemoModels"].execute().args
    unload()
    shared = pack_nodes["SkyReelsV2GPUCluster"].execute(model, 2, address, "whole").args[0]
    texts = pack_nodes["SkyReelsV2TextEncode"].execute(clip, "a red circle", "").args

    def video(of: Any) -> torch.Tensor:
        latent = {"samples": torch.zeros(1, 16, 5, 8, 8)}
        run = module("comfy.sampling.guided").Guidance(of, *texts, 3.0)
        options = module("comfy.sampling.sampler").ForcingOptions(**ASYNC)
        with torch.inference_mode():
            return module("comfy.sampling.generate").generate(run, latent, 5, SIGMAS, options)["samples"]

    one = video(model)
    assert relative_error(video(shared), one) < SAME and len(alive(shared)) == 2
    assert type(shared.model.latent_format) is type(model.model.latent_format)
    unload()


@with_ray
def test_nothing_outlives_a_host_that_is_killed(checkpoint: Path, workers_path: None) -> None:
    """A host that has started Ray itself, with an empty address, as on one machine with two GPUs."""
    command = [sys.executable, str(Path(__file__).with_name("cluster_host.py")), str(checkpoint)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as host:
        assert host.stdout is not None
        lines = (line for line in host.stdout if line.startswith("READY "))
        told = json.loads(next(lines).removeprefix("READY "))
        everyone = [*told["actors"], *told["daemons"]]
        assert len(told["actors"]) == 2 and told["difference"] < 1e-4 and all(map(running, everyone))
        host.kill()
    wait_until(lambda: not any(map(running, everyone)))


@with_ray
def test_what_changes_the_inside_is_refused(checkpoint: Path, spread: Callable[..., Any]) -> None:
    model = spread(loaded(checkpoint))

    def patch_of_a_node(*args: Any) -> Any:
        raise AssertionError(args)

    patched, attention = model.clone(), model.clone()
    patched.set_model_double_block_patch(patch_of_a_node)
    attention.set_model_patch_replace(patch_of_a_node, "dit", "double_block", 3)
    overridden = model.clone()
    overridden.model_options["transformer_options"]["optimized_attention_override"] = patch_of_a_node
    for each, where in (
        (patched, "patches.double_block"),
        (attention, "patches_replace.dit.double_block-3"),
        (overridden, "optimized_attention_override"),
    ):
        named = rf"{re.escape(where)} \(.*patch_of_a_node\) changes the inside of the model"
        with pytest.raises(module("errors").InputError, match=named):
            sample(each)
    replaced = model.clone()
    replaced.add_object_patch("diffusion_model.blocks.0.self_attn.forward", lambda *args: None)
    with pytest.raises(module("errors").InputError, match=r"self_attn\.forward changes the inside"):
        sample(replaced)
    file = comfy.utils.load_torch_file(str(checkpoint.parents[1] / "loras" / "tiny_lora.safetensors"))
    bypass = pytest.raises(module("errors").InputError, match="bypass_lora changes the inside")
    with bypass:  # its functions would lie around layers that nobody computes here
        sample(comfy.sd.load_bypass_lora_for_models(model, None, file, 1.0, 0.0)[0])
    with bypass:
        spread(comfy.sd.load_bypass_lora_for_models(loaded(checkpoint), None, file, 1.0, 0.0)[0])
    hooks = comfy.hooks.create_hook_lora(file, 1.0, 1.0)
    hooked = comfy.hooks.set_hooks_for_conditioning(conditioning(1), hooks)
    with pytest.raises(module("errors").InputError, match="hooked to a prompt"):
        sample(model, positive=hooked)


@with_ray
def test_a_file_that_a_worker_lacks_is_named(checkpoint: Path, spread: Callable[..., Any], tmp_path: Path) -> None:
    there = tmp_path / "only_here.safetensors"
    there.write_bytes(checkpoint.read_bytes())
    model = spread(loaded(there))
    there.unlink()
    with pytest.raises(module("errors").InputError, match="copy the file there"):
        sample(model)


@with_ray
def test_a_job_is_the_same_with_the_node(checkpoint: Path, cluster: Any) -> None:
    identity = module("comfy.long.identity").model_identity
    ours, theirs = identity(loaded(checkpoint)), identity(cluster)
    assert ours["weights"] == theirs["weights"] and ours["patches"] == theirs["patches"]


@with_ray
def test_a_workflow_cannot_connect_this_machine_to_a_cluster(
    pack: ModuleType, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    host = module("comfy.cluster.ray_host")
    assert address in host.clusters_here(ray)  # as its own processes tell
    tried: list[Any] = []
    monkeypatch.setattr(ray, "init", lambda **given: tried.append(given))
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    for elsewhere in ("10.1.2.3:6379", "ray://10.1.2.3:10001"):
        with pytest.raises(module("errors").InputError, match="isn't a part of that Ray cluster"):
            host.connected(elsewhere)
    assert not tried


@with_ray
def test_a_second_cluster_is_refused(cluster: Any) -> None:
    sample(cluster)
    with pytest.raises(module("errors").InputError, match="has joined the Ray cluster"):
        module("comfy.cluster.ray_host").connected("10.1.2.3:6379")


def test_without_ray_the_node_says_how_to_get_it(
    pack_nodes: dict[str, Any], checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # as where it is not installed
    with pytest.raises(module("errors").InputError, match=r'pip install "ray\[default\]"'):
        pack_nodes["SkyReelsV2GPUCluster"].execute(loaded(checkpoint), 0, "", "whole")


def test_a_model_of_another_loader_is_refused(pack: ModuleType, checkpoint: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", ModuleType("ray"))
    with pytest.raises(module("errors").InputError, match="straight from SkyReels-V2 Model Loader"):
        module("comfy.cluster.remote").clustered(
            comfy.sd.load_diffusion_model(str(checkpoint)), module("comfy.cluster.group").Place()
        )
