"""began against the layers and the losses of its paper."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import fastgan
from fastgan.systems import create
from tests.systems.plain_loop import N, conv, images, leaves, linear, same_after_three_steps

SMALL = {"resolution": 16, "channels": 1, "width": 3, "latent": 5}


def small(**options):
    torch.manual_seed(0)
    return create("began", **{**SMALL, **options})


def parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


def convolved(*channels):
    return sum(9 * before * after + after for before, after in channels)


class TestArchitecture:
    def test_64(self):
        system = create("began")
        n = 128
        decoder = 64 * 8192 + 8192 + 8 * convolved((n, n)) + convolved((n, 3))
        assert parameters(system.generator) == decoder
        encoder = convolved((3, n), (n, n), (n, n), (n, n))
        encoder += convolved((n, 2 * n), (2 * n, 2 * n), (2 * n, 2 * n))
        encoder += convolved((2 * n, 3 * n), (3 * n, 3 * n), (3 * n, 3 * n)) + convolved((3 * n, 4 * n), (4 * n, 4 * n))
        assert parameters(system.discriminator) == encoder + 64 * 512 * 64 + 64 + decoder
        halvings = [m for m in system.discriminator[0] if isinstance(m, nn.Conv2d) and m.stride == (2, 2)]
        assert [m.out_channels for m in halvings] == [n, 2 * n, 3 * n]
        assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in system.modules())

    @pytest.mark.parametrize(("resolution", "channels"), [(16, 3), (32, 1), (64, 3)])
    def test_sizes(self, resolution, channels):
        system = small(resolution=resolution, channels=channels)
        samples = system.sample(3)
        assert samples.shape == (3, channels, resolution, resolution)
        assert system.discriminator(samples).shape == samples.shape

    def test_samples_are_clamped_but_not_in_training(self):
        system = small()
        with torch.no_grad():
            system.generator[-1].weight.mul_(1e3)
        latent = system.latent(4)
        assert system.sample(4, latent=latent).abs().max() == 1
        assert system.generate(latent).abs().max() > 1

    def test_every_site_is_fused(self):
        report = fastgan.explain(small(resolution=32))
        assert report.fused == report.places
        assert sum(row.pattern == "Upsample -> Conv2d" for row in report) == 4
        assert sum(row.pattern == "Conv2d -> ELU" for row in report) == 9 + 4 + 4


@pytest.mark.parametrize("lambda_k", [0.001, 0.4])
def test_three_steps(lambda_k):
    k = 0.0

    def plain(g, d):
        def decode(code, p, at):
            x = linear(code, p, f"{at}0").reshape(-1, 3, 8, 8)
            x = F.elu(conv(F.elu(conv(x, p, f"{at}2")), p, f"{at}4"))
            x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
            x = F.elu(conv(F.elu(conv(x, p, f"{at}7")), p, f"{at}9"))
            return conv(x, p, f"{at}11")

        def restore(x):
            for layer, stride in ((0, 1), (2, 1), (4, 1), (6, 2), (8, 1), (10, 1)):
                x = F.elu(conv(x, d, f"0.{layer}", stride))
            return decode(linear(x.flatten(1), d, "0.13"), d, "1.")

        optimizers = [torch.optim.Adam(leaves(p), lr=1e-3, betas=(0.9, 0.999)) for p in (d, g)]

        def step(real):
            nonlocal k
            fake = decode(torch.rand(N, 5, dtype=torch.float64) * 2 - 1, g, "")
            loss_real = (real - restore(real)).abs().mean()
            loss_fake = (fake.detach() - restore(fake.detach())).abs().mean()
            optimizers[0].zero_grad()
            (loss_real - k * loss_fake).backward()
            optimizers[0].step()
            k = min(max(k + lambda_k * (0.7 * loss_real - loss_fake).item(), 0.0), 1.0)
            optimizers[1].zero_grad()
            (fake - restore(fake)).abs().mean().backward()
            optimizers[1].step()

        return step

    system = small(learning_rate=1e-3, lambda_k=lambda_k, gamma=0.7)
    same_after_three_steps(system, plain)
    assert k > 0
    assert system.loss.k.item() == pytest.approx(k, abs=1e-8)
    assert system.state_dict()["loss.k"] == system.loss.k


def test_what_is_logged():
    system = small()
    real = images(system, 0)
    fake = system.generate(system.latent(N)).detach()
    before = [(x - system.discriminator(x)).abs().mean().item() for x in (real, fake)]
    ((_, logged),) = system.told_apart(real, fake)
    assert logged["real_error"].item() == pytest.approx(before[0], rel=1e-5)
    assert logged["fake_error"].item() == pytest.approx(before[1], rel=1e-5)
    assert logged["k"].item() == pytest.approx(max(0.0, 1e-3 * (0.5 * before[0] - before[1])), abs=1e-7)
    assert logged["convergence"].item() == pytest.approx(before[0] + abs(0.5 * before[0] - before[1]), rel=1e-5)


def test_learning_rate_halves():
    rate = small().phases()[0].rate
    assert [rate(step) for step in (0, 99_999, 100_000, 200_000)] == [1, 1, 0.5, 0.25]


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("resolution", 48, "one of 16, 32, 64, 128, 256, not 48"),
        ("gamma", 1.5, r"gamma must be at least 0 and at most 1, not 1\.5"),
        ("gamma", -0.5, r"gamma must be at least 0 and at most 1, not -0\.5"),
        ("lambda_k", -1.0, r"lambda_k must be at least 0, not -1\.0"),
        ("label_smoothing", 0.1, "no option 'label_smoothing': the discriminator is an autoencoder"),
        ("dropout", 0.1, "no option 'dropout': the discriminator"),
        ("r1", 1.0, "no option 'r1': the discriminator"),
        ("augment", "color", "no option 'augment': the discriminator"),
    ],
)
def test_says_what_is_wrong(option, value, message):
    with pytest.raises(ValueError, match=message):
        create("began", **{option: value})
