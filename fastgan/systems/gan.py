"""The first GAN: Goodfellow et al., "Generative Adversarial Nets", 2014."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

from torch import nn

from fastgan.data.fields import Field
from fastgan.losses import Adversarial, Hinge, LeastSquares, Minimax, NonSaturating, Relativistic, Wasserstein
from fastgan.options import option, options
from fastgan.options.groups import LabelNoise
from fastgan.systems.adversarial import AdversarialConfig, AdversarialSystem, with_dropout
from fastgan.systems.quick import Preset, for_points, of_points

LOSSES: dict[str, Any] = {
    loss.kind: loss for loss in (NonSaturating, Minimax, LeastSquares, Hinge, Wasserstein, Relativistic)
}


@dataclass(frozen=True)
class GANConfig(AdversarialConfig):
    """Layers and Adam as in today's tutorials. (The paper trains maxout discriminators by stochastic gradient descent
    with momentum.)"""

    resolution: int = option(32, "pixels a side; 1 for points of `channels` numbers")
    channels: int = 1
    width: int = option(128, "of the generator's first layer; it doubles in each of the four")
    loss: str = option(
        "non_saturating",
        "minimax: the paper's equation 1, whose gradient vanishes where the discriminator wins; wasserstein needs a "
        "smooth critic: r1, or the systems wgan and wgan-gp",
        choices=tuple(LOSSES),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if LOSSES[self.loss].compares:
            for each in options(LabelNoise):
                if value := getattr(self, each.name):
                    raise ValueError(f"the {self.loss} loss has no labels: {each.name} must be 0, not {value}")
            if self.generator_batches > self.discriminator_steps:
                raise ValueError(
                    f"the {self.loss} loss compares each generated image with a real one: generator_batches must be "
                    f"at most discriminator_steps, {self.discriminator_steps}, not {self.generator_batches}"
                )


class GAN(AdversarialSystem):
    """Two multilayer perceptrons; minimax or non-saturating loss (Goodfellow 2014)."""

    name: ClassVar[str] = "gan"
    Config: ClassVar[type] = GANConfig

    @classmethod
    def quick(cls, fields: Mapping[str, Field], rows: int | None, steps: int | None) -> Preset:
        if not of_points(fields):
            return Preset({}, {})
        return for_points(steps, width=32, discriminator_width=64, discriminator_steps=3)

    def __init__(self, config: GANConfig) -> None:
        super().__init__(config)
        self.generator = generator(config)
        self.discriminator = discriminator(config)

    def objective(self) -> Adversarial:
        return LOSSES[self.config.loss](**self.label_noise())


def generator(config: GANConfig) -> nn.Sequential:
    """(N, latent) -> (N, channels, resolution, resolution), or (N, channels) of resolution 1, in [-1, 1]"""
    shape = (config.channels, config.resolution, config.resolution)
    widths = [config.width << level for level in range(4)]
    layers: list[nn.Module] = [nn.Linear(config.latent, widths[0]), nn.LeakyReLU(0.2, True)]
    for narrow, wide in pairwise(widths):
        layers += [nn.Linear(narrow, wide), nn.BatchNorm1d(wide), nn.LeakyReLU(0.2, True)]
    layers += [nn.Linear(widths[-1], math.prod(shape)), nn.Tanh()]
    return nn.Sequential(*layers, *([nn.Unflatten(1, shape)] if config.resolution > 1 else []))


def discriminator(config: GANConfig) -> nn.Sequential:
    """(N, channels, resolution, resolution), or (N, channels) of resolution 1 -> (N, 1) logits"""
    width = 4 * (config.discriminator_width or config.width)
    blocks = [
        nn.Sequential(nn.Flatten(), nn.Linear(config.channels * config.resolution**2, width), nn.LeakyReLU(0.2, True)),
        nn.Sequential(nn.Linear(width, width // 2), nn.LeakyReLU(0.2, True)),
        nn.Linear(width // 2, 1),
    ]
    return with_dropout(nn.Sequential(*blocks), config.dropout)
