"""Blocks in pieces: the same numbers, computed from some tokens at a time."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from benchmarks.counted import AllocationCounter
from tests.tiny import random_state_dict, tiny_config
from wan_core.model import layers
from wan_core.model.attention import query_spans
from wan_core.model.kv_cache import KVCache
from wan_core.model.layers import parts_of
from wan_core.model.wan_model import WanModel

FRAMES, SIDE = 6, 12
TOKENS = FRAMES * (SIDE // 2) ** 2


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def model_of(**changes: Any) -> WanModel:
    config = tiny_config(**changes)
    model = WanModel(config).eval().requires_grad_(False)
    model.load_state_dict(random_state_dict(config))
    return model


def inputs(model: WanModel, frames: int = FRAMES) -> dict[str, Any]:
    given: dict[str, Any] = {
        "x": randn(2, model.config.in_dim, frames, SIDE, SIDE),
        "t": torch.arange(2 * frames).view(2, frames) * 70.0,
        "context": randn(2, 9, model.config.text_dim, seed=1),
    }
    if model.config.model_type == "i2v":
        given["clip_fea"] = randn(2, 257, 1280, seed=2)
    return given


@pytest.mark.parametrize("pieces", [2, 5, 16, 10 * TOKENS])
@pytest.mark.parametrize("block", [0, 1, 2, 4])
@pytest.mark.parametrize("kind", ["t2v", "i2v"])
def test_in_pieces_the_result_is_the_same(kind: str, block: int, pieces: int) -> None:
    model = model_of(model_type=kind)
    with torch.inference_mode():
        whole = model(**inputs(model), causal_block_size=block)
        torch.testing.assert_close(
            model(**inputs(model), causal_block_size=block, pieces=pieces), whole, rtol=1e-5, atol=1e-5
        )


def test_in_pieces_behind_a_cache_the_result_is_the_same() -> None:
    model = model_of()

    def second_half(pieces: int) -> torch.Tensor:
        cache, halves = KVCache(2, 2), inputs(model, 4)
        with torch.inference_mode():
            for first in (0, 2):
                cache.begin(0, first + 2)
                part = {**halves, "x": halves["x"][:, :, first : first + 2], "t": halves["t"][:, first : first + 2]}
                made = model(**part, causal_block_size=2, cache=cache, pieces=pieces)
                cache.finish()
        return made

    torch.testing.assert_close(second_half(3), second_half(1), rtol=1e-5, atol=1e-5)


def test_more_pieces_take_less_memory() -> None:
    model = model_of(ffn_dim=512)
    peaks = []
    for pieces in (1, 4, 16):
        with torch.inference_mode(), AllocationCounter() as budget:
            model(**inputs(model), pieces=pieces)
        peaks.append(budget.peak)
    hidden = 2 * TOKENS * 512 * 4  # bytes of the widest tensor of the feed-forward
    assert peaks[0] - peaks[1] > hidden / 2
    assert peaks[2] < peaks[1] < peaks[0]


@pytest.mark.parametrize("block", [0, 2])
@pytest.mark.parametrize("kind", ["t2v", "i2v"])
def test_long_videos_are_computed_in_parts_with_the_same_result(
    kind: str, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of(model_type=kind, ffn_dim=512)
    with torch.inference_mode():
        with AllocationCounter() as whole_memory:
            whole = model(**inputs(model), causal_block_size=block)
        monkeypatch.setattr(layers, "PART_TOKENS", 100)  # of 2 x 216
        with AllocationCounter() as memory:
            in_parts = model(**inputs(model), causal_block_size=block)
    torch.testing.assert_close(in_parts, whole, rtol=1e-5, atol=1e-5)
    if kind == "t2v":  # at this size the image's own layers take more than the blocks
        assert memory.peak < 0.8 * whole_memory.peak


def test_parts_are_no_longer_than_asked_for_and_only_without_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "PART_TOKENS", 10)
    x = torch.zeros(2, 17, 3)
    assert parts_of(x) == [slice(0, 17)]
    with torch.no_grad():
        parts = parts_of(x)
        assert [index for part in parts for index in range(17)[part]] == list(range(17))
        assert max(part.stop - part.start for part in parts) <= 5
        assert len(parts_of(x, 17)) == 17


def test_with_gradients_pieces_are_not_looked_at() -> None:
    model = model_of()
    gradients = []
    for pieces in (1, 4):
        given = inputs(model)
        given["x"].requires_grad_()
        model(**given, pieces=pieces).square().sum().backward()
        gradients.append(given["x"].grad)
    assert torch.equal(*gradients)


def test_a_patch_of_the_attention_and_a_foreign_cross_attention_see_all_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of()
    seen: list[int] = []
    options = {"patches": {"attn1_patch": [lambda values: seen.append(values["q"].shape[1]) or values["x"]]}}
    cross_attention = model.blocks[0].cross_attn
    original = cross_attention.forward

    def foreign(x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        seen.append(x.shape[1])
        return original(x, *args, **kwargs)

    monkeypatch.setattr(cross_attention, "forward", foreign)
    with torch.inference_mode():
        model(**inputs(model), transformer_options=options, pieces=4)
    assert seen == [TOKENS] * 3  # two blocks' patch, one block's cross attention


@pytest.mark.parametrize(("queries", "keys", "block", "pieces"), [(12, 12, 0, 5), (12, 20, 4, 2), (10, 10, 4, 100)])
def test_spans_are_all_queries_once_with_the_keys_they_see(queries: int, keys: int, block: int, pieces: int) -> None:
    seen = [(row, last) for rows, last in query_spans(queries, keys, block, pieces) for row in range(queries)[rows]]
    before = keys - queries
    ends = [before + min((row // block + 1) * block, queries) if block else keys for row in range(queries)]
    assert seen == list(enumerate(ends))
