"""DCGAN: Radford, Metz, Chintala, "Unsupervised Representation Learning with Deep Convolutional Generative
Adversarial Networks", 2016."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from torch import Tensor, nn

from fastgan.nn import ConvNormAct2d, ConvTransposeNormAct2d, init
from fastgan.systems.adversarial import AdversarialConfig, AdversarialSystem, power_of_two, with_dropout

UPSAMPLING = ("transposed", "resize")


@dataclass(frozen=True)
class DCGANConfig(AdversarialConfig):
    """Defaults of pytorch/examples dcgan/main.py. (The paper's own code has 5x5 kernels and width 128.)"""

    resolution: int = 64  # pixels a side, a power of two from 16 to 256
    width: int = 64  # channels of the largest maps; they double at each halving of the map, down to 4x4
    slope: float = 0.2  # of the discriminator's leaky ReLU
    # transposed convolutions; or resize: to twice the size, then 3x3 convolutions, against checkerboards (Odena 2016)
    upsampling: str = "transposed"

    def __post_init__(self) -> None:
        super().__post_init__()
        power_of_two(self)
        if not 0 <= self.slope < math.inf:
            raise ValueError(f"slope must be a number of at least 0, not {self.slope}")
        if self.upsampling not in UPSAMPLING:
            raise ValueError(f"upsampling must be one of {', '.join(UPSAMPLING)}, not {self.upsampling!r}")


class DCGAN(AdversarialSystem):
    """Strided and transposed convolutions, no pooling, any power-of-two size; non-saturating loss (Radford 2016)."""

    name: ClassVar[str] = "dcgan"
    Config: ClassVar[type] = DCGANConfig

    def __init__(self, config: DCGANConfig) -> None:
        super().__init__(config)
        self.generator = generator(config)
        self.discriminator = discriminator(config)
        init.dcgan(self)

    def generate(self, latent: Tensor, labels: Tensor | None = None) -> Tensor:
        self.check(latent, labels)
        return self.generator(latent[:, :, None, None])


def generator(config: DCGANConfig) -> nn.Sequential:
    """(N, latent, 1, 1) -> (N, channels, resolution, resolution) in [-1, 1]"""
    widths = [config.width * config.resolution // 8 >> level for level in range(int(math.log2(config.resolution)) - 2)]
    layers: list[nn.Module] = [ConvTransposeNormAct2d(config.latent, widths[0], 4, 1, 0, act="relu")]
    if config.upsampling == "resize":
        for wide, narrow in pairwise(widths):
            layers += [nn.Upsample(scale_factor=2), nn.Conv2d(wide, narrow, 3, padding=1, bias=False)]
            layers += [nn.BatchNorm2d(narrow), nn.ReLU(True)]
        last = nn.Conv2d(widths[-1], config.channels, 3, padding=1, bias=False)
        return nn.Sequential(*layers, nn.Upsample(scale_factor=2), last, nn.Tanh())
    for wide, narrow in pairwise(widths):
        layers.append(ConvTransposeNormAct2d(wide, narrow, 4, 2, 1, act="relu"))
    layers.append(ConvTransposeNormAct2d(widths[-1], config.channels, 4, 2, 1, norm=None, act="tanh"))
    return nn.Sequential(*layers)


def discriminator(config: DCGANConfig) -> nn.Sequential:
    """(N, channels, resolution, resolution) -> (N, 1, 1, 1) logits"""
    act, slope, width = "leaky_relu", config.slope, config.discriminator_width or config.width
    widths = [width << level for level in range(int(math.log2(config.resolution)) - 2)]
    layers: list[nn.Module] = [ConvNormAct2d(config.channels, widths[0], 4, 2, 1, norm=None, act=act, slope=slope)]
    for narrow, wide in pairwise(widths):
        layers.append(ConvNormAct2d(narrow, wide, 4, 2, 1, act=act, slope=slope))
    layers.append(nn.Conv2d(widths[-1], 1, 4, 1, 0, bias=False))
    return with_dropout(nn.Sequential(*layers), config.dropout)
