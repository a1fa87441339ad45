"""Joined and read files are opened again with PyAV, which must find what was put in."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
import torch

from wan_core.errors import InputError
from wan_core.video.codecs import CODECS
from wan_core.video.reader import describe_video, join_videos, read_frames, read_tail
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
