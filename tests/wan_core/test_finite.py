"""NaN and infinity are found in every dtype, and a run's watch names the step without waiting for the device."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wan_core.finite import FiniteWatch, NotFiniteError, check_all_finite, check_finite, check_weights, is_finite
from wan_core.words import words

FLOATS = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2]
BAD = [float("nan"), float("inf"), float("-inf")]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("bad", BAD)
def test_one_bad_value_is_found_in_every_dtype(dtype: torch.dtype, bad: float) -> None:
    tensor = (torch.arange(120.0).view(4, 5, 6) / 100 - 0.5).to(dtype)  # of both signs
    assert is_finite(tensor) and is_finite(tensor.transpose(0, 2))
    tensor.view(-1)[77] = float("nan") if dtype == torch.float8_e4m3fn else bad  # which has no infinity
    assert not is_finite(tensor) and not is_finite(tensor.transpose(0, 2)[:, :, 1:])


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_every_byte_of_fp8_is_judged_as_its_value(dtype: torch.dtype) -> None:
    for byte in range(256):
        value = torch.tensor([0, byte], dtype=torch.uint8).view(dtype)
        assert is_finite(value) == bool(torch.isfinite(value.float()).all()), byte


@given(st.lists(st.floats(width=32, allow_subnormal=False), min_size=1, max_size=8))
def test_it_agrees_with_torch(values: list[float]) -> None:
    tensor = torch.tensor(values)
    assert is_finite(tensor) == bool(torch.isfinite(tensor).all())


def test_what_holds_no_floats_is_finite() -> None:
    for tensor in (torch.zeros(0), torch.tensor([True]), torch.tensor([255], dtype=torch.uint8), torch.tensor(3)):
        assert is_finite(tensor)
    assert is_finite(torch.empty(4, device="meta"))


def test_a_door_names_what_it_refuses() -> None:
    tensor = torch.zeros(3)
    assert check_finite(tensor, words("The latent"), words("check it")) is tensor
    with pytest.raises(NotFiniteError, match=r"^The latent holds NaN or infinite values: check it\.$"):
        check_finite(tensor.log(), words("The latent"), words("check it"))
    many = {f"blocks.{n}": tensor.log() for n in range(5)} | {"text": "x", "good": tensor}
    with pytest.raises(NotFiniteError, match=r"^x\.safetensors holds .* in blocks\.0, blocks\.1, blocks\.2, \.\.\.: "):
        check_weights(many, "x.safetensors")
    check_all_finite({"good": tensor, "text": "x"}, words("This"), words("check it"))


@pytest.mark.parametrize("step", range(7))
@pytest.mark.parametrize("bad", BAD)
def test_a_watch_names_the_first_bad_step(step: int, bad: float) -> None:
    watch = FiniteWatch(7, words("segment {number} of {count}", number=2, count=3), every=3)
    seen = -1
    with pytest.raises(NotFiniteError, match=f"from step {step + 1} of 7 in segment 2 of 3 on"):
        for at in range(7):
            answer = torch.zeros(1, 4, 2, 3, 3)
            answer[0, 1, 1, 2, 2] = bad if at >= step else 1.0
            watch.see(at, answer)
            seen = at
        watch.check()
    assert seen < step + 3, "it is read every few calls"


def test_a_watch_reads_its_notes_only_every_few_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    reads, check = [], FiniteWatch.check
    monkeypatch.setattr(FiniteWatch, "check", lambda self: reads.append(len(self.finite)) or check(self))
    watch = FiniteWatch(20, every=8)
    for at in range(20):
        watch.see(at, torch.zeros(2))
    assert reads == [8, 8] and len(watch.finite) == 4
    watch.check()
    assert watch.finite == []
