"""Winograd's method: the same numbers as a convolution, from fewer multiplications."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.testing import assert_close

import fastgan
from fastgan.convolutions import convolution, rules, winograd
from fastgan.convolutions.products import Layer
from tests.accuracy import assert_as_accurate, assert_same_bits_for_any_number_of_threads
from tests.convolutions.ways import OPS, on, own_cache, theirs, watched

# images, channels of the large map, of the small one, size of the large map, kernel, stride, padding
DCGAN = [
    (8, 64, 128, (32, 32), 4, 2, 1),
    (16, 128, 256, (16, 16), 4, 2, 1),
    (64, 256, 512, (8, 8), 4, 2, 1),
]
OTHERS = [
    (4, 128, 128, (16, 16), 3, 1, 1),
    (1, 256, 256, (34, 34), 3, 1, 0),
    (8, 64, 64, (24, 24), 3, 1, 1),
    (8, 64, 128, (16, 16), 5, 2, 2),
    (3, 70, 65, (9, 12), 6, 2, 2),
    (4, 65, 130, (7, 6), 2, 1, 1),
    (4, 128, 256, (8, 8), 4, 1, 1),
    (1, 256, 512, (32, 32), 4, 1, 1),
]
# What the kernels cut up: borders, odd sizes, one channel, channels that fill no vector, one image, one pixel.
ODD = [
    (2, 3, 4, (9, 6), 4, 2, 1),
    (1, 1, 3, (7, 5), 4, 2, 0),
    (3, 5, 7, (8, 8), 4, 2, 3),
    (2, 3, 4, (7, 7), 3, 1, 0),
    (1, 2, 3, (5, 4), 3, 1, 2),
    (2, 17, 33, (3, 3), 3, 1, 0),
    (2, 5, 3, (11, 12), 9, 3, 4),
    (5, 6, 1, (1, 1), 2, 1, 1),
    (1, 130, 2, (6, 40), 6, 3, 1),
    (2, 3, 4, (9, 6), 5, 2, 2),
    (2, 17, 33, (6, 9), 5, 2, 0),
    (1, 4, 5, (8, 8), 5, 2, 4),
    (3, 2, 3, (5, 5), 5, 2, 0),
    (2, 3, 4, (9, 6), 4, 1, 1),
    (2, 17, 33, (4, 5), 4, 1, 0),
    (3, 5, 1, (1, 2), 4, 1, 3),
    (1, 33, 2, (6, 7), 4, 1, 2),
]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    yield from own_cache(winograd, tmp_path, monkeypatch)


@pytest.fixture
def used(monkeypatch):
    """Takes Winograd's method for every product that it can compute; says which were."""
    monkeypatch.setattr(rules, "LEAST_WEIGHT", 0)
    return watched(monkeypatch, winograd, "winograd")


def layer_of(case, weight_last=True):
    images, large, small, (height, width), kernel, stride, padding = case
    h, w = ((size + 2 * padding - kernel) // stride + 1 for size in (height, width))
    return Layer(
        *(images, small, large, h, w, height, width, kernel, kernel),
        *(stride, stride, padding, padding, torch.float32, True, weight_last),
    )


def data(case, weight_last=True):
    """large, small, weight as the kernels take them"""
    torch.manual_seed(0)
    layer = layer_of(case, weight_last)
    large = torch.randn(layer.images, layer.large, layer.height, layer.width)
    small = torch.randn(layer.images, layer.small, *layer.size)
    weight = torch.randn(layer.small, layer.large, *layer.kernel) / 30
    last = torch.channels_last
    weight = weight.to(memory_format=last if weight_last else torch.contiguous_format)
    return layer, large.to(memory_format=last), small.to(memory_format=last), weight


def ours(layer, large, small, weight):
    return [
        winograd.correlate(large, weight, None, layer),
        winograd.spread(small, weight, None, layer),
        winograd.weight_gradient(small, large, layer),
    ]


@pytest.mark.parametrize("case", DCGAN + OTHERS, ids=str)
def test_as_accurate_as_pytorch(case):
    layer, *tensors = data(case)
    exact = theirs(layer, *(t.double() for t in tensors))
    results = ours(layer, *tensors), theirs(layer, *tensors)
    assert_as_accurate(*results, exact, OPS)
    slack = 0 if case in DCGAN else 1e-7  # of few terms PyTorch's error is a rounding or two
    for o, t, e in zip(*results, exact):
        assert (o - e).square().mean().sqrt() <= 2 * (t - e).square().mean().sqrt() + slack * e.square().mean().sqrt()


@pytest.mark.every_instruction_set
@pytest.mark.parametrize("case", ODD, ids=str)
@pytest.mark.parametrize("weight_last", [True, False])
def test_any_size_and_channels(case, weight_last, poisoned):
    layer, *tensors = data(case, weight_last)
    assert winograd.possible(layer)
    exact = theirs(layer, *(t.double() for t in tensors))
    for o, e in zip(ours(layer, *tensors), exact):
        assert o.is_contiguous(memory_format=torch.channels_last)
        assert_close(o.double(), e, rtol=0, atol=2e-6 * e.abs().max().item())


def test_whole_numbers_are_exact():
    """The transforms of a 4x4 kernel only add, those of 3x3 halve: what fits float32 comes out in the bits."""
    for case in (DCGAN[2], OTHERS[0], OTHERS[6]):
        layer, *tensors = data(case)
        tensors = [(t * factor).round() * 4 for t, factor in zip(tensors, (2, 2, 60))]
        for o, e in zip(ours(layer, *tensors), theirs(layer, *(t.double() for t in tensors))):
            assert torch.equal(o.double(), e)


@pytest.mark.parametrize("case", [DCGAN[1], OTHERS[0], OTHERS[6], ODD[0], ODD[7]], ids=str)
def test_bits_do_not_depend_on_threads(case):
    layer, *tensors = data(case)
    assert_same_bits_for_any_number_of_threads(lambda: ours(layer, *tensors))


def derivatives(function, tensors, settings, order=1):
    leaves = [t.detach().clone().requires_grad_() for t in tensors]
    y = function(*leaves, *settings)
    weights = torch.linspace(-1, 1, y.numel(), dtype=torch.float64).view_as(y).to(y.dtype)
    first = torch.autograd.grad((y * weights).sum(), leaves, create_graph=order == 2)
    if order == 1:
        return [y.detach(), *first]
    return [y.detach(), *first, *torch.autograd.grad(sum(g.square().sum() for g in first[:2]), leaves[:2])]


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("settings", [(2, 1), (1, 1), (2, 2), (1, 2)], ids=str)
class TestConvolution:
    """conv2d and conv_transpose2d in this way."""

    def make(self, transposed, settings, last=(True, True), channels=(20, 33)):
        kernel = {(2, 1): 4, (1, 1): 3, (2, 2): 5, (1, 2): 4}[settings]
        torch.manual_seed(0)
        shape = (*(channels if transposed else channels[::-1]), kernel, kernel)
        formats = [torch.channels_last if flag else torch.contiguous_format for flag in last]
        x, weight = torch.randn(3, channels[0], 9, 8), torch.randn(shape) / 30
        tensors = [x.to(memory_format=formats[0]), weight.to(memory_format=formats[1]), torch.randn(channels[1])]
        functions = (convolution.conv_transpose2d, F.conv_transpose2d) if transposed else (convolution.conv2d, F.conv2d)
        return *functions, tensors

    def test_gradients(self, transposed, settings, used):
        mine, torchs, tensors = self.make(transposed, settings)
        results = [derivatives(f, tensors, settings) for f in (mine, torchs)]
        assert sorted(used.calls) == sorted(OPS)
        exact = derivatives(torchs, [t.double() for t in tensors], settings)
        assert_as_accurate(*results, exact, ["y", "x", "weight", "bias"])
        for o, t in zip(*results):
            assert o.stride() == t.stride()

    def test_second_gradients(self, transposed, settings, used):
        """Of a penalty: the gradients of gradients are PyTorch's convolutions."""
        mine, torchs, tensors = self.make(transposed, settings)
        results = [derivatives(f, tensors, settings, 2) for f in (mine, torchs)]
        assert used.calls == ["spread" if transposed else "correlate"]
        exact = derivatives(torchs, [t.double() for t in tensors], settings, 2)
        names = ["y", "x", "weight", "bias", "second x", "second weight"]
        assert_as_accurate(*results, exact, names)

    def test_layouts(self, transposed, settings, used):
        """One channels_last tensor makes the result so, and the other is converted; without one it is PyTorch's."""
        for last in itertools.product([True, False], repeat=2):
            used.calls.clear()
            mine, torchs, tensors = self.make(transposed, settings, last)
            results = [derivatives(f, tensors, settings) for f in (mine, torchs)]
            assert len(used.calls) == (3 if any(last) else 0)
            assert_close(*results, rtol=1e-4, atol=1e-4)
            assert results[0][0].stride() == results[1][0].stride()

    def test_gradients_in_any_layout(self, transposed, settings, used):
        mine, torchs, tensors = self.make(transposed, settings)
        gradients = []
        for function in (mine, torchs):
            leaves = [t.clone().requires_grad_() for t in tensors]
            y = function(*leaves, *settings)
            torch.manual_seed(1)
            plain = torch.randn(y.shape)
            for g in (torch.ones(()).expand(y.shape), plain, plain.transpose(0, 1).contiguous().transpose(0, 1)):
                gradients.append(torch.autograd.grad(y, leaves, g, retain_graph=True))
        assert_close(gradients[:3], gradients[3:], rtol=1e-4, atol=1e-4)

    def test_left_to_pytorch(self, transposed, settings, used):
        """Empty batches, float64, bfloat16, and sizes that have no kernel."""
        mine, torchs, (x, weight, bias) = self.make(transposed, settings)
        cases = [(x[:0], weight, bias), (x.double(), weight.double(), bias.double()),
                 (x.bfloat16(), weight.bfloat16(), bias.bfloat16())]  # fmt: skip
        for tensors in cases:
            assert torch.equal(mine(*tensors, *settings), torchs(*tensors, *settings))
        assert torch.equal(mine(x, weight[..., :-1], bias, *settings), torchs(x, weight[..., :-1], bias, *settings))
        assert used.calls == []

    def test_compile(self, transposed, settings, used):
        mine, torchs, tensors = self.make(transposed, settings)
        torch._dynamo.reset()
        compiled = torch.compile(lambda *t: mine(*t, *settings), fullgraph=True, backend="aot_eager")
        assert_close(compiled(*tensors), torchs(*tensors, *settings), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("case", [DCGAN[0], ODD[0], ODD[1], ODD[7]], ids=str)
def test_shape_functions(case):
    layer, *tensors = data(case)
    real = ours(layer, *tensors)
    with FakeTensorMode() as mode:
        fake = ours(layer, *(mode.from_tensor(t) for t in tensors))
    for a, b in zip(real, fake):
        assert (a.shape, a.stride(), a.dtype) == (b.shape, b.stride(), b.dtype)


def test_what_is_possible(monkeypatch):
    layer = layer_of(DCGAN[0])
    assert winograd.possible(layer)
    for change in ({"dtype": torch.bfloat16}, {"channels_last": False}, {"kernel_w": 3}, {"stride_h": 1},
                   {"padding_h": 4}, {"kernel_h": 7, "kernel_w": 7}):  # fmt: skip
        assert not winograd.possible(layer._replace(**change))
    monkeypatch.setenv("FASTGAN_BACKEND", "torch")
    assert not winograd.possible(layer)


def test_memory_stays_safe():
    """What Python would never ask."""
    x, weight = (torch.randn(shape).to(memory_format=torch.channels_last) for shape in ((2, 3, 8, 8), (4, 3, 4, 4)))
    call = torch.ops.fastgan.winograd_correlate
    bad = [
        (x.double(), weight, None, 2, 1, 1), (x, weight.double(), None, 2, 1, 1), (x, weight[:, :2], None, 2, 1, 1),
        (x.contiguous(), weight, None, 2, 1, 1), (x, weight, torch.ones(3), 2, 1, 1), (x, weight, None, 3, 1, 1),
        (x, weight, None, 2, 4, 1), (x[:0], weight, None, 2, 1, 1), (x[:, :, :1], weight, None, 2, 0, 0),
        (x, weight, None, 0, 1, 1),
    ]  # fmt: skip
    for arguments in bad:
        with pytest.raises(RuntimeError):
            call(*arguments)


def test_chosen_where_it_was_measured(monkeypatch):
    layer = layer_of(DCGAN[2])
    for features, way in ((["avx512"], "winograd"), ([], "torch")):
        on(monkeypatch, *features)
        assert rules.fastest(layer) == (way,) * 3
        assert "winograd" not in rules.fastest(layer._replace(images=1))


def test_the_strided_5x5_kernel(monkeypatch):
    """Its gains are smaller: the input's gradient pays with more channels."""
    on(monkeypatch, "avx512")
    for channels, spread in ((128, "torch"), (256, "winograd")):
        layer = layer_of((16, 64, channels, (16, 16), 5, 2, 2))
        assert rules.fastest(layer) == ("winograd", spread, "winograd")


def test_fuse_and_tune(monkeypatch):
    on(monkeypatch, "avx512")
    network = nn.Sequential(nn.Conv2d(64, 64, 3, 1, 1), nn.BatchNorm2d(64)).to(memory_format=torch.channels_last)
    x = torch.randn(64, 64, 8, 8).to(memory_format=torch.channels_last)
    plain = network(x).detach()
    calls = []
    original = winograd.correlate
    monkeypatch.setattr(winograd, "correlate", lambda *args: calls.append(1) or original(*args))
    assert_close(fastgan.fuse(network)(x), plain, rtol=1e-4, atol=1e-4)
    assert calls
    report = fastgan.tune(network, x, rounds=1)
    rows = [row for row in report if row.op.startswith("convolution.")]
    assert len(rows) == 3
    assert all("winograd" in row.milliseconds for row in rows)
