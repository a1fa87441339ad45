"""Write example_workflows/*.jpg: the cards of the template browser, each with its title and a strip of a real run.

Run `python -m tools.build_thumbnails` after the embedded models or the names change: it starts a ComfyUI
(SKYREELS_HOSTS, COMFYUI_PATH or ~/ComfyUI), runs every demo workflow, and draws the cards in headless Chromium. A
workflow that needs released models shows the strip of the demo that makes a video in the same way, and says so. The
front end asks for NAME.jpg and no other type beside a pack's workflow.
"""

from __future__ import annotations

import base64
import sys
from fractions import Fraction
from html import escape
from pathlib import Path

import av
import torch
from av.video.reformatter import ColorRange
from torch import Tensor

from demo.run import evenly
from tools.browser import render
from tools.host import Host
from tools.host_demo import TIMEOUT, Progress, start, video_file
from tools.hosts import find_hosts, why_no_host
from tools.templates import DEMO, FOLDER, ORDER, name_of, template
from tools.workflow_prompt import load_workflow, to_prompt
from wan_core.video.reader import read_frames

EDGE = 400  # pixels of a card, both ways
SHOWN = 4  # frames in a row of the strip
ROWS = 2
QUALITY = 82  # of the JPEG, at most 100
COARSENESS = 2  # of the JPEG of a frame, 1 (finest) to 31
STRIPS = {"T2V Model": "Text to Video", "I2V Model": "Image to Video"}  # whose demo has another title
# the colour of a card, and how the video is made in a few words
LOOKS = {
    "Text to Video": ("#1d4ed8", "prompt → video"),
    "Image to Video": ("#0f766e", "first frame → video"),
    "Start End Frames": ("#7c3aed", "first frame → last frame"),
    "Long Video": ("#b91c1c", "3 prompts, segment by segment"),
    "Extend Video": ("#a16207", "your video → and on"),
    "Long Start End Frames": ("#9d174d", "first → many segments → last"),
    "Loop": ("#15803d", "the end leads to the start"),
    "Text to Video Async": ("#0369a1", "block after block"),
    "Moving Window": ("#c2410c", "one long take, no seams"),
    "Rolling": ("#4d7c0f", "chunk by chunk, any length"),
    "T2V Model": ("#334155", "text-to-video model"),
    "I2V Model": ("#57534e", "image-to-video model"),
}
# the front end lays a tag over the upper left corner of a card, 50 pixels high
STYLE = """
* { margin: 0; box-sizing: border-box; font-family: Helvetica, Arial, 'DejaVu Sans', sans-serif; }
body { width: 400px; height: 400px; padding: 47px 16px 0; position: relative; }
.demo { background: linear-gradient(160deg, ACCENT, #111 130%); color: #fff; }
.released { background: linear-gradient(160deg, #fff, #d4d4d8 130%); color: ACCENT; }
.pill { position: absolute; bottom: 5px; left: 14px; font-size: 18px; font-weight: bold; padding: 4px 13px;
        border-radius: 16px; }
.demo .pill { background: #bbf7d0; color: #14532d; }
.released .pill { border: 2px solid; padding: 2px 11px; }
h1 { height: 92px; padding-top: 10px; font-size: 39px; line-height: 41px; }
p { font-size: 21px; margin-top: 6px; }
.strip { margin: 12px -16px 0; padding: 15px 8px; background: #000; display: grid; position: relative;
         grid-template-columns: repeat(4, 1fr); gap: 5px; justify-items: center; }
.strip::before, .strip::after { content: ''; position: absolute; left: 0; right: 0; height: 7px;
         background: repeating-linear-gradient(90deg, #000 0 7px, #ddd 7px 17px, #000 17px 20px); }
.strip::before { top: 4px; } .strip::after { bottom: 4px; }
img { width: 72px; height: 72px; display: block; }
small { position: absolute; bottom: 6px; right: 14px; font-size: 14px; color: #52525b; }
"""


def jpeg(image: Tensor) -> bytes:
    """Return a picture as a JPEG file.

    Args:
        image: uint8 [H, W, 3].
    """
    picture = av.VideoFrame.from_ndarray(image.numpy(), format="rgb24")
    encoder = av.CodecContext.create("mjpeg", "w")
    encoder.width, encoder.height = picture.width, picture.height
    encoder.pix_fmt = "yuvj420p"
    encoder.time_base = Fraction(1)
    encoder.qmin = encoder.qmax = COARSENESS
    frame = picture.reformat(format="yuvj420p", dst_color_range=ColorRange.JPEG)
    return b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)])


def card(title: str, frames: Tensor) -> str:
    """Return a card as a page of HTML.

    Args:
        title: one of ORDER.
        frames: the video that it shows [F, H, W, 3], uint8.
    """
    demo, plain = title.startswith(DEMO), title.removeprefix(DEMO)
    accent, how = LOOKS[plain]
    shown = [base64.b64encode(jpeg(frame)).decode() for frame in evenly(frames, SHOWN * ROWS)]
    images = "".join(f'<img src="data:image/jpeg;base64,{data}">' for data in shown)
    kind, pill = ("demo", "DEMO: no download") if demo else ("released", "needs models")
    source = "" if demo else "<small>strip: made by the demo model</small>"
    style = STYLE.replace("ACCENT", accent)
    return (
        f'<meta charset="utf-8"><style>{style}</style><body class="{kind}"><div class="pill">{pill}</div>'
        f'<h1>{escape(plain)}</h1><p>{escape(how)}</p><div class="strip">{images}</div>{source}'
    )


def strip_of(title: str) -> str:
    """Return the demo whose frames a template shows."""
    plain = title.removeprefix(DEMO)
    return DEMO + STRIPS.get(plain, plain)


def run_demos() -> dict[str, Tensor]:
    """Run every demo workflow and return the frames by title."""
    hosts = find_hosts()
    if not hosts:
        sys.exit(why_no_host())
    host, frames = Host(hosts[0]), {}
    try:
        info = start(host)
        for title in (title for title in ORDER if title.startswith(DEMO)):
            print(title)
            progress = Progress(host)
            video = video_file(host.run(to_prompt(load_workflow(template(title)), info), TIMEOUT, progress))
            progress.end()
            frames[title] = torch.stack([torch.from_numpy(frame) for frame in read_frames(video)])
    finally:
        host.stop()
    return frames


def write_cards(frames: dict[str, Tensor], folder: Path = FOLDER) -> None:
    """Write the card of every template; `frames` are those of the demos by title."""
    pages = {name_of(title): card(title, frames[strip_of(title)]) for title in ORDER}
    for name, picture in render(pages, EDGE, QUALITY).items():
        (folder / f"{name}.jpg").write_bytes(picture)


if __name__ == "__main__":
    write_cards(run_demos())
    sizes = [path.stat().st_size for path in Path(FOLDER).glob("*.jpg")]
    print(f"{len(sizes)} pictures, {sum(sizes) / 1000:.0f} kB")
