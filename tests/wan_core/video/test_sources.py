"""Twelve kinds of video as people have them, each built with PyAV: what is read of it has to be what a player shows.

docs/files.md has the table of them.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from av.video.reformatter import ColorRange, Colorspace

from wan_core.video.join import join_videos
from wan_core.video.reader import Cut, describe_video, read_frames, read_tail, timing
from wan_core.video.sound import sound_of_file
from wan_core.video.tone import HLG, PQ, to_sdr
from wan_core.video.writer import write_video

RED, GREEN, BLUE, WHITE = (200, 30, 30), (20, 170, 40), (40, 60, 210), (235, 235, 235)
SIZE = (48, 64)  # rows and columns


def corners(height: int = SIZE[0], width: int = SIZE[1]) -> np.ndarray:
    """A picture that says how it lies: red and green above, blue and white below."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[: height // 2, : width // 2], picture[: height // 2, width // 2 :] = RED, GREEN
    picture[height // 2 :, : width // 2], picture[height // 2 :, width // 2 :] = BLUE, WHITE
    return picture


def pictures(count: int, height: int = SIZE[0], width: int = SIZE[1]) -> list[np.ndarray]:
    """Corners that grow darker, so that a frame says which it is."""
    return [(corners(height, width) * (1 - 0.02 * number)).astype(np.uint8) for number in range(count)]


def write(
    path: Path,
    frames: list[np.ndarray],
    codec: str = "libx264",
    pixels: str = "yuv444p",
    rate: Fraction | int = 24,
    times: list[Fraction] | None = None,
    options: dict[str, str] | None = None,
    before: Callable[[Any, Any], None] = lambda container, stream: None,
    space: int = Colorspace.ITU709,
    layout: str = "rgb24",
    interlaced: bool = False,
) -> Path:
    """Write frames as a file of others has them; `before` changes the stream before the first frame."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pixels
        stream.options = options or ({"crf": "1"} if codec == "libx264" else {})
        clock = Fraction(1, 90_000)
        if times is not None:
            stream.codec_context.time_base = clock
        if not pixels.startswith(("rgb", "bgr", "gbr", "argb")):
            stream.codec_context.colorspace, stream.codec_context.color_range = space, ColorRange.MPEG
        before(container, stream)
        for number, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(picture, format=layout)
            if layout != pixels:
                frame = frame.reformat(
                    format=pixels, dst_colorspace=space, src_color_range=ColorRange.JPEG,
                    dst_color_range=ColorRange.MPEG,
                )  # fmt: skip
            frame.pts, frame.time_base = number, 1 / Fraction(rate)
            if times is not None:
                frame.pts, frame.time_base = round(times[number] / clock), clock
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def read(path: Path) -> list[np.ndarray]:
    """All frames, which the tail, read by seeking, has to be the end of."""
    frames, times = list(read_frames(path, whole := [])), read_tail(path, 5)
    assert times[1] == whole and len(frames) == len(whole)
    assert (times[0].numpy() * 255 == np.stack(frames[-5:])).all()
    return frames


def near(found: np.ndarray, wanted: np.ndarray, most: int = 4) -> bool:
    """Whether pictures are equal but at the edges of their fields, where scaling and coding blur."""
    height, width = wanted.shape[:2]
    places = [(row, column) for row in (height // 4, 3 * height // 4) for column in (width // 4, 3 * width // 4)]
    return found.shape == wanted.shape and all(
        np.abs(found[place].astype(int) - wanted[place]).max() <= most for place in places
    )


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_1_a_turned_video_is_upright(tmp_path: Path, degrees: int) -> None:
    source = write(tmp_path / "v.mp4", pictures(12))
    data = bytearray(source.read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # ISO 14496-12: the matrix of the track
    turn = {90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}[degrees]
    for place, value in zip((0, 4, 12, 16), turn, strict=True):
        data[at + place : at + place + 4] = (value * 65536).to_bytes(4, "big", signed=True)
    source.write_bytes(data)
    for number, frame in enumerate(read(source)):
        assert near(frame, np.rot90(pictures(12)[number], -degrees // 90)), "turned clockwise, as players do"


@pytest.mark.parametrize(("shape", "size"), [(Fraction(4, 3), (48, 85)), (Fraction(8, 9), (54, 64))])
def test_2_pixels_become_square(tmp_path: Path, shape: Fraction, size: tuple[int, int]) -> None:
    def narrow(_container: Any, stream: Any) -> None:
        stream.codec_context.sample_aspect_ratio = shape

    frames = read(write(tmp_path / "v.mp4", pictures(8), before=narrow))
    assert near(frames[0], corners(*size)) and describe_video(tmp_path / "v.mp4").height == size[0]


def sound(container: Any, stream: Any) -> None:
    """A second of a tone."""
    tone = container.add_stream("aac", rate=44_100)
    tone.layout = "mono"
    wave = np.sin(np.arange(44_100) / 20)[None].astype(np.float32)
    heard = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
    heard.sample_rate, heard.pts = 44_100, 0
    stream.width, stream.height  # noqa: B018 - set before
    container.mux(tone.encode(heard))
    container.mux(tone.encode(None))


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_3_a_varying_rate_keeps_its_times(tmp_path: Path, suffix: str) -> None:
    steps = [Fraction(1, 10)] * 8 + [Fraction(1, 60)] * 20 + [Fraction(1, 25)] * 10
    at = [sum(steps[:number], Fraction(0)) for number in range(len(steps))]
    source = write(tmp_path / f"v.{suffix}", pictures(len(at)), times=at, before=sound)
    read(source)
    found = timing(read_tail(source, 9)[1], describe_video(source).rate, 9)
    assert all(abs(seen - wanted) <= Fraction(1, 900) for seen, wanted in zip(found.times, at, strict=True))
    assert float(found.rate) == pytest.approx(25, rel=0.02) and float(found.seconds) == pytest.approx(
        float(at[-1]) + 1 / 25, abs=2e-3
    )


def test_3_a_rate_that_varies_a_little_is_half_a_frame_off_at_most(tmp_path: Path) -> None:
    """A recorder whose clock is 1 % slow in the middle: the average rate alone would be a frame off."""
    steps = [Fraction(1, 30)] * 60 + [Fraction(1, 29)] * 60 + [Fraction(1, 30)] * 60
    at = [sum(steps[:number], Fraction(0)) for number in range(len(steps))]
    found = timing(at, Fraction(180) / (at[-1] + steps[-1]), 9)
    when = found.times or [number / found.rate for number in range(180)]
    assert max(abs(a - b) for a, b in zip(when, at, strict=True)) <= Fraction(1, 60)


# 58 % of PQ and 75 % of HLG are diffuse white (BT.2408), so both have to come out alike, and black and peak as these
HDR = [(PQ, 0.5807, 226), (HLG, 0.75, 226), (PQ, 0.0, 0), (HLG, 0.0, 0), (PQ, 0.7518, 255), (HLG, 1.0, 255)]


@pytest.mark.parametrize(("transfer", "code", "level"), HDR)
def test_4_and_5_hdr_is_tone_mapped(tmp_path: Path, transfer: int, code: float, level: int) -> None:
    def tagged(_container: Any, stream: Any) -> None:
        context = stream.codec_context
        context.color_trc, context.color_primaries = transfer, 9

    grey = np.full((*SIZE, 3), round(code * 65280), np.uint16)
    source = write(
        tmp_path / "v.mp4", [grey] * 6, "libx265", "yuv420p10le", before=tagged, space=9, layout="rgb48le",
        options={"x265-params": "log-level=error:crf=1"},
    )  # fmt: skip
    assert all(np.abs(frame.astype(int) - level).max() <= 2 for frame in read(source))


def test_4_and_5_colours_of_hdr_are_those_of_bt709() -> None:
    """A red of BT.709 at half of diffuse white, written in BT.2020 and PQ: below the knee nothing is bent."""
    to_bt2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])  # BT.2087
    light = to_bt2020 @ np.array([0.4, 0.1, 0.05])
    nits = (203 * light / 10_000) ** (1305 / 8192)
    code = ((3424 / 4096 + 2413 / 128 * nits) / (1 + 2392 / 128 * nits)) ** (2523 / 32)
    found = to_sdr(np.tile(code, (2, 2, 1)).astype(np.float32), PQ)[0, 0]
    assert np.abs(found - 255 * np.array([0.4, 0.1, 0.05]) ** (1 / 2.4)).max() <= 2
    steps = to_sdr(np.repeat(np.linspace(0, 1, 200, dtype=np.float32)[None, :, None], 3, 2), PQ)[0, :, 0].astype(int)
    assert (np.diff(steps) >= 0).all() and steps[-1] == 255


@pytest.mark.parametrize(("number", "rate"), [(6, Fraction(24_000, 1001)), (7, Fraction(60_000, 1001))])
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov", "avi"])
def test_6_and_7_rates_of_television_stay(tmp_path: Path, number: int, rate: Fraction, suffix: str) -> None:
    source = write(tmp_path / f"v.{suffix}", pictures(30), rate=rate)
    frames, found = read(source), timing(read_tail(source, 5)[1], describe_video(source).rate, 5)
    assert (found.rate, found.times, len(frames)) == (rate, (), 30)
    assert found.seconds == 30 / rate


@pytest.mark.parametrize(("codec", "suffix"), [("libx264", "mp4"), ("mpeg2video", "mkv")])
def test_8_interlaced_pictures_become_whole(tmp_path: Path, codec: str, suffix: str) -> None:
    """A bar that moves on between the two fields of a frame: its combs have to go, and frames stay as many."""

    def bar(at: int) -> np.ndarray:
        picture = np.full((*SIZE, 3), 40, np.uint8)
        picture[:, at : at + 16] = 200
        return picture

    frames = []
    for number in range(12):
        frames.append(bar(4 * number % 40))
        frames[-1][1::2] = bar(4 * number % 40 + 6)[1::2]

    def fields(_container: Any, stream: Any) -> None:
        stream.codec_context.flags |= 1 << 18 | 1 << 29  # AV_CODEC_FLAG_INTERLACED_DCT and _ME

    options = {"x264-params": "tff=1:crf=1"} if codec == "libx264" else {"qmin": "1", "qmax": "2"}
    source = write(tmp_path / f"v.{suffix}", frames, codec, "yuv420p", 25, options=options, before=fields)
    with av.open(str(source)) as container:
        assert next(container.decode(video=0)).interlaced_frame, "the file is what it is meant to be"
    found = read(source)
    assert len(found) == 12

    def comb(picture: np.ndarray) -> float:
        rows = picture[..., 1].astype(int)
        return float(np.abs(2 * rows[1:-1] - rows[:-2] - rows[2:]).mean())

    assert max(comb(picture) for picture in found) < 0.4 * min(comb(picture) for picture in frames)
    assert abs(int(found[3][4, 60, 0]) - 40) <= 4 and abs(int(found[0][20, 8, 0]) - 200) <= 8, "colours as before"


def test_9_an_odd_size_is_read_whole(tmp_path: Path) -> None:
    frames = read(write(tmp_path / "v.mkv", pictures(8, 47, 63), "ffv1", "bgr0"))
    assert frames[0].shape == (47, 63, 3) and (frames[3] == pictures(8, 47, 63)[3]).all()


def test_10_without_sound_there_is_none(tmp_path: Path) -> None:
    assert sound_of_file(write(tmp_path / "v.mp4", pictures(8)), Fraction(1, 3)) is None
    assert sound_of_file(write(tmp_path / "w.mp4", pictures(8), before=sound), Fraction(1, 3)) is not None


def test_11_of_two_tracks_of_sound_the_one_that_players_play_is_kept(tmp_path: Path) -> None:
    """The second is the default one, as of a film whose first track is another language's."""

    def tracks(container: Any, _stream: Any) -> None:
        both = [(container.add_stream("flac", rate=44_100), level) for level in (0.1, 0.8)]
        for track, level in both:
            track.layout = "mono"
            track.disposition = 1 if level == 0.8 else 0
        for track, level in both:
            heard = av.AudioFrame.from_ndarray(np.full((1, 44_100), level, np.float32), format="fltp", layout="mono")
            heard.sample_rate, heard.pts = 44_100, 0
            container.mux(track.encode(heard))
            container.mux(track.encode(None))

    source = write(tmp_path / "v.mkv", pictures(12), before=tracks)
    write_video(tmp_path / "part.mkv", torch.rand(12, 32, 32, 3), 24)
    join_videos(tmp_path / "whole.mkv", [tmp_path / "part.mkv"], sound=sound_of_file(source, Fraction(1, 2)))
    with av.open(str(tmp_path / "whole.mkv")) as container:
        level = np.abs(next(container.decode(audio=0)).to_ndarray().astype(np.float64)).max()
        assert len(container.streams.audio) == 1
    assert level > 0.5 * (1 if level <= 1 else 32_768 if level <= 32_768 else 2**31)


def test_11_of_two_streams_the_one_that_players_show_is_read(tmp_path: Path) -> None:
    def cover(container: Any, _stream: Any) -> None:
        first = container.add_stream("libx264", rate=24)
        first.width, first.height, first.pix_fmt = 16, 16, "yuv420p"
        small = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")
        container.mux(first.encode(small))
        container.mux(first.encode(None))

    frames = read(write(tmp_path / "v.mkv", pictures(8), before=cover))
    assert len(frames) == 8 and near(frames[0], corners())


@pytest.mark.parametrize(("codec", "pixels", "suffix"), [("qtrle", "argb", "mov"), ("ffv1", "yuva444p", "mkv")])
def test_12_what_is_transparent_is_black(tmp_path: Path, codec: str, pixels: str, suffix: str) -> None:
    layers = np.dstack([corners(), np.full(SIZE, 255, np.uint8)])
    layers[:, : SIZE[1] // 2, 3] = 0
    layers[: SIZE[0] // 2, SIZE[1] // 2 :, 3] = 128
    frames = read(write(tmp_path / f"v.{suffix}", [layers] * 6, codec, pixels, layout="rgba"))
    wanted = corners()
    wanted[:, : SIZE[1] // 2] = 0
    wanted[: SIZE[0] // 2, SIZE[1] // 2 :] = np.array(GREEN) // 2
    assert near(frames[0], wanted)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "gif", "png"])
def test_13_a_single_frame_is_a_video(tmp_path: Path, suffix: str) -> None:
    codec, pixels = {"gif": ("gif", "rgb8"), "png": ("png", "rgb24")}.get(suffix, ("libx264", "yuv444p"))
    source = write(tmp_path / f"v.{suffix}", pictures(1), codec, pixels)
    assert len(read(source)) == 1
    found = timing(read_tail(source, 5)[1], describe_video(source).rate, 1)
    assert found.rate > 0 and found.times == () and found.seconds == 1 / found.rate


def test_only_the_end_is_decoded_for_the_tail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from wan_core.video import reader

    source = write(tmp_path / "v.mp4", pictures(48) + pictures(48), options={"crf": "1", "g": "12"})
    frames, seen, shown = list(read_frames(source)), [], reader.shown
    monkeypatch.setattr(reader, "shown", lambda frame, stream: (seen.append(1), shown(frame, stream))[1])
    tail, times = read_tail(source, 9)
    assert (tail.numpy() * 255 == np.stack(frames[-9:])).all() and len(times) == 96 and len(seen) <= 11


def test_a_cut_is_read_by_its_times(tmp_path: Path) -> None:
    source = write(tmp_path / "v.mp4", pictures(48), options={"crf": "1", "g": "12"})
    cut = Cut(Fraction(1, 2), Fraction(3, 2))
    frames, (tail, times) = list(read_frames(source, cut=cut)), read_tail(source, 5, cut)
    assert len(frames) == len(times) == 24 and times[0] == Fraction(1, 2)
    assert near(frames[0], pictures(48)[12]) and (tail.numpy() * 255 == np.stack(frames[-5:])).all()
