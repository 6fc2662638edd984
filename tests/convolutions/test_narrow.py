"""Convolutions between an image and a wide map: the same numbers, from sums over the wide map's channels."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.testing import assert_close

import fastgan
from fastgan.convolutions import convolution, narrow, rules
from fastgan.convolutions.products import Layer
from tests.accuracy import assert_as_accurate, assert_same_bits_for_any_number_of_threads
from tests.convolutions.ways import OPS, on, own_cache, theirs, watched

LAST = torch.channels_last

# images, wide channels, the image's, size of the large map, kernel, stride, padding, whether the image is the large map
GANS = [
    (4, 64, 3, (24, 24), (9, 9), (1, 1), (4, 4), False),
    (2, 64, 3, (40, 40), (7, 7), (1, 1), (3, 3), False),
    (8, 64, 3, (32, 32), (4, 4), (2, 2), (1, 1), True),
    (8, 64, 1, (32, 32), (4, 4), (2, 2), (1, 1), True),
    (4, 128, 3, (16, 16), (3, 3), (1, 1), (1, 1), False),
    (4, 128, 3, (16, 16), (3, 3), (1, 1), (1, 1), True),
    (8, 16, 1, (28, 28), (5, 5), (2, 2), (2, 2), True),
]
# Borders, sizes that fill no vector or block, strides that differ, taps that meet nothing.
ODD = [
    (2, 17, 3, (9, 6), (4, 4), (2, 2), (1, 1), True),
    (2, 17, 3, (9, 6), (4, 4), (2, 2), (1, 1), False),
    (1, 33, 2, (7, 5), (4, 3), (2, 1), (0, 2), True),
    (3, 31, 4, (8, 8), (5, 5), (3, 3), (3, 3), True),
    (3, 64, 4, (8, 11), (5, 2), (3, 2), (4, 1), False),
    (1, 40, 1, (1, 3), (1, 1), (1, 1), (0, 0), False),
    (2, 100, 3, (6, 6), (1, 1), (2, 2), (0, 0), True),
    (5, 16, 3, (3, 3), (3, 3), (1, 1), (2, 2), True),
    (1, 48, 2, (20, 37), (16, 16), (5, 5), (7, 9), False),
    (1, 130, 1, (2, 2), (4, 4), (2, 2), (1, 1), True),
]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    yield from own_cache(narrow, tmp_path, monkeypatch)


@pytest.fixture
def used(monkeypatch):
    """Takes this way for every product that it can compute; says which were."""
    return watched(monkeypatch, narrow, "narrow")


def data(case, dtype, weight_last=True):
    """layer, large, small, weight"""
    images, wide, few, (height, width), kernel, stride, padding, large = case
    h, w = ((size + 2 * p - k) // s + 1 for size, k, s, p in zip((height, width), kernel, stride, padding))
    small, large = (wide, few) if large else (few, wide)
    torch.manual_seed(0)
    layer = Layer(images, small, large, h, w, height, width, *kernel, *stride, *padding, dtype, True, weight_last)
    maps = torch.randn(images, large, height, width), torch.randn(images, small, h, w)
    weight = torch.randn(small, large, *kernel) / 10
    weight = weight.to(dtype, memory_format=LAST if weight_last else torch.contiguous_format)
    return layer, *(t.to(dtype, memory_format=LAST) for t in maps), weight


def ours(layer, large, small, weight):
    """Those of the three products that there are kernels for, by name."""
    can = narrow.possible(layer)
    made = {"weight_gradient": narrow.weight_gradient(small, large, layer)}
    if can[0]:
        made["correlate"] = narrow.correlate(large, weight, None, layer)
    if can[1]:
        made["spread"] = narrow.spread(small, weight, None, layer)
    assert can[2]
    return made


def products(layer, *tensors):
    return dict(zip(OPS, theirs(layer, *tensors)))


@pytest.mark.every_instruction_set
@pytest.mark.parametrize("case", GANS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_as_accurate_as_pytorch(case, dtype):
    layer, *tensors = data(case, dtype)
    got, torchs, exact = (
        ours(layer, *tensors),
        products(layer, *tensors),
        products(layer, *(t.double() for t in tensors)),
    )
    assert len(got) == 2
    assert_as_accurate(*([made[name] for name in got] for made in (got, torchs, exact)), list(got))
    for name, o in got.items():
        error, own = ((t.double() - exact[name]).square().mean().sqrt() for t in (o, torchs[name]))
        assert error <= 2 * own + 1e-7 * exact[name].square().mean().sqrt()


@pytest.mark.every_instruction_set
@pytest.mark.parametrize("case", ODD, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("weight_last", [True, False])
def test_any_size_and_channels(case, dtype, weight_last, poisoned):
    layer, *tensors = data(case, dtype, weight_last)
    exact = products(layer, *(t.double() for t in tensors))
    tolerance = {torch.float32: 1e-6, torch.bfloat16: 5e-3}[dtype]
    for name, o in ours(layer, *tensors).items():
        e = exact[name]
        assert o.is_contiguous(memory_format=LAST)
        assert o.dtype == dtype
        assert_close(o.double(), e, rtol=tolerance, atol=tolerance * max(e.abs().max().item(), 1e-3))


@pytest.mark.parametrize("case", [GANS[0], GANS[2], ODD[3], ODD[8]], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bits_do_not_depend_on_threads(case, dtype):
    layer, *tensors = data(case, dtype)
    assert_same_bits_for_any_number_of_threads(lambda: ours(layer, *tensors))


def test_not_finite():
    """What is not finite stays in the pixels that see it; a border is no number."""
    layer, large, _, weight = data(GANS[4], torch.float32)
    large[0, 5, 8, 8] = float("nan")
    large[1, 5, 0, 0] = float("inf")
    y, expected = narrow.correlate(large, weight, None, layer), F.conv2d(large, weight, None, 1, 1)
    assert torch.equal(y.isfinite(), expected.isfinite())


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("image_in", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
class TestConvolution:
    """conv2d and conv_transpose2d in this way, into an image and out of one."""

    def make(self, transposed, image_in, dtype, last=(True, True)):
        channels = (3, 40) if image_in else (40, 3)
        torch.manual_seed(0)
        weight = torch.randn(*(channels if transposed else channels[::-1]), 4, 4) / 10
        formats = [LAST if flag else torch.contiguous_format for flag in last]
        x = torch.randn(3, channels[0], 9, 8)
        tensors = [x.to(dtype, memory_format=formats[0]), weight.to(dtype, memory_format=formats[1])]
        tensors.append(torch.randn(channels[1]).to(dtype))
        functions = (convolution.conv_transpose2d, F.conv_transpose2d) if transposed else (convolution.conv2d, F.conv2d)
        return *functions, tensors

    def derivatives(self, function, tensors, order=1):
        leaves = [t.detach().clone().requires_grad_() for t in tensors]
        y = function(*leaves, 2, 1)
        weights = torch.linspace(-1, 1, y.numel(), dtype=torch.float64).view_as(y).to(y.dtype)
        first = torch.autograd.grad((y * weights).sum(), leaves, create_graph=order == 2)
        if order == 1:
            return [y.detach(), *first]
        return [y.detach(), *first, *torch.autograd.grad(sum(g.square().sum() for g in first[:2]), leaves[:2])]

    def test_gradients(self, transposed, image_in, dtype, used):
        mine, torchs, tensors = self.make(transposed, image_in, dtype)
        results = [self.derivatives(f, tensors) for f in (mine, torchs)]
        large = image_in is not transposed  # the image is the large map
        assert sorted(used.calls) == ["spread" if large else "correlate", "weight_gradient"]
        exact = self.derivatives(torchs, [t.double() for t in tensors])
        assert_as_accurate(*results, exact, ["y", "x", "weight", "bias"])
        for o, t in zip(*results):
            assert o.stride() == t.stride()
            assert o.dtype == t.dtype

    def test_second_gradients(self, transposed, image_in, dtype, used):
        """Of a penalty: the gradients of gradients are PyTorch's convolutions."""
        mine, torchs, tensors = self.make(transposed, image_in, dtype)
        results = [self.derivatives(f, tensors, 2) for f in (mine, torchs)]
        assert used.calls == ([] if image_in else ["spread" if transposed else "correlate"])
        exact = self.derivatives(torchs, [t.double() for t in tensors], 2)
        if dtype is torch.float32:
            assert_as_accurate(*results, exact, ["y", "x", "weight", "bias", "second x", "second weight"])
        else:
            for o, e in zip(results[0], exact):
                assert_close(o.double(), e, rtol=0, atol=0.05 * e.abs().max().item())

    def test_layouts(self, transposed, image_in, dtype, used):
        for last in ((True, False), (False, True), (False, False)):
            used.calls.clear()
            mine, torchs, tensors = self.make(transposed, image_in, dtype, last)
            results = [self.derivatives(f, tensors) for f in (mine, torchs)]
            assert len(used.calls) == (2 if any(last) else 0)
            for o, t in zip(*results):
                assert_close(
                    o, t, rtol=0, atol={torch.float32: 1e-5, torch.bfloat16: 2e-2}[dtype] * t.abs().max().item()
                )
            assert results[0][0].stride() == results[1][0].stride()

    def test_autocast(self, transposed, image_in, dtype, used):
        mine, torchs, tensors = self.make(transposed, image_in, torch.float32)
        results = []
        for function in (mine, torchs):
            with torch.autocast("cpu", torch.bfloat16):
                results.append(self.derivatives(function, tensors))
        assert len(used.calls) == 2
        for o, t in zip(*results):
            assert o.dtype == t.dtype
            assert_close(o, t, rtol=0, atol=2e-2 * t.abs().max().item())

    def test_left_to_pytorch(self, transposed, image_in, dtype, used):
        mine, torchs, (x, weight, bias) = self.make(transposed, image_in, dtype)
        for tensors in ((x[:0], weight, bias), (x.double(), weight.double(), bias.double())):
            assert torch.equal(mine(*tensors, 2, 1), torchs(*tensors, 2, 1))
        assert used.calls == []

    def test_compile(self, transposed, image_in, dtype, used):
        mine, torchs, tensors = self.make(transposed, image_in, dtype)
        torch._dynamo.reset()
        compiled = torch.compile(lambda *t: mine(*t, 2, 1), fullgraph=True, backend="aot_eager")
        assert_close(compiled(*tensors), torchs(*tensors, 2, 1), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("channels", [(1, 32), (32, 1)])
def test_grey_images(channels, used):
    """Whose layout is both at once."""
    torch.manual_seed(0)
    conv = nn.Conv2d(*channels, 3, padding=1)
    x, results = torch.randn(4, channels[0], 8, 8), []
    for function in (convolution.conv2d, F.conv2d):
        leaves = [t.clone().requires_grad_() for t in (x.to(memory_format=LAST), conv.weight, conv.bias)]
        y = function(*leaves, 1, 1)
        results.append((y, *torch.autograd.grad(y.square().sum(), leaves)))
    assert_close(*results, rtol=1e-4, atol=1e-4)
    assert len(used.calls) == 2


@pytest.mark.parametrize("case", [GANS[0], GANS[3], ODD[2], ODD[8]], ids=str)
def test_shape_functions(case):
    layer, *tensors = data(case, torch.float32)
    real = ours(layer, *tensors)
    with FakeTensorMode() as mode:
        fake = ours(layer, *(mode.from_tensor(t) for t in tensors))
    for name, a in real.items():
        b = fake[name]
        assert (a.shape, a.stride(), a.dtype) == (b.shape, b.stride(), b.dtype)


def test_what_is_possible(monkeypatch):
    layer = data(GANS[0], torch.float32)[0]
    assert narrow.possible(layer) == (True, False, True)
    assert narrow.possible(data(GANS[2], torch.bfloat16)[0]) == (False, True, True)
    for change in ({"dtype": torch.float16}, {"channels_last": False}, {"small": 5}, {"large": 15}, {"kernel_w": 17}):
        assert not any(narrow.possible(layer._replace(**change)))
    monkeypatch.setenv("FASTGAN_BACKEND", "torch")
    assert not any(narrow.possible(layer))


def test_chosen_where_it_was_measured(monkeypatch):
    into, out_of = data(GANS[0], torch.float32)[0], data(GANS[2], torch.float32)[0]
    many = out_of._replace(images=64)
    for measured, amx, dtype, chosen in (
        (True, True, torch.float32, True), (True, False, torch.bfloat16, True),
        (True, True, torch.bfloat16, False), (False, False, torch.float32, False),
    ):  # fmt: skip
        on(monkeypatch, *(["avx512", "bfloat16"] if measured else []), *(["amx"] if amx else []))
        way = "narrow" if chosen else "torch"
        assert rules.fastest(into._replace(dtype=dtype)) == (way, "torch", way)
        gradient = way if dtype is torch.float32 else "torch"
        assert rules.fastest(many._replace(dtype=dtype)) == ("torch", way, gradient)
        assert rules.fastest(out_of._replace(dtype=dtype))[2] == "torch"


def test_memory_stays_safe():
    """What Python would never ask."""
    x, weight = (torch.randn(shape).to(memory_format=LAST) for shape in ((2, 20, 8, 8), (3, 20, 4, 4)))
    call = torch.ops.fastgan.narrow_correlate
    bad = [
        (x.double(), weight, None, 2, 2, 1, 1), (x, weight.bfloat16(), None, 2, 2, 1, 1),
        (x, weight[:, :2], None, 2, 2, 1, 1), (x.contiguous(), weight, None, 2, 2, 1, 1),
        (x, weight, torch.ones(2), 2, 2, 1, 1), (x, weight, None, 0, 2, 1, 1), (x, weight, None, 2, 2, -1, 1),
        (x[:0], weight, None, 2, 2, 1, 1), (x[:, :, :1], weight, None, 2, 2, 0, 0),
        (x, torch.randn(5, 20, 4, 4), None, 2, 2, 1, 1), (x, torch.randn(3, 20, 17, 4), None, 2, 2, 9, 1),
    ]  # fmt: skip
    for arguments in bad:
        with pytest.raises(RuntimeError):
            call(*arguments)
    with pytest.raises(RuntimeError):
        torch.ops.fastgan.narrow_spread(x, weight.transpose(0, 1), None, 2, 2, 1, 1, 0, 8)
    with pytest.raises(RuntimeError):
        torch.ops.fastgan.narrow_weight_gradient(x[:1], x[:, :3].contiguous(memory_format=LAST), 4, 4, 2, 2, 1, 1)


def test_fuse_and_tune(monkeypatch):
    monkeypatch.setattr(rules, "fastest", lambda layer: ("narrow",) * 3)
    network = nn.Sequential(nn.Conv2d(64, 3, 3, 1, 1), nn.Tanh()).to(memory_format=LAST)
    x = torch.randn(64, 64, 8, 8).to(memory_format=LAST)
    plain = network(x).detach()
    calls = []
    original = narrow.correlate
    monkeypatch.setattr(narrow, "correlate", lambda *args: calls.append(1) or original(*args))
    assert_close(fastgan.fuse(network)(x), plain, rtol=1e-4, atol=1e-4)
    assert calls
    report = fastgan.tune(network, x, rounds=1)
    assert len([row for row in report if row.op.startswith("convolution.")]) == 3
