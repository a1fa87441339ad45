"""Sound taken along into a joined video: what is decoded from it must be what the source held, and end with it."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from wan_core.video.join import join_videos
from wan_core.video.reader import read_frames
from wan_core.video.sound import sound_of_file, sound_of_wave
from wan_core.video.writer import write_video

RATE, FPS, TONE = 48_000, 24, 440.0  # samples and frames per second; Hz


def tone(seconds: float, channels: int = 1, rate: int = RATE) -> np.ndarray:
    """A tone that grows louder, so that a shift in time shows as well as a wrong pitch."""
    time = np.arange(round(seconds * rate)) / rate
    wave = np.sin(2 * np.pi * TONE * time) * (0.2 + 0.6 * time / seconds)
    return np.tile(wave.astype(np.float32), (channels, 1))


def write_source(path: Path, wave: np.ndarray, codec: str, frames: int = 36, rate: int = RATE, late: int = 0) -> None:
    """Write a video with sound; `late`: samples after which the sound begins."""
    kind = {".mp4": "mp4", ".mkv": "matroska"}[path.suffix]
    with av.open(str(path), "w", format=kind) as container:
        picture = container.add_stream("libx264", rate=FPS)
        picture.width = picture.height = 32
        picture.pix_fmt = "yuv420p"
        sound = container.add_stream(codec, rate=rate)
        sound.layout = "mono" if len(wave) == 1 else "stereo"
        for number in range(frames):
            pixels = np.full((32, 32, 3), 6 * number, np.uint8)
            container.mux(picture.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(picture.encode(None))
        frame = av.AudioFrame.from_ndarray(wave, format="fltp", layout=sound.layout.name)
        frame.sample_rate, frame.pts, frame.time_base = rate, late, Fraction(1, rate)
        container.mux(sound.encode(frame))
        container.mux(sound.encode(None))


def heard(path: Path) -> tuple[np.ndarray, float]:
    """The samples of a file's sound [channels, n], and when they begin."""
    with av.open(str(path)) as container:
        frames = list(container.decode(audio=0))
        resampler = av.AudioResampler("fltp")
        pieces = [out.to_ndarray() for frame in frames for out in resampler.resample(frame)]
        return np.concatenate(pieces, axis=1), float(frames[0].pts * frames[0].time_base)


def packets(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(audio=0) if packet.size]


def joined(folder: Path, source: Path, suffix: str, seconds: Fraction) -> Path:
    """The source's pictures and 12 frames more, with its sound."""
    codec = {".mp4": "h264", ".mkv": "ffv1", ".mov": "prores"}[suffix]
    parts = [folder / f"part{number}{suffix}" for number in range(2)]
    write_video(parts[0], [torch.from_numpy(frame) for frame in read_frames(source)], FPS, codec=codec)
    write_video(parts[1], torch.rand(12, 32, 32, 3), FPS, codec=codec)
    sound = sound_of_file(source, seconds)
    target = folder / f"whole{suffix}"
    assert join_videos(target, parts, {"prompt": "{}"}, sound) == 36 + 12
    return target


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_sound_is_copied_bit_for_bit_and_the_pictures_stay(tmp_path: Path, suffix: str) -> None:
    write_source(tmp_path / "given.mp4", tone(1.5, channels=2), "aac")
    whole = joined(tmp_path, tmp_path / "given.mp4", suffix, Fraction(3, 2))
    before, after = packets(tmp_path / "given.mp4"), packets(whole)
    first = 1 if suffix == ".mkv" else 0  # which cannot hold the packet that only sets the decoder going
    assert len(after) > 60 and after == before[first : first + len(after)]
    assert len(before) - len(after) <= 2  # what would be heard behind the last picture
    assert heard(whole)[1] == pytest.approx(0, abs=1e-3)
    with av.open(str(whole)) as container:
        assert container.streams.audio[0].codec_context.name == "aac"
        times = [frame.time for frame in container.decode(video=0)]
    assert times == pytest.approx([number / FPS for number in range(48)], abs=2e-3)


@pytest.mark.parametrize(("rate", "channels"), [(RATE, 1), (44_100, 2), (11_025, 2)])
def test_sound_that_the_container_cannot_hold_is_encoded_once_more(tmp_path: Path, rate: int, channels: int) -> None:
    wave = tone(1.5, channels, rate)
    write_source(tmp_path / "given.mkv", wave, "flac", rate=rate)
    whole = joined(tmp_path, tmp_path / "given.mkv", ".mp4", Fraction(3, 2))
    samples, begins = heard(whole)
    with av.open(str(whole)) as container:
        stream = container.streams.audio[0]
        assert stream.codec_context.name == "aac" and abs(begins) < 0.05
        made = stream.codec_context.sample_rate
    expected = tone(1.5, channels, made)
    assert samples.shape[0] == channels and samples.shape[1] == pytest.approx(1.5 * made, abs=3 * 1024)
    lag = round(-begins * made)
    inside = slice(made // 4, made)
    assert np.abs(samples[:, lag:][:, inside] - expected[:, inside]).mean() < 0.02


def test_sound_ends_with_the_pictures_of_its_source(tmp_path: Path) -> None:
    write_source(tmp_path / "given.mp4", tone(4.0), "aac")
    samples, _ = heard(joined(tmp_path, tmp_path / "given.mp4", ".mp4", Fraction(3, 2)))
    assert samples.shape[1] == pytest.approx(1.5 * RATE, abs=2 * 1024)


def test_sound_that_begins_late_begins_late_again(tmp_path: Path) -> None:
    write_source(tmp_path / "given.mkv", tone(1.0), "flac", late=RATE // 2)
    assert heard(tmp_path / "given.mkv")[1] == pytest.approx(0.5, abs=0.01)
    assert heard(joined(tmp_path, tmp_path / "given.mkv", ".mkv", Fraction(3, 2)))[1] == pytest.approx(0.5, abs=0.01)
    assert heard(joined(tmp_path, tmp_path / "given.mkv", ".mp4", Fraction(3, 2)))[1] == pytest.approx(0.5, abs=0.03)


def test_a_video_in_memory_keeps_its_sound_and_one_without_has_none(tmp_path: Path) -> None:
    write_source(tmp_path / "given.mp4", tone(1.5), "aac")
    assert sound_of_file((tmp_path / "given.mp4").read_bytes(), Fraction(3, 2)) is not None
    write_video(tmp_path / "silent.mp4", torch.rand(5, 32, 32, 3), FPS)
    assert sound_of_file(tmp_path / "silent.mp4", Fraction(3, 2)) is None


def test_samples_become_the_sound_as_far_as_the_pictures_go(tmp_path: Path) -> None:
    write_video(tmp_path / "part.mp4", torch.rand(48, 32, 32, 3), FPS)
    wave = tone(3.0, channels=2)
    join_videos(tmp_path / "whole.mp4", [tmp_path / "part.mp4"], None, sound_of_wave(wave, RATE, Fraction(3, 2)))
    samples, begins = heard(tmp_path / "whole.mp4")
    assert samples.shape[1] == pytest.approx(1.5 * RATE, abs=2 * 1024)
    lag = round(-begins * RATE)
    assert np.abs(samples[:, lag:][:, RATE // 4 : RATE] - wave[:, RATE // 4 : RATE]).mean() < 0.02
