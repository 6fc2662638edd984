"""autoencoder, without and with an adversary of its codes, against layers and losses written out."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import fastgan
from fastgan.data import Batch
from fastgan.systems import create
from tests.systems.plain_loop import N, batch_norm, images, leaves, linear, same_after_three_steps

SMALL = {"resolution": 16, "channels": 1, "width": 2, "latent": 5, "adversarial_width": 7}


def small(**options):
    torch.manual_seed(0)
    return create("autoencoder", **{**SMALL, **options})


def parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


class TestArchitecture:
    def test_32(self):
        system = create("autoencoder", adversarial=True)
        convolved = 16 * (3 * 64 + 64 * 128 + 128 * 256) + 64 + 2 * (128 + 256)
        assert parameters(system.encoder) == convolved + 4096 * 32 + 32
        deconvolved = 16 * (256 * 128 + 128 * 64 + 64 * 3) + 2 * (128 + 64) + 3
        assert parameters(system.decoder) == 32 * 4096 + 2 * 4096 + deconvolved
        assert parameters(system.discriminator) == 32 * 1000 + 1000 + 1000 * 1000 + 1000 + 1001

    @pytest.mark.parametrize(("resolution", "channels"), [(16, 3), (32, 1), (64, 3)])
    @pytest.mark.parametrize("adversarial", [False, True])
    def test_sizes(self, resolution, channels, adversarial):
        system = small(resolution=resolution, channels=channels, adversarial=adversarial)
        samples = system.sample(3)
        assert samples.shape == (3, channels, resolution, resolution)
        assert samples.abs().max() <= 1
        assert system.encode(samples).shape == (3, 5)

    def test_every_site_is_fused(self):
        report = fastgan.explain(small(resolution=32))
        assert report.fused == report.places
        patterns = [row.pattern for row in report]
        assert patterns.count("ConvTranspose2d -> BatchNorm2d -> ReLU") == 2
        assert patterns.count("Conv2d -> BatchNorm2d -> LeakyReLU") == 2
        assert "Linear -> BatchNorm1d -> ReLU" in patterns


@pytest.mark.parametrize("adversarial", [False, True])
def test_three_steps(adversarial):
    def plain(e, g, *d):
        def encode(x):
            x = F.leaky_relu(F.conv2d(x, e["0.weight"], e["0.bias"], 2, 1), 0.2)
            x = F.leaky_relu(batch_norm(F.conv2d(x, e["2.weight"], None, 2, 1), e, "3"), 0.2)
            return linear(x.flatten(1), e, "6")

        def decode(code):
            x = F.relu(batch_norm(code @ g["0.weight"].T, g, "1")).reshape(-1, 4, 4, 4)
            x = F.relu(batch_norm(F.conv_transpose2d(x, g["4.weight"], None, 2, 1), g, "5"))
            return torch.tanh(F.conv_transpose2d(x, g["7.weight"], g["7.bias"], 2, 1))

        def logits(code):
            return linear(F.relu(linear(F.relu(linear(code, d[0], "0")), d[0], "2")), d[0], "4")

        pair = torch.optim.Adam([*leaves(e), *leaves(g)], lr=2e-3, betas=(0.8, 0.99))
        others = [torch.optim.Adam(leaves(p), lr=1e-3, betas=(0.5, 0.999)) for p in (*d, e)]

        def step(real):
            prior = torch.randn(N, 5, dtype=torch.float64)
            pair.zero_grad()
            ((decode(encode(real)) - real) ** 2).mean().backward()
            pair.step()
            if d:
                others[0].zero_grad()
                (F.softplus(-logits(prior)).mean() + F.softplus(logits(encode(real).detach())).mean()).backward()
                others[0].step()
                others[1].zero_grad()
                F.softplus(-logits(encode(real))).mean().backward()
                others[1].step()

        return step

    settings = {"adversarial": adversarial, "learning_rate": 2e-3, "betas": (0.8, 0.99)}
    system = small(**settings, adversarial_learning_rate=1e-3)
    names = ("encoder", "decoder", "discriminator") if adversarial else ("encoder", "decoder")
    same_after_three_steps(system, plain, names)


class TestCodes:
    def test_moments(self):
        system = small().double()
        codes = torch.randn(20, 5, dtype=torch.float64)
        system.codes.follow(codes)
        expected = 0.99 * torch.eye(5, dtype=torch.float64) + 0.01 * torch.cov(codes.T, correction=0)
        assert (system.codes.covariance - expected).abs().max() < 1e-12
        assert (system.codes.mean - 0.01 * codes.mean(0)).abs().max() < 1e-12

    def test_training_follows_them(self):
        system = small().train()
        before = system.codes.covariance.clone()
        system.reconstruction_loss(system.prepare(batch(system)))
        assert not torch.equal(system.codes.covariance, before)

    @pytest.mark.parametrize("adversarial", [False, True])
    def test_generate_makes_what_was_encoded(self, adversarial):
        system = small(adversarial=adversarial).double().eval()
        if not adversarial:
            mixing = torch.randn(5, 5, dtype=torch.float64)
            system.codes.covariance.copy_(mixing @ mixing.T)
            system.codes.mean.normal_()
        real = images(system, 0)
        latent = system.encode(real)
        assert (system.generate(latent) - system.decoder(system.encoder(real))).abs().max() < 1e-9

    def test_encoded_images_are_standard_normal(self):
        system = small().double().eval()
        real = images(system, 0, 400)
        codes = system.encoder(real).detach()
        system.codes.mean.copy_(codes.mean(0))
        system.codes.covariance.copy_(torch.cov(codes.T, correction=0))
        latent = system.encode(real).detach()
        assert latent.mean(0).abs().max() < 1e-9
        assert (torch.cov(latent.T, correction=0) - torch.eye(5)).abs().max() < 0.01

    def test_samples_have_the_moments_of_the_codes(self):
        system = small().double().eval()
        mixing = torch.randn(5, 5, dtype=torch.float64)
        system.codes.covariance.copy_(mixing @ mixing.T)
        system.codes.mean.fill_(3.0)
        system.decoder = nn.Identity()
        codes = system.sample(50_000, generator=torch.Generator().manual_seed(0))
        assert (codes.mean(0) - 3).abs().max() < 0.1
        assert (torch.cov(codes.T) - system.codes.covariance).abs().max() < 0.05 * system.codes.covariance.abs().max()

    def test_with_an_adversary_there_are_none(self):
        assert not any("covariance" in name for name in small(adversarial=True).state_dict())


def batch(system):
    return Batch(image=images(system, 0))


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("resolution", 48, "one of 16, 32, 64, 128, 256, not 48"),
        ("latent", 0, "latent must be at least 1, not 0"),
        ("adversarial_width", 0, "adversarial_width must be at least 1, not 0"),
        ("learning_rate", 0.0, r"learning_rate must be above 0, not 0\.0"),
        ("adversarial_learning_rate", -1.0, r"adversarial_learning_rate must be above 0, not -1\.0"),
        ("betas", (0.5, 1.0), r"betas must each be at least 0 and below 1"),
        ("adversarial_betas", (1.0, 0.5), r"adversarial_betas must each be at least 0 and below 1"),
    ],
)
def test_says_what_is_wrong(option, value, message):
    with pytest.raises(ValueError, match=message):
        create("autoencoder", **{option: value})


def test_calls_say_what_is_wrong():
    system = small()
    with pytest.raises(ValueError, match=r"images must have shape \(N, 1, 16, 16\), not \(2, 3, 16, 16\)"):
        system.encode(torch.zeros(2, 3, 16, 16))
    with pytest.raises(ValueError, match=r"latent must have shape \(N, 5\), not \(2, 6\)"):
        system.generate(torch.zeros(2, 6))
    with pytest.raises(ValueError, match="autoencoder is not conditional"):
        system.sample(2, labels=torch.zeros(2, dtype=torch.int64))
