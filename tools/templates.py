"""The names of the example workflows, which are the titles of their cards in ComfyUI's template browser.

A number keeps them in order where they are sorted, and tells it where they are not; "Demo" marks what runs with the
embedded models, without a download. A card has room for about thirty characters.
"""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "example_workflows"
DEMO = "Demo "
TITLES = (
    "Text to Video",
    "Image to Video",
    "Start End Frames",
    "Long Video",
    "Extend Video",
    "Long Start End Frames",
    "Loop",
    "Text to Video Async",
    "Moving Window",
    "Rolling",
    "T2V Model",
    "I2V Model",
)
ONLY_DEMO, ONLY_RELEASED = ("Rolling",), ("T2V Model", "I2V Model")
ORDER = (
    *(DEMO + title for title in TITLES if title not in ONLY_RELEASED),
    *(title for title in TITLES if title not in ONLY_DEMO),
)


def name_of(title: str) -> str:
    """Return the file name of a template without its ending; `title` is one of ORDER."""
    return f"{ORDER.index(title) + 1:02} {title}"


def title_of(name: str) -> str:
    """Return the title in a file name."""
    return name.partition(" ")[2]


def template(title: str) -> Path:
    """Return the file of a template."""
    return FOLDER / f"{name_of(title)}.json"


def flag_of(title: str) -> str:
    """Return how the command line calls a template: `text_to_video`, with or without the embedded models."""
    return title.removeprefix(DEMO).lower().replace(" ", "_")
