"""The adversarial losses against their formulas, written here with log and exp in float64."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import FrozenInstanceError

import pytest
import torch
from torch import Tensor

from fastgan.losses import Hinge, LeastSquares, Minimax, NonSaturating, Relativistic, Wasserstein

F32, F64, BF16, F16 = torch.float32, torch.float64, torch.bfloat16, torch.float16


def s(x: Tensor) -> Tensor:
    return 1 / (1 + (-x).exp())


# loss -> (the discriminator's formula of real and fake, the generator's, D of real and of fake)
FORMULAS: dict[object, tuple[Callable, Callable, Callable]] = {
    NonSaturating(): (
        lambda r, f: -s(r).log().mean() - (1 - s(f)).log().mean(),
        lambda r, f: -s(f).log().mean(),
        lambda r, f: (s(r), s(f)),
    ),
    Minimax(): (
        lambda r, f: -s(r).log().mean() - (1 - s(f)).log().mean(),
        lambda r, f: (1 - s(f)).log().mean(),
        lambda r, f: (s(r), s(f)),
    ),
    LeastSquares(): (
        lambda r, f: 0.5 * ((r - 1) ** 2).mean() + 0.5 * (f**2).mean(),
        lambda r, f: 0.5 * ((f - 1) ** 2).mean(),
        lambda r, f: (r, f),
    ),
    Hinge(): (
        lambda r, f: (1 - r).clamp(min=0).mean() + (1 + f).clamp(min=0).mean(),
        lambda r, f: -f.mean(),
        lambda r, f: (r, f),
    ),
    Wasserstein(): (lambda r, f: f.mean() - r.mean(), lambda r, f: -f.mean(), lambda r, f: (r, f)),
    Relativistic(): (
        lambda r, f: (1 + (f - r).exp()).log().mean(),
        lambda r, f: (1 + (r - f).exp()).log().mean(),
        lambda r, f: (s(r - f), s(f - r)),
    ),
    Relativistic(average=True): (
        lambda r, f: -0.5 * (s(r - f.mean()).log().mean() + (1 - s(f - r.mean())).log().mean()),
        lambda r, f: -0.5 * (s(f - r.mean()).log().mean() + (1 - s(r - f.mean())).log().mean()),
        lambda r, f: (s(r - f.mean()), s(f - r.mean())),
    ),
}
LOSSES = list(FORMULAS)
LABELLED = [loss for loss in LOSSES if not isinstance(loss, Relativistic)]


def name(loss: object) -> str:
    return type(loss).__name__ + ("-average" if getattr(loss, "average", False) else "")


def play(loss, player: str, real: Tensor, fake: Tensor) -> Tensor:
    return loss.discriminator(real, fake) if player == "discriminator" else loss.generator(fake, real)


@pytest.mark.parametrize("loss", LABELLED, ids=name)
@pytest.mark.parametrize("scales", [1, 2])
def test_a_discriminators_loss_comes_in_parts(loss, scales):
    real, fake = (list(torch.randn(2, scales, 8).unbind()[side].unbind()) for side in (0, 1))
    expected, logged = loss.discriminator_logged(real, fake)
    parts = loss.discriminator_logged(real, None), loss.discriminator_logged(None, fake)
    torch.testing.assert_close(parts[0][0] + parts[1][0], expected)
    assert {**parts[0][1], **parts[1][1]}.keys() == logged.keys()
    assert all(key.startswith(side) for side, part in zip(("real", "fake"), parts) for key in part[1])
    for part in parts:
        for key, value in part[1].items():
            torch.testing.assert_close(value, logged[key])


def test_no_logits_at_all():
    with pytest.raises(ValueError, match="needs real_logits, fake_logits or both"):
        Hinge().discriminator(None, None)
    with pytest.raises(ValueError, match="needs fake_logits"):
        Relativistic().discriminator(torch.randn(4), None)


@pytest.mark.parametrize("loss", LOSSES, ids=name)
@pytest.mark.parametrize("player", ["discriminator", "generator"])
class TestEveryLoss:
    @pytest.mark.parametrize("dtype", [F32, F64, BF16, F16], ids=str)
    @pytest.mark.parametrize("shape", [(37,), (9, 1), (3, 1, 5, 7), ()], ids=str)
    def test_value_and_two_derivatives(self, loss, player, dtype, shape):
        real, fake = (2 * torch.randn(2, *shape)).to(dtype).unbind()
        formula = FORMULAS[loss][player == "generator"]
        weights = torch.linspace(0.5, 1.5, real.numel()).view(shape)

        def run(function, computing):
            r, f = (t.detach().to(computing).requires_grad_() for t in (real, fake))
            value = function(r, f)
            # A cubic of the logits keeps every derivative from vanishing.
            total = value * 1.7 + ((r**3 + f**3) * weights.to(computing)).mean()
            first = torch.autograd.grad(total, (r, f), create_graph=True)
            second = torch.autograd.grad(sum((g**2 * weights.to(g.dtype)).sum() for g in first), (r, f))
            return [value.detach(), *(t.detach().to(value.dtype) for t in (*first, *second))]

        ours = run(lambda r, f: play(loss, player, r, f), F64 if dtype is F64 else F32)
        for got, exact in zip(ours, run(formula, F64)):
            tolerance = (1e-13 if dtype is F64 else 4e-6) * exact.abs().max()
            torch.testing.assert_close(got.double(), exact, rtol=0, atol=tolerance.item())
        # From half precision it is the same computation, on logits that are converted first.
        if dtype in (BF16, F16):
            assert torch.equal(play(loss, player, real, fake), play(loss, player, real.float(), fake.float()))

    def test_logged_is_the_same_loss_and_the_mean_output(self, loss, player):
        real, fake = torch.randn(2, 6, 2, dtype=F64, requires_grad=True).unbind()
        if player == "discriminator":
            value, logged = loss.discriminator_logged(real, fake)
        else:
            value, logged = loss.generator_logged(fake, real)
        assert torch.equal(value, play(loss, player, real, fake))
        means = [mean.mean().item() for mean in FORMULAS[loss][2](real.detach(), fake.detach())]
        right = {"real_right", "fake_right"} if player == "discriminator" and loss.kind != "wasserstein" else set()
        assert logged.keys() == {"real", "fake"} | right
        if right and "relativistic" not in loss.kind:
            middle = 0.5 if loss.kind == "least_squares" else 0
            assert logged["real_right"].item() == pytest.approx((real > middle).double().mean().item())
            assert logged["fake_right"].item() == pytest.approx((fake < middle).double().mean().item())
        assert [logged["real"].item(), logged["fake"].item()] == pytest.approx(means)
        assert not any(mean.requires_grad or mean.dim() for mean in logged.values())

    def test_gradients_push_logits_apart_or_together(self, loss, player):
        real, fake = torch.rand(2, 50).unbind()  # between the targets of the least squares
        real.requires_grad_(), fake.requires_grad_()
        play(loss, player, real, fake).backward()
        towards_real = -fake.grad if player == "generator" else fake.grad
        assert (towards_real >= 0).all()
        assert (towards_real > 0).any()
        if player == "discriminator":
            assert (real.grad <= 0).all()
            assert (real.grad < 0).any()

    @pytest.mark.parametrize("value", [1e4, -1e4])
    def test_finite_for_any_logit(self, loss, player, value):
        real, fake = torch.full((2, 1), value, requires_grad=True).unbind()
        result = play(loss, player, real, fake)
        grads = torch.autograd.grad(result, (real, fake), allow_unused=True)
        assert result.isfinite()
        assert all(grad is None or grad.isfinite().all() for grad in grads)

    def test_scales_are_summed(self, loss, player):
        pairs = [torch.randn(2, 4, 1, size, size).unbind() for size in (5, 3, 2)]
        reals, fakes = (list(side) for side in zip(*pairs))
        expected = sum(play(loss, player, r, f) for r, f in pairs)
        torch.testing.assert_close(play(loss, player, reals, fakes), expected)
        if player == "discriminator":
            logged = loss.discriminator_logged(reals, fakes)[1]
            each = [loss.discriminator_logged(r, f)[1] for r, f in pairs]
        else:
            logged = loss.generator_logged(fakes, reals)[1]
            each = [loss.generator_logged(f, r)[1] for r, f in pairs]
        for key in ("real", "fake"):
            torch.testing.assert_close(logged[key], sum(one[key] for one in each) / 3)

    def test_says_what_is_wrong(self, loss, player):
        good = torch.zeros(3)
        with pytest.raises(TypeError, match=r"fake_logits .*torch\.int64"):
            play(loss, player, good, torch.tensor([1, 2, 3]))
        with pytest.raises(TypeError, match=r"real_logits .*torch\.bool"):
            play(loss, player, good > 0, good)
        with pytest.raises(ValueError, match="fake_logits are empty"):
            play(loss, player, good, good[:0])
        with pytest.raises(TypeError, match=r"fake_logits must be a tensor, or a list .* not tuple"):
            play(loss, player, good, (good, good))
        with pytest.raises(TypeError, match="real_logits must be a tensor or None, not str"):
            play(loss, player, ["a", good], [good, good])
        with pytest.raises(ValueError, match="_logits is an empty list"):
            play(loss, player, [], [])
        with pytest.raises(ValueError, match="real_logits have 1 scales and fake_logits 2"):
            play(loss, player, [good], [good, good])


@pytest.mark.parametrize(
    ("loss", "discriminator", "generator"),
    [
        (NonSaturating(), math.log(4), math.log(2)),
        (Minimax(), math.log(4), -math.log(2)),
        (LeastSquares(), 0.5, 0.5),
        (Hinge(), 2, 0),
        (Wasserstein(), 0, 0),
        (Relativistic(), math.log(2), math.log(2)),
        (Relativistic(average=True), math.log(2), math.log(2)),
    ],
    ids=name,
)
def test_at_equilibrium(loss, discriminator, generator):
    """Logits of zero: the discriminator cannot tell."""
    zero = torch.zeros(4)
    assert loss.discriminator(zero, zero).item() == pytest.approx(discriminator)
    assert loss.generator(zero, zero).item() == pytest.approx(generator)


def test_least_squares_at_its_equilibrium():
    half = torch.full((4,), 0.5)
    assert LeastSquares().discriminator(half, half).item() == pytest.approx(1 / 4)
    assert LeastSquares().generator(half).item() == pytest.approx(1 / 8)


def test_where_the_discriminator_wins_minimax_saturates_and_non_saturating_does_not():
    for loss, expected in ((NonSaturating(), -1), (Minimax(), 0)):
        fake = torch.tensor([-1e4], requires_grad=True)
        loss.generator(fake).backward()
        assert fake.grad.item() == expected


def test_relativistic_losses_see_differences_only():
    real, fake = torch.randn(2, 20, dtype=F64).unbind()
    for loss in (Relativistic(), Relativistic(average=True)):
        for player in ("discriminator", "generator"):
            value = play(loss, player, real, fake)
            torch.testing.assert_close(play(loss, player, real + 3, fake + 3), value)
            assert not torch.allclose(play(loss, player, real + 3, fake), value)
    shuffled = fake[torch.randperm(20)]
    paired, average = (loss.discriminator(real, shuffled) for loss in (Relativistic(), Relativistic(average=True)))
    assert not torch.allclose(paired, Relativistic().discriminator(real, fake))
    torch.testing.assert_close(average, Relativistic(average=True).discriminator(real, fake))


def test_relativistic_generators_reach_both():
    real, fake = torch.randn(2, 5).unbind()
    real.requires_grad_(), fake.requires_grad_()
    Relativistic().generator(fake, real).backward()
    torch.testing.assert_close(real.grad, -fake.grad)
    with pytest.raises(ValueError, match="generator's relativistic loss needs real_logits"):
        Relativistic().generator(fake)
    with pytest.raises(ValueError, match="shapes must be equal"):
        Relativistic().discriminator(real, fake[:, None])


class Untouchable(torch.autograd.Function):
    """Its backward must not run."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        raise AssertionError("a backward pass reached the real logits")


@pytest.mark.parametrize("loss", LABELLED, ids=name)
def test_other_generators_leave_the_real_logits_alone(loss):
    real, fake = torch.randn(2, 5).unbind()
    real.requires_grad_(), fake.requires_grad_()
    loss.generator(fake, Untouchable.apply(real)).backward()
    loss.generator([fake], [Untouchable.apply(real)]).backward()
    assert real.grad is None
    assert torch.equal(loss.generator(fake), loss.generator(fake, real))
    assert loss.generator_logged(fake)[1].keys() == {"fake"}


class TestLabels:
    """The discriminator's labels; `t` is that of a real sample."""

    @pytest.mark.parametrize("t", [1, 0.9, 0.75])
    def test_smoothing_is_one_sided(self, t):
        real, fake = torch.randn(2, 30, dtype=F64).unbind()
        formulas = {
            NonSaturating: -t * s(real).log().mean()
            - (1 - t) * (1 - s(real)).log().mean()
            - (1 - s(fake)).log().mean(),
            LeastSquares: 0.5 * ((real - t) ** 2).mean() + 0.5 * (fake**2).mean(),
            Hinge: t * (1 - real).relu().mean() + (1 - t) * (1 + real).relu().mean() + (1 + fake).relu().mean(),
            Wasserstein: fake.mean() - (2 * t - 1) * real.mean(),
        }
        formulas[Minimax] = formulas[NonSaturating]
        for kind, expected in formulas.items():
            loss = kind(label_smoothing=1 - t)
            torch.testing.assert_close(loss.discriminator(real, fake), expected)
            assert torch.equal(loss.generator(fake), kind().generator(fake))  # has no labels

    @pytest.mark.parametrize("loss", LABELLED, ids=name)
    def test_all_flipped_is_real_and_fake_exchanged(self, loss):
        real, fake = torch.randn(2, 30).unbind()
        flipped = type(loss)(label_flips=1).discriminator(real, fake)
        torch.testing.assert_close(flipped, loss.discriminator(fake, real))

    @pytest.mark.parametrize("settings", [{"label_flips": 0.3}, {"label_noise": 0.4}], ids=str)
    def test_the_generator_draws_them(self, settings):
        real, fake = torch.randn(2, 40).unbind()
        loss = LeastSquares(**settings)

        def drawn(seed):
            return loss.discriminator(real, fake, generator=torch.Generator().manual_seed(seed))

        assert torch.equal(drawn(0), drawn(0))
        assert not torch.equal(drawn(0), drawn(1))
        logged = loss.discriminator_logged(real, fake, generator=torch.Generator().manual_seed(1))[0]
        assert torch.equal(logged, drawn(1))

    def test_their_mean(self):
        """1/2 E (x - t)^2 with x = 0: half the mean square of the targets, here 20,000 of them."""
        zero, many = torch.zeros(1), torch.zeros(20_000)
        flips = LeastSquares(label_flips=0.2).discriminator(zero + 0.5, many)
        assert flips.item() == pytest.approx(0.125 + 0.2 / 2, abs=0.01)
        noise = LeastSquares(label_noise=0.6).discriminator(many, many)
        assert noise.item() == pytest.approx((1 + 2 * 0.6**2 / 3) / 2, abs=0.01)

    @pytest.mark.parametrize("loss", LABELLED, ids=name)
    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"label_smoothing": 1.0}, r"label_smoothing must be in \[0, 1\), not 1.0"),
            ({"label_smoothing": -0.1}, r"label_smoothing must be in \[0, 1\), not -0.1"),
            ({"label_noise": -1}, "label_noise must be a finite number of at least 0, not -1"),
            ({"label_noise": math.inf}, "label_noise must be a finite number of at least 0, not inf"),
            ({"label_noise": math.nan}, "label_noise must be a finite number of at least 0, not nan"),
            ({"label_flips": 1.5}, r"label_flips must be in \[0, 1\], not 1.5"),
        ],
    )
    def test_says_what_is_wrong(self, loss, settings, message):
        with pytest.raises(ValueError, match=message):
            type(loss)(**settings)

    def test_types(self):
        with pytest.raises(TypeError, match="label_noise must be a number, not str"):
            Hinge(label_noise="0.1")
        with pytest.raises(TypeError, match="label_smoothing must be a number, not bool"):
            Hinge(label_smoothing=True)
        with pytest.raises(TypeError):
            Relativistic(label_noise=0.1)


def test_a_loss_is_a_value():
    assert Hinge() == Hinge(label_noise=0)
    assert Hinge() != Hinge(label_noise=0.1)
    assert len({Hinge(), Hinge(), Relativistic(), Relativistic(average=True)}) == 3
    with pytest.raises(FrozenInstanceError):
        Hinge().label_noise = 0.1
    with pytest.raises(ValueError, match="accepted: auto, native, torch"):
        Hinge(backend="fast").generator(torch.zeros(1))
