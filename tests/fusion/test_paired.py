"""paired: one pass over real and fake where it is the same as two, and two where it is not."""

import copy
import re

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm
from torch.utils.checkpoint import checkpoint

import fastgan
from fastgan.fusion.paired import paired, paired_reason
from fastgan.nn import ConvNormAct2d


def plain():
    return nn.Sequential(
        nn.Conv2d(3, 8, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(8, 16, 4, 2, 1, bias=False), nn.BatchNorm2d(16),
        nn.LeakyReLU(0.2), nn.Conv2d(16, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(32, 1),
    )  # fmt: skip


def ours():
    return nn.Sequential(
        ConvNormAct2d(3, 8, 4, 2, 1, act="leaky_relu"),
        ConvNormAct2d(8, 8, 4, 2, 1, norm="instance", act="relu"),
        ConvNormAct2d(8, 4, 4, 1, 0, act="relu"),
        nn.Flatten(),
    )


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(0)
    return [3 * torch.randn(6, 3, 16, 16, generator=generator) + k for k in (0, 2)]


def outcome(discriminator, real, fake, one_pass, double_backward=False):
    """Outputs, gradients of a loss (or of a penalty), and buffers afterwards."""
    discriminator = copy.deepcopy(discriminator)
    real, fake = real.clone().requires_grad_(), fake.clone().requires_grad_()
    d_real, d_fake = paired(discriminator, real, fake, one_pass=one_pass)
    loss = nn.functional.softplus(-d_real).mean() + nn.functional.softplus(d_fake).mean()
    if double_backward:
        (slope,) = torch.autograd.grad(d_real.sum() + d_fake.pow(2).sum(), real, create_graph=True)
        loss = slope.pow(2).sum()
    wanted = [real, *discriminator.parameters()]
    gradients = torch.autograd.grad(loss, wanted, materialize_grads=True)
    return [d_real, d_fake, *gradients, *discriminator.buffers()]


class TestOnePass:
    @pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
    @pytest.mark.parametrize("double_backward", [False, True], ids=["first", "second"])
    @pytest.mark.parametrize("make", [lambda: fastgan.fuse(plain()), ours], ids=["fused", "ours"])
    def test_is_the_same(self, images, make, double_backward, training):
        torch.manual_seed(0)
        discriminator = make().double().train(training)
        real, fake = (image.double() for image in images)
        assert paired_reason(discriminator, real, fake) == ""
        two = outcome(discriminator, real, fake, False, double_backward)
        one = outcome(discriminator, real, fake, True, double_backward)
        assert len(two) == len(one) > 8
        for a, b in zip(two, one):
            assert (a - b).abs().max() <= 1e-10 * (1 + a.abs().max())

    def test_really_is_one(self, images):
        discriminator, calls = fastgan.fuse(plain()), []
        assert paired_reason(discriminator, *images) == ""
        forward = discriminator[0].forward
        discriminator[0].forward = lambda x: calls.append(len(x)) or forward(x)
        paired(discriminator, *images)
        assert calls[-1] == 12

    def test_running_statistics_after_several_steps(self, images):
        discriminator = fastgan.fuse(plain())
        one, two = discriminator, copy.deepcopy(discriminator)
        for step in range(4):
            paired(one, images[0] * (step + 1), images[1])
            paired(two, images[0] * (step + 1), images[1], one_pass=False)
        for a, b in zip(one.buffers(), two.buffers(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
        assert one[3].num_batches_tracked == 8

    def test_several_outputs(self, images):
        class Heads(nn.Module):
            def __init__(self):
                super().__init__()
                self.body = fastgan.fuse(plain()[:5])

            def forward(self, x):
                y = self.body(x)
                return {"logit": y.mean((1, 2, 3)), "features": [y, x]}

        heads = Heads()
        real, fake = paired(heads, *images)
        assert real["logit"].shape == (6,)
        assert torch.equal(fake["features"][1], images[1])

    def test_autocast(self, images):
        discriminator = fastgan.fuse(plain())
        with torch.autocast("cpu", torch.bfloat16):
            one = paired(discriminator, *images)
            two = paired(discriminator, *images, one_pass=False)
            mixed = paired(discriminator, images[0], images[1].bfloat16())
        assert mixed[1].dtype == one[1].dtype
        for a, b in zip(one, two):
            assert a.dtype == b.dtype
            torch.testing.assert_close(a, b, rtol=0.05, atol=0.05)


class Counts(nn.Module):
    def __init__(self):
        super().__init__()
        self.passes = 0

    def forward(self, x):
        self.passes += 1
        return x.flatten(1).sum(1)


class MinibatchDeviation(nn.Module):
    def forward(self, x):
        return torch.cat([x, x.std(0).mean().expand(len(x), 1, *x.shape[2:])], 1)


class TestTwoPasses:
    @pytest.mark.parametrize(
        ("make", "reason"),
        [
            (plain, r"other results; fastgan\.fuse may help, it has batch normalisation of PyTorch's \(3\)"),
            (lambda: nn.Sequential(spectral_norm(nn.Conv2d(3, 4, 3)), nn.Flatten()), "once a pass"),
            (lambda: nn.Sequential(nn.utils.spectral_norm(nn.Conv2d(3, 4, 3)), nn.Flatten()), "once a pass"),
            (lambda: nn.Sequential(MinibatchDeviation(), nn.Flatten()), "one pass gives other results"),
            (lambda: fastgan.fuse(nn.Sequential(nn.BatchNorm2d(3, momentum=None), nn.Flatten())), "other results"),
            (lambda: nn.Sequential(nn.Flatten(0)), "not one row an image"),
            (lambda: nn.Sequential(nn.Flatten(), nn.Linear(1, 1)), "could not be tried"),
        ],
    )
    def test_where_one_would_not_be_the_same(self, images, make, reason):
        torch.manual_seed(0)
        discriminator = make()
        assert re.search(reason, paired_reason(discriminator, *images))
        if "could not" in reason and "Linear" in str(discriminator):
            return
        torch.manual_seed(1)
        expected = copy.deepcopy(discriminator)(images[0])
        torch.manual_seed(1)
        got, _ = paired(discriminator, *images)
        assert torch.equal(expected, got)

    def test_hooks_see_every_call(self, images):
        discriminator, seen = ours(), []
        discriminator[0].register_forward_hook(lambda *_: seen.append(1))
        assert "has a hook" in paired_reason(discriminator, *images)
        paired(discriminator, *images)
        assert len(seen) == 2

    def test_unlike_images(self, images):
        real, fake = images
        assert "differ in shape" in paired_reason(ours(), real, fake[:3])
        assert "one image" in paired_reason(ours(), real[:1], fake[:1])
        a, b = paired(ours(), real, fake[:3])
        assert (len(a), len(b)) == (6, 3)

    def test_trying_leaves_the_discriminator_alone(self, images):
        discriminator = nn.Sequential(Counts())
        before = torch.get_rng_state()
        paired(discriminator, *images)
        assert discriminator[0].passes == 1
        assert torch.equal(torch.get_rng_state(), before)

    def test_the_answer_follows_changes(self, images):
        discriminator = plain()
        assert paired_reason(discriminator, *images)
        fastgan.fuse(discriminator)
        assert paired_reason(discriminator, *images) == ""
        fastgan.unfuse(discriminator)
        assert paired_reason(discriminator, *images)
        assert paired_reason(discriminator.eval(), *images) == ""


class Recomputes(nn.Module):
    """Runs a part of its forward again for its gradients, when nobody passes real and fake together."""

    def __init__(self, reentrant):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 4, 2, 1)
        self.body = fastgan.fuse(nn.Sequential(nn.BatchNorm2d(8), nn.LeakyReLU(0.2)))
        self.last = nn.Conv2d(8, 1, 8)
        self.reentrant = reentrant

    def forward(self, x):
        return self.last(checkpoint(self.body, self.first(x), use_reentrant=self.reentrant)).flatten()


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("one_pass", [True, None])
def test_activation_checkpointing_takes_two_passes(images, reentrant, one_pass):
    real, fake = (image.double() for image in images)
    discriminator = Recomputes(reentrant).double()
    found = []
    for way in (one_pass, False):
        network = copy.deepcopy(discriminator)
        d_real, d_fake = paired(network, real, fake, one_pass=way)
        (d_real.mean() - d_fake.square().mean()).backward()
        found.append([parameter.grad for parameter in network.parameters()])
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-9)
    assert paired_reason(discriminator, real, fake) != ""
