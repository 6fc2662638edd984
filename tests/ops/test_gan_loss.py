"""gan_loss on every backend: the losses that users write out themselves, to the second derivative."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from fastgan import ops
from fastgan.ops.gan_loss import PLAYERS
from fastgan.reference.gan_loss import KINDS
from tests.accuracy import assert_as_accurate

F32, F64, BF16, F16 = torch.float32, torch.float64, torch.bfloat16, torch.float16
NAN = float("nan")
RELATIVISTIC = ("relativistic", "relativistic_average")
LABELS = {"label_smoothing": 0.1, "label_noise": 0.3, "label_flips": 0.2}
NAMES = ("loss", "means", "grad real", "grad fake")


def formula(kind: str, player: str, real: Tensor, fake: Tensor, t_real: Any = 1.0, t_fake: Any = 0.0) -> Tensor:
    """The losses as people write them, from PyTorch's own loss functions where it has them."""
    r, f = real.flatten(), fake.flatten()

    def targets(x: Tensor, t: Any) -> Tensor:
        return t.to(x.dtype) if isinstance(t, Tensor) else torch.full_like(x, t)

    def cross_entropy(x: Tensor, t: Any) -> Tensor:
        return F.binary_cross_entropy_with_logits(x, targets(x, t))

    def hinge(x: Tensor, t: Any) -> Tensor:
        t = targets(x, t)
        return (t * F.relu(1 - x) + (1 - t) * F.relu(1 + x)).mean()

    def linear(x: Tensor, t: Any) -> Tensor:
        return ((1 - 2 * targets(x, t)) * x).mean()

    if kind in RELATIVISTIC:
        if player == "generator":
            r, f = f, r
        if kind == "relativistic":
            return cross_entropy(r - f, 1.0)
        return (cross_entropy(r - f.mean(), 1.0) + cross_entropy(f - r.mean(), 0.0)) / 2
    if player == "generator":
        return {
            "non_saturating": lambda: cross_entropy(f, 1.0),
            "minimax": lambda: -cross_entropy(f, 0.0),
            "least_squares": lambda: F.mse_loss(f, torch.ones_like(f)) / 2,
            "hinge": lambda: -f.mean(),
            "wasserstein": lambda: -f.mean(),
        }[kind]()
    if kind == "least_squares":
        return F.mse_loss(r, targets(r, t_real)) / 2 + F.mse_loss(f, targets(f, t_fake)) / 2
    term = {"hinge": hinge, "wasserstein": linear}.get(kind, cross_entropy)
    return term(r, t_real) + term(f, t_fake)


def means_of(kind: str, real: Tensor, fake: Tensor) -> Tensor:
    r, f = real.detach().flatten(), fake.detach().flatten()
    if kind == "relativistic":
        r, f = r - f, f - r
    if kind == "relativistic_average":
        r, f = r - f.mean(), f - r.mean()
    middle = 0.5 if kind == "least_squares" else 0.0
    sides = [(r > middle).to(r.dtype).mean(), (f < middle).to(f.dtype).mean()]
    if kind == "wasserstein":
        sides = [r.new_full((), NAN)] * 2
    if kind not in ("least_squares", "hinge", "wasserstein"):
        r, f = r.sigmoid(), f.sigmoid()
    return torch.stack([r.mean(), f.mean(), *sides])


@dataclass(frozen=True)
class Case:
    kind: str = "non_saturating"
    player: str = "discriminator"
    dtype: torch.dtype = F32
    shape: tuple[int, ...] = (37, 1)
    layout: str = "contiguous"
    other: torch.dtype | None = None  # of the fake logits, if not the same
    other_shape: tuple[int, ...] | None = None  # likewise
    upstream: float = 1.0

    def __str__(self) -> str:
        more = [str(o) for o in (self.other, self.other_shape) if o is not None]
        size = "x".join(map(str, self.shape))
        return "-".join(
            [self.kind, self.player[0], str(self.dtype)[6:], size, self.layout, *more, f"{self.upstream:g}"]
        )

    def logits(self) -> tuple[Tensor, Tensor]:
        torch.manual_seed(sum(self.shape))
        real = (torch.randn(self.shape, dtype=F64) * 2 + 0.5).to(self.dtype)
        fake = (torch.randn(self.other_shape or self.shape, dtype=F64) * 2 - 0.5).to(self.other or self.dtype)
        return laid_out(real, self.layout).requires_grad_(), laid_out(fake, self.layout).requires_grad_()

    def result(self, loss: Tensor, means: Tensor, real: Tensor, fake: Tensor) -> list[Tensor | None]:
        grads = torch.autograd.grad(loss * self.upstream, (real, fake), allow_unused=True)
        return [loss.detach(), means.nan_to_num(7.0), *grads]

    def ours(self, path: str, **how: Any) -> list[Tensor | None]:
        real, fake = self.logits()
        loss, means = ops.gan_loss(real, fake, kind=self.kind, player=self.player, backend=path, **how)
        assert not means.requires_grad
        return self.result(loss, means, real, fake)

    def written_out(self, dtype: torch.dtype | None, t_real: Any = 1.0, t_fake: Any = 0.0) -> list[Tensor | None]:
        """The formula in float64, or (None) as a user computes it: float32 logits, or float64 ones as they are."""
        real, fake = self.logits()
        if dtype is not None:
            real, fake = (x.detach().to(dtype).requires_grad_() for x in (real, fake))
        compute = F64 if F64 in (real.dtype, fake.dtype) else F32
        r, f = real.to(compute), fake.to(compute)
        return self.result(formula(self.kind, self.player, r, f, t_real, t_fake), means_of(self.kind, r, f), real, fake)


def assert_right(case: Case, ours: list, theirs: list, exact: list, names: tuple[str, ...] = NAMES) -> None:
    """As accurate as PyTorch; in float64, which has no better oracle, equal to PyTorch but for the last places."""
    if F64 not in (case.dtype, case.other):
        return assert_as_accurate(ours, theirs, exact, names)
    for o, t, name in zip(ours, theirs, names):
        assert (o is None) == (t is None), name
        if t is not None:
            assert o.dtype == t.dtype
            places = 16 * torch.finfo(t.dtype).eps * t.abs().max().item()
            torch.testing.assert_close(o, t, rtol=0, atol=places, msg=lambda m, n=name: f"{n}: {m}")
    return None


def laid_out(x: Tensor, layout: str) -> Tensor:
    if layout == "channels_last":
        return x.to(memory_format=torch.channels_last)
    if layout == "sliced":
        return torch.stack([x, x], -1)[..., 0].detach()
    if layout == "transposed":
        return x.transpose(0, -1).contiguous().transpose(0, -1)
    return x.contiguous()


LOSSES = [(kind, player) for kind in KINDS for player in PLAYERS]
CASES = [
    *(Case(k, p, d) for k, p in LOSSES for d in (F32, BF16, F16, F64)),
    *(Case(k, p, shape=s) for k, p in LOSSES for s in [(1,), (4096,), (20000, 2)]),
    *(Case(k, "discriminator", d, (3, 1, 30, 30), layout) for k in ("non_saturating", "least_squares", "relativistic")
      for layout in ("contiguous", "channels_last") for d in (F32, BF16)),
    *(Case(k, "discriminator", d, (2, 4, 3, 5), layout) for k in ("hinge", *RELATIVISTIC)
      for layout in ("channels_last", "sliced", "transposed") for d in (F32, F16)),
    *(Case(k, p, a, other=b) for k, p in LOSSES for a, b in [(F32, BF16), (BF16, F16), (F32, F64)]),
    *(Case(k, "discriminator", other_shape=(5, 2, 3)) for k in KINDS if k not in RELATIVISTIC),
    *(Case(k, p, d, upstream=u) for k, p in LOSSES[::3] for d in (F32, F16, BF16) for u in (-0.37, 65536.0)),
    *(Case(shape=(n,)) for n in range(1, 71)),
    *(Case("relativistic_average", shape=(n,), dtype=BF16) for n in range(1, 71, 3)),
    Case(shape=()), Case("relativistic", shape=()), Case("hinge", shape=(300_001,)), Case(shape=(3, 1, 70_000)),
]  # fmt: skip


@pytest.mark.every_instruction_set
@pytest.mark.parametrize("case", CASES, ids=str)
def test_as_accurate_as_pytorch(case: Case, path: str, poisoned: None) -> None:
    ours = case.ours(path)
    assert_right(case, ours, case.written_out(None), case.written_out(F64))
    for x, grad in zip(case.logits(), ours[2:]):
        if grad is not None:
            assert (grad.dtype, grad.shape) == (x.dtype, x.shape)
            assert grad.stride() == x.stride() or case.layout == "sliced" or path == "torch"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [F32, F64])
def test_the_generator_needs_no_real_logits(kind: str, dtype: torch.dtype, path: str) -> None:
    case = Case(kind, "generator", dtype)
    real, fake = case.logits()
    if kind in RELATIVISTIC:
        with pytest.raises(ValueError, match=f"the generator's {kind} loss needs real_logits, not None"):
            ops.gan_loss(None, fake, kind=kind, player="generator", backend=path)
        return
    alone = ops.gan_loss(None, fake, kind=kind, player="generator", backend=path)
    with_real = ops.gan_loss(real, fake, kind=kind, player="generator", backend=path)
    assert alone.loss.equal(with_real.loss)
    assert alone.means[[0, 2]].isnan().all()
    assert alone.means[1].equal(with_real.means[1])
    with_real.loss.backward()
    assert real.grad is None
    only_real = ops.gan_loss(real, fake.detach(), kind=kind, player="generator", backend=path)
    assert not only_real.loss.requires_grad


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in RELATIVISTIC])
@pytest.mark.parametrize("labels", [{}, {"label_smoothing": 0.1}], ids=str)
@pytest.mark.parametrize("dtype", [F32, F64, BF16], ids=str)
def test_a_discriminators_loss_is_the_sum_of_its_parts(kind: str, labels: dict, dtype: torch.dtype, path: str) -> None:
    whole, parts = Case(kind, "discriminator", dtype).logits(), Case(kind, "discriminator", dtype).logits()
    expected = ops.gan_loss(*whole, kind=kind, backend=path, **labels)
    real = ops.gan_loss(parts[0], None, kind=kind, backend=path, **labels)
    fake = ops.gan_loss(None, parts[1], kind=kind, backend=path, **labels)
    torch.testing.assert_close(real.loss + fake.loss, expected.loss)
    torch.testing.assert_close(real.means[[0, 2]], expected.means[[0, 2]], equal_nan=True)
    torch.testing.assert_close(fake.means[[1, 3]], expected.means[[1, 3]], equal_nan=True)
    assert real.means[[1, 3]].isnan().all()
    assert fake.means[[0, 2]].isnan().all()
    for loss in (expected.loss, real.loss, fake.loss):
        loss.backward()
    for mine, theirs in zip(parts, whole):
        torch.testing.assert_close(mine.grad, theirs.grad)


def test_labels_of_one_part_are_drawn_for_it_alone(path: str) -> None:
    x = torch.randn(6)
    settings = {"label_flips": 0.4, "label_noise": 0.2, "backend": path}
    u = torch.rand(2, 6, generator=torch.Generator().manual_seed(3))
    t = (u[0] >= 0.4).float() + 0.2 * (2 * u[1] - 1)
    loss = ops.gan_loss(x, None, generator=torch.Generator().manual_seed(3), **settings).loss
    torch.testing.assert_close(loss, (t * F.softplus(-x) + (1 - t) * F.softplus(x)).mean())


class TestLabels:
    def drawn(self, case: Case, **labels: float) -> tuple[Tensor, Tensor]:
        """Targets from the same random numbers, one logit at a time, in the logical order of a contiguous tensor."""
        real, fake = case.logits()
        u = torch.rand(2, real.numel() + fake.numel(), generator=torch.Generator().manual_seed(5)).double().tolist()
        targets = []
        for i, (flip, shift) in enumerate(zip(*u)):
            t = 1.0 if i < real.numel() else 0.0
            if flip < labels["label_flips"]:
                t = 1.0 - t
            if t == 1.0:
                t = 1.0 - labels["label_smoothing"]
            targets.append(t + labels["label_noise"] * (2 * shift - 1))
        t = torch.tensor(targets, dtype=F64)
        return t[: real.numel()], t[real.numel() :]

    @pytest.mark.every_instruction_set
    @pytest.mark.parametrize("dtype", [F32, BF16, F16, F64])
    @pytest.mark.parametrize("kind", [k for k in KINDS if k not in RELATIVISTIC])
    @pytest.mark.parametrize(
        "change", [{}, {"label_flips": 0.0}, {"label_noise": 0.0}, {"label_smoothing": 0.0}], ids=str
    )
    def test_from_the_same_random_numbers(self, kind: str, dtype: torch.dtype, change: dict, path: str) -> None:
        case, labels = Case(kind, dtype=dtype, other_shape=(5, 9)), LABELS | change
        targets = self.drawn(case, **labels)
        ours = case.ours(path, generator=torch.Generator().manual_seed(5), **labels)
        assert_right(case, ours, case.written_out(None, *targets), case.written_out(F64, *targets))

    @pytest.mark.parametrize("kind", [k for k in KINDS if k not in RELATIVISTIC])
    @pytest.mark.parametrize("dtype", [F32, F64])
    def test_smoothing_alone_is_one_sided(self, kind: str, dtype: torch.dtype, path: str) -> None:
        case = Case(kind, dtype=dtype)
        ours = case.ours(path, label_smoothing=0.25)
        assert_right(case, ours, case.written_out(None, 0.75), case.written_out(F64, 0.75))

    def labels_of(self, count: int, path: str, **labels: float) -> tuple[Tensor, Tensor]:
        """The gradient of the wasserstein term of a logit, times the count, is 1 - 2t."""
        x = torch.zeros(2, count, requires_grad=True)
        ops.gan_loss(x[0], x[1], kind="wasserstein", backend=path, **labels).loss.backward()
        t_real, t_fake = (1 - x.grad * count) / 2
        return t_real, t_fake

    def test_flips_strike_the_share_asked_for(self, path: str) -> None:
        real, fake = self.labels_of(40_000, path, label_flips=0.2, label_smoothing=0.1)
        for t, flipped, kept in ((real, 0.0, 0.9), (fake, 0.9, 0.0)):
            torch.testing.assert_close(t.unique().sort()[0], torch.tensor([flipped, kept]).sort()[0])
            assert abs((t - flipped).abs().lt(1e-3).float().mean() - 0.2) < 0.01  # five standard deviations
        both = ((real < 0.5) & (fake > 0.5)).float().mean()
        assert abs(both - 0.04) < 0.005, "the two sides flip together"
        for flips, expected in ((1.0, 0.0), (0.0, 1.0)):
            assert self.labels_of(1000, path, label_flips=flips)[0].allclose(torch.tensor(expected))

    def test_noise_is_uniform_about_the_label(self, path: str) -> None:
        real, fake = self.labels_of(40_000, path, label_noise=0.3)
        for t, label in ((real, 1.0), (fake, 0.0)):
            noise = (t - label) / 0.3
            assert noise.abs().max() <= 1 + 1e-6
            assert abs(noise.mean()) < 0.015
            assert abs(noise.std() - 3**-0.5) < 0.01
            quarters = torch.histc(noise, 4, -1, 1) / noise.numel()
            assert (quarters - 0.25).abs().max() < 0.011
        assert abs(torch.corrcoef(torch.stack([real, fake]))[0, 1]) < 0.025

    def test_flip_and_noise_of_a_sample_are_independent(self, path: str) -> None:
        t, _ = self.labels_of(40_000, path, label_noise=0.3, label_flips=0.5)
        noise = torch.where(t > 0.5, t - 1, t)
        assert abs(noise[t > 0.5].mean()) < 0.008
        assert abs(noise[t < 0.5].mean()) < 0.008

    def test_memory_order(self, path: str) -> None:
        """A channels_last tensor and its values as a vector get the same labels."""
        x = laid_out(torch.randn(2, 3, 4, 5), "channels_last")
        flat = x.permute(0, 2, 3, 1).reshape(-1)
        losses = [ops.gan_loss(t, t, generator=torch.Generator().manual_seed(1), backend=path, **LABELS).loss
                  for t in (x, flat)]  # fmt: skip
        torch.testing.assert_close(*losses, rtol=1e-6, atol=0)

    @pytest.mark.every_instruction_set
    def test_random_numbers(self, path: str) -> None:
        real, fake = Case().logits()
        torch.manual_seed(3)
        first = ops.gan_loss(real, fake, backend=path, **LABELS).loss
        assert not first.equal(ops.gan_loss(real, fake, backend=path, **LABELS).loss)
        torch.manual_seed(3)
        assert first.equal(ops.gan_loss(real, fake, backend=path, **LABELS).loss)
        state = torch.get_rng_state()
        ops.gan_loss(real, fake, backend=path, label_smoothing=0.1)
        ops.gan_loss(real, fake, backend=path, generator=torch.Generator(), **LABELS)
        with pytest.raises(ValueError, match="unknown kind"):
            ops.gan_loss(real, fake, kind="no", backend=path, **LABELS)
        assert torch.get_rng_state().equal(state), "a call that needs no random numbers, or is refused, drew some"


class TestSecondDerivatives:
    @pytest.mark.parametrize(("kind", "player"), LOSSES)
    @pytest.mark.parametrize("labels", [{}, LABELS], ids=["plain", "labels"])
    def test_gradcheck(self, kind: str, player: str, labels: dict) -> None:
        if labels and (player == "generator" or kind in RELATIVISTIC):
            return
        leaves = Case(kind, player, F64, (3, 2)).logits()

        def function(real: Tensor, fake: Tensor) -> Tensor:
            generator = torch.Generator().manual_seed(2) if labels else None
            return ops.gan_loss(
                real, fake, kind=kind, player=player, generator=generator, backend="native", **labels
            ).loss

        wanted = leaves if player == "discriminator" or kind in RELATIVISTIC else (leaves[0].detach(), leaves[1])
        assert torch.autograd.gradcheck(function, wanted)
        assert torch.autograd.gradgradcheck(function, wanted)

    @pytest.mark.every_instruction_set
    @pytest.mark.parametrize(("kind", "player"), LOSSES)
    @pytest.mark.parametrize("dtype", [F32, BF16, F16])
    def test_as_accurate_as_pytorch(self, kind: str, player: str, dtype: torch.dtype, path: str) -> None:
        """A penalty on the gradient with respect to what the logits were made of."""
        case = Case(kind, player, dtype)

        def run(function: Any, dtype: torch.dtype | None) -> list[Tensor]:
            leaves = [x.detach().to(dtype or x.dtype).requires_grad_() for x in case.logits()]
            loss = function(*(x.sin() * 3 for x in leaves))
            grads = torch.autograd.grad(loss, leaves, create_graph=True, allow_unused=True, materialize_grads=True)
            penalty = sum((g.double() * 37).square().sum() for g in grads)
            seconds = torch.autograd.grad(penalty, leaves, allow_unused=True, materialize_grads=True)
            return [g.detach() for g in (*grads, *seconds)]

        def written_out(real: Tensor, fake: Tensor) -> Tensor:
            compute = F64 if real.dtype == F64 else F32
            return formula(kind, player, real.to(compute), fake.to(compute))

        ours = run(lambda r, f: ops.gan_loss(r, f, kind=kind, player=player, backend=path).loss, None)
        names = ("grad real", "grad fake", "second grad real", "second grad fake")
        assert_as_accurate(ours, run(written_out, None), run(written_out, F64), names)

    def test_the_same_labels(self, path: str) -> None:
        """The gradient that can be differentiated has the labels of the loss, not new ones."""
        for layout in ("contiguous", "channels_last", "sliced"):
            x = laid_out(torch.randn(4, 3, 5, 5), layout).requires_grad_()
            loss = ops.gan_loss(x, x * 2, backend=path, **LABELS).loss
            (plain,) = torch.autograd.grad(loss, x, retain_graph=True)
            (differentiable,) = torch.autograd.grad(loss, x, create_graph=True)
            torch.testing.assert_close(plain, differentiable)

    def test_one_tensor_on_both_sides(self, path: str) -> None:
        for create_graph in (False, True):
            x = torch.randn(9, requires_grad=True)
            (ours,) = torch.autograd.grad(ops.gan_loss(x, x, backend=path).loss, x, create_graph=create_graph)
            (theirs,) = torch.autograd.grad(formula("non_saturating", "discriminator", x, x), x)
            torch.testing.assert_close(ours, theirs)
