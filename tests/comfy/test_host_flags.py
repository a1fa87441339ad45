"""Servers started with flags of ComfyUI's command line; docs/host_flags.md has a row for each.

Every other server test runs with --cpu. ComfyUI refuses --lowvram and --novram beside it: what they do to a model is
tried in inside/test_neighbours.py. What can be set in a running process is tried in inside/test_flags.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.comfy.host import PACK_FOLDER, TEST_NODES_FOLDER, Host, HostInstall
from tests.comfy.scene import Scene, refusal, tensors
from tests.comfy.test_long_video import long_video

SECRET = "a swan that nobody may know of"


@dataclass(frozen=True)
class Flagged:
    """A server with many flags, and its folders."""

    server: Host
    output: Path
    temp: Path


@pytest.fixture(scope="module")
def flagged(
    install: HostInstall, model_files: Path, vae_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Flagged]:
    """A server with all flags that go together, its models in a folder that only extra_model_paths names."""
    assert vae_file.is_file()
    place = tmp_path_factory.mktemp("flagged")
    for name in ("output", "input", "user"):
        (place / name).mkdir()
    folders = "".join(f"  {name}: {name}/\n" for name in ("diffusion_models", "loras", "vae"))
    (place / "models.yaml").write_text(f"tiny:\n  base_path: {model_files}\n{folders}", "utf-8")
    flags = f"""
        --output-directory {place / "output"} --temp-directory {place} --input-directory {place / "input"}
        --user-directory {place / "user"} --extra-model-paths-config {place / "models.yaml"}
        --disable-all-custom-nodes --whitelist-custom-nodes {PACK_FOLDER} {TEST_NODES_FOLDER}
        --disable-metadata --fp16-intermediates --deterministic --multi-user --cache-none --preview-method none
        --enable-compress-response-body --disable-smart-memory --disable-mmap --reserve-vram 1
        --default-hashing-function sha512 --verbose DEBUG --log-stdout
    """
    with Host(install, tuple(flags.split())) as server:
        yield Flagged(server, place / "output", place / "temp")


def secret_film(scene: Scene, **changes: object) -> None:
    """A long video whose prompt nobody may know of, saved by core as well, with its plan."""
    text = scene.add("SkyReelsV2TextEncode", clip=scene.clip, prompt=SECRET, negative_prompt="")
    film = long_video(scene, positive=text[0], **changes)
    scene.add("SaveVideo", video=film, filename_prefix="copy", format="auto", codec="auto")
    scene.add("SkyReelsV2TestText", value=film[2], name="plan")


def test_disable_metadata_and_the_directories_hold_for_all_that_a_server_writes(flagged: Flagged) -> None:
    scene = Scene()
    secret_film(scene, job_name="hidden", codec="png")
    flagged.server.run(scene.prompt, timeout=300)
    written = [path for path in flagged.output.rglob("*") if path.is_file()]
    names = {path.name for path in written}
    assert any(name.startswith("hidden-") and name.endswith(".mp4") for name in names)
    assert {"frame_000000.png", "job.json", "copy_00001_.mp4", "plan.txt"} <= names
    for path in written:
        content = path.read_bytes()
        assert SECRET.encode() not in content and b"SkyReelsV2LongVideo" not in content, path
    assert [path for path in (flagged.server.base / "output").rglob("*") if path.is_file()] == []
    assert [path for path in flagged.temp.rglob("*") if path.is_file()] == [], "we keep nothing in the temp folder"


def test_without_a_cache_of_nodes_a_finished_video_is_found_again_in_its_folder(flagged: Flagged) -> None:
    said = []
    for _ in range(2):
        scene = Scene()
        secret_film(scene, job_name="again")
        assert not flagged.server.run(scene.prompt, timeout=300).cached
        said.append((flagged.output / "plan.txt").read_text("utf-8"))
    assert "All segments were finished by an earlier run" in said[1] and "earlier run" not in said[0]
    assert len(list(flagged.output.glob("skyreels_v2_jobs/again-*"))) == 1


def test_latents_and_pictures_are_handed_on_in_half_precision_where_the_flag_says_so(flagged: Flagged) -> None:
    scene = Scene()
    made = scene.sample()
    scene.dump("latent", made)
    scene.dump("pictures", scene.add("SkyReelsV2VAEDecode", samples=made, vae=scene.vae, tiling="never"))
    flagged.server.run(scene.prompt, timeout=300)
    for name in ("latent", "pictures"):
        (tensor,) = load_file(flagged.output / f"{name}.safetensors").values()
        assert tensor.dtype == torch.float16 and tensor.isfinite().all()


def test_the_live_plan_answers_any_user_of_a_server_for_several(flagged: Flagged) -> None:
    answer = flagged.server.post("/skyreels_v2/plan", {"total_frames": 737, "fps": 24, "job_name": "mine"})
    assert answer["ok"] and "9 segments" in answer["text"]


def test_an_error_is_logged_as_one_sentence_with_the_name_of_the_pack_and_no_path(flagged: Flagged) -> None:
    scene = Scene()
    video = long_video(scene, job_name="a/b")
    scene.add("SaveVideo", video=video, filename_prefix="never", format="auto", codec="auto")
    before = flagged.server.log_size
    failure = refusal(flagged.server, scene, "SkyReelsV2LongVideo")
    assert failure.exception_type == "skyreels_v2.InputError"
    lines = flagged.server.log_from(before).splitlines()
    said = [line for line in lines if failure.message in line]
    assert said and all(re.fullmatch(r"(.*!!! )?(skyreels_v2\.InputError: )?" + re.escape(failure.message), line)
                        for line in said), said  # fmt: skip


def videos(host: Host) -> dict[str, torch.Tensor]:
    """Sample with a LoRA, a batch of two, in step and out of step."""
    scene = Scene(batch_size=2)
    scene.model = scene.add("SkyReelsV2LoraLoader", model=scene.model, lora_name="tiny_lora.safetensors", strength=0.5)
    scene.dump("sync", scene.sample(steps=2))
    scene.dump("async", scene.sample(steps=2, ar_step=1, causal_block_size=2, causal_attention=True))
    return tensors(host, scene)


@pytest.mark.newest_host
def test_force_fp16_computes_in_half_precision_and_makes_nearly_the_same_video(
    host: Host, install: HostInstall
) -> None:
    expected = videos(host)
    with Host(install, ("--force-fp16",)) as server:
        for source in host.models.rglob("*.safetensors"):
            (server.models / source.relative_to(host.models)).write_bytes(source.read_bytes())
        got = videos(server)
        log = server.log
    assert "torch.float16" in log and "torch.float16" not in host.log
    for name, tensor in got.items():
        error = float((tensor - expected[name]).norm() / expected[name].norm())
        assert tensor.shape == (2, 16, 3, 8, 8)
        assert 1e-6 < error < 0.05, (name, error)
