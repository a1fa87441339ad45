"""Videos that are extended, in the host's process: their frames, their sound, and those that cannot be."""

from __future__ import annotations

import importlib
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import av
import numpy as np
import pytest
import torch
from long_scene import conditioning, frames_of, inputs, make, settings

pytestmark = pytest.mark.usefixtures("output_folder")


def source_with_sound(path: Path, frames: int = 50) -> None:
    """Write a video of a tone, 20 frames per second."""
    with av.open(str(path), "w") as container:
        picture, sound = container.add_stream("libx264", rate=20), container.add_stream("aac", rate=48000)
        picture.width, picture.height, picture.pix_fmt, sound.layout = 32, 32, "yuv420p", "mono"
        for number in range(frames):
            pixels = np.full((32, 32, 3), 5 * number % 256, np.uint8)
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
    source_video = importlib.import_module("skyreels_v2.wan_core.comfy.long.source_video")
    video = importlib.import_module("comfy_api.latest").InputImpl.VideoFromFile(str(tmp_path / "given.mp4"))
    source_with_sound(tmp_path / "given.mp4")
    source = source_video.read_source(video.as_trimmed(0, 1.5) if trimmed else video, 7)
    chosen, images = settings(bridge, total_frames=5 + 22), given.GivenImages(source.tail)
    made = make(bridge, inputs(bridge, model, vae, source=source), chosen, images=images)
    assert len(frames_of(made.path)) == source.count + 22
    with av.open(str(made.path)) as container:
        samples = np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], axis=1)
    seconds = source.count / 20
    assert samples.shape[1] / 48000 == pytest.approx(seconds, abs=0.05) and seconds < (source.count + 22) / 20
    assert np.abs(samples).max() > 0.9


def test_a_video_smaller_than_the_model_can_make_is_refused_at_its_own_size(bridge: ModuleType, tmp_path: Path) -> None:
    source_video = importlib.import_module("skyreels_v2.wan_core.comfy.long.source_video")
    video_input = importlib.import_module("comfy_api.latest").InputImpl.VideoFromFile
    write_video = importlib.import_module("skyreels_v2.wan_core.video.writer").write_video
    write_video(tmp_path / "tiny.mkv", torch.rand(9, 12, 40, 3), 24, codec="ffv1")
    source = source_video.read_source(video_input(str(tmp_path / "tiny.mkv")), 5)
    with pytest.raises(ValueError, match="The video is 40x12 pixels, but its own size has to be at least 16x16"):
        _ = source.size
    assert next(source.scaled(64, 32)).shape == (32, 64, 3)


def test_a_video_without_frames_is_refused(bridge: ModuleType, tmp_path: Path) -> None:
    source_video = importlib.import_module("skyreels_v2.wan_core.comfy.long.source_video")
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
    source_video = importlib.import_module("skyreels_v2.wan_core.comfy.long.source_video")
    video_input = importlib.import_module("comfy_api.latest").InputImpl.VideoFromFile
    write_video = importlib.import_module("skyreels_v2.wan_core.video.writer").write_video
    frames = torch.rand(50, 36, 52, 3, generator=torch.Generator().manual_seed(3))
    write_video(tmp_path / "given.mkv", frames, 20, codec="ffv1")
    source = source_video.read_source(video_input(str(tmp_path / "given.mkv")), 7)
    assert (source.count, source.size, source.model_fps, len(source.tail)) == (50, (48, 32), 24, 5)
    assert (source.tail - frames[-5:]).abs().max() <= 1 / 255
    chosen = settings(bridge, total_frames=5 + 22, width=48, codec="ffv1")
    images = given.GivenImages(source.tail)
    made = make(bridge, inputs(bridge, model, vae, source=source), chosen, images=images)
    with av.open(str(made.path)) as container:
        assert float(container.streams.video[0].average_rate) == 20
    whole = frames_of(made.path)
    assert whole.shape == (50 + 22, 32, 48, 3)
    expected = np.stack([frame.numpy() for frame in source.scaled(48, 32)])
    assert (whole[:50] == expected).all()
    again = make(bridge, inputs(bridge, model, vae, source=source), chosen, images=images)
    assert "finished by an earlier run" in str(again.text)


def test_a_trimmed_video_is_what_its_host_says(bridge: ModuleType, tmp_path: Path) -> None:
    source_video = importlib.import_module("skyreels_v2.wan_core.comfy.long.source_video")
    video_input = importlib.import_module("comfy_api.latest").InputImpl.VideoFromFile
    write_video = importlib.import_module("skyreels_v2.wan_core.video.writer").write_video
    write_video(tmp_path / "given.mp4", torch.rand(48, 32, 32, 3), 24)
    whole = video_input(str(tmp_path / "given.mp4"))
    assert source_video.read_source(whole, 17).count == 48
    source = source_video.read_source(whole.as_trimmed(start_time=0.5, duration=1.0), 17)
    assert source.count == pytest.approx(24, abs=1) and len(source.tail) == 17


EXTENSION = {
    "size": "as the video", "new_frames": 20, "job_name": "more", "keep_gb": 0.0, "base_num_frames": 21,
    "overlap_history": 5, "seed": 0, "steps": 2, "cfg": 1.0, "shift": 8.0, "solver": "unipc", "ar_step": 0,
    "causal_block_size": 1, "causal_attention": False, "addnoise_condition": 20, "carry_over": "latents",
    "drift_control": 0.0, "codec": "h264", "crf": 18,
}  # fmt: skip


def components(frames: int, rate: int) -> Any:
    latest = importlib.import_module("comfy_api.latest")
    images = torch.rand(frames, 32, 48, 3, generator=torch.Generator().manual_seed(4))
    return latest.InputImpl.VideoFromComponents(latest.Types.VideoComponents(images=images, frame_rate=Fraction(rate)))


def test_a_script_is_read_in_the_time_of_the_video(pack_nodes: dict[str, Any], model: Any, vae: Any) -> None:
    """25 frames from where the model begins to see the video: 0.83 s of it, though a second of the model's 24 fps."""
    node, script = pack_nodes["SkyReelsV2ExtendVideo"], (None, "0s-0.5s: one\n0.5s-1s: another", 0.0)
    with pytest.raises(ValueError, match=r"0\.8"):
        node.execute(
            model=model, vae=vae, video=components(30, 30), negative=conditioning(2), script=script, **EXTENSION
        )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"overlap_history": 21}, "leaves no room for new frames"),
        ({"codec": "cinepak"}, 'codec holds the text "cinepak"'),
        ({"crf": 60}, "crf is 60"),
        ({"job_name": "../elsewhere"}, "plain file name"),
        ({"steps": 0}, "steps holds 0"),
    ],
)
def test_settings_are_refused_before_the_video_is_read(
    pack_nodes: dict[str, Any], model: Any, vae: Any, changes: dict[str, Any], words: str
) -> None:
    class Unread:
        def get_components(self) -> Any:
            raise AssertionError("the video was read")

    with pytest.raises(ValueError, match=words):
        pack_nodes["SkyReelsV2ExtendVideo"].execute(
            model=model, vae=vae, video=Unread(), negative=None, **{**EXTENSION, **changes}
        )


def test_frames_that_a_node_made_are_taken_as_they_are(bridge: ModuleType) -> None:
    source_video = importlib.import_module("skyreels_v2.wan_core.comfy.long.source_video")
    video = components(30, 30)
    first, second = (source_video.read_source(video, 7) for _ in range(2))
    assert first.digest == second.digest and (first.count, first.rate, first.size) == (30, 30, (48, 32))
    assert torch.equal(first.tail, video.get_components().images[-5:])


def test_a_video_that_is_gone_or_fits_no_mp4_is_said_so(
    bridge: ModuleType, model: Any, vae: Any, tmp_path: Path
) -> None:
    made_video = importlib.import_module("skyreels_v2.wan_core.comfy.long.made_video").MadeVideo
    made = make(bridge, inputs(bridge, model, vae), settings(bridge))
    video = made_video(made.path, made.noted)
    assert video.get_dimensions() == (32, 32)
    video.save_to(str(tmp_path / "copy.mp4"))
    assert (frames_of(tmp_path / "copy.mp4") == frames_of(made.path)).all()
    in_prores = make(bridge, inputs(bridge, model, vae), settings(bridge, codec="prores"))
    prores = made_video(in_prores.path, in_prores.noted)
    with pytest.raises(ValueError, match=r"cannot hold this codec; the finished video is .*\.mov"):
        prores.save_to(str(tmp_path / "copy2.mp4"))
    assert not (tmp_path / "copy2.mp4").exists()
    made.path.unlink()
    for ask in (video.get_dimensions, video.get_components, video.get_stream_source):
        with pytest.raises(ValueError, match="was removed since it was made"):
            ask()


def test_a_torn_video_is_made_again(bridge: ModuleType, model: Any, vae: Any) -> None:
    made = make(bridge, inputs(bridge, model, vae), settings(bridge))
    whole = made.path.read_bytes()
    made.path.write_bytes(whole[: len(whole) // 2])
    assert make(bridge, inputs(bridge, model, vae), settings(bridge)).path.read_bytes() == whole


def test_a_video_is_decoded_once_however_often_its_frames_are_written(
    bridge: ModuleType, given: ModuleType, model: Any, vae: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last frames twice: the model has to see them before anything is made. A resumed run reads only these."""
    source_video = importlib.import_module("skyreels_v2.wan_core.comfy.long.source_video")
    reader = importlib.import_module("skyreels_v2.wan_core.video.reader")
    video = importlib.import_module("comfy_api.latest").InputImpl.VideoFromFile(str(tmp_path / "given.mp4"))
    source_with_sound(tmp_path / "given.mp4", 60)
    decoded, shown = [], reader.shown
    monkeypatch.setattr(reader, "shown", lambda frame, stream: (decoded.append(frame.pts), shown(frame, stream))[1])
    for expected in (60 + 7 + reader.LEAD, 7 + reader.LEAD):
        decoded.clear()
        source = source_video.read_source(video, 7)
        images, chosen = given.GivenImages(source.tail), settings(bridge, total_frames=5 + 22, codec="png")
        made = make(bridge, inputs(bridge, model, vae, source=source), chosen, images=images)
        assert len(decoded) == expected
    assert len(frames_of(made.path)) == len(list((made.path.parent / "frames").iterdir())) == 60 + 22


@pytest.mark.parametrize("start", [1.0, -1.0])
def test_a_trimmed_part_of_a_turned_video_is_read_as_the_whole_is(
    bridge: ModuleType, tmp_path: Path, start: float
) -> None:
    source_video = importlib.import_module("skyreels_v2.wan_core.comfy.long.source_video")
    video = importlib.import_module("comfy_api.latest").InputImpl.VideoFromFile
    source_with_sound(tmp_path / "given.mp4", 60)
    data = bytearray((tmp_path / "given.mp4").read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    for place, value in zip((0, 4, 12, 16), (0, 1, -1, 0), strict=True):
        data[at + place : at + place + 4] = (value * 65536).to_bytes(4, "big", signed=True)
    (tmp_path / "given.mp4").write_bytes(data)
    whole = list(source_video.read_source(video(str(tmp_path / "given.mp4")), 7).frames())
    part = source_video.read_source(video(str(tmp_path / "given.mp4"), start_time=start, duration=0.5), 7)
    begin = 20 if start > 0 else 40
    frames = list(part.frames())
    assert len(frames) == part.count == pytest.approx(10, abs=1) and part.sound is not None and part.rate == 20
    assert any((frames[0] == whole[near]).all() for near in (begin - 1, begin, begin + 1))
