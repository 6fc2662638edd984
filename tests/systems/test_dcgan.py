"""DCGAN against the layers of pytorch/examples dcgan/main.py."""

import pytest
import torch
from torch import nn

from fastgan.systems import create


def shapes(network):
    """(kernel shape, stride, padding) of every convolution, in order."""
    return [
        (tuple(module.weight.shape), module.stride[0], module.padding[0])
        for module in network.modules()
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)
    ]


def parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


class TestArchitecture:
    def test_generator_64(self):
        generator = create("dcgan").generator
        assert shapes(generator) == [
            ((100, 512, 4, 4), 1, 0),
            ((512, 256, 4, 4), 2, 1),
            ((256, 128, 4, 4), 2, 1),
            ((128, 64, 4, 4), 2, 1),
            ((64, 3, 4, 4), 2, 1),
        ]
        assert parameters(generator) == 3_576_704

    def test_discriminator_64(self):
        discriminator = create("dcgan").discriminator
        assert shapes(discriminator) == [
            ((64, 3, 4, 4), 2, 1),
            ((128, 64, 4, 4), 2, 1),
            ((256, 128, 4, 4), 2, 1),
            ((512, 256, 4, 4), 2, 1),
            ((1, 512, 4, 4), 1, 0),
        ]
        assert parameters(discriminator) == 2_765_568

    @pytest.mark.parametrize("resolution", [16, 32, 64, 128, 256])
    @pytest.mark.parametrize("channels", [1, 3, 4])
    def test_every_size(self, resolution, channels):
        system = create("dcgan", resolution=resolution, channels=channels, width=2, latent=3)
        images = system.generate(system.latent(2))
        assert images.shape == (2, channels, resolution, resolution)
        assert system.logits(images).shape == (2,)
        # The ends are those of every size: latent to 4x4, 4x4 to a logit, `width` maps beside the image.
        widest = 2 * resolution // 8
        assert shapes(system.generator)[0] == ((3, widest, 4, 4), 1, 0)
        assert shapes(system.generator)[-1] == ((2, channels, 4, 4), 2, 1)
        assert shapes(system.discriminator)[0] == ((2, channels, 4, 4), 2, 1)
        assert shapes(system.discriminator)[-1] == ((1, widest, 4, 4), 1, 0)

    def test_discriminator_gives_logits(self):
        system = create("dcgan", resolution=16, width=8)
        with torch.no_grad():
            system.discriminator[-1].weight.mul_(1e4)
        assert system.logits(torch.randn(4, 3, 16, 16)).abs().max() > 1

    def test_initial_weights(self):
        torch.manual_seed(0)
        system = create("dcgan")
        for name, parameter in system.named_parameters():
            if parameter.dim() == 4:
                assert parameter.std().item() == pytest.approx(0.02, rel=0.05), name
                assert abs(parameter.mean().item()) < 1e-3, name
            elif name.endswith("weight"):
                assert parameter.mean().item() == pytest.approx(1, abs=0.02), name
                assert parameter.std().item() == pytest.approx(0.02, rel=0.4), name
            else:
                assert not parameter.any(), name


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("resolution", 48, "one of 16, 32, 64, 128, 256, not 48; the nearest are 32 and 64"),
        ("resolution", 8, "one of 16, 32, 64, 128, 256, not 8; the nearest are 16 and 32"),
        ("resolution", 512, "one of 16, 32, 64, 128, 256, not 512; the nearest are 128 and 256"),
        ("channels", 0, "channels must be at least 1, not 0"),
        ("width", -1, "width must be at least 1, not -1"),
        ("latent", 0, "latent must be at least 1, not 0"),
        ("learning_rate", 0.0, "learning_rate must be above 0, not 0.0"),
        ("learning_rate", float("nan"), "learning_rate must be a finite number, not nan"),
        ("slope", -0.1, "slope must be at least 0"),
        ("betas", (0.5, 1.0), r"betas must each be at least 0 and below 1"),
    ],
)
def test_says_what_is_wrong(option, value, message):
    with pytest.raises(ValueError, match=message):
        create("dcgan", **{option: value})
