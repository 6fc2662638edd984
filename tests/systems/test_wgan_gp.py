"""WGAN-GP against its algorithm 1 in plain PyTorch, and its networks against those of the authors' code."""

import pytest
import torch
import torch.nn.functional as F

import fastgan
from fastgan.systems import create
from tests.systems.plain_loop import N, batch_norm, conv, leaves, linear, same_after_three_steps


def parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


def up(before, after):  # parameters of a block: two norms, two 3x3 convolutions, a 1x1 one
    return 2 * before + 2 * after + 9 * before * after + after + 9 * after * after + after + before * after + after


def down(before, after, norm):
    first = 9 * before * before + (0 if norm else before)
    return (4 * before if norm else 0) + first + 9 * before * after + after + before * after + after


class TestArchitecture:
    def test_64(self):
        system = create("wgan-gp")
        generator = 128 * 16 * 512 + 16 * 512 + up(512, 512) + up(512, 256) + up(256, 128) + up(128, 64)
        assert parameters(system.generator) == generator + 2 * 64 + 64 * 3 * 9 + 3
        critic = 3 * 64 * 9 + 64 + down(64, 128, True) + down(128, 256, True) + down(256, 512, True)
        assert parameters(system.discriminator) == critic + down(512, 512, True) + 512 * 16 + 1

    def test_32(self):
        system = create("wgan-gp", resolution=32)  # 128 maps everywhere
        assert parameters(system.generator) == 129 * 16 * 128 + 3 * up(128, 128) + 2 * 128 + 128 * 27 + 3
        first = 27 * 128 + 128 + 9 * 128 * 128 + 128 + 3 * 128 + 128
        blocks = down(128, 128, False) + 2 * (2 * (9 * 128 * 128 + 128))
        assert parameters(system.discriminator) == first + blocks + 129

    @pytest.mark.parametrize(("resolution", "channels"), [(32, 1), (32, 3), (64, 1), (64, 3), (1, 2)])
    def test_images(self, resolution, channels):
        system = create("wgan-gp", resolution=resolution, channels=channels, width=2, latent=5)
        samples = system.sample(3)
        assert samples.shape == (3, channels, *([resolution] * 2 if resolution > 1 else []))
        assert samples.abs().max() <= 1
        assert system.logits(samples).shape == (3,)

    @pytest.mark.parametrize("name", ["wgan-gp", "sngan"])
    def test_points(self, name):
        system = create(name, resolution=1, channels=2, latent=3, width=8, discriminator_width=6)
        hidden = [m for m in system.generator.modules() if isinstance(m, torch.nn.Linear)]
        assert [(m.in_features, m.out_features) for m in hidden] == [(3, 8), (8, 8), (8, 8), (8, 2)]
        critic = [m for m in system.discriminator.modules() if isinstance(m, torch.nn.Linear)]
        assert [(m.in_features, m.out_features) for m in critic] == [(2, 6), (6, 6), (6, 6), (6, 1)]
        norms = torch.nn.BatchNorm1d, torch.nn.GroupNorm
        assert not any(isinstance(m, norms) for m in system.modules())

    @pytest.mark.parametrize("resolution", [32, 64, 1])
    def test_a_critics_value_depends_on_one_image(self, resolution):
        # The penalty is of each image's own gradient: the critic must not have batch normalisation.
        system = create("wgan-gp", resolution=resolution, channels=2, width=2).train()
        images = torch.rand(3, 2, *([resolution] * 2 if resolution > 1 else []))
        assert torch.allclose(system.logits(images)[:1], system.logits(images[:1]), atol=1e-5)

    def test_patterns_are_fused(self):
        report = fastgan.explain(create("wgan-gp", width=4))
        assert report.fused == report.places
        kernels = [row.kernel.split()[0] for row in report]
        assert kernels.count("norm_act") == 9
        assert kernels.count("resize_conv") == 8
        assert kernels.count("conv_pool") == 4

    def test_initial_weights(self):
        system = create("wgan-gp", width=16)
        block = system.generator[3]
        for conv2d, gain in ((block.conv1, 2), (block.conv2, 2), (block.shortcut, 1)):
            fans = (conv2d.in_channels + conv2d.out_channels) * conv2d.kernel_size[0] ** 2
            assert conv2d.weight.std().item() == pytest.approx((gain * 2 / fans) ** 0.5, rel=0.05)
            assert conv2d.weight.abs().max().item() == pytest.approx((gain * 6 / fans) ** 0.5, rel=0.05)
            assert not conv2d.bias.any()


def layer_norm(x, d, name):
    mean, variance = x.mean((1, 2, 3), keepdim=True), x.var((1, 2, 3), correction=0, keepdim=True)
    weight, bias = (d[f"{name}.{kind}"][:, None, None] for kind in ("weight", "bias"))
    return (x - mean) / torch.sqrt(variance + 1e-5) * weight + bias


def double(x):
    return x.repeat_interleave(2, 2).repeat_interleave(2, 3)


def halve(x):
    return (x[..., ::2, ::2] + x[..., 1::2, ::2] + x[..., ::2, 1::2] + x[..., 1::2, 1::2]) / 4


def image_networks(g, d, resolution):
    def generate(z):
        x = linear(z, g, "0").reshape(len(z), -1, 4, 4)
        blocks = 4 if resolution == 64 else 3
        for block in range(2, 2 + blocks):
            h = conv(double(F.relu(batch_norm(x, g, f"{block}.norm1"))), g, f"{block}.conv1")
            h = conv(F.relu(batch_norm(h, g, f"{block}.norm2")), g, f"{block}.conv2")
            x = h + conv(double(x), g, f"{block}.shortcut")
        return torch.tanh(conv(F.relu(batch_norm(x, g, str(2 + blocks))), g, str(4 + blocks)))

    def critic_64(x):
        x = conv(x, d, "0")
        for block in range(1, 5):
            h = conv(F.relu(layer_norm(x, d, f"{block}.norm1")), d, f"{block}.conv1")
            h = conv(F.relu(layer_norm(h, d, f"{block}.norm2")), d, f"{block}.conv2")
            x = halve(h) + conv(halve(x), d, f"{block}.shortcut")
        return linear(x.flatten(1), d, "5.1")

    def critic_32(x):
        h = conv(F.relu(conv(x, d, "0.conv1")), d, "0.conv2")
        x = halve(h) + conv(halve(x), d, "0.shortcut")
        for block in (1, 2, 3):
            h = conv(F.relu(conv(F.relu(x), d, f"{block}.conv1")), d, f"{block}.conv2")
            x = halve(h) + halve(conv(x, d, "1.shortcut")) if block == 1 else h + x
        return linear(F.relu(x).mean((2, 3)), d, "4.3")

    return generate, critic_64 if resolution == 64 else critic_32


def plain(resolution):
    def of(g, d):
        generate, critic = image_networks(g, d, resolution)
        optimizers = [torch.optim.Adam(leaves(p), lr=1e-4, betas=(0.0, 0.9)) for p in (d, g)]

        def step(images):
            fake = generate(torch.randn(N, 5, dtype=torch.float64))
            for number in range(5):
                real = images[number * N : (number + 1) * N]
                with torch.no_grad():
                    fresh = generate(torch.randn(N, 5, dtype=torch.float64)) if number else fake.detach()
                share = torch.rand(N, 1, 1, 1, dtype=torch.float64)
                between = (share * real + (1 - share) * fresh).requires_grad_()
                (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
                penalty = 10 * ((slope.square().sum((1, 2, 3)).sqrt() - 1) ** 2).mean()
                optimizers[0].zero_grad()
                (critic(fresh).mean() - critic(real).mean() + penalty).backward()
                optimizers[0].step()
            optimizers[1].zero_grad()
            (-critic(fake).mean()).backward()
            optimizers[1].step()

        return step

    return of


@pytest.mark.slow
@pytest.mark.parametrize("resolution", [32, 64])
def test_three_steps(resolution):
    same_after_three_steps(create("wgan-gp", resolution=resolution, channels=1, width=2, latent=5), plain(resolution))


class TestErrors:
    def test_resolution(self):
        with pytest.raises(ValueError, match="resolution must be one of 1, 32, 64, not 48"):
            create("wgan-gp", resolution=48)

    def test_penalty(self):
        with pytest.raises(ValueError, match="penalty must be at least 0, not -1"):
            create("wgan-gp", penalty=-1)
