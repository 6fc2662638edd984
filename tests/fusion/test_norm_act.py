"""Norms that are left to PyTorch, or fused without an activation: why, and that nothing changes."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from fastgan import explain, fuse, ops


class Norm(nn.BatchNorm2d):
    def forward(self, x):
        return super().forward(x) * 2


def hooked(kind):
    network = nn.Sequential(nn.BatchNorm2d(3), nn.ReLU())
    network[0 if kind is nn.BatchNorm2d else 1].register_forward_hook(lambda module, args, out: out + 1)
    return network


def parametrized():
    network = nn.Sequential(nn.BatchNorm2d(3), nn.ReLU())
    nn.utils.parametrizations.weight_norm(network[0], dim=None)
    return network


def replaced_forward():
    network = nn.Sequential(nn.BatchNorm2d(3), nn.ReLU())
    network[0].forward = lambda x: x * 2
    return network


class Skip(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.act = nn.BatchNorm2d(3), nn.ReLU(inplace=True)

    def forward(self, x):
        h = self.norm(x)
        return self.act(h) + h  # in place, so h is the activation's output here


class StatementInPlace(Skip):
    def forward(self, x):
        h = self.norm(x)
        F.relu(h, inplace=True)
        return h


class Returned(Skip):
    def forward(self, x):
        h = self.norm(x)
        return self.act(h), h


class DropoutFunction(Skip):
    def forward(self, x):
        return F.relu(F.dropout(self.norm(x), 0.0, self.training))


class FunctionalNorm(Skip):
    def forward(self, x):
        return F.relu(F.batch_norm(x, self.norm.running_mean, self.norm.running_var))


class ComputedSlope(Skip):
    def forward(self, x):
        return F.leaky_relu(self.norm(x), x.shape[1] * 0.1)


STEPS = {
    "own norm": (lambda: nn.Sequential(Norm(3), nn.ReLU()), "a subclass of BatchNorm2d with code of its own"),
    "hook on the norm": (lambda: hooked(nn.BatchNorm2d), "BatchNorm2d has a hook"),
    "parametrized norm": (parametrized, "the BatchNorm2d is parametrized"),
    "replaced forward": (replaced_forward, "has another forward than PyTorch's"),
    "functional norm": (FunctionalNorm, "a functional norm"),
}

# The norm is fused without what follows it, or comes before it.
ALONE = {
    "activation first": (lambda: nn.Sequential(nn.ReLU(), nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1)),
                         "ReLU -> BatchNorm2d", "the activation comes before the norm"),
    "dropout between": (lambda: nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(0.0), nn.ReLU()),
                        "BatchNorm2d", "dropout between the norm and the activation"),
    "dropout function between": (DropoutFunction, "BatchNorm2d", "dropout between the norm and the activation"),
    "dropout after": (lambda: nn.Sequential(nn.BatchNorm2d(3), nn.Dropout2d(0.0)),
                      "BatchNorm2d", "the norm is followed by Dropout2d, not by an activation"),
    "convolution after": (lambda: nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1)),
                          "BatchNorm2d", "the norm is followed by Conv2d, not by an activation"),
    "last": (lambda: nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)),
             "Conv2d -> BatchNorm2d", "no activation follows the norm in this forward"),
    "alone": (lambda: nn.Sequential(nn.InstanceNorm2d(3)),
              "InstanceNorm2d", "no activation follows the norm in this forward"),
    "unknown activation": (lambda: nn.Sequential(nn.BatchNorm2d(3), nn.GELU()), "BatchNorm2d", "no kernel for GELU"),
    "hook on the activation": (lambda: hooked(nn.ReLU), "BatchNorm2d", "ReLU has a hook"),
    "used again": (Skip, "BatchNorm2d", "the output of the norm is used 2 times"),
    "in place as a statement": (StatementInPlace, "BatchNorm2d", "the output of the norm is used 2 times"),
    "returned too": (Returned, "BatchNorm2d", "the output of the norm is used 2 times"),
    "slope from a shape": (ComputedSlope, "BatchNorm2d", "the slope of the activation is computed in the forward"),
}  # fmt: skip


class TestSteps:
    @pytest.mark.parametrize("name", STEPS)
    def test_says_why(self, name, pair):
        make, reason = STEPS[name]
        network = make()
        kinds = [type(m) for m in network.modules()]
        (row,) = explain(network)
        assert reason in row.reason
        fused, plain = pair(network)
        assert [type(m) for m in network.modules()] == kinds
        x = torch.randn(2, 3, 4, 4)
        for _ in range(2):
            assert_close(fused(x.clone()), plain(x.clone()), rtol=0, atol=0)
        (row,) = explain(network)
        assert reason in row.reason
        assert not row.fused

    @pytest.mark.parametrize("name", ALONE)
    def test_norm_alone(self, name, pair, op):
        make, pattern, note = ALONE[name]
        network = make().double()
        (row,) = explain(network)
        assert (row.pattern, row.note, row.reason) == (pattern, note, "not fused yet")
        fused, plain = pair(network)
        (row,) = explain(fused)
        assert (row.pattern, row.note) == (pattern, note)
        assert row.fused == (op.expected(1) == 1)
        for training in (True, True, False):
            results = []
            for model in (fused.train(training), plain.train(training)):
                torch.manual_seed(1)
                x = torch.randn(4, 3, 5, 5, dtype=torch.float64, requires_grad=True)
                output = model(x * 1)
                parameters = [p for p in model.parameters() if p.requires_grad]
                loss = sum(t.square().sum() for t in (output if isinstance(output, tuple) else (output,)))
                (grad,) = torch.autograd.grad(loss, x, create_graph=True)
                second = torch.autograd.grad(grad.square().sum() + loss, [x, *parameters], allow_unused=True)
                results.append((output, grad, second, dict(model.state_dict())))
            assert_close(*results, rtol=1e-9, atol=1e-9)
        assert op.take() == op.expected(3)

    def test_result_of_a_norm_alone_is_its_own(self):
        """With running statistics of 0 and 1 and without eps the result has the values of the input, not its memory."""
        network = fuse(nn.Sequential(nn.BatchNorm2d(3, eps=1e-30, affine=False))).eval()
        x = torch.randn(2, 3, 4, 4)
        y = network(x)
        assert torch.equal(x, y)
        y.zero_()
        assert x.any()

    def test_lazy_norm(self):
        network = nn.Sequential(nn.LazyConv2d(4, 1), nn.LazyBatchNorm2d(), nn.ReLU())
        assert "not initialised" in explain(fuse(network))["1"].reason
        network(torch.randn(2, 3, 4, 4))
        assert not explain(network)["1"].fused
        assert explain(network)["1"].reason == "not fused yet"

    def test_norm_by_itself(self):
        norm = fuse(nn.BatchNorm2d(3))
        assert type(norm) is nn.BatchNorm2d
        assert len(explain(norm)) == 0


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("padded", [True, False])
def test_instance_norms_keep_channels_last_for_a_convolution(last, padded):
    """Where nobody else sees the layout; the result and its layout are PyTorch's."""
    pad = [nn.ReflectionPad2d(1)] if padded else []
    plain = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.InstanceNorm2d(8), nn.ReLU(), *pad, nn.Conv2d(8, 4, 3), nn.InstanceNorm2d(4)
    ).double()
    if last:
        plain = plain.to(memory_format=torch.channels_last)
    network, layouts = fuse(copy.deepcopy(plain)), []
    conv = network[-2]
    forward = conv._conv_forward
    conv._conv_forward = lambda x, *rest: layouts.append(x.is_contiguous()) or forward(x, *rest)
    x = torch.randn(2, 3, 12, 12, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    y, expected = network(x), plain(x)
    torch.testing.assert_close(y, expected)
    assert y.stride() == expected.stride()
    assert layouts == [not last]
    for a, b in zip(
        torch.autograd.grad(y.pow(3).sum(), network.parameters()),
        torch.autograd.grad(expected.pow(3).sum(), plain.parameters()),
    ):
        torch.testing.assert_close(a, b)


class Added(nn.Module):
    """A residual block that adds the result of its last norm to what it got, or the other way round."""

    def __init__(self, first: bool) -> None:
        super().__init__()
        self.conv, self.norm, self.first = nn.Conv2d(3, 3, 3, padding=1), nn.InstanceNorm2d(3, affine=True), first

    def forward(self, x):
        y = self.norm(self.conv(x))
        return x + y if self.first else y + x


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("first", [True, False])
def test_instance_norms_keep_channels_last_for_a_sum(last, first, monkeypatch):
    """Where the other operand, which comes first, decides about the layout of the sum."""
    plain = Added(first).double()
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    if last:
        plain, x = plain.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)
    network, layouts = fuse(copy.deepcopy(plain)), []
    norm_act = ops.norm_act
    monkeypatch.setattr(ops, "norm_act", lambda x, *a, **k: layouts.append(x.is_contiguous()) or norm_act(x, *a, **k))
    y, expected = network(x), plain(x)
    torch.testing.assert_close(y, expected)
    assert y.stride() == expected.stride()
    assert layouts in ([not (last and first)], [])  # none without kernels
    for a, b in zip(
        torch.autograd.grad(y.pow(3).sum(), network.parameters()),
        torch.autograd.grad(expected.pow(3).sum(), plain.parameters()),
    ):
        torch.testing.assert_close(a, b)
