"""SNGAN against its equations in plain PyTorch, power iterations included, and its networks against published sizes."""

import pytest
import torch
import torch.nn.functional as F

import fastgan
from fastgan.systems import create
from tests.systems.plain_loop import N, batch_norm, conv, leaves, linear, same_after_three_steps


def parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


class TestArchitecture:
    def test_32(self):
        system = create("sngan")
        assert parameters(system.generator) == 4_276_739  # as published implementations count
        convolution = 9 * 128 * 128 + 128  # seven of 128 maps; the first of 3; shortcuts of 3 and of 128; the logit
        assert parameters(system.discriminator) == 7 * convolution + 28 * 128 + 4 * 128 + 129 * 128 + 129

    def test_64(self):
        system = create("sngan", resolution=64)
        up = [block for block in system.generator if hasattr(block, "shortcut")]
        assert [(b.conv1.in_channels, b.conv1.out_channels) for b in up] == [
            (1024, 512), (512, 256), (256, 128), (128, 64)
        ]  # fmt: skip
        down = [block for block in system.discriminator if hasattr(block, "shortcut")]
        assert [(b.conv1.in_channels, b.conv1.out_channels, b.conv2.out_channels) for b in down] == [
            (3, 64, 64), (64, 64, 128), (128, 128, 256), (256, 256, 512), (512, 512, 1024)
        ]  # fmt: skip

    @pytest.mark.parametrize(("resolution", "channels"), [(32, 1), (32, 3), (64, 1), (1, 2)])
    def test_images(self, resolution, channels):
        system = create("sngan", resolution=resolution, channels=channels, width=8, discriminator_width=8, latent=5)
        samples = system.sample(3)
        assert samples.shape == (3, channels, *([resolution] * 2 if resolution > 1 else []))
        assert samples.abs().max() <= 1
        assert system.logits(samples).shape == (3,)

    @pytest.mark.parametrize("resolution", [1, 32, 64])
    def test_every_weight_of_the_discriminator_has_norm_1(self, resolution):
        system = create("sngan", resolution=resolution, width=8, discriminator_width=8).double()
        layers = [m for m in system.discriminator.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]
        for layer in layers:
            for _ in range(300):
                layer.weight  # noqa: B018  a power iteration
            assert torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() == pytest.approx(1, abs=1e-3)
        assert not any("parametrizations" in name for name, _ in system.generator.named_modules())

    def test_patterns_are_fused(self):
        report = fastgan.explain(create("sngan", width=8, discriminator_width=8))
        assert report.fused == report.places
        kernels = [row.kernel.split()[0] for row in report]
        assert kernels.count("norm_act") == 7
        assert kernels.count("resize_conv") == 6
        assert kernels.count("conv_pool") == 2


def double(x):
    return x.repeat_interleave(2, 2).repeat_interleave(2, 3)


def halve(x):
    return F.avg_pool2d(x, 2)


def plain(g, d):
    def generate(z):
        x = linear(z, g, "0").reshape(len(z), -1, 4, 4)
        for block in (2, 3, 4):
            h = conv(double(F.relu(batch_norm(x, g, f"{block}.norm1"))), g, f"{block}.conv1")
            h = conv(F.relu(batch_norm(h, g, f"{block}.norm2")), g, f"{block}.conv2")
            x = h + conv(double(x), g, f"{block}.shortcut")
        return torch.tanh(conv(F.relu(batch_norm(x, g, "5")), g, "7"))

    def normalised(name):
        at = f"{name}.parametrizations.weight"
        weight = d[f"{at}.original"]
        matrix = weight.flatten(1)
        with torch.no_grad():  # one power iteration a pass
            d[f"{at}.0._u"] = F.normalize(matrix @ d[f"{at}.0._v"], dim=0)
            d[f"{at}.0._v"] = F.normalize(matrix.T @ d[f"{at}.0._u"], dim=0)
        return {"weight": weight / (d[f"{at}.0._u"] @ matrix @ d[f"{at}.0._v"]), "bias": d[f"{name}.bias"]}

    def layer(x, name):
        p = {f".{kind}": value for kind, value in normalised(name).items()}
        return linear(x, p, "") if x.dim() == 2 else conv(x, p, "")

    def logits(x):
        h = layer(F.relu(layer(x, "0.conv1")), "0.conv2")
        x = halve(h) + layer(halve(x), "0.shortcut")
        for block in (1, 2, 3):
            h = layer(F.relu(layer(F.relu(x), f"{block}.conv1")), f"{block}.conv2")
            x = halve(h) + halve(layer(x, "1.shortcut")) if block == 1 else h + x
        return layer(F.relu(x).sum((2, 3)), "4.1")

    optimizers = [torch.optim.Adam(leaves(p), lr=2e-4, betas=(0.0, 0.9)) for p in (d, g)]

    done = 0

    def step(images):
        nonlocal done
        for optimizer in optimizers:
            optimizer.param_groups[0]["lr"] = 2e-4 * (1 - done / 4)
        done += 1
        fake = generate(torch.randn(2 * N, 5, dtype=torch.float64))
        for number in range(5):
            real = images[number * N : (number + 1) * N]
            with torch.no_grad():
                fresh = generate(torch.randn(N, 5, dtype=torch.float64)) if number else fake[:N]
            optimizers[0].zero_grad()
            on_real = (1 - logits(real)).clamp(min=0).mean()
            (on_real + (1 + logits(fresh.detach())).clamp(min=0).mean()).backward()
            optimizers[0].step()
        optimizers[1].zero_grad()
        (-logits(fake).mean()).backward()
        optimizers[1].step()

    return step


def test_three_steps():
    options = {"channels": 1, "width": 4, "discriminator_width": 3, "latent": 5, "decay_steps": 4}
    same_after_three_steps(create("sngan", **options), plain)


def test_rates_fall_to_nothing_in_50_000_steps():
    for phase in create("sngan", width=8, discriminator_width=8).phases():
        assert [phase.rate(step) for step in (0, 25_000, 50_000, 60_000)] == [1, 0.5, 0, 0]


class TestErrors:
    def test_resolution(self):
        with pytest.raises(ValueError, match="resolution must be one of 1, 32, 64, not 128"):
            create("sngan", resolution=128)

    @pytest.mark.parametrize("name", ["width", "discriminator_width"])
    def test_width_at_64(self, name):
        with pytest.raises(ValueError, match=f"{name} must be a multiple of 4 at resolution 64, not 6"):
            create("sngan", resolution=64, **{name: 6})
