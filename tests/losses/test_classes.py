"""K + 1 classes and the auxiliary classifier, against an explicit softmax over classes in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from fastgan.losses import AuxiliaryClassifier, Hinge, LeastSquares, NonSaturating, Relativistic, SemiSupervised

F32, F64, BF16, F16 = torch.float32, torch.float64, torch.bfloat16, torch.float16


def log_softmax(rows: Tensor) -> Tensor:
    return (rows.exp() / rows.exp().sum(1, keepdim=True)).log()


def cross_entropy(rows: Tensor, labels: Tensor) -> Tensor:
    return -log_softmax(rows)[torch.arange(len(labels)), labels].mean()


def with_fake(rows: Tensor) -> Tensor:
    """K + 1 logits; the last, of the class of fakes, is 0."""
    return torch.cat([rows, torch.zeros(len(rows), 1, dtype=rows.dtype)], 1)


def log_real(rows: Tensor) -> Tensor:
    return (1 - log_softmax(with_fake(rows))[:, -1].exp()).log()


def derivatives(function, tensors: list[Tensor], dtype: torch.dtype) -> list[Tensor]:
    """The value, and its first and second derivatives."""
    leaves = [t.detach().to(dtype).requires_grad_() for t in tensors]
    value = function(*leaves)
    first = torch.autograd.grad(value, leaves, create_graph=True)
    second = torch.autograd.grad(sum((g * torch.linspace(1, 2, g.shape[1], dtype=g.dtype)).square().sum()
                                     for g in first), leaves)  # fmt: skip
    return [t.detach() for t in (value, *first, *second)]


def check(ours, formula, tensors: list[Tensor], dtype: torch.dtype) -> None:
    computing = F64 if dtype is F64 else F32
    tensors = [t.to(dtype) for t in tensors]
    for got, exact in zip(derivatives(ours, tensors, computing), derivatives(formula, tensors, F64)):
        tolerance = (1e-13 if dtype is F64 else 2e-6) * exact.abs().max()
        torch.testing.assert_close(got.double(), exact, rtol=0, atol=tolerance.item())
    assert ours(*tensors).dtype == computing
    assert torch.equal(ours(*tensors), ours(*(t.to(computing) for t in tensors)))


@pytest.mark.parametrize("dtype", [F32, F64, BF16, F16], ids=str)
class TestValues:
    def test_semi_supervised(self, dtype):
        loss, labels = SemiSupervised(), torch.tensor([3, 0, 4, 4, 1, 2])
        rows = [torch.randn(n, 5) for n in (6, 8, 3)]  # labelled, unlabelled, fake

        def formula(labelled, unlabelled, fake):
            # Equation of section 5: of the labelled, the class given that the image is real.
            given_real = -(log_softmax(with_fake(labelled))[torch.arange(6), labels] - log_real(labelled)).mean()
            return given_real - log_real(unlabelled).mean() / 2 - log_softmax(with_fake(fake))[:, -1].mean() / 2

        check(lambda x, u, f: loss.discriminator(x, labels, u, f), formula, rows, dtype)
        check(loss.generator, lambda fake: -log_real(fake).mean(), rows[-1:], dtype)

    @pytest.mark.parametrize("weight", [1.0, 0.25])
    def test_auxiliary_classifier(self, dtype, weight):
        loss = AuxiliaryClassifier(LeastSquares(), weight)
        logits = [torch.randn(n, 1) for n in (4, 7)]
        rows = [torch.randn(n, 3) for n in (4, 7)]
        real_labels, fake_labels = torch.randint(3, (4,)), torch.randint(3, (7,))

        def ours(r, f, real, fake):
            return loss.discriminator(r, f, real_classes=real, real_labels=real_labels, fake_classes=fake,
                                      fake_labels=fake_labels)  # fmt: skip

        def formula(r, f, real, fake):
            classes = cross_entropy(real, real_labels) + cross_entropy(fake, fake_labels)
            return ((r - 1) ** 2).mean() / 2 + (f**2).mean() / 2 + weight * classes

        check(ours, formula, [*logits, *rows], dtype)
        check(
            lambda r, f, real: loss.discriminator(r, f, real_classes=real, real_labels=real_labels),
            lambda r, f, real: (
                ((r - 1) ** 2).mean() / 2 + (f**2).mean() / 2 + weight * cross_entropy(real, real_labels)
            ),
            [*logits, rows[0]],
            dtype,
        )
        check(
            lambda f, fake: loss.generator(f, fake_classes=fake, fake_labels=fake_labels),
            lambda f, fake: ((f - 1) ** 2).mean() / 2 + weight * cross_entropy(fake, fake_labels),
            [logits[1], rows[1]],
            dtype,
        )


class TestSemiSupervised:
    loss = SemiSupervised()

    def test_where_nothing_is_known(self):
        """Logits of -log K: every class alike, and real as likely as fake."""
        rows = torch.full((6, 5), -math.log(5))
        loss = self.loss.discriminator(rows, torch.arange(6) % 5, rows, rows)
        assert loss.item() == pytest.approx(math.log(5) + math.log(2))
        assert self.loss.generator(rows).item() == pytest.approx(math.log(2))

    def test_logged(self):
        rows, labels = torch.randn(3, 40, 4), torch.randint(4, (40,))
        value, logged = self.loss.discriminator_logged(rows[0], labels, rows[1], rows[2])
        assert torch.equal(value, self.loss.discriminator(rows[0], labels, rows[1], rows[2]))
        assert logged.keys() == {"accuracy", "real", "fake"}
        assert logged["accuracy"].item() == pytest.approx((rows[0].argmax(1) == labels).float().mean().item())
        assert logged["real"].item() == pytest.approx(log_real(rows[1]).exp().mean().item())
        assert logged["fake"].item() == pytest.approx(log_real(rows[2]).exp().mean().item())
        value, logged = self.loss.generator_logged(rows[2])
        assert torch.equal(value, self.loss.generator(rows[2]))
        assert logged.keys() == {"fake"}
        assert logged["fake"].item() == pytest.approx(log_real(rows[2]).exp().mean().item())

    def test_directions(self):
        rows = torch.randn(3, 8, 4).requires_grad_()
        labels = torch.arange(8) % 4
        (grad,) = torch.autograd.grad(self.loss.discriminator(rows[0], labels, rows[1], rows[2]), rows)
        assert (grad[0].gather(1, labels[:, None]) < 0).all()  # the label's logit rises
        assert (grad[1] < 0).all()  # real
        assert (grad[2] > 0).all()  # fake
        (grad,) = torch.autograd.grad(self.loss.generator(rows[2]), rows)
        assert (grad[2] < 0).all()

    def test_says_what_is_wrong(self):
        rows, labels = torch.zeros(4, 3), torch.zeros(4, dtype=torch.int64)
        good = {"real_logits": rows, "labels": labels, "unlabelled_logits": rows, "fake_logits": rows}
        self.loss.discriminator(**good)
        for name in good:
            with pytest.raises(TypeError, match=f"{name} must be a tensor, not NoneType"):
                self.loss.discriminator(**{**good, name: None})
        for name in ("real_logits", "unlabelled_logits", "fake_logits"):
            with pytest.raises(TypeError, match=f"{name} are torch.int64"):
                self.loss.discriminator(**{**good, name: rows.long()})
            with pytest.raises(ValueError, match=f"{name} have shape"):
                self.loss.discriminator(**{**good, name: rows[0]})
        with pytest.raises(ValueError, match="must agree"):
            self.loss.discriminator(**{**good, "fake_logits": torch.zeros(4, 2)})
        with pytest.raises(ValueError, match="are empty"):
            self.loss.discriminator(**{**good, "unlabelled_logits": rows[:0]})
        with pytest.raises(TypeError, match=r"real_labels are torch\.int32"):
            self.loss.discriminator(**{**good, "labels": labels.int()})
        with pytest.raises(ValueError, match=r"real_labels\[2\] is 3, but there are 3 classes"):
            self.loss.discriminator(**{**good, "labels": torch.tensor([0, 2, 3, 0])})
        with pytest.raises(TypeError, match="fake_logits must be a tensor, not NoneType"):
            self.loss.generator(None)


class TestAuxiliaryClassifier:
    def test_defaults(self):
        """log 4 and log K twice where nothing is known."""
        zero, rows, labels = torch.zeros(6), torch.zeros(6, 5), torch.arange(6) % 5
        loss = AuxiliaryClassifier()
        assert loss == AuxiliaryClassifier(NonSaturating(), 1.0)
        both = {"real_classes": rows, "real_labels": labels, "fake_classes": rows, "fake_labels": labels}
        assert loss.discriminator(zero, zero, **both).item() == pytest.approx(math.log(4) + 2 * math.log(5))
        fakes = {"fake_classes": rows, "fake_labels": labels}
        assert loss.generator(zero, **fakes).item() == pytest.approx(math.log(2) + math.log(5))

    def test_logged(self):
        logits, rows, labels = torch.randn(2, 30, 1), torch.randn(2, 30, 4), torch.randint(4, (2, 30))
        loss = AuxiliaryClassifier(Hinge(), 0.3)
        fakes = {"fake_classes": rows[1], "fake_labels": labels[1]}
        both = {"real_classes": rows[0], "real_labels": labels[0], **fakes}
        accuracies = (rows.argmax(2) == labels).float().mean(1).tolist()
        value, logged = loss.discriminator_logged(*logits, **both)
        assert torch.equal(value, loss.discriminator(*logits, **both))
        assert list(logged) == ["real", "fake", "real_right", "fake_right", "real_accuracy", "fake_accuracy"]
        right = [(logits[0] > 0).float().mean().item(), (logits[1] < 0).float().mean().item()]
        expected = [*logits.mean((1, 2)).tolist(), *right, *accuracies]
        assert [v.item() for v in logged.values()] == pytest.approx(expected, abs=1e-6)
        del both["fake_classes"], both["fake_labels"]
        assert list(loss.discriminator_logged(*logits, **both)[1]) == [*list(logged)[:4], "real_accuracy"]
        value, logged = loss.generator_logged(logits[1], **fakes)
        assert torch.equal(value, loss.generator(logits[1], **fakes))
        assert {k: v.item() for k, v in logged.items()} == pytest.approx(
            {"fake": expected[1], "fake_accuracy": expected[5]}
        )

    def test_hands_over_what_the_adversarial_loss_takes(self):
        logits, rows, labels = torch.randn(2, 9), torch.randn(9, 4), torch.randint(4, (9,))
        fakes = {"fake_classes": rows, "fake_labels": labels}
        relativistic = AuxiliaryClassifier(Relativistic(), 0.0)
        expected = Relativistic().generator(logits[1], logits[0])
        torch.testing.assert_close(relativistic.generator(logits[1], logits[0], **fakes), expected)
        noisy = NonSaturating(label_noise=0.5)
        reals = {"real_classes": rows, "real_labels": labels}
        ours = AuxiliaryClassifier(noisy, 0.0).discriminator(*logits, **reals, generator=torch.manual_seed(3))
        torch.testing.assert_close(ours, noisy.discriminator(*logits, generator=torch.manual_seed(3)))

    def test_says_what_is_wrong(self):
        zero, rows, labels = torch.zeros(4), torch.zeros(4, 3), torch.zeros(4, dtype=torch.int64)
        loss = AuxiliaryClassifier()
        reals = {"real_classes": rows, "real_labels": labels}
        for half in ({"fake_classes": rows}, {"fake_labels": labels}):
            with pytest.raises(ValueError, match="belong together: give both or neither"):
                loss.discriminator(zero, zero, **reals, **half)
        for name in reals:
            with pytest.raises(TypeError, match=f"{name} must be a tensor, not NoneType"):
                loss.discriminator(zero, zero, **{**reals, name: None})
        # Without labels these rows would be those of another loss.
        with pytest.raises(TypeError, match="fake_labels must be a tensor, not NoneType"):
            loss.generator(zero, fake_classes=rows, fake_labels=None)
        with pytest.raises(TypeError, match=r"fake_labels are torch\.float32"):
            loss.generator(zero, fake_classes=rows, fake_labels=labels.float())
        with pytest.raises(TypeError, match=r"adversarial must be a loss such as NonSaturating\(\), not Hinge"):
            AuxiliaryClassifier(Hinge)
        with pytest.raises(ValueError, match="weight must be a finite number of at least 0, not -1"):
            AuxiliaryClassifier(weight=-1)
