"""The lean forms of norm, activation and rotary: the plain formula's values, in place, and one graph for compilers."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from wan_core.model import operations
from wan_core.model.blocks import BlockInputs
from wan_core.model.config import WanConfig
from wan_core.model.operations import RMSNorm, gelu_, pieces, reusable
from wan_core.model.rope import apply_rotary, rotary_table, rotation_matrices
from wan_core.model.wan_model import WanModel

CONFIG = WanConfig(dim=48, ffn_dim=80, freq_dim=32, text_dim=24, num_heads=2, num_layers=1)


@pytest.fixture(params=[7, 2**17], ids=["many pieces", "one piece"])
def piece(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations, "CPU_PIECE", request.param)


def randn(*shape: int, scale: float = 3.0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1)) * scale


@pytest.mark.parametrize("rows", [1, 5, 64])
def test_pieces_cover_every_row_once_and_in_order(rows: int, piece: None) -> None:
    x = torch.zeros(2, rows, 3)
    seen = [index for part in pieces(x, dim=1) for index in range(rows)[part]]
    assert seen == list(range(rows))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_activation_in_place_is_torchs_own(dtype: torch.dtype, piece: None) -> None:
    x = torch.cat((randn(2, 6, 8), torch.tensor([-1e4, -30.0, -0.0, 0.0, 30.0, 1e4, 88.0, -88.0]).expand(2, 1, 8)), 1)
    x = x.to(dtype)
    expected = functional.gelu(x.float(), approximate="tanh").to(dtype)
    with torch.no_grad():
        given = x.clone()
        got = gelu_(given)
    torch.testing.assert_close(got, expected)
    assert got.data_ptr() == given.data_ptr()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_gpus_activation_is_the_same_and_in_place(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    x = randn(2, 6, 8).to(dtype)
    monkeypatch.setattr(operations, "GELU_IN_PLACE", ("cpu",))  # the same call, on the device that is here
    with torch.no_grad():
        expected, given = functional.gelu(x, approximate="tanh"), x.clone()
        got = gelu_(given)
    assert torch.equal(got, expected) and got.data_ptr() == given.data_ptr()


def test_the_activation_of_what_does_not_lie_in_one_piece_of_memory(piece: None) -> None:
    x = randn(2, 8, 6).transpose(1, 2)
    with torch.no_grad():
        torch.testing.assert_close(gelu_(x.clone(memory_format=torch.preserve_format)), gelu_(x.contiguous()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_rms_norm_is_torchs_own(dtype: torch.dtype, piece: None) -> None:
    norm = RMSNorm(8, eps=1e-6, dtype=dtype)
    torch.nn.init.normal_(norm.weight, generator=torch.Generator().manual_seed(2))
    x = randn(2, 6, 8).to(dtype)
    expected = functional.rms_norm(x.float(), (8,), norm.weight.float(), 1e-6).to(dtype)
    with torch.no_grad():
        torch.testing.assert_close(norm(x), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("gradients", [False, True], ids=["by hand", "plain"])
def test_the_rotation_is_that_of_the_matrices(gradients: bool, dtype: torch.dtype, piece: None) -> None:
    x, table = randn(2, 12, 3, 16).to(dtype), rotary_table((3, 2, 2), 16)
    matrices = rotation_matrices(table)
    assert tuple(matrices.shape) == (1, 12, 1, 8, 2, 2)
    expected = (matrices @ x.float().unflatten(-1, (-1, 2)).unsqueeze(-1)).flatten(-3).to(dtype)  # [B, L, N, D]
    with torch.set_grad_enabled(gradients):
        torch.testing.assert_close(apply_rotary(x, table), expected)


def test_the_rotation_of_what_does_not_lie_in_one_piece_of_memory(piece: None) -> None:
    x, table = randn(2, 3, 16, 12), rotary_table((3, 2, 2), 16)
    x = x.permute(0, 3, 1, 2)  # [B, L, N, D]
    with torch.no_grad():
        torch.testing.assert_close(apply_rotary(x, table), apply_rotary(x.contiguous(), table))


def test_with_gradients_nothing_is_written_over() -> None:
    y = torch.zeros(3)
    assert reusable(y, y) is None
    with torch.no_grad():
        assert reusable(y, y) is y
        assert reusable(y, y.double()) is None  # the sum would be rounded


def filled(model: WanModel) -> WanModel:
    generator = torch.Generator().manual_seed(3)
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.15
    return model.eval()


def test_inference_and_training_give_the_same(piece: None) -> None:
    model = filled(WanModel(CONFIG))
    x, t, context = randn(1, 16, 4, 4, 6), torch.tensor([[0.0, 20.0, 500.0, 999.0]]), randn(1, 5, 24)
    before = x.clone()
    trained = model(x, t, context, causal_block_size=2)
    with torch.inference_mode():
        made = model(x, t, context, causal_block_size=2)
    torch.testing.assert_close(made, trained.detach(), rtol=1e-4, atol=1e-4)
    assert torch.equal(x, before)
    trained.sum().backward()  # the table that inference has seen serves here too
    model(x, t, context).sum().backward()
    assert all(parameter.grad is not None for parameter in model.blocks.parameters())


@pytest.mark.parametrize("block_tokens", [0, 12])
def test_a_block_is_one_graph_for_torch_compile(block_tokens: int) -> None:
    model = filled(WanModel(CONFIG))
    block = model.blocks[0]
    inputs = BlockInputs(
        modulation=randn(1, 4, 6, 48), rotary=rotary_table((4, 2, 3), 24), context=randn(1, 5, 48), image_tokens=None,
        block_tokens=block_tokens,
    )  # fmt: skip
    x = randn(1, 24, 48)
    with torch.no_grad():
        expected = block(x, inputs)
        compiled = torch.compile(block, backend="eager", fullgraph=True)  # fails where the graph would break
        torch.testing.assert_close(compiled(x, inputs), expected, rtol=1e-4, atol=1e-4)
