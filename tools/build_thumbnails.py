"""Write example_workflows/*.jpg: what the template browser shows beside each workflow, four frames of a real run.

Run `python -m tools.build_thumbnails` after the embedded models change: it starts a ComfyUI (SKYREELS_HOSTS,
COMFYUI_PATH or ~/ComfyUI), runs every demo workflow and takes its frames; a workflow that needs released models gets
the picture of its demo twin. The front end asks for NAME.jpg and no other type beside a pack's workflow.
"""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path

import av
import torch
from av.video.reformatter import ColorRange
from torch import Tensor

from demo.run import evenly
from tools.host import Host
from tools.host_demo import FOLDER, PREFIX, TIMEOUT, Progress, start, video_file
from tools.hosts import find_hosts, why_no_host
from tools.workflow_prompt import load_workflow, to_prompt
from wan_core.video import contact_sheet
from wan_core.video_files import read_frames

SHOWN = 4  # frames in a picture, two by two
SCALE = 3  # of the 64 x 64 pixels
GAP = 4  # pixels between frames
COARSENESS = 3  # of the JPEG, 1 (finest) to 31


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


def thumbnail(frames: Tensor) -> bytes:
    """Return four frames of a video [F, H, W, 3], first to last, as one square JPEG."""
    shown = evenly(frames, SHOWN).repeat_interleave(SCALE, dim=1).repeat_interleave(SCALE, dim=2)
    return jpeg(contact_sheet(shown, 2, GAP))


# templates of models of a kind that is not embedded
ALSO = {
    "skyreels_v2_demo_text_to_video": "skyreels_v2_t2v_model",
    "skyreels_v2_demo_image_to_video": "skyreels_v2_i2v_model",
}


def twins(demo: str) -> list[str]:
    """Return the names of the templates that show a demo run: its own and those of the released models."""
    names = [demo, demo.replace("_demo_", "_"), ALSO.get(demo, demo)]
    return [name for name in dict.fromkeys(names) if (FOLDER / f"{name}.json").is_file()]


def main() -> None:
    """Run the workflows and write the pictures."""
    hosts = find_hosts()
    if not hosts:
        sys.exit(why_no_host())
    host = Host(hosts[0])
    try:
        info = start(host)
        for workflow in sorted(FOLDER.glob(f"{PREFIX}*.json")):
            print(workflow.stem)
            progress = Progress(host)
            video = video_file(host.run(to_prompt(load_workflow(workflow), info), TIMEOUT, progress))
            progress.end()
            picture = thumbnail(torch.stack([torch.from_numpy(frame) for frame in read_frames(video)]))
            for name in twins(workflow.stem):
                (FOLDER / f"{name}.jpg").write_bytes(picture)
    finally:
        host.stop()
    sizes = [path.stat().st_size for path in Path(FOLDER).glob("*.jpg")]
    print(f"{len(sizes)} pictures, {sum(sizes) / 1000:.0f} kB")


if __name__ == "__main__":
    main()
