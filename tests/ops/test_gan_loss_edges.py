"""gan_loss where it is easy to be wrong: extreme logits, misuse, threads, instruction sets, torch's own machinery."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from fastgan import backend, ops
from fastgan.reference import gan_loss as reference
from fastgan.reference.gan_loss import KINDS
from tests.accuracy import assert_same_bits_for_any_number_of_threads
from tests.ops.test_gan_loss import LABELS, LOSSES, RELATIVISTIC, Case, formula, laid_out

F32, F64, BF16, F16 = torch.float32, torch.float64, torch.bfloat16, torch.float16
NAN, INF = float("nan"), float("inf")


def run_python(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


class TestExtremeLogits:
    @pytest.mark.every_instruction_set
    @pytest.mark.parametrize(("kind", "player"), LOSSES)
    @pytest.mark.parametrize("dtype", [F32, BF16, F16, F64])
    def test_a_confident_discriminator(self, kind: str, player: str, dtype: torch.dtype, path: str) -> None:
        """Finite losses, and the gradients that float64 formulas have: 0 or +-1 / count, not NaN."""
        real = torch.tensor([1e4, -1e4, 1e4, 3.0, 88.0, -104.0]).to(dtype).requires_grad_()
        fake = torch.tensor([-1e4, 1e4, 1e4, -3.0, -89.0, 120.0]).to(dtype).requires_grad_()
        loss, means = ops.gan_loss(real, fake, kind=kind, player=player, backend=path)
        exact = [x.detach().double().requires_grad_() for x in (real, fake)]
        expected = formula(kind, player, *exact)
        torch.testing.assert_close(loss.double(), expected, rtol=1e-6, atol=1e-3)
        assert means.isfinite().all() or kind == "wasserstein"
        inputs = [
            (x, e)
            for x, e in zip((real, fake), exact)
            if player == "discriminator" or x is fake or kind in RELATIVISTIC
        ]
        ours = torch.autograd.grad(loss, [x for x, _ in inputs])
        theirs = torch.autograd.grad(expected, [e for _, e in inputs])
        for o, t in zip(ours, theirs):
            torch.testing.assert_close(o.double(), t, rtol=1e-2 if dtype == BF16 else 1e-3, atol=1e-7)

    @pytest.mark.every_instruction_set
    @pytest.mark.parametrize(("kind", "player"), LOSSES)
    @pytest.mark.parametrize("where", [0, 17, 36])
    def test_nan(self, kind: str, player: str, where: int, path: str) -> None:
        """In every lane and in the tail; a side that has no part in the loss does not spoil it."""
        for side in (0, 1):
            logits = [torch.randn(37), torch.randn(37)]
            logits[side][where] = NAN
            loss, means = ops.gan_loss(*logits, kind=kind, player=player, backend=path)
            matters = side == 1 or player == "discriminator" or kind in RELATIVISTIC
            assert loss.isnan().item() == matters
            assert means[side].isnan()

    @pytest.mark.every_instruction_set
    @pytest.mark.parametrize(("kind", "player"), [pair for pair in LOSSES if pair[0] not in RELATIVISTIC])
    def test_infinities(self, kind: str, player: str, path: str) -> None:
        """As the formulas define it: a term that its label leaves out is 0, not 0 times infinity."""
        for values in ((INF, -INF), (-INF, -INF), (INF, INF), (-INF, INF)):
            real, fake = (torch.tensor([v, 0.5], requires_grad=True) for v in values)
            loss = ops.gan_loss(real, fake, kind=kind, player=player, backend=path).loss
            expected = {
                "non_saturating": lambda r, f: F.softplus(-r).mean() + F.softplus(f).mean(),
                "minimax": lambda r, f: F.softplus(-r).mean() + F.softplus(f).mean(),
                "least_squares": lambda r, f: ((r - 1) ** 2).mean() / 2 + (f**2).mean() / 2,
                "hinge": lambda r, f: F.relu(1 - r).mean() + F.relu(1 + f).mean(),
                "wasserstein": lambda r, f: f.mean() - r.mean(),
            }[kind](real, fake)
            if player == "generator":
                expected = {
                    "non_saturating": F.softplus(-fake).mean(),
                    "minimax": -F.softplus(fake).mean(),
                    "least_squares": ((fake - 1) ** 2).mean() / 2,
                }.get(kind, -fake.mean())
            torch.testing.assert_close(loss, expected, equal_nan=True)
            if kind != "least_squares" and not loss.isnan():
                (ours,), (theirs,) = (torch.autograd.grad(t, fake) for t in (loss, expected))
                torch.testing.assert_close(ours, theirs)

    def test_on_the_edge(self, path: str) -> None:
        """The hinge has no slope where it begins, as relu; a logit on the threshold is on neither side."""
        real, fake = (
            torch.tensor([1.0, 2.0, 0.0], requires_grad=True),
            torch.tensor([-1.0, -2.0, 0.0], requires_grad=True),
        )
        loss, means = ops.gan_loss(real, fake, kind="hinge", backend=path)
        third = torch.tensor([0.0, 0.0, 1 / 3])
        torch.testing.assert_close(torch.autograd.grad(loss, (real, fake)), (-third, third))
        torch.testing.assert_close(means[2:], torch.full((2,), 2 / 3))
        halves = torch.full((20,), 0.5)
        for kind, x in (("least_squares", halves), ("non_saturating", halves * 0), ("relativistic_average", halves)):
            assert ops.gan_loss(x, x, kind=kind, backend=path).means[2:].eq(0).all()

    @pytest.mark.every_instruction_set
    def test_softplus_keeps_its_relative_accuracy(self, path: str) -> None:
        """log(1 + e^x) of one logit at a time, from e^-80 to 80, in each of which a sum would hide."""
        x = torch.cat([torch.linspace(-80, 20, 1500), torch.linspace(-1, 1, 500), torch.linspace(20, 80, 50)])
        ours = torch.stack([ops.gan_loss(None, -v, player="generator", backend=path).loss for v in x]).double()
        exact = -F.logsigmoid(-x.double())
        assert ((ours - exact) / exact).abs().max() < 3 * torch.finfo(F32).eps

    def test_gradients_of_float16_do_not_underflow(self, path: str) -> None:
        """A scaled loss: the gradient before scaling is under float16's smallest number, and not rounded to it."""
        fake = torch.full((4096,), -7.0, dtype=F16, requires_grad=True)
        (ops.gan_loss(torch.zeros(4096), fake, backend=path).loss * 65536).backward()
        torch.testing.assert_close(fake.grad, torch.full_like(fake, 65536 / 4096 / (1 + 7.0**0 * 2.718281828**7)))

    @pytest.mark.parametrize("kind", ["non_saturating", "relativistic_average", "least_squares"])
    def test_the_error_does_not_grow_with_the_count(self, kind: str) -> None:
        real, fake = torch.rand(2_000_003) + 1, torch.rand(2_000_003) - 1
        ours = ops.gan_loss(real, fake, kind=kind, backend="native")
        exact = reference.gan_loss(real.double(), fake.double(), kind=kind, player="discriminator")
        for o, e in zip(ours, exact):
            torch.testing.assert_close(o.double(), e, rtol=1.5e-7, atol=0)


class TestGradients:
    def test_a_second_pass_finds_what_the_first_found(self, path: str) -> None:
        """retain_graph, with the first gradient changed in place in between."""
        for how in ({}, LABELS):
            real, fake = Case().logits()
            loss = ops.gan_loss(real, fake, backend=path, **how).loss
            first = torch.autograd.grad(loss, (real, fake), retain_graph=True)
            kept = [g.clone() for g in first]
            for g in first:
                g.mul_(5)
            for again, k in zip(torch.autograd.grad(loss, (real, fake)), kept):
                torch.testing.assert_close(again, k, rtol=0, atol=0)
            with pytest.raises(RuntimeError, match="second time"):
                loss.backward()

    def test_accumulates_into_leaves(self, path: str) -> None:
        real, fake = Case().logits()
        loss = ops.gan_loss(real, fake, backend=path).loss
        loss.backward(retain_graph=True)
        once = fake.grad.clone()
        loss.backward(retain_graph=True)
        (loss * 3).backward()
        torch.testing.assert_close(fake.grad, 5 * once)

    def test_a_changed_logit_is_noticed(self) -> None:
        """Where the gradient would be taken from it."""
        real, fake = Case().logits()
        loss = ops.gan_loss(real, fake, backend="native").loss
        with torch.no_grad():
            real.mul_(2)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            torch.autograd.grad(loss, real, create_graph=True)

    def test_many_at_once(self, path: str) -> None:
        """is_grads_batched, as torch.autograd.functional.jacobian(vectorize=True) asks for gradients."""
        real, fake = Case().logits()
        loss = ops.gan_loss(real, fake, backend=path).loss
        (once,) = torch.autograd.grad(loss, fake, retain_graph=True)
        factors = torch.tensor([1.0, -2.0])
        (both,) = torch.autograd.grad(loss, fake, factors, is_grads_batched=True)
        torch.testing.assert_close(both, factors[:, None, None] * once)

    def test_only_one_side_wants_one(self, path: str) -> None:
        for kind in KINDS:
            real, fake = Case().logits()
            alone = ops.gan_loss(real, fake.detach(), kind=kind, backend=path).loss
            both = ops.gan_loss(real, fake, kind=kind, backend=path).loss
            for create_graph in (False, True):
                (a,) = torch.autograd.grad(alone, real, retain_graph=True, create_graph=create_graph)
                (b,) = torch.autograd.grad(both, real, retain_graph=True, create_graph=create_graph)
                torch.testing.assert_close(a, b)
            assert not ops.gan_loss(real.detach(), fake.detach(), kind=kind, backend=path).loss.requires_grad


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"real_logits": "no"}, TypeError, "real_logits must be a tensor or None, not str"),
    ({"fake_logits": [1.0]}, TypeError, "fake_logits must be a tensor or None, not list"),
    (
        {"real_logits": None, "fake_logits": None},
        ValueError,
        "the discriminator's non_saturating loss needs real_logits, fake_logits or both, not None",
    ),
    ({"real_logits": None, "kind": "relativistic"}, ValueError, "relativistic loss needs real_logits, not None"),
    ({"fake_logits": None, "kind": "relativistic"}, ValueError, "relativistic loss needs fake_logits, not None"),
    ({"fake_logits": None, "player": "generator"}, ValueError, "generator's non_saturating loss needs fake_logits"),
    ({"fake_logits": torch.ones(4, dtype=torch.int64)}, TypeError, "torch.int64; accepted: float32, bfloat16"),
    ({"real_logits": torch.ones(4, dtype=torch.bool)}, TypeError, "real_logits are torch.bool"),
    ({"real_logits": torch.ones(4).to(torch.complex64)}, TypeError, "torch.complex64; accepted"),
    ({"fake_logits": torch.ones(0, 1)}, ValueError, r"fake_logits are empty, of shape \(0, 1\)"),
    ({"real_logits": torch.eye(4).to_sparse()}, TypeError, "real_logits are nested or torch.sparse_coo"),
    ({"real_logits": torch.ones(4, device="meta")}, ValueError, "real_logits are on meta and fake_logits on cpu"),
    ({"kind": "vanilla"}, ValueError, "unknown kind 'vanilla'; accepted: non_saturating, minimax"),
    ({"kind": None}, ValueError, "unknown kind None"),
    ({"kind": ["hinge"]}, ValueError, "unknown kind"),
    ({"player": "critic"}, ValueError, "unknown player 'critic'; accepted: discriminator, generator"),
    ({"kind": "relativistic", "real_logits": torch.ones(5)}, ValueError, r"shape \(5,\) and fake_logits \(4,\)"),
    ({"kind": "relativistic", "real_logits": torch.ones(4, 1)}, ValueError, "the shapes must be equal"),
    ({"kind": "relativistic_average", "real_logits": torch.ones(5)}, ValueError, "the shapes must be equal"),
    ({"label_smoothing": 1.0}, ValueError, r"label_smoothing must be in \[0, 1\), not 1.0"),
    ({"label_smoothing": -0.1}, ValueError, r"label_smoothing must be in \[0, 1\)"),
    ({"label_smoothing": None}, ValueError, r"label_smoothing must be in \[0, 1\), not None"),
    ({"label_noise": -0.1}, ValueError, "label_noise must be finite and >= 0, not -0.1"),
    ({"label_noise": INF}, ValueError, "label_noise must be finite"),
    ({"label_noise": NAN}, ValueError, "label_noise must be finite"),
    ({"label_flips": 1.1}, ValueError, r"label_flips must be a probability in \[0, 1\], not 1.1"),
    ({"label_flips": "often"}, ValueError, "label_flips must be a probability"),
    ({"label_smoothing": 0.1, "player": "generator"}, ValueError, "label_smoothing=0.1, but the generator's losses"),
    ({"label_noise": 0.1, "kind": "relativistic"}, ValueError, "label_noise=0.1, but the relativistic losses"),
    ({"label_flips": 0.1, "kind": "relativistic_average"}, ValueError, "have no labels to change; leave it 0"),
    ({"generator": 3}, TypeError, "generator must be a torch.Generator or None, not int"),
    ({"backend": "fast"}, ValueError, "backend='fast' is not a backend"),
    ({"backend": "triton"}, ValueError, "backend='triton' is not a backend; accepted: auto, native, torch"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "error", "message"), BAD, ids=lambda v: str(v)[:40])
def test_says_what_is_wrong(change: dict[str, Any], error: type[Exception], message: str, path: str) -> None:
    good = {"real_logits": torch.randn(4), "fake_logits": torch.randn(4), "backend": path}
    ops.gan_loss(**good)
    with pytest.raises(error, match=message):
        ops.gan_loss(**(good | change))


def test_integer_options_are_numbers(path: str) -> None:
    real, fake = Case().logits()
    loss = ops.gan_loss(real, fake, label_flips=1, label_noise=0, label_smoothing=0, backend=path).loss
    torch.testing.assert_close(loss, formula("non_saturating", "discriminator", real, fake, 0.0, 1.0))


def test_the_raw_ops_keep_memory_safe() -> None:
    """What Python never passes: each would read or write memory that is not its own."""
    assert backend.library("cpu").usable
    ns, x = torch.ops.fastgan, torch.randn(4, 6)
    random = torch.rand(2, 48)
    plain = (0.1, 0.1, 0.1)
    calls = [
        lambda: ns.gan_loss(x, x[:, ::2], 0),
        lambda: ns.gan_loss(x[:1].expand(4, 6), x, 0),
        lambda: ns.gan_loss(x, torch.randn(6, 4).t(), 10),
        lambda: ns.gan_loss(x, x[:3], 10),
        lambda: ns.gan_loss(x, x.bfloat16(), 0),
        lambda: ns.gan_loss(x, x.double(), 12),
        lambda: ns.gan_loss(None, x, 0),
        lambda: ns.gan_loss(None, x, 11),
        lambda: ns.gan_loss(None, x, 13),
        lambda: ns.gan_loss(x, x, 14),
        lambda: ns.gan_loss(x, x, -1),
        lambda: ns.gan_loss(x, x[:0], 0),
        lambda: ns.gan_loss(x.long(), x.long(), 0),
        lambda: ns.gan_loss_labels(x, x, 0, random[:, :47], *plain),
        lambda: ns.gan_loss_labels(x, x, 0, random[:1], *plain),
        lambda: ns.gan_loss_labels(x, x, 0, random.double(), *plain),
        lambda: ns.gan_loss_labels(x, x, 0, torch.rand(48, 2).t(), *plain),
        lambda: ns.gan_loss_labels(None, x, 1, random, *plain),
        lambda: ns.gan_loss_labels(x, x, 10, random, *plain),
    ]
    for number, call in enumerate(calls):
        with pytest.raises(RuntimeError, match="fastgan: "):
            print(f"call {number}:", call())


def test_dense_in_any_order_is_not_copied() -> None:
    """The gradient of a permuted tensor has its strides."""
    x = torch.randn(3, 5, 2, 4).permute(2, 0, 3, 1).requires_grad_()
    for kind in KINDS:
        (grad,) = torch.autograd.grad(ops.gan_loss(x.detach(), x, kind=kind, backend="native").loss, x)
        assert grad.stride() == x.stride()


def test_pairs_are_pairs_in_any_layout(path: str) -> None:
    """The relativistic losses compare the logits of one place, wherever each tensor has them in memory."""
    real, fake = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
    for kind in RELATIVISTIC:
        for a, b in (("contiguous", "channels_last"), ("channels_last", "transposed"), ("sliced", "channels_last")):
            leaves = laid_out(real, a).requires_grad_(), laid_out(fake, b).requires_grad_()
            loss = ops.gan_loss(*leaves, kind=kind, backend=path).loss
            expected = formula(kind, "discriminator", *leaves)
            torch.testing.assert_close(loss, expected)
            grads = (torch.autograd.grad(t, leaves) for t in (loss, expected))
            torch.testing.assert_close(*grads)


@pytest.mark.parametrize("count", [16_384, 32_769, 50_001, 1_200_007])
@pytest.mark.parametrize("kind", ["non_saturating", "relativistic", "relativistic_average"])
def test_same_bits_for_any_number_of_threads(count: int, kind: str) -> None:
    case = Case(kind, shape=(count,))
    how = {} if kind in RELATIVISTIC else LABELS
    assert_same_bits_for_any_number_of_threads(
        lambda: case.ours("native", generator=torch.Generator().manual_seed(1), **how)
    )


class TestWithTorch:
    @pytest.mark.parametrize("dtype", [F32, BF16, F64])
    def test_opcheck(self, dtype: torch.dtype) -> None:
        assert backend.library("cpu").usable
        x, y = torch.randn(4, 3, 2, 2).to(dtype), laid_out(torch.randn(4, 3, 2, 2), "channels_last").to(dtype)
        tests = ("test_schema", "test_faketensor", "test_autograd_registration")
        ns = torch.ops.fastgan
        for number in range(2 * len(KINDS)):
            torch.library.opcheck(ns.gan_loss.default, (x, x, number), test_utils=tests)
            if number not in (10, 11):
                torch.library.opcheck(ns.gan_loss.default, (x, y, number), test_utils=tests)
        torch.library.opcheck(ns.gan_loss.default, (None, y, 1), test_utils=tests)
        random = torch.rand(2, 96)
        torch.library.opcheck(ns.gan_loss_labels.default, (x, y, 0, random, 0.1, 0.2, 0.3), test_utils=tests)
        torch.library.opcheck(ns.gan_loss_labels.default, (x, y, 0, None, 0.1, 0.0, 0.0), test_utils=tests)

    @pytest.mark.parametrize(("kind", "player"), LOSSES)
    @pytest.mark.parametrize("dtype", [F32, BF16])
    def test_compile_fullgraph(self, kind: str, player: str, dtype: torch.dtype) -> None:
        case = Case(kind, player, dtype, upstream=-0.37)
        torch._dynamo.reset()

        @torch.compile(fullgraph=True, backend="aot_eager")
        def compiled(real: Tensor, fake: Tensor) -> ops.gan_loss:
            return ops.gan_loss(real, fake, kind=kind, player=player)

        real, fake = case.logits()
        loss, means = compiled(real, fake)
        ours = case.result(loss, means, real, fake)
        for o, t in zip(ours, case.ours("auto")):
            if t is not None:  # compiled, a side without gradient may have zeros
                torch.testing.assert_close(o, t, rtol=0, atol=0)
                assert o.stride() == t.stride()

    @pytest.mark.parametrize("labels", [LABELS, {"label_smoothing": 0.1}], ids=["all", "smoothing"])
    def test_compile_with_labels(self, labels: dict[str, float]) -> None:
        real, fake = Case().logits()
        compiled = torch.compile(lambda r, f: ops.gan_loss(r, f, **labels).loss, fullgraph=True, backend="aot_eager")
        torch.manual_seed(4)
        ours = compiled(real, fake)
        grad = torch.autograd.grad(ours, fake)[0]
        torch.manual_seed(4)
        theirs = ops.gan_loss(real, fake, **labels).loss
        torch.testing.assert_close(ours, theirs)
        torch.testing.assert_close(grad, torch.autograd.grad(theirs, fake)[0])

    @pytest.mark.parametrize(("kind", "player"), LOSSES)
    def test_torch_func(self, kind: str, player: str, path: str) -> None:
        real, fake = torch.randn(5, dtype=F64), torch.randn(5, dtype=F64)

        def ours(f: Tensor) -> Tensor:
            return ops.gan_loss(real, f, kind=kind, player=player, backend=path).loss

        def theirs(f: Tensor) -> Tensor:
            return formula(kind, player, real, f)

        torch.testing.assert_close(torch.func.grad(ours)(fake), torch.func.grad(theirs)(fake))
        torch.testing.assert_close(torch.func.hessian(ours)(fake), torch.func.hessian(theirs)(fake))
        stacked = torch.stack([fake, fake * 2])
        torch.testing.assert_close(torch.func.vmap(ours)(stacked), torch.stack([theirs(f) for f in stacked]))
        tangents = (fake.sin(),)
        torch.testing.assert_close(*(torch.func.jvp(f, (fake,), tangents)[1] for f in (ours, theirs)))

    def test_autocast_leaves_it_alone(self, path: str) -> None:
        real, fake = Case().logits()
        with torch.autocast("cpu", BF16):
            inside = ops.gan_loss(real, fake, backend=path)
            (grad,) = torch.autograd.grad(inside.loss, fake, create_graph=True)
        outside = ops.gan_loss(real, fake, backend=path)
        assert inside.loss.dtype == F32
        torch.testing.assert_close(inside.loss, outside.loss, rtol=0, atol=0)
        torch.testing.assert_close(grad, torch.autograd.grad(outside.loss, fake)[0])

    def test_no_grad(self, path: str) -> None:
        real, fake = Case().logits()
        with torch.no_grad():
            quiet = ops.gan_loss(real, fake, backend=path)
        assert not quiet.loss.requires_grad
        assert quiet.loss.equal(ops.gan_loss(real, fake, backend=path).loss)
        with torch.inference_mode():
            assert ops.gan_loss(real, fake, backend=path).loss.equal(quiet.loss)


@pytest.mark.processes
def test_falls_back_without_the_library() -> None:
    code = """
import warnings; warnings.simplefilter("error")
import torch
from fastgan import backend, ops
backend._LIBRARIES["cpu"] = "libabsent.so"
real, fake = torch.randn(4), torch.randn(4)
loss = ops.gan_loss(real, fake, kind="hinge").loss
torch.testing.assert_close(loss, (1 - real).relu().mean() + (1 + fake).relu().mean())
print(backend.info())
"""
    out = run_python(code)
    assert "gan_loss on cpu" in out
    assert "libabsent.so was not built" in out
