"""What a long video and its neighbours do to the machine, as Python's own audit events tell: no program, no connection,
and nothing written, moved or removed outside of the output folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from long_scene import inputs, make, settings

NEVER = (
    "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "socket.connect", "socket.bind",
    "ctypes.dlopen",
)  # fmt: skip
PATHS = {
    "os.remove": 1, "os.rename": 2, "os.mkdir": 1, "os.rmdir": 1, "os.link": 2, "os.symlink": 2, "os.truncate": 1,
    "os.chmod": 1, "os.utime": 1, "shutil.rmtree": 1, "shutil.move": 2, "shutil.copyfile": 2, "tempfile.mkstemp": 1,
}  # fmt: skip
WRITE_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

seen: list[tuple[str, tuple[Any, ...]]] | None = None  # while a test watches; an audit hook cannot be taken away


def note(event: str, args: tuple[Any, ...]) -> None:
    if seen is not None and (event in PATHS or event.startswith(NEVER) or event == "open"):
        seen.append((event, args))


sys.addaudithook(note)


@pytest.fixture
def watched(output_folder: Path) -> Iterator[list[tuple[str, tuple[Any, ...]]]]:
    global seen
    seen = []
    yield seen
    seen = None


def written(events: list[tuple[str, tuple[Any, ...]]]) -> Iterator[tuple[str, Path]]:
    """Every path that is made, changed or removed."""
    for event, args in events:
        paths = args[: PATHS.get(event, 0)]
        if event == "open":
            path, mode, flags = args
            if (mode and set(mode) & set("wax+")) or (flags or 0) & WRITE_FLAGS:
                paths = (path,)
        elif event in ("os.remove", "os.rmdir") and args[-1] not in (-1, None):
            continue  # within a folder that shutil.rmtree removes, whose own event names it
        yield from ((event, Path(os.fsdecode(each))) for each in paths if isinstance(each, str | bytes | os.PathLike))


def foreign(events: list[tuple[str, tuple[Any, ...]]], output: Path) -> list[str]:
    """What the pack must not do."""
    begun = [f"{event}{args}" for event, args in events if event.startswith(NEVER)]
    places = [output.resolve(), Path(os.devnull)]
    outside = [
        f"{event}: {path}"
        for event, path in written(events)
        if not any(place == path or place in path.resolve().parents for place in places)
        and "__pycache__" not in path.parts
    ]
    return begun + outside


def test_a_long_video_writes_into_the_output_folder_alone(
    bridge: ModuleType, pack_nodes: dict[str, Any], model: Any, vae: Any, watched: Any, output_folder: Path
) -> None:
    make(bridge, inputs(bridge, model, vae), settings(bridge, codec="png"))
    (output_folder / bridge.JOBS_FOLDER / "keep_gb.txt").write_text("10")
    name = make(bridge, inputs(bridge, model, vae), settings(bridge, total_frames=21), "second").path.parent.name
    bridge.make_room(bridge.jobs_root(), 1e-9, 0.0)
    jobs = sys.modules["skyreels_v2.wan_core.long.jobs"].show_jobs(bridge.jobs_root(), name)
    assert f"{name} was removed." in str(jobs)
    assert len(list(written(watched))) > 50, "the watch has to see what is written"
    assert foreign(watched, output_folder) == []


def test_nodes_without_files_write_nothing(
    pack_nodes: dict[str, Any], model: Any, vae: Any, models: Path, watched: Any, output_folder: Path
) -> None:
    latent = {"samples": torch.zeros(1, 16, 3, 4, 4)}
    with torch.inference_mode():
        pack_nodes["SkyReelsV2KeyFrames"].execute(vae, latent, torch.rand(1, 32, 32, 3))
        pack_nodes["SkyReelsV2VAEDecode"].execute(latent, vae, "never")
    sys.modules["skyreels_v2.wan_core.comfy.loading.lora"].apply_lora(
        model, models / "loras" / "tiny_lora.safetensors", 1.0
    )
    assert list(written(watched)) == [] and foreign(watched, output_folder) == []


@pytest.mark.parametrize("typed", [True, False])
def test_a_job_is_removed_by_a_name_that_was_typed_alone(
    bridge: ModuleType, pack_nodes: dict[str, Any], model: Any, vae: Any, output_folder: Path, typed: bool
) -> None:
    """A workflow could list the jobs, cut a name out of the list and hand it on."""
    folder = make(bridge, inputs(bridge, model, vae), settings(bridge, total_frames=21)).path.parent
    prompt = {"7": {"class_type": "SkyReelsV2Jobs", "inputs": {"remove": folder.name if typed else ["3", 0]}}}

    class Queued(pack_nodes["SkyReelsV2Jobs"]):  # type: ignore[misc]
        hidden = SimpleNamespace(prompt=prompt, unique_id="7")

    said = Queued.execute(folder.name).args[0]
    assert folder.exists() != typed
    assert said.startswith(f"{folder.name} was removed." if typed else "Nothing was removed: type the name on the node")


def test_the_watch_sees_what_is_forbidden(
    watched: Any, output_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    import subprocess

    other = tmp_path_factory.mktemp("other")
    (other / "x").write_text("x")
    (other / "x").unlink()
    subprocess.run([sys.executable, "-c", ""], check=True)
    found = foreign(watched, output_folder)
    assert any(each.startswith("subprocess.Popen") for each in found) and sum(str(other) in each for each in found) >= 2
