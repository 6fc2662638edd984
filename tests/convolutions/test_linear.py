"""A fully connected layer whose products come from the fastest library: F.linear in every respect but time."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from fastgan import tuning
from fastgan.convolutions import linear as op
from fastgan.convolutions import products, rules
from tests.accuracy import assert_as_accurate

# oneDNN has no products in bfloat16 for processors without instructions for them.
BFLOAT16 = pytest.param(
    torch.bfloat16,
    marks=pytest.mark.skipif(
        not products.onednn_works(torch.bfloat16), reason="oneDNN multiplies no bfloat16 on this processor"
    ),
)


@pytest.fixture
def used(monkeypatch):
    """Takes oneDNN for every product; counts them."""
    calls = []
    assert products.onednn_works(torch.float32)
    monkeypatch.setattr(rules, "LEAST_WEIGHT", 0)
    monkeypatch.setattr(tuning, "choice", lambda question, key, default: "onednn")
    monkeypatch.setattr(products, "onednn", lambda *a, f=products.onednn: calls.append(1) or f(*a))
    return calls


def operands(dtype=torch.float32, rows=(6,), bias=True, inputs=24, outputs=10):
    shapes = (*rows, inputs), (outputs, inputs), (outputs,)
    made = [torch.randn(shape, dtype=torch.float64).to(dtype) for shape in shapes]
    return made if bias else [*made[:2], None]


def derivatives(function, tensors, order=1):
    leaves = [t.detach().clone().requires_grad_() for t in tensors if t is not None]
    y = function(*leaves)
    weights = torch.linspace(-1, 1, y.numel(), dtype=torch.float64).view_as(y).to(y.dtype)
    first = torch.autograd.grad((y * weights).sum(), leaves, create_graph=order == 2)
    if order == 1:
        return [y.detach(), *first]
    return [y, *first, *torch.autograd.grad(sum(g.square().sum() for g in first), leaves, materialize_grads=True)]


@pytest.mark.parametrize("dtype", [torch.float32, BFLOAT16])
@pytest.mark.parametrize("rows", [(6,), (3, 2), (1,), (2, 1, 4)])
@pytest.mark.parametrize("bias", [True, False])
def test_as_accurate_as_pytorch(dtype, rows, bias, used):
    tensors = operands(dtype, rows, bias)
    results = derivatives(op.linear, tensors), derivatives(F.linear, tensors)
    assert len(used) == 3
    exact = derivatives(F.linear, [t if t is None else t.double() for t in tensors])
    assert_as_accurate(*results, exact, ["y", "x", "weight", "bias"][: len(exact)])
    assert [t.stride() for t in results[0]] == [t.stride() for t in results[1]]


def test_r1_penalty(used):
    tensors = operands()
    assert_close(derivatives(op.linear, tensors, 2), derivatives(F.linear, tensors, 2), rtol=1e-4, atol=1e-3)
    assert len(used) == 1


@pytest.mark.parametrize("dtype", [BFLOAT16])
def test_autocast(dtype, used):
    tensors, results = operands(), []
    for function in (op.linear, F.linear):
        leaves = [t.clone().requires_grad_() for t in tensors]
        with torch.autocast("cpu", dtype):
            y = function(*leaves)
        results.append([y, *torch.autograd.grad(y.float().square().sum(), leaves)])
    for o, t in zip(*results):
        assert o.dtype is t.dtype
        assert_close(o, t, rtol=0.03, atol=0.03 * t.abs().max().item())
    assert len(used) == 3


def test_only_what_is_needed(used):
    x, weight, bias = operands()
    op.linear(x, weight.requires_grad_(), bias).sum().backward()
    assert len(used) == 2
    with torch.no_grad():
        op.linear(x, weight, bias)
    assert len(used) == 3


def test_left_to_pytorch(used):
    x, weight, bias = operands()
    for good in ((x.double(), weight.double(), bias.double()), (x[0], weight, bias), (x[:0], weight, bias)):
        assert torch.equal(op.linear(*good), F.linear(*good))
    for bad in ((x[:, 1:], weight, bias), (x, weight, bias[:3]), (x.double(), weight, bias)):
        with pytest.raises(RuntimeError):
            op.linear(*bad)
    torch._dynamo.reset()
    compiled = torch.compile(op.linear, fullgraph=True, backend="aot_eager")
    assert_close(compiled(x, weight, bias), F.linear(x, weight, bias))
    assert used == []


def test_pytorchs_where_nothing_was_measured(monkeypatch, tmp_path):
    monkeypatch.setenv("FASTGAN_CACHE", str(tmp_path))
    monkeypatch.setattr(rules, "LEAST_WEIGHT", 0)
    tuning.forget()
    monkeypatch.setattr(op._Linear, "apply", lambda *a: pytest.fail("not measured"))
    tensors = operands()
    assert torch.equal(op.linear(*tensors), F.linear(*tensors))
    tuning.forget()
