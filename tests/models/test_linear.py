"""Linear layers by oneDNN and by torch: what they give, and what their gradients are, against NumPy in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from pyws.models.backbones import linear as module
from pyws.models.backbones.linear import linear


@pytest.fixture
def any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small products too."""
    monkeypatch.setattr(module, "_LARGE", 0)


@pytest.fixture(params=[True, False])
def avx512(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the processor is taken for one that has AVX-512, where oneDNN multiplies."""
    monkeypatch.setattr(module, "_has_avx512", lambda: request.param)
    return request.param


def expected(
    rows: np.ndarray, weight: np.ndarray, bias: np.ndarray, gradient: np.ndarray, relu: bool, grown: np.ndarray
):
    made = rows @ weight.T + bias
    if relu:
        grown = grown * (made > 0)
    gradient = gradient * grown
    return made * grown, gradient @ weight, gradient.T @ rows, gradient.sum(0)


@pytest.mark.parametrize(("relu", "share"), [(False, None), (True, None), (True, 0.4)])
@pytest.mark.parametrize("shape", [(1, 1, 1), (7, 5, 3), (40, 64, 1), (33, 48, 130)])
@pytest.mark.usefixtures("any_size", "avx512")
def test_products_and_gradients(shape: tuple[int, int, int], relu: bool, share: float | None) -> None:
    count, inputs, outputs = shape
    draw = np.random.default_rng(count)
    arrays = [draw.normal(size=size) for size in ((count, inputs), (outputs, inputs), outputs, (count, outputs))]
    rows, weight, bias = (torch.tensor(one, dtype=torch.float32, requires_grad=True) for one in arrays[:3])
    noise = torch.rand(count, outputs)
    made = linear(rows, weight, bias, relu, None if share is None else (noise, share))
    assert "_Linear" in type(made.grad_fn).__name__
    made.backward(torch.tensor(arrays[3], dtype=torch.float32))
    grown = np.ones((count, outputs)) if share is None else (noise.numpy() < np.float32(share)) / share
    wanted = expected(*(one.astype(np.float32).astype(np.float64) for one in arrays), relu, grown)
    for found, one in zip((made.detach(), rows.grad, weight.grad, bias.grad), wanted, strict=True):
        np.testing.assert_allclose(found.numpy(), one, atol=1e-5, rtol=1e-5)


@pytest.mark.usefixtures("any_size", "avx512")
def test_strided_rows_and_weights_that_need_no_gradient() -> None:
    wide, tall = torch.rand(6, 20), torch.rand(10, 4)
    rows, weight = wide[:, 3:13], tall.T.requires_grad_()
    linear(rows, weight).sum().backward()
    assert torch.allclose(linear(rows, weight), functional.linear(rows, weight), atol=1e-6)
    assert torch.allclose(weight.grad, rows.sum(0).expand(4, 10), atol=1e-5)
    assert not linear(rows, weight.detach()).requires_grad


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_types_and_small_products_are_torchs_own(dtype: torch.dtype) -> None:
    rows, weight, bias = torch.randn(3, 4).to(dtype), torch.randn(5, 4).to(dtype), torch.randn(5).to(dtype)
    assert torch.equal(linear(rows, weight, bias), functional.linear(rows, weight, bias))
    made = functional.linear(rows, weight, bias).relu()
    assert torch.equal(linear(rows, weight, bias, relu=True), made)
    noise = torch.rand(3, 5)
    assert torch.equal(linear(rows, weight, bias, relu=True, kept=(noise, 0.5)), 2 * made * (noise < 0.5))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Shapes of the first factors that oneDNN multiplies."""
    shapes: list[tuple[int, ...]] = []
    made = module._of_onednn

    def noted(a: torch.Tensor, *others: object) -> torch.Tensor:
        assert a.is_contiguous()
        shapes.append(tuple(a.shape))
        return made(a, *others)

    module._works()
    monkeypatch.setattr(module, "_of_onednn", noted)
    return shapes


@pytest.mark.usefixtures("any_size")
def test_onednn_multiplies_where_there_is_avx512(avx512: bool, asked: list[tuple[int, ...]]) -> None:
    rows, weight = torch.randn(3, 4, requires_grad=True), torch.randn(5, 4, requires_grad=True)
    linear(rows, weight).square().sum().backward()
    assert asked == ([(3, 4), (3, 5), (5, 3)] if avx512 else [])


@pytest.mark.parametrize("lacks", ["is_available", "enabled"])
@pytest.mark.usefixtures("any_size")
def test_without_onednn_torch_does_it(lacks: str, asked: list, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_has_avx512", lambda: True)
    monkeypatch.setattr(torch.backends.mkldnn, lacks, (lambda: False) if lacks == "is_available" else False)
    rows, weight = torch.randn(3, 4), torch.randn(5, 4, requires_grad=True)
    assert torch.equal(linear(rows, weight), functional.linear(rows, weight))
    assert asked == []


@pytest.mark.parametrize("error", [AttributeError, RuntimeError, TypeError])
@pytest.mark.usefixtures("any_size")
def test_a_torch_without_the_operation_as_it_is_called_does_it_itself(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def changed(*_: object) -> None:
        raise error("no such operation, or another signature")

    monkeypatch.setattr(module, "_has_avx512", lambda: True)
    monkeypatch.setattr(module, "_of_onednn", changed)
    monkeypatch.setattr(module, "_works", module._works.__wrapped__)
    rows, weight = torch.randn(3, 4), torch.randn(5, 4, requires_grad=True)
    assert torch.equal(linear(rows, weight), functional.linear(rows, weight))


@pytest.mark.parametrize(("capability", "has"), [("AVX512", True), ("AVX2", False), ("DEFAULT", False)])
def test_avx512_is_what_torch_says_it_has(capability: str, has: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert module._has_avx512.__wrapped__() is has
