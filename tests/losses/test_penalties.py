"""Gradient penalties: their formulas in float64, through fused discriminators, to the gradients of the parameters."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from fastgan import fuse
from fastgan.losses import dragan, gradient_penalty, r1, r2

F32, F64, BF16, F16 = torch.float32, torch.float64, torch.bfloat16, torch.float16
LAST = "7.bias"  # of the network below: it moves the logits, not their gradient


def network(dtype: torch.dtype = F32, norm: bool = True) -> nn.Sequential:
    """(N, 3, 8, 8) -> (N, 1, 2, 2), four patches an image; the gradients' norms are about 2, in eval mode too.

    Behind a SiLU the penalty has a gradient for every bias.
    """
    torch.manual_seed(1)
    layers = [
        nn.Conv2d(3, 8, 4, 2, 1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(8, 16, 3, 1, 1, bias=False),
        nn.BatchNorm2d(16) if norm else nn.Identity(),
        nn.LeakyReLU(0.2),
        nn.Conv2d(16, 8, 3, 1, 1),
        nn.SiLU(),
        nn.Conv2d(8, 1, 4, 2, 1),
    ]
    if norm:
        layers[3].running_var.fill_(0.007)
    with torch.no_grad():
        layers[-1].weight.mul_(6)
    return nn.Sequential(*layers).to(dtype)


def images(count: int = 6, dtype: torch.dtype = F32) -> tuple[Tensor, Tensor]:
    """Real and fake ones."""
    torch.manual_seed(2)
    real, fake = torch.rand(2, count, 3, 8, 8).unbind()
    return (2 * real - 1).to(dtype), (fake - 0.7).to(dtype)


def drawn(draw, shape) -> Tensor:
    return draw(shape, generator=torch.Generator().manual_seed(5))


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(5)


# name -> (the penalty of discriminator, real, fake; where it looks, by hand; its formula of the gradients' norms)
PENALTIES = {
    "r1": (
        lambda d, real, fake: r1(d, real, gamma=3.0),
        lambda real, fake: real,
        lambda norms: 3.0 / 2 * (norms**2).mean(),
    ),
    "r2": (
        lambda d, real, fake: r2(d, fake, gamma=0.4),
        lambda real, fake: fake,
        lambda norms: 0.4 / 2 * (norms**2).mean(),
    ),
    "gradient_penalty": (
        lambda d, real, fake: gradient_penalty(d, real, fake, generator=seeded()),
        lambda real, fake: real * (u := drawn(torch.rand, (len(real), 1, 1, 1)).to(real.dtype)) + fake * (1 - u),
        lambda norms: 10 * ((norms - 1) ** 2).mean(),
    ),
    "one_sided": (
        lambda d, real, fake: gradient_penalty(d, real, fake, 2.0, 1.5, one_sided=True, generator=seeded()),
        lambda real, fake: real * (u := drawn(torch.rand, (len(real), 1, 1, 1)).to(real.dtype)) + fake * (1 - u),
        lambda norms: 2 * ((norms - 1.5).clamp(min=0) ** 2).mean(),
    ),
    "dragan": (
        lambda d, real, fake: dragan(d, real, generator=seeded()),
        lambda real, fake: real + 0.5 * real.std(correction=0) * drawn(torch.randn, real.shape).to(real.dtype),
        lambda norms: 10 * ((norms - 1) ** 2).mean(),
    ),
}
every_penalty = pytest.mark.parametrize("name", PENALTIES)


def by_hand(name: str, discriminator: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
    _, where, formula = PENALTIES[name]
    dtype = torch.promote_types(real.dtype, F32)
    x = where(real.to(dtype), fake.to(dtype)).to(real.dtype).requires_grad_()
    logits = discriminator(x)
    with torch.autocast("cpu", enabled=False):
        (gradient,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
    return formula(gradient.to(dtype).flatten(1).square().sum(1).sqrt())


def results(penalty: Tensor, discriminator: nn.Module) -> list[Tensor]:
    """The penalty and its gradient for every parameter that has one; the last bias has none."""
    named = dict(discriminator.named_parameters())
    assert torch.autograd.grad(penalty, named.pop(LAST), retain_graph=True, allow_unused=True)[0] is None
    return [penalty.detach(), *torch.autograd.grad(penalty, list(named.values()))]


@every_penalty
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("backend", ["auto", "torch"])
class TestThroughAFusedDiscriminator:
    @pytest.mark.parametrize(
        ("dtype", "autocast"), [(F32, False), (BF16, False), (F32, True)], ids=["float32", "bfloat16", "autocast"]
    )
    def test_value_and_gradients(self, name, training, backend, dtype, autocast):
        """At most twice the error of the formula on the unfused discriminator, which has the same roundings."""
        plain = network(dtype).train(training)
        fused = fuse(copy.deepcopy(plain), backend=backend)
        exact = copy.deepcopy(plain).double()
        real, fake = images(dtype=dtype)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            penalty = PENALTIES[name][0](fused, real, fake)
            theirs = by_hand(name, plain, real, fake)
        assert penalty.dtype == F32
        truth = results(by_hand(name, exact, real.double(), fake.double()), exact)
        assert all(t.abs().max() > 0 for t in truth)
        rounding = 1e-6 if dtype is F32 and not autocast else 0.02
        for o, t, e in zip(results(penalty, fused), results(theirs, plain), truth):
            assert (o - e).norm() <= 2 * (t - e).norm() + rounding * e.norm()

    def test_float64(self, name, training, backend):
        plain = network(F64).train(training)
        fused = fuse(copy.deepcopy(plain), backend=backend)
        real, fake = images(dtype=F64)
        ours = PENALTIES[name][0](fused, real, fake)
        assert ours.dtype == F64
        if name in ("r1", "r2"):  # by hand the random numbers are float32, and others
            assert_close(results(ours, fused), results(by_hand(name, plain, real, fake), plain), rtol=1e-9, atol=1e-12)


@every_penalty
class TestEveryPenalty:
    def test_derivative_is_that_of_finite_differences(self, name):
        plain = network(F64, norm=False)
        real, fake = images(2, F64)
        weights = [p for n, p in plain.named_parameters() if n != LAST]
        for weight in (weights[0], weights[-1]):
            at = (0, 1, 1, 1)
            step, values = 1e-6, []
            (grad,) = torch.autograd.grad(PENALTIES[name][0](plain, real, fake), weight)
            for sign in (1, -1):
                with torch.no_grad():
                    weight[at] += sign * step
                values.append(PENALTIES[name][0](plain, real, fake).item())
                with torch.no_grad():
                    weight[at] -= sign * step
            assert grad[at].item() == pytest.approx((values[0] - values[1]) / 2 / step, rel=1e-5, abs=1e-7)

    def test_dtypes_under_autocast(self, name):
        plain, seen = network(), []

        def discriminator(x):
            logits = plain(x)
            seen.append((x.dtype, logits.dtype))
            return logits

        with torch.autocast("cpu", torch.bfloat16):
            PENALTIES[name][0](discriminator, *images(dtype=BF16))  # as a generator under autocast makes them
            assert seen == [(F32, BF16)]
            with torch.autocast("cpu", enabled=False):
                outside = PENALTIES[name][0](discriminator, *images())
        assert seen[1:] == [(F32, F32)]
        assert torch.equal(outside, PENALTIES[name][0](network(), *images()))

    def test_what_the_discriminator_keeps_in_float32_stays_there(self, name):
        """Layers without autocast have a backward pass without it, also inside an autocast region."""
        layers, (real, fake) = nn.Sequential(nn.Flatten(), nn.Linear(192, 50), nn.Tanh(), nn.Linear(50, 1)), images()

        def discriminator(x):
            with torch.autocast("cpu", enabled=False):
                return layers(x)

        with torch.autocast("cpu", torch.bfloat16):
            penalty = PENALTIES[name][0](discriminator, real, fake)
        assert torch.equal(penalty, PENALTIES[name][0](layers, real, fake))

    @pytest.mark.parametrize("dtype", [F16, BF16])
    def test_the_norm_is_taken_in_float32(self, name, dtype):
        """The gradient is 300 for each of 192 values: its square is 17 million, which float16 does not hold."""
        scale = torch.tensor(300.0, dtype=dtype, requires_grad=True)
        value = PENALTIES[name][0](lambda x: (x * scale).flatten(1).sum(1), *images(dtype=dtype))
        expected = PENALTIES[name][2](torch.tensor([300.0 * 192**0.5], dtype=F64)).item()
        assert value.dtype == F32
        assert value.item() == pytest.approx(expected, rel=1e-6)

    def test_the_arguments_stay_as_they_are(self, name):
        plain, (real, fake) = network(), images()
        before = real.clone(), fake.clone()
        for t in (real, fake):
            t.requires_grad_()
        alone = PENALTIES[name][0](plain, *before)
        value = PENALTIES[name][0](plain, real * 1, fake * 1)  # they have graphs: a generator's
        assert torch.equal(value, alone)
        value.backward()
        assert real.grad is None
        assert fake.grad is None
        assert torch.equal(real, before[0])
        assert torch.equal(fake, before[1])
        PENALTIES[name][0](plain, *before)
        assert not before[0].requires_grad
        assert not before[1].requires_grad
        assert all(p.grad is not None for n, p in plain.named_parameters() if n != LAST)

    def test_images_made_in_inference_mode(self, name):
        plain = network()
        with torch.inference_mode():
            real, fake = images()
        assert real.is_inference()
        value = PENALTIES[name][0](plain, real, fake)
        assert torch.equal(value, PENALTIES[name][0](plain, *images()))
        value.backward()

    @pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
    def test_needs_grad_mode(self, name, mode):
        with mode(), pytest.raises(RuntimeError, match=r"needs grad mode: call it outside torch\.no_grad"):
            PENALTIES[name][0](network(), *images())

    def test_conditional(self, name):
        embedding = torch.randn(4, 192, dtype=F64, requires_grad=True)
        labels = torch.tensor([0, 1, 2, 3, 0, 1])

        def discriminator(x, y):
            return (x.flatten(1) * embedding[y]).sum(1)

        value = PENALTIES[name][0](lambda x: discriminator(x, labels), *images(dtype=F64))
        norms = embedding[labels].norm(dim=1)
        assert value.item() == pytest.approx(PENALTIES[name][2](norms).item())

    @pytest.mark.parametrize("shape", [(5,), (2, 3, 4), (3, 2, 2, 3, 3)])
    def test_images_of_any_rank(self, name, shape):
        weight = torch.randn(torch.Size(shape).numel(), dtype=F64, requires_grad=True)
        real, fake = torch.randn(2, 7, *shape, dtype=F64).unbind()
        value = PENALTIES[name][0](lambda x: x.flatten(1) @ weight, real, fake)
        assert value.item() == pytest.approx(PENALTIES[name][2](weight.norm()[None]).item())

    def test_zero_gradient_has_finite_derivatives(self, name):
        """Dead units: the derivative of a square root at zero is infinite."""
        weight = torch.zeros(192, requires_grad=True)
        value = PENALTIES[name][0](lambda x: x.flatten(1) @ weight, *images())
        value.backward()
        assert value.item() == pytest.approx(PENALTIES[name][2](torch.zeros(1)).item())
        assert weight.grad.isfinite().all()

    def test_a_discriminator_without_a_gradient(self, name):
        plain = network()
        other, _ = images()

        def raises(discriminator, message):
            with pytest.raises(RuntimeError, match=message):
                PENALTIES[name][0](discriminator, *images())

        raises(lambda x: plain(x.detach()), "do not depend on the images that it was given: it ignores or detaches")
        raises(lambda x: plain(other), "do not depend on the images that it was given")
        raises(lambda x: plain(x).detach(), "logits do not require grad although the images do")
        raises(torch.no_grad()(plain), "logits do not require grad although the images do")
        raises(
            nn.Sequential(nn.Flatten(), nn.Linear(192, 1)).requires_grad_(False),
            "a constant to autograd, so the penalty would train nothing",
        )

    def test_an_operation_that_hides_its_second_derivative(self, name):
        class Once(torch.autograd.Function):
            """As fused operations are often written: the gradient comes without a graph."""

            @staticmethod
            def forward(ctx, x, weight):
                ctx.save_for_backward(x, weight)
                return x * weight

            @staticmethod
            def backward(ctx, grad):
                x, weight = ctx.saved_tensors
                return (grad * weight).detach(), (grad * x).detach().sum_to_size(weight.shape)

        weight = torch.ones(3, 8, 8, requires_grad=True)
        with pytest.raises(RuntimeError, match="cannot be differentiated twice"):
            PENALTIES[name][0](lambda x: Once.apply(x, weight), *images())

    def test_says_what_is_wrong(self, name):
        plain, (real, _) = network(), images()
        argument = "fake" if name == "r2" else "real"

        def penalty(images, discriminator=plain):
            return PENALTIES[name][0](discriminator, images, images)

        with pytest.raises(TypeError, match=f"{argument} must be a floating-point tensor, not torch.uint8"):
            penalty(real.byte())
        with pytest.raises(TypeError, match=f"{argument} must be a floating-point tensor, not list"):
            penalty([1.0])
        with pytest.raises(ValueError, match=f"{argument} is empty"):
            penalty(real[:0])
        with pytest.raises(ValueError, match=rf"{argument} must have shape \(N, \*\) with rank >= 2, not \(6,\)"):
            penalty(real[:, 0, 0, 0])
        with pytest.raises(TypeError, match=r"must return one tensor of logits, not tuple; pick one with .*\)\[0\]"):
            penalty(real, lambda x: (plain(x), plain(x)))
        with pytest.raises(TypeError, match="what the discriminator returned must be a floating-point tensor"):
            penalty(real, lambda x: plain(x) > 0)
        with pytest.raises(ValueError, match="what the discriminator returned is empty"):
            penalty(real, lambda x: plain(x)[:0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda d, r, f: r1(d, r, -1.0), "gamma must be a finite number of at least 0, not -1.0"),
        (lambda d, r, f: r2(d, f, float("inf")), "gamma must be a finite number of at least 0, not inf"),
        (lambda d, r, f: gradient_penalty(d, r, f, -1), "weight must be a finite number"),
        (lambda d, r, f: gradient_penalty(d, r, f, 1, -1), "target must be a finite number"),
        (lambda d, r, f: dragan(d, r, -1), "weight must be a finite number"),
        (lambda d, r, f: dragan(d, r, noise=float("nan")), "noise must be a finite number"),
        (lambda d, r, f: dragan(d, r, target=-1), "target must be a finite number"),
        (lambda d, r, f: gradient_penalty(d, r, f[:3]), r"same shape, not \(6, 3, 8, 8\) and \(3, 3, 8, 8\)"),
        (lambda d, r, f: gradient_penalty(d, r, f[:1]), "same shape"),  # would broadcast
        (lambda d, r, f: gradient_penalty(d, r, f[:0]), "fake is empty"),
        (lambda d, r, f: gradient_penalty(d, r, f.to("meta")), "real is on cpu and fake on meta"),
    ],
)
def test_numbers_and_shapes(call, message):
    with pytest.raises(ValueError, match=message):
        call(network(), *images())


def test_types():
    with pytest.raises(TypeError, match=r"fake must be a floating-point tensor, not torch\.int64"):
        gradient_penalty(network(), images()[0], images()[1].long())
    with pytest.raises(TypeError, match="gamma must be a number, not Tensor"):
        r1(network(), images()[0], torch.tensor(1.0))


SCRIPT = """
import os, sys, torch, torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from fastgan import fuse
from fastgan.losses import Hinge, r1, r2
from tests.losses.test_penalties import images, network
rank, folder = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
discriminator = fuse(network(torch.float64, norm=False))
model = DistributedDataParallel(discriminator)
real, fake = (t.chunk(2)[rank] for t in images(dtype=torch.float64))
for step in range(2):  # DDP notices what went wrong with a step in the next
    discriminator.zero_grad()
    loss = Hinge().discriminator(model(real), model(fake)) + r1(model, real) + r2(model, fake)
    loss.backward()
torch.save([p.grad for p in discriminator.parameters()], f"{folder}/{rank}.pt")
dist.destroy_process_group()
os._exit(0)  # gloo's threads may abort an interpreter that ends as usual
"""


@pytest.mark.processes
@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without distributed")
def test_two_processes_are_one_with_the_whole_batch(tmp_path):
    root = str(Path(__file__).parents[2])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    ranks = [
        subprocess.Popen([sys.executable, "-c", SCRIPT, str(rank), str(tmp_path)], env=environment, stderr=-1)
        for rank in (0, 1)
    ]
    for rank in ranks:
        _, errors = rank.communicate(timeout=100)
        assert rank.returncode == 0, errors.decode()
    plain, (real, fake) = network(F64, norm=False), images(dtype=F64)
    loss = (1 - plain(real)).relu().mean() + (1 + plain(fake)).relu().mean()
    for x in (real, fake):
        x.requires_grad_()
        (gradient,) = torch.autograd.grad(plain(x).sum(), x, create_graph=True)
        loss = loss + 5 * gradient.square().flatten(1).sum(1).mean()
    loss.backward()
    for rank in (0, 1):
        assert_close(torch.load(tmp_path / f"{rank}.pt"), [p.grad for p in plain.parameters()], rtol=1e-9, atol=1e-11)
