"""Write docs/figures/plan.png: what the Plan node shows for 257 frames, 97 at a time, blocks of 5 with ar_step 5.

Run `python -m tools.draw_plan` after the picture of a plan changes.
"""

from __future__ import annotations

from pathlib import Path

from wan_core.long.plan import Wanted
from wan_core.long.schedule_picture import schedule_picture
from wan_core.long.segments import plan_segments
from wan_core.video.writer import save_png

FILE = Path(__file__).resolve().parent.parent / "docs" / "figures" / "plan.png"
SHIFT = 8.0

if __name__ == "__main__":
    save_png(
        FILE, schedule_picture(plan_segments(Wanted(257, 97, 17, causal_block_size=5, ar_step=5, steps=30)), SHIFT)
    )
