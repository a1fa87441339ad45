"""The files are opened again with PyAV, which must find what was put in."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from demo.sheet import contact_sheet
from wan_core.errors import InputError
from wan_core.finite import NotFiniteError
from wan_core.video.codecs import CODECS, DEEP_WHITE
from wan_core.video.writer import (
    _video_frame,
    save_png,
    to_uint8,
    to_uint16,
    write_sequence,
    write_video,
)

ROOT = Path(__file__).resolve().parents[3]


def colour(red: float, green: float, blue: float, height: int = 32, width: int = 48) -> Tensor:
    return torch.tensor([red, green, blue]).expand(height, width, 3)


def read(path: Path) -> tuple[av.VideoStream, list[np.ndarray]]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return stream, [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]


@pytest.mark.parametrize("fps", [16, 24, 23.976])
def test_a_video_has_the_size_count_and_rate_asked_for(tmp_path: Path, fps: float) -> None:
    frames = torch.rand(9, 32, 48, 3, generator=torch.Generator().manual_seed(0))
    assert write_video(tmp_path / "new folder" / "v.mp4", frames, fps) == 9
    with av.open(str(tmp_path / "new folder" / "v.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height, stream.codec_context.pix_fmt) == (48, 32, "yuv420p")
        assert stream.codec_context.name == "h264"
        assert float(stream.average_rate) == pytest.approx(fps)
        assert sum(1 for _ in container.decode(stream)) == 9


@pytest.mark.parametrize("rgb", [(1.0, 0.0, 0.0), (0.0, 0.6, 0.1), (0.2, 0.3, 0.9), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)])
def test_colours_survive_the_way_to_the_file_and_back(tmp_path: Path, rgb: tuple[float, float, float]) -> None:
    write_video(tmp_path / "v.mp4", [colour(*rgb)] * 3, 24, crf=1)
    with av.open(str(tmp_path / "v.mp4")) as container:
        frame = next(container.decode(video=0))
        # BT.709's own luma weights, in the 16..235 range, are the oracle
        luma = frame.to_ndarray()[: frame.height].mean()
        assert luma == pytest.approx(16 + 219 * (0.2126 * rgb[0] + 0.7152 * rgb[1] + 0.0722 * rgb[2]), abs=1.5)
        assert (frame.colorspace, frame.color_range) == (1, 1)


def test_frames_stay_in_order_and_may_come_from_a_generator(tmp_path: Path) -> None:
    levels = [0.1, 0.3, 0.5, 0.7, 0.9]
    assert write_video(tmp_path / "v.mp4", (colour(level, level, level) for level in levels), 24) == 5
    _, decoded = read(tmp_path / "v.mp4")
    assert [frame.mean() / 255 for frame in decoded] == pytest.approx(levels, abs=0.02)


def test_an_odd_size_is_filled_up_by_one_pixel(tmp_path: Path) -> None:
    write_video(tmp_path / "v.mp4", torch.full((2, 33, 47, 3), 128, dtype=torch.uint8), 24)
    stream, decoded = read(tmp_path / "v.mp4")
    assert (stream.height, stream.width) == (34, 48)
    assert decoded[0].min() > 120


@pytest.mark.parametrize(
    ("frames", "fps", "crf", "words"),
    [
        (torch.zeros(0, 32, 48, 3), 24, 18, "no frames"),
        (torch.zeros(2, 3, 32, 48), 24, 18, r"\[3, 32, 48\]"),
        (torch.zeros(2, 32, 48, 3, dtype=torch.int64), 24, 18, "int64"),
        ([colour(0.0, 0.5, 0.0), colour(0.0, 0.5, 0.0, width=50)], 24, 18, "frame 1 is 50x32, but frame 0 is 48x32"),
        (torch.zeros(2, 32, 48, 3), 0, 18, "fps is 0"),
        (torch.zeros(2, 32, 48, 3), 24, 60, "crf is 60"),
    ],
)
def test_what_cannot_be_written_is_refused_and_the_older_file_stays(
    tmp_path: Path, frames: Tensor | list[Tensor], fps: float, crf: int, words: str
) -> None:
    (tmp_path / "v.mp4").write_bytes(b"older")
    with pytest.raises(InputError, match=words):
        write_video(tmp_path / "v.mp4", frames, fps, crf=crf)
    assert [path.name for path in tmp_path.iterdir()] == ["v.mp4"]
    assert (tmp_path / "v.mp4").read_bytes() == b"older"


def test_a_png_holds_the_very_bytes(tmp_path: Path) -> None:
    image = torch.randint(0, 256, (31, 45, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    save_png(tmp_path / "p.png", image)
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    _, decoded = read(tmp_path / "p.png")
    assert np.array_equal(decoded[0], image.numpy())


def sequence(*given: Any, **options: Any) -> list[Path]:
    return [file for file, _ in write_sequence(*given, **options)]


def test_sixteen_bits_of_a_colour_are_kept(tmp_path: Path) -> None:
    """Read back with Pillow's own bytes: PNG's white is 65535, and shades between those of 8 bits stay."""
    ramp = torch.linspace(0.25, 0.27, 300).expand(20, 300)
    frames = torch.stack([torch.stack((ramp, 1 - ramp, ramp.round()), dim=-1)] * 2)
    files = sequence(tmp_path, frames, bits=16, texts={"prompt": "{}"})
    for file in files:
        with av.open(str(file)) as container:
            (frame,) = container.decode(video=0)
            assert frame.format.name == "rgb48be"
            found = frame.to_ndarray().astype(np.float64) / 65_535
        assert np.abs(found - frames[0].numpy()).max() < 1e-5 and len(np.unique(found[0, :, 0])) == 300
    with Image.open(files[0]) as image:
        assert image.text == {"prompt": "{}"}
    (white,) = sequence(tmp_path / "white", torch.full((1, 8, 8, 3), 255, dtype=torch.uint8), bits=16)
    with av.open(str(white)) as container:
        assert (next(container.decode(video=0)).to_ndarray() == 65_535).all()


def test_frames_are_asked_for_once_for_pictures_and_video(tmp_path: Path) -> None:
    frames = iter(torch.rand(5, 32, 48, 3))
    files: list[Path] = []
    handed = (files.append(file) or frame for file, frame in write_sequence(tmp_path / "frames", frames))
    assert write_video(tmp_path / "v.mp4", handed, 24) == 5 == len(files) == len(list((tmp_path / "frames").iterdir()))


@pytest.mark.parametrize("codec", CODECS)
def test_colours_are_tagged_in_the_container_the_stream_and_its_frames(tmp_path: Path, codec: str) -> None:
    path = tmp_path / f"v{CODECS[codec].suffix}"
    write_video(path, torch.rand(4, 64, 96, 3), 24, codec=codec)
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        tags = [(context.colorspace, context.color_primaries, context.color_trc, context.color_range)]
        frame = next(container.decode(video=0))
        tags.append((frame.colorspace, frame.color_primaries, frame.color_trc, frame.color_range))
    rgb = CODECS[codec].is_rgb
    assert tags == [(0 if rgb else 1, 1, 1, 2 if rgb else 1)] * 2
    if not rgb:  # ISO 14496-12: primaries, transfer, matrix
        assert b"colrnclx" + bytes([0, 1, 0, 1, 0, 1]) in path.read_bytes().replace(b"nclc", b"nclx")


def test_a_sequence_holds_the_very_bytes_of_every_frame(tmp_path: Path) -> None:
    frames = torch.randint(0, 256, (3, 33, 35, 3), dtype=torch.uint8)
    files = sequence(tmp_path / "frames", iter(frames), first=7)
    assert [file.name for file in files] == ["frame_000007.png", "frame_000008.png", "frame_000009.png"]
    assert sorted((tmp_path / "frames").iterdir()) == files
    for file, frame in zip(files, frames, strict=True):
        assert (read(file)[1][0] == frame.numpy()).all()


def test_the_first_picture_of_a_sequence_holds_texts_as_the_host_s_own_pictures_do(tmp_path: Path) -> None:
    frames = torch.randint(0, 256, (2, 33, 35, 3), dtype=torch.uint8)
    texts = {"prompt": '{"1": {"class_type": "SkyReelsV2LongVideo"}}', "workflow": '{"nodes": []}'}
    first, second = sequence(tmp_path / "frames", frames, texts=texts)
    with Image.open(first) as image:
        assert image.text == texts
        assert (np.array(image) == frames[0].numpy()).all()
    with Image.open(second) as image:
        assert image.text == {}
    (odd,) = sequence(tmp_path / "odd", frames[:1], texts={"提示": "天鹅", "n" * 99: "ok"})
    with Image.open(odd) as image:
        assert image.text == {"??": "??", "n" * 79: "ok"}
    (later,) = sequence(tmp_path / "later", frames[:1], first=1, texts=texts)
    assert later.read_bytes() == (sequence(tmp_path / "plain", frames[:1], first=1)[0]).read_bytes()


def test_a_contact_sheet_lays_frames_out_row_by_row() -> None:
    sheet = contact_sheet([colour(level / 255, 0, 0, 4, 6) for level in (10, 20, 30, 40, 50)], columns=3, gap=2)
    assert sheet.shape == (4 * 2 + 2, 6 * 3 + 2 * 2, 3)
    assert [int(sheet[0, x, 0]) for x in (0, 8, 16)] == [10, 20, 30]
    assert [int(sheet[6, x, 0]) for x in (0, 8, 16)] == [40, 50, 0]
    assert int(sheet[4:6].sum()) == 0


def test_a_contact_sheet_of_few_frames_is_no_wider_than_they_are() -> None:
    assert contact_sheet(torch.zeros(2, 4, 6, 3), columns=8, gap=1).shape == (4, 13, 3)
    with pytest.raises(InputError, match="columns is 0"):
        contact_sheet(torch.zeros(2, 4, 6, 3), columns=0)


def test_values_outside_the_range_are_clipped() -> None:
    picture = torch.tensor([-1.0, 2.0, 0.0]).expand(2, 2, 3)
    assert to_uint8(picture)[0, 0].tolist() == [0, 255, 0]
    assert to_uint16(picture)[0, 0].tolist() == [0, DEEP_WHITE, 0]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("codec", ["h264", "av1"])
def test_a_frame_that_is_not_finite_is_refused_and_nothing_is_written(tmp_path: Path, bad: float, codec: str) -> None:
    frames = torch.rand(6, 32, 32, 3)
    frames[4, 20, 7, 1] = bad
    path = tmp_path / "v.mp4"
    path.write_bytes(b"an older one")
    writes: list[Callable[[], object]] = [
        lambda: write_video(path, frames, 24, codec=codec),
        lambda: save_png(path, frames[4]),
        lambda: contact_sheet(frames, 3),
    ]
    for write in writes:
        with pytest.raises(NotFiniteError, match=r"^A frame holds NaN or infinite values: it would be written black, "):
            write()
    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [("v.mp4", b"an older one")]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs links and pipes")
def test_a_link_or_a_pipe_in_the_place_of_a_file_is_replaced_and_not_written_through(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"precious")
    folder = tmp_path / "folder"
    folder.mkdir()
    target = folder / "p.png"
    part = folder / f".p.png.{os.getpid()}.part"
    for place in (target, part):
        place.symlink_to(outside)
        save_png(target, torch.rand(4, 4, 3))
        assert not place.is_symlink()
    target.unlink()
    os.mkfifo(target)
    os.mkfifo(part)
    save_png(target, torch.rand(4, 4, 3))
    assert [path.name for path in folder.iterdir()] == ["p.png"] and target.is_file()
    assert outside.read_bytes() == b"precious"


@pytest.mark.parametrize(
    ("codec", "crf", "closest"),
    [("h264", 0, 12), ("hevc", 4, 12), ("av1", 10, 16), ("prores", 0, 12), ("ffv1", 0, 0), ("png", 0, 12)],
)
def test_every_codec_gives_the_pictures_back(tmp_path: Path, codec: str, crf: int, closest: int) -> None:
    ramp = torch.linspace(0, 1, 96).expand(64, 96)
    frames = torch.stack([torch.stack((ramp, ramp.flip(1), ramp * 0 + n / 9), dim=-1) for n in range(10)])
    path = tmp_path / f"v{CODECS[codec].suffix}"
    assert write_video(path, frames, 24, crf, codec) == 10
    stream, pictures = read(path)
    assert float(stream.average_rate) == 24 and len(pictures) == 10
    difference = np.abs(np.stack(pictures).astype(int) - np.stack([to_uint8(frame) for frame in frames]).astype(int))
    assert difference.max() <= closest


@pytest.mark.parametrize("codec", ["av1", "prores"])
def test_a_codec_of_ten_bits_keeps_shades_that_eight_bits_do_not_have(tmp_path: Path, codec: str) -> None:
    ramp = torch.linspace(0.25, 0.35, 1024).expand(64, 1024)  # 26 shades of 8 bits, 88 of 10 in the video's own range
    frames = torch.stack([ramp] * 3, dim=-1).expand(3, -1, -1, -1)
    path = tmp_path / f"v{CODECS[codec].suffix}"
    write_video(path, frames, 24, crf=1, codec=codec)
    with av.open(str(path)) as container:
        shown = next(container.decode(video=0)).to_ndarray(format="gray16le")
    assert len(np.unique(shown[32])) > 60


def test_eight_and_sixteen_bits_are_the_same_picture() -> None:
    generator = torch.Generator().manual_seed(1)
    whole = torch.randint(0, 256, (50, 70, 3), dtype=torch.uint8, generator=generator)
    fine = torch.rand(50, 70, 3, generator=generator)
    for picture in (fine, whole):
        deep = to_uint16(picture)
        assert deep.dtype == np.uint16 and deep.shape == (50, 70, 3)
        # each is rounded for itself, so between two bytes they may fall to different sides
        assert np.abs(deep / 256 - to_uint8(picture)).max() <= 0.5 + 0.5 / 256
    assert np.abs(to_uint16(fine) / 256 - 255 * fine.double().numpy()).max() <= 0.51 / 256
    assert (to_uint16(whole) == 256 * whole.int().numpy()).all()


def test_grey_in_ten_bits_is_as_bright_as_the_standard_says() -> None:
    ramp = torch.linspace(0, 1, 1024)
    frame = _video_frame(to_uint16(ramp.expand(2, 1024)[..., None].expand(-1, -1, 3)), CODECS["prores"])
    luma = frame.to_ndarray()[0][0]  # the first row of the first plane
    assert np.abs(luma - (64 + 876 * ramp.numpy())).max() < 1  # ITU-R BT.709: black is 64, white 940


def test_the_same_frames_give_the_same_file(tmp_path: Path) -> None:
    frames = torch.rand(11, 64, 96, 3, generator=torch.Generator().manual_seed(0))
    contents = set()
    for number in range(4):
        write_video(tmp_path / f"{number}.mp4", frames, 24)
        contents.add((tmp_path / f"{number}.mp4").read_bytes())
    assert len(contents) == 1


@pytest.mark.parametrize("filling", ["1", "165"])
def test_a_clip_too_short_for_the_encoder_to_time_is_written_whatever_lies_in_memory(
    tmp_path: Path, filling: str
) -> None:
    code = (
        "import sys, torch; from wan_core.video.writer import write_video\n"
        "for count in (1, 2):\n"
        "    write_video(f'{sys.argv[1]}/{count}.mp4', torch.zeros(count, 64, 96, 3), 12288, codec='hevc')"
    )
    # glibc fills new memory with the given byte; where a frame is more than one tick of the file, what that gives
    # as a time overflows and is taken for no time
    filled = {**os.environ, "MALLOC_PERTURB_": filling}
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, env=filled, check=True)
    for count in (1, 2):
        assert len(read(tmp_path / f"{count}.mp4")[1]) == count


CHECKED_HEAP = "libc_malloc_debug.so.0"  # of glibc: it looks at the heap at every allocation


def has_checked_heap() -> bool:
    with suppress(OSError):
        return ctypes.CDLL(CHECKED_HEAP) is not None
    return False


@pytest.mark.skipif(not has_checked_heap(), reason="this system has no heap that checks itself")
@pytest.mark.parametrize(("width", "height"), [(16, 16), (48, 32), (32, 64), (64, 32)])
def test_hevc_writes_small_pictures_without_harm_to_the_process(tmp_path: Path, width: int, height: int) -> None:
    """x265 wrote past the end of pictures up to 48 wide: "free(): invalid size" at some later moment."""
    code = (
        "import sys, torch; from wan_core.video.writer import write_video\n"
        "width, height = map(int, sys.argv[2:])\n"
        "frames = torch.rand(9, height, width, 3, generator=torch.Generator().manual_seed(1))\n"
        "for count in range(3):\n"
        "    write_video(f'{sys.argv[1]}/{count}.mp4', frames, 24, codec='hevc')"
    )
    checked = {**os.environ, "LD_PRELOAD": CHECKED_HEAP, "GLIBC_TUNABLES": "glibc.malloc.check=3"}
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), str(width), str(height)], cwd=ROOT, env=checked, check=True
    )
    for count in range(3):
        assert len(read(tmp_path / f"{count}.mp4")[1]) == 9
