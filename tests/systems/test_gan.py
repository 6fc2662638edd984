"""The first GAN against its equations in plain PyTorch, with every loss."""

import pytest
import torch
import torch.nn.functional as F

import fastgan
from fastgan.systems import create
from tests.systems.plain_loop import N, batch_norm, leaves, linear, same_after_three_steps


def parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


class TestArchitecture:
    def test_published_sizes(self):
        # 28x28: the numbers of the common implementation for MNIST.
        system = create("gan", resolution=28)
        assert [m.out_features for m in system.generator if hasattr(m, "out_features")] == [128, 256, 512, 1024, 784]
        assert parameters(system.generator) == 1_510_032
        assert parameters(system.discriminator) == 533_505

    def test_every_norm_and_tanh_is_fused(self):
        report = fastgan.explain(create("gan", width=4))
        assert [row.pattern for row in report if row.fused] == [*["Linear -> BatchNorm1d -> LeakyReLU"] * 3, "Tanh"]
        assert report.fused == report.places

    @pytest.mark.parametrize(("resolution", "channels"), [(32, 1), (32, 3), (28, 1), (1, 2)])
    def test_images(self, resolution, channels):
        system = create("gan", resolution=resolution, channels=channels, width=4)
        samples = system.sample(3)
        assert samples.shape == (3, channels, *([resolution] * 2 if resolution > 1 else []))
        assert samples.abs().max() <= 1


def mean_softplus(x):
    return torch.log1p(torch.exp(x)).mean()


# The discriminator's loss of logits r of real and f of generated images, and the generator's.
LOSSES = {
    "non_saturating": (lambda r, f: mean_softplus(-r) + mean_softplus(f), lambda r, f: mean_softplus(-f)),
    "minimax": (lambda r, f: mean_softplus(-r) + mean_softplus(f), lambda r, f: -mean_softplus(f)),
    "least_squares": (
        lambda r, f: ((r - 1) ** 2).mean() / 2 + (f**2).mean() / 2,
        lambda r, f: ((f - 1) ** 2).mean() / 2,
    ),
    "hinge": (lambda r, f: (1 - r).clamp(min=0).mean() + (1 + f).clamp(min=0).mean(), lambda r, f: -f.mean()),
    "wasserstein": (lambda r, f: f.mean() - r.mean(), lambda r, f: -f.mean()),
    "relativistic": (lambda r, f: mean_softplus(f - r), lambda r, f: mean_softplus(r - f)),
}


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(("resolution", "channels"), [(8, 1), (1, 2)])
def test_three_steps(loss, resolution, channels):
    def plain(g, d):
        def generate(z):
            x = F.leaky_relu(linear(z, g, "0"), 0.2)
            for layer in (2, 5, 8):
                x = F.leaky_relu(batch_norm(linear(x, g, str(layer)), g, str(layer + 1)), 0.2)
            return torch.tanh(linear(x, g, "11")).reshape(-1, channels, resolution, resolution)

        def logits(x):
            x = F.leaky_relu(linear(x.flatten(1), d, "0.1"), 0.2)
            return linear(F.leaky_relu(linear(x, d, "1.0"), 0.2), d, "2")

        optimizers = [torch.optim.Adam(leaves(p), lr=2e-4, betas=(0.5, 0.999)) for p in (d, g)]

        def step(real):
            fake = generate(torch.randn(N, 5, dtype=torch.float64))
            optimizers[0].zero_grad()
            LOSSES[loss][0](logits(real), logits(fake.detach())).backward()
            optimizers[0].step()
            optimizers[1].zero_grad()
            LOSSES[loss][1](logits(real), logits(fake)).backward()
            optimizers[1].step()

        return step

    system = create("gan", resolution=resolution, channels=channels, width=4, latent=5, loss=loss)
    same_after_three_steps(system, plain)


class TestErrors:
    def test_unknown_loss(self):
        with pytest.raises(ValueError, match=r"loss must be one of non_saturating, minimax, .*, not 'wgan'"):
            create("gan", loss="wgan")

    def test_relativistic_has_no_labels(self):
        with pytest.raises(ValueError, match="the relativistic loss has no labels: label_flips must be 0"):
            create("gan", loss="relativistic", label_flips=0.1)

    def test_relativistic_needs_as_many_real_images(self):
        with pytest.raises(ValueError, match="generator_batches must be at most discriminator_steps, 1, not 2"):
            create("gan", loss="relativistic", generator_batches=2)
