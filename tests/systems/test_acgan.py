"""acgan against the layers and the losses of its paper."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import fastgan
from fastgan.systems import create
from tests.systems.plain_loop import N, batch_norm, leaves, linear, same_after_three_steps

SMALL = {"resolution": 16, "channels": 1, "width": 4, "discriminator_width": 2, "latent": 6, "classes": 3}
LABELS = torch.tensor([0, 2, 1, 2])


def small(**options):
    torch.manual_seed(0)
    return create("acgan", **{**SMALL, **options})


def parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


class TestArchitecture:
    def test_32(self):
        system = create("acgan")
        deconvolutions = [m for m in system.generator.modules() if isinstance(m, nn.ConvTranspose2d)]
        assert [(m.in_channels, m.out_channels, m.kernel_size[0], m.stride[0]) for m in deconvolutions] == [
            (384, 192, 5, 2), (192, 96, 5, 2), (96, 3, 5, 2)
        ]  # fmt: skip
        deconvolved = 384 * 192 * 25 + 2 * 192 + 192 * 96 * 25 + 2 * 96 + 96 * 3 * 25 + 3
        assert parameters(system.generator) == 110 * 6144 + 6144 + deconvolved
        convolutions = [m for m in system.discriminator.modules() if isinstance(m, nn.Conv2d)]
        assert [(m.out_channels, m.stride[0]) for m in convolutions] == [
            (16, 2), (32, 1), (64, 2), (128, 1), (256, 2), (512, 1)
        ]  # fmt: skip
        assert [m.p for m in system.discriminator.modules() if isinstance(m, nn.Dropout)] == [0.5] * 6
        widths = [3, 16, 32, 64, 128, 256, 512]
        convolved = sum(9 * a * b for a, b in pairwise(widths)) + 16 + 2 * sum(widths[2:])
        assert parameters(system.discriminator) == convolved + 512 * 16 * 11 + 11

    @pytest.mark.parametrize(("resolution", "channels"), [(16, 3), (32, 1), (64, 3)])
    def test_sizes(self, resolution, channels):
        samples = small(resolution=resolution, channels=channels).sample(4)
        assert samples.shape == (4, channels, resolution, resolution)
        assert samples.abs().max() <= 1

    def test_every_site_is_fused(self):
        report = fastgan.explain(small())
        assert report.fused == report.places
        assert sum(row.pattern == "ConvTranspose2d -> BatchNorm2d -> ReLU" for row in report) == 1
        assert sum(row.pattern == "Conv2d -> BatchNorm2d -> LeakyReLU" for row in report) == 5


class TestLabels:
    def test_every_class_in_turn(self):
        system = small()
        latent = system.latent(7)
        expected = system.sample(7, latent=latent, labels=torch.tensor([0, 1, 2, 0, 1, 2, 0]))
        assert torch.equal(system.sample(7, latent=latent), expected)

    def test_a_class_changes_the_image(self):
        system = small()
        latent = system.latent(1)
        images = [system.sample(1, latent=latent, labels=torch.tensor([label])) for label in range(3)]
        assert not torch.equal(images[0], images[1])
        assert not torch.equal(images[1], images[2])

    @pytest.mark.parametrize(
        ("labels", "message"),
        [
            (torch.tensor([0, 3]), r"labels must lie in 0\.\.2, not 0\.\.3"),
            (torch.tensor([-1, 0]), r"labels must lie in 0\.\.2, not -1\.\.0"),
            (torch.tensor([0]), r"labels must be int64 of shape \(2,\), not torch.int64 \(1,\)"),
            (torch.tensor([0.0, 1.0]), "labels must be int64"),
        ],
    )
    def test_says_what_is_wrong(self, labels, message):
        with pytest.raises(ValueError, match=message):
            small().sample(2, labels=labels)

    def test_generate_needs_them(self):
        with pytest.raises(ValueError, match=r"acgan is conditional: labels must be int64 .*, not none"):
            small().generate(torch.zeros(2, 6))

    @pytest.mark.slow
    def test_training_needs_them(self):
        with pytest.raises(ValueError, match="acgan needs data with labels"):
            same_after_three_steps(small(), lambda g, d: None)

    def test_fakes_are_of_all_classes(self):
        labels = small().fake_labels(3000)
        assert torch.bincount(labels, minlength=3).min() > 900


@pytest.mark.parametrize("steps", [1, 2])
def test_three_steps(steps):
    def plain(g, d):
        def generate(z, labels):
            x = F.relu(linear(torch.cat([z, torch.eye(3, dtype=torch.float64)[labels]], 1), g, "0")).reshape(
                -1, 8, 4, 4
            )
            x = F.relu(batch_norm(F.conv_transpose2d(x, g["3.weight"], None, 2, 2, 1), g, "4"))
            return torch.tanh(F.conv_transpose2d(x, g["6.weight"], g["6.bias"], 2, 2, 1))

        def discriminate(x):
            for level, (layer, stride) in enumerate(((0, 2), (3, 1), (7, 2), (11, 1), (15, 2), (19, 1))):
                x = F.conv2d(x, d[f"features.{layer}.weight"], d.get(f"features.{layer}.bias"), stride, 1)
                x = batch_norm(x, d, f"features.{layer + 1}") if level else x
                x = F.dropout(F.leaky_relu(x, 0.2), 0.3)
            return linear(x.flatten(1), d, "source").flatten(), linear(x.flatten(1), d, "classes")

        optimizers = [torch.optim.Adam(leaves(p), lr=1e-3, betas=(0.5, 0.999)) for p in (d, g)]

        def step(real):
            fake_labels = torch.randint(3, (N,))
            fake = first = generate(torch.randn(N, 6, dtype=torch.float64), fake_labels)
            first_labels = fake_labels
            for part in range(steps):
                if part:
                    fake_labels = torch.randint(3, (N,))
                    fake = generate(torch.randn(N, 6, dtype=torch.float64), fake_labels)
                source, classes = discriminate(real[part * N : part * N + N])
                fake_source, fake_classes = discriminate(fake.detach())
                loss_s = F.softplus(-source).mean() + F.softplus(fake_source).mean()
                labels = LABELS.repeat(steps)[part * N : part * N + N]
                loss_c = F.cross_entropy(classes, labels) + F.cross_entropy(fake_classes, fake_labels)
                optimizers[0].zero_grad()
                (loss_s + 0.7 * loss_c).backward()
                optimizers[0].step()
            source, classes = discriminate(first)
            optimizers[1].zero_grad()
            (F.softplus(-source).mean() + 0.7 * F.cross_entropy(classes, first_labels)).backward()
            optimizers[1].step()

        return step

    system = small(dropout=0.3, class_weight=0.7, learning_rate=1e-3, discriminator_steps=steps)
    same_after_three_steps(system, plain, labels=LABELS.repeat(steps))


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("resolution", 48, "one of 16, 32, 64, 128, 256, not 48"),
        ("classes", 1, "classes must be at least 2, not 1"),
        ("class_weight", -1.0, "class_weight must be at least 0, not -1.0"),
        ("dropout", 1.0, r"dropout must be at least 0 and below 1, not 1.0"),
    ],
)
def test_says_what_is_wrong(option, value, message):
    with pytest.raises(ValueError, match=message):
        create("acgan", **{option: value})
