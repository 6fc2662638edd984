"""wngan against the layers and the losses of its paper."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import fastgan
from fastgan.systems import create
from fastgan.systems.wngan import TPReLU, normalised
from tests.systems.plain_loop import N, images, leaves, same_after_three_steps

SMALL = {"resolution": 16, "channels": 1, "width": 2, "latent": 5}


def small(**options):
    torch.manual_seed(0)
    return create("wngan", **{**SMALL, **options})


def parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


class TestArchitecture:
    def test_64(self):
        system = create("wngan")
        deconvolved = sum(16 * a * b + 2 * b for a, b in [(512, 256), (256, 128), (128, 64)])
        assert parameters(system.generator) == 128 * 8192 + 2 * 512 + deconvolved + 16 * 64 * 3 + 3
        convolved = sum(16 * a * b + 2 * b for a, b in [(3, 64), (64, 128), (128, 256), (256, 512)])
        assert parameters(system.discriminator) == convolved + 16 * 512 + 1
        assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in system.modules())

    @pytest.mark.parametrize(("resolution", "channels"), [(16, 3), (32, 1), (64, 3)])
    def test_sizes(self, resolution, channels):
        system = small(resolution=resolution, channels=channels)
        samples = system.sample(3)
        assert samples.shape == (3, channels, resolution, resolution)
        assert system.logits(samples).shape == (3,)

    def test_samples_reach_both_ends(self):
        system = small()
        with torch.no_grad():
            system.generator[-2].weight.mul_(1e4)
        samples = system.sample(20)
        assert samples.min() == -1
        assert samples.max() == 1

    def test_the_ends_are_fused(self):
        report = fastgan.explain(small())
        assert report.fused == report.places
        assert any(row.pattern == "ConvTranspose2d -> Sigmoid" for row in report)


class TestLayers:
    @pytest.mark.parametrize(
        ("layer", "shape"),
        [
            (nn.Linear(50, 8, bias=False), (4000, 50)),
            (nn.Conv2d(20, 8, 4, 2, 1, bias=False), (60, 20, 16, 16)),
            (nn.ConvTranspose2d(20, 8, 4, 2, 1, bias=False), (60, 20, 16, 16)),
        ],
        ids=["linear", "conv", "transposed"],
    )
    def test_white_noise_keeps_its_variance(self, layer, shape):
        torch.manual_seed(0)
        with torch.no_grad():
            layer.weight.mul_(7)
            y = normalised(layer)(torch.randn(shape))
        y = y[:, :, 2:-2, 2:-2] if y.dim() == 4 else y
        assert y.std().item() == pytest.approx(1, abs=0.05)

    def test_weights_have_unit_length(self):
        layer = normalised(nn.Conv2d(3, 5, 4))
        assert (layer.weight.flatten(1).norm(dim=1) - 1).abs().max() < 1e-4

    def test_tprelu(self):
        layer = TPReLU(2).double()
        with torch.no_grad():
            layer.slope.copy_(torch.tensor([0.5, 3.0]))
            layer.threshold.copy_(torch.tensor([1.0, -1.0]))
        x = torch.tensor([-2.0, 0.0, 1.0, 2.0], dtype=torch.float64)
        y = layer(torch.stack([x, x], 1))
        assert y[:, 0].tolist() == [-0.5, 0.5, 1.0, 2.0]  # 1 + (x - 1) / 2 below 1
        assert y[:, 1].tolist() == x.tolist()  # the slope is 1 at most

    def test_tprelu_gradients(self):
        layer = TPReLU(3).double()
        with torch.no_grad():
            layer.threshold.normal_()

        def function(x, slope, threshold):
            return torch.func.functional_call(layer, {"slope": slope, "threshold": threshold}, (x,))

        inputs = torch.randn(2, 3, 4, 4, dtype=torch.float64, requires_grad=True), layer.slope, layer.threshold
        assert torch.autograd.gradcheck(function, inputs)
        assert torch.autograd.gradgradcheck(function, inputs)


@pytest.mark.parametrize("loss", ["non_saturating", "least_squares"])
def test_three_steps(loss):
    def unit(p, name, transposed=False):
        w = p[f"{name}.parametrizations.weight.original"]
        over = [0, 2, 3] if transposed else list(range(1, w.dim()))
        return w / (w.square().sum(over, keepdim=True) * (0.25 if transposed else 1) + 1e-6).sqrt()

    def tprelu(x, p, name):
        a, b = p[f"{name}.slope"].clamp(0, 1)[:, None, None], p[f"{name}.threshold"][:, None, None]
        return torch.where(x >= b, x, a * (x - b) + b)

    def plain(g, d):
        def generate(z):
            x = tprelu((z @ unit(g, "0").T).reshape(-1, 4, 4, 4), g, "2")
            x = tprelu(F.conv_transpose2d(x, unit(g, "3", True), None, 2, 1), g, "4")
            return 2 * torch.sigmoid(F.conv_transpose2d(x, g["5.weight"], g["5.bias"], 2, 1)) - 1

        def logits(x):
            x = tprelu(F.conv2d((x + 1) / 2, unit(d, "0.1"), None, 2, 1), d, "0.2")
            x = tprelu(F.conv2d(x, unit(d, "1.0"), None, 2, 1), d, "1.1")
            return F.conv2d(x, d["2.weight"], d["2.bias"]).flatten()

        optimizers = [torch.optim.RMSprop(leaves(p), lr=1e-3, alpha=0.9, eps=1e-6) for p in (d, g)]

        def step(real):
            fake = generate(torch.randn(N, 5, dtype=torch.float64))
            optimizers[0].zero_grad()
            x, y = logits(real), logits(fake.detach())
            if loss == "non_saturating":
                (F.softplus(-x).mean() + F.softplus(y).mean()).backward()
            else:
                (((x - 1) ** 2).mean() / 2 + (y**2).mean() / 2).backward()
            optimizers[0].step()
            optimizers[1].zero_grad()
            y = logits(fake)
            (F.softplus(-y).mean() if loss == "non_saturating" else ((y - 1) ** 2).mean() / 2).backward()
            optimizers[1].step()

        return step

    same_after_three_steps(small(loss=loss, learning_rate=1e-3), plain)


class TestReconstruct:
    @pytest.fixture
    def system(self):
        system = small().double()
        with torch.no_grad():
            system.generator[-2].weight.mul_(50)  # so that latents matter
        return system

    def test_against_a_plain_loop(self, system):
        real = images(system, 0, 3)
        z = torch.zeros(3, 5, dtype=torch.float64, requires_grad=True)
        square = torch.zeros_like(z)
        for _ in range(4):
            (gradient,) = torch.autograd.grad(((system.generate(z) - real) ** 2).mean((1, 2, 3)).sum(), z)
            square = 0.9 * square + 0.1 * gradient**2
            z = (z - 0.02 * gradient / (square.sqrt() + 1e-6)).detach().requires_grad_()
        found = system.reconstruct(real, steps=4, learning_rate=0.02)
        assert (found.latent - z).abs().max() < 1e-12
        assert (found.images - system.generate(z)).abs().max() < 1e-12
        assert (found.error - ((system.generate(z) - real) ** 2).mean((1, 2, 3))).abs().max() < 1e-12

    def test_finds_what_the_generator_can_make(self, system):
        real = system.sample(6)
        near, far = system.reconstruct(real, steps=200, learning_rate=0.05), system.reconstruct(real, steps=1)
        assert near.error.max() < 0.2 * far.error.mean()

    def test_an_image_does_not_depend_on_the_others(self, system):
        real = images(system, 0, 3)
        assert (system.reconstruct(real, 3).latent[:1] - system.reconstruct(real[:1], 3).latent).abs().max() < 1e-9

    def test_changes_nothing(self, system):
        system.train()
        before = {name: value.clone() for name, value in system.state_dict().items()}
        with torch.no_grad():
            found = system.reconstruct(images(system, 0, 2), 2)
        assert not found.images.requires_grad
        assert system.training
        assert all(torch.equal(value, before[name]) for name, value in system.state_dict().items())
        assert all(parameter.grad is None for parameter in system.parameters())

    def test_says_what_is_wrong(self, system):
        with pytest.raises(ValueError, match=r"images must have shape \(N, 1, 16, 16\), not \(2, 3, 16, 16\)"):
            system.reconstruct(torch.zeros(2, 3, 16, 16))
        with pytest.raises(ValueError, match="steps must be at least 1, not 0"):
            system.reconstruct(torch.zeros(1, 1, 16, 16), 0)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("resolution", 48, "one of 16, 32, 64, 128, 256, not 48"),
        ("loss", "hinge", "loss must be one of non_saturating, least_squares, not 'hinge'"),
        ("betas", (0.0, 0.9), "no option 'betas': RMSprop"),
        ("latent", 0, "latent must be at least 1, not 0"),
    ],
)
def test_says_what_is_wrong(option, value, message):
    with pytest.raises(ValueError, match=message):
        create("wngan", **{option: value})
