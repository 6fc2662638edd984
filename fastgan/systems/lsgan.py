"""LSGAN: Mao et al., "Least Squares Generative Adversarial Networks", 2017."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from fastgan.data.fields import Field
from fastgan.losses import LeastSquares
from fastgan.nn import init
from fastgan.options import option
from fastgan.systems.adversarial import AdversarialConfig, AdversarialSystem, with_dropout
from fastgan.systems.base import uniform
from fastgan.systems.quick import Preset, augmented


@dataclass(frozen=True)
class LSGANConfig(AdversarialConfig):
    """Defaults of the authors' code for LSUN. (It sums the squares over the batch, here their mean is taken, which
    Adam's steps do not feel.)"""

    resolution: int = option(112, "pixels a side, a multiple of 16", multiple=16)
    latent: int = 1024
    learning_rate: float = 1e-3


class LSGAN(AdversarialSystem):
    """Samples are pulled to the side of the decision that they are on already: least squares loss (Mao 2017)."""

    name: ClassVar[str] = "lsgan"
    Config: ClassVar[type] = LSGANConfig
    Loss = LeastSquares

    @classmethod
    def quick(cls, fields: Mapping[str, Field], rows: int | None, steps: int | None) -> Preset:
        options = {"width": 16, "latent": 100, "learning_rate": 2e-4, "r1": 1.0, **augmented(fields, rows)}
        return Preset(options, {"batch_size": 32})

    def __init__(self, config: LSGANConfig) -> None:
        super().__init__(config)
        self.generator = generator(config)
        self.discriminator = discriminator(config)
        init.dcgan(self)

    def latent(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        return uniform((count, self.config.latent), self, generator)


def generator(config: LSGANConfig) -> nn.Sequential:
    """(N, latent) -> (N, channels, resolution, resolution) in [-1, 1]"""
    width, side = config.width * 4, config.resolution // 16
    layers: list[nn.Module] = [
        nn.Linear(config.latent, width * side**2),
        nn.BatchNorm1d(width * side**2),
        nn.ReLU(True),
        nn.Unflatten(1, (width, side, side)),
    ]
    strides = ((width, 2), (width, 1), (width, 2), (width, 1), (width // 2, 2), (width // 4, 2))
    for after, stride in strides:
        layers += [transposed(width, after, stride), nn.BatchNorm2d(after), nn.ReLU(True)]
        width = after
    return nn.Sequential(*layers, transposed(width, config.channels, 1), nn.Tanh())


def transposed(before: int, after: int, stride: int) -> nn.ConvTranspose2d:
    """3x3, to `stride` times the size."""
    return nn.ConvTranspose2d(before, after, 3, stride, 1, output_padding=stride - 1)


def discriminator(config: LSGANConfig) -> nn.Sequential:
    """(N, channels, resolution, resolution) -> (N, 1), without a sigmoid"""
    width, before = config.discriminator_width or config.width, config.channels
    blocks: list[nn.Module] = []
    for level in range(4):
        after = width << level
        norm = [nn.BatchNorm2d(after)] if level else []
        blocks.append(nn.Sequential(nn.Conv2d(before, after, 5, 2, 2), *norm, nn.LeakyReLU(0.2, True)))
        before = after
    blocks.append(nn.Sequential(nn.Flatten(), nn.Linear(before * (config.resolution // 16) ** 2, 1)))
    return with_dropout(nn.Sequential(*blocks), config.dropout)
