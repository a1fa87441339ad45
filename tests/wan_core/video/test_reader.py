"""Joined and read files are opened again with PyAV, which must find what was put in."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from av.video.reformatter import ColorRange, Colorspace

from wan_core.errors import InputError
from wan_core.video.codecs import CODECS
from wan_core.video.join import join_videos, remove_texts, texts_of
from wan_core.video.reader import describe_video, read_frames, read_tail, timing
from wan_core.video.sound import sound_of_file
from wan_core.video.writer import to_uint8, write_video


def noise(count: int) -> torch.Tensor:
    return torch.rand(count, 64, 96, 3, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("fps", [24, 24000 / 1001])
def test_parts_are_joined_to_the_frames_they_hold(tmp_path: Path, codec: str, fps: float) -> None:
    frames, suffix = noise(23), CODECS[codec].suffix
    parts = []
    for number, piece in enumerate((frames[:1], frames[1:9], frames[9:])):
        parts.append(tmp_path / f"part{number}{suffix}")
        write_video(parts[-1], piece, fps, codec=codec)
    assert join_videos(tmp_path / f"whole{suffix}", parts, {"prompt": '{"1": "a"}'}) == 23
    with av.open(str(tmp_path / f"whole{suffix}")) as joined:
        stream = joined.streams.video[0]
        names = {name.lower(): text for name, text in joined.metadata.items()}
        assert float(stream.average_rate) == pytest.approx(fps, rel=1e-3)
        decoded = list(joined.decode(stream))
    assert names["prompt"] == '{"1": "a"}'
    assert [frame.time for frame in decoded] == pytest.approx([n / fps for n in range(23)], abs=2e-3)
    apart = [frame for part in parts for frame in read_frames(part)]
    assert all((one.to_ndarray(format="rgb24") == other).all() for one, other in zip(decoded, apart, strict=True))


@pytest.mark.parametrize("codec", CODECS)
def test_every_frame_of_a_joined_file_lasts_and_a_copy_keeps_them_all(tmp_path: Path, codec: str) -> None:
    """A copy into another container, packet by packet, as editors and `ffmpeg -c copy` make it."""
    suffix, rate = CODECS[codec].suffix, Fraction(24_000, 1001)
    for number in range(2):
        write_video(tmp_path / f"{number}{suffix}", noise(7), float(rate), codec=codec)
    whole = tmp_path / f"whole{suffix}"
    join_videos(whole, [tmp_path / f"{number}{suffix}" for number in range(2)], {"prompt": "{}"})
    remove_texts(whole)
    assert texts_of(whole) == {}
    copied = tmp_path / ("copy.avi" if codec == "ffv1" else "copy.mkv")
    with av.open(str(whole)) as source, av.open(str(copied), "w") as target:
        stream = source.streams.video[0]
        assert stream.average_rate == pytest.approx(rate, rel=1e-4)
        copy = target.add_stream_from_template(stream, opaque=True)
        for packet in source.demux(stream):
            if packet.dts is not None:
                assert abs(packet.duration * packet.time_base - 1 / rate) < 1e-3
                packet.stream = copy
                target.mux(packet)
    with av.open(str(copied)) as source:
        assert len(list(source.decode(video=0))) == 14
        assert source.duration / av.time_base == pytest.approx(14 / rate, abs=2e-3)


def test_parts_of_different_sizes_are_not_joined(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", torch.rand(3, 32, 32, 3), fps=24)
    write_video(tmp_path / "b.mp4", torch.rand(3, 32, 48, 3), fps=24)
    with pytest.raises(InputError, match=r"b\.mp4 is .*width=48"):
        join_videos(tmp_path / "whole.mp4", [tmp_path / "a.mp4", tmp_path / "b.mp4"])
    assert not (tmp_path / "whole.mp4").exists()


@pytest.mark.parametrize("in_memory", [False, True])
def test_only_the_tail_of_a_video_is_kept(tmp_path: Path, in_memory: bool) -> None:
    frames = noise(30)
    write_video(tmp_path / "v.mkv", frames, 24, codec="ffv1")
    source = (tmp_path / "v.mkv").read_bytes() if in_memory else tmp_path / "v.mkv"
    tail, times = read_tail(source, 7)
    count = len(times)
    assert count == 30 and tail.shape == (7, 64, 96, 3)
    assert (tail.numpy() * 255 == np.stack([to_uint8(frame) for frame in frames[-7:]])).all()
    assert read_tail(source, 99)[0].shape[0] == 30
    assert describe_video(source).rate == 24 and describe_video(source).width == 96


def clip(
    path: Path,
    times: list[Fraction],
    sound: bool = False,
    cover: bool = False,
    rate: Fraction = Fraction(24),
    **stream: object,
) -> Path:
    """Write a video whose frames are shown at given times, with a tone beside it or a cover picture before it."""
    with av.open(str(path), "w") as container:
        if cover:
            first = container.add_stream("mjpeg", rate=1)
            first.width, first.height, first.pix_fmt = 16, 16, "yuvj420p"
        picture = container.add_stream("libx264", rate=rate)
        picture.width, picture.height, picture.pix_fmt = 64, 48, "yuv420p"
        picture.options = {"crf": "2"}
        picture.codec_context.time_base = Fraction(1, 1000)
        for name, value in stream.items():
            setattr(picture if name in ("width", "height") else picture.codec_context, name, value)
        tone = container.add_stream("aac", rate=44100) if sound else None
        if cover:
            frame = av.VideoFrame.from_ndarray(np.full((16, 16, 3), 200, np.uint8), format="rgb24")
            container.mux(first.encode(frame))
            container.mux(first.encode(None))
        for number, at in enumerate(times):
            pixels = np.full((picture.height, picture.width, 3), 9 * number % 256, np.uint8)
            pixels[:, : picture.width // 2] = (200, 60, 30)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(
                format=picture.pix_fmt, dst_colorspace=Colorspace.ITU709, src_color_range=ColorRange.JPEG,
                dst_color_range=ColorRange.MPEG,
            )  # fmt: skip
            frame.pts, frame.time_base = round(at * 1000), Fraction(1, 1000)
            container.mux(picture.encode(frame))
        container.mux(picture.encode(None))
        if tone is not None:
            wave = np.sin(np.arange(int(44100 * times[-1])) / 20)[None].astype(np.float32)
            heard = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
            heard.sample_rate, heard.pts = 44100, 0
            container.mux(tone.encode(heard))
            container.mux(tone.encode(None))
    return path


UNEVEN = [Fraction(number, 10) for number in range(20)] + [2 + Fraction(number, 60) for number in range(30)]
EVEN = [Fraction(number, 24) for number in range(20)]


def test_uneven_times_are_found_and_kept_by_the_joined_file(tmp_path: Path) -> None:
    """A phone's recording that goes from 10 to 60 frames per second stays beside its sound."""
    source = clip(tmp_path / "phone.mp4", UNEVEN, sound=True)
    _tail, times = read_tail(source, 5)
    found = timing(times, describe_video(source).rate, 5).times
    assert [float(time) for time in found] == pytest.approx([float(time) for time in UNEVEN], abs=1e-3)
    parts = []
    for number, count in enumerate((50, 8)):
        parts.append(tmp_path / f"part{number}.mp4")
        write_video(parts[-1], noise(count), 60)
    sound = sound_of_file(source, found[-1] + Fraction(1, 60))
    assert join_videos(tmp_path / "whole.mp4", parts, sound=sound, times=found) == 58
    with av.open(str(tmp_path / "whole.mp4")) as joined:
        shown = [frame.time for frame in joined.decode(video=0)]
    after = [float(UNEVEN[-1] + Fraction(number, 60)) for number in range(1, 9)]
    assert shown == pytest.approx([*map(float, UNEVEN), *after], abs=2e-3)


def test_times_that_a_container_rounds_are_even_and_a_false_rate_is_not_believed(tmp_path: Path) -> None:
    ntsc = [Fraction(number * 1001, 30000) for number in range(60)]
    rounded = clip(tmp_path / "a.mkv", ntsc, rate=Fraction(30000, 1001))
    false = clip(tmp_path / "b.mkv", ntsc)  # its header says 24
    for source, rate in ((clip(tmp_path / "a.mp4", EVEN), 24), (rounded, ntsc[1] ** -1), (false, ntsc[1] ** -1)):
        found = timing(read_tail(source, 5)[1], describe_video(source).rate, 5)
        assert found.times == () and found.rate == pytest.approx(rate, rel=2e-3)
        shown = [number / found.rate for number in range(60)]
        assert all(abs(a - b) < found.rate**-1 / 2 for a, b in zip(shown, ntsc if rate != 24 else EVEN, strict=False))
    assert timing([None, Fraction(1), Fraction(2)], Fraction(1), 2).times == ()
    assert timing([Fraction(0), Fraction(9), Fraction(2)], Fraction(1), 2).times == ()


def test_frames_are_read_as_players_show_them(tmp_path: Path) -> None:
    wide = clip(tmp_path / "wide.mp4", EVEN, sample_aspect_ratio=Fraction(2))
    high = clip(tmp_path / "high.mp4", EVEN, sample_aspect_ratio=Fraction(1, 2))
    for source, size in ((wide, (128, 48)), (high, (64, 96))):
        kind = describe_video(source)
        assert (kind.width, kind.height) == size and next(read_frames(source)).shape == (size[1], size[0], 3)
    covered = clip(tmp_path / "covered.mkv", EVEN, cover=True)
    assert describe_video(covered).width == 64 and len(list(read_frames(covered))) == 20


def test_high_definition_without_tags_is_bt709(tmp_path: Path) -> None:
    source = clip(tmp_path / "hd.mp4", EVEN[:3], width=1280, height=720)
    with av.open(str(source)) as container:
        assert next(container.decode(video=0)).colorspace == 2, "it has no tags"
    assert np.abs(next(read_frames(source))[8, 8].astype(int) - (200, 60, 30)).max() <= 3


def test_what_is_no_video_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(InputError, match=r"text\.mp4 cannot be read as a video"):
        describe_video(tmp_path / "text.mp4")
    with pytest.raises(InputError, match="The video cannot be read"):
        read_tail(b"", 5)
    with pytest.raises(InputError, match=r"gone\.mp4 cannot be read"):
        read_tail(tmp_path / "gone.mp4", 5)


def test_a_video_cut_off_in_the_middle_is_refused(tmp_path: Path) -> None:
    write_video(tmp_path / "v.mp4", noise(30), 24)
    whole = (tmp_path / "v.mp4").read_bytes()
    (tmp_path / "v.mp4").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"v\.mp4 is broken: it ends after \d+ of 30 frames"):
        read_tail(tmp_path / "v.mp4", 5)
