"""WGAN-GP: Gulrajani et al., "Improved Training of Wasserstein GANs", 2017."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from torch import Tensor, nn

from fastgan.losses import Wasserstein, gradient_penalty
from fastgan.nn import init
from fastgan.systems import perceptron
from fastgan.systems.adversarial import AdversarialConfig, AdversarialSystem, at_least, with_dropout
from fastgan.systems.base import Part
from fastgan.systems.residual import DownBlock, FirstBlock, generator

RESOLUTIONS = (1, 32, 64)


@dataclass(frozen=True)
class WGANGPConfig(AdversarialConfig):
    """Defaults of the authors' code for 64x64. (For 32x32 it has learning_rate 2e-4, decay linear over 100,000 steps
    and generator_batches 2.)"""

    resolution: int = 64  # pixels a side: 64, 32, or 1 for points of `channels` numbers
    latent: int = 128
    width: int = 64  # channels of the largest maps at 64; half of all maps' at 32; of the first layer for points
    learning_rate: float = 1e-4
    betas: tuple[float, float] = (0.0, 0.9)
    discriminator_steps: int = 5
    penalty: float = 10.0  # weight of (|grad D(x)| - 1)^2

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(RESOLUTIONS, self.resolution)
        at_least(0, self, "penalty")


def one_of(resolutions: tuple[int, ...], given: int) -> None:
    if given not in resolutions:
        raise ValueError(f"resolution must be one of {', '.join(map(str, resolutions))}, not {given}")


class WGANGP(AdversarialSystem):
    """Residual networks; a critic whose gradients are pulled to norm 1 between real and generated (Gulrajani 2017)."""

    name: ClassVar[str] = "wgan-gp"
    Config: ClassVar[type] = WGANGPConfig
    Loss = Wasserstein

    def __init__(self, config: WGANGPConfig) -> None:
        super().__init__(config)
        if config.resolution == 1:
            self.generator, self.discriminator = perceptron.generator(config), perceptron.discriminator(config)
            return
        self.generator = generator(config.latent, widths(config.resolution, config.width), config.channels)
        self.discriminator = critic(config)

    def penalties(self, real: Tensor, fake: Tensor) -> Iterator[Part]:
        yield gradient_penalty(self.logits, real, fake, self.config.penalty), {}
        yield from super().penalties(real, fake)


def widths(resolution: int, width: int) -> list[int]:
    """Channels of the maps of 4x4, 8x8, ... pixels."""
    return [8 * width, 8 * width, 4 * width, 2 * width, width] if resolution == 64 else [2 * width] * 4


def critic(config: WGANGPConfig) -> nn.Sequential:
    """(N, channels, resolution, resolution) -> (N, 1): layer normalisation at 64x64, none at 32x32"""
    sizes = widths(config.resolution, config.discriminator_width or config.width)[::-1]
    blocks: list[nn.Module]
    if config.resolution == 64:
        blocks = [init.xavier(nn.Conv2d(config.channels, sizes[0], 3, padding=1))]
        blocks += [DownBlock(before, after, layer_norm=True) for before, after in pairwise(sizes)]
        last = nn.Sequential(nn.Flatten(), init.xavier(nn.Linear(sizes[-1] * 16, 1)))
    else:
        blocks = [FirstBlock(config.channels, sizes[0]), DownBlock(sizes[0], sizes[0])]
        blocks += [DownBlock(sizes[0], sizes[0], halve=False) for _ in range(2)]
        linear = init.xavier(nn.Linear(sizes[0], 1))
        last = nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear)
    return with_dropout(nn.Sequential(*blocks, last), config.dropout)
