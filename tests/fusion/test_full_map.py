"""A convolution whose kernel covers the map, and a transposed one of single elements, as a matrix product."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from fastgan import explain, fuse
from fastgan.fusion.patterns import full_map
from tests.accuracy import assert_as_accurate


@pytest.fixture
def products(monkeypatch):
    """The shapes of the matrix products that were made in place of a convolution."""
    shapes = []

    class Functions:
        def __getattr__(self, name):
            return getattr(F, name)

        def linear(self, x, weight, bias):
            shapes.append((*x.shape, weight.shape[0]))
            return F.linear(x, weight, bias)

    monkeypatch.setattr(full_map, "F", Functions())
    return shapes


def network(bias=False, last=False, dtype=torch.float64) -> nn.Module:
    """The ends of a DCGAN: (N, 5, 1, 1) -> (N, 6, 4, 4) -> (N, 3, 1, 1)."""
    made = nn.Sequential(nn.ConvTranspose2d(5, 6, 4, bias=bias), nn.Tanh(), nn.Conv2d(6, 3, 4, bias=bias)).to(dtype)
    return made.to(memory_format=torch.channels_last) if last else made


def derivatives(model, x, order=2):
    """The output and the gradients; for order 2, those of their squared norm as well."""
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    leaves = [x, *model.parameters()]
    y = model(x)
    grads = torch.autograd.grad((y * torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)).sum(), leaves,
                                create_graph=order == 2)  # fmt: skip
    if order == 1:
        return [y, *grads]
    return [y, *grads, *torch.autograd.grad(sum(g.square().sum() for g in grads), leaves, materialize_grads=True)]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("batch", [1, 4])
def test_same_to_the_second_derivative(bias, last, batch, products):
    model = network(bias, last)
    plain, x = copy.deepcopy(model), torch.randn(batch, 5, 1, 1, dtype=torch.float64)
    ours, theirs = derivatives(fuse(model), x), derivatives(plain, x)
    assert products == [(batch, 5, 96), (batch, 96, 3)]
    assert_close(ours, theirs, rtol=1e-9, atol=1e-11)
    if batch > 1:
        assert model[0](x).stride() == plain[0](x).stride()


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("map_last", [True, False])
def test_layouts_of_map_and_weight(last, map_last, products):
    conv = nn.Conv2d(6, 3, 4).double().to(memory_format=torch.channels_last if last else torch.contiguous_format)
    model, x = fuse(nn.Sequential(copy.deepcopy(conv))), torch.randn(4, 6, 4, 4, dtype=torch.float64)
    for case in (x.to(memory_format=torch.channels_last if map_last else torch.contiguous_format), x.transpose(2, 3)):
        assert_close(derivatives(model, case), derivatives(conv, case), rtol=1e-9, atol=1e-11)
    assert len(products) == 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("last", [True, False])
def test_as_accurate_as_pytorch(dtype, last, products):
    plain = nn.Sequential(nn.Conv2d(24, 8, 4)).to(dtype)
    plain = plain.to(memory_format=torch.channels_last) if last else plain
    model, x = fuse(copy.deepcopy(plain)), torch.randn(16, 24, 4, 4).to(dtype)
    ours, theirs = derivatives(model, x, 1), derivatives(plain, x, 1)
    assert len(products) == 1
    exact = derivatives(plain.double(), x.double(), 1)
    assert_as_accurate(ours, theirs, exact, ["y", "x", "weight", "bias"])


def test_autocast(products):
    model = network(True, dtype=torch.float32)
    plain, x = copy.deepcopy(model), torch.randn(4, 5, 1, 1)
    fuse(model)
    with torch.autocast("cpu", torch.bfloat16):
        ours, theirs = model(x), plain(x)
    assert ours.dtype == theirs.dtype == torch.bfloat16
    assert_close(ours, theirs, rtol=3e-2, atol=3e-2)
    assert len(products) == 2


def test_other_maps_are_convolved(products):
    model = network(True)
    plain = copy.deepcopy(model)
    fuse(model)
    for size in (2, 3):
        x = torch.randn(2, 5, size, size, dtype=torch.float64)
        assert_close(model(x), plain(x))
    assert products == []
    with pytest.raises(RuntimeError, match="channels"):
        model(torch.randn(2, 7, 1, 1, dtype=torch.float64))


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(6, 4, 4, padding=1), nn.Conv2d(6, 4, 3), nn.Conv2d(6, 4, 4, groups=2), nn.Conv2d(6, 4, 4, dilation=2),
        nn.ConvTranspose2d(6, 4, 4, 2), nn.ConvTranspose2d(6, 4, 1), nn.ConvTranspose2d(6, 4, 4, padding=1),
        nn.utils.parametrizations.spectral_norm(nn.Conv2d(6, 4, 4)), nn.utils.spectral_norm(nn.Conv2d(6, 4, 4)),
    ],
    ids=str,
)  # fmt: skip
def test_not_the_shape(conv):
    assert len(explain(fuse(nn.Sequential(conv)))) == 0


def test_hooks_and_settings_are_read_at_each_call(products):
    model = fuse(network())
    x = torch.randn(2, 5, 1, 1, dtype=torch.float64)
    handle = model[2].register_forward_hook(lambda module, args, output: output * 0)
    assert not model(x).any()
    handle.remove()
    assert model(x).any()
    model[2].padding = (1, 1)
    assert model(x).shape == (2, 3, 3, 3)
    assert [shape[-1] for shape in products] == [96, 96, 3, 96]


def test_backend_torch_leaves_the_convolution(products):
    model = fuse(network(), backend="torch")
    model(torch.randn(2, 5, 1, 1, dtype=torch.float64))
    assert products == []
    assert "the backend is torch" in explain(model)["0"].reason


def test_compile_without_a_break():
    model = fuse(network(True))
    x = torch.randn(4, 5, 1, 1, dtype=torch.float64)
    torch._dynamo.reset()
    assert_close(torch.compile(model, fullgraph=True, backend="aot_eager")(x), model(x))
