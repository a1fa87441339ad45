"""Known frames: what a host's mask says of them, and what it may not say."""

from __future__ import annotations

import pytest
import torch

from wan_core.errors import InputError
from wan_core.sampling.known import KnownFrames, known_mask, leading_known


def mask_of(*values: float) -> torch.Tensor:
    return torch.tensor(values)[:, None, None].expand(2, 1, len(values), 4, 4)


def test_no_mask_keeps_nothing() -> None:
    assert known_mask(None, 3).tolist() == [False] * 3


@pytest.mark.parametrize("rest", [0.0, 4e-4])  # what resizing a mask may leave
def test_frames_of_0_are_known_and_frames_of_1_are_made(rest: float) -> None:
    assert known_mask(mask_of(rest, 1 - rest, 1.0, 0.0), 4).tolist() == [True, False, False, True]


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (mask_of(0, 1, 1), "has 3 latent frames, but the latent has 4"),
        (mask_of(0, 1, 1, 1, 1), "has 5 latent frames, but the latent has 4"),
        (mask_of(1, 1, 0.3, 1), "is 0.3 on latent frame 2, .* use 0 or 1"),
        (mask_of(1, 2, 1, 1), "is 2 on latent frame 1"),
        (mask_of(-1, 1, 1, 1), "is -1 on latent frame 0"),
        (mask_of(1, 1, 1, float("nan")), "is nan on latent frame 3"),
        (torch.cat((mask_of(1, 1, 1, 1)[..., :2], mask_of(1, 0, 1, 1)[..., 2:]), dim=-1), "splits latent frame 1"),
    ],
)
def test_what_a_mask_cannot_mean_is_refused(mask: torch.Tensor, words: str) -> None:
    with pytest.raises(InputError, match=words):
        known_mask(mask, 4)


def test_only_frames_from_the_start_on_lead() -> None:
    assert leading_known(torch.tensor([True, True, False, True])) == 2


def test_the_model_sees_known_frames_with_their_noise() -> None:
    latents, noise = torch.full((1, 1, 2, 1, 1), 2.0), torch.full((1, 1, 2, 1, 1), -1.0)
    known = KnownFrames(latents, torch.tensor([True, False]), noise)
    torch.testing.assert_close(known.noised(0.25), torch.full((1, 1, 2, 1, 1), 1.25))
    assert known.noised(0.0) is latents
