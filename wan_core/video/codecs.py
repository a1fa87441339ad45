"""The video codecs that a file can be written with: which encoder, which container, which pixels. No writing here.

Source: FFmpeg's documentation of its encoders; tags and ranges of quality are theirs.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import av

from ..errors import InputError

DEEP_WHITE = 255 * 256  # what FFmpeg's scaler takes for white in 16 bits a colour; 65535 would be too bright


@dataclass(frozen=True)
class Codec:
    """One way to write a video.

    Attributes:
        encoder: FFmpeg's name of the encoder.
        suffix: of the file; it decides about the container.
        pixel_format: FFmpeg's name of the pixels that are stored.
        most_crf: the worst quality that the encoder knows, 0 where it has no such setting.
        options: fixed settings of the encoder.
        narrow: settings in place of these for pictures narrower than NARROW.
        tag: four letters by which players of other makers know the stream, or "".
        sequence: bits of a colour in the PNG file that is kept of every frame as well, while the video is there to look
            at; 0 = no files.
    """

    encoder: str
    suffix: str
    pixel_format: str
    most_crf: int = 0
    options: Mapping[str, str] = field(default_factory=dict)
    narrow: Mapping[str, str] = field(default_factory=dict)
    tag: str = ""
    sequence: int = 0

    @property
    def is_rgb(self) -> bool:
        """Whether the pixels are stored as red, green and blue."""
        return self.pixel_format == "bgr0"

    @property
    def is_deep(self) -> bool:
        """Whether more than 8 bits of a colour are stored."""
        return "10" in self.pixel_format

    def encoder_options(self, crf: int, width: int) -> dict[str, str]:
        """Return the encoder's settings; `crf`: quality, 0 to `most_crf`; `width`: of the pictures."""
        chosen = {**self.options, **(self.narrow if width < NARROW else {})}
        return {**chosen, **({"crf": str(crf)} if self.most_crf else {})}


CONTAINERS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"}  # FFmpeg's names, by the suffix of a codec's file
INDEXED = ("mp4", "mov")  # those with an index, which can go to the front

# x264's AVX-512 code was seen to write another file from equal frames about once in fifty times, which a job that is
# made again after a crash must not do; without it all of 120 files were equal
X264_EXACT = {"x264-params": "asm=sse4.2"} if platform.machine().lower() in ("x86_64", "amd64") else {}

# x265's vector code writes past the end of pictures up to 48 wide, of which the process dies at some later moment
# (glibc.malloc.check=3 shows it every time); for pictures that small its plain code is fast enough
NARROW = 64  # pixels
X265 = "log-level=error"

H264 = Codec("libx264", ".mp4", "yuv420p", 51, {"preset": "medium", **X264_EXACT})
HEVC = Codec(
    "libx265",
    ".mp4",
    "yuv420p",
    51,
    {"preset": "medium", "x265-params": X265},
    {"x265-params": f"{X265}:asm=0"},
    "hvc1",
)

CODECS: dict[str, Codec] = {
    "h264": H264,
    "hevc": HEVC,
    "av1": Codec("libsvtav1", ".mp4", "yuv420p10le", 63, {"preset": "6"}),
    "prores": Codec("prores_ks", ".mov", "yuv422p10le", 0, {"profile": "hq", "vendor": "apl0"}),
    "ffv1": Codec("ffv1", ".mkv", "bgr0", 0, {"level": "3"}),
    "png": replace(H264, sequence=8),
    "png 16 bit": replace(H264, sequence=16),
}


def available_codecs() -> list[str]:
    """Return the names in CODECS that the installed PyAV can write, the usual one first."""
    return [name for name, codec in CODECS.items() if codec.encoder in av.codecs_available]


def find_codec(name: str, crf: int) -> Codec:
    """Return a codec by its name.

    Raises:
        InputError: another name, an encoder that the installed PyAV lacks, or a quality that it does not know.
    """
    if name not in available_codecs():
        raise InputError(
            "The codec is {name!r}, but the installed PyAV can write {codecs}.",
            name=name,
            codecs=", ".join(available_codecs()),
        )
    codec = CODECS[name]
    if codec.most_crf and not 0 <= crf <= codec.most_crf:
        raise InputError(
            "crf is {crf}, but {name} knows 0 (best) to {most} (worst): 18 looks like the original.",
            crf=crf,
            name=name,
            most=codec.most_crf,
        )
    return codec
