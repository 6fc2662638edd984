"""Convolutions before an activation that are left to PyTorch: why, and that nothing changes."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from fastgan import backend, explain, fuse
from tests.fusion.comparing import assert_same
from tests.fusion.convolution_networks import Doubled, convolution, image, small, two

pytestmark = pytest.mark.usefixtures("bias_op")
native = pytest.mark.skipif(backend.choose("bias_act", "cpu") != "native", reason="needs the compiled op")


class Overwrites(nn.Module):
    """Something overwrites the result of an activation that is not in place. PyTorch allows it after leaky_relu, elu
    and silu, which keep what they get for the backward pass."""

    def __init__(self, act):
        super().__init__()
        self.conv, self.act, self.drop = convolution(), act, nn.Dropout(0.0)
        self.block = nn.Sequential(convolution(), copy.deepcopy(act))

    def forward(self, x):
        h = self.act(self.conv(x))
        h += x
        return h


class ThroughView(Overwrites):
    def forward(self, x):
        h = self.act(self.conv(x))
        h.view(-1).mul_(2)
        return h


class ThroughModule(Overwrites):
    def forward(self, x):
        return F.relu(self.drop(self.act(self.conv(x))), inplace=True)


class Outside(Overwrites):
    def forward(self, x):
        h = self.block(x)
        h += x
        return h


class Escapes(Overwrites):
    def forward(self, x):
        h = self.act(self.conv(x))
        return h * 2, h


class Read(Overwrites):
    def forward(self, x):
        h = self.act(self.conv(x))
        shortcut = F.avg_pool2d(h.flatten(2).view(h.shape), 2)
        return shortcut.sum() + self.conv(h) + self.block(self.drop(h))


class TestOverwrittenLater:
    @pytest.mark.parametrize("act", [nn.LeakyReLU(0.2), nn.ELU(), nn.SiLU()], ids=lambda act: type(act).__name__)
    @pytest.mark.parametrize("kind", [Overwrites, ThroughView, ThroughModule, Outside, Escapes])
    def test_as_pytorch_allows(self, kind, act, bias_op):
        fused, plain = two(lambda: kind(act).double())
        assert_same(fused, plain, image())
        assert (bias_op.take() > 0) == isinstance(act, nn.SiLU)
        if not isinstance(act, nn.SiLU):
            reasons = {row.reason for row in explain(fused) if row.kind == "place"}
            assert len(reasons) == 1
            assert "may be overwritten later" in reasons.pop()

    def test_only_read(self, bias_op):
        fused, plain = two(lambda: Read(nn.LeakyReLU(0.2)).double())
        assert_same(fused, plain, image(), passes=1)
        assert bias_op.take() == 1  # the block leaves its forward with its result

    def test_next_in_a_sequential(self, bias_op):
        for after, count in ((convolution(), 1), (nn.Identity(), 0), (nn.ReLU(), 1), (nn.ReLU(inplace=True), 0),
                             (nn.Sequential(convolution()), 1), (nn.Sequential(nn.ReLU(inplace=True)), 0)):  # fmt: skip
            fused, plain = two(
                lambda after=after: nn.Sequential(convolution(), nn.ELU(), copy.deepcopy(after)).double()
            )
            assert_same(fused, plain, image(), passes=1)
            assert bias_op.take() == count, after


class Own(nn.Conv2d):
    def forward(self, x):
        return super().forward(x) * 2


def parametrized(name, parametrization, conv=nn.Conv2d):
    made = convolution(conv)
    parametrize.register_parametrization(made, name, parametrization)
    return made


def hooked(network, index):
    network[index].register_forward_hook(lambda module, args, out: out + 1)
    return network


class UsedTwice(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.act = convolution(), nn.ReLU()

    def forward(self, x):
        h = self.conv(x)
        return self.act(h) + h


class Sized(UsedTwice):
    def __init__(self):
        super().__init__()
        self.conv = nn.ConvTranspose2d(3, 3, 2, 2)

    def forward(self, x):
        return self.act(self.conv(x, (13, 13)))


LEFT = {
    "no bias, in place": (lambda: small(nn.ReLU(True), convolution(bias=False)), "the convolution has no bias"),
    "half precision": (lambda: small().bfloat16(), "nothing to gain: in bfloat16 the convolution keeps its bias"),
    "no bias, silu": (lambda: small(nn.SiLU(), convolution(bias=False)), "the convolution has no bias"),
    "other act": (lambda: small(nn.GELU()), "no kernel for GELU"),
    "own": (lambda: small(conv=Own(3, 3, 3)), "Own is a subclass of Conv2d with code of its own"),
    "orthogonal": (lambda: small(conv=parametrizations.orthogonal(convolution())), "parametrized by _Orthogonal"),
    "doubled": (lambda: small(conv=parametrized("weight", Doubled())), "of the Conv2d is parametrized by Doubled"),
    "bias": (lambda: small(conv=parametrized("bias", Doubled())), "the bias of the Conv2d is parametrized"),
    "own parametrized": (lambda: small(conv=parametrized("weight", Doubled(), Own)), "the Own is parametrized"),
    "hook": (lambda: hooked(small(), 0), "Conv2d has a hook"),
    "hook of the act": (lambda: hooked(small(), 1), "ReLU has a hook"),
    "used twice": (lambda: UsedTwice().double(), "the output of the convolution is used 2 times"),
    "size": (lambda: Sized().double(), "called with something else than one tensor"),
    "end": (lambda: small(nn.LeakyReLU(0.1)), "with inplace=True it is fused"),
}  # fmt: skip


class TestLeftAlone:
    @pytest.mark.parametrize("name", LEFT)
    def test_says_why(self, name, bias_op):
        make, reason = LEFT[name]
        fused, plain = two(make)
        kinds = [type(module) for module in plain.modules()]
        assert [type(m).__name__ for m in fused.modules()] == [kind.__name__ for kind in kinds]
        (row,) = explain(fused)
        assert reason in row.reason
        assert not row.fused
        x = image().to(next(plain.parameters()).dtype)
        assert torch.equal(fused(x), plain(x))
        assert bias_op.take() == 0

    def test_not_a_pattern(self):
        assert len(explain(nn.Sequential(convolution(), nn.Identity(), convolution()))) == 0
        assert len(explain(nn.Sequential(nn.Linear(3, 3), nn.ReLU()))) == 0

    def test_not_initialised(self):
        network = nn.Sequential(nn.LazyConv2d(3, 1), nn.ReLU())
        assert "not initialised" in explain(network)["0"].reason
        network(torch.randn(2, 3, 4, 4))
        assert explain(network)["0"].kernel

    def test_conv_norm_act_is_one_place(self):
        (row,) = explain(nn.Sequential(convolution(), nn.BatchNorm2d(3), nn.ReLU()))
        assert row.kernel.startswith("norm_act")

    def test_conv_act_norm_are_two(self):
        rows = explain(nn.Sequential(convolution(), nn.ReLU(), nn.BatchNorm2d(3)))
        assert [row.kernel.split()[0] for row in rows] == ["bias_act", "norm_act"]
        assert rows["2"].note == "the activation comes before the norm"

    def test_half_precision_is_left_at_each_call(self, bias_op):
        fused, _ = two(lambda: small().float())
        fused(image().float())
        assert bias_op.take() == 1
        fused.bfloat16()(image().bfloat16())
        assert bias_op.take() == 0
        fused.float()
        for dtype in (torch.bfloat16, torch.float16):
            with torch.autocast("cpu", dtype):
                fused(image().float())
        assert bias_op.take() == 0
        fused(image().float())
        assert bias_op.take() == 1

    def test_report(self):
        (row,) = explain(fuse(small()))
        assert row.fused
        assert row.pattern == "Conv2d -> ReLU"
        assert row.kernel == "bias_act (native)"

    def test_named_backend(self, bias_op):
        fuse(small(), backend="torch")(image())
        assert bias_op.take() == 0
