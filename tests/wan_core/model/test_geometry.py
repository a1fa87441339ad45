"""What pixels and frames are as latents, and the refusals of what they can't be."""

from __future__ import annotations

import pytest
import torch

from tests.tiny import tiny_config
from wan_core.errors import InputError
from wan_core.long.key_frames import GivenImages
from wan_core.long.plan import Wanted
from wan_core.long.plan_text import estimate
from wan_core.long.segments import plan_segments
from wan_core.model.config import PRESETS
from wan_core.model.geometry import GEOMETRIES, WAN21, Geometry

OTHER = Geometry("Other", "other_vae", "Other", channels=48, spatial=16, temporal=8)


@pytest.mark.parametrize("geometry", [WAN21, OTHER], ids=lambda each: each.name)
def test_every_video_frame_lies_in_the_latent_frame_that_is_said(geometry: Geometry) -> None:
    frames = [0, *(latent for latent in range(1, 5) for _ in range(geometry.temporal))]
    for frame, latent in enumerate(frames):
        assert geometry.latent_of_frame(frame) == latent
        assert geometry.first_frame(latent) <= frame < geometry.first_frame(latent + 1)
        count = frame + 1
        assert geometry.whole_frames(count) <= count < geometry.whole_frames(count) + geometry.temporal
        assert geometry.video_frames(geometry.latent_frames(count)) == geometry.whole_frames(count)


def test_every_released_model_has_wans_geometry() -> None:
    assert {release.config.geometry for release in PRESETS.values()} == {WAN21}
    with pytest.raises(InputError, match=r"48 channels, but SkyReels-V2 and Wan 2.1 have 16"):
        assert tiny_config(in_dim=48, out_dim=48).geometry


def test_a_new_geometry_is_one_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(GEOMETRIES, 48, OTHER)
    assert tiny_config(in_dim=48, out_dim=48).geometry == OTHER
    plan = plan_segments(Wanted(81, 33, 9, geometry=OTHER))
    assert [segment.frames for segment in plan.segments] == [(0, 33), (33, 57), (57, 81)]
    assert estimate(plan, 128, 64).tokens == 5 * (128 // 32) * (64 // 32)
    image = torch.zeros(1, 1, 1, 3)
    given = GivenImages(end=image, keys=image.expand(2, 1, 1, 3), key_frames=(8, 9))
    assert sorted(given.placed(81, OTHER)) == [1, 2, 10]
    with pytest.raises(InputError, match=r"8 video frames share a latent frame"):
        GivenImages(keys=given.keys, key_frames=(9, 16)).placed(81, OTHER)
    assert OTHER.like((1, 16, 9, 8, 12), WAN21) == (1, 48, 5, 4, 6)


def test_sizes_that_make_no_whole_tokens_are_refused_with_the_nearest() -> None:
    OTHER.check_size(64, 96)
    with pytest.raises(InputError, match=r"80x40 pixels.*multiples of 32: 64x32 is the nearest"):
        OTHER.check_size(80, 40)
