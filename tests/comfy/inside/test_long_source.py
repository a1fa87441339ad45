"""Videos that are extended, in the host's process: their frames, their sound, and those that cannot be."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import av
import numpy as np
import pytest
import torch
from long_scene import frames_of, inputs, make, settings

pytestmark = pytest.mark.usefixtures("output_folder")


def source_with_sound(path: Path, frames: int = 50) -> None:
    """Write a video of a tone, 20 frames per second."""
    with av.open(str(path), "w") as container:
        picture, sound = container.add_stream("libx264", rate=20), container.add_stream("aac", rate=48000)
        picture.width, picture.height, picture.pix_fmt, sound.layout = 32, 32, "yuv420p", "mono"
        for number in range(frames):
            pixels = np.full((32, 32, 3), 5 * number, np.uint8)
            container.mux(picture.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(picture.encode(None))
        wave = np.sin(np.arange(48000 * frames // 20) / 20)[None].astype(np.float32)
        tone = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
        tone.sample_rate, tone.pts = 48000, 0
        container.mux(sound.encode(tone))
        container.mux(sound.encode(None))


@pytest.mark.parametrize("trimmed", [False, True])
def test_an_extended_video_keeps_its_sound_and_is_silent_behind_it(
    bridge: ModuleType, given: ModuleType, model: Any, vae: Any, tmp_path: Path, trimmed: bool
) -> None:
    source_video = importlib.import_module("skyreels_v2.wan_core.comfy.source_video")
    video = importlib.import_module("comfy_api.latest").InputImpl.VideoFromFile(str(tmp_path / "given.mp4"))
    source_with_sound(tmp_path / "given.mp4")
    if trimmed and not hasattr(video, "as_trimmed"):
        pytest.skip("this host cannot trim a video")
    source = source_video.read_source(video.as_trimmed(0, 1.5) if trimmed else video, 7)
    chosen, images = settings(bridge, total_frames=5 + 22), given.GivenImages(source.tail)
    made = make(bridge, inputs(bridge, model, vae, images=images, source=source), chosen)
    assert len(frames_of(made.path)) == source.count + 22
    with av.open(str(made.path)) as container:
        samples = np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], axis=1)
    seconds = source.count / 20
    assert samples.shape[1] / 48000 == pytest.approx(seconds, abs=0.05) and seconds < (source.count + 22) / 20
    assert np.abs(samples).max() > 0.9


def test_a_video_smaller_than_the_model_can_make_is_refused_at_its_own_size(bridge: ModuleType, tmp_path: Path) -> None:
    source_video = importlib.import_module("skyreels_v2.wan_core.comfy.source_video")
    video_input = importlib.import_module("comfy_api.latest").InputImpl.VideoFromFile
    write_video = importlib.import_module("skyreels_v2.wan_core.video").write_video
    write_video(tmp_path / "tiny.mkv", torch.rand(9, 12, 40, 3), 24, codec="ffv1")
    source = source_video.read_source(video_input(str(tmp_path / "tiny.mkv")), 5)
    with pytest.raises(
        ValueError, match="The video is 40x12 pixels, but can be extended at its own size from 16x16 on"
    ):
        _ = source.size
    assert next(source.scaled(64, 32)).shape == (32, 64, 3)


def test_a_video_without_frames_is_refused(bridge: ModuleType, tmp_path: Path) -> None:
    source_video = importlib.import_module("skyreels_v2.wan_core.comfy.source_video")
    video_input = importlib.import_module("comfy_api.latest").InputImpl.VideoFromFile
    with av.open(str(tmp_path / "empty.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=24)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "bgr0"
        container.start_encoding()
    with pytest.raises(ValueError, match=r"The video empty\.mkv (has no frames|cannot be read as a video)"):
        source_video.read_source(video_input(str(tmp_path / "empty.mkv")), 5)


def test_a_video_goes_on_from_its_last_frames(
    bridge: ModuleType, given: ModuleType, model: Any, vae: Any, tmp_path: Path
) -> None:
    source_video = importlib.import_module("skyreels_v2.wan_core.comfy.source_video")
    video_input = importlib.import_module("comfy_api.latest").InputImpl.VideoFromFile
    write_video = importlib.import_module("skyreels_v2.wan_core.video").write_video
    frames = torch.rand(50, 36, 52, 3, generator=torch.Generator().manual_seed(3))
    write_video(tmp_path / "given.mkv", frames, 20, codec="ffv1")
    source = source_video.read_source(video_input(str(tmp_path / "given.mkv")), 7)
    assert (source.count, source.size, source.model_fps, len(source.tail)) == (50, (48, 32), 24, 5)
    assert (source.tail - frames[-5:]).abs().max() <= 1 / 255
    chosen = settings(bridge, total_frames=5 + 22, width=48, codec="ffv1")
    images = given.GivenImages(source.tail)
    made = make(bridge, inputs(bridge, model, vae, images=images, source=source), chosen)
    with av.open(str(made.path)) as container:
        assert float(container.streams.video[0].average_rate) == 20
    whole = frames_of(made.path)
    assert whole.shape == (50 + 22, 32, 48, 3)
    expected = np.stack([frame.numpy() for frame in source.scaled(48, 32)])
    assert (whole[:50] == expected).all()
    again = make(bridge, inputs(bridge, model, vae, images=images, source=source), chosen)
    assert "finished by an earlier run" in again.text


def test_a_trimmed_video_is_what_its_host_says(bridge: ModuleType, tmp_path: Path) -> None:
    source_video = importlib.import_module("skyreels_v2.wan_core.comfy.source_video")
    video_input = importlib.import_module("comfy_api.latest").InputImpl.VideoFromFile
    write_video = importlib.import_module("skyreels_v2.wan_core.video").write_video
    write_video(tmp_path / "given.mp4", torch.rand(48, 32, 32, 3), 24)
    whole = video_input(str(tmp_path / "given.mp4"))
    assert source_video.read_source(whole, 17).count == 48
    if hasattr(whole, "as_trimmed"):
        source = source_video.read_source(whole.as_trimmed(start_time=0.5, duration=1.0), 17)
        assert source.count == pytest.approx(24, abs=1) and len(source.tail) == 17
