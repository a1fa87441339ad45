"""The demo makes what it promises; its pictures have no meaning yet and are not judged."""

from __future__ import annotations

from pathlib import Path

import av
import pytest
import torch

from demo.run import DemoSettings, main, make_latents, make_video
from demo.tiny import embed_prompt

SMALL = {"steps": 2, "width": 32, "height": 32}


def test_the_demo_writes_a_video_and_a_contact_sheet(tmp_path: Path) -> None:
    video, sheet = make_video(DemoSettings(frames=6, **SMALL), tmp_path)
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height, stream.average_rate) == (32, 32, 24)
        assert sum(1 for _ in container.decode(stream)) == 6
    with av.open(str(sheet)) as container:
        assert next(container.decode(video=0)).width == 4 * 32 + 3 * 2


def test_the_same_settings_make_the_same_latents_and_another_prompt_or_seed_others() -> None:
    usual = make_latents(DemoSettings(frames=5, **SMALL))
    assert torch.equal(usual, make_latents(DemoSettings(frames=5, **SMALL)))
    assert not torch.equal(usual, make_latents(DemoSettings(frames=5, seed=1, **SMALL)))
    assert not torch.equal(usual, make_latents(DemoSettings(frames=5, prompt="other", **SMALL)))
    assert not torch.equal(embed_prompt("a"), embed_prompt("b"))


def test_frames_that_do_not_fill_the_blocks_are_made_all_the_same() -> None:
    latents = make_latents(DemoSettings(frames=17, ar_step=1, causal_block_size=3, **SMALL))
    assert latents.shape == (1, 16, 5, 4, 4)
    assert latents.isfinite().all()


@pytest.mark.parametrize(
    ("flag", "value"), [("--frames", "0"), ("--seed", "-1"), ("--steps", "0"), ("--ar-step", "-1")]
)
def test_a_setting_out_of_range_is_one_sentence(
    flag: str, value: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([flag, value, "--out", str(tmp_path)]) == 1
    shown = capsys.readouterr().err
    assert shown.startswith("demo: ") and value in shown and len(shown.splitlines()) == 1
