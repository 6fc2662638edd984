"""Convolutions after upsampling and before pooling."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations
from torch.nn.utils.parametrizations import spectral_norm
from torch.testing import assert_close

from fastgan import explain, fuse
from fastgan.convolutions import merged, rules
from tests.fusion.comparing import assert_same


@pytest.fixture
def ran(monkeypatch):
    """The names of what ran in place of pairs."""
    names = []
    for name in ("resize", "pool"):
        original = getattr(merged, name)
        monkeypatch.setattr(merged, name, lambda *a, f=original, n=name: (names.append(n), f(*a))[1])
    return names


class Up(nn.Module):
    """The block of SNGAN's generator."""

    def __init__(self, wrap=lambda conv: conv):
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(3), nn.BatchNorm2d(4)
        self.conv1, self.conv2 = wrap(nn.Conv2d(3, 4, 3, padding=1)), wrap(nn.Conv2d(4, 4, 3, padding=1))
        self.shortcut = wrap(nn.Conv2d(3, 4, 1))

    def forward(self, x):
        h = self.conv1(F.interpolate(F.relu(self.norm1(x)), scale_factor=2))
        return self.conv2(F.relu(self.norm2(h))) + self.shortcut(F.interpolate(x, scale_factor=2))


class Down(nn.Module):
    """The block of SNGAN's discriminator."""

    def __init__(self, wrap=parametrizations.spectral_norm):
        super().__init__()
        self.conv1, self.conv2 = wrap(nn.Conv2d(3, 4, 3, padding=1)), wrap(nn.Conv2d(4, 4, 3, padding=1))
        self.shortcut, self.pool = wrap(nn.Conv2d(3, 4, 1)), nn.AvgPool2d(2)

    def forward(self, x):
        return F.avg_pool2d(self.conv2(F.relu(self.conv1(x))), 2) + self.pool(self.shortcut(x))


def image(size=6):
    return torch.randn(2, 3, size, size, dtype=torch.float64, requires_grad=True)


def two(make):
    models = []
    for _ in range(2):
        torch.manual_seed(0)
        models.append(make().double())
    return fuse(models[0]), models[1]


@pytest.mark.parametrize("wrap", [lambda conv: conv, parametrizations.spectral_norm, parametrizations.weight_norm,
                                  nn.utils.spectral_norm])  # fmt: skip
def test_residual_blocks(wrap, ran):
    for kind, size, name in ((Up, 3, "resize"), (Down, 7, "pool")):
        fused, plain = two(lambda kind=kind: kind(wrap))
        assert_same(fused, plain, image(size), passes=3)
        assert ran == [name] * 3
        ran.clear()


def test_a_point_convolution_runs_on_the_smaller_map():
    sizes = []
    fused, plain = two(lambda: nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(3, 4, 1),
                                             nn.Conv2d(4, 3, 1), nn.AvgPool2d(3, 2)))  # fmt: skip
    x = image()
    assert_same(fused, plain, x)
    original = F.conv2d

    def convolve(self, given, weight, bias):
        sizes.append(given.shape[2])
        return original(given, weight, bias)

    for conv in (fused[1], fused[2]):
        type(conv)._conv_forward, kept = convolve, type(conv)._conv_forward
        try:
            sizes.clear()
            fused(x)
        finally:
            type(conv)._conv_forward = kept
    assert sizes == [6, 5]


def test_is_one_place_and_the_norm_after_it_another():
    network = nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(),
                            nn.Conv2d(4, 4, 5, padding=2), nn.AvgPool2d(2))  # fmt: skip
    report = explain(fuse(network))
    assert [(row.path, row.pattern, row.kernel.split()[0]) for row in report] == [
        ("1", "Upsample -> Conv2d", "resize_conv"),
        ("2", "Conv2d -> BatchNorm2d -> ReLU", "norm_act"),
        ("4", "Conv2d -> AvgPool2d", "conv_pool"),
    ]
    assert report["1"].fused
    assert "backend is torch" in explain(fuse(network, backend="torch"))["1"].reason


class Between(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.conv = nn.Upsample(scale_factor=2), parametrizations.spectral_norm(nn.Conv2d(3, 3, 3, padding=1))

    def forward(self, x):
        h = self.up(x)
        return self.conv(x).mean() + self.conv(h)


class Twice(Between):
    def forward(self, x):
        h = self.up(x)
        return self.conv(h) + h


def up(*arguments, conv=None, **options):
    return nn.Sequential(nn.Upsample(*arguments, **options), conv or nn.Conv2d(3, 3, 3, padding=1))


def pool(*arguments, conv=None, **options):
    return nn.Sequential(conv or nn.Conv2d(3, 3, 3, padding=1), nn.AvgPool2d(*arguments, **options))


LEFT = {
    "bilinear": (lambda: up(scale_factor=2, mode="bilinear"), "the upsampling is bilinear"),
    "three": (lambda: up(scale_factor=3), "scale_factor=3.0; 2 is fused"),
    "size": (lambda: up(size=12), "with scale_factor=2 it is fused"),
    "even": (lambda: up(scale_factor=2, conv=nn.Conv2d(3, 3, 4, padding=1)), "kernel of the convolution is even"),
    "padding": (lambda: up(scale_factor=2, conv=nn.Conv2d(3, 3, 3)), r"padding \(0, 0\), where \(1, 1\) keeps"),
    "reflect": (lambda: up(scale_factor=2, conv=nn.Conv2d(3, 3, 3, padding=1, padding_mode="reflect")), "'reflect'"),
    "dilation": (lambda: pool(2, conv=nn.Conv2d(3, 3, 3, padding=2, dilation=2)), "has dilation"),
    "stride": (lambda: pool(2, conv=nn.Conv2d(3, 3, 3, 2, 1)), "has stride"),
    "ceil": (lambda: pool(2, ceil_mode=True), "ceil_mode=True"),
    "pool padding": (lambda: pool(2, padding=1), "the pooling has padding 1"),
    "divisor": (lambda: pool(2, divisor_override=3), "divisor_override=3"),
    "overlapping": (lambda: pool(3, 2), r"kernel_size \(3, 3\) and stride \(2, 2\)"),
    "between": (Between, "something else runs between"),
    "used twice": (Twice, "the output of the upsampling is used 2 times"),
}  # fmt: skip


@pytest.mark.parametrize("name", LEFT)
def test_left_alone(name, ran):
    make, reason = LEFT[name]
    fused, plain = two(make)
    (row,) = (row for row in explain(fused) if "ample" in row.pattern or "Pool" in row.pattern)
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(row.reason)
    assert_same(fused, plain, image())
    assert ran == []


CHANGES = {
    "mode": lambda m: setattr(m[0], "mode", "bilinear"),
    "scale": lambda m: setattr(m[0], "scale_factor", 3.0),
    "hook": lambda m: m[0].register_forward_hook(lambda module, args, out: out * 2),
    "hook of the convolution": lambda m: m[1].register_forward_pre_hook(lambda module, args: (args[0] * 2,)),
    "padding": lambda m: setattr(m[1], "padding", (0, 0)),
    "ceil_mode": lambda m: setattr(m[3], "ceil_mode", True),
    "pool": lambda m: m.__setitem__(3, nn.MaxPool2d(2)),
    "weights": lambda m: m[1].weight.data.mul_(2),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_later_changes_take_effect(name, ran):
    fused, plain = two(lambda: nn.Sequential(*up(scale_factor=2), *pool(2)))
    for model in (fused, plain):
        CHANGES[name](model)
    assert_same(fused, plain, image(5), passes=1)
    expected = {"weights": ["resize", "pool"], "ceil_mode": ["resize"], "pool": ["resize"]}
    assert ran == expected.get(name, ["pool"])


def test_errors_stay_pytorchs():
    for make, x in ((lambda: up(scale_factor=2), image().float()), (lambda: pool(2), image()[:, :, :1]),
                    (lambda: pool(2), image()[:, :2])):  # fmt: skip
        messages = []
        for model in two(make):
            with pytest.raises(RuntimeError) as caught:
                model(x)
            messages.append(str(caught.value))
        assert messages[0] == messages[1]


def test_a_weight_is_computed_once_where_pytorch_refuses():
    for make, size in ((up, {"scale_factor": 2}), (pool, {"kernel_size": 2})):
        states = []
        for model in two(lambda make=make, size=size: make(conv=spectral_norm(nn.Conv2d(3, 3, 3, padding=1)), **size)):
            with pytest.raises(RuntimeError):
                model(image().float())
            states.append(dict(model.state_dict()))
        assert_close(*states)


def test_small_batches_run_as_before(ran, monkeypatch):
    monkeypatch.setattr(merged, "LEAST", dict.fromkeys(merged.LEAST, rules.Least(73, 100, 0)))
    fused, _ = two(lambda: up(scale_factor=2))
    with torch.no_grad():
        fused(image())
    fused(image())
    assert ran == []
    fused(image(7))
    assert ran == ["resize"]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_autocast(dtype, ran):
    fused, plain = two(lambda: nn.Sequential(*up(scale_factor=2), *pool(2), nn.Upsample(scale_factor=2),
                                             nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), nn.AvgPool2d(2)))  # fmt: skip
    fused.float(), plain.float()
    with torch.autocast("cpu", torch.bfloat16):
        ours, theirs = fused(image().to(dtype)), plain(image().to(dtype))
    assert ours.dtype == theirs.dtype == torch.bfloat16
    assert ran == ["resize", "pool"]


def test_in_tools(ran):
    network = nn.Sequential(*up(scale_factor=2), *pool(2))
    fused, x = fuse(copy.deepcopy(network)), torch.randn(2, 3, 6, 6)
    torch._dynamo.reset()
    assert_close(torch.compile(fused, fullgraph=True, backend="aot_eager")(x), network(x), rtol=1e-4, atol=1e-5)
    exported = torch.export.export(fused, (x,))
    assert "upsample_nearest2d" in exported.graph_module.code
    assert torch.equal(torch.jit.trace(fused, x)(x), network(x))
