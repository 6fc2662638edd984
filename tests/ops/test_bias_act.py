"""bias_act on every backend: the same function as PyTorch's own ops, to the second derivative."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from fastgan import backend, ops
from fastgan.reference import bias_act as reference
from fastgan.reference.activation import ACTIVATIONS
from tests.accuracy import assert_as_accurate, assert_same_bits_for_any_number_of_threads

F32, F64, BF16, F16 = torch.float32, torch.float64, torch.bfloat16, torch.float16
LAYOUTS = ("channels_last", "contiguous")


@dataclass(frozen=True)
class Case:
    shape: tuple[int, ...] = (6, 37, 5, 7)
    dtype: torch.dtype = F32
    layout: str = "channels_last"
    act: str = "leaky_relu"
    bias: str = "float32"  # float32, same (dtype as x), none
    gain: float = 1.0
    clamp: float | None = None
    slope: float = 0.3  # not of prelu

    def __str__(self) -> str:
        plain = Case()
        names = ("bias", "gain", "clamp", "slope")
        changed = [f"{n}={getattr(self, n)}" for n in names if getattr(self, n) != getattr(plain, n)]
        return "-".join(["x".join(map(str, self.shape)), str(self.dtype)[6:], self.layout, self.act, *changed])

    @property
    def how(self) -> dict[str, Any]:
        return {"act": self.act, "gain": self.gain, "clamp": self.clamp}

    def inputs(self) -> dict[str, Tensor | None]:
        torch.manual_seed(hash(self.shape) % 1000)
        channels, dtype = self.shape[1], self.dtype if self.bias == "same" or self.dtype == F64 else F32
        bias = None if self.bias == "none" else torch.randn(channels, dtype=F64).to(dtype)
        slope = torch.rand(channels, dtype=F64) - 0.3
        return {
            "x": laid_out((torch.randn(self.shape, dtype=F64) * 1.7).to(self.dtype), self.layout),
            "bias": bias,
            "slope": slope.to(dtype) if self.act == "prelu" else None,
        }

    def run(self, function: Any, dtype: torch.dtype | None = None, order: int = 1, **how: Any) -> dict[str, Any]:
        """y, the gradients and, for order 2, the gradients of an R1-like penalty."""
        tensors = self.inputs()
        grad_y = laid_out(torch.randn(self.shape, dtype=F64).to(self.dtype), self.layout)
        if dtype is not None:
            tensors = {k: None if t is None else t.to(dtype) for k, t in tensors.items()}
            grad_y = grad_y.to(dtype)
        leaves = {k: t.requires_grad_() for k, t in tensors.items() if t is not None}
        grad_y.requires_grad_(order == 2)
        slope = self.slope if tensors["slope"] is None else tensors["slope"]
        # Of a clone: what a convolution returns is no leaf either, and may be overwritten.
        y = function(tensors["x"].clone(), tensors["bias"], slope=slope, **self.how, **how)
        result = {"y": y.detach()}
        grads = torch.autograd.grad(y, list(leaves.values()), grad_y, create_graph=order == 2)
        result |= {f"grad {name}": grad.detach() for name, grad in zip(leaves, grads)}
        if order == 2:
            penalty = sum(g.double().square().sum() for g in grads)
            leaves["grad_y"] = grad_y
            seconds = torch.autograd.grad(penalty, list(leaves.values()), allow_unused=True, materialize_grads=True)
            result |= {f"second grad {name}": grad for name, grad in zip(leaves, seconds)}
        return result


def laid_out(x: Tensor, layout: str) -> Tensor:
    if layout == "channels_last" and x.dim() > 2:
        return x.movedim(1, -1).contiguous().movedim(-1, 1)
    if layout == "sliced":
        return torch.stack([x, x], -1)[..., 0]
    if layout == "transposed":
        return x.transpose(0, -1).contiguous().transpose(0, -1)
    return x.contiguous()


DTYPES = [F32, BF16, F16, F64]
CASES = [
    *(Case(dtype=d, layout=layout, act=a) for d in DTYPES for layout in LAYOUTS for a in ACTIVATIONS),
    *(Case(dtype=d, layout=layout, act=a, gain=g, clamp=c) for d in (F32, BF16) for layout in LAYOUTS
      for a in ("none", "leaky_relu", "prelu", "elu", "silu") for g, c in [(1.5, None), (0.5, None), (1.5, 1.1)]),
    *(Case(dtype=d, bias=b, layout=layout, act=a) for d in (F32, BF16, F16) for b in ("same", "none")
      for layout in LAYOUTS for a in ("leaky_relu", "silu")),
    *(Case(shape=s, dtype=d, layout=layout, act=a) for d in (F32, BF16) for layout in LAYOUTS for a in ("relu", "prelu")
      for s in [(1, 3, 4, 4), (2, 1, 3, 3), (7, 3, 1, 1), (5, 17, 1, 3), (3, 130, 2, 2), (64, 16), (9, 1), (4, 5, 11),
                (2, 4, 3, 2, 5), (2, 3, 2, 2, 2, 2), (3, 70, 33, 31), (40, 8, 16, 16),
                (21, 3, 33, 31), (70, 3), (130, 1300), (9, 5, 7, 7), (24, 40, 4, 4), (8, 3, 2, 2), (37, 1, 5, 5)]),
    *(Case(layout=layout, dtype=d, act=a) for layout in ("sliced", "transposed") for d in (F32, BF16)
      for a in ("tanh", "silu")),
    *(Case(act="prelu", dtype=F16, layout=layout, clamp=c) for layout in LAYOUTS for c in (None, 0.9)),
    *(Case(act=a, slope=s) for a in ("leaky_relu", "elu") for s in (0.0, -0.3, 1.7)),
]  # fmt: skip


def assert_right(ours: dict[str, Tensor], theirs: dict[str, Tensor], exact: dict[str, Tensor]) -> None:
    if ours["y"].dtype == F64:  # the oracle rounds as well
        torch.testing.assert_close(ours, exact, rtol=1e-12, atol=1e-12)
    else:
        assert_as_accurate(list(ours.values()), list(theirs.values()), list(exact.values()), list(exact))


@pytest.mark.every_instruction_set
@pytest.mark.parametrize("case", CASES, ids=str)
def test_as_accurate_as_pytorch(case: Case, path: str, poisoned: None) -> None:
    exact, theirs = case.run(reference.bias_act, F64), case.run(reference.composed)
    for how in ({}, {"inplace": True}):
        assert_right(case.run(ops.bias_act, backend=path, **how), theirs, exact)


@pytest.mark.parametrize("shape", [(64, 16), (3, 70, 33, 31), (40, 8, 4, 4), (21, 3, 33, 31)])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_one_slope_for_all_channels(shape: tuple[int, ...], layout: str) -> None:
    """Its gradient is one number, so that twice PyTorch's error is a matter of luck: roundings of the terms instead."""
    x, grad = laid_out(torch.randn(shape), layout), torch.randn(shape)
    slope = torch.tensor([0.25], requires_grad=True)
    y = ops.bias_act(x, torch.ones(shape[1]), act="prelu", slope=slope, backend="native")
    (ours,) = torch.autograd.grad(y, slope, grad)
    terms = (grad * (x + 1).clamp(max=0)).double()
    assert (ours.double() - terms.sum()).abs() <= torch.finfo(F32).eps * terms.square().sum().sqrt()


@pytest.mark.parametrize("act", list(ACTIVATIONS))
@pytest.mark.parametrize("how", [{}, {"gain": 1.5}, {"gain": 0.5, "clamp": 0.4}], ids=str)
def test_the_reference_is_pytorchs_function(act: str, how: dict[str, Any]) -> None:
    """The oracle itself, against PyTorch's own ops in float64."""
    case = Case(dtype=F64, act=act, **how)
    ours, theirs = (case.run(f, order=2) for f in (reference.bias_act, reference.composed))
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-10, atol=1e-10, msg=lambda m, n=name: f"{n}: {m}")


SECOND_ORDER = [
    *(Case(act=a, dtype=d, layout=layout) for a in ACTIVATIONS for d in (F32, BF16) for layout in LAYOUTS),
    *(Case(act=a, dtype=d, gain=1.5) for a in ("none", "leaky_relu", "tanh") for d in (F32, F16, F64)),
    *(Case(act=a, clamp=0.9, bias=b) for a in ("elu", "silu") for b in ("float32", "none")),
    Case(act="elu", slope=-0.3), Case(bias="none", act="tanh"), Case(bias="same", dtype=BF16), Case(shape=(16, 5)),
]  # fmt: skip


@pytest.mark.parametrize("case", SECOND_ORDER, ids=str)
def test_second_derivatives_are_as_accurate(case: Case, path: str) -> None:
    exact, theirs = case.run(reference.bias_act, F64, order=2), case.run(reference.composed, order=2)
    for how in ({}, {"inplace": True}):
        assert_right(case.run(ops.bias_act, order=2, backend=path, **how), theirs, exact)


@pytest.mark.parametrize("act", list(ACTIVATIONS))
@pytest.mark.parametrize("how", [{}, {"gain": 1.3}, {"gain": 0.7, "clamp": 1.1}, {"layout": "contiguous"}], ids=str)
@pytest.mark.parametrize("inplace", [False, True])
def test_gradcheck(act: str, how: dict[str, Any], inplace: bool) -> None:
    case = Case(shape=(3, 3, 2, 2), dtype=F64, act=act, **how)
    leaves = [t.requires_grad_() for t in case.inputs().values() if t is not None]

    def function(x, bias, slope=0.3):
        return ops.bias_act(x.clone(), bias, slope=slope, inplace=inplace, backend="native", **case.how)

    assert torch.autograd.gradcheck(function, leaves)
    assert torch.autograd.gradgradcheck(function, leaves)


@pytest.mark.parametrize("act", ["leaky_relu", "tanh", "silu"])
def test_the_r1_step(act: str, path: str) -> None:
    """The step that other fused ops break without a word: a penalty on the gradient with respect to the input."""

    def discriminator(layer):
        torch.manual_seed(1)
        first, second = torch.nn.Conv2d(3, 8, 3, bias=False), torch.nn.Linear(8 * 6 * 6, 1)
        bias = torch.nn.Parameter(torch.randn(8))
        x = torch.randn(4, 3, 8, 8).requires_grad_()
        logits = second(layer(first(x), bias).flatten(1))
        (grad,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
        grad.square().sum().mul(5).backward()
        # The bias moves the derivatives of smooth activations only.
        return [first.weight.grad, second.weight.grad, *([] if act == "leaky_relu" else [bias.grad])]

    theirs = discriminator(lambda z, b: ACTIVATIONS[act](z + b.view(1, -1, 1, 1), 0.2))
    for inplace in (False, True):
        ours = discriminator(lambda z, b, i=inplace: ops.bias_act(z, b, act=act, inplace=i, backend=path))
        for o, t in zip(ours, theirs):
            assert o is not None
            torch.testing.assert_close(o, t, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("act", ["leaky_relu", "silu"])
@pytest.mark.parametrize("inplace", [False, True])
def test_a_bias_used_before_as_well(act: str, inplace: bool, path: str) -> None:
    """Under create_graph each gradient is that of one use, and hooks run once."""
    x, w = torch.randn(4, 3, 2, 2, dtype=F64, requires_grad=True), torch.randn(3, dtype=F64, requires_grad=True)
    results = []
    for op in (ops.bias_act, reference.composed):
        where = {"backend": path, "inplace": inplace} if op is ops.bias_act else {}
        z, calls = x * w.view(-1, 1, 1), []
        z.register_hook(lambda grad, calls=calls: calls.append(1))
        first = torch.autograd.grad(op(z, w, act=act, **where).square().sum(), (x, w), create_graph=True)
        assert calls == [1]
        results.append([*first, *torch.autograd.grad(sum(g.square().sum() for g in first), (x, w))])
    torch.testing.assert_close(*results)


class TestLayouts:
    @pytest.mark.parametrize("shape", [(2, 5, 3, 4), (2, 5, 7), (2, 5, 3, 2, 2), (4, 5), (2, 1, 3, 3), (3, 5, 1, 1)])
    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_kept(self, shape: tuple[int, ...], layout: str, path: str) -> None:
        x = laid_out(torch.randn(shape), layout).requires_grad_()
        y = ops.bias_act(x, torch.randn(5)[: shape[1]], act="relu", backend=path)
        (grad,) = torch.autograd.grad(y, x, torch.randn(shape))
        assert y.stride() == x.stride()
        if path == "native":
            assert grad.stride() == x.stride()

    @pytest.mark.parametrize("act", ["none", "tanh", "silu"])
    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_expanded_and_foreign_gradients(self, act: str, layout: str, path: str) -> None:
        x, bias = laid_out(torch.randn(4, 6, 3, 5), layout).requires_grad_(), torch.randn(6, requires_grad=True)
        y = ops.bias_act(x, bias, act=act, backend=path)
        expected = ACTIVATIONS[act](x + bias.view(-1, 1, 1), None)
        for grad_y in [
            torch.full((), 0.7).expand(y.shape),
            laid_out(torch.randn(y.shape), "contiguous" if layout == "channels_last" else "channels_last"),
            torch.randn(4, 6, 3, 1).expand(y.shape),
            torch.randn(5, 3, 6, 4).permute(3, 2, 1, 0),
        ]:
            ours, theirs = (torch.autograd.grad(t, (x, bias), grad_y, retain_graph=True) for t in (y, expected))
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize("act", ["none", "relu"])
    def test_result_never_aliases_the_input(self, act: str, path: str) -> None:
        x = torch.rand(3, 4, 2, 2)
        before = x.clone()
        y = ops.bias_act(x, act=act, backend=path)
        assert y.data_ptr() != x.data_ptr()
        assert torch.equal(y.add_(1), before + 1)
        assert torch.equal(x, before)

    def test_parameters_of_any_stride(self, path: str) -> None:
        """Columns, every second element and expanded scalars, read and differentiated where they lie."""
        x = torch.randn(4, 3, 5, 5)
        for vector in [torch.randn(6)[::2], torch.randn(3, 4)[:, 1], torch.randn(1).expand(3)]:
            results = []
            for values in (vector, vector.clone(memory_format=torch.contiguous_format)):
                bias, slope = values.detach().requires_grad_(), values.detach().requires_grad_()
                y = ops.bias_act(x, bias, act="prelu", slope=slope, backend=path)
                results.append([y, *torch.autograd.grad(y.square().sum(), (bias, slope))])
            torch.testing.assert_close(*results)
            assert results[0][2].abs().sum() > 0


class TestInPlace:
    @pytest.mark.parametrize("act", list(reference.IN_PLACE))
    @pytest.mark.parametrize("needed", [True, False])
    def test_the_result_is_the_input(self, act: str, needed: bool, path: str) -> None:
        x, bias = torch.randn(4, 3, 5, 5), torch.randn(3, requires_grad=needed)
        expected, version, address = ops.bias_act(x, bias, act=act, backend="torch"), x._version, x.data_ptr()
        y = ops.bias_act(x, bias, act=act, inplace=True, backend=path)
        assert y.data_ptr() == address
        assert x._version > version
        assert y.requires_grad is needed
        torch.testing.assert_close(x, expected)

    @pytest.mark.parametrize(
        "how",
        [{"act": "silu"}, {"act": "leaky_relu", "slope": -0.2}, {"act": "elu", "slope": -1.0}, {"gain": 2.0},
         {"clamp": 1.0}, {"act": "prelu", "slope": torch.ones(1)}],
        ids=str,
    )  # fmt: skip
    def test_not_where_the_derivative_needs_the_input(self, how: dict[str, Any], path: str) -> None:
        x = torch.randn(4, 3, 5, 5)
        before = x.clone()
        ops.bias_act(x, torch.ones(3), inplace=True, backend=path, **how)
        assert torch.equal(x, before)

    def test_a_leaf_is_refused_untouched(self, path: str) -> None:
        x = torch.randn(4, 3, requires_grad=True)
        before = x.detach().clone()
        with pytest.raises(RuntimeError, match="a leaf Variable that requires grad"):
            ops.bias_act(x, torch.ones(3), act="relu", inplace=True, backend=path)
        assert torch.equal(x, before)
        with torch.no_grad():
            ops.bias_act(x, torch.ones(3), act="relu", inplace=True, backend=path)
        assert torch.equal(x, F.relu(before + 1))

    def test_views(self, path: str) -> None:
        """Overwritten where nothing is differentiated; else left alone, for autograd would rewrite the base's past."""
        base = torch.randn(4, 3, 2, 2)
        expected = torch.tanh(base[:2] + 1)
        ops.bias_act(base[:2], torch.ones(3), act="tanh", inplace=True, backend=path)
        torch.testing.assert_close(base[:2], expected)
        leaf = torch.randn(4, 3, 2, 2, requires_grad=True)
        middle = leaf * 1
        before = middle.detach().clone()
        y = ops.bias_act(middle[:2], torch.ones(3), act="tanh", inplace=True, backend=path)
        assert torch.equal(middle, before)
        (grad,) = torch.autograd.grad(y.sum() + middle.sum(), leaf)
        torch.testing.assert_close(grad[:2], 2 - y.detach() ** 2)
        assert grad[2:].eq(1).all()

    def test_what_is_no_dense_block_is_left_alone(self) -> None:
        x = laid_out(torch.randn(4, 3, 5, 5), "sliced")
        before = x.clone()
        ops.bias_act(x, act="relu", inplace=True, backend="native")
        assert torch.equal(x, before)

    def test_overwriting_what_another_saved_is_noticed(self, path: str) -> None:
        x = torch.randn(4, 3, requires_grad=True).exp()  # exp keeps its result
        y = ops.bias_act(x, torch.ones(3), act="relu", inplace=True, backend=path)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            y.sum().backward()

    @pytest.mark.parametrize("act", ["relu", "tanh", "silu"])
    def test_overwriting_what_is_kept_is_noticed(self, act: str) -> None:
        x = torch.randn(4, 3, requires_grad=True) * 1
        y = ops.bias_act(x, act=act, inplace=True, backend="native")
        (x if act == "silu" else y).detach().add_(1)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            y.sum().backward()

    @pytest.mark.parametrize(
        ("how", "kept"),
        [({"act": "leaky_relu"}, ["y"]), ({"act": "relu", "gain": 1.4}, ["y"]), ({"act": "none"}, []),
         ({"act": "tanh", "gain": 1.4}, ["x", "bias"]), ({"clamp": 2.0}, ["x", "bias"]),
         ({"act": "silu"}, ["x", "bias"])],
        ids=str,
    )  # fmt: skip
    def test_what_is_kept_for_backward(self, how: dict[str, Any], kept: list[str]) -> None:
        tensors = {"x": torch.randn(4, 3, requires_grad=True), "bias": torch.randn(3, requires_grad=True)}
        saved: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.data_ptr()) or t, lambda t: t):
            tensors["y"] = ops.bias_act(**tensors, backend="native", **how)
        assert saved == [tensors[name].data_ptr() for name in kept]


class TestSpecialValues:
    def test_the_error_does_not_grow_with_the_tensor(self) -> None:
        for layout in LAYOUTS:
            x, grad = torch.randn(1, 2, 1024, 1024), laid_out(torch.rand(1, 2, 1024, 1024) + 3, layout)
            bias = torch.zeros(2, requires_grad=True)
            for act in ("none", "relu"):
                y = ops.bias_act(laid_out(x, layout).abs(), bias, act=act, backend="native")
                y.backward(grad)
                expected = grad.double().sum((0, 2, 3)).float()
                torch.testing.assert_close(bias.grad, expected, rtol=1.5e-7, atol=0)
                bias.grad = None

    @pytest.mark.parametrize("how", [{"act": "relu"}, {"act": "silu", "clamp": 1.0}, {}], ids=str)
    def test_empty_batch(self, how: dict[str, Any], path: str) -> None:
        x, bias = torch.zeros(0, 3, 4, 4, requires_grad=True), torch.ones(3, requires_grad=True)
        y = ops.bias_act(x, bias, backend=path, **how)
        assert y.shape == x.shape
        y.sum().backward()
        assert x.grad is not None
        assert x.grad.shape == x.shape
        assert bias.grad.eq(0).all()

    @pytest.mark.parametrize("act", list(ACTIVATIONS))
    @pytest.mark.parametrize("clamp", [None, 1.0])
    @pytest.mark.parametrize("gain", [1.0, 2.0])
    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_nan_infinities_and_edges(self, act: str, clamp: float | None, gain: float, layout: str, path: str) -> None:
        """NaN stays NaN, infinities go where PyTorch sends them, and at a kink the gradient takes PyTorch's side."""
        values = torch.tensor([float("nan"), float("inf"), -float("inf"), 0.0, -0.0, 1e-30, -1e-30, 88.0, -88.0, 200.0,
                               -200.0, 3e38, -3e38, 1.0, -1.0, 0.5, -0.5])  # fmt: skip
        x = laid_out(values.repeat(1, 2, 3, 1), layout).requires_grad_()
        slope = torch.tensor([0.25]) if act == "prelu" else 0.25
        y = ops.bias_act(x, None, act=act, slope=slope, gain=gain, clamp=clamp, backend=path)
        expected = reference.composed(x, None, act=act, slope=slope, gain=gain, clamp=clamp)
        torch.testing.assert_close(y, expected, equal_nan=True, rtol=1e-6, atol=1e-37)
        finite = values.isfinite() & (values.abs() < 1e4)  # PyTorch's own derivatives are NaN further out
        ours, theirs = (torch.autograd.grad(t, x, torch.ones_like(t))[0] for t in (y, expected))
        torch.testing.assert_close(ours[..., finite], theirs[..., finite], rtol=1e-5, atol=1e-7)

    def test_relu_stops_infinite_gradients(self, path: str) -> None:
        x = torch.tensor([[-1.0, 1.0]], requires_grad=True)
        y = ops.bias_act(x, act="relu", backend=path)
        (grad,) = torch.autograd.grad(y, x, torch.full_like(x, float("inf")))
        assert grad.tolist() == [[0.0, float("inf")]]

    @pytest.mark.processes
    @pytest.mark.parametrize("dtype", [F16, BF16])
    @pytest.mark.cpu_kernels
    @pytest.mark.parametrize("capability", ["baseline", "avx2", "avx512"])
    def test_every_half_precision_number(self, dtype: torch.dtype, capability: str) -> None:
        """All 65,536 of them are read right, and their sums and products are rounded as PyTorch rounds."""
        code = f"""
import torch
from fastgan import ops
bits = torch.arange(-2**15, 2**15, dtype=torch.int32).to(torch.int16)
x = bits.view({dtype}).reshape(1, 1, 256, 256)
for bias, gain in ((1.2345678, 1.0), (0.0, 1.2345678), (0.0, 1 + 2**-8), (0.0, 1 + 2**-11)):  # the latter give ties
    y = ops.bias_act(x, torch.tensor([bias]), gain=gain, backend="native")
    expected = ((x.float() + bias) * gain).to({dtype})
    assert torch.equal(y.isnan(), expected.isnan())
    ok = ~expected.isnan()
    assert torch.equal(y[ok], expected[ok])
"""
        run_python(code, FASTGAN_CPU_CAPABILITY=capability)

    @pytest.mark.slow
    def test_more_than_two_to_the_31_elements(self) -> None:
        if os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") < 9e9:
            pytest.skip("needs 9 GB of free memory")
        x = torch.zeros((1, 2, 2**30 + 8), dtype=BF16)
        x[:, :, -4:] = 3.0
        y = ops.bias_act(x, torch.tensor([1.0, -1.0]), act="relu", inplace=True)
        assert y[:, 0, -4:].eq(4.0).all()
        assert y[:, 1, -4:].eq(2.0).all()
        assert y[:, 1, : 2**20].eq(0.0).all()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(32, 40, 16, 16), (64, 3, 32, 32), (2, 64, 64, 64), (64, 512, 4, 4), (130, 1300)])
@pytest.mark.parametrize("act", ["leaky_relu", "prelu"])
def test_same_bits_for_any_number_of_threads(layout: str, shape: tuple[int, ...], act: str) -> None:
    case = Case(shape=shape, layout=layout, act=act)
    assert_same_bits_for_any_number_of_threads(lambda: case.run(ops.bias_act, backend="native"))


class TestWithTorch:
    @pytest.mark.parametrize("dtype", [F32, BF16])
    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_opcheck(self, dtype: torch.dtype, layout: str) -> None:
        assert backend.library("cpu").usable
        x, b, slope = laid_out(torch.randn(4, 5, 3, 3), layout).to(dtype), torch.ones(5), torch.rand(5)
        tests = ("test_schema", "test_faketensor", "test_autograd_registration")
        ns, inf = torch.ops.fastgan, float("inf")
        for op, arguments in [
            (ns.bias_act, (x, b, None, 2, 0.2, 1.0, inf)),
            (ns.bias_act, (x, None, slope, 3, 0.0, 1.5, 2.0)),
            (ns.bias_act_, (x.clone(), b, 2, 0.2)),
            (ns.bias_act_backward, (x, x, b, slope, 3, 0.0, 1.5, 2.0)),
            (ns.bias_act_backward, (x, x, None, None, 7, 0.2, 1.0, inf)),
            (ns.bias_act_backward_from_result, (x, x, 2, 0.2, 1.0, F32)),
            (ns.bias_act_backward_from_result, (x, x, 2, 0.2, 1.0, None)),
            (ns.bias_act_backward_from_result, (x, None, 0, 0.2, 1.0, dtype)),
        ]:
            torch.library.opcheck(op.default, arguments, test_utils=tests)

    @pytest.mark.parametrize("case", [Case(), Case(act="prelu"), Case(act="none", layout="contiguous"),
                                      Case(act="silu", dtype=BF16), Case(clamp=1.0, gain=2.0)], ids=str)  # fmt: skip
    def test_compile_fullgraph(self, case: Case) -> None:
        torch._dynamo.reset()  # each case compiles anew
        compiled = torch.compile(ops.bias_act, fullgraph=True, backend="aot_eager")
        for how in ({}, {"inplace": True}):
            ours, theirs = (case.run(f, backend="native", **how) for f in (compiled, ops.bias_act))
            for name in theirs:
                torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=0)
            assert ours["y"].stride() == theirs["y"].stride()
        x = torch.randn(4, 3)
        assert compiled(x, act="relu", inplace=True).data_ptr() != x.data_ptr()

    def test_autocast_changes_nothing(self, path: str) -> None:
        x, bias = torch.randn(8, 3, 4, 4, dtype=BF16), torch.randn(3)
        with torch.autocast("cpu", BF16):
            y = ops.bias_act(x, bias, act="relu", backend=path)
        assert torch.equal(y, ops.bias_act(x, bias, act="relu", backend=path))
        assert y.dtype == BF16

    @pytest.mark.parametrize("act", ["none", "relu", "silu"])
    def test_no_gradient_is_computed_for_what_needs_none(self, act: str, path: str) -> None:
        for needed in ({"bias"}, {"x"}):
            tensors = {"x": torch.randn(4, 3, 2, 2), "bias": torch.zeros(3)}
            for name in needed:
                tensors[name].requires_grad_()
            for create_graph in (False, True):
                y = ops.bias_act(**tensors, act=act, backend=path)
                grads = torch.autograd.grad(y.square().sum(), [tensors[n] for n in needed], create_graph=create_graph)
                assert all(g.requires_grad is create_graph and g.abs().sum() > 0 for g in grads)

    def test_frozen_bias_costs_no_sums(self) -> None:
        """The discriminator's parameters while the generator trains."""
        assert backend.library("cpu").usable
        x, kernel = torch.randn(4, 3, requires_grad=True), torch.ops.fastgan.bias_act_backward_from_result
        for needed in (False, True):
            bias = torch.zeros(3, requires_grad=needed)
            with torch.profiler.profile(record_shapes=True) as profile:
                ops.bias_act(x, bias, act="relu", backend="native").sum().backward()
            (call,) = [e for e in profile.events() if e.name == str(kernel).replace(".", "::")]
            assert (call.concrete_inputs[5] is not None) is needed


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"x": "no"}, TypeError, "x must be a tensor"),
    ({"x": torch.ones(4, 3, dtype=torch.int64)}, TypeError, "torch.int64; accepted: float32"),
    ({"x": torch.ones(4)}, ValueError, r"shape \(4,\).*batch and a channel"),
    ({"x": torch.eye(4, 3).to_sparse()}, TypeError, "x is nested or torch.sparse_coo; accepted: dense"),
    ({"x": torch.randn(4, 3, dtype=F64)}, TypeError, "accepted: float64"),
    ({"bias": torch.ones(4)}, ValueError, r"bias has shape \(4,\), x has 3 channels"),
    ({"bias": torch.ones(1)}, ValueError, r"bias has shape \(1,\), x has 3 channels"),
    ({"bias": torch.ones(3, 1)}, ValueError, "bias has shape"),
    ({"bias": 1.0}, TypeError, "bias must be a tensor or None, not float"),
    ({"bias": torch.ones(3, dtype=F64)}, TypeError, "bias is torch.float64 and x is torch.float32"),
    ({"bias": torch.ones(3, dtype=F16)}, TypeError, "bias is torch.float16 and x is torch.float32"),
    ({"bias": torch.zeros(3, device="meta")}, ValueError, "bias is on meta and x on cpu"),
    ({"act": "gelu"}, ValueError, "unknown activation 'gelu'; accepted: none, relu"),
    ({"act": ["relu"]}, ValueError, "unknown activation"),
    ({"act": "prelu"}, TypeError, "prelu takes its weight tensor"),
    ({"act": "prelu", "slope": torch.ones(2)}, ValueError, "slope has shape"),
    ({"act": "prelu", "slope": torch.ones(3).bfloat16(), "x": torch.randn(4, 3).bfloat16()}, TypeError, "share one"),
    ({"slope": torch.ones(3)}, TypeError, "takes a number as slope"),
    ({"act": "none", "slope": torch.ones(1)}, TypeError, "takes a number as slope"),
    ({"slope": "steep"}, TypeError, "takes a number as slope"),
    ({"gain": 0.0}, ValueError, "gain must be a number > 0, not 0.0"),
    ({"gain": -1}, ValueError, "gain must be a number > 0, not -1"),
    ({"gain": float("nan")}, ValueError, "gain must be a number > 0, not nan"),
    ({"gain": float("inf")}, ValueError, "gain must be a number > 0, not inf"),
    ({"gain": None}, ValueError, "gain must be a number"),
    ({"clamp": 0}, ValueError, "clamp must be a number > 0 or None, not 0"),
    ({"clamp": -1.0}, ValueError, "clamp must be a number > 0 or None"),
    ({"clamp": float("nan")}, ValueError, "clamp must be a number > 0 or None"),
    ({"clamp": "tight"}, ValueError, "clamp must be a number > 0 or None"),
    ({"backend": "fast"}, ValueError, "backend='fast' is not a backend; accepted: auto, native"),
    ({"backend": "triton"}, ValueError, "backend='triton' is not a backend; accepted: auto, native, torch"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "error", "message"), BAD, ids=lambda v: str(v)[:40])
@pytest.mark.parametrize("inplace", [False, True])
def test_says_what_is_wrong(
    change: dict[str, Any], error: type[Exception], message: str, inplace: bool, path: str
) -> None:
    good = {"x": torch.randn(4, 3, 2, 2), "bias": torch.zeros(3), "act": "leaky_relu", "slope": 0.2, "gain": 1.0,
            "clamp": None, "inplace": inplace, "backend": path}  # fmt: skip
    ops.bias_act(**good)
    before = good["x"].clone()
    for call in (good | change, good | {"backend": "auto"} | change):
        with pytest.raises(error, match=message):
            ops.bias_act(**call)
    assert torch.equal(good["x"], before), "a refused call changed its input"


def test_says_what_is_wrong_with_an_empty_batch(path: str) -> None:
    with pytest.raises(ValueError, match="bias has shape"):
        ops.bias_act(torch.zeros(0, 3), torch.zeros(1), backend=path)


SMALL = [Case(shape=s, dtype=d, layout=layout, act=a, bias="same") for s in [(2, 4, 2, 2), (9, 3), (4, 5, 11)]
         for d in DTYPES for layout in LAYOUTS for a in ACTIVATIONS]  # fmt: skip


@pytest.mark.parametrize("case", SMALL, ids=str)
def test_small_tensors_take_the_shorter_way(case: Case) -> None:
    exact, theirs, ours = case.run(reference.bias_act, F64), case.run(reference.composed), case.run(ops.bias_act)
    assert_right(ours, theirs, exact)
    x, bias, _ = case.inputs().values()
    y = ops.bias_act(x.requires_grad_(), bias, act=case.act, slope=bias if case.act == "prelu" else 0.3)
    kernel = case.act in ("prelu", "silu")
    assert (type(y.grad_fn).__name__ == "_BiasActBackward") is kernel
    assert y.data_ptr() != x.data_ptr()


def test_integer_arguments_are_numbers(path: str) -> None:
    x = torch.randn(4, 3, 2, 2)
    y = ops.bias_act(x, act="leaky_relu", slope=0, gain=2, clamp=1, backend=path)
    torch.testing.assert_close(y, (F.relu(x) * 2).clamp(-1, 1))


FUNC = {
    "grad": lambda f: torch.func.grad(lambda z: f(z).square().sum()),
    "grad of grad": lambda f: torch.func.grad(lambda z: FUNC["grad"](f)(z).square().sum()),
    "vmap": lambda f: lambda z: torch.func.vmap(f)(torch.stack([z, z * z])),
    "jvp": lambda f: lambda z: torch.func.jvp(f, (z,), (z.sin(),))[1],
}


@pytest.mark.parametrize("transform", FUNC)
@pytest.mark.parametrize("act", ["silu", "tanh"])
def test_torch_func(transform: str, act: str, path: str) -> None:
    x, b = torch.randn(4, 3, 2, 2, dtype=F64), torch.randn(3, dtype=F64)
    before = x.clone()
    ours = FUNC[transform](lambda z: ops.bias_act(z, b, act=act, inplace=True, backend=path))(x)
    theirs = FUNC[transform](lambda z: ACTIVATIONS[act](z + b.view(-1, 1, 1), None))(x)
    torch.testing.assert_close(ours, theirs)
    assert torch.equal(x, before)


def test_the_raw_ops_keep_memory_safe() -> None:
    """What Python never passes: each would read or write memory that is not its own, or give nonsense."""
    assert backend.library("cpu").usable
    ns, x, b, inf = torch.ops.fastgan, torch.randn(4, 6, 3, 5), torch.zeros(6), float("inf")
    last = laid_out(x, "channels_last")
    calls = [
        lambda: ns.bias_act(x[:1].expand(4, 6, 3, 5), b, None, 0, 0.0, 1.0, inf),
        lambda: ns.bias_act(torch.randn(900).as_strided(x.shape, (200, 1, 30, 6)), b, None, 0, 0.0, 1.0, inf),
        lambda: ns.bias_act(x[:0], b, None, 0, 0.0, 1.0, inf),
        lambda: ns.bias_act(torch.randn(6), b, None, 0, 0.0, 1.0, inf),
        lambda: ns.bias_act(x, b[:5], None, 0, 0.0, 1.0, inf),
        lambda: ns.bias_act(x, b[:1], None, 0, 0.0, 1.0, inf),
        lambda: ns.bias_act(x, b.double(), None, 0, 0.0, 1.0, inf),
        lambda: ns.bias_act(x, b.view(6, 1), None, 0, 0.0, 1.0, inf),
        lambda: ns.bias_act(x, b, None, 3, 0.0, 1.0, inf),
        lambda: ns.bias_act(x, b, b, 2, 0.0, 1.0, inf),
        lambda: ns.bias_act(x, b, None, 8, 0.0, 1.0, inf),
        lambda: ns.bias_act(x, b, None, -1, 0.0, 1.0, inf),
        lambda: ns.bias_act(x, b, None, 0, 0.0, 0.0, inf),
        lambda: ns.bias_act(x, b, None, 0, 0.0, 1.0, -1.0),
        lambda: ns.bias_act_(x[:1].expand(4, 6, 3, 5), b, 0, 0.0),
        lambda: ns.bias_act_(x, b, 3, 0.0),
        lambda: ns.bias_act_backward(last, x, b, None, 0, 0.0, 1.0, inf),
        lambda: ns.bias_act_backward(x[:2], x, b, None, 0, 0.0, 1.0, inf),
        lambda: ns.bias_act_backward(x.bfloat16(), x, b, None, 0, 0.0, 1.0, inf),
        lambda: ns.bias_act_backward(x, x, b, b[:2], 3, 0.0, 1.0, inf),
        lambda: ns.bias_act_backward_from_result(last, x, 1, 0.0, 1.0, None),
        lambda: ns.bias_act_backward_from_result(x, x[:2], 1, 0.0, 1.0, None),
        lambda: ns.bias_act_backward_from_result(x, None, 1, 0.0, 1.0, F32),
        lambda: ns.bias_act_backward_from_result(x, x, 3, 0.0, 1.0, F32),
        lambda: ns.bias_act_backward_from_result(x, x, 7, 0.0, 1.0, F32),
        lambda: ns.bias_act_backward_from_result(x, x, 9, 0.0, 1.0, F32),
        lambda: ns.bias_act_backward_from_result(x, x, 1, 0.0, 1.0, torch.int64),
    ]
    for number, call in enumerate(calls):
        with pytest.raises(RuntimeError, match="fastgan: "):
            print(f"call {number}:", call())


def run_python(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.processes
def test_the_environment_overrules_the_shorter_way() -> None:
    code = """
import torch
from fastgan import ops
print(ops.bias_act(torch.randn(4, 3, requires_grad=True), torch.randn(3), act="relu").grad_fn)
"""
    assert "_BiasActBackward" in run_python(code, FASTGAN_BACKEND="native")
    assert "ReluBackward" in run_python(code, FASTGAN_BACKEND="auto")


@pytest.mark.processes
def test_falls_back_without_the_library() -> None:
    """No compiled library: the same numbers from PyTorch, quietly. Asking for it by name is an error that says why."""
    code = """
import warnings; warnings.simplefilter("error")
import torch, fastgan
from fastgan import backend, ops
backend._LIBRARIES["cpu"] = "libabsent.so"
x, b = torch.randn(4, 3, 2, 2), torch.randn(3)
torch.testing.assert_close(ops.bias_act(x, b, act="relu"), torch.relu(x + b.view(-1, 1, 1)))
try:
    ops.bias_act(x, b, act="relu", backend="native")
except RuntimeError as error:
    print(error)
print(backend.info())
"""
    out = run_python(code)
    assert "libabsent.so was not built" in out
    assert "bias_act on cpu" in out
