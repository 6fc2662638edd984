"""Convolutions whose products come from the fastest library: PyTorch's function in every respect but time."""

from __future__ import annotations

import itertools
import random
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from fastgan import tuning
from fastgan.bench.timing import interleaved
from fastgan.convolutions import convolution, products, rules, winograd
from fastgan.nn import ConvNormAct2d, ConvTransposeNormAct2d
from tests.accuracy import assert_as_accurate
from tests.convolutions.ways import on

WAYS = ("mm", "onednn")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTGAN_CACHE", str(tmp_path))
    tuning.forget()
    yield
    tuning.forget()


def _watched(calls, name, original):
    def watched(*args):
        calls.append(name)
        return original(*args)

    return watched


@pytest.fixture
def used(monkeypatch):
    """Takes one way for every product of every layer; says which products were computed in it."""
    state = SimpleNamespace(way="mm", calls=[])
    monkeypatch.setattr(rules, "LEAST_WEIGHT", 0)
    monkeypatch.setattr(rules, "fastest", lambda layer: (state.way,) * 3)
    for name in ("correlate", "spread", "weight_gradient"):
        monkeypatch.setattr(products, name, _watched(state.calls, name, getattr(products, name)))
    return state


# kernel, stride, padding, map, output_padding of the transposed one
GEOMETRIES = [
    ((4, 4), (2, 2), (1, 1), (8, 8), (0, 0)),
    ((3, 3), (1, 1), (1, 1), (5, 4), (0, 0)),
    ((1, 1), (1, 1), (0, 0), (3, 3), (0, 0)),
    ((5, 5), (2, 2), (2, 2), (7, 9), (1, 1)),
    ((3, 5), (3, 2), (0, 3), (10, 7), (2, 1)),
    ((2, 4), (1, 4), (1, 0), (2, 9), (0, 3)),
    ((4, 4), (3, 1), (3, 3), (3, 5), (1, 0)),
]


def pair(transposed, geometry, dtype, last=True, weight_last=True, bias=True, batch=3, channels=(6, 5)):
    """Our function and PyTorch's with their arguments: x, weight, bias and the settings."""
    kernel, stride, padding, size, more = geometry
    first, second = channels
    x = torch.randn(batch, first, *size, dtype=torch.float64)
    weight = torch.randn(*((first, second) if transposed else (second, first)), *kernel, dtype=torch.float64)
    formats = [torch.channels_last if flag else torch.contiguous_format for flag in (last, weight_last)]
    tensors = [t.to(dtype, memory_format=f) for t, f in zip((x, weight), formats)]
    tensors.append(torch.randn(second, dtype=torch.float64).to(dtype) if bias else None)
    settings = (stride, padding, more) if transposed else (stride, padding)
    functions = (convolution.conv_transpose2d, F.conv_transpose2d) if transposed else (convolution.conv2d, F.conv2d)
    return *functions, tensors, settings


def derivatives(function, tensors, settings, order=1):
    """The result and the gradients of a weighted sum of it; for order 2 also those of the gradients' squares."""
    leaves = [t.detach().clone().requires_grad_() for t in tensors if t is not None]
    y = function(*leaves, *[None] * (3 - len(leaves)), *settings)
    weights = torch.linspace(-1, 1, y.numel(), dtype=torch.float64).view_as(y).to(y.dtype)
    first = torch.autograd.grad((y * weights).sum(), leaves, create_graph=order == 2)
    if order == 1:
        return [y.detach(), *first]
    return [y, *first, *torch.autograd.grad(sum(g.square().sum() for g in first), leaves, materialize_grads=True)]


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("way", WAYS)
class TestSameAsPyTorch:
    @pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    @pytest.mark.parametrize("last", [True, False])
    def test_results_and_layouts(self, transposed, way, geometry, dtype, last, used):
        used.way = way
        ours, theirs, tensors, settings = pair(transposed, geometry, dtype, last, last)
        results = derivatives(ours, tensors, settings), derivatives(theirs, tensors, settings)
        assert sorted(used.calls) == ["correlate", "spread", "weight_gradient"]
        for o, t in zip(*results):
            # Of bfloat16 two units in the last place and a half: both results are rounded, PyTorch's parts too where
            # the processor has no instructions for it.
            tolerance = {torch.float32: 1e-5, torch.bfloat16: 2e-2}[dtype] * t.abs().max().item()
            assert_close(o, t, rtol=0, atol=tolerance)
            assert o.stride() == t.stride() or min(o.shape) == 1

    @pytest.mark.parametrize("geometry", GEOMETRIES[:2], ids=str)
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_as_accurate_at_the_sizes_of_the_rule(self, transposed, way, geometry, dtype, used):
        used.way = way
        ours, theirs, tensors, settings = pair(transposed, geometry, dtype, batch=4, channels=(256, 512))
        results = derivatives(ours, tensors, settings), derivatives(theirs, tensors, settings)
        assert len(used.calls) == 3
        exact = derivatives(theirs, [t.double() for t in tensors], settings)
        assert_as_accurate(*results, exact, ["y", "x", "weight", "bias"])

    @pytest.mark.parametrize("last", [True, False])
    def test_maps_of_one_pixel(self, transposed, way, last, used):
        """Inside a U-Net. The other map has the layout of the weight, as with PyTorch."""
        used.way = way
        size = (1, 1) if transposed else (2, 2)
        geometry = ((4, 4), (2, 2), (1, 1), size, (0, 0))
        ours, theirs, tensors, settings = pair(transposed, geometry, torch.float32, last, last)
        results = derivatives(ours, tensors, settings), derivatives(theirs, tensors, settings)
        assert sorted(used.calls) == ["correlate", "spread", "weight_gradient"]
        assert_close(*results, rtol=1e-4, atol=1e-5)
        layout = torch.channels_last if last else torch.contiguous_format
        assert all(t.is_contiguous(memory_format=layout) for t in results[0] if t.dim() == 4)

    @pytest.mark.parametrize("last", list(itertools.product([True, False], repeat=2)), ids=str)
    def test_layouts(self, transposed, way, last, used):
        used.way = way
        ours, theirs, tensors, settings = pair(transposed, GEOMETRIES[0], torch.float32, *last, bias=False)
        results = derivatives(ours, tensors, settings), derivatives(theirs, tensors, settings)
        assert_close(*results, rtol=1e-4, atol=1e-4)
        assert results[0][0].stride() == results[1][0].stride()
        assert len(used.calls) == 3

    @pytest.mark.parametrize("last", [True, False])
    @pytest.mark.parametrize("bias", [True, False])
    def test_the_result_may_be_overwritten(self, transposed, way, last, bias, used):
        """By an activation in place, as discriminators have them."""
        used.way = way
        ours, theirs, tensors, settings = pair(transposed, GEOMETRIES[0], torch.float32, last, last, bias)
        results = [derivatives(lambda *t, f=f: F.leaky_relu_(f(*t), 0.2), tensors, settings) for f in (ours, theirs)]
        assert len(used.calls) == 3
        assert_close(*results, rtol=1e-4, atol=1e-4)

    def test_gradients_in_any_layout(self, transposed, way, used):
        used.way = way
        ours, theirs, tensors, settings = pair(transposed, GEOMETRIES[0], torch.float32)
        gradients = []
        for function in (ours, theirs):
            leaves = [t.clone().requires_grad_() for t in tensors]
            y = function(*leaves, *settings)
            torch.manual_seed(1)
            contiguous = torch.randn(y.shape)
            for g in (torch.ones(()).expand(y.shape), contiguous, contiguous.transpose(2, 3)):
                gradients.append(torch.autograd.grad(y, leaves, g, retain_graph=True))
        assert_close(gradients[:3], gradients[3:], rtol=1e-4, atol=1e-4)

    def test_buffer_in_pieces(self, transposed, way, used, monkeypatch):
        used.way = way
        monkeypatch.setattr(products, "LARGEST_BUFFER", 3000)
        ours, theirs, tensors, settings = pair(transposed, GEOMETRIES[0], torch.float32, batch=7)
        shapes = []
        windows = products._windows
        monkeypatch.setattr(products, "_windows", lambda *a: shapes.append(out := windows(*a)) or out)
        assert_close(derivatives(ours, tensors, settings), derivatives(theirs, tensors, settings), rtol=1e-4, atol=1e-4)
        assert len(shapes) > 3

    def test_r1_penalty(self, transposed, way, used):
        used.way = way
        ours, theirs, tensors, settings = pair(transposed, GEOMETRIES[0], torch.float32)
        results = derivatives(ours, tensors, settings, 2), derivatives(theirs, tensors, settings, 2)
        assert used.calls == ["spread" if transposed else "correlate"]
        assert len(results[0]) == 7
        assert_close(*results, rtol=1e-3, atol=1e-2)

    def test_only_what_is_needed(self, transposed, way, used):
        used.way = way
        ours, _, (x, weight, bias), settings = pair(transposed, GEOMETRIES[0], torch.float32)
        forward, backward = ("spread", "correlate") if transposed else ("correlate", "spread")
        ours(x.requires_grad_(), weight, bias, *settings).sum().backward()
        assert used.calls == [forward, backward]
        used.calls.clear()
        ours(x.detach(), weight.requires_grad_(), bias, *settings).sum().backward()
        assert used.calls == [forward, "weight_gradient"]
        used.calls.clear()
        assert ours(x.detach(), weight.detach(), bias.requires_grad_(), *settings).sum().backward() is None
        assert bias.grad is not None
        with torch.no_grad():
            assert not ours(x, weight, bias, *settings).requires_grad

    def test_autocast(self, transposed, way, used):
        used.way = way
        ours, theirs, tensors, settings = pair(transposed, GEOMETRIES[0], torch.float32)
        results = []
        for function in (ours, theirs):
            leaves = [t.clone().requires_grad_() for t in tensors]
            with torch.autocast("cpu", torch.bfloat16):
                y = function(*leaves, *settings)
            assert y.dtype is torch.bfloat16
            results.append([y, *torch.autograd.grad(y.float().square().sum(), leaves)])
        assert len(used.calls) == 3
        assert all(g.dtype is torch.float32 for g in results[0][1:])
        for o, t in zip(*results):
            assert_close(o, t, rtol=0.03, atol=0.03 * t.abs().max().item())

    def test_poisoned(self, transposed, way, used, poisoned):
        used.way = way
        ours, _, tensors, settings = pair(transposed, GEOMETRIES[4], torch.float32)
        assert all(t.isfinite().all() for t in derivatives(ours, tensors, settings))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("buffer", [1, 300, 2**24])
def test_products_of_any_shape(way, buffer, monkeypatch):
    """Maps and kernels down to one pixel, one channel, one image, where layouts are ambiguous."""
    monkeypatch.setattr(products, "LARGEST_BUFFER", buffer)
    draw, product, dtype = random.Random(buffer), getattr(products, way), torch.float32
    for _ in range(150):
        kernel = [draw.randint(1, 5) for _ in range(2)]
        stride, padding = ([draw.randint(low, k) for k in kernel] for low in (1, 0))
        size = [draw.randint(k, 9) for k in kernel]
        images, small, large = (draw.randint(1, 5) for _ in range(3))
        last = draw.random() < 0.5
        x = torch.randn(images, large, *size)
        x = x.to(memory_format=torch.channels_last if last else torch.contiguous_format)
        weight, biases = torch.randn(small, large, *kernel), (torch.randn(small), torch.randn(large))
        exact = [t.double() for t in (x, weight, *biases)]  # some of these are wrong in float32 (oneDNN 3.12)
        y = F.conv2d(*exact[:3], stride, padding)
        layer = products.Layer(
            images, small, large, *y.shape[2:], *size, *kernel, *stride, *padding, dtype, last, False
        )
        g = torch.randn(y.shape)
        dx, dw, _ = torch.ops.aten.convolution_backward(
            g.double(), *exact[:2], None, stride, padding, (1, 1), False, (0, 0), 1, (True, True, False)
        )
        ours = (
            products.correlate(x, weight, biases[0], layer, product),
            products.spread(g, weight, biases[1], layer, product),
            products.weight_gradient(g, x, layer, product),
        )
        expected = y, dx + exact[3].view(-1, 1, 1), dw
        assert_close(list(ours), [t.float() for t in expected], rtol=1e-4, atol=1e-4)


def test_padded_map_of_one_column_and_channel():
    x, weight = torch.randn(2, 1, 5, 1), torch.randn(3, 1, 1, 1)
    layer = products.Layer(2, 3, 1, 7, 3, 5, 1, 1, 1, 1, 1, 1, 1, torch.float32, False, False)
    exact = F.conv2d(x.double(), weight.double(), None, 1, 1)
    assert_close(products.correlate(x, weight, None, layer, products.mm), exact.float())


@pytest.mark.parametrize("transposed", [False, True])
class TestLeftToPyTorch:
    def test_errors_are_pytorchs(self, transposed, used):
        ours, theirs, (x, weight, bias), settings = pair(transposed, GEOMETRIES[0], torch.float32)
        bad = [
            (x[:, :2], weight, bias, *settings), (x, weight, bias[:1], *settings), (x, weight, bias, (0, 1)),
            (x.double(), weight, None, *settings), (x, weight, bias.double(), *settings), (x, weight, bias, 2, -1),
            (x[:, :, :1, :1], weight, bias, 1, 7 if transposed else 0),
        ]  # fmt: skip
        for arguments in bad:
            with pytest.raises(RuntimeError) as error:
                theirs(*arguments)
            with pytest.raises(RuntimeError) as ours_:
                ours(*arguments)
            assert str(ours_.value) == str(error.value)
        assert used.calls == []

    def test_what_products_do_not_take(self, transposed, used):
        ours, theirs, (x, weight, bias), settings = pair(transposed, GEOMETRIES[0], torch.float32, channels=(6, 6))
        more = (0, 1, 2) if transposed else (2, 1)  # dilation
        groups = (0, 2) if transposed else (1, 2)
        halved = weight[:, :3]
        cases = [
            (x, weight, bias, 1, 1, *more), (x, halved, None if transposed else bias, 2, 1, *groups),
            (x.double(), weight.double(), bias.double(), *settings), (x[:0], weight, bias, *settings),
            (x[0], weight, bias, *settings), (x.transpose(2, 3)[:, :, ::2], weight, bias, *settings),
            (x, weight, bias, 5, 1),
        ]  # fmt: skip
        for arguments in cases:
            assert torch.equal(ours(*arguments), theirs(*arguments))
        assert used.calls == []

    def test_rounded_float32_products(self, transposed, used):
        ours, theirs, tensors, settings = pair(transposed, GEOMETRIES[0], torch.float32)
        torch.set_float32_matmul_precision("medium")
        try:
            assert torch.equal(ours(*tensors, *settings), theirs(*tensors, *settings))
        finally:
            torch.set_float32_matmul_precision("highest")
        assert used.calls == []

    def test_tools(self, transposed, used):
        ours, theirs, tensors, settings = pair(transposed, GEOMETRIES[0], torch.float32)
        torch._dynamo.reset()
        compiled = torch.compile(lambda x: ours(x, *tensors[1:], *settings), fullgraph=True, backend="aot_eager")
        mapped = torch.func.vmap(lambda x: ours(x[None], *tensors[1:], *settings)[0])
        for function in (compiled, mapped):
            assert_close(function(tensors[0]), theirs(*tensors, *settings), rtol=1e-4, atol=1e-4)
        assert used.calls == []
        meta = [t.to("meta") for t in tensors]
        assert ours(*meta, *settings).shape == theirs(*meta, *settings).shape

    @pytest.mark.parametrize("ways", [("torch", "torch", "mm"), ("mm", "torch", "mm"), ("torch", "mm", "mm")])
    def test_the_weights_gradient_is_computed_once(self, transposed, ways, used, monkeypatch):
        """oneDNN has the bias's gradient from the weight's alone, so that asking for it would cost another one."""
        monkeypatch.setattr(rules, "fastest", lambda layer: ways)
        ours, theirs, tensors, settings = pair(transposed, GEOMETRIES[1], torch.float32)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], record_shapes=True) as seen:
            got = derivatives(ours, tensors, settings)
        assert_close(got, derivatives(theirs, tensors, settings), rtol=1e-4, atol=1e-4)
        masks = [event.concrete_inputs[-1] for event in seen.events() if event.name == "aten::convolution_backward"]
        assert all(mask[1:] == [False, False] for mask in masks)
        assert len(masks) == (ways[0 if transposed else 1] == "torch")
        assert used.calls.count("weight_gradient") == 1

    def test_small_layers_ask_nothing(self, transposed, monkeypatch):
        ours, _, tensors, settings = pair(transposed, GEOMETRIES[0], torch.float32)
        monkeypatch.setattr(tuning, "choice", lambda *a: pytest.fail("asked"))
        ours(*tensors, *settings)


def test_onednn_is_checked_before_use():
    products.onednn_works.cache_clear()
    assert products.onednn_works(torch.float32) == hasattr(torch.ops.mkldnn, "_linear_pointwise")
    assert not products.onednn_works(torch.int32)


def test_default_rule_only_where_measured(monkeypatch):
    layer = products.Layer(64, 512, 256, 4, 4, 8, 8, 4, 4, 2, 2, 1, 1, torch.bfloat16, True, True)
    monkeypatch.setattr(rules.winograd, "possible", lambda layer: False)
    on(monkeypatch, "avx512")
    assert rules.fastest(layer._replace(dtype=torch.float32)) == ("onednn", "onednn", "mm")
    assert rules.fastest(layer) == ("torch",) * 3
    wide, contiguous = layer._replace(large=512), layer._replace(images=1, channels_last=False)
    for amx, products_of in ((True, ("111", "111", "101")), (False, ("101", "111", "011"))):
        on(monkeypatch, "avx512", "bfloat16", *(["amx"] if amx else []))
        for shape, expected in zip((layer, wide, contiguous), products_of):
            assert rules.fastest(shape) == tuple("onednn" if c == "1" else "torch" for c in expected), (amx, shape)
    large = layer._replace(h=32, w=32, height=64, width=64, small=64, large=64)
    assert rules.fastest(large) == ("torch",) * 3
    many = layer._replace(h=8, w=8, height=8, width=8, kernel_h=3, kernel_w=3, stride_h=1, stride_w=1)
    for amx, images, way in ((True, 64, "onednn"), (False, 64, "torch"), (False, 16, "onednn")):
        on(monkeypatch, "avx512", "bfloat16", *(["amx"] if amx else []))
        assert rules.fastest(many._replace(images=images)) == ("torch", "torch", way)
    on(monkeypatch)
    assert rules.fastest(layer) == ("torch",) * 3


def test_chosen_where_it_was_measured_with_avx2_alone(monkeypatch):
    """Layers of DCGAN, pix2pix, CycleGAN and SRGAN; what is right was measured, see the table."""
    on(monkeypatch, "avx2")
    middle = products.Layer(8, 128, 64, 8, 8, 16, 16, 4, 4, 2, 2, 1, 1, torch.float32, True, True)
    deep = middle._replace(small=512, large=256, h=2, w=2, height=4, width=4)
    block = middle._replace(small=64, h=16, w=16, kernel_h=3, kernel_w=3, stride_h=1, stride_w=1)
    strided = middle._replace(small=256, large=128, images=64, kernel_h=3, kernel_w=3)
    image = middle._replace(small=64, large=3, h=32, w=32, height=64, width=64)
    out = middle._replace(small=1, large=256, images=16, kernel_h=7, kernel_w=7, stride_h=1, stride_w=1)
    if winograd.possible(middle):  # with the compiled kernels
        assert rules.fastest(middle) == ("winograd",) * 3
        assert rules.fastest(block) == ("winograd",) * 3
        assert rules.fastest(image) == ("torch", "narrow", "narrow")
        local = middle._replace(h=15, w=15, stride_h=1, stride_w=1)  # of a discriminator of patches
        assert rules.fastest(local) == ("winograd",) * 3
        assert rules.fastest(local._replace(small=256, large=128)) == ("torch", "torch", "winograd")
        assert rules.fastest(out) == ("narrow", "torch", "narrow")
    assert rules.fastest(deep) == ("onednn", "torch", "onednn")
    assert rules.fastest(strided) == ("torch", "torch", "mm")
    for small_one in (middle._replace(images=1), out._replace(images=1)):
        assert rules.fastest(small_one) == ("torch",) * 3  # a call costs more than is gained
    inside = deep._replace(small=512, large=512, h=1, w=1, height=2, width=2)  # of a U-Net
    assert rules.fastest(inside) == ("onednn", "torch", "onednn")
    assert rules.fastest(inside._replace(small=64, large=64, weight_last=False, channels_last=False))[2] == "mm"
    for change in ({"channels_last": False, "weight_last": False, "h": 16, "w": 16}, {"dtype": torch.bfloat16}):
        assert rules.fastest(middle._replace(**change)) == ("torch",) * 3


@pytest.mark.parametrize("make", [ConvNormAct2d, ConvTransposeNormAct2d])
def test_blocks_of_nn(make, used):
    block = make(6, 5, 4, 2, 1).to(memory_format=torch.channels_last)
    x = torch.randn(3, 6, 8, 8).to(memory_format=torch.channels_last)
    plain = block.norm(block.conv(x))
    assert used.calls == []
    assert_close(block(x), plain, rtol=1e-4, atol=1e-4)
    assert len(used.calls) == 1
    handle = block.conv.register_forward_hook(lambda module, args, y: y * 0 + 1)
    assert not block(x).any()  # batch norm of a constant, activated
    handle.remove()
    assert len(used.calls) == 1
    block(x).sum().backward()
    assert block.conv.weight.grad is not None


@pytest.mark.slow
def test_the_products_of_the_deepest_dcgan_layers_are_not_slower():
    """In bfloat16 with AMX, where the gain is several times, so that a busy machine does not matter."""
    if not rules.features() >= {"avx512", "bfloat16"}:
        pytest.skip("the rule was measured on processors with AVX-512 and bfloat16")
    layer = products.Layer(32, 512, 256, 4, 4, 8, 8, 4, 4, 2, 2, 1, 1, torch.bfloat16, True, True)
    ways = convolution._candidates("weight_gradient", layer)
    times = interleaved({name: ways[name] for name in ("torch", rules.fastest(layer)[2])}, rounds=3)
    assert min(times["torch"]) > 1.3 * min(times["onednn"])


def test_blocks_keep_their_modules():
    assert type(ConvNormAct2d(2, 2, 3).conv) is nn.Conv2d
