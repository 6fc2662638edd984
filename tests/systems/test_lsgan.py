"""LSGAN against the layers and the loss of its paper."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import fastgan
from fastgan.systems import create
from tests.systems.plain_loop import N, batch_norm, conv, leaves, linear, same_after_three_steps


def parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


class TestArchitecture:
    def test_112(self):
        system = create("lsgan")
        deconvolutions = [m for m in system.generator.modules() if isinstance(m, nn.ConvTranspose2d)]
        assert [(m.out_channels, m.stride[0]) for m in deconvolutions] == [
            (256, 2), (256, 1), (256, 2), (256, 1), (128, 2), (64, 2), (3, 1)
        ]  # fmt: skip
        assert all(m.kernel_size == (3, 3) for m in deconvolutions)
        convolutions = [m for m in system.discriminator.modules() if isinstance(m, nn.Conv2d)]
        assert [(m.out_channels, m.kernel_size[0], m.stride[0]) for m in convolutions] == [
            (64, 5, 2), (128, 5, 2), (256, 5, 2), (512, 5, 2)
        ]  # fmt: skip
        # Linear to 7x7 and its norm; the four 256 -> 256, 256 -> 128, 128 -> 64, each with bias and norm; 64 -> 3.
        first = 1024 * 12544 + 12544 + 2 * 12544
        assert parameters(system.generator) == first + sum(
            before * after * 9 + 3 * after for before, after in [(256, 256)] * 4 + [(256, 128), (128, 64)]
        ) + (64 * 3 * 9 + 3)
        convolved = sum(a * b * 25 + b for a, b in [(3, 64), (64, 128), (128, 256), (256, 512)])
        assert parameters(system.discriminator) == convolved + 2 * (128 + 256 + 512) + 512 * 49 + 1

    @pytest.mark.parametrize(("resolution", "channels"), [(32, 1), (32, 3), (48, 3)])
    def test_sizes(self, resolution, channels):
        system = create("lsgan", resolution=resolution, channels=channels, width=4, latent=6)
        samples = system.sample(3)
        assert samples.shape == (3, channels, resolution, resolution)
        assert samples.abs().max() <= 1

    def test_every_norm_is_fused(self):
        report = fastgan.explain(create("lsgan", resolution=32, width=4, latent=6))
        assert report.fused == report.places
        assert sum(row.pattern == "ConvTranspose2d -> BatchNorm2d -> ReLU" for row in report) == 6
        assert sum(row.pattern == "Conv2d -> BatchNorm2d -> LeakyReLU" for row in report) == 3

    def test_latents_are_uniform(self):
        z = create("lsgan", resolution=16, width=4, latent=1000).latent(100)
        assert z.abs().max() <= 1
        assert z.mean().item() == pytest.approx(0, abs=0.02)
        assert z.var().item() == pytest.approx(1 / 3, abs=0.01)

    def test_initial_weights(self):
        system = create("lsgan", resolution=32, width=16, latent=64)
        for name, parameter in system.named_parameters():
            if parameter.dim() > 1 and parameter.numel() > 2000:
                assert parameter.std().item() == pytest.approx(0.02, rel=0.1), name


def test_three_steps():
    def plain(g, d):
        def generate(z):
            x = F.relu(batch_norm(linear(z, g, "0"), g, "1")).reshape(N, 8, 1, 1)
            for layer, stride in zip((4, 7, 10, 13, 16, 19), (2, 1, 2, 1, 2, 2)):
                weight, bias = g[f"{layer}.weight"], g[f"{layer}.bias"]
                x = F.conv_transpose2d(x, weight, bias, stride, 1, stride - 1)
                x = F.relu(batch_norm(x, g, str(layer + 1)))
            return torch.tanh(F.conv_transpose2d(x, g["22.weight"], g["22.bias"], 1, 1))

        def logits(x):
            x = F.leaky_relu(conv(x, d, "0.0", 2), 0.2)
            for layer in (1, 2, 3):
                x = F.leaky_relu(batch_norm(conv(x, d, f"{layer}.0", 2), d, f"{layer}.1"), 0.2)
            return linear(x.flatten(1), d, "4.1")

        optimizers = [torch.optim.Adam(leaves(p), lr=1e-3, betas=(0.5, 0.999)) for p in (d, g)]

        def step(real):
            fake = generate(torch.rand(N, 6, dtype=torch.float64) * 2 - 1)
            optimizers[0].zero_grad()
            (((logits(real) - 1) ** 2).mean() / 2 + (logits(fake.detach()) ** 2).mean() / 2).backward()
            optimizers[0].step()
            optimizers[1].zero_grad()
            (((logits(fake) - 1) ** 2).mean() / 2).backward()
            optimizers[1].step()

        return step

    same_after_three_steps(create("lsgan", resolution=16, channels=1, width=2, latent=6), plain)


def test_says_what_is_wrong():
    with pytest.raises(ValueError, match="resolution must be a multiple of 16, not 100"):
        create("lsgan", resolution=100)
    with pytest.raises(ValueError, match="width must be at least 1, not 0"):
        create("lsgan", width=0)
