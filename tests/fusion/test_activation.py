"""Activations that PyTorch takes long for, alone: in one op where that computes the same."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fastgan import explain, fuse
from fastgan.fusion.patterns import bias_act
from tests.fusion.comparing import assert_same
from tests.fusion.convolution_networks import two


def image(*shape):
    torch.manual_seed(3)
    return torch.randn(shape or (2, 3, 6, 6), dtype=torch.float64, requires_grad=True)


def sequential(*layers):
    return lambda: copy.deepcopy(nn.Sequential(*layers)).double()


class Sum(nn.Module):
    """An activation of a sum, whose result `after` gets."""

    def __init__(self, act, after=lambda y: y * 2):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.act, self.after = act, after

    def forward(self, x):
        return self.after(self.act(x + self.conv(x)))


class Shared(nn.Module):
    """An activation that overwrites what another step reads."""

    def __init__(self):
        super().__init__()
        self.linear, self.act = nn.Linear(6, 6), nn.ELU(inplace=True)

    def forward(self, x):
        z = self.linear(x)
        return self.act(z) + 2 * z


FUSED = {
    "linear": (sequential(nn.Linear(6, 5), nn.ELU(inplace=True), nn.Linear(5, 4), nn.Tanh()), image(3, 6), 2),
    "after upsampling": (sequential(nn.Upsample(scale_factor=3), nn.Tanh()), image(), 1),
    "after resize_conv": (
        sequential(nn.Upsample(scale_factor=2), nn.Conv2d(3, 4, 3, padding=1), nn.ELU(0.7, inplace=True)), image(), 1
    ),
    "first": (sequential(nn.Tanh(), nn.Conv2d(3, 3, 1)), image(), 1),
    "of a sum": (lambda: Sum(nn.Tanh()).double(), image(), 1),
    "read only": (lambda: Sum(nn.ELU()).double(), image(), 1),
    "functions": (lambda: Sum(torch.tanh, lambda y: F.elu(y + 1, 0.3) * 2).double(), image(), 2),
}  # fmt: skip
LEFT = {
    "in place of what another reads": lambda: Shared().double(),
    "in place of a sum": lambda: Sum(nn.ELU(inplace=True)).double(),
    "a result that may be overwritten": lambda: Sum(nn.ELU(), lambda y: y).double(),
    "cheap": lambda: Sum(nn.LeakyReLU(0.2)).double(),
    "unknown": lambda: Sum(nn.GELU()).double(),
}


@pytest.mark.parametrize("name", FUSED)
def test_fused(name, bias_op):
    network, x, count = FUSED[name]
    fused, plain = two(network)
    assert_same(fused, plain, x, passes=2)
    assert bias_op.take() == 2 * count
    assert sum(row.kernel.startswith("bias_act") for row in explain(fused)) == count


@pytest.mark.parametrize("name", LEFT)
def test_left_alone(name, bias_op):
    fused, plain = two(LEFT[name])
    bias_op.take()
    assert_same(fused, plain, image(), passes=2)
    assert bias_op.take() == 0


@pytest.mark.parametrize("act", [nn.ELU(inplace=True), nn.Tanh()], ids=["elu", "tanh"])
class TestWhen:
    def both(self, act):
        return two(sequential(nn.Linear(6, 6), act))

    def test_small_ones_are_pytorchs(self, act, bias_op, monkeypatch):
        fused, plain = self.both(act)
        for least, count in ((18, 1), (19, 0)):
            monkeypatch.setattr(bias_act, "LEAST_ELEMENTS", (10**9, least))
            assert_same(fused, plain, image(3, 6), passes=1)
            assert bias_op.take() == count

    def test_float64_is_pytorchs(self, act, bias_op, monkeypatch):
        monkeypatch.setattr(bias_act, "SLOW_IN_FLOAT64", ("elu", "tanh"))
        fused, plain = self.both(act)
        assert_same(fused, plain, image(3, 6), passes=1)
        assert bias_op.take() == 0

    def test_another_place_than_it_was(self, act, bias_op):
        """Whether it overwrites what it gets may change after fuse."""
        fused, plain = self.both(act)
        for model in (fused, plain):
            model[1] = nn.ELU(inplace=type(act) is nn.Tanh)
        assert_same(fused, plain, image(3, 6), passes=1)
        assert bias_op.take() == 0

    def test_hooks(self, act, bias_op):
        fused, plain = self.both(act)
        for model in (fused, plain):
            model[1].register_forward_hook(lambda module, args, y: y * 2)
        assert_same(fused, plain, image(3, 6), passes=1)
        assert bias_op.take() == 0

    @pytest.mark.parametrize("x", [torch.randn(6), torch.randn(0, 6), torch.randn(4, 6, 6).transpose(0, 1)], ids=str)
    def test_shapes_and_layouts(self, act, x):
        fused, plain = two(sequential(nn.Identity(), nn.Linear(6, 6), act))
        assert_same(fused, plain, x.double().requires_grad_(), passes=1)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
    def test_autocast_and_dtypes(self, act, dtype, bias_op):
        fused, plain = (model.to(dtype) for model in two(sequential(nn.Linear(6, 6), act)))
        x = image(3, 6).detach().to(dtype)
        assert fused(x).dtype == dtype
        torch.testing.assert_close(fused(x), plain(x), rtol=2e-2, atol=1e-2)
        with torch.autocast("cpu", torch.bfloat16):
            results = fused(x), plain(x)
        assert results[0].dtype == results[1].dtype
        torch.testing.assert_close(*results, rtol=2e-2, atol=1e-2)
        assert bias_op.take() == 3


def test_a_leaf_that_requires_a_gradient(bias_op):
    """An activation in place cannot have it: PyTorch's error."""
    network = fuse(nn.Sequential(nn.Upsample(scale_factor=1), nn.ELU(inplace=True)).double())
    x = image()
    y = network(x)
    y.sum().backward()
    assert x.grad is not None
