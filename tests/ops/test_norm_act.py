"""norm_act on every backend: the same function as PyTorch's modules, to the second derivative."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from fastgan import backend, ops
from fastgan.reference import norm_act as reference
from fastgan.reference.activation import ACTIVATIONS
from tests.accuracy import assert_as_accurate, assert_same_bits_for_any_number_of_threads

F32, F64, BF16, F16 = torch.float32, torch.float64, torch.bfloat16, torch.float16


@dataclass(frozen=True)
class Case:
    shape: tuple[int, ...] = (6, 37, 5, 7)
    dtype: torch.dtype = F32
    layout: str = "channels_last"
    act: str = "leaky_relu"
    kind: str = "batch"  # batch, instance, splits, eval, instance-eval
    parameters: str = "float32"  # float32, same (dtype as x), none
    momentum: float = 0.1
    eps: float = 1e-5
    mean: float = 0.0
    slope: int = 1  # values of prelu's weight; 0: one a channel
    how: dict[str, Any] = field(init=False, default_factory=dict, repr=False, hash=False)

    def __post_init__(self) -> None:
        kinds = {"instance": {"instance": True}, "splits": {"splits": 3}, "eval": {"training": False}}
        kinds["instance-eval"] = kinds["instance"] | kinds["eval"]
        settings = {"act": self.act, "momentum": self.momentum, "eps": self.eps, **kinds.get(self.kind, {})}
        object.__setattr__(self, "how", settings)

    def __str__(self) -> str:
        size = "x".join(map(str, self.shape))
        extra = [f"m{self.momentum}", f"eps{self.eps}", f"mean{self.mean:g}", self.parameters]
        plain = Case()
        changed = [e for e, name in zip(extra, ("momentum", "eps", "mean", "parameters"))
                   if getattr(self, name) != getattr(plain, name)]  # fmt: skip
        return "-".join([size, str(self.dtype)[6:], self.layout, self.act, self.kind, *changed])

    def inputs(self) -> dict[str, Tensor | None]:
        torch.manual_seed(hash(self.shape) % 1000)
        channels = self.shape[1]
        x = laid_out((torch.randn(self.shape, dtype=F64) * 1.7 + self.mean).to(self.dtype), self.layout)
        dtype = self.dtype if self.parameters == "same" or self.dtype == F64 else F32
        prelu = (torch.rand(self.slope or channels, dtype=F64) - 0.3).to(dtype) if self.act == "prelu" else None
        none = self.parameters == "none"
        return {
            "x": x,
            "weight": None if none else torch.randn(channels, dtype=F64).to(dtype),
            "bias": None if none else torch.randn(channels, dtype=F64).to(dtype),
            "slope": prelu,
            "running_mean": torch.randn(channels, dtype=F64).to(dtype) + self.mean,
            "running_var": (torch.rand(channels, dtype=F64) + 0.5).to(dtype),
        }

    def run(self, function: Any, dtype: torch.dtype | None = None, order: int = 1, **how: Any) -> dict[str, Any]:
        """y, the gradients, the running statistics and, for order 2, the gradients of an R1-like penalty."""
        tensors = {k: None if t is None else t.clone() for k, t in self.inputs().items()}
        grad_y = torch.randn(self.shape, dtype=F64).to(self.dtype)
        grad_y = laid_out(grad_y, self.layout)
        if dtype is not None:
            tensors = {k: None if t is None else t.to(dtype) for k, t in tensors.items()}
            grad_y = grad_y.to(dtype)
        leaves = {k: t.requires_grad_() for k, t in tensors.items() if t is not None and not k.startswith("running")}
        slope = tensors["slope"] if tensors["slope"] is not None else 0.3
        y = function(
            tensors["x"], tensors["weight"], tensors["bias"], tensors["running_mean"], tensors["running_var"],
            slope=slope, **self.how, **how,
        )  # fmt: skip
        result = {"y": y.detach(), "running_mean": tensors["running_mean"], "running_var": tensors["running_var"]}
        grads = torch.autograd.grad(y, list(leaves.values()), grad_y, create_graph=order == 2)
        result |= {f"grad {name}": grad.detach() for name, grad in zip(leaves, grads)}
        if order == 2:
            penalty = sum(g.double().square().sum() for g in grads)
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


def eager(x, weight, bias, running_mean, running_var, **how):
    """What a user has now: two PyTorch calls, at their own dtypes."""
    return reference.composed(x, weight, bias, running_mean, running_var, **how)


DTYPES = [F32, BF16, F16, F64]
CASES = [
    *(Case(dtype=d, layout=layout, act=a, kind=k) for d in DTYPES for layout in ("channels_last", "contiguous")
      for a, k in [("leaky_relu", "batch"), ("relu", "instance"), ("leaky_relu", "splits"), ("relu", "eval")]),
    *(Case(dtype=d, act=a) for d in DTYPES for a in ACTIVATIONS),
    *(Case(dtype=d, act=a, kind="instance", layout="contiguous") for d in (F32, BF16) for a in ACTIVATIONS),
    *(Case(dtype=d, parameters=p, kind=k) for d in (F32, BF16) for p in ("same", "none") for k in ("batch", "eval")),
    *(Case(shape=s, dtype=d, layout=layout) for d in (F32, BF16) for layout in ("channels_last", "contiguous")
      for s in [(1, 3, 4, 4), (2, 1, 3, 3), (7, 3, 1, 1), (5, 17, 1, 3), (3, 130, 2, 2),
                (64, 16), (9, 1), (4, 5, 11), (2, 4, 3, 2, 5), (2, 3, 2, 2, 2, 2), (3, 70, 33, 31), (40, 8, 16, 16)]),
    *(Case(layout=layout, dtype=d, kind=k) for layout in ("sliced", "transposed") for d in (F32, BF16)
      for k in ("batch", "instance")),
    *(Case(act="prelu", slope=0, kind=k, dtype=d) for k in ("batch", "instance", "eval", "splits") for d in (F32, F16)),
    *(Case(mean=1e4, layout=layout, shape=(16, 24, 9, 9)) for layout in ("channels_last", "contiguous")),
    Case(kind="instance-eval", act="silu"),
    Case(momentum=0.0),
    Case(momentum=1.0, kind="splits"),
    Case(eps=0.8),
    Case(eps=0.0),
]  # fmt: skip


@pytest.mark.every_instruction_set
@pytest.mark.parametrize("case", CASES, ids=str)
def test_as_accurate_as_pytorch(case: Case, path: str, poisoned: None) -> None:
    exact = case.run(reference.norm_act, F64)
    theirs = case.run(eager)
    ours = case.run(ops.norm_act, backend=path)
    assert_as_accurate(list(ours.values()), list(theirs.values()), list(exact.values()), list(exact))


@pytest.mark.parametrize("shape", [(1, 1, 2, 1), (2, 64, 1, 1), (1, 5, 1, 2)])
@pytest.mark.parametrize("layout", ["channels_last", "contiguous"])
def test_two_values_a_channel(shape: tuple[int, ...], layout: str, path: str) -> None:
    """The gradient is then all cancellation, so that only its size against the terms that cancel can be asked for."""
    case = Case(shape=shape, layout=layout, act="tanh")
    exact, ours = case.run(reference.norm_act, F64), case.run(ops.norm_act, backend=path)
    for name in exact:
        torch.testing.assert_close(ours[name].double(), exact[name], rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("kind", ["batch", "instance", "splits", "eval", "instance-eval"])
@pytest.mark.parametrize("act", ["none", "tanh"])
def test_the_reference_is_pytorchs_function(kind: str, act: str) -> None:
    """The oracle itself, against torch.nn.functional in float64."""
    case = Case(dtype=F64, kind=kind, act=act)
    ours, theirs = case.run(reference.norm_act, order=2), case.run(eager, order=2)
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-10, atol=1e-10, msg=lambda m, n=name: f"{n}: {m}")


SECOND_ORDER = [
    *(Case(act=a, dtype=d) for a in ACTIVATIONS for d in (F32, BF16)),
    *(Case(kind=k, dtype=d, layout="contiguous") for k in ("instance", "splits", "eval") for d in (F32, F16, F64)),
    Case(parameters="none"), Case(parameters="same", dtype=BF16, kind="eval"), Case(shape=(16, 5)),
]  # fmt: skip


@pytest.mark.parametrize("case", SECOND_ORDER, ids=str)
def test_second_derivatives_are_as_accurate(case: Case, path: str) -> None:
    exact = case.run(reference.norm_act, F64, order=2)
    theirs = case.run(eager, order=2)
    ours = case.run(ops.norm_act, order=2, backend=path)
    assert_as_accurate(list(ours.values()), list(theirs.values()), list(exact.values()), list(exact))


@pytest.mark.parametrize("kind", ["batch", "instance", "splits", "eval"])
@pytest.mark.parametrize("act", ["leaky_relu", "prelu", "silu"])
@pytest.mark.parametrize("layout", ["channels_last", "contiguous"])
def test_gradcheck(kind: str, act: str, layout: str) -> None:
    case = Case(shape=(3, 3, 2, 2), dtype=F64, kind=kind, act=act, layout=layout)
    t = case.inputs()
    leaves = [t[k].requires_grad_() for k in ("x", "weight", "bias", "slope") if t[k] is not None]
    running = (t["running_mean"], t["running_var"]) if kind == "eval" else (None, None)

    def function(x, weight, bias, slope=0.3):
        return ops.norm_act(x, weight, bias, *running, slope=slope, backend="native", **case.how)

    assert torch.autograd.gradcheck(function, leaves)
    assert torch.autograd.gradgradcheck(function, leaves)


def test_the_r1_step(path: str) -> None:
    """The step that other fused ops break without a word: a penalty on the gradient with respect to the input."""

    def discriminator(norm):
        torch.manual_seed(1)
        first, second = torch.nn.Conv2d(3, 8, 3), torch.nn.Linear(8 * 6 * 6, 1)
        weight, bias = torch.nn.Parameter(torch.ones(8)), torch.nn.Parameter(torch.zeros(8))
        x = torch.randn(4, 3, 8, 8).requires_grad_()
        logits = second(norm(first(x), weight, bias).flatten(1))
        (grad,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
        grad.square().sum().mul(5).backward()
        return [p.grad for p in (first.weight, weight, second.weight)]  # bias and the last bias have none

    ours = discriminator(lambda z, w, b: ops.norm_act(z, w, b, act="leaky_relu", slope=0.2, backend=path))
    theirs = discriminator(lambda z, w, b: F.leaky_relu(F.batch_norm(z, None, None, w, b, True), 0.2))
    for o, t in zip(ours, theirs):
        assert o is not None
        torch.testing.assert_close(o, t, rtol=1e-4, atol=1e-5)


class TestLayouts:
    @pytest.mark.parametrize("shape", [(2, 5, 3, 4), (2, 5, 7), (2, 5, 3, 2, 2), (4, 5), (2, 1, 3, 3), (3, 5, 1, 1)])
    @pytest.mark.parametrize("layout", ["channels_last", "contiguous"])
    def test_kept(self, shape: tuple[int, ...], layout: str, path: str) -> None:
        x = laid_out(torch.randn(shape), layout).requires_grad_()
        y = ops.norm_act(x, act="relu", backend=path)
        (grad,) = torch.autograd.grad(y, x, torch.randn(shape))
        if path == "native" or len(shape) in (4, 5):  # PyTorch's own keeps the named layouts
            assert y.stride() == x.stride()
        if path == "native":
            assert grad.stride() == x.stride()

    @pytest.mark.parametrize("layout", ["channels_last", "contiguous"])
    def test_expanded_and_foreign_gradients(self, layout: str, path: str) -> None:
        x = laid_out(torch.randn(4, 6, 3, 5), layout).requires_grad_()
        y = ops.norm_act(x, act="silu", backend=path)
        other = "contiguous" if layout == "channels_last" else "channels_last"
        gradients = [
            torch.full((), 0.7).expand(y.shape),
            laid_out(torch.randn(y.shape), other),
            torch.randn(4, 6, 3, 1).expand(y.shape),
            torch.randn(5, 3, 6, 4).permute(3, 2, 1, 0),
        ]
        for grad_y in gradients:
            (ours,) = torch.autograd.grad(y, x, grad_y, retain_graph=True)
            (theirs,) = torch.autograd.grad(F.silu(F.batch_norm(x, None, None, None, None, True)), x, grad_y)
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)

    def test_result_never_aliases_the_input(self, path: str) -> None:
        x = torch.randn(3, 4, 2, 2)
        y = ops.norm_act(x, None, None, torch.zeros(4), torch.ones(4), training=False, eps=0.0, backend=path)
        assert y.data_ptr() != x.data_ptr()
        torch.testing.assert_close(y, x)


class TestRunningStatistics:
    def test_untouched_in_evaluation_and_without_gradients_updated(self, path: str) -> None:
        x, mean, var = torch.randn(8, 3, 4, 4), torch.zeros(3), torch.ones(3)
        ops.norm_act(x, None, None, mean, var, training=False, backend=path)
        assert mean.equal(torch.zeros(3))
        with torch.no_grad():
            ops.norm_act(x, None, None, mean, var, momentum=1.0, backend=path)
        torch.testing.assert_close(mean, x.mean((0, 2, 3)))
        torch.testing.assert_close(var, x.var((0, 2, 3)))

    def test_splits_are_that_many_calls(self, path: str) -> None:
        x = torch.randn(6, 3, 4, 4)
        means, variances = [torch.zeros(3), torch.zeros(3)], [torch.ones(3), torch.ones(3)]
        whole = ops.norm_act(x, None, None, means[0], variances[0], splits=2, backend=path)
        parts = [ops.norm_act(p, None, None, means[1], variances[1], backend=path) for p in x.chunk(2)]
        torch.testing.assert_close(whole, torch.cat(parts))
        torch.testing.assert_close(means[0], means[1])
        torch.testing.assert_close(variances[0], variances[1])

    def test_evaluation_gradient_uses_the_statistics_of_its_forward(self, path: str) -> None:
        x = torch.randn(4, 3, 2, 2, requires_grad=True)
        mean, var = torch.zeros(3), torch.full((3,), 4.0)
        y = ops.norm_act(x, None, None, mean, var, training=False, eps=0.0, backend=path)
        if path == "native":
            var.fill_(100.0)
        torch.testing.assert_close(torch.autograd.grad(y.sum(), x)[0], torch.full_like(x, 0.5))


class TestSpecialValues:
    @pytest.mark.parametrize("layout", ["channels_last", "contiguous"])
    def test_the_error_does_not_grow_with_the_tensor(self, layout: str) -> None:
        x = laid_out(torch.rand(1, 2, 1024, 1024) + 3, layout)
        mean, var = torch.zeros(2), torch.ones(2)
        ops.norm_act(x, None, None, mean, var, momentum=1.0, backend="native")
        torch.testing.assert_close(mean, x.double().mean((0, 2, 3)).float(), rtol=1.5e-7, atol=0)
        torch.testing.assert_close(var, x.double().var((0, 2, 3)).float(), rtol=5e-7, atol=0)

    def test_empty_batch(self, path: str) -> None:
        mean = torch.zeros(3)
        x = torch.zeros(0, 3, 4, 4, requires_grad=True)
        y = ops.norm_act(x, torch.ones(3), torch.zeros(3), mean, torch.ones(3), act="relu", backend=path)
        assert y.shape == x.shape
        y.sum().backward()
        assert x.grad is not None
        assert x.grad.shape == x.shape
        assert mean.equal(torch.zeros(3))

    @pytest.mark.parametrize("act", list(ACTIVATIONS))
    def test_nan_and_infinities_in_evaluation(self, act: str, path: str) -> None:
        """NaN stays NaN, infinities go where PyTorch sends them, in every lane and in the tail."""
        values = torch.tensor([float("nan"), float("inf"), -float("inf"), 0.0, -0.0, 1e-30, -1e-30, 88.0, -88.0, 200.0,
                               -200.0, 3e38, -3e38, 1.0, -1.0, 0.5, -0.5])  # fmt: skip
        x = values.repeat(1, 1, 3, 1).requires_grad_()
        slope = torch.tensor([0.25]) if act == "prelu" else 0.25
        how = {"act": act, "slope": slope, "training": False, "eps": 0.0}
        y = ops.norm_act(x, None, None, torch.zeros(1), torch.ones(1), backend=path, **how)
        expected = ACTIVATIONS[act](x, slope)
        torch.testing.assert_close(y, expected, equal_nan=True, rtol=1e-6, atol=1e-37)
        finite = values.isfinite() & (values.abs() < 1e4)  # PyTorch's own derivatives are NaN further out
        ours, theirs = (torch.autograd.grad(t, x, torch.ones_like(t))[0] for t in (y, expected))
        torch.testing.assert_close(ours[..., finite], theirs[..., finite], rtol=1e-5, atol=1e-7)

    @pytest.mark.processes
    @pytest.mark.parametrize("dtype", [F16, BF16])
    @pytest.mark.cpu_kernels
    @pytest.mark.parametrize("capability", ["baseline", "avx2", "avx512"])
    def test_every_half_precision_number(self, dtype: torch.dtype, capability: str) -> None:
        """All 65,536 of them are read right, and products with them are rounded as PyTorch rounds."""
        code = f"""
import torch
from fastgan import ops
bits = torch.arange(-2**15, 2**15, dtype=torch.int32).to(torch.int16)
x = bits.view({dtype}).reshape(1, 1, 256, 256)
for factor in (1.2345678, 1 + 2**-8, 1 + 2**-11):  # the latter two give ties, of bfloat16 and of float16
    weight = torch.tensor([factor])
    y = ops.norm_act(x, weight, None, torch.zeros(1), torch.ones(1), training=False, eps=0.0, backend="native")
    expected = (x.float() * weight).to({dtype})
    assert torch.equal(y.isnan(), expected.isnan())
    ok = ~expected.isnan()
    assert torch.equal(y[ok], expected[ok])
"""
        run_python(code, FASTGAN_CPU_CAPABILITY=capability)

    @pytest.mark.slow
    def test_more_than_two_to_the_31_elements(self) -> None:
        if os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") < 14e9:
            pytest.skip("needs 14 GB of free memory")
        x = torch.zeros((1, 2, 2**30 + 8), dtype=BF16)
        x[:, :, -4:] = 3.0
        y = ops.norm_act(x, None, None, torch.zeros(2), torch.ones(2), training=False, act="relu", eps=0.0)
        assert y[:, :, -4:].eq(3.0).all()
        assert y[:, 1, : 2**20].eq(0.0).all()


@pytest.mark.parametrize("layout", ["channels_last", "contiguous"])
@pytest.mark.parametrize("shape", [(32, 40, 16, 16), (64, 3, 32, 32), (2, 64, 64, 64)])
def test_same_bits_for_any_number_of_threads(layout: str, shape: tuple[int, ...]) -> None:
    case = Case(shape=shape, layout=layout)
    assert_same_bits_for_any_number_of_threads(lambda: case.run(ops.norm_act, backend="native"))


class TestWithTorch:
    @pytest.mark.parametrize("dtype", [F32, BF16])
    @pytest.mark.parametrize("layout", ["channels_last", "contiguous"])
    def test_opcheck(self, dtype: torch.dtype, layout: str) -> None:
        assert backend.library("cpu").usable
        x = laid_out(torch.randn(4, 5, 3, 3), layout).to(dtype)
        w, b, mean, var = torch.ones(5), torch.zeros(5), torch.zeros(5), torch.ones(5)
        ns = torch.ops.fastgan
        tests = ("test_schema", "test_faketensor", "test_autograd_registration")
        torch.library.opcheck(ns.norm_act.default, (x, w, b, None, mean, var, 1, 0.1, 1e-5, 2, 0.2), test_utils=tests)
        _, statistics = ns.norm_act(x, w, b, None, mean, var, 2, 0.1, 1e-5, 2, 0.2)
        slope = torch.rand(5)
        means = torch.zeros(3, 2, 5, dtype=F64)
        for op, arguments in [
            (ns.norm_act_backward, (x, x, statistics, w, b, True, 2, 0.2)),
            (ns.norm_act_backward, (x, x, statistics, None, None, True, 2, 0.2)),
            (ns.norm_act_moments, (x, 2)),
            (ns.norm_act_apply, (x, statistics, w, b, slope, 3, 0.0)),
            (ns.norm_act_backward_sums, (x, x, statistics, w, b, slope, 3, 0.0)),
            (ns.norm_act_backward_apply, (x, x, statistics, w, b, slope, means, 3, 0.0)),
        ]:
            torch.library.opcheck(op.default, arguments, test_utils=tests)

    @pytest.mark.parametrize("case", [Case(), Case(act="prelu", slope=0), Case(kind="instance", layout="contiguous"),
                                      Case(kind="eval", dtype=BF16)], ids=str)  # fmt: skip
    def test_compile_fullgraph(self, case: Case) -> None:
        compiled = torch.compile(ops.norm_act, fullgraph=True, backend="aot_eager")
        ours, theirs = case.run(compiled), case.run(ops.norm_act)
        for name in theirs:
            torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=0)
        assert ours["y"].stride() == theirs["y"].stride()

    def test_autocast_leaves_the_running_statistics_alone(self, path: str) -> None:
        x, mean, var = torch.randn(8, 3, 4, 4, dtype=BF16), torch.zeros(3), torch.ones(3)
        with torch.autocast("cpu", BF16):
            y = ops.norm_act(x, torch.ones(3), torch.zeros(3), mean, var, momentum=1.0, act="relu", backend=path)
        assert y.dtype == BF16
        torch.testing.assert_close(mean, x.float().mean((0, 2, 3)), rtol=1e-5, atol=1e-6)

    def test_changing_a_saved_tensor_is_noticed(self) -> None:
        x = torch.randn(4, 3, 2, 2)
        weight = torch.ones(3, requires_grad=True)
        y = ops.norm_act(x, weight, backend="native")
        with torch.no_grad():
            weight.mul_(2)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            y.sum().backward()

    @pytest.mark.parametrize("act", [a for a in ACTIVATIONS if a not in ("none", "prelu")])
    def test_keeps_half_of_what_pytorch_keeps_for_backward(self, act: str) -> None:
        def kept(block: Any) -> int:
            storages: dict[int, int] = {}

            def pack(t: Tensor) -> Tensor:
                storages[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
                return t

            x = torch.randn(16, 32, 16, 16, requires_grad=True)
            with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
                y = block(x)
            assert y.requires_grad
            return sum(storages.values())

        weight, bias = (torch.ones(32, requires_grad=True) for _ in range(2))
        in_place = {"relu": F.relu_, "leaky_relu": lambda z: F.leaky_relu_(z, 0.2), "tanh": torch.tanh_,
                    "sigmoid": torch.sigmoid_, "elu": F.elu_, "silu": F.silu}  # fmt: skip
        eager = kept(lambda x: in_place[act](F.batch_norm(x, None, None, weight, bias, True)))
        fused = kept(lambda x: ops.norm_act(x, weight, bias, act=act, backend="native"))
        assert fused <= 0.55 * eager, f"{fused} bytes of {eager}"

    def test_no_gradient_is_computed_for_what_needs_none(self, path: str) -> None:
        weight = torch.ones(3, requires_grad=True)
        ops.norm_act(torch.randn(4, 3, 2, 2), weight, torch.zeros(3), backend=path).sum().backward()
        assert weight.grad is not None
        weight.grad = None
        y = ops.norm_act(torch.randn(4, 3, 2, 2), weight, torch.zeros(3), act="silu", backend=path)
        y.square().sum().backward(create_graph=True)
        assert weight.grad.requires_grad
        weight.grad = None


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"x": "no"}, TypeError, "x must be a tensor"),
    ({"x": torch.ones(4, 3, dtype=torch.int64)}, TypeError, "torch.int64; accepted: float32"),
    ({"x": torch.ones(4)}, ValueError, r"shape \(4,\).*batch and a channel"),
    ({"weight": torch.ones(4)}, ValueError, r"weight has shape \(4,\), x has 3 channels"),
    ({"bias": torch.ones(3, 1)}, ValueError, "bias has shape"),
    ({"running_mean": torch.zeros(2)}, ValueError, "running_mean has shape"),
    ({"running_var": torch.ones(2)}, ValueError, "running_var has shape"),
    ({"weight": torch.ones(1)}, ValueError, r"weight has shape \(1,\), x has 3 channels"),
    ({"running_var": torch.ones(1), "training": False}, ValueError, "running_var has shape"),
    ({"running_var": torch.ones(3, requires_grad=True)}, ValueError, "running statistics have no gradient"),
    ({"instance": True, "running_var": torch.ones(2, 3)}, ValueError, "running_var has shape"),
    ({"instance": True, "momentum": 1.5}, ValueError, "momentum must be a number"),
    ({"x": torch.eye(4, 3).to_sparse()}, TypeError, "x is nested or torch.sparse_coo; accepted: dense"),
    ({"weight": 1.0}, TypeError, "weight must be a tensor or None, not float"),
    ({"weight": torch.ones(3, dtype=torch.float64)}, TypeError, "weight is torch.float64 and x is torch.float32"),
    ({"x": torch.randn(4, 3, dtype=torch.float64)}, TypeError, "accepted: float64"),
    ({"x": torch.randn(4, 3).bfloat16(), "weight": torch.ones(3).bfloat16()}, TypeError, "must share one dtype"),
    ({"bias": torch.zeros(3, device="meta")}, ValueError, "bias is on meta and x on cpu"),
    ({"act": "gelu"}, ValueError, "unknown activation 'gelu'; accepted: none, relu"),
    ({"act": "prelu"}, TypeError, "prelu takes its weight tensor"),
    ({"act": "prelu", "slope": torch.ones(2)}, ValueError, "slope has shape"),
    ({"slope": torch.ones(3)}, TypeError, "takes a number as slope"),
    ({"eps": -1e-5}, ValueError, "eps must be a number >= 0, not -1e-05"),
    ({"eps": "small"}, ValueError, "eps must be a number"),
    ({"momentum": 1.5}, ValueError, r"momentum must be a number in \[0, 1\], not 1.5"),
    ({"momentum": None}, ValueError, "momentum must be a number"),
    ({"running_var": None}, ValueError, "both running_mean and running_var"),
    ({"running_mean": None, "running_var": None, "training": False}, ValueError, "training=False needs"),
    ({"splits": 3}, ValueError, "3 parts do not divide it equally"),
    ({"splits": 0}, ValueError, "integer >= 1, not 0"),
    ({"splits": 2, "instance": True}, ValueError, "instance normalisation has no splits"),
    ({"x": torch.randn(1, 3, 1, 1)}, ValueError, r"one value per channel when training, .* shape \(1, 3, 1, 1\)"),
    ({"x": torch.randn(4, 3, 1, 1), "splits": 4}, ValueError, "one value per channel.*in 4 splits"),
    ({"x": torch.randn(4, 3, 1, 1), "instance": True}, ValueError, "one value per channel"),
    ({"backend": "fast"}, ValueError, "backend='fast' is not a backend; accepted: auto, native"),
    ({"backend": "triton"}, ValueError, "backend='triton' is not a backend; accepted: auto, native, torch"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "error", "message"), BAD, ids=lambda v: str(v)[:40])
def test_says_what_is_wrong(change: dict[str, Any], error: type[Exception], message: str, path: str) -> None:
    good = {
        "x": torch.randn(4, 3, 2, 2), "weight": torch.ones(3), "bias": torch.zeros(3), "running_mean": torch.zeros(3),
        "running_var": torch.ones(3), "act": "leaky_relu", "slope": 0.2, "backend": path,
    }  # fmt: skip
    ops.norm_act(**good)
    mean = good["running_mean"].clone()
    with pytest.raises(error, match=message):
        ops.norm_act(**(good | change))
    assert good["running_mean"].equal(mean), "a refused call changed the running statistics"


def test_splits_mean_nothing_in_evaluation(path: str) -> None:
    x = torch.randn(3, 3, 2, 2)
    for how in ({"splits": 2}, {"splits": 2, "instance": True}):
        y = ops.norm_act(x, None, None, torch.zeros(3), torch.ones(3), training=False, eps=0, backend=path, **how)
        torch.testing.assert_close(y, x)


def test_parameters_of_any_stride(path: str) -> None:
    """Columns, every second element and expanded scalars, read, differentiated and updated where they lie."""
    x = torch.randn(4, 3, 5, 5)
    vectors = [torch.randn(6)[::2], torch.randn(3, 4)[:, 1], torch.randn(1).expand(3)]
    for vector in vectors:
        results = []
        for weight in (vector, vector.clone(memory_format=torch.contiguous_format)):
            bias, running = weight.detach() * 1, [torch.zeros(6)[::2], torch.ones(3, 2)[:, 0]]
            if weight is not vector:
                running = [torch.zeros(3), torch.ones(3)]
            leaf = weight.detach().requires_grad_()
            y = ops.norm_act(x, leaf, bias, *running, act="silu", backend=path)
            results.append([y, *torch.autograd.grad(y.square().sum(), leaf), *running])
        torch.testing.assert_close(*results)
        assert results[0][2].abs().sum() > 0


FUNC = {
    "grad": lambda f: torch.func.grad(lambda z: f(z).square().sum()),
    "grad of grad": lambda f: torch.func.grad(lambda z: FUNC["grad"](f)(z).square().sum()),
    "vmap": lambda f: lambda z: torch.func.vmap(f)(torch.stack([z, z * z])),
    "jvp": lambda f: lambda z: torch.func.jvp(f, (z,), (z.sin(),))[1],
}


@pytest.mark.parametrize("transform", FUNC)
def test_torch_func(transform: str, path: str) -> None:
    x, w = torch.randn(4, 3, 2, 2, dtype=F64), torch.randn(3, dtype=F64)
    ours = FUNC[transform](lambda z: ops.norm_act(z, w, act="silu", backend=path))(x)
    theirs = FUNC[transform](lambda z: F.silu(F.batch_norm(z, None, None, w, None, True)))(x)
    torch.testing.assert_close(ours, theirs)


def test_the_raw_ops_keep_memory_safe() -> None:
    """What Python never passes: each would read or write memory that is not its own."""
    assert backend.library("cpu").usable
    ns, x, statistics = torch.ops.fastgan, torch.randn(4, 6, 3, 5), torch.ones(2, 1, 6)
    none, rest = (None, None, None), (1, 0.1, 1e-5, 0, 0.0)
    means = torch.zeros(3, 1, 6, dtype=F64)
    calls = [
        lambda: ns.norm_act(x[:1].expand(4, 6, 3, 5), *none, None, None, *rest),
        lambda: ns.norm_act(torch.randn(900).as_strided(x.shape, (200, 1, 30, 6)), *none, None, None, *rest),
        lambda: ns.norm_act(x, *none, None, None, 3, *rest[1:]),
        lambda: ns.norm_act(x, *none, None, None, 1, 0.1, 1e-5, 99, 0.0),
        lambda: ns.norm_act(x, *none, torch.zeros(6), torch.zeros(5), *rest),
        lambda: ns.norm_act(x, *none, torch.zeros(6), torch.zeros(1).expand(6), *rest),
        lambda: ns.norm_act(x, torch.ones(1), None, None, None, None, *rest),
        lambda: ns.norm_act_apply(x, statistics.bfloat16(), *none, 0, 0.0),
        lambda: ns.norm_act_apply(x, torch.ones(2, 1, 5), *none, 0, 0.0),
        lambda: ns.norm_act_backward(x, x, statistics, torch.ones(1), None, True, 0, 0.0),
        lambda: ns.norm_act_backward(laid_out(x, "channels_last"), x, statistics, None, None, True, 0, 0.0),
        lambda: ns.norm_act_backward(x[:2], x, statistics, None, None, True, 0, 0.0),
        lambda: ns.norm_act_backward_apply(x, x, statistics, *none, torch.zeros(3, 1, 5, dtype=F64), 0, 0.0),
        lambda: ns.norm_act_backward_apply(x, x, statistics, *none, means.float(), 0, 0.0),
    ]
    for number, call in enumerate(calls):
        with pytest.raises(RuntimeError, match="fastgan: "):
            print(f"call {number}:", call())


def test_integer_arguments_are_numbers(path: str) -> None:
    x = torch.randn(4, 3, 2, 2)
    y = ops.norm_act(x, act="leaky_relu", slope=0, eps=1, momentum=1, backend=path)
    torch.testing.assert_close(y, F.relu(F.batch_norm(x, None, None, None, None, True, 1, 1)))


@pytest.mark.processes
@pytest.mark.parametrize("act", ["leaky_relu", "prelu"])
def test_process_group_equals_the_whole_batch(act: str, tmp_path: Any) -> None:
    """Two gloo ranks with unequal shares of the batch against one process with all of it."""
    code = f"""
import sys, torch, torch.distributed as dist
from fastgan import ops
rank = int(sys.argv[1])
dist.init_process_group("gloo", init_method="file://{tmp_path}/meet", rank=rank, world_size=2)
torch.manual_seed(0)
x, grad = torch.randn(7, 5, 3, 3, dtype=torch.float64), torch.randn(7, 5, 3, 3, dtype=torch.float64)
part = slice(0, 3) if rank == 0 else slice(3, 7)
for path in ("native", "torch"):
    results = []
    for mine, group in ((part, dist.group.WORLD), (slice(None), None)):
        t = [x[mine].clone(), torch.rand(5).double() + 1, torch.randn(5).double()]
        torch.manual_seed(1)
        t[1], t[2] = torch.randn(5).double(), torch.randn(5).double()
        slope = torch.rand(5).double() if "{act}" == "prelu" else 0.2
        mean, var = torch.zeros(5).double(), torch.ones(5).double()
        leaves = [v.requires_grad_() for v in (*t, *([slope] if "{act}" == "prelu" else []))]
        y = ops.norm_act(*t, mean, var, act="{act}", slope=slope, process_group=group, backend=path)
        grads = list(torch.autograd.grad(y, leaves, grad[mine], create_graph=True))
        penalty = grads[0].square().sum()
        second = torch.autograd.grad(penalty, leaves[:2])
        sums = [g.detach().clone() for g in (*grads[1:], second[1])]
        if group is not None:
            for g in sums:
                dist.all_reduce(g)
        rows = (y, grads[0], second[0])
        if group is None:
            rows = [r[part] for r in rows]
        results.append([v.detach() for v in (*rows, *sums, mean, var)])
    for a, b in zip(*results):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
    alone = ops.norm_act(x[part], instance=True, process_group=dist.group.WORLD, backend=path)
    torch.testing.assert_close(alone, torch.nn.functional.instance_norm(x[part]))
"""
    ranks = [subprocess.Popen([sys.executable, "-c", code, str(r)], stderr=subprocess.PIPE, text=True) for r in (0, 1)]
    errors = [rank.communicate(timeout=120)[1] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], errors


def run_python(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.processes
def test_falls_back_without_the_library(tmp_path: Any) -> None:
    """No compiled library: the same numbers from PyTorch, quietly. Asking for it by name is an error that says why."""
    code = """
import warnings; warnings.simplefilter("error")
import torch, fastgan
from fastgan import backend, ops
backend._LIBRARIES["cpu"] = "libabsent.so"
x = torch.randn(4, 3, 2, 2)
y = ops.norm_act(x, act="relu")
torch.testing.assert_close(y, torch.relu(torch.nn.functional.batch_norm(x, None, None, None, None, True)))
try:
    ops.norm_act(x, act="relu", backend="native")
except RuntimeError as error:
    print(error)
print(backend.info())
"""
    out = run_python(code)
    assert "libabsent.so was not built" in out
    assert "norm_act on cpu" in out


@pytest.mark.processes
def test_environment_chooses_the_backend() -> None:
    code = "import torch; from fastgan import backend; print(backend.choose('norm_act', 'cpu'))"
    assert run_python(code, FASTGAN_BACKEND="torch").strip() == "torch"
    assert [backend.choose("norm_act", "cpu", b) for b in ("auto", "torch", "native")][1:] == ["torch", "native"]
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "FASTGAN_BACKEND": "warp"},
                          capture_output=True, text=True)  # fmt: skip
    assert "FASTGAN_BACKEND='warp' is not a backend; accepted: auto, native, torch" in done.stderr
