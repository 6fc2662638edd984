"""What resize_conv and conv_pool promise alike: one merged convolution computes what a pair of PyTorch's calls does."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from fastgan import backend
from fastgan.convolutions import merged, rules
from tests.accuracy import assert_as_accurate

FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


@pytest.fixture
def always(monkeypatch):
    """The merged convolution runs however small the batch. Yields the names of what ran."""
    ran = []
    for name in ("resize", "pool"):
        original = getattr(merged, name)
        monkeypatch.setattr(merged, name, lambda *a, f=original, n=name: (ran.append(n), f(*a))[1])
    monkeypatch.setattr(merged, "LEAST", dict.fromkeys(merged.LEAST, rules.Least(0, 0, 0)))
    return ran


def derivatives(function: Callable[..., Tensor], leaves: list[Tensor], order: int = 2) -> list[Tensor]:
    """The result, its gradients and, for order 2, those of their squared norm."""
    leaves = [t.detach().requires_grad_() for t in leaves]
    y = function(*leaves)
    loss = (y.square() * torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)).sum()
    grads = torch.autograd.grad(loss, leaves, create_graph=order == 2)
    if order == 1:
        return [y, *grads]
    return [y, *grads, *torch.autograd.grad(sum(g.square().sum() for g in grads), leaves)]


def leaves(kernel=(3, 3), groups=1, bias=True, size=(4, 6), dtype=torch.float64, layout="contiguous", channels=(4, 6)):
    made = [torch.randn(2, channels[0], *size), torch.randn(channels[1], channels[0] // groups, *kernel) / 3]
    made = [t.to(dtype).contiguous(memory_format=FORMATS[layout]) for t in made]
    return [*made, torch.randn(channels[1]).to(dtype)] if bias else made


def assert_typically_as_accurate(ours, theirs, exact, names):
    """The root mean square of the error is at most twice that of the pair's, in float32: a strided convolution of
    PyTorch's adds up in one chain what the pair adds up in four, so that single elements are off by more."""
    for o, t, e, name in zip(ours, theirs, exact, names, strict=True):
        error, allowed = ((a.double() - e).square().mean().sqrt() for a in (o, t))
        assert error <= 2 * allowed + torch.finfo(o.dtype).eps * e.square().mean().sqrt(), f"{name}: {error / allowed}"
        assert o.dtype == t.dtype


@pytest.mark.usefixtures("always")
class MergedCases:
    op: Callable[..., Tensor]
    reference: Callable[..., Tensor]
    runs: str  # in merged

    def both(self, given: list[Tensor], groups: int = 1, order: int = 2) -> list[list[Tensor]]:
        return [
            derivatives(lambda x, w, b=None, f=f: f(x, w, b, groups), given, order) for f in (self.op, self.reference)
        ]

    @pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (5, 5), (7, 7), (1, 3), (5, 3)], ids=str)
    @pytest.mark.parametrize("groups", [1, 2])
    @pytest.mark.parametrize("layout", FORMATS)
    def test_is_the_pair_to_the_second_derivative(self, kernel, groups, layout, always):
        for bias, size in ((True, (4, 6)), (False, (5, 3))):
            ours, theirs = self.both(leaves(kernel, groups, bias, size, layout=layout), groups)
            assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
            assert ours[0].stride() == theirs[0].stride()
        assert always == [self.runs] * 2

    @pytest.mark.parametrize("layout", FORMATS)
    @pytest.mark.parametrize("weight_layout", FORMATS)
    def test_one_channel_each_way(self, layout, weight_layout):
        for channels in ((3, 1), (1, 6), (4, 1), (1, 1), (4, 3)):
            given = leaves(channels=channels, layout=layout)
            given[1] = given[1].contiguous(memory_format=FORMATS[weight_layout])
            ours, theirs = self.both(given)
            assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
            assert ours[0].stride() == theirs[0].stride()

    def test_a_group_a_channel(self):
        ours, theirs = self.both(leaves(groups=4, channels=(4, 8)), 4)
        assert_close(ours, theirs, rtol=1e-10, atol=1e-10)

    def test_other_layouts(self):
        x, weight, bias = leaves()
        for case in (x.transpose(2, 3), x[..., ::2], x[:, :, :1].expand(-1, -1, 4, -1), x[:1].expand(3, -1, -1, -1)):
            for w in (weight, weight.transpose(2, 3), weight.flip(0)[::1]):
                assert_close(*(f(case, w, bias) for f in (self.op, self.reference)), rtol=1e-10, atol=1e-10)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
    @pytest.mark.parametrize("layout", FORMATS)
    @pytest.mark.parametrize("kernel", [(3, 3), (5, 5)], ids=str)
    def test_as_accurate_as_pytorch(self, dtype, layout, kernel):
        given = leaves(kernel, size=(8, 8), dtype=dtype, layout=layout, channels=(24, 16))
        grad = None
        results = []
        for function, tensors in ((self.op, given), (self.reference, given),
                                  (self.reference, [t.double() for t in given])):  # fmt: skip
            tensors = [t.detach().requires_grad_() for t in tensors]
            y = function(*tensors)
            grad = torch.randn_like(y) if grad is None else grad
            results.append([y, *torch.autograd.grad(y, tensors, grad.to(y.dtype))])
        check = assert_typically_as_accurate if dtype is torch.float32 else assert_as_accurate
        check(*results, ["y", "x", "weight", "bias"])

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
    def test_penalty_is_as_accurate(self, dtype):
        given = leaves(size=(8, 8), dtype=dtype, channels=(16, 8))
        results = []
        for function, tensors in ((self.op, given), (self.reference, given),
                                  (self.reference, [t.double() for t in given])):  # fmt: skip
            x, *parameters = (t.detach().requires_grad_() for t in tensors)
            (grad,) = torch.autograd.grad(function(x, *parameters).sum(), x, create_graph=True)
            results.append([*torch.autograd.grad(grad.square().sum(), parameters[:1])])
        assert_typically_as_accurate(*results, ["weight"])

    def test_autocast_merges_in_float32(self):
        given = leaves(size=(8, 8), dtype=torch.float32, channels=(24, 16))
        exact = self.reference(*(t.double() for t in given))
        with torch.autocast("cpu", torch.bfloat16):
            ours, theirs = self.op(*given), self.reference(*given)
            merged_weight = merged.merge(given[1])
        assert merged_weight.dtype == torch.float32
        assert_as_accurate([ours], [theirs], [exact], ["y"])
        with torch.autocast("cpu", torch.bfloat16):
            tensors = [t.requires_grad_() for t in given]
            grads = torch.autograd.grad(self.op(*tensors).sum(), tensors)
        assert {g.dtype for g in grads} == {torch.float32}

    def test_derivatives_are_right(self):
        given = [t.requires_grad_() for t in leaves(size=(2, 3), channels=(2, 2))]
        assert torch.autograd.gradcheck(self.op, given)
        assert torch.autograd.gradgradcheck(self.op, given)

    def test_large_mean(self):
        """Sums of neighbouring weights cancel where the weights do: no more error than the pair's."""
        given = leaves(size=(8, 8), dtype=torch.float32, channels=(16, 16))
        given[0] += 100
        exact = self.reference(*(t.double() for t in given))
        assert_typically_as_accurate([self.op(*given)], [self.reference(*given)], [exact], ["y"])

    @pytest.mark.usefixtures("poisoned")
    def test_leaves_nothing_unwritten(self):
        for layout in FORMATS:
            assert not any(t.isnan().any() for t in self.both(leaves(layout=layout))[0])

    def test_rounded_matrix_products_are_not_used(self):
        """What a user allows for matrix products changes no convolution."""
        given = leaves(size=(8, 8), dtype=torch.float32, layout="channels_last", channels=(24, 16))
        before = derivatives(self.op, given, 1)
        torch.set_float32_matmul_precision("medium")
        try:
            assert_close(derivatives(self.op, given, 1), before, rtol=1e-5, atol=1e-3)
        finally:
            torch.set_float32_matmul_precision("highest")

    def test_overwritten_result(self):
        """As an activation in place does."""
        results, given = [], [t.requires_grad_() for t in leaves(layout="channels_last")]
        for function in (self.op, self.reference):
            y = torch.nn.functional.leaky_relu_(function(*given), 0.2)
            results.append([y, *torch.autograd.grad(y.square().sum(), given)])
        assert_close(*results, rtol=1e-10, atol=1e-10)

    def test_inside_torch_func(self):
        given = leaves()
        results = [
            torch.func.grad(lambda *a, f=f: f(*a).square().sum(), argnums=(0, 1, 2))(*given)
            for f in (self.op, self.reference)
        ]
        assert_close(*results, rtol=1e-10, atol=1e-10)

    def test_empty_batch(self):
        x, *parameters = leaves()
        assert_close(*(f(x[:0], *parameters) for f in (self.op, self.reference)))

    def test_frozen_parts(self):
        for frozen in range(3):
            given = [t.requires_grad_(i != frozen) for i, t in enumerate(leaves())]
            wanted = [t for t in given if t.requires_grad]
            assert_close(*(torch.autograd.grad(f(*given).square().sum(), wanted) for f in (self.op, self.reference)))

    def test_small_batches_are_left_to_the_pair(self, always, monkeypatch):
        monkeypatch.undo()
        x, *parameters = leaves(dtype=torch.float32)
        assert torch.equal(self.op(x, *parameters), self.reference(x, *parameters))

    def test_backend_torch(self, always, monkeypatch):
        x, *parameters = leaves(dtype=torch.float32)
        assert torch.equal(self.op(x, *parameters, backend="torch"), self.reference(x, *parameters))
        monkeypatch.setenv("FASTGAN_BACKEND", "torch")
        self.op(x, *parameters)
        assert always == []

    def test_a_backend_that_is_not_there(self, monkeypatch):
        x, *parameters = leaves(dtype=torch.float32)
        for name, error, message in (
            ("native", RuntimeError, f"backend='native' is not usable for {self.reference.__name__} on cpu: "
             f"{self.reference.__name__} has no native kernel"),
            ("triton", ValueError, "backend='triton' is not a backend; accepted: auto, native, torch"),
        ):  # fmt: skip
            with pytest.raises(error, match=message):
                self.op(x, *parameters, backend=name)
        monkeypatch.setenv("FASTGAN_BACKEND", "native")  # about the ops that have native kernels
        monkeypatch.setattr(backend, "_chosen", {})
        assert self.op(x, *parameters).shape[0] == len(x)

    def test_compile_without_a_break(self):
        given = [t.requires_grad_() for t in leaves(dtype=torch.float32)]
        torch._dynamo.reset()
        compiled = torch.compile(self.op, fullgraph=True, backend="aot_eager")
        results = [[y := f(*given), *torch.autograd.grad(y.sum(), given)] for f in (compiled, self.op)]
        assert_close(*results)

    def test_in_inference_mode_first(self):
        """Nothing that a mode made is kept for a call outside of it."""
        merged._sums.cache_clear()
        given = leaves((7, 5))
        with torch.inference_mode():
            self.op(*given)
        self.both(given)

    @pytest.mark.parametrize(
        ("change", "error", "message"),
        [
            (lambda x, w, b: ([x], w, b), TypeError, "x must be a tensor, not list"),
            (lambda x, w, b: (x.long(), w, b), TypeError, "x is int64; accepted: float32, bfloat16"),
            (lambda x, w, b: (x.float(), w, b), TypeError, "x is float32, weight float64; make them one dtype"),
            (lambda x, w, b: (x[0], w, b), ValueError, r"x must be \(N, C, H, W\), not shape \(4, 4, 6\)"),
            (lambda x, w, b: (x, w[..., :2], b), ValueError, r"with odd k and l, not \(6, 4, 3, 2\)"),
            (lambda x, w, b: (x[:, :3], w, b), ValueError, "takes 4 channels and gives a multiple of 1; x has 3"),
            (lambda x, w, b: (x, w, b[:5]), ValueError, r"bias must be \(6,\), not shape \(5,\)"),
            (lambda x, w, b: (x, w, b, 0), ValueError, "groups must be a whole number >= 1, not 0"),
            (lambda x, w, b: (x, w, b, 2), ValueError, "takes 8 channels and gives a multiple of 2; x has 4"),
            (lambda x, w, b: (x, w.to("meta"), b), ValueError, "x is on cpu, weight on meta"),
        ],
    )
    def test_says_what_is_wrong(self, change, error, message):
        with pytest.raises(error, match=message):
            self.op(*change(*leaves()))


class ModuleCases:
    kind: type[nn.Module]
    plain: Callable[[nn.Module], nn.Module]  # of a convolution, the pair as modules

    @pytest.mark.parametrize("bias", [True, False])
    @pytest.mark.parametrize("groups", [1, 2])
    def test_is_the_pair(self, bias, groups):
        torch.manual_seed(1)
        module = self.kind(4, 6, 3, bias, groups)
        torch.manual_seed(1)
        conv = nn.Conv2d(4, 6, 3, padding=1, bias=bias, groups=groups)
        assert_close(module.state_dict(), conv.state_dict(), rtol=0, atol=0)
        x = torch.randn(16, 4, 16, 16, requires_grad=True)
        for model in (module.double(), module.to(memory_format=torch.channels_last)):
            assert_close(model(x.double()), self.plain(conv.double())(x.double()))

    def test_copies_and_trains(self):
        module = self.kind(3, 5, (3, 1))
        assert module.weight.shape == (5, 3, 3, 1)
        other = copy.deepcopy(module)
        x = torch.randn(4, 3, 8, 8)
        assert torch.equal(module(x), other(x))
        module(x).square().mean().backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in module.parameters())

    def test_says_what_it_is(self):
        assert repr(self.kind(3, 8)) == f"{self.kind.__name__}(3, 8, kernel_size=(3, 3))"
        text = repr(self.kind(4, 8, 5, bias=False, groups=2))
        assert text == f"{self.kind.__name__}(4, 8, kernel_size=(5, 5), groups=2, bias=False)"

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ((3, 4, 2), "kernel_size must be one or two odd numbers >= 1, not 2"),
            ((3, 4, (3, 4)), r"odd numbers >= 1, not \(3, 4\)"),
            ((3, 4, 3, True, 2), "3 and 4 channels must be positive multiples of groups=2"),
        ],
    )
    def test_says_what_is_wrong(self, arguments, message):
        with pytest.raises(ValueError, match=f"{self.kind.__name__}: .*{message}"):
            self.kind(*arguments)

    def test_wrong_input(self):
        with pytest.raises(ValueError, match=r"takes input \(N, 3, H, W\), not shape \(2, 4, 8, 8\)"):
            self.kind(3, 4)(torch.randn(2, 4, 8, 8))
