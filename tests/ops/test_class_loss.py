"""class_loss on every backend: cross entropies and the (K + 1)-class discriminator, to the second derivative."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from fastgan import backend, ops
from tests.accuracy import assert_as_accurate, assert_same_bits_for_any_number_of_threads

F32, F64, BF16, F16 = torch.float32, torch.float64, torch.bfloat16, torch.float16
NAN, INF = float("nan"), float("inf")
GIVEN = {  # form -> (player, which of real, unlabelled, fake have logits, whether the fake rows have labels)
    "ac": ("discriminator", (True, False, True), True),
    "ac generator": ("generator", (False, False, True), True),
    "ac both for the generator": ("generator", (True, False, True), True),
    "real alone": ("discriminator", (True, False, False), False),
    "k+1": ("discriminator", (True, True, True), False),
    "k+1 without labels": ("discriminator", (False, True, True), False),
    "k+1 one step at a time": ("discriminator", (False, False, True), False),
    "k+1 real step": ("discriminator", (True, True, False), False),
    "k+1 generator": ("generator", (False, False, True), False),
    "k+1 generator, all given": ("generator", (True, True, True), False),
}


def real_or_fake(x: Tensor, real: bool) -> Tensor:
    """Cross entropy of K + 1 classes whose last logit, that of "fake", is 0: -log(1 - p(fake)) or -log p(fake)."""
    log_p = F.log_softmax(torch.cat([x, torch.zeros_like(x[:, :1])], 1), 1)
    return (-log_p[:, :-1].logsumexp(1) if real else -log_p[:, -1]).mean()


def written_out(player: str, real: Any, real_labels: Any, unlabelled: Any, fake: Any, fake_labels: Any) -> Tensor:
    if player == "generator" and fake_labels is None:
        return real_or_fake(fake, True)
    terms = []
    if real is not None:
        terms.append(F.cross_entropy(real, real_labels))
    if unlabelled is not None:
        terms.append(real_or_fake(unlabelled, True) / 2)
    if fake is not None:
        terms.append(real_or_fake(fake, False) / 2 if fake_labels is None else F.cross_entropy(fake, fake_labels))
    return sum(terms[1:], terms[0])


def sum_of_terms(player: str, real: Any, real_labels: Any, unlabelled: Any, fake: Any, fake_labels: Any) -> Tensor:
    def softplus(x: Tensor) -> Tensor:
        return torch.logaddexp(x, torch.zeros_like(x)).mean()

    if player == "generator" and fake_labels is None:
        return softplus(-fake.logsumexp(1))
    total = torch.zeros((), dtype=next(x.dtype for x in (real, unlabelled, fake) if x is not None))
    if real is not None:
        total = total + F.cross_entropy(real, real_labels)
    if unlabelled is not None:
        total = total + softplus(-unlabelled.logsumexp(1)) / 2
    if fake is not None and fake_labels is None:
        total = total + softplus(fake.logsumexp(1)) / 2
    return total if fake_labels is None else total + F.cross_entropy(fake, fake_labels)


def means_of(real: Any, real_labels: Any, unlabelled: Any, fake: Any, fake_labels: Any, dtype: torch.dtype) -> Tensor:
    accuracies = [torch.tensor(7.0, dtype=dtype) if labels is None else (x.argmax(1) == labels).to(dtype).mean()
                  for x, labels in ((real, real_labels), (fake, fake_labels))]  # fmt: skip
    probabilities = [torch.tensor(7.0, dtype=dtype) if x is None else x.logsumexp(1).sigmoid().mean()
                     for x in (unlabelled, fake)]  # fmt: skip
    return torch.stack([*accuracies, *probabilities])


@dataclass(frozen=True)
class Case:
    form: str = "k+1"
    dtype: torch.dtype = F32
    rows: int = 37
    classes: int = 10
    other: torch.dtype | None = None  # of the fake rows, if not the same
    layout: str = "contiguous"
    upstream: float = 1.0

    def __str__(self) -> str:
        more = [] if self.other is None else [str(self.other)[6:]]
        return "-".join([self.form, str(self.dtype)[6:], f"{self.rows}x{self.classes}", self.layout, *more,
                         f"{self.upstream:g}"])  # fmt: skip

    def inputs(self) -> tuple[str, list[Tensor | None]]:
        """player, [real, real_labels, unlabelled, fake, fake_labels]"""
        torch.manual_seed(self.rows + self.classes)
        player, given, labelled = GIVEN[self.form]

        def rows(count: int, dtype: torch.dtype) -> Tensor:
            x = (torch.randn(count, self.classes, dtype=F64) * 2).to(dtype)
            if self.layout == "transposed":
                x = x.t().contiguous().t()
            if self.layout == "sliced":
                x = torch.cat([x, x], 1)[:, : self.classes]
            return x.requires_grad_()

        def labels(count: int) -> Tensor:
            return torch.randint(self.classes, (count,))

        other = self.other or self.dtype
        return player, [
            rows(self.rows, self.dtype) if given[0] else None,
            labels(self.rows) if given[0] else None,
            rows(self.rows + 1, self.dtype) if given[1] else None,
            rows(self.rows + 2, other) if given[2] else None,
            labels(self.rows + 2) if labelled else None,
        ]

    def result(self, loss: Tensor, means: Tensor, logits: list[Tensor | None]) -> dict[str, Tensor | None]:
        leaves = [x for x in logits if x is not None]
        grads = iter(torch.autograd.grad(loss * self.upstream, leaves, allow_unused=True))
        named = {f"grad {name}": None if x is None else next(grads)
                 for name, x in zip(("real", "unlabelled", "fake"), logits)}  # fmt: skip
        return {"loss": loss.detach(), "means": means.nan_to_num(7.0), **named}

    def ours(self, path: str) -> dict[str, Tensor | None]:
        player, t = self.inputs()
        loss, means = call(t, player, path)
        assert not means.requires_grad
        return self.result(loss, means, [t[0], t[2], t[3]])

    def written_out(self, dtype: torch.dtype | None) -> dict[str, Tensor | None]:
        """In float64, or (None) as a user computes it: in float32, or in float64 where the logits are."""
        player, t = self.inputs()
        if dtype is not None:
            t = [x.detach().to(dtype).requires_grad_() if x is not None and x.is_floating_point() else x for x in t]
        compute = F64 if any(x is not None and x.dtype == F64 for x in t) else F32
        raised = [x.to(compute) if x is not None and x.is_floating_point() else x for x in t]
        # What users write is the form with Z; the softmax over K + 1 classes that it stands for is the oracle.
        loss = (written_out if dtype == F64 else sum_of_terms)(player, *raised)
        return self.result(loss, means_of(*raised, compute).detach(), [t[0], t[2], t[3]])


def call(t: list[Tensor | None], player: str, path: str) -> ops.class_loss:
    return ops.class_loss(
        t[0], t[1], unlabelled_logits=t[2], fake_logits=t[3], fake_labels=t[4], player=player, backend=path
    )


CASES = [
    *(Case(form, d) for form in GIVEN for d in (F32, BF16, F16, F64)),
    *(Case(form, rows=n) for form in ("ac", "k+1") for n in range(1, 34)),
    *(Case(form, d, rows=5, classes=k) for form in ("ac", "k+1") for d in (F32, BF16)
      for k in (1, 2, 3, 7, 15, 16, 17, 63, 64, 65, 128, 129, 1000)),
    *(Case(form, rows=4096) for form in ("ac", "k+1")),
    *(Case(form, a, other=b) for form in ("ac", "k+1") for a, b in [(F32, BF16), (F16, BF16), (F32, F64)]),
    *(Case(form, layout=layout) for form in ("ac", "k+1") for layout in ("transposed", "sliced")),
    *(Case(form, d, upstream=u) for form in ("ac", "k+1") for d in (F32, F16) for u in (-0.37, 65536.0)),
]  # fmt: skip


@pytest.mark.every_instruction_set
@pytest.mark.parametrize("case", CASES, ids=str)
def test_as_accurate_as_pytorch(case: Case, path: str, poisoned: None) -> None:
    ours, theirs, exact = case.ours(path), case.written_out(None), case.written_out(F64)
    if F64 not in (case.dtype, case.other):
        assert_as_accurate(list(ours.values()), list(theirs.values()), list(exact.values()), list(exact))
        return
    for name, value in theirs.items():  # float64 has no better oracle
        torch.testing.assert_close(ours[name], value, rtol=1e-13, atol=1e-14, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.every_instruction_set
def test_ties_go_to_the_first_class(path: str) -> None:
    """As argmax: a network that says nothing is right about the first class alone."""
    for classes in (3, 100):
        labels = torch.tensor([0, 1, 2, classes - 1])
        for x in (torch.zeros(4, classes), torch.eye(4, classes), -torch.eye(4, classes)):
            accuracy = ops.class_loss(x, labels, backend=path).means[0]
            assert accuracy == (x.argmax(1) == labels).float().mean()
    assert ops.class_loss(torch.zeros(4, 3), torch.tensor([0, 1, 2, 0]), backend=path).means[0] == 0.5


@pytest.mark.parametrize("form", GIVEN)
def test_gradcheck(form: str) -> None:
    player, t = Case(form, F64, rows=2, classes=3).inputs()
    which = [i for i in (0, 2, 3) if t[i] is not None]
    if player == "generator" and t[4] is None:
        t[0], t[2] = (None if x is None else x.detach() for x in (t[0], t[2]))
        which = [3]

    def function(*leaves: Tensor) -> Tensor:
        arguments = list(t)
        for i, leaf in zip(which, leaves):
            arguments[i] = leaf
        return call(arguments, player, "native").loss

    assert torch.autograd.gradcheck(function, [t[i] for i in which])
    assert torch.autograd.gradgradcheck(function, [t[i] for i in which])


@pytest.mark.every_instruction_set
@pytest.mark.parametrize("form", ["ac", "k+1", "k+1 generator"])
@pytest.mark.parametrize("dtype", [F32, BF16])
def test_second_derivatives_are_as_accurate(form: str, dtype: torch.dtype, path: str) -> None:
    def written(player: str, t: list) -> Tensor:
        compute = F64 if t[3].dtype == F64 else F32
        return (written_out if compute == F64 else sum_of_terms)(
            player, *(x.to(compute) if x is not None and x.is_floating_point() else x for x in t)
        )

    def run(function: Any, player: str, t: list, raise_to: torch.dtype | None) -> list[Tensor]:
        t = [x.detach().to(raise_to or x.dtype).requires_grad_() if x is not None and x.is_floating_point() else x
             for x in t]  # fmt: skip
        logits = [x for x in (t[0], t[2], t[3]) if x is not None]
        sines = [x.sin() * 3 if x is not None and x.is_floating_point() else x for x in t]
        grads = torch.autograd.grad(function(player, sines), logits, create_graph=True)
        penalty = sum((g.double() * 37).square().sum() for g in grads)
        return [g.detach() for g in (*grads, *torch.autograd.grad(penalty, logits))]

    player, t = Case(form, dtype).inputs()
    ours = run(lambda p, s: call(s, p, path).loss, player, t, None)
    theirs, exact = run(written, player, t, None), run(written, player, t, F64)
    assert_as_accurate(ours, theirs, exact, [f"result {i}" for i in range(len(ours))])


class TestExtremeLogits:
    @pytest.mark.every_instruction_set
    @pytest.mark.parametrize("form", GIVEN)
    @pytest.mark.parametrize("dtype", [F32, BF16, F64])
    @pytest.mark.parametrize("classes", [5, 130])
    def test_confident(self, form: str, dtype: torch.dtype, classes: int, path: str) -> None:
        player, t = Case(form, dtype, rows=21, classes=classes).inputs()
        t = [(x.detach() * 3000).requires_grad_() if x is not None and x.is_floating_point() else x for x in t]
        exact = [x.detach().double().requires_grad_() if x is not None and x.is_floating_point() else x for x in t]
        loss = call(t, player, path).loss
        # The formulas with Z: log_softmax of 1e4 loses p(fake) altogether.
        expected = sum_of_terms(player, *exact)
        torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-3)
        leaves = [3] if player == "generator" and t[4] is None else [i for i in (0, 2, 3) if t[i] is not None]
        ours = torch.autograd.grad(loss, [t[i] for i in leaves])
        theirs = torch.autograd.grad(expected, [exact[i] for i in leaves])
        for o, g in zip(ours, theirs):
            torch.testing.assert_close(o.double(), g, rtol=1e-2, atol=1e-5)

    @pytest.mark.every_instruction_set
    @pytest.mark.parametrize("classes", [3, 100])
    def test_nan_and_infinities(self, classes: int, path: str) -> None:
        labels = torch.arange(7) % classes
        for value in (NAN, -INF):
            for row in (0, 6):
                x = torch.randn(7, classes)
                x[row, classes - 1] = value
                labels[row] = 0
                loss = ops.class_loss(x, labels, backend=path).loss
                torch.testing.assert_close(loss, F.cross_entropy(x, labels), equal_nan=True)
        x = torch.randn(7, classes)
        x[3, 1], x[5] = INF, -INF  # certainly real, certainly fake
        result = ops.class_loss(fake_logits=x[[0, 5]], backend=path)
        torch.testing.assert_close(result.loss, F.softplus(x[[0, 5]].logsumexp(1)).mean() / 2)
        result = ops.class_loss(unlabelled_logits=x[[0, 3]], backend=path)
        torch.testing.assert_close(result.loss, F.softplus(-x[[0, 3]].logsumexp(1)).mean() / 2)
        assert ops.class_loss(fake_logits=x, backend=path).loss.isinf()


X, T = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"real_logits": None, "real_labels": None}, ValueError, "no logits were given"),
    ({"real_labels": None}, ValueError, "real_logits need real_labels"),
    ({"real_logits": None, "fake_logits": X}, ValueError, "real_labels without real_logits"),
    ({"fake_labels": T}, ValueError, "fake_labels without fake_logits"),
    ({"real_logits": "no"}, TypeError, "real_logits must be a tensor or None, not str"),
    ({"real_logits": X.long()}, TypeError, "torch.int64; accepted: float32"),
    ({"unlabelled_logits": X, "fake_logits": X.long()}, TypeError, "fake_logits are torch.int64"),
    ({"real_logits": X[0]}, ValueError, r"real_logits have shape \(3,\); expected \(rows, classes\)"),
    ({"real_logits": X[:0], "real_labels": T[:0]}, ValueError, r"real_logits are empty, of shape \(0, 3\)"),
    ({"unlabelled_logits": torch.randn(4, 5)}, ValueError, "real_logits have 3 classes and unlabelled_logits 5"),
    ({"fake_logits": torch.randn(2, 2)}, ValueError, "real_logits have 3 classes and fake_logits 2"),
    ({"fake_logits": torch.randn(2, 3, device="meta")}, ValueError, "real_logits are on cpu and fake_logits on meta"),
    ({"real_labels": T[:3]}, ValueError, r"real_labels have shape \(3,\) for 4 rows of real_logits; expected \(4,\)"),
    ({"real_labels": T[:, None]}, ValueError, r"real_labels have shape \(4, 1\)"),
    ({"real_labels": T.int()}, TypeError, r"real_labels are torch.int32; accepted: int64. Convert them by .long\(\)"),
    ({"real_labels": T.float()}, TypeError, "real_labels are torch.float32"),
    ({"real_labels": [0, 1, 2, 0]}, TypeError, "real_labels must be a tensor or None, not list"),
    ({"real_labels": T.to("meta")}, ValueError, "real_labels are on meta and real_logits on cpu"),
    ({"real_labels": torch.tensor([0, 3, 1, 9])}, ValueError, r"real_labels\[1\] is 3, but there are 3 classes"),
    ({"real_labels": torch.tensor([0, 1, -100, 1])}, ValueError, r"real_labels\[2\] is -100.*in \[0, 3\)"),
    ({"fake_logits": X, "fake_labels": T + 2**40}, ValueError, r"fake_labels\[0\] is 1099511627776"),
    ({"fake_logits": X, "fake_labels": T, "unlabelled_logits": X}, ValueError, "leave out unlabelled_logits or fake"),
    ({"player": "generator"}, ValueError, "the generator's loss needs fake_logits, not None"),
    ({"player": "critic"}, ValueError, "unknown player 'critic'"),
    ({"backend": "fast"}, ValueError, "backend='fast' is not a backend"),
]


@pytest.mark.parametrize(("change", "error", "message"), BAD, ids=lambda v: str(v)[:40])
def test_says_what_is_wrong(change: dict[str, Any], error: type[Exception], message: str, path: str) -> None:
    good = {"real_logits": X, "real_labels": T, "backend": path}
    ops.class_loss(**good)
    with pytest.raises(error, match=message):
        ops.class_loss(**(good | change))


def test_the_raw_op_keeps_memory_safe() -> None:
    assert backend.library("cpu").usable
    op, none = torch.ops.fastgan.class_loss, None
    calls = [
        lambda: op(X, T + 1, none, none, none, False),
        lambda: op(X, T - 1, none, none, none, False),
        lambda: op(X, T[:3], none, none, none, False),
        lambda: op(X, T.int(), none, none, none, False),
        lambda: op(X, T[:1].expand(4), none, none, none, False),
        lambda: op(X.t().contiguous().t(), T, none, none, none, False),
        lambda: op(X, T, none, X[:, :2].contiguous(), none, False),
        lambda: op(X, T, none, X.double(), none, False),
        lambda: op(X, none, none, none, none, False),
        lambda: op(none, T, none, X, none, False),
        lambda: op(none, none, none, none, T, False),
        lambda: op(none, none, X, X, T, False),
        lambda: op(none, none, X, none, none, True),
        lambda: op(X[:0], T[:0], none, none, none, False),
        lambda: op(X[None], T, none, none, none, False),
    ]
    for number, call_ in enumerate(calls):
        with pytest.raises(RuntimeError, match="fastgan: "):
            print(f"call {number}:", call_())


def test_a_second_pass_finds_what_the_first_found(path: str) -> None:
    player, t = Case().inputs()
    logits = [t[0], t[2], t[3]]
    loss = call(t, player, path).loss
    first = torch.autograd.grad(loss, logits, retain_graph=True)
    kept = [g.clone() for g in first]
    for g in first:
        g.zero_()
    for again, k in zip(torch.autograd.grad(loss, logits), kept):
        assert again.equal(k)


def test_one_tensor_on_both_sides(path: str) -> None:
    for create_graph in (False, True):
        x = X.clone().requires_grad_()
        loss = ops.class_loss(x, T, fake_logits=x, backend=path).loss
        (ours,) = torch.autograd.grad(loss, x, create_graph=create_graph)
        (theirs,) = torch.autograd.grad(written_out("discriminator", x, T, None, x, None), x)
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(("rows", "classes"), [(5000, 10), (300, 1000), (70_001, 3)])
def test_same_bits_for_any_number_of_threads(rows: int, classes: int) -> None:
    case = Case(rows=rows, classes=classes)
    assert_same_bits_for_any_number_of_threads(lambda: case.ours("native"))


class TestWithTorch:
    @pytest.mark.parametrize("form", GIVEN)
    @pytest.mark.parametrize("dtype", [F32, BF16])
    def test_opcheck_and_compile(self, form: str, dtype: torch.dtype) -> None:
        assert backend.library("cpu").usable
        case = Case(form, dtype, upstream=0.7)
        player, t = case.inputs()
        tests = ("test_schema", "test_faketensor", "test_autograd_registration")
        detached = [None if x is None else x.detach() for x in t]
        torch.library.opcheck(
            torch.ops.fastgan.class_loss.default, (*detached, player == "generator"), test_utils=tests
        )
        torch._dynamo.reset()
        compiled = torch.compile(lambda *t: call(list(t), player, "auto"), fullgraph=True, backend="aot_eager")
        loss, means = compiled(*t)
        ours = case.result(loss, means, [t[0], t[2], t[3]])
        for name, value in case.ours("auto").items():
            if value is not None:
                torch.testing.assert_close(ours[name], value, rtol=0, atol=0)

    @pytest.mark.parametrize("form", ["ac", "k+1"])
    def test_torch_func(self, form: str, path: str) -> None:
        player, t = Case(form, F64, rows=3, classes=4).inputs()
        t = [None if x is None else x.detach() for x in t]

        def ours(fake: Tensor) -> Tensor:
            return call([*t[:3], fake, t[4]], player, path).loss

        def theirs(fake: Tensor) -> Tensor:
            return sum_of_terms(player, *t[:3], fake, t[4])

        torch.testing.assert_close(torch.func.grad(ours)(t[3]), torch.func.grad(theirs)(t[3]))
        torch.testing.assert_close(torch.func.hessian(ours)(t[3]), torch.func.hessian(theirs)(t[3]))
        stacked = torch.stack([t[3], t[3] * 2])
        torch.testing.assert_close(torch.func.vmap(ours)(stacked), torch.stack([theirs(f) for f in stacked]))

    def test_autocast_leaves_it_alone(self, path: str) -> None:
        player, t = Case().inputs()
        with torch.autocast("cpu", BF16):
            inside = call(t, player, path).loss
        assert inside.dtype == F32
        torch.testing.assert_close(inside, call(t, player, path).loss, rtol=0, atol=0)
